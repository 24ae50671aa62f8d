//! The tracker: payments that go on without their events, because their rails take long.
//!
//! An event whose payment is in doubt holds a place at the broker for as long as the doubt lasts. In its stead a row of
//! the tracker may own the payment: it keeps the message as it came, so that whatever can become of a delivered event
//! (an inquiry, a second sending under the same key, a new attempt, a refusal of ours) can become of a tracked one. A
//! sweep reads the message, judges it again and asks the store what stands, exactly as a redelivery would. That is why
//! the message is kept and no order: the rules that judge it are those of the day, and one way is proved, not two.
//!
//! # Where a crash leaves it
//! | after | what stands | who goes on |
//! | --- | --- | --- |
//! | the rail's answer, before the row | an attempt in doubt, event un-acknowledged | the event, delivered again |
//! | the row, before `payments.held` has its PubAck | the row, event un-acknowledged | both: the event finds its row, tells and is acknowledged; sweeps inquire |
//! | the PubAck, before the ack | the same | the same; the message id drops the repeat |
//! | the ack | the row | sweeps alone, of any worker |
//! | a sweep's claim, before its inquiry | the row, due again at the next step; the claim | its holder; any worker after the claim |
//! | a sweep's second sending, before its answer | an attempt in doubt, as for an event | the next sweep inquires |
//! | the payment's end, before its outcome event | the end and the row, due at once | the next sweep announces |
//! | the outcome's PubAck, before the row goes | the same | the next sweep announces again: at least once, one message id |
//! | the row is gone | the end alone | nobody: it is told |
//!
//! A row goes only when the payment has its end and its outcome event is confirmed; so an outcome without a recorded
//! PubAck is a row whose payment is final. A payment without a row is its event's, which is un-acknowledged and comes
//! back: only what the tracker owns is swept. Another event of a tracked payment waits for the end, and is then a
//! duplicate; it never makes an attempt.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::Origin;
use crate::domain::{LaneName, Money};

/// Inquiries come after 1, 2, 5, 10 and 30 seconds, then every minute.
const STEPS: [i64; 5] = [1, 2, 5, 10, 30];

/// When the next inquiry is due after `inquiries` of them.
pub(super) fn due_after(now: Timestamp, inquiries: u32) -> Timestamp {
    let seconds = usize::try_from(inquiries).ok().and_then(|n| STEPS.get(n)).copied().unwrap_or(60);
    now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// A payment's place in the tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tracking {
    /// Since when, by the database's clock.
    pub since: Timestamp,
    /// When a sweep may take it next.
    pub due: Timestamp,
    /// Sweeps so far; begun anew at the payment's end.
    pub sweeps: u32,
}

/// An event's message as it came, without what the broker alone reads.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Names and values; `traceparent` is that of what the event leads to.
    pub headers: Vec<(String, String)>,
    /// Byte for byte.
    pub body: Bytes,
}

impl Message {
    /// The first header of this exact name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes)", self.body.len())
    }
}

/// One row of the tracker.
#[derive(Debug, Clone)]
pub struct TrackerRow {
    /// The payment's row number.
    pub payment: i64,
    /// The lane whose rules judge it and whose bound it counts against.
    pub lane: LaneName,
    /// What is to move.
    pub amount: Money,
    /// When it is swept.
    pub tracking: Tracking,
    /// What is judged.
    pub message: Message,
}

/// A change of the tracker.
#[derive(Debug, Clone)]
pub enum TrackerChange {
    /// A payment is tracked from now on.
    New(TrackerRow),
    /// Its next sweep.
    Due {
        /// The payment's row number.
        payment: i64,
        /// When, and which it is.
        tracking: Tracking,
    },
    /// Its outcome is told.
    Gone {
        /// The payment's row number.
        payment: i64,
    },
}

/// What a lane's tracker holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackerTotals {
    /// Payments.
    pub count: u64,
    /// Their money in minor units, by currency.
    pub minor: BTreeMap<&'static str, i64>,
    /// Since when the oldest is tracked.
    pub oldest: Option<Timestamp>,
}

impl TrackerTotals {
    /// Adds `count` payments of together `amount`.
    pub fn add(&mut self, count: u64, amount: Money, since: Timestamp) {
        self.count = self.count.saturating_add(count);
        let sum = self.minor.entry(amount.currency().code()).or_default();
        *sum = sum.saturating_add(amount.minor());
        self.oldest = Some(self.oldest.map_or(since, |oldest| oldest.min(since)));
    }
}

/// The bound of a lane's tracker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackLimits {
    /// Payments.
    pub count: u32,
    /// Money in minor units, by currency; what is in another currency is not tracked. Empty: any currency, bounded by
    /// the count alone.
    pub minor: BTreeMap<&'static str, i64>,
}

impl TrackLimits {
    /// Whether an empty tracker would take it. What can never be tracked keeps its event, and shuts no gate.
    #[must_use]
    pub fn admit(&self, amount: Money) -> bool {
        self.has_room(&TrackerTotals::default(), amount)
    }

    /// Whether it fits beside what is tracked.
    #[must_use]
    pub fn has_room(&self, totals: &TrackerTotals, amount: Money) -> bool {
        let code = amount.currency().code();
        let sum = totals.minor.get(code).copied().unwrap_or(0).saturating_add(amount.minor());
        let fits = self.minor.is_empty() || self.minor.get(code).is_some_and(|most| sum <= *most);
        totals.count < u64::from(self.count) && fits
    }
}

/// A tracked payment that is due, with the event that it stands for.
#[derive(Debug)]
pub struct Due {
    origin: Origin,
    message: Message,
}

impl Due {
    /// What a backend read. It proves nothing: the rows decide again when it is swept.
    #[must_use]
    pub fn new(origin: Origin, message: Message) -> Self {
        Self { origin, message }
    }

    /// The event that it stands for.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }
}

/// What is to be listed of the tracker.
#[derive(Debug, Clone)]
pub struct DueWanted {
    /// The lane.
    pub lane: LaneName,
    /// The owner whose live claims do not count: what another process holds is not listed.
    pub owner: String,
    /// Payments at most.
    pub most: u16,
    /// Due at this instant; by the database's own clock where none is given.
    pub at: Option<Timestamp>,
}

/// What a sweep works on.
#[derive(Debug, Default)]
pub struct DueList {
    /// The longest due first.
    pub due: Vec<Due>,
    /// All that the lane's tracker holds.
    pub totals: TrackerTotals,
}

/// A PubAck of the outcome event that this event led to. What publishes implements it.
pub(crate) trait Confirmed {
    /// The event.
    fn event(&self) -> &crate::domain::EventId;
}

/// How often a lane looks for what is due.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(1);
