//! `acquit chaos`: a real server and a real worker process under load, and faults from a seed that kill, stop and
//! starve both. It ends with a drain and a reconciliation. `--sim` plays histories of the simulation instead.

mod fault;
mod process;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::load::{Generator, GeneratorSettings};
use super::stage::Stage;
use super::{print, sim};
use crate::broker::{Broker, Nats};
use crate::cli::{Exit, Failure, Global, print_json};
use crate::operate::publish::{PublishOptions, Published, from_memory, publish};
use crate::operate::reconcile::{Events, ReconcileOptions, reconcile};
use fault::schedule;
use process::WorkerProcess;

pub(super) const EXAMPLES: &str = "Examples:
  acquit chaos                           one minute of faults on a schedule that is printed
  acquit chaos --minutes 30 --seed 7     the same faults in the same order, for longer
  acquit chaos --sim --runs 10000        histories of the simulation, one for each seed

Only processes that it started are touched. Exit 0 only when everything published is accounted for, the book balances
and no worker ended but by a fault.";

/// Flags of `chaos`.
#[derive(Debug, Clone, Args)]
pub struct ChaosArgs {
    /// How long faults go on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// End after so many faults, however long they took
    #[arg(long, value_name = "N")]
    faults: Option<u64>,
    /// Repeats the schedule of an earlier run [default: random]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Play the simulation in place of real processes
    #[arg(long)]
    sim: bool,
    /// Histories of the simulation
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "sim")]
    runs: u64,
}

/// How long the last events may take, once the faults are over.
const PATIENCE: Duration = Duration::from_secs(120);
/// Short: an event held by a killed worker comes again after it.
const ACK_WAIT: Duration = Duration::from_secs(3);
/// Events published at a time, and the pause after them.
const BURST: (u64, Duration) = (100, Duration::from_millis(100));
/// Events held at once.
const SLOTS: u16 = 64;

/// What came of it.
#[derive(Debug, Serialize)]
struct Found {
    seed: u64,
    seconds: f64,
    faults: BTreeMap<&'static str, u64>,
    /// Confirmed by the broker as new.
    published: u64,
    /// What became of what is in the stream.
    events: Events,
    differences: usize,
    book_balances: bool,
    /// Ends of a worker that no fault explains.
    surprises: Vec<String>,
    conserved: bool,
}

pub(super) async fn run(global: &Global, args: ChaosArgs) -> Result<Exit, Failure> {
    let seed = args.seed.unwrap_or_else(rand::random);
    if args.sim { simulate(global, args.seed.unwrap_or(1), args.runs).await } else { real(global, &args, seed).await }
}

async fn real(global: &Global, args: &ChaosArgs, seed: u64) -> Result<Exit, Failure> {
    let limit = Duration::from_secs(args.minutes.saturating_mul(60));
    let plan = schedule(seed, limit, args.faults);
    let mut stage = Stage::set("chaos", SLOTS, 0, Some(ACK_WAIT)).await?;
    print::log(&format!("seed {seed}: {} faults on nats-server {}", plan.len(), stage.broker_version()));
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(publish_on(stage.publisher.clone(), stage.options()?, seed, Arc::clone(&stop)));
    let began = Instant::now();
    let mut worker = WorkerProcess::start(&stage)?;
    let (mut faults, mut surprises) = (BTreeMap::new(), Vec::new());
    for (pause, fault) in plan {
        sleep(pause).await;
        print::log(&format!("{:>8.2} s  {fault}", began.elapsed().as_secs_f64()));
        surprises.extend(worker.surprise(&stage)?);
        fault.strike(&mut stage, &mut worker).await?;
        let count: &mut u64 = faults.entry(fault.name()).or_default();
        *count = count.saturating_add(1);
    }
    stop.store(true, Ordering::Release);
    let published = load.await.map_err(|e| Failure::new(Exit::Bug, format!("the load ended early: {e}")))??;
    print::log(&format!("{:>8.2} s  faults are over; {published} published", began.elapsed().as_secs_f64()));
    drained(&stage, &mut worker, &mut surprises).await?;
    surprises.extend(worker.surprise(&stage)?);
    surprises.extend(worker.terminate(true).await);
    let mut found = account(&stage, published).await?;
    (found.seed, found.seconds) = (seed, began.elapsed().as_secs_f64());
    found.conserved &= surprises.is_empty();
    (found.faults, found.surprises) = (faults, surprises);
    stage.strike().await;
    show(global, &found)
}

/// Publishes in bursts until it is told to stop; gives how many the broker confirmed as new.
async fn publish_on(
    broker: Broker<Nats>,
    options: PublishOptions,
    seed: u64,
    stop: Arc<AtomicBool>,
) -> Result<u64, Failure> {
    let options = PublishOptions { patience: PATIENCE, ..options };
    let mut confirmed = 0_u64;
    for burst in 0_u64.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let seed = seed.wrapping_add(burst);
        let settings = GeneratorSettings { seed, accounts: 16, broken_percent: 20, ..GeneratorSettings::new(BURST.0) };
        let bodies = Generator::new(settings).map(|event| event.body);
        let done = publish(&broker, from_memory(bodies), &options, |_| {}).await;
        let Published { published, .. } = done.map_err(|e| Failure::new(Exit::Unavailable, e.to_string()))?;
        confirmed = confirmed.saturating_add(published);
        sleep(BURST.1).await;
    }
    Ok(confirmed)
}

