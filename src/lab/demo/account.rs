//! The demo's account: what reconciliation found, in the form of `demo --json`.

use std::collections::BTreeMap;

use crate::cli::{Exit, Failure};
use crate::domain::{Code, Currency, Decimal};
use crate::lab::report::{BreakerReport, Held, MoneyLine, Report};
use crate::lab::stage::Stage;
use crate::operate::publish::Published;
use crate::operate::reconcile::{ReconcileOptions, Reconciliation, Sums, reconcile};
use crate::worker::LaneStatus;

/// Reconciles stream, store, outcome events and dead letters, and says what became of what was published.
pub(super) async fn report(stage: &Stage, published: &Published, lane: Option<&LaneStatus>) -> Result<Report, Failure> {
    let reader = stage.reader()?;
    let consumers = stage.config.lanes.iter().map(|lane| lane.consumer.clone()).collect();
    let options = ReconcileOptions { state_file: None, consumers, rails: Vec::new(), most: 20 };
    let found = reconcile(&stage.publisher, &reader, &options, |_| {}).await?;
    let events = &found.events;
    let held = Held {
        in_stream: events.held.in_stream,
        in_flight: events.held.in_flight.saturating_add(events.held.tracked),
        parked: 0,
        for_person: events.held.for_person,
    };
    let ended = [events.settled, events.rejected, events.dead_lettered, events.duplicates, held.total()];
    let accounted = ended.into_iter().fold(0_i64, |sum, n| sum.saturating_add(signed(n)));
    let unaccounted = signed(published.published).saturating_sub(accounted);
    let money = money(&found)?;
    let conserved = found.clean() && unaccounted == 0 && money.values().all(MoneyLine::balances);
    Ok(Report {
        published: published.published,
        publisher_duplicates: published.duplicates,
        settled: events.settled,
        rejected: events.rejected,
        rejected_by_code: codes(&events.rejected_by_code),
        dead_lettered: events.dead_lettered,
        dead_lettered_by_code: codes(&events.dead_lettered_by_code),
        duplicates: events.duplicates,
        held,
        unaccounted,
        conserved,
        money,
        breaker: lane.map_or_else(BreakerReport::default, |lane| BreakerReport {
            opened: lane.breaker_opened,
            probes: lane.breaker_probes,
            pulls_while_open: lane.pulls_while_open,
        }),
        elapsed_s: 0.0,
        settled_per_s: 0.0,
        rail: None,
        book: reader.book_check()?,
    })
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn codes(by_code: &BTreeMap<String, u64>) -> BTreeMap<Code, u64> {
    by_code.iter().filter_map(|(code, count)| Some((Code::parse(code)?, *count))).collect()
}

fn money(found: &Reconciliation) -> Result<BTreeMap<&'static str, MoneyLine>, Failure> {
    let mut lines = BTreeMap::new();
    for (code, sums) in &found.money {
        let unreadable = || Failure::new(Exit::Bug, format!("the sums of {code} cannot be read back"));
        let currency = Currency::parse(code).ok_or_else(unreadable)?;
        lines.insert(currency.code(), line(currency, sums).ok_or_else(unreadable)?);
    }
    Ok(lines)
}

fn line(currency: Currency, sums: &Sums) -> Option<MoneyLine> {
    let minor = |text: &str| -> Option<i128> {
        // Sums may have more digits than one amount; where they fit, the amount's own reader is used.
        match Decimal::parse(text) {
            Some(decimal) => decimal.at_scale(currency.exponent()).map(i128::from),
            None => text.replace('.', "").parse().ok(),
        }
    };
    Some(MoneyLine {
        currency,
        published: minor(&sums.published)?,
        settled: minor(&sums.settled)?,
        rejected: minor(&sums.rejected)?,
        dead_lettered: minor(&sums.dead_lettered)?,
        held: minor(&sums.held)?,
    })
}
