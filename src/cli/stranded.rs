//! Payments that may have reached a rail which their lane has no more. Only that rail may be asked about them, so they
//! wait until it is back, or until a person decides: whoever changed the configuration is told.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::setup::read;
use crate::config::{Config, StoreSettings};
use crate::domain::LaneName;
use crate::operate::check::{Finding, Weight};
use crate::store::{ReadError, Reader, UnknownFilter, UnknownKey};
use crate::telemetry::Life;

/// Payments in doubt that are looked at, the oldest first.
const LOOKED_AT: u32 = 10_000;
const PAGE: u32 = 256;

/// What such a payment waits for.
pub(super) const WAITS_FOR: &str = "its rail, which its lane has no more: make it the lane's route or fallback again, \
                                    or decide by `acquit unknown resolve`";

/// Whether the lane may ask this rail. For a lane that was renamed, whether any may.
pub(super) fn has(config: &Config, lane: &LaneName, rail: &str) -> bool {
    let mut ways = config.routes.iter().chain(&config.fallbacks);
    let known = config.lanes.iter().any(|configured| configured.name == *lane);
    ways.any(|(of, name)| name == rail && (!known || of == lane))
}

/// One finding for each lane and rail. Reads the store; blocks.
pub(super) fn stranded(config: &Config, reader: &Reader) -> Result<Vec<Finding>, ReadError> {
    let filter = UnknownFilter { lane: None, before: Timestamp::MAX };
    let (mut found, mut after, mut left) = (BTreeMap::<_, u32>::new(), UnknownKey::default(), LOOKED_AT);
    while left > 0 {
        let page = reader.unknown_after(&filter, after, PAGE.min(left))?;
        let Some(last) = page.last() else { break };
        after = last.key();
        left = left.saturating_sub(u32::try_from(page.len()).unwrap_or(u32::MAX));
        for line in page.into_iter().filter(|line| !has(config, &line.lane, &line.rail)) {
            let count = found.entry((line.lane, line.rail)).or_default();
            *count = count.saturating_add(1);
        }
    }
    Ok(found.into_iter().map(|((lane, rail), count)| finding(&lane, &rail, count)).collect())
}

fn finding(lane: &LaneName, rail: &str, count: u32) -> Finding {
    Finding {
        weight: Weight::Problem,
        about: format!("lane {lane}"),
        finding: format!(
            "{count} of its payments may have reached rail {rail}, which it has no more: nobody asks what became of them"
        ),
        remedy: format!(
            "make {rail} the lane's route or fallback again until `acquit unknown list` shows none of them, or decide \
             each by `acquit unknown resolve`"
        ),
    }
}

/// Logs the findings of a store that a worker has just opened. A store that cannot be read now is no reason not to run.
pub(super) async fn tell(config: &Config) {
    let (config, store): (Config, StoreSettings) = (config.clone(), config.store.clone());
    let looked = tokio::task::spawn_blocking(move || read(&store).and_then(|reader| stranded(&config, &reader)));
    for Finding { about, finding, remedy, .. } in looked.await.into_iter().flatten().flatten() {
        Life::Stranded { what: &format!("{about}: {finding}; {remedy}") }.emit();
    }
}
