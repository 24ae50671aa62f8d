//! The table for what is not final. It cannot acknowledge: the final states have one way out, fixed by type.

use std::time::Duration;

use super::tries::Tries;
use crate::domain::{DeadReason, NotSent};
use crate::resilience::{RetryClass, RetryPolicy, Spent};

/// A state that is not an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished<'a> {
    /// Proof that the rail did not process it.
    NotSent(&'a NotSent),
    /// The rail may have it.
    Doubt {
        /// Inquiries made so far.
        inquiries: u32,
    },
    /// Another worker has it until then.
    Elsewhere {
        /// What is left of its claim.
        left: Duration,
    },
    /// The store did not answer.
    StoreLost,
    /// The gate did not open in time, or the worker stops.
    Interrupted,
}

/// What is done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Disposition {
    /// Tried again after a delay; `charged` where it counts against the event's budget.
    Later {
        /// The delay.
        after: Duration,
        /// Whether it counts.
        charged: bool,
    },
    /// The rail is asked what became of it.
    Inquire {
        /// The delay.
        after: Duration,
    },
    /// It leaves as a dead letter: no attempt reached a rail and its budget is used up.
    Condemn(DeadReason),
}

/// Inquiries come after 1, 2, 5, 10 and 30 seconds, then every minute.
const INQUIRIES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// Decides. Pure: `probe` says whether the failed call was a probe, `chance` is the jitter.
pub(super) fn dispose(
    unfinished: Unfinished<'_>,
    tries: &Tries,
    policy: &RetryPolicy,
    probe: bool,
    chance: f64,
) -> Disposition {
    let delay = |class| policy.delay(class, tries.waits, chance);
    match unfinished {
        Unfinished::NotSent(not_sent) => {
            let asked = match not_sent {
                NotSent::SaidNotProcessed { retry_after } => retry_after.unwrap_or_default(),
                NotSent::Resolve | NotSent::Connect | NotSent::Tls | NotSent::Pool | NotSent::OurFault => {
                    Duration::ZERO
                }
            };
            // While the rail is known to be down an attempt says nothing about its event; a failed probe does.
            // Our own configuration is nobody's fault but ours, however long it stays so.
            let charged = match not_sent {
                NotSent::SaidNotProcessed { .. } => true,
                NotSent::OurFault => false,
                NotSent::Resolve | NotSent::Connect | NotSent::Tls | NotSent::Pool => probe,
            };
            match policy.spent(tries.charged.saturating_add(u32::from(charged)), Duration::ZERO) {
                Some(Spent::Attempts | Spent::Age) => {
                    Disposition::Condemn(DeadReason::Exhausted { attempts: tries.charged.saturating_add(1) })
                }
                None => Disposition::Later { after: delay(RetryClass::NotSent).max(asked), charged },
            }
        }
        Unfinished::Doubt { inquiries } => {
            let next = usize::try_from(inquiries).ok().and_then(|n| INQUIRIES.get(n)).copied();
            Disposition::Inquire { after: next.unwrap_or(Duration::from_secs(60)) }
        }
        Unfinished::Elsewhere { left } => {
            Disposition::Later { after: left.max(delay(RetryClass::Elsewhere)), charged: false }
        }
        // The store's outage is nobody's fault: however long it lasts, it uses up no payment's budget.
        Unfinished::StoreLost => Disposition::Later { after: delay(RetryClass::StoreLost), charged: false },
        Unfinished::Interrupted => Disposition::Later { after: delay(RetryClass::Interrupted), charged: false },
    }
}
