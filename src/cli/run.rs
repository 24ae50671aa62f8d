//! `acquit run`.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::opened::{Opened, open_store, store_guard};
use super::{Exit, Failure, Global, load, note, setup};
use crate::broker::{Broker, Nats};
use crate::config::{BookSettings, Config, LogFormat, Place};
use crate::operate::check::shortfalls;
use crate::ops::{About, Ops};
use crate::store::{BookPolicy, Store, Unknown, WriterLimits};
use crate::telemetry::metrics::Process;
use crate::telemetry::{self, Exposition, Life};
use crate::worker::{Drained, StatusHandle, Worker};

pub(super) const EXAMPLES: &str = "Examples:
  acquit run                                      with ./acquit.toml, or the defaults
  acquit run --config /etc/acquit/acquit.toml
  acquit run --set lane.payments.slots=64

Ends on SIGTERM or SIGINT: pulls stop, what is in hand is finished within the lane's grace time, the rest is handed
back (exit 75). A second signal ends it at once.";

/// A claim's length: far above any call of the book, and for a rail far above its deadline.
const CLAIM: Duration = Duration::from_secs(60);

/// Flags of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {}

/// A worker that is ready to run, with everything it needs.
pub struct Engine {
    worker: Worker,
    store: Store,
    ops: Ops,
    process: Arc<Process>,
    broker: Broker<Nats>,
    log: Option<PathBuf>,
    metrics: Option<Exposition>,
}

pub(super) async fn run(global: &Global, _args: RunArgs) -> Result<Exit, Failure> {
    let config = load(global)?;
    let format = match config.log.format {
        LogFormat::Text => telemetry::LogFormat::Text,
        LogFormat::Json => telemetry::LogFormat::Json,
    };
    let usage = |e: telemetry::SetUpError| Failure::new(Exit::Config, e.to_string());
    telemetry::log_to_stderr(format, &config.log.level).map_err(usage)?;
    let metrics = telemetry::record_metrics().map_err(usage)?;
    let engine = engine(&config, Some(metrics)).await?;
    let drained = engine.run(signals()?).await;
    Ok(exit_of(drained))
}

fn exit_of(drained: Drained) -> Exit {
    if drained.cut_off > 0 || drained.returned_at_stop > 0 { Exit::HandedBack } else { Exit::Done }
}

/// Opens the store, connects, and starts the operations HTTP. Nothing is pulled yet.
///
/// # Errors
/// What is missing and what to do about it.
pub async fn engine(config: &Config, metrics: Option<Exposition>) -> Result<Engine, Failure> {
    let backend = open_store(config).await?;
    let store_id = backend.store_id();
    let broker = setup::connect_as(config, "worker").await?;
    let process = Arc::new(Process::new());
    let name = format!("{}-{}", config.broker.name, std::process::id());
    let store = start_store(config, backend, &name, Arc::clone(&process))?;
    let stream = config.broker.streams.payments.to_string();
    let durability_shortfalls = match broker.stream_info(&stream).await {
        Ok(info) => shortfalls(&stream, &info),
        // The lanes say what is wrong with the broker, each by name; a worker waits for it.
        Err(_) => Vec::new(),
    };
    for finding in &durability_shortfalls {
        let what = format!("{} {}", finding.about, finding.finding);
        Life::Shortfall { what: &what }.emit();
    }
    process.shortfall("replicas", !durability_shortfalls.is_empty());
    let guard = store_guard(config, store_id);
    let worker = Worker::new(broker.clone(), store.clone(), config.lanes.clone())
        .guard(guard)
        .name(&name)
        .suspect_marker(match &config.store.place {
            Place::File(path) => path.clone(),
            Place::Postgres { marker, .. } => marker.clone(),
        })
        .poison_starts(config.store.poison_starts);
    let about = About {
        worker: name,
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION"),
        store: config.store.shown(),
        store_id: store_id.to_string(),
        durability_shortfalls: durability_shortfalls
            .iter()
            .map(|f| format!("{} {}; {}", f.about, f.finding, f.remedy))
            .collect(),
    };
    let listen = config.ops.listen;
    let ops = Ops::start(listen, about, worker.status(), metrics.clone())
        .map_err(|e| Failure::new(Exit::Unavailable, format!("ops.listen {listen}: {e}; choose another port")))?;
    let log = match &config.store.place {
        Place::File(path) => Some(path.with_file_name(log_name(path))),
        Place::Postgres { .. } => None,
    };
    Ok(Engine { worker, store, ops, process, broker, log, metrics })
}

