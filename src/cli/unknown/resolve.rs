//! `acquit unknown resolve`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::breaker::Workers;
use crate::cli::pause::By;
use crate::cli::run::start_store;
use crate::cli::setup::{connect_as, reader, sqlite_settings};
use crate::cli::{Exit, Failure, Global, Opened, load, open_store, out, print_json};
use crate::config::{Config, Place};
use crate::domain::{Code, PaymentId, RailRef};
use crate::operate::audit::UnknownEntry;
use crate::operate::unknown::{Answer, NotResolved, Order, Plan, Word, on_record, plan};
use crate::store::{OpenError, PaymentRecord, Resolved, Ruling, Sqlite};
use crate::telemetry::metrics::Process;

pub(super) const EXAMPLES: &str = "Examples:
  acquit unknown resolve PAY-1 --as settled --rail-ref R-77 --evidence 'statement 311, line 4' --who ops-1 --why INC-7
  acquit unknown resolve PAY-1 --as rejected --code AC04 --evidence 'mail 2026-11-23 of the bank' --who ops-1 --why INC-7
  acquit unknown resolve PAY-1 --as not-processed --evidence 'bank ticket 5521' --who ops-1 --why INC-7 --dry-run

What is said counts as the rail's answer to every attempt that has none, and cannot be taken back. Who, why and the
evidence are in the audit stream before anything is recorded: write no names or account numbers into them. The event
of the payment, which waits in the stream, then announces the outcome.

`not-processed` lets the event be sent again, always under the same key: while the rail remembers the key, it pays
once even if you are wrong. After that time nothing but your evidence keeps it from paying twice. `rejected` and
`not-processed` are not taken while an attempt may still take effect (the rail's longest_execution and deadline).

Refused, with exit 1, where the payment is final, where every attempt has an answer, and where the rail itself said
otherwise. Run again after a failure it goes on where it ended. A file store is written by the worker that runs on it
(over its operations HTTP), by this verb where none does; a PostgreSQL store by this verb.";

/// What a person may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum As {
    /// The rail settled it: --rail-ref
    Settled,
    /// The rail refused it for good: --code
    Rejected,
    /// The rail did not process it and will not: it may be sent again
    NotProcessed,
}

