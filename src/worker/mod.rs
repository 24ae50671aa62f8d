//! One process's lanes at work: [`Worker::run`] pulls, owns each event to its end, and drains when told to stop.

#[cfg(acquit_cheats)]
#[path = "../../tests/cheats/worker.rs"]
mod cheats;
mod check;
mod context;
mod control;
mod dispose;
mod ends;
mod event;
mod flow;
mod gate;
mod held;
mod inquiry;
mod keepalive;
mod lane;
mod late;
mod lost;
mod outside;
mod poison;
mod probing;
mod process;
mod rail;
mod slots;
mod status;
mod supervise;
mod sweep;
mod tells;
mod track;
mod tries;
mod turns;
mod ways;

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::{Broker, ConsumerInfo, Nats, StreamInfo, Wire};
use crate::domain::LaneName;
use crate::intake::{Contract, Decode};
use crate::rails::{Ask, Check, NoRail, Rail};
use crate::resilience::BreakerPolicy;
use crate::store::Store;
use crate::telemetry::metrics::LaneMetrics;
use crate::telemetry::{Flow, Life, Traces};
use context::{Context, Parts};
use flow::PullLoop;
use gate::Gates;
use poison::PoisonGuard;
use supervise::Supervisor;
use ways::Rails;

pub use control::{BreakerOrder, ControlHandle, Forcing, Hold};
pub use lane::{InProgress, Lane, Limits, TrackPolicy};
#[cfg(not(feature = "lab"))]
use outside::Outside;
#[cfg(feature = "lab")]
pub(crate) use outside::{Outside, Source};
pub use status::{Breakers, FallbackStatus, LaneStatus, StatusHandle};

/// Decides whether this worker may work on a consumer: a store belongs to one, and must not be behind it.
pub trait Guard: Send + Sync + 'static {
    /// Asked at the start and whenever stream or consumer may have changed.
    ///
    /// # Errors
    /// What is wrong and what to do, in words for an operator.
    fn check(&self, stream: &StreamInfo, consumer: &ConsumerInfo) -> Result<(), String>;

    /// Whether the check may block, as one that reads a file does: it is then asked aside.
    fn blocks(&self) -> bool {
        true
    }
}

/// A guard that lets everything pass; for lanes whose store nothing else uses.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoGuard;

impl Guard for NoGuard {
    fn check(&self, _stream: &StreamInfo, _consumer: &ConsumerInfo) -> Result<(), String> {
        Ok(())
    }

    fn blocks(&self) -> bool {
        false
    }
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "work may have been handed back"]
pub struct Drained {
    /// Events that came to an end while it ran.
    pub finished: u64,
    /// Events handed back to the broker while it ran.
    pub handed_back: u64,
    /// Events that were in hand when the grace time was over, or whose acknowledgement was not confirmed.
    pub abandoned: u64,
    /// Events still in hand when the grace time was over.
    pub cut_off: u64,
    /// Events handed back because the worker stopped.
    pub returned_at_stop: u64,
}

/// A worker: lanes over one broker connection and one store.
pub struct Worker<R: Rail = NoRail, W: Wire = Nats> {
    broker: Broker<W>,
    store: Store,
    lanes: Vec<Lane>,
    decode: Arc<dyn Decode>,
    rails: Rails<R>,
    fallbacks: HashMap<LaneName, Arc<R>>,
    check: Option<Arc<dyn Ask>>,
    guard: Arc<dyn Guard>,
    name: String,
    poison_starts: u32,
    marker: Option<PathBuf>,
    traces: Traces,
    status: StatusHandle,
    control: ControlHandle,
    outside: Outside,
}

impl<W: Wire> Worker<NoRail, W> {
    /// A worker whose lanes settle in the store's own book.
    #[must_use]
    pub fn new(broker: Broker<W>, store: Store, lanes: Vec<Lane>) -> Self {
        Self {
            broker,
            store,
            lanes,
            decode: Arc::new(Contract),
            rails: Rails::Book,
            fallbacks: HashMap::new(),
            check: None,
            guard: Arc::new(NoGuard),
            name: "acquit".to_owned(),
            poison_starts: 5,
            marker: None,
            traces: Traces::off(),
            status: StatusHandle::default(),
            control: ControlHandle::default(),
            outside: Outside::default(),
        }
    }
}

impl<R: Rail, W: Wire> Worker<R, W> {
    /// Settles over a rail instead of the book.
    #[must_use]
    pub fn rail<T: Rail>(self, rail: T) -> Worker<T, W> {
        self.over(Rails::One(Arc::new(rail)))
    }