fn log_name(path: &std::path::Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{name}-wal")
}

fn start_store(config: &Config, backend: Opened, name: &str, process: Arc<Process>) -> Result<Store, Failure> {
    // Process ids and names repeat from machine to machine and from container to container; an owner must not.
    let owner = &format!("{name}-{:016x}", rand::random::<u64>());
    let limits = WriterLimits { group: config.store.group, claim: CLAIM, poison_starts: config.store.poison_starts };
    let seen = move |done: &crate::store::GroupDone| {
        process.group(u32::try_from(done.requests).unwrap_or(u32::MAX), done.took);
    };
    let policy = book_policy(&config.book);
    Store::start(backend, policy, limits, owner, seen)
        .map_err(|e| Failure::new(Exit::Unavailable, format!("the store's thread cannot be started: {e}")))
}

fn book_policy(book: &BookSettings) -> BookPolicy {
    let unknown = if book.open_unknown { Unknown::Open { overdraft: book.overdraft } } else { Unknown::Refuse };
    BookPolicy { unknown, declared: book.accounts.iter().map(|(account, may)| (account.key(), *may)).collect() }
}

impl Engine {
    /// What the worker does, for those who watch.
    #[must_use]
    pub fn status(&self) -> StatusHandle {
        self.worker.status()
    }

    /// Where the operations HTTP listens.
    #[must_use]
    pub fn address(&self) -> std::net::SocketAddr {
        self.ops.address()
    }

    /// Works until `shutdown` is ready and everything in hand is done with.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Drained {
        let Self { worker, store, ops, process, broker, log, metrics } = self;
        let watch = tokio::spawn(watch(process, broker, log, metrics));
        let drained = worker.run(shutdown).await;
        watch.abort();
        store.stop().await;
        ops.stop().await;
        drained
    }
}

/// Keeps the process's own gauges: the connection and the size of a file store's write-ahead log; and the histograms small.
async fn watch(process: Arc<Process>, broker: Broker<Nats>, log: Option<PathBuf>, metrics: Option<Exposition>) {
    let mut link = broker.link();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut epoch = link.borrow().epoch;
    process.unknown.set(0.0);
    loop {
        let now = link.borrow_and_update().clone();
        process.connected.set(f64::from(u8::from(now.connected)));
        process.reconnects.increment(now.epoch.saturating_sub(epoch));
        epoch = now.epoch;
        if let Some(metrics) = &metrics {
            metrics.upkeep();
        }
        let bytes = match &log {
            Some(log) => tokio::fs::metadata(log).await.map_or(0, |m| m.len()),
            None => 0,
        };
        process.log_bytes.set(f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) * 1024.0);
        tokio::select! {
            _ = ticks.tick() => {}
            _ = link.changed() => {}
        }
    }
}

/// Ready at the first SIGTERM or SIGINT; the second ends the process at once.
fn signals() -> Result<impl Future<Output = ()> + Send, Failure> {
    let no_signals = |e: std::io::Error| Failure::new(Exit::Bug, format!("signals cannot be received: {e}"));
    let mut term = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut int = signal(SignalKind::interrupt()).map_err(no_signals)?;
    Ok(async move {
        tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
            note("second signal: ended at once; what was in hand comes back after ack_wait");
            std::process::exit(i32::from(Exit::HandedBack.code()));
        });
    })
}
