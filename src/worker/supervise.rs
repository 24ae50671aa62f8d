//! Watches over one lane: is the consumer still the one we know, do the clocks agree, does anything come that should.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::context::Context;
use super::gate::Credit;
use crate::broker::{Facts, VerifyError, Wire};
use crate::rails::Rail;
use crate::telemetry::metrics::Paused;
use crate::telemetry::{Flow, Link};

/// Between looks at what only this process knows.
const TICK: Duration = Duration::from_millis(100);
/// Between verifications without a cause. The broker is asked at once after a reconnect or a doubt.
const VERIFY_EVERY: Duration = Duration::from_secs(5);
/// The same while an operator has paused the consumer, and while a pull is out for events that do not come: they may
/// just have been paused. A pause and its end are seen this soon.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How far the worker's clock may be from the broker's.
const SKEW_MAX_MS: i64 = 2_000;

/// One lane's supervisor.
pub(super) struct Supervisor<W: Wire, R> {
    ctx: Arc<Context<W, R>>,
    verified_at: Option<Instant>,
    failures: u32,
    next_try: Instant,
    stalls: u32,
    stalled_at: Option<Instant>,
    paused_since: Option<(Paused, Instant)>,
    aged: bool,
}

impl<W: Wire, R: Rail> Supervisor<W, R> {
    pub(super) fn new(ctx: Arc<Context<W, R>>) -> Self {
        ctx.gates.hold(Paused::Broker, true);
        let now = Instant::now();
        Self {
            ctx,
            verified_at: None,
            failures: 0,
            next_try: now,
            stalls: 0,
            stalled_at: None,
            paused_since: None,
            aged: false,
        }
    }

