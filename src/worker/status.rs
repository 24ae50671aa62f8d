//! What a worker says of itself: for `/status`, `/readyz` and whoever embeds it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::Drained;
use super::context::Context;
use super::control::Hold;
use super::gate::{Credit, Watch};
use super::lane::InProgress;
use crate::broker::Wire;
use crate::rails::Rail;

/// One lane, at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct LaneStatus {
    /// The lane.
    pub lane: String,
    /// The stream it takes events from.
    pub stream: String,
    /// The rail it settles over, or `book`.
    pub rail: &'static str,
    /// The second rail, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackStatus>,
    /// The durable consumer.
    pub consumer: String,
    /// Connected, and the consumer is the one we know.
    pub ready: bool,
    /// Why it is not ready, in words.
    pub trouble: Option<String>,
    /// `open`, `probing` or `shut`.
    pub gate: &'static str,
    /// Why the gate is shut.
    pub gate_reason: Option<&'static str>,
    /// Until when an operator has paused the consumer on the server.
    pub paused_until: Option<Timestamp>,
    /// State of each breaker.
    pub breakers: Breakers,
    /// What an operator holds the settlement breaker to.
    pub breaker_forced: Option<Hold>,
    /// Times the settlement breaker opened.
    pub breaker_opened: u64,
    /// Probes it let through.
    pub breaker_probes: u64,
    /// Pull requests sent while it was open.
    pub pulls_while_open: u64,
    /// Pull requests open at the server.
    pub pulls_outstanding: u32,
    /// Events in hand.
    pub in_flight: u32,
    /// Events that may be in hand.
    pub slots: u32,
    /// Events that may be on their way to the rail or at it: less than the slots while it is slow.
    pub in_flight_limit: u32,
    /// Hand-backs whose delay is not over.
    pub parked: usize,
    /// Their bound.
    pub parked_limit: u16,
    /// Events not yet delivered, as last seen.
    pub pending: u64,
    /// Events delivered and not acknowledged, as last seen.
    pub ack_pending: u64,
    /// Age of the oldest un-acknowledged event, in seconds, as last seen.
    pub oldest_unacked_s: f64,
    /// Whether it is older than a quarter of the stream's `max_age`.
    pub oldest_unacked_critical: bool,
    /// The newest contract version met that this worker does not read; 0 for none.
    pub newer_contract: u32,
    /// Events met since the lane's start whose number is on record as another message's; they wait for an operator.
    pub foreign_events: usize,
    /// Deliveries taken.
    pub received: u64,
    /// Settled.
    pub settled: u64,
    /// Rejected.
    pub rejected: u64,
    /// Found to be duplicates.
    pub duplicates: u64,
    /// Dead-lettered.
    pub dead_lettered: u64,
    /// Acknowledged because the tracker took their payments on.
    pub tracked: u64,
    /// Payments that the lane's tracker holds, as last seen; over all workers.
    pub tracker: u64,
    /// Their bound; 0 where nothing is tracked.
    pub tracker_limit: u32,
    /// Events of this worker's whose rail has not said what became of their payments; the tracked ones are not among them.
    pub in_doubt: usize,
    /// Milliseconds until the rail is to be asked about the first of those, 0 where that is due; none without any.
    pub next_inquiry_ms: Option<u64>,
    /// Handed back.
    pub handed_back: u64,
    /// Left without an answer.
    pub abandoned: u64,
    /// Milliseconds since the lane's start.
    pub up_ms: u64,
    /// Milliseconds from the lane's start to its first pull.
    pub first_pull_ms: Option<u64>,
}

/// The states of a lane's breakers.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Breakers {
    /// Settlement.
    pub settlement: &'static str,
    /// Outcome events.
    pub outcomes: &'static str,
    /// Dead letters.
    pub dead_letters: &'static str,
    /// Inquiries: open, it pauses them, and no pulls.
    pub inquiries: &'static str,
    /// The check before settlement.
    pub checks: &'static str,
}

/// A lane's second rail, at one moment.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct FallbackStatus {
    /// Its name.
    pub rail: &'static str,
    /// Whether new payments go there now.
    pub in_use: bool,
    /// The state of its breaker.
    pub breaker: &'static str,
    /// The state of the breaker of its inquiries.
    pub inquiries: &'static str,
    /// Events that may be on their way to it or at it.
    pub in_flight_limit: u32,
}

trait Look: Send + Sync {
    fn look(&self) -> LaneStatus;
}

/// A handle on a worker's lanes; empty before it runs.
#[derive(Clone, Default)]
pub struct StatusHandle(Arc<RwLock<Vec<Arc<dyn Look>>>>);

