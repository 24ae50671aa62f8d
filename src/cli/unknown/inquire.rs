//! `acquit unknown inquire`.

use std::collections::BTreeSet;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::cli::setup::reader;
use crate::cli::{Exit, Failure, Global, load, out, print_json};
use crate::config::Config;
use crate::domain::{Answer, Finding, PaymentId, RailKey};
use crate::rails::http::Http;
use crate::store::PaymentRecord;

pub(super) const EXAMPLES: &str = "Examples:
  acquit unknown inquire PAY-1
  acquit unknown inquire PAY-1 --json | jq '.answers[].says'

Asks the rail of the configuration as the worker does, under the keys of the attempts that have no answer (of the last
one, where all have theirs). It writes nothing to the store: the worker that has the payment's event asks by itself
and records what it hears. A \"not found\" alone is no proof that nothing was processed. Exit 69 where the rail says
nothing.";

/// Flags of `unknown inquire`.
#[derive(Debug, Clone, Args)]
pub(super) struct InquireArgs {
    /// The payment
    #[arg(value_name = "PAYMENT_ID", value_parser = PaymentId::parse)]
    payment_id: PaymentId,
}

/// What a rail says under one key.
#[derive(Debug, Serialize)]
struct Said {
    rail: String,
    leg: u8,
    key: String,
    says: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rail_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

pub(super) async fn run(global: &Global, args: &InquireArgs) -> Result<Exit, Failure> {
    let config = load(global)?;
    let id = &args.payment_id;
    let store = |e| Failure::new(Exit::Unavailable, format!("store {}: {e}", config.store.shown()));
    let asked = match reader(&config)?.payment(id).map_err(store)? {
        Some(record) => asked(&record),
        None => BTreeSet::new(),
    };
    if asked.is_empty() {
        return Err(Failure::new(Exit::Found, format!("{id}: the store knows of no attempt over a rail")));
    }
    let mut answers = Vec::new();
    for (rail, leg) in asked {
        answers.push(ask(&config, id, rail, leg).await?);
    }
    let silent = answers.iter().all(|said| said.says == CANNOT_SAY);
    if global.json {
        print_json(&json!({ "payment_id": id, "answers": answers }));
    } else {
        answers.iter().for_each(|said| out(&line(id, said)));
    }
    Ok(if silent { Exit::Unavailable } else { Exit::Done })
}

/// Rail and leg of each key to ask about.
fn asked(record: &PaymentRecord) -> BTreeSet<(String, u8)> {
    let open = record.attempts.iter().filter(|attempt| attempt.ended.is_none());
    let open: BTreeSet<_> = open.map(|attempt| (attempt.rail.clone(), attempt.leg)).collect();
    if open.is_empty() {
        record.attempts.last().map(|last| (last.rail.clone(), last.leg)).into_iter().collect()
    } else {
        open
    }
}

async fn ask(config: &Config, id: &PaymentId, rail: String, leg: u8) -> Result<Said, Failure> {
    let Some(settings) = config.rails.iter().find(|settings| settings.name == rail) else {
        return Err(Failure::new(
            Exit::Config,
            format!("the configuration has no [[rail]] {rail}, which {id} was given to"),
        ));
    };
    let failed = |e| Failure::new(Exit::Config, format!("rail {rail}: {e}; check its files"));
    let http = Http::new(settings.clone()).await.map_err(failed)?;
    let key = RailKey::of(id, leg);
    let finding = http.look(&key).await;
    let (says, rail_ref, code) = words(&finding);
    Ok(Said { rail, leg, key: key.as_str().to_owned(), says, rail_ref, code })
}

const CANNOT_SAY: &str = "nothing";

fn words(finding: &Finding) -> (&'static str, Option<String>, Option<&'static str>) {
    match finding {
        Finding::Answered(Answer::Settled(reference)) => ("settled", Some(reference.as_str().to_owned()), None),
        Finding::Answered(Answer::InProgress) => ("in progress", None, None),
        Finding::Answered(Answer::Rejected { code, resubmit: false }) => ("rejected", None, Some(code.as_str())),
        Finding::Answered(Answer::Rejected { code, resubmit: true }) => {
            ("rejected, may be sent again", None, Some(code.as_str()))
        }
        Finding::Answered(Answer::Blocked) => ("blocked: a person decides", None, None),
        Finding::NotFound => ("not found", None, None),
        Finding::Answered(Answer::NotSent(_) | Answer::Unknown) | Finding::CannotSay => (CANNOT_SAY, None, None),
    }
}

fn line(id: &PaymentId, said: &Said) -> String {
    let Said { rail, leg, key, says, rail_ref, code } = said;
    let reference = rail_ref.as_ref().map(|reference| format!(", reference {reference}")).unwrap_or_default();
    let code = code.map(|code| format!(", code {code}")).unwrap_or_default();
    format!("{id}: rail {rail} says of key {key} (leg {leg}): {says}{reference}{code}")
}
