//! Streams and consumers as `nats/` has them: planned, shown, then applied. Idempotent. It refuses what loses events:
//! a filter edited in place, an `ack_wait` shortened under load, a guessed start on a stream that holds events.

mod apply;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::guard::STORE_ID;
use crate::broker::{ApiError, Broker, Streams, Wire};
use crate::domain::StoreId;
use crate::worker::Lane;

pub use apply::apply;

const PAYMENTS: &str = include_str!("../../nats/streams/PAYMENTS.json");
const OUTCOMES: &str = include_str!("../../nats/streams/PAYMENT_OUTCOMES.json");
const DEAD_LETTERS: &str = include_str!("../../nats/streams/PAYMENT_DEAD_LETTERS.json");
const AUDIT: &str = include_str!("../../nats/streams/PAYMENT_AUDIT.json");
const CONSUMER: &str = include_str!("../../nats/consumers/PAYMENTS.payments.json");

/// Where a new consumer on a stream that holds events starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the stream's first event.
    All,
    /// Behind its last one.
    New,
    /// At a sequence.
    At(u64),
}

/// What may be different from the files.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Copies of each stream: 1, 3 or 5; else as in the files.
    pub replicas: Option<u8>,
    /// The consumers' `ack_wait` in nanoseconds; else as in the file.
    pub ack_wait_ns: Option<u64>,
    /// Take the `ack_wait` that is there as meant.
    pub any_ack_wait: bool,
    /// Where new consumers start.
    pub start: Option<Start>,
    /// Give a consumer that names another store, or none, to this one.
    pub adopt: bool,
}

/// What is to be done about one stream or consumer.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// `stream` or `consumer`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What is done.
    pub action: Action,
    /// What differs from the files.
    pub differences: Vec<Difference>,
    #[serde(skip)]
    config: Value,
    #[serde(skip)]
    stream: String,
}

/// What is done about a stream or consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing: it is as it should be.
    Keep,
    /// It is made.
    Create,
    /// Its differences are changed.
    Update,
    /// It is left as it is; the text says why and what to do.
    Refuse(String),
}

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The configuration key.
    pub key: String,
    /// What it is.
    pub is: Value,
    /// What it should be.
    pub wanted: Value,
}

/// Everything that is to be done.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// In the order in which it is done.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Whether nothing is to be done and nothing refused.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.steps.iter().all(|step| step.action == Action::Keep)
    }

    /// The refusals.
    pub fn refused(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| matches!(step.action, Action::Refuse(_)))
    }
}

/// Keys that an update may change without risk to what is stored or held.
const CHANGEABLE: [&str; 9] = [
    "description",
    "num_replicas",
    "max_age",
    "max_bytes",
    "max_msg_size",
    "duplicate_window",
    "allow_direct",
    "max_ack_pending",
    "max_waiting",
];

