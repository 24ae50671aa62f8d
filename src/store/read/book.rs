//! One line of the book a currency, and whether it balances.

use std::collections::BTreeMap;

use super::ReadError;
use crate::domain::Currency;

/// One currency of the book. Sums are minor units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookLine {
    /// The currency.
    pub currency: Currency,
    /// Sum of all debit counters.
    pub debits: i128,
    /// Sum of all credit counters.
    pub credits: i128,
    /// Sum of all transfers.
    pub transferred: i128,
    /// Accounts in this currency.
    pub accounts: u64,
    /// Accounts whose counters are not the sums of their transfers.
    pub accounts_differing: u64,
    /// Payments settled in the book that have no transfer.
    pub settled_without_transfer: u64,
    /// Transfers whose payment is not settled in the book with that amount.
    pub transfers_without_settled: u64,
}

impl BookLine {
    /// Whether everything agrees.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.debits == self.credits
            && self.debits == self.transferred
            && self.accounts_differing == 0
            && self.settled_without_transfer == 0
            && self.transfers_without_settled == 0
    }

    fn new(currency: Currency) -> Self {
        Self {
            currency,
            debits: 0,
            credits: 0,
            transferred: 0,
            accounts: 0,
            accounts_differing: 0,
            settled_without_transfer: 0,
            transfers_without_settled: 0,
        }
    }
}

/// The lines by currency.
#[derive(Default)]
pub(super) struct Lines(BTreeMap<&'static str, BookLine>);

impl Lines {
    pub(super) fn of(&mut self, code: &str) -> Result<&mut BookLine, ReadError> {
        let currency = Currency::parse(code)
            .ok_or_else(|| ReadError::Failed("a stored row cannot be read: currency".to_owned()))?;
        Ok(self.0.entry(currency.code()).or_insert_with(|| BookLine::new(currency)))
    }

    pub(super) fn into_all(self) -> Vec<BookLine> {
        self.0.into_values().collect()
    }
}