/// Flags of `unknown resolve`.
#[derive(Debug, Clone, Args)]
pub(super) struct ResolveArgs {
    /// The payment
    #[arg(value_name = "PAYMENT_ID", value_parser = PaymentId::parse)]
    payment_id: PaymentId,
    /// What became of it
    #[arg(long = "as", value_name = "WHAT", value_enum)]
    became: As,
    /// The rail's reference; with --as settled
    #[arg(long, value_name = "REF", value_parser = RailRef::parse)]
    rail_ref: Option<RailRef>,
    /// The rail's reason; with --as rejected
    #[arg(long, value_name = "CODE", value_parser = parse_code)]
    code: Option<Code>,
    /// What shows it: a ticket, a statement's line; kept in the audit stream
    #[arg(long, value_name = "TEXT")]
    evidence: String,
    #[command(flatten)]
    by: By,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Where the operations HTTP of the store's worker listens [default: ops.listen]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

fn parse_code(text: &str) -> Result<Code, String> {
    Code::parse(text).ok_or_else(|| "give a code that Acquit knows, as AC04 or MS03".to_owned())
}

/// Who writes to the store.
enum Writer {
    /// This process; it holds the store until it is done.
    Here(Box<Opened>),
    /// The worker at the one address.
    Worker(Workers),
}

pub(super) async fn run(global: &Global, args: ResolveArgs) -> Result<Exit, Failure> {
    let word = word(&args)?;
    let config = load(global)?;
    let store = |e| Failure::new(Exit::Unavailable, format!("store {}: {e}", config.store.shown()));
    let reader = reader(&config)?;
    let store_id = reader.facts().map_err(store)?.store_id.to_string();
    let broker = connect_as(&config, "unknown").await?;
    let record = reader.payment(&word.payment_id).map_err(store)?;
    let longest = longest(&config, record.as_ref());
    let newest = UnknownEntry::newest(&broker, &word.payment_id).await?;
    let (entry, newest, known) = match plan(&word, record.as_ref(), newest, &store_id, longest, Timestamp::now()) {
        Plan::Refused(why) => return Ok(refused(global, &word, &why)),
        Plan::Done { record } => return Ok(done(global, &word, record, None)),
        Plan::Record { entry, newest, record } => (entry, newest, record),
    };
    if args.dry_run {
        return Ok(would(global, &entry));
    }
    // Whoever cannot write is known before there is a record of what was then not done.
    let writer = writer(&config, args.url.as_ref(), &store_id).await?;
    let order = on_record(&broker, &word, &entry, newest, known, longest).await?;
    match written(&config, writer, &order).await {
        Ok(answer) => Ok(done(global, &word, order.record, answer.as_ref())),
        Err(NotWritten::Refused(why)) => {
            Ok(refused(global, &word, &format!("{why}; record {} stands in the audit stream", order.record)))
        }
        Err(NotWritten::Failed(failure)) => {
            let what = format!("{}; record {} stands, running it again is safe", failure.message, order.record);
            Err(Failure::new(failure.exit, what))
        }
    }
}

fn word(args: &ResolveArgs) -> Result<Word, Failure> {
    let usage = |what: &str| Failure::new(Exit::Usage, what);
    let ruling = match (args.became, &args.rail_ref, args.code) {
        (As::Settled, Some(reference), None) => Ruling::Settled(reference.clone()),
        (As::Settled, _, _) => return Err(usage("--as settled takes --rail-ref, and no --code")),
        (As::Rejected, None, Some(code)) => Ruling::Rejected(code),
        (As::Rejected, _, _) => return Err(usage("--as rejected takes --code, and no --rail-ref")),
        (As::NotProcessed, None, None) => Ruling::NotProcessed,
        (As::NotProcessed, _, _) => return Err(usage("--as not-processed takes neither --rail-ref nor --code")),
    };
    let mandate = args.by.mandate()?;
    Word::new(args.payment_id.clone(), ruling, &args.evidence, mandate)
        .map_err(|e| Failure::new(Exit::Usage, format!("--evidence: {e}")))
}

/// How long an attempt may take effect at its rail; the longest of all where the configuration does not name it.
fn longest(config: &Config, record: Option<&PaymentRecord>) -> Duration {
    let named = record.and_then(|record| record.attempts.last()).map(|attempt| attempt.rail.as_str());
    let of = |rail: &crate::rails::http::HttpSettings| rail.terms.longest_execution.saturating_add(rail.terms.deadline);
    let own = config.rails.iter().find(|rail| Some(rail.name.as_str()) == named);
    own.map(of).or_else(|| config.rails.iter().map(of).max()).unwrap_or_default()
}

/// A file store belongs to the worker that runs on it. Its lock says whether one does, and keeps one from starting
/// while this process writes.
async fn writer(config: &Config, url: Option<&String>, store_id: &str) -> Result<Writer, Failure> {
    if url.is_none() {
        match &config.store.place {
            Place::Postgres { .. } => return Ok(Writer::Here(Box::new(open_store(config).await?))),
            Place::File(path) => match Sqlite::open(sqlite_settings(config, path, false)) {
                Ok(store) => return Ok(Writer::Here(Box::new(Opened::Sqlite(store)))),
                Err(OpenError::AlreadyRunning { .. }) => {}
                Err(error) => return Err(error.into()),
            },
        }
    }
    let urls: Vec<String> = url.cloned().into_iter().collect();
    let workers = Workers::of(config, &urls)?;
    for url in &workers.urls {
        let status = workers.status(url).await?;
        if status.get("store_id").and_then(Value::as_str) != Some(store_id) {
            let what = format!("the worker at {url} has another store than this configuration; check --url");
            return Err(Failure::new(Exit::Unavailable, what));
        }
    }
    Ok(Writer::Worker(workers))
}

/// Why the store has not got it.
enum NotWritten {
    Refused(String),
    Failed(Failure),
}

/// Has it written; what a worker answered comes back.
async fn written(config: &Config, writer: Writer, order: &Order) -> Result<Option<Answer>, NotWritten> {
    match writer {
        Writer::Here(backend) => here(config, *backend, order).await.map(|()| None),
        Writer::Worker(workers) => {
            let url = workers.urls.first().map_or("", String::as_str);
            workers.post(url, "unknown/resolve", order).await.map(Some).map_err(|failure| match failure.exit {
                Exit::Found => NotWritten::Refused(failure.message),
                Exit::Done
                | Exit::Usage
                | Exit::Config
                | Exit::Data
                | Exit::Unavailable
                | Exit::Bug
                | Exit::HandedBack
                | Exit::Denied => NotWritten::Failed(failure),
            })
        }
    }
}

async fn here(config: &Config, backend: Opened, order: &Order) -> Result<(), NotWritten> {
    let resolution = order.resolution().map_err(|why| NotWritten::Failed(Failure::new(Exit::Bug, why)))?;
    let name = format!("{}-unknown", config.broker.name);
    let store = start_store(config, backend, &name, None, Process::new().into()).map_err(NotWritten::Failed)?;
    let end = store.resolve(resolution).await;
    store.stop().await;
    match end.map_err(NotResolved::from) {
        Ok(Resolved::Recorded | Resolved::Stood) => Ok(()),
        Err(NotResolved::Refused(why)) => Err(NotWritten::Refused(why)),
        Err(NotResolved::Lost(lost)) => {
            Err(NotWritten::Failed(Failure::new(Exit::Unavailable, format!("the store: {lost}"))))
        }
    }
}

fn refused(global: &Global, word: &Word, why: &str) -> Exit {
    let id = &word.payment_id;
    if global.json {
        print_json(&json!({ "payment_id": id, "resolved": false, "why": why }));
    } else {
        out(&format!("{id}: not resolved: {why}"));
    }
    Exit::Found
}

fn would(global: &Global, entry: &UnknownEntry) -> Exit {
    let UnknownEntry { payment_id, resolved_as, rail, keys, last_attempt, .. } = entry;
    if global.json {
        print_json(&json!({ "payment_id": payment_id, "resolved": false, "would_record": entry }));
    } else {
        let keys = keys.join(", ");
        out(&format!(
            "{payment_id}: would be recorded as {resolved_as}, up to attempt {last_attempt}, rail {rail}, key {keys}"
        ));
    }
    Exit::Done
}

fn done(global: &Global, word: &Word, record: u64, answer: Option<&Answer>) -> Exit {
    let (id, became) = (&word.payment_id, word.ruling.word());
    let worker = answer.map(|answer| answer.worker.as_str());
    if global.json {
        print_json(&json!({ "payment_id": id, "resolved": true, "as": became, "record": record, "worker": worker }));
    } else {
        let by = worker.map(|worker| format!(", written by {worker}")).unwrap_or_default();
        out(&format!("{id}: resolved as {became} (record {record}{by}); its event announces what stands"));
    }
    Exit::Done
}
