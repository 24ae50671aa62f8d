//! `acquit status`.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::{Exit, Failure, Global, load, out, print_json};
use crate::rails::http::plain_client;

pub(super) const EXAMPLES: &str = "Examples:
  acquit status                          the worker at ops.listen of this configuration
  acquit status --at 127.0.0.1:9465      another one
  acquit status --json | jq '.lanes[0].gate'";

/// Flags of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Where the worker's operations HTTP listens [default: ops.listen]
    #[arg(long, value_name = "ADDRESS")]
    at: Option<String>,
}

pub(super) async fn run(global: &Global, args: StatusArgs) -> Result<Exit, Failure> {
    let at = match args.at {
        Some(at) => at,
        None => load(global)?.ops.listen.to_string(),
    };
    let unreachable = |e: reqwest::Error| {
        Failure::new(Exit::Unavailable, format!("no worker answers at {at}: {e}; check --at or ops.listen"))
    };
    let client = plain_client(Duration::from_secs(5)).map_err(|e| Failure::new(Exit::Bug, e.to_string()))?;
    let answer = client.get(format!("http://{at}/status")).send().await.map_err(unreachable)?;
    let status: Value = answer.json().await.map_err(unreachable)?;
    if global.json {
        print_json(&status);
    } else {
        show(&status);
    }
    let ready = status.get("ready").and_then(Value::as_bool).unwrap_or(false);
    Ok(if ready { Exit::Done } else { Exit::Found })
}

fn show(status: &Value) {
    let text = |value: &Value, key: &str| match value.get(key) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    out(&format!("{}  version {}  store {}", text(status, "worker"), text(status, "version"), text(status, "store")));
    let some = |of: &&Value, key: &str| of.get(key).is_some_and(|n| *n != 0);
    if let Some(unknown) = status.get("unknown").filter(|unknown| some(unknown, "count")) {
        out(&format!("in doubt: {} payments, the oldest since {}", text(unknown, "count"), text(unknown, "oldest")));
    }
    if let Some(unknown) = status.get("unknown").filter(|unknown| some(unknown, "in_progress")) {
        let (count, oldest) = (text(unknown, "in_progress"), text(unknown, "in_progress_oldest"));
        out(&format!("in progress at their rail: {count} payments, the oldest since {oldest}"));
    }
    for lane in status.get("lanes").and_then(Value::as_array).into_iter().flatten() {
        out(&format!(
            "lane {}: gate {} ({}), in flight {}/{}, parked {}/{}, pending {}, settlement breaker {}",
            text(lane, "lane"),
            text(lane, "gate"),
            text(lane, "gate_reason"),
            text(lane, "in_flight"),
            text(lane, "slots"),
            text(lane, "parked"),
            text(lane, "parked_limit"),
            text(lane, "pending"),
            lane.get("breakers").map_or_else(String::new, |b| text(b, "settlement")),
        ));
        out(&format!(
            "  settled {}, rejected {}, duplicates {}, dead-lettered {}, handed back {}, abandoned {}",
            text(lane, "settled"),
            text(lane, "rejected"),
            text(lane, "duplicates"),
            text(lane, "dead_lettered"),
            text(lane, "handed_back"),
            text(lane, "abandoned"),
        ));
        if let Some(second) = lane.get("fallback") {
            let use_of = if second.get("in_use") == Some(&Value::Bool(true)) { "takes new payments" } else { "waits" };
            let (rail, breaker) = (text(second, "rail"), text(second, "breaker"));
            out(&format!("  second rail {rail} {use_of}, its breaker {breaker}"));
        }
        let number = |key| lane.get(key).and_then(Value::as_u64);
        if number("in_flight_limit") < number("slots") {
            out(&format!("  the rail bears {} at once now", text(lane, "in_flight_limit")));
        }
        if lane.get("tracker_limit").and_then(Value::as_u64).is_some_and(|limit| limit > 0) {
            let (tracked, limit) = (text(lane, "tracker"), text(lane, "tracker_limit"));
            out(&format!("  tracked {tracked}/{limit}, by this worker so far {}", text(lane, "tracked")));
        }
        if let Some(until) = lane.get("paused_until").and_then(Value::as_str) {
            out(&format!("  paused by an operator until {until}"));
        }
        if let Some(hold) = lane.get("breaker_forced").filter(|hold| !hold.is_null()) {
            out(&format!("  settlement breaker {} by {}: {}", text(hold, "to"), text(hold, "who"), text(hold, "why")));
        }
        if lane.get("ready") != Some(&Value::Bool(true)) {
            out(&format!("  NOT READY: {}", text(lane, "trouble")));
        }
    }
    for shortfall in status.get("durability_shortfalls").and_then(Value::as_array).into_iter().flatten() {
        out(&format!("durability: {}", shortfall.as_str().unwrap_or_default()));
    }
}
