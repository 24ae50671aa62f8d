//! `acquit demo`: a real nats-server in a temporary folder, provisioned from `nats/`, the same worker as `acquit run`,
//! an outage of settlement in the middle, and a report that accounts for everything published. With `--rail http`
//! payments are settled by a stand-in service that loses replies, and its ledger is compared with the outcomes.

mod account;
mod service;
mod watch;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use tokio::sync::oneshot;

use super::load::{Generator, GeneratorSettings};
use super::report::report;
use super::stage::Stage;
use super::{print, view::View};
use crate::cli::{Exit, Failure, Global, engine, print_json};
use crate::operate::publish::{PublishOptions, Published, publish};
use crate::telemetry;
use watch::Watcher;

pub(super) const EXAMPLES: &str = "Examples:
  acquit demo                                   50,000 payments, settlement down for 3 s in the middle
  acquit demo --payments 200000 --outage 0
  acquit demo --rail http                       5,000 payments over HTTP: replies lost, errors, stored errors
  acquit demo --file tests/data/payments-sample.jsonl --json

Exit 0 only when everything published is accounted for. Needs nats-server: $ACQUIT_NATS_SERVER, one on PATH, or Python
with pip, which fetches it once.";

/// Flags of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Payments to publish; about 5 % are broken, repeated, in conflict or unreadable [default: 50000; http: 5000]
    #[arg(long, value_name = "N")]
    payments: Option<u64>,
    /// Where payments are settled
    #[arg(long, value_enum, default_value_t = RailKind::Book)]
    rail: RailKind,
    /// Publish the lines of this file instead
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Seconds for which settlement is down in the middle; 0 for none
    #[arg(long, value_name = "SECS", default_value_t = 3)]
    outage: u64,
    /// Events held at once [default: 512; http: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    in_flight: Option<u16>,
}

/// Where the demo settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RailKind {
    /// The double-entry book in the store
    Book,
    /// A stand-in payment service on this machine, with faults
    Http,
}

impl RailKind {
    fn payments(self) -> u64 {
        match self {
            Self::Book => 50_000,
            Self::Http => 5_000,
        }
    }

    /// The stand-in has each payment on disk before it replies: more at once would only wait for it.
    fn in_flight(self) -> u16 {
        match self {
            Self::Book => 512,
            Self::Http => 64,
        }
    }
}

/// How long nothing may happen before the demo gives up and reports what is held.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(global: &Global, args: DemoArgs) -> Result<Exit, Failure> {
    let bodies = bodies(&args)?;
    let total = u64::try_from(bodies.len()).unwrap_or(u64::MAX);
    let metrics = telemetry::record_metrics().map_err(|e| Failure::new(Exit::Bug, e.to_string()))?;
    let mut view = View::new(std::io::stderr().is_terminal());
    let in_flight = args.in_flight.unwrap_or(args.rail.in_flight());
    let stage = match args.rail {
        RailKind::Book => Stage::set("demo", in_flight, 0, None).await?,
        RailKind::Http => Stage::over_rail("demo", in_flight, service::script()?).await?,
    };
    view.note(&format!("nats-server {} in {}", stage.broker_version(), stage.dir().display()));
    let engine = engine(&stage.config, Some(metrics)).await?;
    let status = engine.status();
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn(engine.run(async move { drop(stopped.await) }));
    let began = Instant::now();
    let publisher = tokio::spawn(publish_all(stage.publisher.clone(), stage.options()?, bodies));
    let mut watcher = Watcher::new(status.clone(), stage.store_path(), total, u64::from(in_flight));
    watcher.settled_by(stage.bank.clone());
    let outage = Duration::from_secs(args.outage);
    let published = watcher.follow(&mut view, publisher, outage, PATIENCE).await?;
    let elapsed = began.elapsed();
    // An error means that the worker has ended already; joining it says so.
    stop.send(()).ok();
    let _drained = worker.await.map_err(|e| Failure::new(Exit::Bug, format!("the worker ended early: {e}")))?;
    let mut found = account::report(&stage, &published, status.lanes().first()).await?;
    found.elapsed_s = elapsed.as_secs_f64();
    found.settled_per_s = watcher.settled_per_s();
    if let Some(bank) = &stage.bank {
        let told = service::compare(bank, &stage.store_path())?;
        found.conserved &= told.agrees;
        // The object has no place for them.
        if global.json {
            told.differences.iter().for_each(|line| view.note(line));
        }
        found.rail = Some(told);
    }
    let exit = if found.conserved { Exit::Done } else { Exit::Found };
    view.finish(if found.conserved {
        "everything published is accounted for"
    } else {
        "NOT everything is accounted for"
    });
    if global.json {
        print_json(&found);
    } else {
        print::data(&report(&found)).map_err(|e| Failure::new(Exit::Unavailable, format!("stdout: {e}")))?;
    }
    drop(watcher);
    stage.strike().await;
    Ok(exit)
}

fn bodies(args: &DemoArgs) -> Result<Vec<Bytes>, Failure> {
    let Some(file) = &args.file else {
        let count = args.payments.unwrap_or(args.rail.payments());
        let settings = GeneratorSettings { at: Some(jiff::Timestamp::now()), ..GeneratorSettings::new(count) };
        return Ok(Generator::new(settings).map(|generated| generated.body).collect());
    };
    let text = std::fs::read(file).map_err(|e| Failure::new(Exit::Data, format!("--file {}: {e}", file.display())))?;
    let text = Bytes::from(text);
    let lines = text.strip_suffix(b"\n").unwrap_or(&text).split(|byte| *byte == b'\n');
    Ok(lines.map(|line| text.slice_ref(line)).collect())
}

async fn publish_all(
    broker: crate::broker::Broker<crate::broker::Nats>,
    options: PublishOptions,
    bodies: Vec<Bytes>,
) -> Result<Published, Failure> {
    let lines = crate::operate::publish::from_memory(bodies);
    let published = publish(&broker, lines, &options, |_| {}).await;
    let mut published = published.map_err(|e| Failure::new(Exit::Unavailable, e.to_string()))?;
    // A line whose PubAck came too late is tried again and then answered as its own repeat. The stream was made for
    // this demo and says how many it took; where it has fewer than were confirmed, the account has to show it.
    let taken = broker.stream_info(broker.streams().payments.as_str()).await?.state.last_seq;
    let own = taken.saturating_sub(published.published);
    published.published = published.published.saturating_add(own);
    published.duplicates = published.duplicates.saturating_sub(own);
    Ok(published)
}