impl StatusHandle {
    /// Every lane, now.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneStatus> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().map(|lane| lane.look()).collect()
    }

    pub(super) fn set<W: Wire, R: Rail>(&self, contexts: &[Arc<Context<W, R>>]) {
        let lanes = contexts.iter().map(|ctx| Arc::clone(ctx) as Arc<dyn Look>).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = lanes;
    }
}

impl<W: Wire, R: Rail> Look for Context<W, R> {
    fn look(&self) -> LaneStatus {
        let (gate, gate_reason) = match self.gates.credit(tokio::time::Instant::now().into_std()) {
            Credit::Open => ("open", None),
            Credit::Permits(_) => ("probing", None),
            Credit::Shut { why, .. } => ("shut", Some(why.name())),
        };
        let (in_doubt, next) = self.histories.to_ask();
        let facts = self.consumer.facts();
        let max_age = facts.as_ref().map(|f| Duration::from_nanos(f.stream.number("max_age"))).unwrap_or_default();
        let count = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::Relaxed);
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let denied = self.broker.link().borrow().denied.clone();
        let first = *self.first_pull.lock().unwrap_or_else(PoisonError::into_inner);
        LaneStatus {
            lane: self.name().to_owned(),
            stream: self.consumer.stream().to_string(),
            consumer: self.consumer.name().to_owned(),
            rail: self.rail.as_ref().map_or("book", |rail| rail.name()),
            fallback: self.second.as_ref().map(|second| FallbackStatus {
                rail: second.rail.name(),
                in_use: self.gates.is_over_second(tokio::time::Instant::now().into_std()),
                breaker: self.gates.shown(Watch::Fallback),
                inquiries: self.gates.shown(Watch::FallbackInquiries),
                in_flight_limit: second.turns.limit(),
            }),
            ready: self.is_ready(),
            trouble: trouble.or_else(|| self.denied_pull()).or(denied),
            gate,
            gate_reason,
            paused_until: facts.as_ref().and_then(|f| f.consumer.paused_until()),
            breakers: Breakers {
                settlement: self.gates.shown(Watch::Settlement),
                outcomes: self.gates.shown(Watch::Outcomes),
                dead_letters: self.gates.shown(Watch::DeadLetters),
                inquiries: self.gates.shown(Watch::Inquiries),
                checks: self.gates.shown(Watch::Checks),
            },
            breaker_forced: self.gates.held(),
            breaker_opened: count(&self.gates.counts.opened),
            breaker_probes: count(&self.gates.counts.probes),
            pulls_while_open: count(&self.gates.counts.pulls_while_open),
            pulls_outstanding: self.pulls_outstanding.load(Ordering::Relaxed),
            in_flight: self.held(),
            slots: self.slots.limit(),
            in_flight_limit: self.slots.allowed(),
            parked: self.parked.count(),
            parked_limit: self.lane.limits.parked,
            pending: self.pending.load(Ordering::Relaxed),
            ack_pending: facts.as_ref().map_or(0, |f| f.consumer.num_ack_pending),
            oldest_unacked_s: self.oldest_age().as_secs_f64(),
            oldest_unacked_critical: !max_age.is_zero() && self.oldest_age() >= max_age / 4,
            newer_contract: self.newer_contract.load(Ordering::Relaxed),
            foreign_events: self.foreign.count(),
            received: count(&self.tally.received),
            settled: count(&self.tally.settled),
            rejected: count(&self.tally.rejected),
            duplicates: count(&self.tally.duplicates),
            dead_lettered: count(&self.tally.dead_lettered),
            tracked: count(&self.tally.tracked),
            tracker: self.tracker.count(),
            tracker_limit: match &self.lane.in_progress {
                InProgress::Hold => 0,
                InProgress::Track(policy) => policy.limits.count,
            },
            in_doubt,
            next_inquiry_ms: next.map(|at| millis(at.saturating_duration_since(tokio::time::Instant::now()))),
            handed_back: count(&self.tally.handed_back),
            abandoned: count(&self.tally.abandoned),
            up_ms: millis(self.began.elapsed()),
            first_pull_ms: first.map(|at| millis(at.duration_since(self.began))),
        }
    }
}

impl<W: Wire, R> Context<W, R> {
    /// Adds this lane's counts at the end of a run.
    pub(super) fn sum(&self, drained: &mut Drained) {
        let count = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::Relaxed);
        let tally = &self.tally;
        for ended in [&tally.settled, &tally.rejected, &tally.duplicates, &tally.dead_lettered, &tally.tracked] {
            drained.finished = drained.finished.saturating_add(count(ended));
        }
        drained.handed_back = drained.handed_back.saturating_add(count(&tally.handed_back));
        drained.abandoned = drained.abandoned.saturating_add(count(&tally.abandoned));
        drained.returned_at_stop = drained.returned_at_stop.saturating_add(count(&tally.returned_at_stop));
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
