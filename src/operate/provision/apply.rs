//! Does what a plan says, step by step.

use serde_json::{Value, json};

use super::{Action, Plan};
use crate::broker::{ApiError, Broker, Wire};

/// Requests for one step, each with the API's own timeout.
const TRIES: u32 = 4;

/// Does what the plan says. Refused steps are left.
///
/// # Errors
/// At the first step the broker refuses; the steps before it are done, and running it again goes on.
pub async fn apply<W: Wire>(broker: &Broker<W>, plan: &Plan) -> Result<(), (String, ApiError)> {
    for step in &plan.steps {
        let action = match step.action {
            Action::Keep | Action::Refuse(_) => continue,
            Action::Create => "create",
            Action::Update => "update",
        };
        let (verb, body) = if step.kind == "stream" {
            (format!("STREAM.{}.{}", action.to_ascii_uppercase(), step.name), step.config.clone())
        } else {
            let body = json!({ "stream_name": step.stream, "config": step.config, "action": action });
            (format!("CONSUMER.CREATE.{}.{}", step.stream, step.name), body)
        };
        ask(broker, &verb, &body).await.map_err(|error| (format!("{} {}", step.kind, step.name), error))?;
    }
    Ok(())
}

/// Asks again where no answer came: a cluster that is electing leaders takes its time, and a second request for what
/// is there by now is answered like the first.
async fn ask<W: Wire>(broker: &Broker<W>, verb: &str, body: &Value) -> Result<Value, ApiError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match broker.api(verb, body).await {
            Err(ApiError::Wire { .. }) if tries < TRIES => {}
            other => return other,
        }
    }
}
