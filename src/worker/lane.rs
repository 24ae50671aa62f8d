//! A lane's settings, checked: a running lane never meets a bad number.

use std::time::Duration;

use crate::domain::LaneName;
use crate::intake::Rules;
use crate::resilience::{BreakerPolicy, RetryPolicy};

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
}