    /// Settles each lane over the rail that is named for it, and in the book where none is. Lanes may share one.
    #[must_use]
    pub fn rails<T: Rail>(self, rails: impl IntoIterator<Item = (LaneName, Arc<T>)>) -> Worker<T, W> {
        self.over(Rails::Each(rails.into_iter().collect()))
    }

    /// Gives lanes a second rail, for payments that the first cannot have while it is down, or has not taken. What may
    /// have reached one rail never goes to the other. It has to have another name, and the lane a first rail; else it is
    /// none. To be called after [`Worker::rail`] or [`Worker::rails`], which say where lanes settle.
    #[must_use]
    pub fn fallbacks(mut self, rails: impl IntoIterator<Item = (LaneName, Arc<R>)>) -> Self {
        self.fallbacks = rails.into_iter().collect();
        self
    }

    fn over<T: Rail>(self, rails: Rails<T>) -> Worker<T, W> {
        Worker {
            broker: self.broker,
            store: self.store,
            lanes: self.lanes,
            decode: self.decode,
            rails,
            fallbacks: HashMap::new(),
            check: self.check,
            guard: self.guard,
            name: self.name,
            poison_starts: self.poison_starts,
            marker: self.marker,
            traces: self.traces,
            status: self.status,
            control: self.control,
            outside: self.outside,
        }
    }

    /// Reads events of another form than contract v1.
    #[must_use]
    pub fn decode(mut self, decode: impl Decode) -> Self {
        self.decode = Arc::new(decode);
        self
    }

    /// Asks this check before a payment is settled, in every lane. Without one nothing is asked and nothing is paid for it.
    /// With one each payment costs one more question to the store, which answers first.
    #[must_use]
    pub fn check(mut self, check: impl Check) -> Self {
        self.check = Some(Arc::new(check));
        self
    }

    /// Checks each consumer before it is pulled from.
    #[must_use]
    pub fn guard(mut self, guard: impl Guard) -> Self {
        self.guard = Arc::new(guard);
        self
    }

    /// The name that dead letters carry as `Acquit-Worker`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Panicking starts of an event's handling after which it leaves as a dead letter; at least 1.
    #[must_use]
    pub fn poison_starts(mut self, starts: u32) -> Self {
        self.poison_starts = starts.max(1);
        self
    }

    /// A file beside the store in which an event that has come often is named while it is read alone, so that a
    /// crash of the process finds its culprit. Without it only panics are counted.
    #[must_use]
    pub fn suspect_marker(mut self, path: PathBuf) -> Self {
        self.marker = Some(path);
        self
    }

    /// Sends a span per event; without it none is made.
    #[must_use]
    pub fn traces(mut self, traces: Traces) -> Self {
        self.traces = traces;
        self
    }

    /// Takes wall clock and chance from somewhere else, so that a history repeats itself.
    #[cfg(feature = "lab")]
    #[must_use]
    pub(crate) fn outside(mut self, outside: Outside) -> Self {
        self.outside = outside;
        self
    }

    /// A handle on what the worker does, for health checks and dashboards.
    #[must_use]
    pub fn status(&self) -> StatusHandle {
        self.status.clone()
    }

    /// A handle to steer the worker with, for whoever may.
    #[must_use]
    pub fn control(&self) -> ControlHandle {
        self.control.clone()
    }

