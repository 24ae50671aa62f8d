//! The way of an event whose payment is settled by a rail: submitted once, its answer stored, and while the rail has
//! not said what became of it, inquired about. Unknown is not failure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use super::context::Context;
use super::dispose::{Disposition, Unfinished};
use super::event::{Event, Opened, Settled, Submitted};
use super::gate::Pass;
use super::held::tell;
use super::inquiry::{Asking, Next, due, next};
use super::late::Call as Late;
use super::process::{condemn, decide, foreign, hand_back, interrupted, opened_as};
use super::track::offer;
use super::turns::Turn;
use super::ways::Way;
use crate::broker::Wire;
use crate::domain::{Answer, Finding, NotSent, Outcome};
use crate::rails::{Rail, Terms};
use crate::resilience::{Call, State};
use crate::store::{Doubt, Intent, Recorded, StoreLost};
use crate::telemetry::Waits;
use crate::telemetry::metrics::{Finished, LaneMetrics};
use crate::telemetry::step::{self, Step};
use crate::telemetry::trace::{Part, Span, Trace};

/// Gives the payment to the rail. The call runs in its own task: it is never dropped half way, and an answer that
/// comes after the deadline still counts.
pub(super) fn submit<W: Wire, R: Rail>(
    ctx: &Arc<Context<W, R>>,
    event: Event<Intent, W>,
    kept: Option<Pass>,
) -> futures_util::future::BoxFuture<'static, Finished> {
    let ctx = Arc::clone(ctx);
    // Boxed: a rail's NotFound leads back here from an inquiry.
    Box::pin(async move {
        // Only the rail that an intent names may ever be given its order.
        let Some(Way { rail, turns, watch, probing }) = ctx.way(event.rail()) else { return unsent(&ctx, event).await };
        let turn = turns.turn(ctx.hold_until(&event), &ctx.stop).await;
        let Some(turn) = turn else { return unsent(&ctx, event).await };
        // It may have opened while the event waited for its turn.
        let held = |pass: &Pass| pass.watch() == watch.calls && ctx.gates.state(watch.calls) != State::Open;
        let pass = match kept.filter(held) {
            Some(pass) => Some(pass),
            None => ctx.pass_to(watch, &event).await,
        };
        // The grace time has room for one call of the rail, not for a second one behind the first.
        let pass = match pass {
            Some(pass) if pass.is_probe() => {
                let pass = probing.ask_first(rail.as_ref(), pass, event.trace()).await;
                pass.filter(|_| !ctx.stop.is_cancelled())
            }
            pass => pass,
        };
        let Some(pass) = pass else { return unsent(&ctx, event).await };
        let (probe, deadline, rail_name) = (pass.is_probe(), rail.terms().deadline, rail.name());
        let span = event.trace().part(Part::Attempt { rail: rail_name });
        let sending = Sending { rail: rail_name, turn, pass, span };
        let (mut event, call) = match event.submit(rail, ctx.outside.now()) {
            Submitted::Sent(event, call) => (event, call),
            // Its deadline passed while it waited: asked again, the store refuses it (AB11).
            Submitted::TooLate(event) => {
                sending.span.end("too_late");
                return conclude(&ctx, event, Answer::NotSent(NotSent::Pool), None, false).await;
            }
        };
        let (answer, late) = sending.answered(&ctx.metrics, deadline, call).await;
        probing.sent(event.doubt().key(), call_of(&answer), probe, answer == Answer::Unknown);
        ctx.note_second(&mut event);
        step::at(Step::AfterAnswer);
        conclude(&ctx, event, answer, late, probe).await
    })
}

/// A submission that the limit and the breaker let through, of an event or of a sweep.
pub(super) struct Sending {
    pub(super) rail: &'static str,
    pub(super) turn: Turn,
    pub(super) pass: Pass,
    pub(super) span: Span,
}

impl Sending {
    /// Waits for the answer until `deadline`, and counts it. A call that is still under way then is given back.
    pub(super) async fn answered(
        self,
        metrics: &LaneMetrics,
        deadline: Duration,
        mut call: Late,
    ) -> (Answer, Option<Late>) {
        let began = Instant::now();
        let (answer, late) = match timeout(deadline, &mut call).await {
            Ok(Ok(answer)) => (answer, None),
            // A panic may have come after the sending.
            Ok(Err(_)) => (Answer::Unknown, None),
            Err(_) => (Answer::Unknown, Some(call)),
        };
        end_attempt(self.span, &answer);
        metrics.rail_called(self.rail, &answer);
        self.pass.seen(call_of(&answer), began.elapsed());
        self.turn.seen(&answer, late.is_some(), began.elapsed());
        metrics.settlement(answer != Answer::Unknown, began.elapsed());
        (answer, late)
    }
}

fn end_attempt(span: Span, answer: &Answer) {
    match answer {
        Answer::Settled(_) => span.end("settled"),
        Answer::InProgress => span.end("in_progress"),
        Answer::Rejected { code, .. } => span.refuse(*code),
        Answer::Blocked => span.end("blocked"),
        Answer::NotSent(_) => span.fail("not_sent"),
        Answer::Unknown => span.fail("unknown"),
    }
}

