//! Orders to the settlement breakers of running workers, over their operations HTTP. What both sides of it say is
//! here; how an order is carried there is the caller's.

use serde::{Deserialize, Serialize};

use crate::broker::{Broker, Wire};
use crate::operate::audit::{LaneAction, LaneEntry};
use crate::operate::{Mandate, Trouble};
use crate::resilience::Forced;
use crate::worker::Lane;

/// What a breaker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// No traffic.
    Open,
    /// Traffic, whatever the calls say.
    Close,
    /// Back to its own judgement.
    Auto,
}

/// The body of an order. Who and why keep the rules of [`Mandate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What the breaker is told.
    pub action: Wish,
    /// In whose name.
    pub who: String,
    /// For what reason.
    pub why: String,
    /// Sequence of its record in the audit stream, which was written before.
    pub record: u64,
}

/// What a worker answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The worker's name.
    pub worker: String,
    /// The lane.
    pub lane: String,
    /// Its settlement breaker before.
    pub was: String,
    /// The same now: `forced_open`, `forced_closed`, or a state of its own.
    pub is: String,
    /// How long that holds.
    pub note: String,
}

impl Wish {
    /// What the breaker is held to.
    #[must_use]
    pub fn forced(self) -> Option<Forced> {
        match self {
            Self::Open => Some(Forced::Open),
            Self::Close => Some(Forced::Closed),
            Self::Auto => None,
        }
    }

    /// How long that holds.
    #[must_use]
    pub fn note(self) -> &'static str {
        match self {
            Self::Open | Self::Close => {
                "held until `acquit breaker auto` or until the worker ends: a restart forgets it"
            }
            Self::Auto => "it judges for itself",
        }
    }

    fn recorded(self) -> LaneAction {
        match self {
            Self::Open => LaneAction::BreakerOpen,
            Self::Close => LaneAction::BreakerClose,
            Self::Auto => LaneAction::BreakerAuto,
        }
    }
}

/// Writes the record of an order to these workers; what may be sent to them comes back.
///
/// # Errors
/// [`Trouble`]: no order may be sent then.
pub async fn on_record<W: Wire>(
    broker: &Broker<W>,
    lane: &Lane,
    wish: Wish,
    workers: &[String],
    mandate: &Mandate,
) -> Result<Order, Trouble> {
    let mut entry = LaneEntry::new(broker, wish.recorded(), &lane.name, &lane.consumer, mandate);
    entry.workers = workers.to_vec();
    let record = entry.write(broker, &lane.name).await?;
    Ok(Order { action: wish, who: mandate.who().to_owned(), why: mandate.why().to_owned(), record })
}
