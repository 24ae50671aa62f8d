//! One event's way, top down: decode, judge, open, announce, acknowledge; or condemn, bury, terminate; or, where it
//! is not final, what the table in `dispose` says.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::check::vet;
use super::context::Context;
use super::dispose::{Disposition, Unfinished, dispose};
use super::event::{Elsewhere, Event, Opened, Received};
use super::gate::{Pass, Watch};
use super::lost::not_opened;
use super::rail;
use super::tells::Tells;
use crate::broker::{Delay, Delivery, Wire};
use crate::domain::{DeadReason, EventId};
use crate::intake::{Judged, Unreadable};
use crate::rails::Rail;
use crate::resilience::Call;
use crate::store::{Condemned, NotCondemned, StoreLost};
use crate::telemetry::Flow;
use crate::telemetry::metrics::{AckKind, Finished};
use crate::telemetry::step::{Step, at};
use crate::telemetry::trace::{Answering, Part, Span};

/// Owns an event to its end. Whatever is returned, the delivery is answered or left un-acknowledged on purpose.
pub(super) async fn own<W: Wire, R: Rail>(ctx: Arc<Context<W, R>>, delivery: Delivery<W>) -> Finished {
    at(Step::AfterPull);
    let event = Event::received(delivery);
    let tries = ctx.histories.of(event.id());
    if tries.starts >= ctx.poison_starts {
        return condemn(&ctx, event, DeadReason::Poison { starts: tries.starts }).await;
    }
    #[cfg(acquit_sabotage = "ack_before_commit")]
    drop(event.hold().sabotage_ack().await);
    let (began, span) = (Instant::now(), event.trace().part(Part::Validate));
    let read = {
        let _reading = ctx.poison.enter(event.id(), event.delivery().delivered()).await;
        event.decode(ctx.decode.as_ref()).map(|read| read.judge(&ctx.lane.rules, ctx.outside.now()))
    };
    match read {
        Ok(judged) => {
            ctx.metrics.judged(began.elapsed());
            note_judgement(&ctx, &judged, span);
            settle(&ctx, judged).await
        }
        Err(unreadable) => match unreadable.why().clone() {
            Unreadable::Malformed(reason) => {
                span.fail(reason.code.as_str());
                condemn(&ctx, unreadable.forget(), DeadReason::Unreadable(reason)).await
            }
            Unreadable::NewerContract { version } => {
                span.fail("newer_contract");
                ctx.saw_newer_contract(version);
                let wait = ctx.lane.limits.expires.saturating_mul(15);
                hand_back(&ctx, unreadable, "a newer contract", wait).await
            }
        },
    }
}

async fn settle<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, event: Event<Judged, W>) -> Finished {
    let mut event = match vet(ctx, event).await {
        Ok(event) => event,
        Err(end) => return end,
    };
    loop {
        let Some((pass, route)) = ctx.entry(&event).await else {
            return interrupted(ctx, event, "the gate stayed shut").await;
        };
        let notes = ctx.histories.of(event.id()).notes;
        let began = Instant::now();
        let span = event.trace().part(if ctx.rail.is_none() { Part::Attempt { rail: "book" } } else { Part::Claim });
        match event.open(&ctx.store, &ctx.lane.name, notes, route).await {
            Ok(opened) => {
                span.end(opened.name());
                ctx.metrics.settlement(true, began.elapsed());
                if ctx.second.is_some()
                    && let Opened::Go(event) = opened
                {
                    // Kept for the call: what was routed by it must not find the gate shut behind it.
                    return rail::submit(ctx, event, Some(pass)).await;
                }
                store_served(ctx, pass, began);
                return opened_as(ctx, opened).await;
            }
            Err((lost, back)) => match not_opened(ctx, back, &lost, pass, began, span).await {
                Ok(again) => event = again,
                Err(end) => return end,
            },
        }
    }
}

