//! `acquit reconcile`.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::progress::Progress;
use super::{Connected, Exit, Failure, Global, connect, out, print_json, setup};
use crate::config::Config;
use crate::operate::reconcile::{Progress as Step, RailLedger, ReconcileOptions, Reconciliation, reconcile};

pub(super) const EXAMPLES: &str = "Examples:
  acquit reconcile                            read everything; exit 1 where something differs
  acquit reconcile --state reconcile.sqlite   keep what was read: the next run reads only what is new
  acquit reconcile --json | jq '.differences[].payment_id'
  acquit reconcile --rail-ledger bank=bank.jsonl
                                              against the rail's own ledger too: one JSON object a line, one line for
                                              each time money moved, with payment_id or key (the idempotency key),
                                              currency, value and, where there is one, reference

Safe beside running workers: what is not acknowledged yet is held, not missing.";

/// Flags of `reconcile`.
#[derive(Debug, Clone, Args)]
pub struct ReconcileArgs {
    /// Keeps what was read, so that the next run reads only what is new
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The ledger of a rail, exported as JSON lines; may be repeated
    #[arg(long = "rail-ledger", value_name = "RAIL=FILE", value_parser = rail_ledger)]
    rails: Vec<(String, PathBuf)>,
    /// Payments settled after this instant may be missing from the ledgers [default: when each file was written]
    #[arg(long, value_name = "RFC3339", requires = "rails")]
    rail_ledger_until: Option<Timestamp>,
    /// Differences to name; all are counted
    #[arg(long, value_name = "N", default_value_t = 100)]
    most: usize,
}

#[derive(Serialize)]
struct Report<'a> {
    /// Nothing differs.
    clean: bool,
    #[serde(flatten)]
    found: &'a Reconciliation,
}

pub(super) async fn run(global: &Global, args: ReconcileArgs) -> Result<Exit, Failure> {
    let Connected { config, broker } = connect(global, "reconcile").await?;
    let store = setup::reader(&config)?;
    let consumers = setup::consumers(&config);
    let rails = rail_ledgers(&config, args.rails, args.rail_ledger_until)?;
    let options = ReconcileOptions { state_file: args.state, consumers, rails, most: args.most };
    let mut progress = Progress::new(global);
    let found = reconcile(&broker, &store, &options, |step| progress.show(|| line(step))).await;
    progress.end();
    let found = found?;
    if global.json {
        print_json(&Report { clean: found.clean(), found: &found });
    } else {
        out(found.to_string().trim_end());
    }
    Ok(if found.clean() { Exit::Done } else { Exit::Found })
}

fn rail_ledger(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((rail, file)) if !rail.is_empty() && !file.is_empty() => Ok((rail.to_owned(), PathBuf::from(file))),
        Some(_) | None => Err("write RAIL=FILE, with the rail's name in the configuration".to_owned()),
    }
}

fn rail_ledgers(
    config: &Config,
    files: Vec<(String, PathBuf)>,
    until: Option<Timestamp>,
) -> Result<Vec<RailLedger>, Failure> {
    let mut ledgers: Vec<RailLedger> = Vec::with_capacity(files.len());
    for (rail, file) in files {
        if !config.rails.iter().any(|known| known.name == rail) {
            let known = config.rails.iter().map(|known| known.name.as_str()).collect::<Vec<_>>().join(", ");
            let what = format!("--rail-ledger {rail}: no [[rail]] of the configuration has this name; known: {known}");
            return Err(Failure::new(Exit::Usage, what));
        }
        if ledgers.iter().any(|ledger| ledger.rail == rail) {
            return Err(Failure::new(
                Exit::Usage,
                format!("--rail-ledger {rail}: given twice; put the files together"),
            ));
        }
        let written = || std::fs::metadata(&file).and_then(|meta| meta.modified()).map_err(|e| e.to_string());
        let written = || written().and_then(|at| Timestamp::try_from(at).map_err(|e| e.to_string()));
        let until = match until {
            Some(until) => until,
            None => written().map_err(|e| Failure::new(Exit::Data, format!("{}: {e}", file.display())))?,
        };
        ledgers.push(RailLedger { rail, file, until });
    }
    Ok(ledgers)
}

fn line(Step { what, done, of }: &Step) -> String {
    match (done, of) {
        (0, 0) => what.clone(),
        (done, 0) => format!("{what}: {done}"),
        (done, of) => format!("{what}: {done} of {of}"),
    }
}
