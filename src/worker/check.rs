//! A payment before it is settled, where the worker has a check: the store answers first, then the check is asked.
//!
//! It fails closed. An event whose check says nothing, or wants a person, waits un-acknowledged and un-charged; a
//! breaker watches the check, and while that is open nothing is pulled.

use std::sync::Arc;

use tokio::time::Instant;

use super::context::Context;
use super::dispose::{Disposition, Unfinished};
use super::event::{Event, Peeked};
use super::gate::Watch;
use super::lost::not_opened;
use super::process::{decide, hand_back, interrupted, opened_as, pass, store_served, wait_or_leave};
use crate::broker::{HeldWhy, Wire};
use crate::intake::Judged;
use crate::rails::{Ask, CaseRef, Cleared, Rail};
use crate::resilience::Call;
use crate::telemetry::Waits;
use crate::telemetry::metrics::{Checked, Finished};
use crate::telemetry::trace::Part;

/// Brings the event back as the check leaves it, valid or refused; or ends this delivery.
pub(super) async fn vet<W: Wire, R: Rail>(
    ctx: &Arc<Context<W, R>>,
    event: Event<Judged, W>,
) -> Result<Event<Judged, W>, Finished> {
    let Some(check) = ctx.check.as_ref().filter(|_| matches!(event.judged(), Judged::Valid(_))) else {
        return Ok(event);
    };
    let event = unsettled(ctx, event).await?;
    ask(ctx, check.as_ref(), event).await
}

/// Lets what stands answer: what has its end or may have reached a rail is no business of a check any more.
async fn unsettled<W: Wire, R: Rail>(
    ctx: &Arc<Context<W, R>>,
    event: Event<Judged, W>,
) -> Result<Event<Judged, W>, Finished> {
    let mut event = event;
    loop {
        let Some((pass, route)) = ctx.entry(&event).await else {
            return Err(interrupted(ctx, event, "the gate stayed shut").await);
        };
        let (notes, began, span) =
            (ctx.histories.of(event.id()).notes, Instant::now(), event.trace().part(Part::Claim));
        match event.peek(&ctx.store, &ctx.lane.name, notes, route).await {
            Ok(Peeked::Nothing(back)) => {
                span.end("nothing");
                store_served(ctx, pass, began);
                return Ok(back);
            }
            Ok(Peeked::Stands(opened)) => {
                span.end(opened.name());
                store_served(ctx, pass, began);
                return Err(opened_as(ctx, opened).await);
            }
            Err((lost, back)) => event = not_opened(ctx, back, &lost, pass, began, span).await?,
        }
    }
}

async fn ask<W: Wire, R: Rail>(
    ctx: &Arc<Context<W, R>>,
    check: &dyn Ask,
    event: Event<Judged, W>,
) -> Result<Event<Judged, W>, Finished> {
    let mut event = event;
    loop {
        let Some(pass) = pass(ctx, Watch::Checks, &event).await else {
            return Err(interrupted(ctx, event, "the check does not answer").await);
        };
        let (probe, began, span) = (pass.is_probe(), Instant::now(), event.trace().part(Part::Check));
        let why = match event.ask(check).await {
            Ok(Cleared::Clear) => {
                span.end("clear");
                pass.seen(Call::Served, began.elapsed());
                ctx.metrics.checked(Checked::Clear);
                return Ok(event);
            }
            Ok(Cleared::Refuse(code)) => {
                span.refuse(code);
                pass.seen(Call::Served, began.elapsed());
                ctx.metrics.checked(Checked::Refuse);
                return Ok(event.refuse(code));
            }
            Ok(Cleared::Hold(case)) => {
                span.end("hold");
                pass.seen(Call::Served, began.elapsed());
                ctx.metrics.checked(Checked::Hold);
                return Err(hold(ctx, event, &case).await);
            }
            Ok(Cleared::Unavailable) => "it says so itself",
            Err(why) => why,
        };
        span.fail("unavailable");
        pass.seen(Call::Down, began.elapsed());
        ctx.metrics.checked(Checked::Unavailable);
        Waits::CheckUnavailable { lane: ctx.name(), event: &event.id().to_string(), why }.emit();
        event = wait_or_leave(ctx, event, Unfinished::Unchecked, probe, "the check did not answer").await?;
    }
}

/// A person has to look into it: told once in this process, and asked again at the next delivery.
async fn hold<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, event: Event<Judged, W>, case: &CaseRef) -> Finished {
    if !ctx.histories.of(event.id()).told_held {
        let payment = event.judged().payment_id().as_str();
        Waits::HeldByCheck { lane: ctx.name(), payment, case: case.as_str() }.emit();
        let rail = ctx.rail.as_ref().map_or("book", |rail| rail.name());
        let publish = Part::Publish { name: "publish payments.held", destination: "payments.held" };
        let span = event.trace().part(publish);
        let told = event.tell_held(&ctx.broker, &ctx.lane.name, rail, HeldWhy::Check).await;
        span.confirmed(told.is_ok());
        match told {
            Ok(()) => ctx.histories.told_held(event.id()),
            Err(error) => Waits::HeldNotTold { lane: ctx.name(), payment, detail: &error.to_string() }.emit(),
        }
    }
    let why = format!("held by the check, case {case}");
    match decide(ctx, &event, Unfinished::HeldByCheck, false, &why) {
        Disposition::Later { after, .. } | Disposition::Inquire { after } => {
            hand_back(ctx, event, "held by the check", after).await
        }
        Disposition::Condemn(_) => interrupted(ctx, event, "held by the check").await,
    }
}
