//! A lane's gate: four breakers (settlement, outcome events, dead letters, checks) and the plain reasons not to pull. A
//! fifth breaker watches inquiries: it pauses these, and no pull. A lane with a second rail has two more for that one; it
//! pulls while either rail can take.
//! The pull loop asks it for credit; an event asks it for a pass before each call that a breaker watches.

mod second;
mod watch;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::control::{BreakerOrder, Forcing, Hold};
use super::outside::Outside;
use crate::broker::{Listener, Teller};
use crate::resilience::{Breaker, BreakerPolicy, Call, Change, Gate, Permit, ShutWhy, State};
use crate::telemetry::Flow;
use crate::telemetry::metrics::{LaneMetrics, Paused};

pub(crate) use watch::{RailWatch, Watch};

/// What the pull loop may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credit {
    /// As much as there are slots.
    Open,
    /// This much more, counting what waits in hand.
    Permits(u32),
    /// Nothing; look again at `until` or when something changes.
    Shut {
        /// Why.
        why: Paused,
        /// When a breaker's open time ends.
        until: Option<Instant>,
    },
}

/// How often the settlement breaker opened and probed, for those who watch.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) opened: AtomicU64,
    pub(crate) probes: AtomicU64,
    pub(crate) pulls_while_open: AtomicU64,
}

/// The gate of one lane.
pub(crate) struct Gates {
    lane: String,
    breakers: [Mutex<Breaker>; 7],
    /// Whether the lane has a second rail.
    second: bool,
    /// What an operator holds the settlement breaker to.
    held: Mutex<Option<Hold>>,
    reasons: Mutex<BTreeMap<Paused, Instant>>,
    waiting: AtomicU32,
    changed: Teller<u64>,
    metrics: Arc<LaneMetrics>,
    outside: Outside,
    pub(crate) counts: Counts,
}

/// The right to make one watched call. Dropped unused, it goes back to its breaker.
pub(crate) struct Pass {
    gates: Arc<Gates>,
    watch: Watch,
    permit: Option<Permit>,
    probe: bool,
}

impl Gates {
    pub(crate) fn new(
        lane: &str,
        settlement: &BreakerPolicy,
        publishing: &BreakerPolicy,
        limit: NonZeroU32,
        second: bool,
        metrics: Arc<LaneMetrics>,
        outside: Outside,
    ) -> Arc<Self> {
        for watch in Watch::ALL.iter().chain(Watch::OF_SECOND.iter().filter(|_| second)) {
            metrics.breaker(watch.name(), State::Closed.name());
        }
        let breaker = |policy: &BreakerPolicy| Mutex::new(Breaker::new(policy.clone(), limit));
        Arc::new(Self {
            lane: lane.to_owned(),
            breakers: [
                breaker(settlement),
                breaker(publishing),
                breaker(publishing),
                breaker(settlement),
                // A check that says nothing is one that is down, as with a stream.
                breaker(publishing),
                breaker(settlement),
                breaker(settlement),
            ],
            second,
            held: Mutex::default(),
            reasons: Mutex::default(),
            waiting: AtomicU32::new(0),
            changed: Teller::new(0),
            metrics,
            outside,
            counts: Counts::default(),
        })
    }

    /// What may be pulled now.
    pub(crate) fn credit(&self, now: Instant) -> Credit {
        if let Some(why) = self.reasons.lock().unwrap_or_else(PoisonError::into_inner).keys().next() {
            return Credit::Shut { why: *why, until: None };
        }
        let mut credit = Credit::Open;
        for watch in Watch::OF_PULLS {
            let gate = if watch == Watch::Settlement { self.settlement(now) } else { self.breaker(watch).gate(now) };
            match (gate, watch.paused()) {
                (Gate::Open, _) | (_, None) => {}
                (Gate::Shut { until, .. }, Some(why)) => return Credit::Shut { why, until: Some(until) },
                // Few events end as dead letters: waiting for enough of them to ramp up would throttle all the others.
                (Gate::Permits(_), _) if watch == Watch::DeadLetters => {}
                (Gate::Permits(permits), Some(_)) => {
                    let more = permits.get().saturating_sub(self.waiting.load(Ordering::Relaxed));
                    credit = match credit {
                        Credit::Permits(fewer) => Credit::Permits(fewer.min(more)),
                        Credit::Open | Credit::Shut { .. } => Credit::Permits(more),
                    };
                }
            }
        }
        credit
    }

    /// Why the lane does not pull now, if it does not.
    pub(crate) fn shut_by(&self, now: Instant) -> Option<Paused> {
        match self.credit(now) {
            Credit::Shut { why, .. } => Some(why),
            Credit::Open | Credit::Permits(_) => None,
        }
    }

    /// The state of one breaker, for labels and `explain`.
    pub(crate) fn state(&self, watch: Watch) -> State {
        self.breaker(watch).state(now())
    }