/// The store served. Where there is a rail the breaker watches that: what did not reach it says nothing about it.
pub(super) fn store_served<W: Wire, R: Rail>(ctx: &Context<W, R>, pass: Pass, began: Instant) {
    if ctx.rail.is_some() {
        drop(pass);
    } else {
        pass.seen(Call::Served, began.elapsed());
    }
}

/// After the store has said what stands.
pub(super) async fn opened_as<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, opened: Opened<W>) -> Finished {
    match opened {
        Opened::Final(event) => announce(ctx, event).await,
        Opened::Condemned(event) => bury(ctx, event).await,
        Opened::Elsewhere(event) => elsewhere(ctx, event).await,
        Opened::Go(event) => rail::submit(ctx, event, None).await,
        Opened::Doubt(event) => rail::inquire(ctx, event, None).await,
        Opened::Tracked(event) => announce(ctx, event).await,
    }
}

/// Publishes the outcome, or that the payment goes on without its event; then acknowledges. In this order: an
/// acknowledged event that nothing is told of would leave consumers waiting for ever.
pub(super) async fn announce<P: Tells, W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, event: Event<P, W>) -> Finished {
    let (finished, publish) = (event.proof().finishes(), event.proof().part());
    let mut event = event;
    loop {
        let Some(pass) = pass(ctx, Watch::Outcomes, &event).await else {
            return interrupted(ctx, event, "outcome events get no confirmation").await;
        };
        let (probe, began, span) = (pass.is_probe(), Instant::now(), event.trace().part(publish));
        match event.announce(&ctx.broker).await {
            Ok(announced) => {
                span.end("confirmed");
                pass.seen(Call::Served, began.elapsed());
                at(Step::BeforeAck);
                let (id, sent) = (announced.id().clone(), Instant::now());
                let span = announced.trace().part(Part::Answer(Answering::Ack));
                let acked = announced.acknowledge().await;
                span.confirmed(acked.is_ok());
                ctx.acknowledged(AckKind::Ack, &id, acked, sent.elapsed());
                ctx.histories.finished(&id);
                return finished;
            }
            Err((error, back)) => {
                span.fail("not_confirmed");
                pass.seen(Call::Down, began.elapsed());
                let (id, detail) = (back.id().to_string(), error.to_string());
                Flow::OutcomeNotConfirmed { lane: ctx.name(), event: &id, detail: &detail }.emit();
                match wait_or_leave(ctx, back, Unfinished::StoreLost, probe, "no confirmation of the outcome event")
                    .await
                {
                    Ok(again) => event = again,
                    Err(end) => return end,
                }
            }
        }
    }
}

/// Stores that the event leaves as a dead letter, then buries it.
pub(super) async fn condemn<W: Wire, R: Rail>(
    ctx: &Arc<Context<W, R>>,
    event: Event<Received, W>,
    why: DeadReason,
) -> Finished {
    let mut event = event;
    loop {
        let Some((pass, _)) = ctx.entry(&event).await else {
            return interrupted(ctx, event, "the gate stayed shut").await;
        };
        let (probe, began) = (pass.is_probe(), Instant::now());
        let notes = ctx.histories.of(event.id()).notes;
        match event.condemn(&ctx.store, &ctx.lane.name, notes, why.clone()).await {
            Ok(condemned) => {
                store_served(ctx, pass, began);
                return bury(ctx, condemned).await;
            }
            Err((NotCondemned::Lost(StoreLost::Foreign, _), back)) => {
                store_served(ctx, pass, began);
                return foreign(ctx, back).await;
            }
            Err((NotCondemned::Lost(StoreLost::Refused(what), _), back)) => {
                store_served(ctx, pass, began);
                return interrupted(ctx, back, &format!("the store refuses its content: {what}")).await;
            }
            Err((NotCondemned::Lost(lost, _), back)) => {
                ctx.store_lost(&lost);
                pass.seen(Call::Down, began.elapsed());
                match wait_or_leave(ctx, back, Unfinished::StoreLost, probe, "the store did not serve").await {
                    Ok(again) => event = again,
                    Err(end) => return end,
                }
            }
            // It has another end, or an attempt that may have reached a rail: read it as what it is.
            Err((NotCondemned::InDoubt(_) | NotCondemned::Ended(_), back)) => {
                store_served(ctx, pass, began);
                ctx.histories.started(back.id(), 0);
                return interrupted(ctx, back, "not to be condemned").await;
            }
        }
    }
}