pub(super) fn call_of(answer: &Answer) -> Call {
    match answer {
        Answer::Settled(_) | Answer::InProgress | Answer::Rejected { .. } | Answer::Blocked => Call::Served,
        Answer::NotSent(NotSent::OurFault) => Call::OurFault,
        Answer::NotSent(_) | Answer::Unknown => Call::Down,
    }
}

/// An attempt is on record, and this process knows that it was not sent: it says so, or the payment would be in doubt.
async fn unsent<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, event: Event<Intent, W>) -> Finished {
    conclude(ctx, event.unsent(), Answer::NotSent(NotSent::Pool), None, false).await
}

async fn conclude<W: Wire, R: Rail>(
    ctx: &Arc<Context<W, R>>,
    event: Event<Doubt, W>,
    answer: Answer,
    late: Option<Late>,
    probe: bool,
) -> Finished {
    let mut event = event;
    let other_may = matches!(answer, Answer::NotSent(_)) && ctx.declined(&event);
    loop {
        match event.conclude(&ctx.store, answer.clone()).await {
            Ok(Settled::Final(event)) => {
                contradicted(ctx, matches!(answer, Answer::Settled(_)), Some(event.proof()));
                return opened_as(ctx, Opened::Final(event)).await;
            }
            Ok(Settled::Elsewhere(event)) => return opened_as(ctx, Opened::Elsewhere(event)).await,
            Ok(Settled::Doubt(event)) if answer == Answer::InProgress => {
                return match offer(ctx, event, true).await {
                    Ok(end) => end,
                    Err(event) => inquire(ctx, event, late).await,
                };
            }
            Ok(Settled::Doubt(event)) => return inquire(ctx, event, late).await,
            Ok(Settled::ForPerson(event)) => {
                Waits::HeldForPerson { lane: ctx.name(), payment: &event.id().to_string() }.emit();
                if let Some(way) = ctx.way(event.doubt().rail()) {
                    tell(ctx, &event, &way.rail.terms()).await;
                }
                return interrupted(ctx, event, "held for a person").await;
            }
            Ok(Settled::Released(event)) => {
                let not_sent = match &answer {
                    // What this rail asks to wait for is nothing to the other.
                    Answer::NotSent(NotSent::SaidNotProcessed { .. }) if other_may => {
                        NotSent::SaidNotProcessed { retry_after: None }
                    }
                    Answer::NotSent(not_sent) => not_sent.clone(),
                    Answer::Settled(_)
                    | Answer::InProgress
                    | Answer::Rejected { .. }
                    | Answer::Blocked
                    | Answer::Unknown => NotSent::SaidNotProcessed { retry_after: None },
                };
                let why = "the rail did not take it";
                return match decide(ctx, &event, Unfinished::NotSent(&not_sent), probe, why) {
                    Disposition::Condemn(reason) => condemn(ctx, event, reason).await,
                    Disposition::Later { after, .. } | Disposition::Inquire { after } => {
                        hand_back(ctx, event, why, after).await
                    }
                };
            }
            Err((StoreLost::Foreign, back)) => return foreign(ctx, back).await,
            Err((lost, back)) => {
                ctx.store_lost(&lost);
                // The answer is only in this process: the event is held past its time until the store serves again.
                let again = match decide(ctx, &back, Unfinished::StoreLost, false, "the store did not serve") {
                    Disposition::Later { after, .. } | Disposition::Inquire { after } => after,
                    Disposition::Condemn(_) => Duration::from_secs(1),
                };
                tokio::select! {
                    biased;
                    () = ctx.cut.cancelled() => return interrupted(ctx, back, "the store did not serve").await,
                    () = tokio::time::sleep(again) => event = back,
                }
            }
        }
    }
}

