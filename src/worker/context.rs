//! What every event of a lane shares.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Guard;
use super::event::Event;
use super::gate::Gates;
use super::keepalive::Keepalive;
use super::lane::Lane;
use super::late::LateCalls;
use super::outside::Outside;
use super::poison::PoisonGuard;
use super::probing::Probing;
use super::slots::{Parked, Slots};
use super::track::Tracker;
use super::tries::{Foreign, Histories};
use super::turns::Turns;
use super::ways::Second;
use crate::broker::{AckUnknown, Broker, Consumer, Delivery, Wire};
use crate::domain::EventId;
use crate::intake::Decode;
use crate::rails::Ask;
use crate::store::{Store, StoreLost};
use crate::telemetry::Flow;
use crate::telemetry::metrics::{AckKind, Finished, LaneMetrics, Paused};
use crate::telemetry::trace::LaneTraces;

/// Counts of one lane since it started.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) received: AtomicU64,
    pub(crate) settled: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    /// Events acknowledged because the tracker took their payments on.
    pub(crate) tracked: AtomicU64,
    pub(crate) handed_back: AtomicU64,
    /// Those among the handed back that were because the worker stopped.
    pub(crate) returned_at_stop: AtomicU64,
    pub(crate) abandoned: AtomicU64,
}

/// One lane at work.
pub(super) struct Context<W: Wire, R> {
    pub(super) lane: Lane,
    pub(super) worker: Arc<str>,
    pub(super) broker: Broker<W>,
    pub(super) consumer: Consumer<W>,
    pub(super) store: Store,
    pub(super) rail: Option<Arc<R>>,
    /// For while that one is down.
    pub(super) second: Option<Second<R>>,
    /// Asked before a payment is settled.
    pub(super) check: Option<Arc<dyn Ask>>,
    pub(super) decode: Arc<dyn Decode>,
    pub(super) guard: Arc<dyn Guard>,
    pub(super) gates: Arc<Gates>,
    pub(super) slots: Arc<Slots>,
    pub(super) turns: Arc<Turns>,
    pub(super) probing: Arc<Probing>,
    pub(super) parked: Parked,
    pub(super) histories: Histories,
    pub(super) late: LateCalls,
    pub(super) tracker: Tracker,
    pub(super) keepalive: Arc<Keepalive<W>>,
    pub(super) metrics: Arc<LaneMetrics>,
    pub(super) traces: LaneTraces,
    pub(super) poison_starts: u32,
    pub(super) poison: PoisonGuard,
    /// Cancelled when pulls end: what waits for the gate is handed back.
    pub(super) stop: CancellationToken,
    pub(super) outside: Outside,
    pub(super) newer_contract: AtomicU32,
    pub(super) foreign: Foreign,
    pub(super) tally: Tally,
    pub(super) pulls_outstanding: AtomicU32,
    /// Events not yet delivered, as last heard.
    pub(super) pending: AtomicU64,
    pub(super) oldest_unacked_ms: AtomicI64,
    /// Set where the subscription is to be made anew.
    pub(super) rebuild: AtomicBool,
    pub(super) first_pull: Mutex<Option<Instant>>,
    pub(super) trouble: Mutex<Option<String>>,
    /// The server's words where it denies the pulls: a denied pull is never answered.
    denied_pull: Mutex<Option<String>>,
    pub(super) began: Instant,
    /// Cancelled when the grace time is over: what is still in hand is dropped un-acknowledged.
    pub(super) cut: CancellationToken,
    last_delivery: Mutex<Instant>,
    last_lost: Mutex<Option<Instant>>,
}

/// The parts a context is made of.
pub(super) struct Parts<W: Wire, R> {
    pub(super) check: Option<Arc<dyn Ask>>,
    pub(super) lane: Lane,
    pub(super) worker: Arc<str>,
    pub(super) broker: Broker<W>,
    pub(super) store: Store,
    pub(super) rail: Option<Arc<R>>,
    /// The rail's; zero for the book.
    pub(super) deadline: Duration,
    /// The second rail, and its deadline.
    pub(super) second: Option<(Arc<R>, Duration)>,
    pub(super) decode: Arc<dyn Decode>,
    pub(super) guard: Arc<dyn Guard>,
    pub(super) gates: Arc<Gates>,
    pub(super) metrics: Arc<LaneMetrics>,
    pub(super) traces: LaneTraces,
    pub(super) poison_starts: u32,
    pub(super) poison: PoisonGuard,
    pub(super) stop: CancellationToken,
    pub(super) outside: Outside,
}