async fn bury<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, event: Event<Condemned, W>) -> Finished {
    let mut event = event;
    let id = event.id().clone();
    loop {
        let Some(pass) = pass(ctx, Watch::DeadLetters, &event).await else {
            return interrupted(ctx, event, "dead letters get no confirmation").await;
        };
        let (probe, began, code) = (pass.is_probe(), Instant::now(), event.condemned().code());
        let reason = event.condemned().reason().map(|r| r.text.clone()).unwrap_or_default();
        let trace = event.trace().clone();
        trace.condemned(code);
        let span = trace.part(Part::Publish { name: "publish payments.dead", destination: "payments.dead" });
        match event.bury(&ctx.broker, &ctx.worker).await {
            Ok(buried) => {
                span.end("confirmed");
                pass.seen(Call::Served, began.elapsed());
                ctx.metrics.dead_lettered(code);
                Flow::DeadLettered { lane: ctx.name(), event: &id.to_string(), code: code.as_str(), reason: &reason }
                    .emit();
                let (sent, span) = (Instant::now(), trace.part(Part::Answer(Answering::Term)));
                let ended = buried.terminate().await;
                span.confirmed(ended.is_ok());
                ctx.acknowledged(AckKind::Term, &id, ended, sent.elapsed());
                ctx.histories.finished(&id);
                return Finished::DeadLettered;
            }
            Err((error, back)) => {
                span.fail("not_confirmed");
                // A letter that can never be stored says nothing about the others; it must not keep the lane shut.
                pass.seen(if error.is_about_the_message() { Call::Served } else { Call::Down }, began.elapsed());
                ctx.metrics.bury_failed();
                let detail = error.to_string();
                Flow::DeadLetterNotConfirmed { lane: ctx.name(), event: &id.to_string(), detail: &detail }.emit();
                match wait_or_leave(ctx, back, Unfinished::StoreLost, probe, "no confirmation of the dead letter").await
                {
                    Ok(again) => event = again,
                    Err(end) => return end,
                }
            }
        }
    }
}

async fn elsewhere<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, event: Event<Elsewhere, W>) -> Finished {
    let left = event.until().duration_since(ctx.outside.now());
    let left = Duration::try_from(left).unwrap_or_default();
    match decide(ctx, &event, Unfinished::Elsewhere { left }, false, "another worker has it") {
        Disposition::Later { after, .. } => hand_back(ctx, event, "another worker has it", after).await,
        Disposition::Inquire { .. } | Disposition::Condemn(_) => interrupted(ctx, event, "another worker has it").await,
    }
}

/// Takes a pass for a watched call, waiting for the gate as long as an event may be held.
pub(super) async fn pass<S, W: Wire, R: Rail>(
    ctx: &Arc<Context<W, R>>,
    watch: Watch,
    event: &Event<S, W>,
) -> Option<Pass> {
    ctx.gates.pass(watch, ctx.hold_until(event), &ctx.stop).await
}

/// Asks the table, and notes for `explain` what it said.
pub(super) fn decide<S, W: Wire, R: Rail>(
    ctx: &Arc<Context<W, R>>,
    event: &Event<S, W>,
    unfinished: Unfinished<'_>,
    probe: bool,
    why: &str,
) -> Disposition {
    let tries = ctx.histories.of(event.id());
    let disposition = dispose(unfinished, &tries, &ctx.lane.retry, probe, ctx.outside.chance());
    let (charged, after) = match &disposition {
        Disposition::Later { after, charged } => (*charged, *after),
        Disposition::Inquire { after } => (false, *after),
        Disposition::Condemn(_) => (true, Duration::ZERO),
    };
    let breaker = ctx.gates.state(Watch::Settlement).name();
    let what = format!("{why}; next try after {} ms", after.as_millis());
    ctx.histories.waited(event.id(), charged, &what, breaker, ctx.outside.now());
    disposition
}