/// Compares the broker with the files. Changes nothing.
///
/// # Errors
/// When the broker does not answer.
pub async fn plan<W: Wire>(
    broker: &Broker<W>,
    lanes: &[Lane],
    store: StoreId,
    options: &Options,
) -> Result<Plan, ApiError> {
    let mut steps = Vec::new();
    for (name, wanted) in streams(broker.streams(), lanes, options)? {
        let is = match broker.stream_info(&name).await {
            Ok(info) => Some(info.config),
            Err(ApiError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        steps.push(stream_step(name, is.as_ref(), wanted));
    }
    for lane in lanes {
        let filters = consumer_filters(lane, lanes);
        steps.push(consumer_step(broker, lane, filters, store, options).await?);
    }
    Ok(Plan { steps })
}

fn file(text: &str) -> Result<Map<String, Value>, ApiError> {
    serde_json::from_str(text).map_err(|e| ApiError::Unreadable { subject: "nats/".to_owned(), detail: e.to_string() })
}

/// The streams as they should be, under the configured names.
fn streams(names: &Streams, lanes: &[Lane], options: &Options) -> Result<Vec<(String, Value)>, ApiError> {
    let named = [
        (names.payments.as_str(), PAYMENTS),
        (names.outcomes.as_str(), OUTCOMES),
        (names.dead_letters.as_str(), DEAD_LETTERS),
        (names.audit.as_str(), AUDIT),
    ];
    let mut wanted = Vec::new();
    for (name, text) in named {
        let mut config = file(text)?;
        config.insert("name".to_owned(), json!(name));
        if let Some(replicas) = options.replicas {
            config.insert("num_replicas".to_owned(), json!(replicas));
        }
        if name == names.payments.as_str() {
            config.insert("subjects".to_owned(), json!(lanes.iter().flat_map(filters).collect::<Vec<_>>()));
        }
        wanted.push((name.to_owned(), Value::Object(config)));
    }
    Ok(wanted)
}

/// One subject for each scheme, never `>`: what no lane serves must not be stored as if it were.
fn filters(lane: &Lane) -> Vec<String> {
    lane.rules.schemes().iter().map(|scheme| format!("payments.requested.{}.*", scheme.name)).collect()
}

/// A lane alone has the whole stream and needs no filter. The server looks each message up against several filters
/// in a time that grows with the number of subjects stored (measured: 2,000 events a second instead of tens of
/// thousands with 4,000 subjects), so a lane among others is best given one scheme.
fn consumer_filters(lane: &Lane, lanes: &[Lane]) -> Vec<String> {
    if lanes.len() == 1 { Vec::new() } else { filters(lane) }
}

fn differences(is: &Value, wanted: &Value) -> Vec<Difference> {
    let Some(wanted) = wanted.as_object() else { return Vec::new() };
    let differs = |key: &str, wanted: &Value| {
        let is = is.get(key).unwrap_or(&Value::Null);
        // The broker leaves out what is at its default.
        let absent = is.is_null() && [json!(false), json!(0), json!(-1), json!([])].contains(wanted);
        let same = is == wanted || absent || sorted(is).is_some_and(|is| sorted(wanted) == Some(is));
        (!same).then(|| Difference { key: key.to_owned(), is: is.clone(), wanted: wanted.clone() })
    };
    wanted.iter().filter_map(|(key, value)| differs(key, value)).collect()
}

/// Lists of subjects are sets.
fn sorted(value: &Value) -> Option<Vec<&str>> {
    let mut texts: Vec<&str> = value.as_array()?.iter().filter_map(Value::as_str).collect();
    texts.sort_unstable();
    Some(texts)
}

fn stream_step(name: String, is: Option<&Value>, wanted: Value) -> Step {
    let stream = name.clone();
    let Some(is) = is else {
        return Step { kind: "stream", name, action: Action::Create, differences: Vec::new(), config: wanted, stream };
    };
    let differences = differences(is, &wanted);
    let fixed: Vec<&str> = differences.iter().map(|d| d.key.as_str()).filter(|k| !CHANGEABLE.contains(k)).collect();
    let gone = removed_subjects(is, &wanted);
    let action = if differences.is_empty() {
        Action::Keep
    } else if !gone.is_empty() {
        Action::Refuse(format!(
            "subjects would be taken away ({}): publishers would get no stream. Serve them with a lane, or remove them by hand",
            gone.join(", ")
        ))
    } else if fixed.iter().all(|key| *key == "subjects") {
        Action::Update
    } else {
        Action::Refuse(format!(
            "{} cannot be changed safely on a stream that exists: make a new stream and drain this one",
            fixed.join(", ")
        ))
    };
    let config = merged(is, &wanted);
    Step { kind: "stream", name, action, differences, config, stream }
}

fn removed_subjects(is: &Value, wanted: &Value) -> Vec<String> {
    let texts = |value: &Value| -> Vec<String> {
        let list = value.get("subjects").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
    };
    let keep = texts(wanted);
    texts(is).into_iter().filter(|subject| !keep.contains(subject)).collect()
}

/// What is there, with what is wanted laid over it: an update must not reset what the files do not name.
fn merged(is: &Value, wanted: &Value) -> Value {
    let mut merged = is.as_object().cloned().unwrap_or_default();
    for (key, value) in wanted.as_object().into_iter().flatten() {
        merged.insert(key.clone(), value.clone());
    }
    Value::Object(merged)
}

async fn consumer_step<W: Wire>(
    broker: &Broker<W>,
    lane: &Lane,
    filters: Vec<String>,
    store: StoreId,
    options: &Options,
) -> Result<Step, ApiError> {
    let stream = broker.streams().payments.to_string();
    let mut wanted = file(CONSUMER)?;
    let mut set = |key: &str, value: Value| drop(wanted.insert(key.to_owned(), value));
    set("name", json!(lane.consumer));
    set("durable_name", json!(lane.consumer));
    set("description", json!(format!("lane {}", lane.name)));
    set("filter_subjects", json!(filters));
    set("metadata", json!({ STORE_ID: store.to_string() }));
    if let Some(ack_wait) = options.ack_wait_ns {
        set("ack_wait", json!(ack_wait));
    }
    let least = u64::from(lane.limits.slots).saturating_add(u64::from(lane.limits.parked));
    let most = wanted.get("max_ack_pending").and_then(Value::as_u64).unwrap_or(0).max(least);
    wanted.insert("max_ack_pending".to_owned(), json!(most));
    match broker.consumer_info(&stream, &lane.consumer).await {
        Ok(info) => Ok(existing_consumer(lane, &info, Value::Object(wanted), store, options, stream)),
        Err(ApiError::NotFound { .. }) => new_consumer(broker, lane, wanted, options, stream).await,
        Err(error) => Err(error),
    }
}

async fn new_consumer<W: Wire>(
    broker: &Broker<W>,
    lane: &Lane,
    mut wanted: Map<String, Value>,
    options: &Options,
    stream: String,
) -> Result<Step, ApiError> {
    let held = match broker.stream_info(&stream).await {
        Ok(info) => info.state.messages,
        Err(ApiError::NotFound { .. }) => 0,
        Err(error) => return Err(error),
    };
    let action = match (held, options.start) {
        (0, None) | (_, Some(Start::All)) => Action::Create,
        (_, Some(Start::New)) => {
            wanted.insert("deliver_policy".to_owned(), json!("new"));
            Action::Create
        }
        (_, Some(Start::At(sequence))) => {
            wanted.insert("deliver_policy".to_owned(), json!("by_start_sequence"));
            wanted.insert("opt_start_seq".to_owned(), json!(sequence));
            Action::Create
        }
        (held, None) => Action::Refuse(format!(
            "the stream holds {held} events and this consumer is new: say where it starts with --start all, \
             --start new or --start SEQUENCE"
        )),
    };
    let (name, config) = (lane.consumer.clone(), Value::Object(wanted));
    Ok(Step { kind: "consumer", name, action, differences: Vec::new(), config, stream })
}

fn existing_consumer(
    lane: &Lane,
    info: &crate::broker::ConsumerInfo,
    wanted: Value,
    store: StoreId,
    options: &Options,
    stream: String,
) -> Step {
    let is = &info.config;
    let theirs = info.metadata(STORE_ID).map(ToOwned::to_owned);
    let mut differences = differences(is, &wanted);
    // Where it started is history, and its metadata holds the broker's own entries as well.
    differences.retain(|d| {
        !["deliver_policy", "opt_start_seq", "metadata", "description", "filter_subjects"].contains(&d.key.as_str())
    });
    differences.retain(|d| d.key != "ack_wait" || !options.any_ack_wait);
    let adopt = theirs.as_deref() != Some(store.to_string().as_str());
    let mut filters = info.filters();
    filters.sort_unstable();
    let wanted_filters = wanted.get("filter_subjects").and_then(sorted).unwrap_or_default();
    let find = |key: &str| differences.iter().find(|d| d.key == key);
    let action = if adopt && !options.adopt && (theirs.is_some() || info.ack_floor.consumer_seq > 0) {
        Action::Refuse(format!(
            "it belongs to {}; give it to this store ({store}) with --adopt-store only after `acquit reconcile`",
            theirs
                .as_deref()
                .map_or_else(|| "no store and has acknowledged events".to_owned(), |t| format!("store {t}"))
        ))
    } else if filters != wanted_filters {
        Action::Refuse(
            "its filter would change in place, and held events of the old filter would go on being redelivered: drain \
             it, delete it and provision it again with an explicit --start"
                .to_owned(),
        )
    } else if let Some(wait) =
        find("ack_wait").filter(|d| d.is.as_u64() > d.wanted.as_u64() && info.num_ack_pending > 0)
    {
        Action::Refuse(format!(
            "ack_wait would be shortened from {} to {} ns while {} events are held, which redelivers them at once: \
             stop the workers first",
            wait.is, wait.wanted, info.num_ack_pending
        ))
    } else if let Some(fixed) =
        differences.iter().find(|d| !CHANGEABLE.contains(&d.key.as_str()) && d.key != "ack_wait")
    {
        Action::Refuse(format!("{} cannot be changed safely on a consumer that exists", fixed.key))
    } else if differences.is_empty() && !adopt {
        Action::Keep
    } else {
        Action::Update
    };
    let mut config = merged(is, &wanted);
    for key in ["deliver_policy", "opt_start_seq"] {
        if let (Some(config), Some(was)) = (config.as_object_mut(), is.get(key)) {
            config.insert(key.to_owned(), was.clone());
        } else if let Some(config) = config.as_object_mut() {
            config.remove(key);
        }
    }
    if let Some(config) = config.as_object_mut() {
        let mut metadata = is.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
        metadata.insert(STORE_ID.to_owned(), json!(store.to_string()));
        config.insert("metadata".to_owned(), Value::Object(metadata));
    }
    Step { kind: "consumer", name: lane.consumer.clone(), action, differences, config, stream }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(is: &Value, wanted: &Value) -> Vec<String> {
        differences(is, wanted).into_iter().map(|d| d.key).collect()
    }

    #[test]
    fn every_value_that_is_another_one_differs() {
        let is = json!({ "max_age": 1, "storage": "file", "deny_purge": false, "subjects": ["a", "b"] });
        let wanted = json!({ "max_age": 2, "storage": "memory", "deny_purge": true, "subjects": ["a", "c"] });
        assert_eq!(keys(&is, &wanted), ["deny_purge", "max_age", "storage", "subjects"]);
    }

    #[test]
    fn what_the_broker_leaves_out_and_the_order_of_subjects_do_not_differ() {
        let is = json!({ "max_age": 1, "subjects": ["b", "a"], "of_the_broker": 7 });
        let wanted = json!({ "max_age": 1, "subjects": ["a", "b"], "sealed": false, "max_msgs": -1 });
        assert_eq!(keys(&is, &wanted), [""; 0]);
        assert_eq!(keys(&json!({}), &json!({ "deny_purge": true })), ["deny_purge"]);
    }
}
