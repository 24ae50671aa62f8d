//! The lane's sweeps: tracked payments that are due go on without their events, in the way of `rail`: what may have
//! reached the rail is inquired about, what the rail twice did not know is sent again under its key, an end is announced.
//!
//! Any worker of the fleet sweeps; each sweep claims its payment in the store. Whatever a sweep does not finish is due
//! again by the store's own schedule, so nothing here has to be remembered.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::task::TaskTracker;

use super::context::Context;
use super::gate::Watch;
use super::lane::InProgress;
use super::rail::{believed, call_of};
use super::ways::Way;
use crate::broker::Wire;
use crate::domain::{Answer, Finding, NotSent, Outcome};
use crate::intake::{Instants, Judged, Raw};
use crate::rails::Rail;
use crate::resilience::Call;
use crate::store::{Concluded, Doubt, Due, Intent, Recorded, SWEEP_EVERY, Stand};
use crate::telemetry::metrics::Paused;
use crate::telemetry::{Flow, Waits};

/// Payments swept at once. They take no slot of the lane's: its events must not wait for a rail that is late.
const PAGE: u16 = 32;
/// How long a sweep waits for a gate. A payment that does not get through is due again soon.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sweeps for as long as the lane runs, and takes nothing up once it stops. In every lane with a rail: what was tracked
/// before its configuration changed must not be forgotten.
pub(super) async fn run<W: Wire, R: Rail>(ctx: Arc<Context<W, R>>, tasks: TaskTracker) {
    if ctx.rail.is_none() {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // A full page: there may be more.
        while !ctx.stop.is_cancelled() && page(&ctx, &tasks).await >= usize::from(PAGE) {}
    }
}

/// One page, to its end. Gives how many payments it had.
async fn page<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, tasks: &TaskTracker) -> usize {
    let list = match ctx.store.due(ctx.lane.name.clone(), PAGE).await {
        Ok(list) => list,
        Err(lost) => {
            ctx.store_lost(&lost);
            return 0;
        }
    };
    if let InProgress::Track(policy) = &ctx.lane.in_progress {
        let full = ctx.tracker.saw(&list.totals, &policy.limits);
        ctx.gates.hold(Paused::Tracker, full);
    }
    let oldest = list.totals.oldest.map(|since| ctx.outside.now().duration_since(since));
    ctx.metrics.tracked(list.totals.count, oldest.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default());
    let swept: Vec<_> = list
        .due
        .into_iter()
        .map(|due| {
            let (ctx, event) = (Arc::clone(ctx), due.origin().event.to_string());
            // A task each: one that panics takes no other with it, and a stop waits for them like for events.
            let swept = tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = one(&ctx, due) => {}
                    () = ctx.cut.cancelled() => {}
                }
            });
            (event, swept)
        })
        .collect();
    let count = swept.len();
    for (event, task) in swept {
        // What panicked is due again, each minute: nobody would know.
        if task.await.is_err() {
            Flow::HandlerPanicked { lane: ctx.name(), event: &event, starts: 1 }.emit();
        }
    }
    count
}

async fn one<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, due: Due) {
    let trace = due.message().header("traceparent").map(str::to_owned);
    let judged = judge(ctx, &due);
    if judged.is_none() {
        Waits::TrackedUnreadable { lane: ctx.name(), event: &due.origin().event.to_string() }.emit();
    }
    let mut stand = match ctx.store.sweep(due, judged, ctx.route()).await {
        Ok(stand) => stand,
        Err(lost) => return ctx.store_lost(&lost),
    };
    // An inquiry may allow a sending, and either may bring the end; a doubt that stays waits for the next sweep.
    while let Some(now) = stand {
        stand = match now {
            Stand::Final(recorded) => return announce(ctx, recorded, trace.as_deref()).await,
            // Only the rail that an attempt names is ever asked about it.
            Stand::Doubt(doubt) => match ctx.way(doubt.rail()) {
                Some(Way { rail, .. }) => inquire(ctx, &rail, doubt).await,
                None => None,
            },
            Stand::Go(intent) => match ctx.way(intent.rail()) {
                Some(way) => submit(ctx, way, intent).await,
                None => conclude(ctx, intent.dispatch().1, Answer::NotSent(NotSent::Pool)).await,
            },
            Stand::Condemned(_) | Stand::Tracked(_) | Stand::Elsewhere { .. } => None,
        };
    }
}

