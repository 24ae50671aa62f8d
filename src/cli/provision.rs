//! `acquit provision`.

use std::time::Duration;

use clap::Args;

use super::{Connected, Exit, Failure, Global, connect, out, print_json, sqlite_settings};
use crate::config::{Config, Place};
use crate::domain::StoreId;
use crate::operate::provision::{Action, Options, Plan, Start, apply, plan};
use crate::store::{OpenError, Postgres, PostgresError, Reader, Sqlite, migrate};

pub(super) const EXAMPLES: &str = "Examples:
  acquit provision --dry-run            show what would be done
  acquit provision --replicas 1         one server, for trying things
  acquit provision --start all          a new consumer on a stream that holds events starts at the first

Makes the store as well, where there is none. Running it again changes nothing.";

/// Flags of `provision`.
#[derive(Debug, Clone, Args)]
pub struct ProvisionArgs {
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Copies of each stream: 1, 3 or 5 [default: as in nats/streams, 3]
    #[arg(long, value_name = "N", value_parser = parse_replicas)]
    replicas: Option<u8>,
    /// Where a new consumer starts on a stream that holds events: all, new, or a sequence
    #[arg(long, value_name = "WHERE", value_parser = parse_start)]
    start: Option<Start>,
    /// The consumers' ack_wait, as in 30s or 500ms [default: as in nats/consumers, 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    ack_wait: Option<Duration>,
    /// Give a consumer that names another store to this one; only after `acquit reconcile`
    #[arg(long)]
    adopt_store: bool,
}

fn parse_replicas(text: &str) -> Result<u8, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("give 1, 3 or 5".to_owned()),
    }
}

fn parse_start(text: &str) -> Result<Start, String> {
    match text {
        "all" => Ok(Start::All),
        "new" => Ok(Start::New),
        number => number.parse().map(Start::At).map_err(|_| "give all, new, or a stream sequence".to_owned()),
    }
}

/// A time such as `30s` or `1m30s`.
pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|_| "give a time such as 500ms, 30s or 1m30s".to_owned())?;
    Duration::try_from(span).map_err(|_| "give a time above zero".to_owned())
}

pub(super) async fn run(global: &Global, args: ProvisionArgs) -> Result<Exit, Failure> {
    let Connected { config, broker } = connect(global, "provision").await?;
    let store_id = store_id(&config, args.dry_run).await?;
    let options = Options {
        replicas: args.replicas,
        ack_wait_ns: args.ack_wait.map(|wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)),
        any_ack_wait: false,
        start: args.start,
        adopt: args.adopt_store,
    };
    let plan = plan(&broker, &config.lanes, store_id, &options).await?;
    if global.json {
        print_json(&plan);
    } else {
        show(&plan);
    }
    if plan.refused().next().is_some() {
        return Ok(Exit::Found);
    }
    if !args.dry_run {
        apply(&broker, &plan).await.map_err(|(what, error)| {
            let Failure { exit, message } = error.into();
            Failure::new(exit, format!("{what}: {message}"))
        })?;
    }
    Ok(Exit::Done)
}

/// The store's identity; the store is made where there is none, and brought to this version. A dry run makes none: any
/// identity differs from every consumer's.
async fn store_id(config: &Config, dry_run: bool) -> Result<StoreId, Failure> {
    let path = match &config.store.place {
        Place::File(path) => path,
        Place::Postgres { settings, .. } if dry_run => {
            return match Postgres::open(settings.clone()).await {
                Ok(store) => Ok(store.store_id()),
                Err(PostgresError::Missing { .. }) => Ok(StoreId::from_random(rand::random())),
                Err(error) => Err(error.into()),
            };
        }
        Place::Postgres { settings, .. } => return Ok(migrate(settings, rand::random()).await?.store_id),
    };
    if dry_run && !path.exists() {
        return Ok(StoreId::from_random(rand::random()));
    }
    match Sqlite::open(sqlite_settings(config, path, true)) {
        Ok(sqlite) => Ok(sqlite.store_id()),
        // A worker that runs has it open: then it is only read.
        Err(OpenError::AlreadyRunning { .. }) => Ok(Reader::open(path, Duration::from_secs(2))?.facts()?.store_id),
        Err(error) => Err(error.into()),
    }
}

fn show(plan: &Plan) {
    for step in &plan.steps {
        let what = match &step.action {
            Action::Keep => "as it should be".to_owned(),
            Action::Create => "create".to_owned(),
            Action::Update => "update".to_owned(),
            Action::Refuse(why) => format!("REFUSED: {why}"),
        };
        out(&format!("{:8} {:24} {what}", step.kind, step.name));
        for d in &step.differences {
            out(&format!("           {} is {}, should be {}", d.key, d.is, d.wanted));
        }
    }
}
