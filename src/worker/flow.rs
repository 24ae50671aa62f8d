//! The pull loop of a lane: credit is what there are free slots and bytes for and what the gate lets through; slots
//! are taken before the pull is sent, so that nothing is ever delivered that has no place.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::context::Context;
use super::gate::{Credit, Watch};
use super::process::own;
use crate::broker::{Delay, Delivery, Ended, Pulled, Pulls, Wire};
use crate::rails::Rail;
use crate::resilience::State;
use crate::telemetry::metrics::{AckKind, Finished, Paused};
use crate::telemetry::trace::Arrived;
use crate::telemetry::{Flow, Life, Link};

/// The longest wait between two tries of a pull that is refused.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Why the loop over one subscription ended.
enum Left {
    Stopped,
    Rebuild,
}

/// The state of one lane's pull loop.
pub(super) struct PullLoop<W: Wire, R> {
    ctx: Arc<Context<W, R>>,
    tasks: TaskTracker,
    refusals: u32,
    not_before: Instant,
}

impl<W: Wire, R: Rail> PullLoop<W, R> {
    pub(super) fn new(ctx: Arc<Context<W, R>>, tasks: TaskTracker) -> Self {
        Self { ctx, tasks, refusals: 0, not_before: Instant::now() }
    }

    /// Pulls until the lane is stopped and its outstanding pulls have ended.
    pub(super) async fn run(mut self) {
        loop {
            if !self.verified().await {
                return;
            }
            let epoch = self.ctx.broker.link().borrow().epoch;
            let mut pulls = Pulls::new(self.ctx.consumer.clone());
            let left = self.pull(&mut pulls, epoch).await;
            // What still comes for these pulls finds no inbox, and is delivered again after `ack_wait`.
            self.ctx.slots.give_back(pulls.credit());
            self.outstanding(0);
            match left {
                Left::Stopped => return,
                Left::Rebuild => {}
            }
        }
    }

