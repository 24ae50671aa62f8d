//! The lane's sweeps: tracked payments that are due go on without their events, in the way of `rail`: what may have
//! reached the rail is inquired about, what the rail twice did not know is sent again under its key, an end is announced.
//!
//! Any worker of the fleet sweeps; each sweep claims its payment in the store. Whatever a sweep does not finish is due
//! again by the store's own schedule, so nothing here has to be remembered.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::TaskTracker;

use super::context::Context;
use super::gate::Watch;
use super::inquiry::Asking;
use super::lane::InProgress;
use super::rail::{Sending, ask, call_of, contradicted};
use super::ways::Way;
use crate::broker::Wire;
use crate::domain::{Answer, Finding, NotSent, Outcome};
use crate::intake::{Instants, Judged, Raw};
use crate::rails::Rail;
use crate::resilience::Call;
use crate::store::{Concluded, Doubt, Due, Intent, Recorded, SWEEP_EVERY, Stand};
use crate::telemetry::metrics::Paused;
use crate::telemetry::trace::{Part, Trace};
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
        while !ctx.stop.is_cancelled() && page(&ctx, &tasks).await {}
    }
}

/// One page, to its end. Whether it was full: then there may be more.
async fn page<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, tasks: &TaskTracker) -> bool {
    // An inquiry takes no turn, of an event no more than of a sweep; but what a slow rail bears bounds them all.
    let most = u16::try_from(ctx.slots.allowed()).map_or(PAGE, |allowed| allowed.min(PAGE));
    let list = match ctx.store.due(ctx.lane.name.clone(), most).await {
        Ok(list) => list,
        Err(lost) => {
            ctx.store_lost(&lost);
            return false;
        }
    };
    if let InProgress::Track(policy) = &ctx.lane.in_progress {
        let full = ctx.tracker.saw(&list.totals, &policy.limits);
        ctx.gates.hold(Paused::Tracker, full);
    }
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
    let full = swept.len() >= usize::from(most);
    for (event, task) in swept {
        // What panicked is due again, each minute: nobody would know.
        if task.await.is_err() {
            Flow::HandlerPanicked { lane: ctx.name(), event: &event, starts: 1 }.emit();
        }
    }
    full
}

async fn one<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, due: Due) {
    let incoming = due.message().header("traceparent").map(str::to_owned);
    let trace = ctx.traces.sweep(incoming.as_deref(), &due.origin().event);
    let outcome = go_on(&Sweep { ctx, trace: &trace }, due, incoming.as_deref()).await;
    trace.swept(outcome);
}

/// One sweep: what its steps share.
struct Sweep<'a, W: Wire, R> {
    ctx: &'a Arc<Context<W, R>>,
    trace: &'a Trace,
}

