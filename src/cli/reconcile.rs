//! `acquit reconcile`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::progress::Progress;
use super::{Connected, Exit, Failure, Global, connect, out, print_json, setup};
use crate::operate::reconcile::{Progress as Step, ReconcileOptions, Reconciliation, reconcile};

pub(super) const EXAMPLES: &str = "Examples:
  acquit reconcile                            read everything; exit 1 where something differs
  acquit reconcile --state reconcile.sqlite   keep what was read: the next run reads only what is new
  acquit reconcile --json | jq '.differences[].payment_id'

Safe beside running workers: what is not acknowledged yet is held, not missing.";

/// Flags of `reconcile`.
#[derive(Debug, Clone, Args)]
pub struct ReconcileArgs {
    /// Keeps what was read, so that the next run reads only what is new
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
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
    let options = ReconcileOptions { state_file: args.state, consumers, most: args.most };
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

fn line(Step { what, done, of }: &Step) -> String {
    match (done, of) {
        (0, 0) => what.clone(),
        (done, 0) => format!("{what}: {done}"),
        (done, of) => format!("{what}: {done} of {of}"),
    }
}
