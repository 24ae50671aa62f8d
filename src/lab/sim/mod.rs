//! A deterministic simulation: the worker's own code over a model of the broker, a database in memory, a rail with a
//! ledger, and a clock that only waiting moves. A seed is a whole history with its faults; the same seed is the same
//! history, to the microsecond.
//!
//! What it cannot show: that the model is like the real server (the end-to-end tests use that), power loss, a stream
//! made anew while events are in it, and panics of a decoder.

mod backend;
mod check;
mod consumer;
mod db;
mod facts;
mod history;
mod ledgers;
mod live;
mod net;
mod outage;
mod plan;
mod rail;
mod screen;
mod server;
mod setting;
mod stream;
mod wire;
mod world;

use std::fmt;
use std::sync::Arc;

pub(in crate::lab) use live::{Crash, Live, LiveTerms, Process, Shared};
pub use plan::Lie;
use plan::Plan;
pub(in crate::lab) use world::Life;
use world::World;

/// Lines of a trace that are printed.
const TRACE: usize = 60;

/// A history in which every invariant held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Played {
    /// A digest of everything that happened, in its order.
    pub digest: u64,
    /// Events in the stream.
    pub events: u64,
    /// How long it took by its own clock, in seconds.
    pub seconds: u64,
}

/// A history in which an invariant was broken.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Its seed.
    pub seed: u64,
    /// Events it was shortened to.
    pub payments: u64,
    /// Which invariant, and where.
    pub what: String,
    /// What happened to the event in question, and to all.
    pub trace: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} with {} events: {}", self.seed, self.payments, self.what)?;
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        write!(f, "again: ACQUIT_SIM_SEED={} ACQUIT_SIM_RUNS=1 cargo test --test sim", self.seed)
    }
}

/// Plays the history of a seed.
///
/// # Errors
/// The first breach of an invariant, in the shortest history of this seed that has one.
pub fn run(seed: u64) -> Result<Played, Box<Broken>> {
    let plan = Plan::of(seed);
    match play(plan.clone(), false) {
        Ok(played) => Ok(played),
        Err(broken) => Err(shortest(&plan).unwrap_or(broken)),
    }
}

/// Plays the history of a seed over one rail at most, with nothing tracked, checked or limited.
///
/// # Errors
/// The first breach of an invariant.
pub fn run_plain(seed: u64) -> Result<Played, Box<Broken>> {
    play(Plan::plain(seed), true)
}

/// Plays the history of a seed with a surrounding that breaks its word: a check that finds nothing then proves nothing.
///
/// # Errors
/// The breach that must be found.
pub fn run_with(seed: u64, lie: Lie) -> Result<Played, Box<Broken>> {
    play(Plan { lie: Some(lie), ..Plan::of(seed) }, false)
}

/// The same faults over fewer events, as long as something still breaks.
fn shortest(plan: &Plan) -> Option<Box<Broken>> {
    let fewer = [1, 2, 4, 8, 16, 32, 64].into_iter().filter(|fewer| *fewer < plan.payments);
    let plans = fewer.chain([plan.payments]).map(|payments| Plan { payments, ..plan.clone() });
    plans.filter_map(|plan| play(plan, true).err()).next()
}

fn play(plan: Plan, keep: bool) -> Result<Played, Box<Broken>> {
    let (seed, payments) = (plan.seed, plan.payments);
    let broken = |what: String, trace| Box::new(Broken { seed, payments, what, trace });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| broken(format!("no runtime: {error}"), Vec::new()))?;
    let (world, events) = runtime.block_on(async {
        let world: Arc<World> = World::new(plan, keep);
        let stage = history::play(&world).await;
        (world, stage.map(|stage| world::locked(&stage.net.server).payments.last()))
    });
    if let Some(breach) = world.breached() {
        return Err(broken(breach.what, world.trace(breach.event, TRACE)));
    }
    let Some(events) = events else {
        return Err(broken("the simulation's own settings are wrong".to_owned(), Vec::new()));
    };
    Ok(Played { digest: world.digest(), events, seconds: runtime.block_on(async { world.elapsed().as_secs() }) })
}