    /// Waits until the consumer is verified; false where the lane is stopped first.
    async fn verified(&self) -> bool {
        let mut changes = self.ctx.gates.changes();
        loop {
            changes.heard();
            if self.ctx.stop.is_cancelled() {
                return false;
            }
            if self.ctx.consumer.is_verified() {
                return true;
            }
            tokio::select! {
                biased;
                () = self.ctx.stop.cancelled() => return false,
                () = changes.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    }

    async fn pull(&mut self, pulls: &mut Pulls<W>, epoch: u64) -> Left {
        let ctx = Arc::clone(&self.ctx);
        let mut link = ctx.broker.link();
        let mut changes = ctx.gates.changes();
        loop {
            self.outstanding(pulls.outstanding());
            if ctx.stop.is_cancelled() && pulls.outstanding() == 0 {
                return Left::Stopped;
            }
            if link.borrow_and_update().epoch != epoch || ctx.rebuild.swap(false, Ordering::AcqRel) {
                return Left::Rebuild;
            }
            changes.heard();
            let (batch, wake) = self.want(pulls);
            if batch > 0 {
                self.ask(pulls, batch).await;
                continue;
            }
            let stopping = ctx.stop.is_cancelled();
            tokio::select! {
                biased;
                pulled = pulls.next() => self.take(pulled, stopping),
                () = changes.changed() => {}
                () = ctx.slots.freed() => {}
                () = link.changed() => {}
                () = ctx.stop.cancelled(), if !stopping => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// How much to ask for now, and when to look again at the latest.
    fn want(&self, pulls: &Pulls<W>) -> (u32, Instant) {
        let ctx = &self.ctx;
        let now = Instant::now();
        let later = now.checked_add(Duration::from_secs(1)).unwrap_or(now);
        if ctx.stop.is_cancelled() || !ctx.consumer.is_verified() {
            return (0, later);
        }
        if now < self.not_before {
            return (0, self.not_before);
        }
        ctx.slots.go_over(ctx.gates.is_over_second(now.into_std()));
        let free = ctx.slots.room();
        let (most, wake) = match ctx.gates.credit(now.into_std()) {
            Credit::Shut { until, .. } => (0, until.map_or(later, Instant::from_std).min(later)),
            // What is under way already counts against what the gate lets through.
            Credit::Permits(permits) => (permits.saturating_sub(pulls.credit()), later),
            Credit::Open => (free, later),
        };
        let Some(terms) = ctx.consumer.terms() else { return (0, later) };
        let batch = most.min(free).min(ctx.slots.fit(pulls.credit(), terms.largest)).min(terms.max_batch);
        #[cfg(acquit_sabotage = "credit_beyond_slots")]
        let batch = if most > 0 && pulls.credit() < 4096 { 2048 } else { 0 };
        // A pull for each freed slot would cost more than it brings; with none outstanding any number is worth it.
        let enough = pulls.outstanding() == 0 || batch >= ctx.slots.worthwhile();
        (if enough { batch } else { 0 }, wake)
    }

    async fn ask(&mut self, pulls: &mut Pulls<W>, batch: u32) {
        let ctx = &self.ctx;
        ctx.slots.promise(batch);
        if ctx.gates.state(Watch::Settlement) == State::Open && ctx.gates.is_only_way(Watch::Settlement) {
            ctx.gates.counts.pulls_while_open.fetch_add(1, Ordering::Relaxed);
        }
        if pulls.pull(batch, ctx.lane.limits.expires).await.is_err() {
            ctx.slots.give_back(batch);
            self.back_off("send", "not connected");
            return;
        }
        let mut first = ctx.first_pull.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        first.get_or_insert_with(Instant::now);
    }

    fn take(&mut self, pulled: Pulled<W>, stopping: bool) {
        match pulled {
            Pulled::Delivery(delivery) => {
                self.served();
                self.start(delivery);
            }
            Pulled::Late(delivery) => self.return_late(delivery),
            Pulled::Ended { unused, how } => {
                self.ctx.slots.give_back(unused);
                match how {
                    Ended::Normally => self.served(),
                    Ended::Silent => {
                        self.ctx.consumer.doubt();
                        self.ctx.note_denied_pull();
                        self.back_off("silent", "no word until two seconds past its time");
                    }
                    Ended::Refused(refusal, words) => {
                        if refusal.casts_doubt() {
                            self.ctx.consumer.doubt();
                        }
                        if !stopping {
                            self.back_off(refusal.name(), &words);
                        }
                    }
                }
            }
            Pulled::Void => self.ctx.slots.give_back(1),
        }
    }

    /// Gives an event a task of its own, which owns it to its end.
    fn start(&self, mut delivery: Delivery<W>) {
        let ctx = Arc::clone(&self.ctx);
        ctx.took(&delivery);
        let trace = ctx.traces.process(|| arrived(&delivery));
        delivery.follow(trace.clone());
        let slot = ctx.slots.fill(delivery.payload().len());
        let kept = ctx.keepalive.keep(delivery.hold());
        let (id, received) = (delivery.event().clone(), delivery.received());
        self.tasks.spawn(async move {
            let own = Box::pin(AssertUnwindSafe(own(Arc::clone(&ctx), delivery)).catch_unwind());
            let owned = tokio::select! {
                biased;
                owned = own => owned,
                // The grace time is over. A settlement under way goes on in the store's writer or its own task.
                () = ctx.cut.cancelled() => Ok(Finished::Abandoned),
            };
            trace.finish(*owned.as_ref().unwrap_or(&Finished::Abandoned));
            match owned {
                Ok(how) => ctx.finished(how, received.elapsed()),
                Err(_) => {
                    // The delivery is gone with the panic: the event comes back after ack_wait, and is counted.
                    let starts = ctx.store.start_of(id.clone()).await.unwrap_or(0);
                    ctx.histories.started(&id, starts);
                    Flow::HandlerPanicked { lane: ctx.name(), event: &id.to_string(), starts }.emit();
                    ctx.finished(Finished::Abandoned, received.elapsed());
                }
            }
            drop((kept, slot));
        });
    }

    fn return_late(&self, delivery: Delivery<W>) {
        let ctx = Arc::clone(&self.ctx);
        self.tasks.spawn(async move {
            let id = delivery.event().clone();
            let sent = Instant::now();
            let delay = Delay::at_least(Duration::from_millis(100));
            let answer = delivery.hand_back(delay).await;
            ctx.metrics.retried("late");
            ctx.acknowledged(AckKind::Nak, &id, answer, sent.elapsed());
        });
    }

    /// The server serves this lane's pulls.
    fn served(&mut self) {
        if self.refusals > 0 {
            self.refusals = 0;
            self.ctx.pull_is_served();
        }
    }

    /// Doubles the wait before the next pull, from 50 ms to 5 s: never a hot loop.
    fn back_off(&mut self, reason: &'static str, detail: &str) {
        self.refusals = self.refusals.saturating_add(1);
        let most = Duration::from_millis(50).saturating_mul(2_u32.saturating_pow(self.refusals.min(10)));
        let wait = most.min(BACKOFF_MAX).mul_f64(0.5 + self.ctx.outside.chance() / 2.0);
        let now = Instant::now();
        self.not_before = now.checked_add(wait).unwrap_or(now);
        self.ctx.metrics.pull_error(reason);
        Link::PullEnded { lane: self.ctx.name(), reason, detail, again_in: wait }.emit();
    }

    fn outstanding(&self, pulls: usize) {
        let pulls = u32::try_from(pulls).unwrap_or(u32::MAX);
        self.ctx.pulls_outstanding.store(pulls, Ordering::Relaxed);
    }
}

fn arrived<W: Wire>(delivery: &Delivery<W>) -> Arrived<'_> {
    Arrived {
        traceparent: delivery.header("traceparent"),
        message_id: delivery.header("Nats-Msg-Id"),
        subject: delivery.subject(),
        sequence: delivery.event().sequence,
        delivered: delivery.delivered(),
    }
}

/// Marks the lane as draining.
pub(super) fn drain<W: Wire, R>(ctx: &Context<W, R>) {
    ctx.stop.cancel();
    ctx.gates.hold(Paused::Drain, true);
    Life::Draining { lane: ctx.name(), held: ctx.held(), grace: ctx.lane.limits.grace }.emit();
}
