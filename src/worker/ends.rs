//! What an event may have become after a step, each with the event in the state that it is in then.

use tokio::task::JoinHandle;

use super::event::{Elsewhere, Event, Received};
use crate::broker::Wire;
use crate::domain::{Answer, Money};
use crate::intake::Judged;
use crate::store::{Condemned, Doubt, Intent, Recorded, Tracked};

/// What stands for an event after the store was asked.
pub(super) enum Opened<W> {
    Final(Event<Recorded, W>),
    Go(Event<Intent, W>),
    Doubt(Event<Doubt, W>),
    Condemned(Event<Condemned, W>),
    Elsewhere(Event<Elsewhere, W>),
    /// The tracker owns its payment.
    Tracked(Event<Tracked, W>),
}

/// Whether the tracker took the event's payment on.
pub(super) enum HandedOver<W> {
    Tracked(Event<Tracked, W>),
    Final(Event<Recorded, W>),
    /// The tracker has no room for so much.
    Full(Event<Doubt, W>, Money),
    /// The event keeps it.
    Kept(Event<Doubt, W>),
    Elsewhere(Event<Elsewhere, W>),
}

impl<W: Wire> Opened<W> {
    /// Its end, where it has one.
    pub(super) fn recorded(&self) -> Option<&Recorded> {
        match self {
            Self::Final(event) => Some(event.proof()),
            Self::Go(_) | Self::Doubt(_) | Self::Condemned(_) | Self::Elsewhere(_) | Self::Tracked(_) => None,
        }
    }

    /// As spans say it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Final(_) => "final",
            Self::Go(_) => "go",
            Self::Doubt(_) => "doubt",
            Self::Condemned(_) => "condemned",
            Self::Elsewhere(_) => "elsewhere",
            Self::Tracked(_) => "tracked",
        }
    }
}

/// What stands for an event before anything may be begun.
pub(super) enum Peeked<W> {
    Stands(Opened<W>),
    Nothing(Event<Judged, W>),
}

/// Whether an attempt went to its rail.
pub(super) enum Submitted<W> {
    /// It may have reached it.
    Sent(Event<Doubt, W>, JoinHandle<Answer>),
    /// Its deadline had passed: nothing was sent.
    TooLate(Event<Doubt, W>),
}

/// What stands after a rail's answer was stored.
pub(super) enum Settled<W> {
    Final(Event<Recorded, W>),
    Released(Event<Received, W>),
    Doubt(Event<Doubt, W>),
    /// It waits for a person; inquiries go on.
    ForPerson(Event<Doubt, W>),
    Elsewhere(Event<Elsewhere, W>),
}
