//! A lane's settings, checked: a running lane never meets a bad number.

use std::time::Duration;

use crate::domain::LaneName;
use crate::intake::Rules;
use crate::resilience::{BadSetting, BreakerPolicy, LimitPolicy, RetryPolicy};
use crate::store::TrackLimits;

/// Bounds of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Events held at once, 1 to 4096.
    pub slots: u16,
    /// Events waiting outside a slot (delayed hand-backs), which count against `max_ack_pending`.
    pub parked: u16,
    /// Payload bytes held at once.
    pub payload_bytes: u32,
    /// How long a shutdown waits for what is in hand.
    pub grace: Duration,
    /// How long one pull request stays open at the server, 1 to 5 s.
    pub expires: Duration,
}

impl Limits {
    /// The largest message the stream takes: a lane that may not hold one would never move.
    pub const LARGEST_EVENT: u32 = 80 * 1024;
    /// What a shutdown needs beyond the last pull and the last call: the outcome event and the acknowledgement.
    pub const GRACE_MARGIN: Duration = Duration::from_secs(5);

    /// Every bound that breaks its rule, for a route whose calls end after `rail_deadline` (zero for the book).
    #[must_use]
    pub fn check(&self, rail_deadline: Duration) -> Vec<BadSetting> {
        let needed = self.expires.saturating_add(rail_deadline).saturating_add(Self::GRACE_MARGIN);
        let rules = [
            ((1..=4_096).contains(&self.slots), "slots", "must be 1 to 4096"),
            (self.parked >= 1, "parked", "must be at least 1"),
            (self.payload_bytes >= Self::LARGEST_EVENT, "payload_bytes", "must hold one event of 80KiB"),
            ((Duration::from_secs(1)..=Duration::from_secs(5)).contains(&self.expires), "expires", "must be 1s to 5s"),
            (self.grace >= needed, "grace", "must be at least expires, the rail's deadline (0s for the book) and 5s"),
        ];
        rules.into_iter().filter(|(holds, _, _)| !holds).map(|(_, field, rule)| BadSetting { field, rule }).collect()
    }
}

/// What becomes of an event whose rail takes long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum InProgress {
    /// It stays un-acknowledged, within the parked budget: nothing but the store and the broker is needed to finish it,
    /// and few may wait at once, no longer than the stream keeps them.
    #[default]
    Hold,
    /// The tracker takes the payment on and the event is acknowledged: thousands may wait for days. The message, with
    /// names and accounts, is then kept in the store until the outcome is told, and the store alone remembers it.
    Track(TrackPolicy),
}

/// When payments are tracked, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackPolicy {
    /// How old a doubt is tracked although its rail has not said that the payment is in progress.
    pub after: Duration,
    /// The bound. Reached, it shuts the lane's gate.
    pub limits: TrackLimits,
}

/// One durable consumer, one route, one breaker.
#[derive(Debug, Clone)]
pub struct Lane {
    /// The lane's name.
    pub name: LaneName,
    /// The durable consumer it pulls from.
    pub consumer: String,
    /// How its events are judged.
    pub rules: Rules,
    /// Its bounds.
    pub limits: Limits,
    /// When and how often it tries again.
    pub retry: RetryPolicy,
    /// When its gate shuts.
    pub breaker: BreakerPolicy,
    /// How the calls under way to its rail follow what the rail bears; without it they may fill the slots. Nothing to
    /// a lane that settles in the book.
    pub limit: Option<LimitPolicy>,
    /// What becomes of an event whose rail takes long.
    pub in_progress: InProgress,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_has_time_for_the_last_pull_and_the_last_call() {
        let secs = Duration::from_secs;
        let limits = Limits { slots: 1, parked: 1, payload_bytes: 80 << 10, grace: secs(9), expires: secs(2) };
        assert!(limits.check(secs(2)).is_empty());
        let fields: Vec<&str> = limits.check(secs(3)).iter().map(|bad| bad.field).collect();
        assert_eq!(fields, ["grace"]);
    }
}