    /// Works until `shutdown` is ready, then stops pulling, finishes what is in hand within each lane's grace time,
    /// and hands back the rest.
    ///
    /// Dropping the future instead ends everything at once; what was in hand comes back after `ack_wait`.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Drained {
        let stop = CancellationToken::new();
        Life::WorkerStarted { lanes: self.lanes.len(), worker: &self.name }.emit();
        let contexts: Vec<_> = self.lanes.iter().map(|lane| self.context(lane.clone(), &stop)).collect();
        self.status.set(&contexts);
        self.control.set(&contexts);
        let mut lanes = JoinSet::new();
        for ctx in &contexts {
            lanes.spawn(run_lane(Arc::clone(ctx)));
        }
        tokio::select! {
            biased;
            () = shutdown => {}
            // A lane ends by itself only where one of its tasks panicked: stop the rest in order.
            _ = lanes.join_next() => {}
            () = stop.cancelled() => {}
        }
        for ctx in &contexts {
            flow::drain(ctx);
        }
        let mut drained = Drained::default();
        while let Some(lane) = lanes.join_next().await {
            if let Ok(cut_off) = lane {
                drained.cut_off = drained.cut_off.saturating_add(cut_off);
            }
        }
        for ctx in &contexts {
            ctx.sum(&mut drained);
        }
        Life::WorkerStopped {
            finished: drained.finished,
            handed_back: drained.handed_back,
            abandoned: drained.abandoned,
        }
        .emit();
        drained
    }

    fn context(&self, lane: Lane, stop: &CancellationToken) -> Arc<Context<W, R>> {
        let stream = self.broker.streams().payments.as_str();
        let metrics = Arc::new(LaneMetrics::new(lane.name.as_str(), stream, &lane.consumer));
        let traces = self.traces.lane(lane.name.as_str(), stream, &lane.consumer);
        let limit = NonZeroU32::new(u32::from(lane.limits.slots)).unwrap_or(NonZeroU32::MIN);
        let lane_marker = format!("suspect-{}", lane.name);
        let publishing = BreakerPolicy::publishing();
        let rail = self.rails.of(&lane.name);
        let second = self.fallbacks.get(&lane.name);
        let second = second.filter(|second| rail.as_ref().is_some_and(|first| first.name() != second.name()));
        metrics.rails(rail.iter().chain(second).map(|rail| rail.name()), second.is_some());
        let gates = Gates::new(
            lane.name.as_str(),
            &lane.breaker,
            &publishing,
            limit,
            second.is_some(),
            Arc::clone(&metrics),
            self.outside.clone(),
        );
        let deadline = rail.as_ref().map_or(Duration::ZERO, |rail| rail.terms().deadline);
        Context::new(Parts {
            lane,
            deadline,
            second: second.map(|rail| (Arc::clone(rail), rail.terms().deadline)),
            worker: self.name.as_str().into(),
            broker: self.broker.clone(),
            store: self.store.clone(),
            rail,
            check: self.check.clone(),
            decode: Arc::clone(&self.decode),
            guard: Arc::clone(&self.guard),
            gates,
            metrics,
            traces,
            poison_starts: self.poison_starts,
            poison: PoisonGuard::new(self.marker.as_ref().map(|path| path.with_extension(&lane_marker))),
            stop: stop.clone(),
            outside: self.outside.clone(),
        })
    }
}

/// One lane: supervisor, beats and pull loop, then the drain. Gives how many events were still in hand at the end.
async fn run_lane<W: Wire, R: Rail>(ctx: Arc<Context<W, R>>) -> u64 {
    // Dropped with this future, which ends what is in hand as well: it is spawned, and would go on without its beats.
    let _cut = ctx.cut.clone().drop_guard();
    count_culprit(&ctx).await;
    let tasks = TaskTracker::new();
    let mut aside = JoinSet::new();
    aside.spawn(Supervisor::new(Arc::clone(&ctx)).run());
    aside.spawn(Arc::clone(&ctx.keepalive).run());
    aside.spawn(sweep::run(Arc::clone(&ctx), tasks.clone()));
    Life::LaneStarted {
        lane: ctx.name(),
        stream: ctx.consumer.stream().as_str(),
        consumer: ctx.consumer.name(),
        slots: ctx.lane.limits.slots,
    }
    .emit();
    let pulls = PullLoop::new(Arc::clone(&ctx), tasks.clone()).run();
    let mut pulls = std::pin::pin!(pulls);
    tokio::select! {
        biased;
        () = &mut pulls => {}
        // Without its supervisor or its beats a lane must not go on.
        _ = aside.join_next() => ctx.stop.cancel(),
        () = ctx.stop.cancelled() => {
            // Pulls that are out end by themselves; what they still bring is worked on like the rest.
            let patience = ctx.lane.limits.expires.saturating_add(Duration::from_secs(2)).min(ctx.lane.limits.grace);
            drop(tokio::time::timeout(patience, &mut pulls).await);
        }
    }
    tasks.close();
    drop(tokio::time::timeout(ctx.lane.limits.grace, tasks.wait()).await);
    let cut_off = u64::try_from(tasks.len()).unwrap_or(u64::MAX);
    ctx.cut.cancel();
    tasks.wait().await;
    aside.shutdown().await;
    cut_off
}

/// Counts the event that ended the last process, if one did.
async fn count_culprit<W: Wire, R: Rail>(ctx: &Context<W, R>) {
    let Some(event) = ctx.poison.culprit() else { return };
    // A store that does not serve now leaves this one crash uncounted; the event comes again.
    let starts = ctx.store.start_of(event.clone()).await.unwrap_or(0);
    ctx.histories.started(&event, starts);
    Flow::HandlerCrashed { lane: ctx.name(), event: &event.to_string(), starts }.emit();
}
