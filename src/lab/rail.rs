//! `acquit rail`: a stand-in payment service over HTTP, durable, with faults by script and a ledger of what really
//! happened. For demos and tests; it moves no money.

pub mod ledger;
pub mod script;
mod server;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::print;
use crate::cli::{Exit, Failure, Global};
use ledger::Ledger;
use script::Script;

pub use server::{Inquiries, ScriptedRail};

pub(super) const EXAMPLES: &str = "Examples:
  acquit rail --ledger rail.db                                 settles everything at once; prints its address
  acquit rail --ledger rail.db --script faults.toml --listen 127.0.0.1:8080

A script (TOML, or JSON where the file's name ends so):
  seed = 7                     the same seed and key give the same behaviour
  latency = [\"5ms\", \"50ms\"]    before each reply, evenly between the two
  slows = { to = [\"1s\", \"1s\"], within = \"1m\" }      grows evenly to that
  capacity = 16                POSTs that are worked on at once; the others wait
  idempotent = false           pays again at each POST with a key [default: true]
  token_file = \"token\"         401 without this bearer token; read anew at each request
  [[behaviour]]                the first that applies is taken
  kind = \"lose_reply\"          process, then close the connection. Others: error, too_many, deny, hang, reset
                               (before processing); stored_error, hang_after, wrong_body (after it);
                               in_progress, reject; lie, inquiry_error (on GET)
  share = 0.05                 of the keys; times = 1: of the requests with that key, the first
  from = \"10s\"                 since the start; until = \"30s\"
  status = 500                 of error, stored_error, inquiry_error; retry_after = 2: seconds, of too_many
  after = \"3s\"                 in_progress settles then; code = \"AC04\": of reject

POST /payments with Idempotency-Key, GET /payments/<key>, GET /ledger. What really happened, for reconcile:
  acquit rail --ledger rail.db --export > bank.jsonl && acquit reconcile --rail-ledger bank=bank.jsonl";

/// Flags of `rail`.
#[derive(Debug, Clone, Args)]
pub struct RailArgs {
    /// How it behaves; without it everything settles at once
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What really happened, an SQLite file; kept over restarts
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
    /// Print every effect in the ledger as a line of JSON, as `reconcile --rail-ledger` reads it, and serve nothing
    #[arg(long)]
    export: bool,
}

pub(super) async fn run(global: &Global, args: RailArgs) -> Result<Exit, Failure> {
    let script = match &args.script {
        Some(path) => Script::read(path).map_err(|e| Failure::new(Exit::Data, format!("{}: {e}", path.display())))?,
        None => Script::default(),
    };
    let unusable = |e: &dyn std::fmt::Display, what: String| Failure::new(Exit::Unavailable, format!("{what}: {e}"));
    let ledger = Ledger::open(&args.ledger).map_err(|e| unusable(&e, args.ledger.display().to_string()))?;
    if args.export {
        return export(&ledger).map(|()| Exit::Done);
    }
    let mut term = signal(SignalKind::terminate()).map_err(|e| unusable(&e, "signals".to_owned()))?;
    let rail = ScriptedRail::start(args.listen, script, ledger).map_err(|e| unusable(&e, args.listen.to_string()))?;
    let address = rail.address().to_string();
    say(&if global.json { json!({ "address": address }).to_string() } else { address })?;
    tokio::select! { _ = tokio::signal::ctrl_c() => {} _ = term.recv() => {} }
    let sums = rail.sums().map_err(|e| unusable(&e, args.ledger.display().to_string()))?;
    rail.stop().await;
    say(&if global.json { json!(sums).to_string() } else { sums.to_string() })?;
    Ok(Exit::Done)
}

fn export(ledger: &Ledger) -> Result<(), Failure> {
    let failed = |e: rusqlite::Error| Failure::new(Exit::Unavailable, format!("the ledger cannot be read: {e}"));
    ledger.each_effect(say).map_err(failed)?
}

fn say(line: &str) -> Result<(), Failure> {
    print::data(&format!("{line}\n")).map_err(|e| Failure::new(Exit::Unavailable, format!("stdout: {e}")))
}
