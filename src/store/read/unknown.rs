//! Payments in doubt: given to a rail that has not said what became of them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::super::rows::State;
use super::ReadError;
use crate::domain::{Currency, LaneName, Money, PaymentId};

/// A payment that may have reached a rail and has no conclusive answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownLine {
    /// Its number in the store.
    pub row: i64,
    /// Its identity.
    pub payment_id: PaymentId,
    /// `Open`, or `Held` where its rail left it to a person.
    pub state: State,
    /// The lane that holds it.
    pub lane: LaneName,
    /// The rail of the attempts without an answer.
    pub rail: String,
    /// The leg of their key.
    pub leg: u8,
    /// Attempts that may have reached a rail.
    pub attempts: u32,
    /// Inquiries that count and did not find it.
    pub not_found: u32,
    /// When the first attempt without an answer was recorded.
    pub since: Timestamp,
    /// When its rail said last that it works on it.
    pub in_progress_at: Option<Timestamp>,
    /// What is to move.
    pub amount: Money,
    /// Until when a worker holds it; in the past where none does.
    pub claimed_until: Option<Timestamp>,
}

/// Where a page of payments in doubt ends. The default is the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnknownKey {
    pub(super) since: Timestamp,
    pub(super) row: i64,
}

/// Which payments in doubt.
#[derive(Debug, Clone)]
pub struct UnknownFilter {
    /// Of this lane only.
    pub lane: Option<LaneName>,
    /// In doubt since then or before.
    pub before: Timestamp,
}

/// All payments in doubt, those apart whose rail has said of late that it works on them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DoubtSums {
    /// Nobody knows what became of them, or a person is to say. They are as old as their rail is silent about them.
    pub unknown: UnknownSums,
    /// Their rail works on them. They are as old as their first attempt without an answer.
    pub in_progress: UnknownSums,
}

/// Payments in doubt together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnknownSums {
    /// How many.
    pub count: u64,
    /// Since when the oldest is.
    pub oldest: Option<Timestamp>,
    /// The money, in minor units, by currency code.
    pub money: BTreeMap<&'static str, (Currency, i128)>,
}

impl UnknownLine {
    /// Where the page after this line starts.
    #[must_use]
    pub fn key(&self) -> UnknownKey {
        UnknownKey { since: self.since, row: self.row }
    }
}

/// For so long the word of a rail counts that it works on a payment: each is asked about at least every minute.
const HEARD: SignedDuration = SignedDuration::from_mins(5);

/// Since when a rail must have said that it works on a payment, for that to count at `now`.
#[must_use]
pub fn heard_since(now: Timestamp) -> Timestamp {
    now.checked_sub(HEARD).unwrap_or(Timestamp::MIN)
}

impl DoubtSums {
    pub(super) fn of(&mut self, in_progress: bool) -> &mut UnknownSums {
        if in_progress { &mut self.in_progress } else { &mut self.unknown }
    }
}

impl UnknownSums {
    pub(super) fn add(&mut self, code: &str, count: u64, minor: i128, oldest: Timestamp) -> Result<(), ReadError> {
        let currency = Currency::parse(code)
            .ok_or_else(|| ReadError::Failed("a stored row cannot be read: currency".to_owned()))?;
        let sum = &mut self.money.entry(currency.code()).or_insert((currency, 0)).1;
        *sum = sum.saturating_add(minor);
        self.count = self.count.saturating_add(count);
        self.oldest = Some(self.oldest.map_or(oldest, |known| known.min(oldest)));
        Ok(())
    }
}