/// Gives what became of it, as spans say it.
async fn go_on<W: Wire, R: Rail>(sweep: &Sweep<'_, W, R>, due: Due, incoming: Option<&str>) -> &'static str {
    let Sweep { ctx, trace } = *sweep;
    let judged = judge(ctx, &due);
    match &judged {
        Some(judged) => trace.payment(judged.payment_id()),
        None => Waits::TrackedUnreadable { lane: ctx.name(), event: &due.origin().event.to_string() }.emit(),
    }
    let span = trace.part(Part::Claim);
    let mut stand = match ctx.store.sweep(due, judged, ctx.route()).await {
        Ok(stand) => stand,
        Err(lost) => {
            span.fail("store_lost");
            ctx.store_lost(&lost);
            return "later";
        }
    };
    let claimed = !matches!(stand, None | Some(Stand::Elsewhere { .. }));
    span.end(if claimed { "claimed" } else { "elsewhere" });
    // An inquiry may allow a sending, and either may bring the end; a doubt that stays waits for the next sweep.
    while let Some(now) = stand {
        stand = match now {
            Stand::Final(recorded) => return announce(sweep, recorded, incoming).await,
            // Only the rail that an attempt names is ever asked about it.
            Stand::Doubt(doubt) => match ctx.way(doubt.rail()) {
                Some(way) => inquire(sweep, way, doubt).await,
                None => None,
            },
            Stand::Go(intent) => match ctx.way(intent.rail()) {
                Some(way) => submit(sweep, way, intent).await,
                None => conclude(ctx, intent.dispatch().1, Answer::NotSent(NotSent::Pool)).await,
            },
            Stand::Condemned(_) | Stand::Tracked(_) | Stand::Elsewhere { .. } => None,
        };
    }
    "later"
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

/// Asks the rail what became of the payment, where the breaker of inquiries lets it: if not, the store's schedule goes
/// on as if it had been asked, like that of an event.
async fn inquire<W: Wire, R: Rail>(sweep: &Sweep<'_, W, R>, way: Way<R>, doubt: Doubt) -> Option<Stand> {
    let Sweep { ctx, trace } = *sweep;
    let Way { rail, watch, .. } = way;
    if let Some(call) = ctx.late.take(&doubt) {
        // This process sent it, and the answer that came too late for that sweep is better than any inquiry.
        if call.is_finished() {
            return conclude(ctx, doubt, call.await.unwrap_or(Answer::Unknown)).await;
        }
        ctx.late.keep(&doubt, call);
    }
    let until = Instant::now().checked_add(PATIENCE)?;
    let asking = Asking::soon(&ctx.gates, watch, rail.answers_inquiries(), until, &ctx.stop).await?;
    let (finding, asked) = ask(ctx, rail.as_ref(), &doubt, trace, asking).await;
    let settled = matches!(finding, Finding::Answered(Answer::Settled(_)));
    let terms = rail.terms();
    let longest = terms.longest_execution.saturating_add(terms.deadline);
    match ctx.store.resume(doubt, finding, asked, longest).await {
        Ok(Stand::Doubt(_)) => None,
        Ok(stand) => {
            if let Stand::Final(recorded) = &stand {
                contradicted(ctx, settled, Some(recorded));
            }
            Some(stand)
        }
        Err((lost, _)) => {
            ctx.store_lost(&lost);
            None
        }
    }
}

/// Sends what may be sent, within what its rail bears. The call runs in its own task, and an answer past the deadline
/// still counts.
async fn submit<W: Wire, R: Rail>(sweep: &Sweep<'_, W, R>, way: Way<R>, intent: Intent) -> Option<Stand> {
    let Sweep { ctx, trace } = *sweep;
    let Way { rail, turns, watch, probing } = way;
    let until = Instant::now().checked_add(PATIENCE)?;
    let pass = match turns.turn(until, &ctx.stop).await {
        Some(turn) => ctx.gates.pass(watch.calls, until, &ctx.stop).await.map(|pass| (turn, pass)),
        None => None,
    };
    let allowed = match pass {
        Some((turn, pass)) if pass.is_probe() => {
            let pass = probing.ask_first(rail.as_ref(), pass, trace).await;
            pass.filter(|_| !ctx.stop.is_cancelled()).map(|pass| (turn, pass))
        }
        pass => pass,
    };
    let (order, doubt) = intent.dispatch();
    let Some((turn, pass)) = allowed.filter(|_| ctx.outside.now() < order.deadline()) else {
        return conclude(ctx, doubt, Answer::NotSent(NotSent::Pool)).await;
    };
    let span = trace.part(Part::Attempt { rail: rail.name() });
    let probe = pass.is_probe();
    let sending = Sending { rail: rail.name(), turn, pass, span };
    let deadline = rail.terms().deadline;
    let call = tokio::spawn(async move { rail.submit(&order).await });
    let (answer, late) = sending.answered(&ctx.metrics, deadline, call).await;
    probing.sent(doubt.key(), call_of(&answer), probe, answer == Answer::Unknown);
    if let Some(call) = late {
        ctx.late.keep(&doubt, call);
    }
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
async fn announce<W: Wire, R: Rail>(
    sweep: &Sweep<'_, W, R>,
    recorded: Recorded,
    incoming: Option<&str>,
) -> &'static str {
    let Sweep { ctx, trace } = *sweep;
    let Some(until) = Instant::now().checked_add(PATIENCE) else { return "not_told" };
    let Some(pass) = ctx.gates.pass(Watch::Outcomes, until, &ctx.stop).await else { return "not_told" };
    let (began, event) = (Instant::now(), recorded.event().to_string());
    let (outcome, publish) = match recorded.outcome() {
        Outcome::Settled(_) => ("settled", Part::PUBLISH_SETTLED),
        Outcome::Rejected(_) => ("rejected", Part::PUBLISH_REJECTED),
    };
    let span = trace.part(publish);
    match ctx.broker.announce(recorded, trace.onward(incoming).as_deref()).await {
        Ok(announced) => {
            span.end("confirmed");
            pass.seen(Call::Served, began.elapsed());
            if let Err(lost) = ctx.store.told(&announced).await {
                ctx.store_lost(&lost);
                return outcome;
            }
            ctx.metrics.tracked_ended(outcome);
            outcome
        }
        Err((error, _)) => {
            span.fail("not_confirmed");
            pass.seen(Call::Down, began.elapsed());
            Flow::OutcomeNotConfirmed { lane: ctx.name(), event: &event, detail: &error.to_string() }.emit();
            "not_told"
        }
    }
}
