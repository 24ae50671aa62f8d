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
    /// The check before settlement did not answer.
    Unchecked,
    /// The check wants a person.
    HeldByCheck,
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

fn scheduled(asked: u32) -> Duration {
    let next = usize::try_from(asked).ok().and_then(|n| INQUIRIES.get(n)).copied();
    next.unwrap_or(Duration::from_secs(60))
}

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
            // What the rail never read cannot be the event's fault, and a probe is made while the rail is known to be
            // down: with few events in a lane the same ones make all probes, and an outage would use them up. A probe's
            // event goes to the back, so that a hopeless one keeps no other from probing.
            let charged = !probe && matches!(not_sent, NotSent::SaidNotProcessed { .. });
            match policy.spent(tries.charged.saturating_add(u32::from(charged)), Duration::ZERO) {
                Some(Spent::Attempts | Spent::Age) => {
                    Disposition::Condemn(DeadReason::Exhausted { attempts: tries.charged.saturating_add(1) })
                }
                None => Disposition::Later { after: delay(RetryClass::NotSent).max(asked), charged },
            }
        }
        Unfinished::Doubt { inquiries } => Disposition::Inquire { after: scheduled(inquiries) },
        Unfinished::Elsewhere { left } => {
            Disposition::Later { after: left.max(delay(RetryClass::Elsewhere)), charged: false }
        }
        // The store's outage is nobody's fault: however long it lasts, it uses up no payment's budget.
        // Nor is the check's.
        Unfinished::StoreLost | Unfinished::Unchecked => {
            Disposition::Later { after: delay(RetryClass::StoreLost), charged: false }
        }
        // People take their time. Apart by chance, so that what was held together is not asked about together for ever.
        Unfinished::HeldByCheck => {
            let after = scheduled(tries.waits).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
            Disposition::Later { after, charged: false }
        }
        Unfinished::Interrupted => Disposition::Later { after: delay(RetryClass::Interrupted), charged: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resilience::{Backoff, RetryDelays};

    fn policy() -> RetryPolicy {
        let wait = Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).unwrap();
        let delays = RetryDelays { not_sent: wait, store_lost: wait, elsewhere: wait, interrupted: wait, doubt: wait };
        RetryPolicy::new(3, Duration::from_secs(3600), delays).unwrap()
    }

    /// What is done with an event that was charged twice, of three times allowed.
    fn done(not_sent: &NotSent, probe: bool) -> Disposition {
        let tries = Tries { charged: 2, waits: 50, ..Tries::default() };
        dispose(Unfinished::NotSent(not_sent), &tries, &policy(), probe, 0.5)
    }

    #[test]
    fn an_event_is_charged_only_where_a_rail_that_serves_read_it_and_did_not_take_it() {
        let refused = NotSent::SaidNotProcessed { retry_after: None };
        let unreached = [NotSent::Resolve, NotSent::Connect, NotSent::Tls, NotSent::Pool, NotSent::OurFault];
        let free = unreached.iter().flat_map(|it| [(it, false), (it, true)]).chain([(&refused, true)]);
        for (not_sent, probe) in free {
            let later = Disposition::Later { after: Duration::from_millis(500), charged: false };
            assert_eq!(done(not_sent, probe), later, "{not_sent:?}, probe {probe}");
        }
        assert_eq!(done(&refused, false), Disposition::Condemn(DeadReason::Exhausted { attempts: 3 }));
    }

    #[test]
    fn the_rail_is_asked_after_one_two_five_ten_and_thirty_seconds_and_then_every_minute() {
        let after = |inquiries| match dispose(Unfinished::Doubt { inquiries }, &Tries::default(), &policy(), false, 0.5)
        {
            Disposition::Inquire { after } => after.as_secs(),
            other @ (Disposition::Later { .. } | Disposition::Condemn(_)) => panic!("{other:?}"),
        };
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 1_000].map(after), [1, 2, 5, 10, 30, 60, 60, 60]);
    }

    #[test]
    fn nothing_but_its_own_attempts_costs_an_event_anything() {
        let tries = Tries { charged: 2, waits: 50, ..Tries::default() };
        let left = Duration::from_secs(7);
        let outside = [Unfinished::StoreLost, Unfinished::Unchecked, Unfinished::HeldByCheck, Unfinished::Interrupted];
        for unfinished in outside.into_iter().chain([Unfinished::Elsewhere { left }]) {
            for probe in [false, true] {
                let done = dispose(unfinished, &tries, &policy(), probe, 0.5);
                assert!(matches!(done, Disposition::Later { charged: false, .. }), "{unfinished:?}");
            }
        }
        let done = dispose(Unfinished::Doubt { inquiries: 90 }, &tries, &policy(), true, 0.5);
        assert_eq!(done, Disposition::Inquire { after: Duration::from_secs(60) }, "a doubt is asked about for ever");
    }
}