/// Waits until the broker has an answer to everything.
async fn drained(stage: &Stage, worker: &mut WorkerProcess, surprises: &mut Vec<String>) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        surprises.extend(worker.surprise(stage)?);
        let mut left = 0_u64;
        for lane in &stage.config.lanes {
            let stream = stage.publisher.streams().payments.as_str();
            // Unanswered, it is asked again.
            left = match stage.publisher.consumer_info(stream, &lane.consumer).await {
                Ok(info) => left.saturating_add(info.num_pending).saturating_add(info.num_ack_pending),
                Err(_) => u64::MAX,
            };
        }
        if left == 0 {
            return Ok(());
        }
        if began.elapsed() >= PATIENCE {
            let what = format!("{left} events are left {} s after the last fault", PATIENCE.as_secs());
            surprises.push(what);
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn account(stage: &Stage, published: u64) -> Result<Found, Failure> {
    let reader = stage.reader()?;
    let consumers = stage.config.lanes.iter().map(|lane| lane.consumer.clone()).collect();
    let options = ReconcileOptions { state_file: None, consumers, rails: Vec::new(), most: 20 };
    let found = reconcile(&stage.publisher, &reader, &options, |_| {}).await?;
    let clean = found.clean();
    let events = found.events;
    let ends = [events.settled, events.rejected, events.dead_lettered, events.duplicates];
    let ended = ends.into_iter().fold(0_u64, u64::saturating_add);
    let book_balances = reader.book_check()?.iter().all(crate::store::BookLine::balances);
    // A PubAck that was lost makes its event's repeat a duplicate: the stream may hold more than was confirmed as new.
    let conserved = clean && book_balances && ended == events.published && events.published >= published;
    Ok(Found {
        seed: 0,
        seconds: 0.0,
        faults: BTreeMap::new(),
        published,
        events,
        differences: found.differences.len(),
        book_balances,
        surprises: Vec::new(),
        conserved,
    })
}

fn show(global: &Global, found: &Found) -> Result<Exit, Failure> {
    let exit = if found.conserved { Exit::Done } else { Exit::Found };
    if global.json {
        print_json(found);
        return Ok(exit);
    }
    let events = &found.events;
    let mut text = format!(
        "seed {}: {} events in the stream, {} settled, {} rejected, {} dead-lettered, {} duplicates\n",
        found.seed, events.published, events.settled, events.rejected, events.dead_lettered, events.duplicates
    );
    for (name, count) in &found.faults {
        text.push_str(&format!("  {name:<16} {count:>6}\n"));
    }
    for surprise in &found.surprises {
        text.push_str(&format!("  {surprise}\n"));
    }
    text.push_str(if found.conserved {
        "everything published is accounted for, the book balances\n"
    } else {
        "NOT everything is accounted for: differences, a book that does not balance, or an end that no fault explains\n"
    });
    print::data(&text).map_err(|e| Failure::new(Exit::Unavailable, format!("stdout: {e}")))?;
    Ok(exit)
}

/// What the simulation found.
#[derive(Debug, Default, Serialize)]
struct Simulated {
    first_seed: u64,
    runs: u64,
    events: u64,
    simulated_seconds: u64,
    broken: Vec<u64>,
}

async fn simulate(global: &Global, first: u64, runs: u64) -> Result<Exit, Failure> {
    let mut found = Simulated { first_seed: first, runs, ..Simulated::default() };
    for seed in (first..).take(usize::try_from(runs).unwrap_or(usize::MAX)) {
        let played = tokio::task::spawn_blocking(move || sim::run(seed)).await;
        match played.map_err(|e| Failure::new(Exit::Bug, format!("seed {seed}: {e}")))? {
            Ok(played) => {
                found.events = found.events.saturating_add(played.events);
                found.simulated_seconds = found.simulated_seconds.saturating_add(played.seconds);
            }
            Err(broken) => {
                print::log(&broken.to_string());
                found.broken.push(seed);
            }
        }
    }
    if global.json {
        print_json(&found);
    } else {
        let text = format!(
            "{runs} histories from seed {first}: {} events, {} simulated seconds, {} broke an invariant\n",
            found.events,
            found.simulated_seconds,
            found.broken.len()
        );
        print::data(&text).map_err(|e| Failure::new(Exit::Unavailable, format!("stdout: {e}")))?;
    }
    Ok(if found.broken.is_empty() { Exit::Done } else { Exit::Found })
}

/// A bound on everything that a fault waits for.
async fn bounded<T>(what: &str, wait: impl Future<Output = T>) -> Result<T, Failure> {
    let late = || Failure::new(Exit::Unavailable, format!("not within {} s: {what}", PATIENCE.as_secs()));
    timeout(PATIENCE, wait).await.map_err(|_| late())
}