    /// The same as it is shown: what an operator holds it to goes before its own.
    pub(crate) fn shown(&self, watch: Watch) -> &'static str {
        self.breaker(watch).shown(now())
    }

    /// What an operator holds the settlement breaker to.
    pub(crate) fn held(&self) -> Option<Hold> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Holds the settlement breaker, or lets it go. The others watch only whether streams confirm, and probe at once.
    pub(crate) fn force(&self, order: BreakerOrder<'_>) -> Forcing {
        let BreakerOrder { forced, who, why, record } = order;
        // Kept until the breaker has followed: of two orders at once the same one must win in both places.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        let mut breaker = self.breaker(Watch::Settlement);
        let was = breaker.shown(now);
        // What changes is told below: the breaker's own states do not tell forced open from open.
        let _change = breaker.force(forced, now);
        let is = breaker.shown(now);
        drop(breaker);
        *held = forced.map(|forced| Hold {
            to: forced.name(),
            who: who.to_owned(),
            why: why.to_owned(),
            record,
            since: self.outside.now(),
        });
        drop(held);
        if was != is {
            self.metrics.breaker_changed(Watch::Settlement.name(), was, is);
            self.show(Watch::Settlement);
        }
        Flow::BreakerForced { lane: &self.lane, from: was, to: is, who, why, record }.emit();
        self.wake();
        Forcing { was, is }
    }

    /// Sets or clears a plain reason not to pull. Says so once.
    pub(crate) fn hold(&self, why: Paused, shut: bool) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = if shut {
            !reasons.contains_key(&why) && reasons.insert(why, now()).is_none()
        } else {
            reasons.remove(&why).is_some()
        };
        drop(reasons);
        if !changed {
            return;
        }
        self.metrics.paused(why, shut);
        if shut {
            Flow::GateShut { lane: &self.lane, reason: why.name() }.emit();
        } else {
            Flow::GateOpen { lane: &self.lane, reason: why.name() }.emit();
        }
        self.wake();
    }

    /// Whether a plain reason is set.
    pub(crate) fn is_held(&self, why: Paused) -> bool {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&why)
    }

    /// Told of every change.
    pub(crate) fn changes(&self) -> Listener<u64> {
        self.changed.subscribe()
    }

    /// Waits for the right to make one watched call, until `deadline` or until `stop`. Cancel-safe.
    pub(crate) async fn pass(
        self: &Arc<Self>,
        watch: Watch,
        deadline: tokio::time::Instant,
        stop: &CancellationToken,
    ) -> Option<Pass> {
        self.pass_any(&[watch], deadline, stop).await
    }

    /// The same for the first of several breakers that lets it pass.
    pub(crate) async fn pass_any(
        self: &Arc<Self>,
        watches: &[Watch],
        deadline: tokio::time::Instant,
        stop: &CancellationToken,
    ) -> Option<Pass> {
        if let Some(pass) = self.try_any(watches) {
            return Some(pass);
        }
        // What pulls do not wait for takes none of their permits.
        let _counted = watches.iter().any(|watch| watch.paused().is_some()).then(|| Waiting::enter(self));
        let mut changed = self.changes();
        loop {
            changed.heard();
            if let Some(pass) = self.try_any(watches) {
                return Some(pass);
            }
            let until = watches.iter().fold(deadline, |until, watch| match self.breaker(*watch).gate(now()) {
                Gate::Shut { until: opens, .. } => tokio::time::Instant::from_std(opens).min(until),
                Gate::Open | Gate::Permits(_) => until,
            });
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = changed.changed() => {}
                () = tokio::time::sleep_until(until) => {
                    if tokio::time::Instant::now() >= deadline { return None }
                }
            }
        }
    }

    /// When the open time of a rail's breaker ends and it wants probes; `None` where it is not open by itself.
    pub(crate) fn probe_at(&self, calls: Watch) -> Option<tokio::time::Instant> {
        match self.breaker(calls).gate(now()) {
            Gate::Shut { until, why: ShutWhy::Breaker } => Some(tokio::time::Instant::from_std(until)),
            Gate::Shut { why: ShutWhy::PermitsOut | ShutWhy::Operator, .. } | Gate::Permits(_) | Gate::Open => None,
        }
    }

    /// The right to probe the half-open breaker of a rail by asking about a payment in doubt.
    pub(crate) fn try_probe(self: &Arc<Self>, calls: Watch) -> Option<Pass> {
        if self.state(calls) != State::HalfOpen {
            return None;
        }
        self.try_pass(calls).filter(Pass::is_probe)
    }

    /// The right to make one watched call now.
    pub(crate) fn try_pass(self: &Arc<Self>, watch: Watch) -> Option<Pass> {
        let mut breaker = self.breaker(watch);
        let permit = breaker.take(now())?;
        let probe = breaker.state(now()) == State::HalfOpen;
        drop(breaker);
        if let Some(change) = permit.change() {
            self.tell(watch, change);
        }
        Some(Pass { gates: Arc::clone(self), watch, permit: Some(permit), probe })
    }

    fn breaker(&self, watch: Watch) -> MutexGuard<'_, Breaker> {
        let [settlement, outcomes, dead_letters, inquiries, checks, fallback, fallback_inquiries] = &self.breakers;
        let breaker = match watch {
            Watch::Settlement => settlement,
            Watch::Outcomes => outcomes,
            Watch::DeadLetters => dead_letters,
            Watch::Inquiries => inquiries,
            Watch::Checks => checks,
            Watch::Fallback => fallback,
            Watch::FallbackInquiries => fallback_inquiries,
        };
        breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, watch: Watch, change: Change) {
        let (from, to) = (change.from.name(), change.to.name());
        self.metrics.breaker_changed(watch.name(), from, to);
        self.show(watch);
        let why = change.why.to_string();
        Flow::BreakerChanged { lane: &self.lane, breaker: watch.name(), from, to, why: &why }.emit();
        if change.to == State::Open && watch == Watch::Settlement {
            self.counts.opened.fetch_add(1, Ordering::Relaxed);
        }
        self.wake();
    }

    /// Has the gauges show what holds now. An operator's order may come between a change and its telling, from another
    /// thread: whoever tells last looks last.
    fn show(&self, watch: Watch) {
        let now = Instant::now();
        let breaker = self.breaker(watch);
        let (shown, shut) = (breaker.shown(now), breaker.state(now) == State::Open);
        drop(breaker);
        self.metrics.breaker(watch.name(), shown);
        if let Some(why) = watch.paused() {
            self.metrics.paused(why, shut && self.is_only_way(watch));
        }
    }

    /// Has everyone who waits look again.
    pub(crate) fn wake(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }
}