    /// Runs until the task is ended with its lane.
    pub(super) async fn run(mut self) {
        let mut link = self.ctx.broker.link();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let connected = link.borrow_and_update().connected;
            if !connected {
                self.ctx.gates.hold(Paused::Broker, true);
                self.verified_at = None;
                self.ctx.restart_quiet();
            } else if self.due() {
                self.verify().await;
            }
            self.look();
            tokio::select! {
                biased;
                _ = ticks.tick() => {}
                () = link.changed() => {}
            }
        }
    }

    fn due(&self) -> bool {
        let now = Instant::now();
        if !self.ctx.consumer.is_verified() {
            return now >= self.next_try;
        }
        let ctx = &self.ctx;
        let waits = ctx.pending.load(Ordering::Relaxed) > 0
            && ctx.pulls_outstanding.load(Ordering::Relaxed) > 0
            && ctx.quiet_for() >= LOOK_EVERY;
        let every = if waits || ctx.gates.is_held(Paused::Operator) { LOOK_EVERY } else { VERIFY_EVERY };
        self.verified_at.is_none_or(|at| now.duration_since(at) >= every)
    }

    async fn verify(&mut self) {
        let ctx = Arc::clone(&self.ctx);
        match ctx.consumer.verify().await {
            Ok(facts) => match guarded(&ctx, facts.clone()).await {
                Ok(()) => self.verified(&facts),
                Err(refusal) => self.failed(&refusal),
            },
            Err(VerifyError::Recreated { what }) => {
                Link::ConsumerChanged { lane: ctx.name(), what, dropped: ctx.slots.used() }.emit();
                ctx.gates.hold(Paused::Broker, true);
                ctx.rebuild.store(true, Ordering::Release);
                self.verified_at = None;
                self.next_try = Instant::now();
            }
            Err(VerifyError::Api(error)) => self.failed(&error.to_string()),
        }
    }

    fn verified(&mut self, facts: &Facts) {
        let ctx = Arc::clone(&self.ctx);
        self.verified_at = Some(Instant::now());
        if self.failures > 0 {
            Link::ConsumerVerified { lane: ctx.name() }.emit();
        }
        self.failures = 0;
        ctx.set_trouble(None);
        ctx.gates.hold(Paused::Broker, false);
        ctx.gates.hold(Paused::Operator, facts.consumer.paused);
        self.clock(facts);
        ctx.pending.store(facts.consumer.num_pending, Ordering::Relaxed);
        ctx.metrics.pending.set(gauge(facts.consumer.num_pending));
        ctx.metrics.ack_pending.set(gauge(facts.consumer.num_ack_pending));
        ctx.metrics.redelivered.set(gauge(facts.consumer.num_redelivered));
        self.stalled(facts);
        self.age(facts);
    }

    fn failed(&mut self, detail: &str) {
        let ctx = &self.ctx;
        ctx.consumer.doubt();
        ctx.gates.hold(Paused::Broker, true);
        ctx.restart_quiet();
        // Said at the first failure and then once in a while, not at each try.
        if self.failures.is_multiple_of(16) {
            Link::ConsumerMissing { lane: ctx.name(), detail }.emit();
        }
        ctx.set_trouble(Some(detail.to_owned()));
        self.failures = self.failures.saturating_add(1);
        let wait = Duration::from_millis(100).saturating_mul(2_u32.saturating_pow(self.failures.min(6)));
        let now = Instant::now();
        self.next_try = now.checked_add(wait.min(Duration::from_secs(5))).unwrap_or(now);
    }

    fn clock(&self, facts: &Facts) {
        let Some(broker) = facts.consumer.ts else { return };
        let skew_ms = self.ctx.outside.now().as_millisecond().saturating_sub(broker.as_millisecond());
        let off = skew_ms.saturating_abs() > SKEW_MAX_MS;
        let was = self.ctx.gates.is_held(Paused::Clock);
        if off && !was {
            Link::ClockOff { lane: self.ctx.name(), skew_ms }.emit();
        } else if was && !off {
            Link::ClockRight { lane: self.ctx.name() }.emit();
        }
        self.ctx.gates.hold(Paused::Clock, off);
    }

    /// Events are pending, the gate is open, slots are free, pulls are out, and nothing comes: the subscription is
    /// made anew, then the connection.
    fn stalled(&mut self, facts: &Facts) {
        let ctx = &self.ctx;
        let open = ctx.gates.credit(Instant::now().into_std()) == Credit::Open;
        let terms = ctx.consumer.terms();
        let fits = terms.is_some_and(|t| ctx.slots.fit(0, t.largest) > 0);
        let room = ctx.slots.room() > 0 && fits || ctx.pulls_outstanding.load(Ordering::Relaxed) > 0;
        let saturated = terms.is_some_and(|t| facts.consumer.num_ack_pending >= t.max_ack_pending);
        let quiet = ctx.quiet_for() > ctx.lane.limits.expires.saturating_mul(2);
        if facts.consumer.num_pending == 0 || !open || !room || saturated || !quiet {
            self.stalls = 0;
            return;
        }
        // Each remedy has its time to work before the next, stronger one.
        let now = Instant::now();
        if self.stalls > 0 && self.stalled_at.is_some_and(|at| now.duration_since(at) < VERIFY_EVERY) {
            return;
        }
        self.stalled_at = Some(now);
        self.stalls = self.stalls.saturating_add(1);
        let pending = facts.consumer.num_pending;
        if self.stalls % 2 == 1 {
            Link::Stalled { lane: ctx.name(), pending, remedy: "new subscription" }.emit();
            ctx.rebuild.store(true, Ordering::Release);
            ctx.gates.wake();
        } else {
            Link::Stalled { lane: ctx.name(), pending, remedy: "new connection" }.emit();
            let broker = ctx.broker.clone();
            tokio::spawn(async move { broker.reconnect().await });
        }
    }

    /// An event un-acknowledged for a quarter of the stream's `max_age` is on its way to be deleted in silence.
    fn age(&mut self, facts: &Facts) {
        let ctx = Arc::clone(&self.ctx);
        let max_age = Duration::from_nanos(facts.stream.number("max_age"));
        if facts.consumer.num_pending == 0 && facts.consumer.num_ack_pending == 0 {
            ctx.oldest_unacked_ms.store(0, Ordering::Relaxed);
            ctx.metrics.oldest_unacked.set(0.0);
            self.aged = false;
            return;
        }
        let next = facts.consumer.ack_floor.stream_seq.saturating_add(1).max(facts.stream.state.first_seq);
        let stream = facts.stream.state.last_seq;
        if next > stream {
            return;
        }
        let said = self.aged;
        let limit = max_age / 4;
        if !max_age.is_zero() {
            self.aged = ctx.oldest_age() >= limit;
        }
        if self.aged && !said {
            Flow::OldEvent { lane: ctx.name(), age: ctx.oldest_age(), max_age }.emit();
        }
        // Asked aside: a worker without this right must not have its verification held up by it.
        tokio::spawn(async move {
            let name = ctx.consumer.stream().clone();
            let Ok(message) = ctx.broker.message_from(name.as_str(), ">", next).await else { return };
            let age_ms = ctx.outside.now().as_millisecond().saturating_sub(message.time.as_millisecond()).max(0);
            ctx.oldest_unacked_ms.store(age_ms, Ordering::Relaxed);
            ctx.metrics.oldest_unacked.set(ctx.oldest_age().as_secs_f64());
        });
    }

    /// What needs no question to the broker.
    fn look(&mut self) {
        let ctx = &self.ctx;
        let parked = ctx.parked.count();
        ctx.gates.hold(Paused::Parked, parked >= usize::from(ctx.lane.limits.parked));
        ctx.metrics.in_flight.set(f64::from(ctx.held()));
        ctx.metrics.pulls_outstanding.set(f64::from(ctx.pulls_outstanding.load(Ordering::Relaxed)));
        let shut = ctx.gates.shut_by(Instant::now().into_std());
        let now = Instant::now();
        match (shut, self.paused_since) {
            (Some(why), Some((was, since))) if why == was => {
                let whole = now.duration_since(since).as_secs();
                if whole > 0 {
                    ctx.metrics.paused_for(why, whole);
                    self.paused_since = Some((why, now));
                }
            }
            (Some(why), _) => self.paused_since = Some((why, now)),
            (None, _) => self.paused_since = None,
        }
        if shut.is_some() {
            ctx.restart_quiet();
        }
        let free = ctx.slots.free().max(1);
        let pending = ctx.pending.load(Ordering::Relaxed);
        let pressure = if shut.is_some() { 0.0 } else { gauge(pending) / f64::from(free) };
        ctx.metrics.scaling_pressure.set(pressure);
    }
}

/// Asks the guard aside: it may read a file, and this thread has events to see to.
async fn guarded<W: Wire, R: Rail>(ctx: &Context<W, R>, facts: Facts) -> Result<(), String> {
    if !ctx.guard.blocks() {
        return ctx.guard.check(&facts.stream, &facts.consumer);
    }
    let guard = Arc::clone(&ctx.guard);
    let checked = tokio::task::spawn_blocking(move || guard.check(&facts.stream, &facts.consumer)).await;
    checked.unwrap_or_else(|_| Err("the store guard panicked; please report it".to_owned()))
}

/// A count as a gauge: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of messages stay far below 2^53")]
fn gauge(count: u64) -> f64 {
    count as f64
}
