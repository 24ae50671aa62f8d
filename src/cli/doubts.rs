//! Payments in doubt and tracked payments, counted beside a running worker: over the whole store, at an interval, on a
//! reading connection of its own, so that no group of the writer waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::setup::read;
use crate::config::{Config, StoreSettings};
use crate::domain::{Currency, LaneName, Money};
use crate::ops::CountsHandle;
use crate::store::{DoubtSums, ReadError, Reader, TrackedSums, UnknownSums, heard_since};
use crate::telemetry::Life;
use crate::telemetry::metrics::{DoubtsSeen, Tracked, TrackedLane, Unknowns};
use crate::worker::Lane;

/// Between two counts.
const EVERY: Duration = Duration::from_secs(5);

/// Counts, and tells metrics and `/status`.
pub(super) struct Doubts {
    store: StoreSettings,
    unknown: Unknowns,
    tracked: Tracked,
    shown: CountsHandle,
    /// A call that is under way for no longer than this is no doubt yet.
    call: SignedDuration,
}

/// What was counted.
struct Counts {
    doubts: DoubtSums,
    tracked: BTreeMap<LaneName, TrackedSums>,
}

impl Doubts {
    pub(super) fn new(config: &Config, shown: CountsHandle) -> Self {
        let named = |lane: &Lane| {
            let currencies = lane.rules.schemes().iter().flat_map(|scheme| scheme.currencies.iter().flatten());
            currencies.map(|currency| currency.code()).collect::<BTreeSet<_>>()
        };
        // What the book settles is never tracked: no money of its own. Alerts read the other series of every lane.
        let over = || config.lanes.iter().filter(|lane| config.routes.contains_key(&lane.name));
        let money = over().flat_map(|lane| named(lane).into_iter().map(|code| (lane.name.to_string(), code)));
        let tracked = Tracked::new(money, config.lanes.iter().map(|lane| lane.name.to_string()).collect());
        let now_s = Timestamp::now().as_duration().as_secs_f64();
        let call = config.rails.iter().map(|rail| rail.terms.deadline).max().unwrap_or_default();
        Self {
            store: config.store.clone(),
            unknown: Unknowns::new(config.lanes.iter().flat_map(named), now_s),
            tracked,
            shown,
            call: SignedDuration::try_from(call).unwrap_or(SignedDuration::MAX),
        }
    }

    /// Counts until `stop`, and has closed its connection then: the store's last connection empties its log into the
    /// file, and only the writer's can.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut reader, mut served) = (None, true);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let now = Timestamp::now();
            let before = now.checked_sub(self.call).unwrap_or(Timestamp::UNIX_EPOCH);
            let (store, known) = (self.store.clone(), reader.take());
            match tokio::task::spawn_blocking(move || count(&store, known, before, heard_since(now))).await {
                Ok(Ok((again, counts))) => {
                    (reader, served) = (Some(again), true);
                    self.tell(&counts, now);
                }
                Ok(Err(error)) => {
                    if served {
                        Life::UnknownsUnread { what: &error.to_string() }.emit();
                    }
                    served = false;
                }
                // The runtime is going.
                Err(_) => return,
            }
        }
    }

    fn tell(&mut self, counts: &Counts, now: Timestamp) {
        let Counts { doubts, tracked } = counts;
        let age = |since: Timestamp| now.duration_since(since).as_secs_f64().max(0.0);
        let seen = |sums: &UnknownSums| DoubtsSeen {
            count: sums.count,
            oldest_s: sums.oldest.map_or(0.0, age),
            money: majors(&sums.money),
        };
        self.unknown.set(&seen(&doubts.unknown), &seen(&doubts.in_progress));
        let lanes: Vec<_> = tracked
            .iter()
            .map(|(lane, sums)| TrackedLane {
                lane: lane.to_string(),
                count: sums.count,
                oldest_s: age(sums.oldest),
                overdue_s: age(sums.due),
                money: majors(&sums.money),
            })
            .collect();
        self.tracked.set(&lanes);
        self.unknown.counted(now.as_duration().as_secs_f64());
        self.shown.set(doubts, tracked, now);
    }
}

fn count(
    store: &StoreSettings,
    known: Option<Reader>,
    before: Timestamp,
    heard: Timestamp,
) -> Result<(Reader, Counts), ReadError> {
    let reader = known.map_or_else(|| read(store), Ok)?;
    let counts = Counts { doubts: reader.unknown_sums(before, heard)?, tracked: reader.tracked_sums()? };
    Ok((reader, counts))
}

fn majors(money: &BTreeMap<&'static str, (Currency, i128)>) -> Vec<(&'static str, f64)> {
    money.values().map(|(currency, minor)| (currency.code(), major(*minor, *currency))).collect()
}

/// In the currency's own unit, as near as a metric can say it.
fn major(minor: i128, currency: Currency) -> f64 {
    Money::format(minor, currency).parse().unwrap_or(f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_in_doubt_is_told_in_the_currencys_own_unit() {
        for (minor, code, expected) in [(12_345, "EUR", 123.45), (12_345, "JPY", 12_345.0), (12_345, "KWD", 12.345)] {
            let currency = Currency::parse(code).expect("a currency");
            assert!((major(minor, currency) - expected).abs() < 1e-9, "{code}");
        }
    }
}
