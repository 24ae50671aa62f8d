//! Payments in doubt, counted beside a running worker: over the whole store, at an interval, on a reading connection
//! of its own, so that no group of the writer waits for it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::setup::read;
use crate::config::{Config, StoreSettings};
use crate::domain::{Currency, Money};
use crate::ops::UnknownHandle;
use crate::store::{ReadError, Reader, UnknownSums};
use crate::telemetry::Life;
use crate::telemetry::metrics::Unknowns;

/// Between two counts.
const EVERY: Duration = Duration::from_secs(5);

/// Counts, and tells metrics and `/status`.
pub(super) struct Doubts {
    store: StoreSettings,
    metrics: Unknowns,
    shown: UnknownHandle,
    /// A call that is under way for no longer than this is no doubt yet.
    call: SignedDuration,
}

impl Doubts {
    pub(super) fn new(config: &Config, shown: UnknownHandle) -> Self {
        let schemes = config.lanes.iter().flat_map(|lane| lane.rules.schemes());
        let named = schemes.flat_map(|scheme| scheme.currencies.iter().flatten());
        let call = config.rails.iter().map(|rail| rail.terms.deadline).max().unwrap_or_default();
        Self {
            store: config.store.clone(),
            metrics: Unknowns::new(named.map(|currency| currency.code())),
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
            match tokio::task::spawn_blocking(move || count(&store, known, before)).await {
                Ok(Ok((again, sums))) => {
                    (reader, served) = (Some(again), true);
                    self.tell(&sums, now);
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

    fn tell(&mut self, sums: &UnknownSums, now: Timestamp) {
        let age = sums.oldest.map_or(0.0, |oldest| now.duration_since(oldest).as_secs_f64().max(0.0));
        let money: Vec<_> =
            sums.money.values().map(|(currency, minor)| (currency.code(), major(*minor, *currency))).collect();
        self.metrics.set(sums.count, age, &money);
        self.shown.set(sums, now);
    }
}

fn count(store: &StoreSettings, known: Option<Reader>, before: Timestamp) -> Result<(Reader, UnknownSums), ReadError> {
    let reader = known.map_or_else(|| read(store), Ok)?;
    let sums = reader.unknown_sums(before)?;
    Ok((reader, sums))
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