/// The breakers' clock: the runtime's, which a test may stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Counts an event that waits for a pass, so that a half-open gate does not pull more than it can let through.
struct Waiting<'a>(&'a Gates);

impl<'a> Waiting<'a> {
    fn enter(gates: &'a Gates) -> Self {
        gates.waiting.fetch_add(1, Ordering::Relaxed);
        Self(gates)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pass {
    /// Which call it is for.
    pub(crate) fn watch(&self) -> Watch {
        self.watch
    }

    /// Whether this call is a probe of a half-open breaker.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe
    }

    /// The call was made: its end counts.
    pub(crate) fn seen(mut self, call: Call, took: Duration) {
        let Some(permit) = self.permit.take() else { return };
        let (gates, watch) = (&self.gates, self.watch);
        if self.probe && watch == Watch::Settlement {
            gates.counts.probes.fetch_add(1, Ordering::Relaxed);
        }
        gates.metrics.breaker_call(watch.name(), if call == Call::Served { "ok" } else { "fail" });
        let mut breaker = gates.breaker(watch);
        let was = breaker.state(now());
        let change = breaker.seen(permit, call, took, now(), gates.outside.chance());
        drop(breaker);
        match change {
            Some(change) => gates.tell(watch, change),
            // Outside the closed state every end of a call may free a permit somebody waits for.
            None if was != State::Closed => gates.wake(),
            None => {}
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.gates.breaker(self.watch).give_back(permit);
            self.gates.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resilience::BreakerSettings;

    /// Opens a breaker and lets one probe pass.
    async fn ramping(watch: Watch) -> Arc<Gates> {
        let publishing = BreakerPolicy::new(BreakerSettings {
            sliding_window_size: 2,
            minimum_number_of_calls: 2,
            wait_duration_in_open_state: Duration::from_millis(1),
            permitted_number_of_calls_in_half_open_state: 1,
            randomized_wait_factor: 0.0,
            ..BreakerSettings::default()
        })
        .unwrap();
        let metrics = Arc::new(LaneMetrics::new("lane", "STREAM", "consumer"));
        let gates = Gates::new(
            "lane",
            &publishing,
            &publishing,
            NonZeroU32::new(64).unwrap(),
            false,
            metrics,
            Outside::default(),
        );
        let soon = || tokio::time::Instant::now() + Duration::from_secs(5);
        let stop = CancellationToken::new();
        for call in [Call::Down, Call::Down, Call::Served] {
            gates.pass(watch, soon(), &stop).await.unwrap().seen(call, Duration::ZERO);
        }
        assert_eq!(gates.state(watch), State::Ramping);
        gates
    }

    #[tokio::test]
    async fn few_dead_letters_to_ramp_up_with_do_not_throttle_the_lane() {
        let gates = ramping(Watch::DeadLetters).await;
        assert_eq!(gates.credit(Instant::now()), Credit::Open);
        // Every event has an outcome, so there the ramp bounds the pulls.
        let gates = ramping(Watch::Outcomes).await;
        assert_eq!(gates.credit(Instant::now()), Credit::Permits(1));
    }

    #[tokio::test]
    async fn a_permit_that_is_given_back_was_no_probe() {
        let gates = ramping(Watch::Settlement).await;
        let probes = || gates.counts.probes.load(Ordering::Relaxed);
        assert_eq!(probes(), 1);
        let stop = CancellationToken::new();
        let soon = tokio::time::Instant::now() + Duration::from_secs(5);
        drop(gates.pass(Watch::Settlement, soon, &stop).await);
        assert_eq!(probes(), 1);
    }
}
