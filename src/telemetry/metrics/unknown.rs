//! Payments in doubt, over the whole store: every worker of a fleet says the same, so a dashboard takes the maximum.

use std::collections::BTreeSet;

use metrics::{Gauge, gauge};

/// Gauges of payments in doubt.
pub(crate) struct Unknowns {
    count: Gauge,
    oldest: Gauge,
    counted_at: Gauge,
    /// Currencies that have a series.
    currencies: BTreeSet<&'static str>,
}

impl Unknowns {
    /// Every series begins at zero: the count, the age, and the money of `currencies`; others begin when they are met.
    pub(crate) fn new(currencies: impl IntoIterator<Item = &'static str>, at_s: f64) -> Self {
        let (count, oldest) = (gauge!("acquit_unknown_payments"), gauge!("acquit_unknown_oldest_age_seconds"));
        let counted_at = gauge!("acquit_last_count_timestamp_seconds");
        let mut made = Self { count, oldest, counted_at, currencies: currencies.into_iter().collect() };
        made.set(0, 0.0, &[]);
        made.counted(at_s);
        made
    }

    /// When the store was last read, in Unix time: a gauge that stands still looks like one that nothing happens to.
    pub(crate) fn counted(&self, at_s: f64) {
        self.counted_at.set(at_s);
    }

    /// What the store holds now. A currency that is not among `money` has none in doubt any more.
    pub(crate) fn set(&mut self, count: u64, oldest_s: f64, money: &[(&'static str, f64)]) {
        self.count.set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        self.oldest.set(oldest_s);
        self.currencies.extend(money.iter().map(|(currency, _)| *currency));
        for currency in &self.currencies {
            let amount = money.iter().find(|(named, _)| named == currency).map_or(0.0, |(_, amount)| *amount);
            gauge!("acquit_unknown_amount", "currency" => *currency).set(amount);
        }
    }
}
