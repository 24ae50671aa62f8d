//! `acquit run`.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::doubts::Doubts;
use super::opened::{Opened, open_store, store_guard};
use super::{Exit, Failure, Global, load, note, setup, stranded};
use crate::broker::{Broker, Nats};
use crate::config::{BookSettings, Config, LogFormat, Place, StoreSettings};
use crate::domain::LaneName;
use crate::operate::check::{keep_findings, shortfalls};
use crate::ops::{About, CountsHandle, Ops, Served, Token};
use crate::rails::http::{Http, HttpSettings};
use crate::store::{BookPolicy, GroupDone, Store, Unknown, WriterLimits};
use crate::telemetry::metrics::Process;
use crate::telemetry::{self, Exposition, Life, Traces};
use crate::worker::{Drained, StatusHandle, Worker};

pub(super) const EXAMPLES: &str = "Examples:
  acquit run                                      with ./acquit.toml, or the defaults
  acquit run --config /etc/acquit/acquit.toml
  acquit run --set lane.payments.slots=64

Ends on SIGTERM or SIGINT: pulls stop, what is in hand is finished within the lane's grace time, the rest is handed
back (exit 75). A second signal ends it at once.";

/// A claim's length where every lane settles in the book: far above any call of it.
const CLAIM: Duration = Duration::from_secs(60);

/// How long the last spans may take to be sent.
const FLUSH: Duration = Duration::from_secs(2);

/// Flags of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {}

/// A worker that is ready to run, with everything it needs.
pub struct Engine {
    worker: Worker<Http>,
    store: Store,
    ops: Ops,
    doubts: Doubts,
    process: Arc<Process>,
    broker: Broker<Nats>,
    log: Option<PathBuf>,
    metrics: Option<Exposition>,
    traces: Traces,
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
    stranded::tell(config).await;
    let broker = setup::connect_as(config, "worker").await?;
    let process = Arc::new(Process::new());
    let name = format!("{}-{}", config.broker.name, std::process::id());
    let keep = keep(config, &broker).await?;
    let store = start_store(config, backend, &name, keep, Arc::clone(&process))?;
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
    let (rails, fallbacks) = rails(config).await?;
    let guard = store_guard(config, store_id);
    let traces = match &config.traces {
        Some(settings) => Traces::start(settings, &name)
            .map_err(|e| Failure::new(Exit::Bug, format!("traces cannot be sent: {e}")))?,
        None => Traces::off(),
    };
    let worker = Worker::new(broker.clone(), store.clone(), config.lanes.clone())
        .guard(guard)
        .traces(traces.clone())
        .name(&name)
        .suspect_marker(match &config.store.place {
            Place::File(path) => path.clone(),
            Place::Postgres { marker, .. } => marker.clone(),
        })
        .poison_starts(config.store.poison_starts)
        .rails(rails)
        .fallbacks(fallbacks);
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
    let token = token(config)?;
    let (lanes, control) = (worker.status(), worker.control());
    let counts = CountsHandle::default();
    let doubts = Doubts::new(config, counts.clone());
    let served = Served { about, lanes, control, store: Some(store.clone()), counts, token, metrics: metrics.clone() };
    let ops = Ops::start(listen, served)
        .map_err(|e| Failure::new(Exit::Unavailable, format!("ops.listen {listen}: {e}; choose another port")))?;
    let log = match &config.store.place {
        Place::File(path) => Some(path.with_file_name(log_name(path))),
        Place::Postgres { .. } => None,
    };
    Ok(Engine { worker, store, ops, doubts, process, broker, log, metrics, traces })
}

/// The token of those who may steer.
fn token(config: &Config) -> Result<Option<Token>, Failure> {
    let Some(secret) = setup::control_token(config)? else { return Ok(None) };
    match Token::new(&secret) {
        Some(token) => Ok(Some(token)),
        None => Err(Failure::new(
            Exit::Config,
            format!(
                "ops.control_token_file: holds fewer than {} characters; `openssl rand -hex 32` makes one",
                Token::LEAST
            ),
        )),
    }
}

/// A rail for each lane that has one.
type Over = Vec<(LaneName, Arc<Http>)>;

/// The rail of each lane that does not settle in the book, and its second one; lanes that name the same one share it.
async fn rails(config: &Config) -> Result<(Over, Over), Failure> {
    let mut made: BTreeMap<&str, Arc<Http>> = BTreeMap::new();
    let named =
        |rail: &&HttpSettings| config.routes.values().chain(config.fallbacks.values()).any(|of| *of == rail.name);
    for settings in config.rails.iter().filter(named) {
        let failed = |e| Failure::new(Exit::Config, format!("rail {}: {e}; check its files", settings.name));
        made.insert(&settings.name, Arc::new(Http::new(settings.clone()).await.map_err(failed)?));
    }
    let over = |(lane, name): (&LaneName, &String)| Some((lane.clone(), Arc::clone(made.get(name.as_str())?)));
    Ok((config.routes.iter().filter_map(over).collect(), config.fallbacks.iter().filter_map(over).collect()))
}

fn log_name(path: &std::path::Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{name}-wal")
}

/// How long records are kept: what is configured, where the streams let it be.
async fn keep(config: &Config, broker: &Broker<Nats>) -> Result<Option<Duration>, Failure> {
    let Some(keep) = config.store.keep else { return Ok(None) };
    match keep_findings(broker, keep).await.as_deref() {
        Ok([]) => Ok(Some(keep)),
        Ok([first, ..]) => Err(Failure::new(Exit::Config, format!("{}; {}", first.finding, first.remedy))),
        // To keep everything is always safe; a worker does not wait for a broker's word to begin.
        Err(error) => {
            let what = format!("store.keep cannot be compared with the streams ({error}): nothing is removed");
            Life::Shortfall { what: &what }.emit();
            Ok(None)
        }
    }
}

pub(super) fn start_store(
    config: &Config,
    backend: Opened,
    name: &str,
    keep: Option<Duration>,
    process: Arc<Process>,
) -> Result<Store, Failure> {
    // Process ids and names repeat from machine to machine and from container to container; an owner must not.
    let owner = &format!("{name}-{:016x}", rand::random::<u64>());
    let StoreSettings { group, poison_starts, .. } = config.store;
    let claim = config.rails.iter().map(HttpSettings::claim).max().unwrap_or(CLAIM);
    let limits = WriterLimits { group, claim, poison_starts, keep };
    let seen = move |done: &GroupDone| {
        if done.requests > 0 {
            process.group(u32::try_from(done.requests).unwrap_or(u32::MAX), done.took);
        }
        process.pruned(done.pruned.events, done.pruned.attempts, done.pruned.notes);
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
        let Self { worker, store, ops, doubts, process, broker, log, metrics, traces } = self;
        let watch = tokio::spawn(watch(process, broker, log, metrics));
        let done = CancellationToken::new();
        let counting = tokio::spawn(doubts.run(done.clone()));
        let drained = worker.run(shutdown).await;
        watch.abort();
        done.cancel();
        // It fails only where it panicked.
        counting.await.ok();
        store.stop().await;
        traces.stop(FLUSH).await;
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
            () = link.changed() => {}
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
