//! Payments that trackers own, over the whole store: every worker of a fleet says the same, so a dashboard takes the
//! maximum.

use std::collections::BTreeSet;

use metrics::gauge;

/// What one lane's tracker holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrackedLane {
    pub(crate) lane: String,
    pub(crate) count: u64,
    pub(crate) oldest_s: f64,
    pub(crate) overdue_s: f64,
    /// In the currency's own unit.
    pub(crate) money: Vec<(&'static str, f64)>,
}

/// Gauges of tracked payments.
pub(crate) struct Tracked {
    lanes: BTreeSet<String>,
    /// Those that have a series.
    money: BTreeSet<(String, &'static str)>,
}

impl Tracked {
    /// Every series of `lanes` and of the money of each begins at zero; others begin when they are met.
    pub(crate) fn new(money: impl IntoIterator<Item = (String, &'static str)>, lanes: Vec<String>) -> Self {
        let mut made = Self { lanes: lanes.into_iter().collect(), money: money.into_iter().collect() };
        made.set(&[]);
        made
    }

    /// What the store holds now. A lane that is not among `held` has nothing tracked any more.
    pub(crate) fn set(&mut self, held: &[TrackedLane]) {
        self.lanes.extend(held.iter().map(|of| of.lane.clone()));
        self.money.extend(held.iter().flat_map(|of| of.money.iter().map(|(currency, _)| (of.lane.clone(), *currency))));
        let none = TrackedLane::default();
        for lane in &self.lanes {
            let of = held.iter().find(|of| of.lane == *lane).unwrap_or(&none);
            let count = f64::from(u32::try_from(of.count).unwrap_or(u32::MAX));
            gauge!("acquit_tracked_payments", "lane" => lane.clone()).set(count);
            gauge!("acquit_tracked_oldest_age_seconds", "lane" => lane.clone()).set(of.oldest_s);
            gauge!("acquit_tracked_overdue_age_seconds", "lane" => lane.clone()).set(of.overdue_s);
        }
        for (lane, currency) in &self.money {
            let of = held.iter().find(|of| of.lane == *lane).unwrap_or(&none);
            let amount = of.money.iter().find(|(named, _)| named == currency).map_or(0.0, |(_, amount)| *amount);
            gauge!("acquit_tracked_amount", "lane" => lane.clone(), "currency" => *currency).set(amount);
        }
    }
}
