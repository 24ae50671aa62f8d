//! What the trackers hold, lane by lane.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::ReadError;
use crate::domain::{Currency, LaneName};

/// What one lane's tracker holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackedSums {
    /// Payments; at least one.
    pub count: u64,
    /// Since when the oldest is tracked.
    pub oldest: Timestamp,
    /// When the next sweep of any was due, or will be. What a worker holds at the moment counts, too.
    pub due: Timestamp,
    /// The money, in minor units, by currency code.
    pub money: BTreeMap<&'static str, (Currency, i128)>,
}

/// The sums of one lane and currency, as a database gives them.
pub(super) struct Part<'a> {
    pub(super) lane: &'a str,
    pub(super) currency: &'a str,
    pub(super) count: u64,
    pub(super) minor: i128,
    pub(super) oldest: Timestamp,
    pub(super) due: Timestamp,
}

impl Part<'_> {
    pub(super) fn add_to(&self, sums: &mut BTreeMap<LaneName, TrackedSums>) -> Result<(), ReadError> {
        let unread = |what| ReadError::Failed(format!("a stored row cannot be read: {what}"));
        let lane = LaneName::parse(self.lane).map_err(|_| unread("tracker.lane"))?;
        let currency = Currency::parse(self.currency).ok_or_else(|| unread("tracker.currency"))?;
        let new = || TrackedSums { count: 0, oldest: self.oldest, due: self.due, money: BTreeMap::new() };
        let of = sums.entry(lane).or_insert_with(new);
        of.count = of.count.saturating_add(self.count);
        (of.oldest, of.due) = (of.oldest.min(self.oldest), of.due.min(self.due));
        let sum = &mut of.money.entry(currency.code()).or_insert((currency, 0)).1;
        *sum = sum.saturating_add(self.minor);
        Ok(())
    }
}