impl<W: Wire, R> Context<W, R> {
    pub(super) fn new(parts: Parts<W, R>) -> Arc<Self> {
        let Parts { lane, worker, broker, store, rail, deadline, check, decode, guard, .. } = parts;
        let Parts { second, gates, metrics, traces, poison_starts, poison, stop, outside, .. } = parts;
        let slots = Slots::new(lane.limits.slots, lane.limits.payload_bytes);
        let policy = lane.limit.filter(|_| rail.is_some());
        let turns =
            |policy, deadline, second| Turns::new(policy, deadline, Arc::clone(&slots), Arc::clone(&metrics), second);
        let second = second.map(|(rail, deadline)| {
            let turns = turns(policy, deadline, true);
            Second { rail, turns, probing: Arc::default() }
        });
        let turns = turns(policy, deadline, false);
        Arc::new(Self {
            consumer: broker.bind(&lane.consumer),
            slots,
            turns,
            probing: Arc::default(),
            keepalive: Keepalive::new(Arc::clone(&metrics)),
            parked: Parked::default(),
            histories: Histories::default(),
            late: LateCalls::default(),
            tracker: Tracker::default(),
            newer_contract: AtomicU32::new(0),
            foreign: Foreign::default(),
            tally: Tally::default(),
            pulls_outstanding: AtomicU32::new(0),
            pending: AtomicU64::new(0),
            oldest_unacked_ms: AtomicI64::new(0),
            rebuild: AtomicBool::new(false),
            first_pull: Mutex::new(None),
            trouble: Mutex::new(None),
            denied_pull: Mutex::new(None),
            began: Instant::now(),
            cut: CancellationToken::new(),
            last_delivery: Mutex::new(Instant::now()),
            last_lost: Mutex::new(None),
            lane,
            worker,
            broker,
            store,
            rail,
            second,
            check,
            decode,
            guard,
            gates,
            metrics,
            traces,
            poison_starts,
            poison,
            stop,
            outside,
        })
    }

    pub(super) fn name(&self) -> &str {
        self.lane.name.as_str()
    }

    /// How long an event may be held: twice `ack_wait`, so that a healthy worker can have it.
    pub(super) fn hold_until<S>(&self, event: &Event<S, W>) -> Instant {
        let received = event.delivery().received();
        received.checked_add(event.hold().ack_wait().saturating_mul(2)).unwrap_or(received)
    }

    /// Counts what came of an answer to the broker.
    pub(super) fn acknowledged(&self, kind: AckKind, id: &EventId, answer: Result<(), AckUnknown>, took: Duration) {
        self.metrics.answered(kind, answer.is_ok(), took);
        if let Err(unknown) = answer {
            Flow::AckUnknown { lane: self.name(), event: &id.to_string(), detail: &unknown.to_string() }.emit();
        }
    }

    /// Says that the store did not serve: once a second, not once an event.
    pub(super) fn store_lost(&self, lost: &StoreLost) {
        let mut last = self.last_lost.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
            *last = Some(Instant::now());
            Flow::StoreLost { lane: self.name(), detail: &lost.to_string() }.emit();
        }
        drop(last);
        if *lost == StoreLost::Closed {
            // Its writer has ended and will not come back: the worker ends too, and says so by its exit code.
            self.stop.cancel();
        }
    }

    /// Counts a delivery.
    pub(super) fn took(&self, delivery: &Delivery<W>) {
        self.tally.received.fetch_add(1, Ordering::Relaxed);
        *self.last_delivery.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let now = self.outside.now();
        self.pending.store(delivery.pending(), Ordering::Relaxed);
        let age = Duration::try_from(now.duration_since(delivery.requested_at())).unwrap_or_default();
        self.metrics.received(delivery.delivered() <= 1, age, unix_seconds(now));
    }

    /// Counts the end of a delivery.
    pub(super) fn finished(&self, how: Finished, took: Duration) {
        let count = match how {
            Finished::Settled => &self.tally.settled,
            Finished::Rejected => &self.tally.rejected,
            Finished::Duplicate => &self.tally.duplicates,
            Finished::DeadLettered => &self.tally.dead_lettered,
            Finished::Tracked => &self.tally.tracked,
            Finished::Retried => &self.tally.handed_back,
            Finished::Abandoned => &self.tally.abandoned,
        };
        count.fetch_add(1, Ordering::Relaxed);
        if how == Finished::Retried && self.stop.is_cancelled() {
            self.tally.returned_at_stop.fetch_add(1, Ordering::Relaxed);
        }
        self.metrics.finished(how, took, unix_seconds(self.outside.now()));
    }

    /// Since when nothing has been delivered.
    pub(super) fn quiet_for(&self) -> Duration {
        self.last_delivery.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Starts the quiet time anew: the gate was shut, or the connection away.
    pub(super) fn restart_quiet(&self) {
        *self.last_delivery.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Events in hand.
    pub(super) fn held(&self) -> u32 {
        self.keepalive.held()
    }

    /// Age of the oldest un-acknowledged event, as last seen.
    pub(super) fn oldest_age(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.oldest_unacked_ms.load(Ordering::Relaxed)).unwrap_or(0))
    }

    /// Notes that a pull without any answer was one that the server denies, if it has said so.
    pub(super) fn note_denied_pull(&self) {
        let pull = format!("CONSUMER.MSG.NEXT.{}.{}", self.consumer.stream(), self.consumer.name());
        let denied = self.broker.link().borrow().denied.clone();
        if let Some(words) = denied.filter(|words| words.contains(&pull)) {
            *self.denied_pull.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
        }
    }

    /// Notes that the server answers pulls.
    pub(super) fn pull_is_served(&self) {
        *self.denied_pull.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The server's words where it denies the pulls.
    pub(super) fn denied_pull(&self) -> Option<String> {
        self.denied_pull.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connected, the consumer verified, pulls allowed, the clocks agreeing. A shut breaker is no reason not to be ready.
    pub(super) fn is_ready(&self) -> bool {
        self.consumer.is_verified()
            && self.denied_pull().is_none()
            && ![Paused::Broker, Paused::Clock, Paused::Drain].into_iter().any(|why| self.gates.is_held(why))
    }

    /// Notes what keeps the consumer from being verified, in words for readiness.
    pub(super) fn set_trouble(&self, what: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

fn unix_seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}
