//! Payments in doubt, over the whole store: every worker of a fleet says the same, so a dashboard takes the maximum.

use std::collections::BTreeSet;

use metrics::{Gauge, gauge};

/// Gauges of payments in doubt: those that nobody knows about, and those that their rail says to work on.
pub(crate) struct Unknowns {
    unknown: Doubts,
    in_progress: Doubts,
    counted_at: Gauge,
}

/// What the store holds of one kind.
#[derive(Debug, Default)]
pub(crate) struct DoubtsSeen {
    pub(crate) count: u64,
    pub(crate) oldest_s: f64,
    /// By currency, in its own unit.
    pub(crate) money: Vec<(&'static str, f64)>,
}

struct Doubts {
    count: Gauge,
    oldest: Gauge,
    money: fn(&'static str) -> Gauge,
    /// Currencies that have a series.
    currencies: BTreeSet<&'static str>,
}

impl Unknowns {
    /// Every series begins at zero: the count, the age, and the money of `currencies`; others begin when they are met.
    pub(crate) fn new(currencies: impl IntoIterator<Item = &'static str>, at_s: f64) -> Self {
        let currencies: BTreeSet<_> = currencies.into_iter().collect();
        let mut made = Self {
            unknown: Doubts {
                count: gauge!("acquit_unknown_payments"),
                oldest: gauge!("acquit_unknown_oldest_age_seconds"),
                money: |currency| gauge!("acquit_unknown_amount", "currency" => currency),
                currencies: currencies.clone(),
            },
            in_progress: Doubts {
                count: gauge!("acquit_in_progress_payments"),
                oldest: gauge!("acquit_in_progress_oldest_age_seconds"),
                money: |currency| gauge!("acquit_in_progress_amount", "currency" => currency),
                currencies,
            },
            counted_at: gauge!("acquit_last_count_timestamp_seconds"),
        };
        made.set(&DoubtsSeen::default(), &DoubtsSeen::default());
        made.counted(at_s);
        made
    }

    /// When the store was last read, in Unix time: a gauge that stands still looks like one that nothing happens to.
    pub(crate) fn counted(&self, at_s: f64) {
        self.counted_at.set(at_s);
    }

    /// What the store holds now.
    pub(crate) fn set(&mut self, unknown: &DoubtsSeen, in_progress: &DoubtsSeen) {
        self.unknown.set(unknown);
        self.in_progress.set(in_progress);
    }
}

impl Doubts {
    /// A currency that is not among the money has none in doubt any more.
    fn set(&mut self, seen: &DoubtsSeen) {
        self.count.set(f64::from(u32::try_from(seen.count).unwrap_or(u32::MAX)));
        self.oldest.set(seen.oldest_s);
        self.currencies.extend(seen.money.iter().map(|(currency, _)| *currency));
        for currency in &self.currencies {
            let amount = seen.money.iter().find(|(named, _)| named == currency).map_or(0.0, |(_, amount)| *amount);
            (self.money)(currency).set(amount);
        }
    }
}