/// Asks the rail what became of the payment, on the schedule of the table, until it says or the event is handed back.
pub(super) fn inquire<W: Wire, R: Rail>(
    ctx: &Arc<Context<W, R>>,
    event: Event<Doubt, W>,
    late: Option<Late>,
) -> futures_util::future::BoxFuture<'static, Finished> {
    let ctx = Arc::clone(ctx);
    Box::pin(async move {
        let Some(Way { rail, watch, .. }) = ctx.way(event.doubt().rail()) else {
            return interrupted(&ctx, event, "its attempt belongs to no rail of this lane").await;
        };
        Waits::Unknown { lane: ctx.name(), payment: event.doubt().payment_id().as_str() }.emit();
        let _counted = Unknown::count(&ctx.metrics);
        // What is asked about waits for no turn at the rail, and must keep no other event from one.
        let aside = ctx.slots.aside();
        let mut late = late.or_else(|| ctx.late.take(event.doubt()));
        let mut event = event;
        let terms = rail.terms();
        let longest = terms.longest_execution.saturating_add(terms.deadline);
        let asks = rail.answers_inquiries();
        let mut said = false;
        loop {
            if late.is_none() {
                event = match offer(&ctx, event, said).await {
                    Ok(end) => return end,
                    Err(event) => event,
                };
            }
            tell(&ctx, &event, &terms).await;
            let at = due(&ctx, &event);
            // An answer that is still to come is worth the slot, for as long as the rail may take.
            let until = if late.is_some() { ctx.hold_until(&event) + longest } else { ctx.hold_until(&event) };
            let again = (at < until).then_some(at);
            if again.is_none() && late.is_none() {
                break;
            }
            let asking = tokio::select! {
                biased;
                // It is worth the grace time, too.
                () = ctx.stop.cancelled(), if late.is_none() => break,
                answer = late_answer(&mut late) => {
                    drop(aside);
                    return conclude(&ctx, event, answer, None, false).await;
                }
                next = next(&ctx.gates, watch, asks, again, until) => match next {
                    Next::Ask(asking) => asking,
                    Next::NotNow => {
                        ctx.histories.asked(event.id());
                        continue;
                    }
                    Next::Over => break,
                },
            };
            let (finding, asked) = ask(&ctx, rail.as_ref(), event.doubt(), event.trace(), asking).await;
            ctx.histories.asked(event.id());
            let settled = matches!(finding, Finding::Answered(Answer::Settled(_)));
            said = finding == Finding::Answered(Answer::InProgress);
            match event.resume(&ctx.store, finding, asked, longest).await {
                Ok(Opened::Doubt(still)) => event = still,
                Ok(opened) => {
                    contradicted(&ctx, settled, opened.recorded());
                    drop(aside);
                    return opened_as(&ctx, opened).await;
                }
                Err((lost, back)) => {
                    ctx.store_lost(&lost);
                    event = back;
                }
            }
        }
        if let Some(call) = late {
            ctx.late.keep(event.doubt(), call);
        }
        leave(&ctx, event).await
    })
}

/// One inquiry, within the rail's deadline; for an event or a sweep. With it, when it was sent.
pub(super) async fn ask<W: Wire, R: Rail>(
    ctx: &Context<W, R>,
    rail: &R,
    doubt: &Doubt,
    trace: &Trace,
    asking: Asking,
) -> (Finding, Instant) {
    let terms = rail.terms();
    let (span, began) = (trace.part(Part::Inquire { rail: rail.name() }), Instant::now());
    let finding = match timeout(terms.deadline, rail.inquire(&doubt.key())).await {
        Ok(finding) => finding,
        Err(_) => Finding::CannotSay,
    };
    asking.seen(&finding, began.elapsed());
    let finding = believed(finding, ctx.outside.now(), doubt.started_at(), &terms);
    end_inquiry(span, &finding);
    if finding == Finding::NotFound {
        step::at(Step::AfterNotFound);
    }
    (finding, began)
}

/// Hands the event back until its next inquiry is due.
async fn leave<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, event: Event<Doubt, W>) -> Finished {
    let left = due(ctx, &event).saturating_duration_since(Instant::now());
    if ctx.stop.is_cancelled() || left.is_zero() {
        return interrupted(ctx, event, "the rail has not said").await;
    }
    hand_back(ctx, event, "the rail has not said", left).await
}

/// Says that the rail has settled what ended otherwise: a person has resolved it so, and was wrong.
pub(super) fn contradicted<W: Wire, R: Rail>(ctx: &Context<W, R>, settled: bool, stands: Option<&Recorded>) {
    if let Some(Outcome::Rejected(rejected)) = stands.map(Recorded::outcome)
        && settled
    {
        Waits::Contradicted { lane: ctx.name(), payment: rejected.payment_id.as_str() }.emit();
    }
}

/// A rail that may have forgotten a key finds nothing under it, whatever it did: from half of the retention on its
/// "not found" says nothing, and the payment waits for an answer or a person.
fn believed(finding: Finding, now: Timestamp, started_at: Timestamp, terms: &Terms) -> Finding {
    let age = Duration::try_from(now.duration_since(started_at)).unwrap_or_default();
    let remembered = age <= terms.key_retention / 2;
    if finding == Finding::NotFound && !remembered { Finding::CannotSay } else { finding }
}

pub(super) fn end_inquiry(span: Span, finding: &Finding) {
    match finding {
        Finding::Answered(answer) => end_attempt(span, answer),
        Finding::NotFound => span.end("not_found"),
        Finding::CannotSay => span.fail("cannot_say"),
    }
}

/// The answer of a call that went past its deadline; for ever pending without one.
async fn late_answer(late: &mut Option<Late>) -> Answer {
    match late {
        Some(call) => {
            let answer = call.await.unwrap_or(Answer::Unknown);
            *late = None;
            answer
        }
        None => std::future::pending().await,
    }
}

/// Counts a payment in doubt for as long as this process holds its event.
struct Unknown<'a>(&'a LaneMetrics);

impl<'a> Unknown<'a> {
    fn count(metrics: &'a LaneMetrics) -> Self {
        metrics.unknown.increment(1.0);
        Self(metrics)
    }
}

impl Drop for Unknown<'_> {
    fn drop(&mut self) {
        self.0.unknown.decrement(1.0);
    }
}