/// What is done after a watched call failed: a probe's event goes to the back, any other waits in hand for the gate.
pub(super) async fn wait_or_leave<S, W: Wire, R: Rail>(
    ctx: &Arc<Context<W, R>>,
    event: Event<S, W>,
    unfinished: Unfinished<'_>,
    probe: bool,
    why: &str,
) -> Result<Event<S, W>, Finished> {
    let disposition = decide(ctx, &event, unfinished, probe, why);
    let after = match disposition {
        Disposition::Later { after, .. } | Disposition::Inquire { after } => after,
        Disposition::Condemn(_) => Duration::ZERO,
    };
    let again = Instant::now().checked_add(after);
    let in_time = again.is_some_and(|again| again < ctx.hold_until(&event));
    if probe || !in_time {
        return Err(hand_back(ctx, event, why, after).await);
    }
    ctx.metrics.retried("waited");
    tokio::select! {
        biased;
        () = ctx.stop.cancelled() => Err(interrupted(ctx, event, why).await),
        () = tokio::time::sleep(after) => Ok(event),
    }
}

/// Hands back what was not finished in time, or because the worker stops: soon, and not all at once.
pub(super) async fn interrupted<S, W: Wire, R: Rail>(
    ctx: &Arc<Context<W, R>>,
    event: Event<S, W>,
    why: &str,
) -> Finished {
    match decide(ctx, &event, Unfinished::Interrupted, false, why) {
        Disposition::Later { after, .. } | Disposition::Inquire { after } => hand_back(ctx, event, why, after).await,
        Disposition::Condemn(_) => hand_back(ctx, event, why, Duration::ZERO).await,
    }
}

/// Nothing can be said of this event under its number: it stays, seldom looked at, until an operator has published it
/// again and acknowledged it by hand.
pub(super) async fn foreign<S, W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, event: Event<S, W>) -> Finished {
    ctx.saw_foreign(event.id());
    let wait = ctx.lane.limits.expires.saturating_mul(15);
    hand_back(ctx, event, "its number is on record as another message's", wait).await
}

pub(super) async fn hand_back<S, W: Wire, R: Rail>(
    ctx: &Arc<Context<W, R>>,
    event: Event<S, W>,
    why: &str,
    after: Duration,
) -> Finished {
    let (id, delay) = (event.id().clone(), Delay::at_least(after));
    ctx.metrics.retried("handed_back");
    Flow::HandedBack { lane: ctx.name(), event: &id.to_string(), why, delay: delay.get() }.emit();
    let (sent, span) = (Instant::now(), event.trace().part(Part::Answer(Answering::Nak)));
    let answered = event.hand_back(delay).await;
    span.confirmed(answered.is_ok());
    let known = answered.is_ok();
    ctx.acknowledged(AckKind::Nak, &id, answered, sent.elapsed());
    if !known {
        return Finished::Abandoned;
    }
    ctx.parked.park(delay.get());
    Finished::Retried
}

fn note_judgement<W: Wire, R: Rail>(ctx: &Context<W, R>, event: &Event<Judged, W>, span: Span) {
    event.trace().payment(event.judged().payment_id());
    match event.judged() {
        Judged::Valid(_) => span.end("valid"),
        Judged::Refused(refused) => {
            if let Some(first) = refused.reasons().first() {
                ctx.metrics.validation_failed(first.code);
                span.refuse(first.code);
            }
        }
    }
}

impl<W: Wire, R: Rail> Context<W, R> {
    fn saw_foreign(&self, event: &EventId) {
        if self.foreign.note(event) {
            Flow::ForeignEvent { lane: self.name(), event: &event.to_string() }.emit();
        }
    }

    fn saw_newer_contract(&self, version: u32) {
        if self.newer_contract.swap(version, std::sync::atomic::Ordering::Relaxed) != version {
            Flow::NewerContract { lane: self.name(), version }.emit();
        }
    }
}