/// Judges the message as its event would be judged now.
fn judge<W: Wire, R: Rail>(ctx: &Context<W, R>, due: &Due) -> Option<Judged> {
    let (origin, message) = (due.origin(), due.message());
    let header = |name: &str| message.header(name);
    let raw = Raw { scheme: &origin.scheme, order_key: &origin.order_key, header: &header, body: &message.body };
    let decoded = ctx.decode.decode(raw).ok()?;
    let at = Instants { requested_at: origin.requested_at, now: ctx.outside.now() };
    Some(ctx.lane.rules.judge(decoded, &origin.scheme, at))
}

async fn inquire<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, rail: &Arc<R>, doubt: Doubt) -> Option<Stand> {
    let terms = rail.terms();
    if let Some(call) = ctx.late.take(&doubt) {
        // This process sent it, and the answer that came too late for that sweep is better than any inquiry.
        if call.is_finished() {
            return conclude(ctx, doubt, call.await.unwrap_or(Answer::Unknown)).await;
        }
        ctx.late.keep(&doubt, call);
    }
    let finding = match timeout(terms.deadline, rail.inquire(&doubt.key())).await {
        Ok(finding) => believed(finding, ctx.outside.now(), doubt.started_at(), &terms),
        Err(_) => Finding::CannotSay,
    };
    let longest = terms.longest_execution.saturating_add(terms.deadline);
    match ctx.store.resume(doubt, finding, longest).await {
        Ok(Stand::Doubt(_)) => None,
        Ok(stand) => Some(stand),
        Err((lost, _)) => {
            ctx.store_lost(&lost);
            None
        }
    }
}

/// Sends what may be sent. The call runs in its own task, and an answer past the deadline still counts.
async fn submit<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, way: Way<R>, intent: Intent) -> Option<Stand> {
    let until = Instant::now().checked_add(PATIENCE)?;
    let Way { rail, watch, .. } = way;
    let pass = ctx.gates.pass(watch.calls, until, &ctx.stop).await;
    let (order, doubt) = intent.dispatch();
    let Some(pass) = pass.filter(|_| ctx.outside.now() < order.deadline()) else {
        return conclude(ctx, doubt, Answer::NotSent(NotSent::Pool)).await;
    };
    let (began, deadline, name) = (Instant::now(), rail.terms().deadline, rail.name());
    let mut call = tokio::spawn(async move { rail.submit(&order).await });
    let answer = match timeout(deadline, &mut call).await {
        Ok(answer) => answer.unwrap_or(Answer::Unknown),
        Err(_) => {
            ctx.late.keep(&doubt, call);
            Answer::Unknown
        }
    };
    pass.seen(call_of(&answer), began.elapsed());
    ctx.metrics.rail_called(name, &answer);
    ctx.metrics.settlement(answer != Answer::Unknown, began.elapsed());
    conclude(ctx, doubt, answer).await
}

/// Stores what the rail answered, however long the store does not serve: the answer is only in this process.
async fn conclude<W: Wire, R: Rail>(ctx: &Context<W, R>, doubt: Doubt, answer: Answer) -> Option<Stand> {
    let mut doubt = doubt;
    loop {
        match ctx.store.conclude(doubt, answer.clone()).await {
            Ok(Concluded::Final(recorded)) => return Some(Stand::Final(recorded)),
            Ok(Concluded::Held(doubt)) => {
                Waits::HeldForPerson { lane: ctx.name(), payment: doubt.payment_id().as_str() }.emit();
                return None;
            }
            Ok(Concluded::Released | Concluded::Doubt(_) | Concluded::Elsewhere { .. }) => return None,
            Err((lost, back)) => {
                ctx.store_lost(&lost);
                doubt = back;
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

/// Publishes the outcome; once it is confirmed the tracker lets go of the payment.
async fn announce<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, recorded: Recorded, trace: Option<&str>) {
    let Some(until) = Instant::now().checked_add(PATIENCE) else { return };
    let Some(pass) = ctx.gates.pass(Watch::Outcomes, until, &ctx.stop).await else { return };
    let (began, event) = (Instant::now(), recorded.event().to_string());
    let outcome = match recorded.outcome() {
        Outcome::Settled(_) => "settled",
        Outcome::Rejected(_) => "rejected",
    };
    match ctx.broker.announce(recorded, trace).await {
        Ok(announced) => {
            pass.seen(Call::Served, began.elapsed());
            if let Err(lost) = ctx.store.told(&announced).await {
                return ctx.store_lost(&lost);
            }
            ctx.metrics.tracked_ended(outcome);
        }
        Err((error, _)) => {
            pass.seen(Call::Down, began.elapsed());
            Flow::OutcomeNotConfirmed { lane: ctx.name(), event: &event, detail: &error.to_string() }.emit();
        }
    }
}
