//! Looks at broker and store with an operator's eyes and names every difference with its remedy. Changes nothing.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::guard::compare;
use super::provision::{Action, Options, plan};
use crate::broker::{ApiError, Broker, ConsumerInfo, StreamInfo, Wire};
use crate::store::{Facts, Shortfall};
use crate::worker::Lane;

/// How much something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// The worker will not run, or not safely.
    Problem,
    /// It runs, and falls short of production durability.
    Warning,
}

/// One thing that differs from what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// What it is about.
    pub about: String,
    /// What is the case.
    pub finding: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    /// A setting of the database that falls short.
    #[must_use]
    pub fn of_database(Shortfall { finding, remedy }: Shortfall) -> Self {
        Self { weight: Weight::Warning, about: "database".to_owned(), finding, remedy: remedy.to_owned() }
    }

    fn problem(about: impl Into<String>, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { weight: Weight::Problem, about: about.into(), finding: finding.into(), remedy: remedy.into() }
    }
}

/// Compares streams and consumers with the files, the lanes' limits with the consumers', and the store with both.
///
/// # Errors
/// When the broker does not answer.
pub async fn check<W: Wire>(
    broker: &Broker<W>,
    lanes: &[Lane],
    store: &Facts,
    replicas: Option<u8>,
) -> Result<Vec<Finding>, ApiError> {
    let mut findings = Vec::new();
    // `ack_wait` and the number of copies are the installation's own choice, so what is there is taken as meant.
    let options = Options { replicas, any_ack_wait: true, ..Options::default() };
    for step in plan(broker, lanes, store.store_id, &options).await?.steps {
        let about = format!("{} {}", step.kind, step.name);
        match step.action {
            Action::Keep => {}
            Action::Create => findings.push(Finding::problem(about, "does not exist", "run `acquit provision`")),
            Action::Refuse(why) => findings.push(Finding::problem(about, why, "see `acquit provision --dry-run`")),
            Action::Update => {
                for d in step.differences.iter().filter(|d| d.key != "num_replicas") {
                    let finding = format!("{} is {}, should be {}", d.key, d.is, d.wanted);
                    findings.push(Finding::problem(about.clone(), finding, "run `acquit provision`"));
                }
            }
        }
    }
    let name = broker.streams().payments.to_string();
    let Ok(stream) = broker.stream_info(&name).await else { return Ok(findings) };
    findings.extend(shortfalls(&name, &stream));
    for lane in lanes {
        match broker.consumer_info(&name, &lane.consumer).await {
            Ok(consumer) => findings.extend(lane_findings(lane, &name, &stream, &consumer, store)),
            Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(findings)
}

/// What falls short of production durability. Not refused: a laptop is a fine place to try things.
#[must_use]
pub fn shortfalls(name: &str, stream: &StreamInfo) -> Vec<Finding> {
    let mut found = Vec::new();
    let warn = |finding: String, remedy: &str| Finding {
        weight: Weight::Warning,
        about: format!("stream {name}"),
        finding,
        remedy: remedy.to_owned(),
    };
    let replicas = stream.number("num_replicas");
    if replicas < 3 {
        found.push(warn(
            format!("has {replicas} copy: acknowledgements are not durable and one lost disk loses events"),
            "run three servers with sync_interval: always and provision with --replicas 3",
        ));
    }
    if stream.config.get("storage").and_then(Value::as_str) != Some("file") {
        found.push(warn("is kept in memory".to_owned(), "make it anew with file storage"));
    }
    if stream.config.get("persist_mode").and_then(Value::as_str) == Some("async") {
        found.push(warn("persists asynchronously, whatever sync_interval says".to_owned(), "make it anew without"));
    }
    found
}

/// Whether the store forgets no record of what a stream still holds.
///
/// An event may wait for as long as its stream keeps it, and what it leads to is published at its end: so `keep` must
/// be longer than the payments stream's `max_age`, and with that longer than the other two streams' as well.
///
/// # Errors
/// When the broker does not answer for one of the streams.
pub async fn keep_findings<W: Wire>(broker: &Broker<W>, keep: Duration) -> Result<Vec<Finding>, ApiError> {
    let streams = broker.streams();
    let mut found = Vec::new();
    let mut waits = None;
    for name in [&streams.payments, &streams.outcomes, &streams.dead_letters] {
        let stream = broker.stream_info(name.as_str()).await?;
        let max_age = Duration::from_nanos(stream.number("max_age"));
        let needed = max_age.saturating_add(waits.unwrap_or_default());
        if max_age.is_zero() || keep <= needed {
            let holds =
                if max_age.is_zero() { "keeps for ever".to_owned() } else { format!("needs for {}", hours(needed)) };
            let finding = format!("store.keep is {}: it would forget records that stream {name} {holds}", hours(keep));
            found.push(Finding::problem("store.keep", finding, "keep longer, or give the stream a shorter max_age"));
        }
        waits.get_or_insert(max_age);
    }
    Ok(found)
}

fn hours(span: Duration) -> String {
    format!("{}h", span.as_secs() / 3600)
}

fn lane_findings(lane: &Lane, name: &str, stream: &StreamInfo, consumer: &ConsumerInfo, store: &Facts) -> Vec<Finding> {
    let about = format!("consumer {}", lane.consumer);
    let mut found = Vec::new();
    let needed = i64::from(lane.limits.slots).saturating_add(i64::from(lane.limits.parked));
    let pending = consumer.number("max_ack_pending");
    if pending >= 0 && pending < needed {
        let finding = format!("max_ack_pending is {pending}, the lane's slots and parked events need {needed}");
        found.push(Finding::problem(&about, finding, "run `acquit provision`, or lower lane.slots or lane.parked"));
    }
    if consumer.number("max_deliver") != -1 {
        let finding = "max_deliver is set: the broker would stop delivering an event that is in doubt";
        found.push(Finding::problem(&about, finding, "set it to -1"));
    }
    if consumer.config.get("backoff").is_some_and(|b| !b.is_null()) {
        let finding = "backoff is set: it replaces ack_wait and adds to every delay";
        found.push(Finding::problem(&about, finding, "make the consumer anew without it"));
    }
    if consumer.ack_wait() < Duration::from_secs(1) {
        let finding = "ack_wait is below one second: events would be redelivered while they are worked on";
        found.push(Finding::problem(&about, finding, "set it to 30s"));
    }
    if let Some(theirs) = consumer.ts {
        let skew = Timestamp::now().as_millisecond().saturating_sub(theirs.as_millisecond());
        if skew.saturating_abs() > 2_000 {
            let finding = format!("this machine's clock is {skew} ms from the broker's");
            found.push(Finding::problem("clock", finding, "synchronise the clocks (NTP); a worker does not pull"));
        }
    }
    if let Err(why) = compare(store, name, stream, consumer) {
        found.push(Finding::problem(&about, why, "as it says"));
    }
    found
}
