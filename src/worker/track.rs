//! Events let go before their payments have an end: the tracker takes the payment on, it is told as held, the event is
//! acknowledged. In this order; and only where the rail said that it is in progress, or the doubt has become old.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::context::Context;
use super::dispose::Unfinished;
use super::event::{Event, HandedOver, Opened};
use super::gate::Watch;
use super::lane::InProgress;
use super::process::{interrupted, opened_as, pass, wait_or_leave};
use crate::broker::Wire;
use crate::domain::Money;
use crate::rails::Rail;
use crate::resilience::Call;
use crate::store::{Doubt, TrackLimits, Tracked, TrackerTotals};
use crate::telemetry::Flow;
use crate::telemetry::metrics::{AckKind, Finished, Paused};
use crate::telemetry::step::{Step, at};
use crate::telemetry::trace::{Answering, Part};

/// What this lane knows of its tracker.
#[derive(Default)]
pub(super) struct Tracker(Mutex<Known>);

#[derive(Default)]
struct Known {
    count: u64,
    /// What found no room.
    refused: Option<Money>,
}

impl Tracker {
    /// Payments tracked, as last seen.
    pub(super) fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// Notes what the tracker holds; whether it has reached its bound.
    pub(super) fn saw(&self, totals: &TrackerTotals, limits: &TrackLimits) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.count = totals.count;
        // As long as there is no room for what was refused: a gate that opens for less would let in what has none.
        known.refused = known.refused.filter(|amount| !limits.has_room(totals, *amount));
        known.refused.is_some() || totals.count >= u64::from(limits.count)
    }

    fn refused(&self, amount: Money) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refused = Some(amount);
    }
}

/// Has the tracker take the payment on, where the lane does that and it is time: `said` where the rail says that the
/// payment is in progress. Gives the event back where it keeps its payment.
pub(super) async fn offer<W: Wire, R: Rail>(
    ctx: &Arc<Context<W, R>>,
    event: Event<Doubt, W>,
    said: bool,
) -> Result<Finished, Event<Doubt, W>> {
    let InProgress::Track(policy) = &ctx.lane.in_progress else { return Err(event) };
    let age = ctx.outside.now().duration_since(event.doubt().started_at());
    if !said && Duration::try_from(age).unwrap_or_default() < policy.after {
        return Err(event);
    }
    match event.track(&ctx.store, policy.limits.clone()).await {
        Ok(HandedOver::Tracked(event)) => Ok(let_go(ctx, event).await),
        Ok(HandedOver::Final(event)) => Ok(opened_as(ctx, Opened::Final(event)).await),
        Ok(HandedOver::Elsewhere(event)) => Ok(opened_as(ctx, Opened::Elsewhere(event)).await),
        Ok(HandedOver::Kept(event)) => Err(event),
        Ok(HandedOver::Full(event, amount)) => {
            ctx.tracker.refused(amount);
            ctx.gates.hold(Paused::Tracker, true);
            Err(event)
        }
        Err((lost, event)) => {
            ctx.store_lost(&lost);
            Err(event)
        }
    }
}

/// Tells that the payment goes on without its event, then acknowledges. In this order: whoever waits for an outcome
/// must not have to guess where it went.
pub(super) async fn let_go<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, event: Event<Tracked, W>) -> Finished {
    let publish = Part::Publish { name: "publish payments.held", destination: "payments.held" };
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
                return Finished::Tracked;
            }
            Err((error, back)) => {
                span.fail("not_confirmed");
                pass.seen(Call::Down, began.elapsed());
                let (id, detail) = (back.id().to_string(), error.to_string());
                Flow::OutcomeNotConfirmed { lane: ctx.name(), event: &id, detail: &detail }.emit();
                match wait_or_leave(ctx, back, Unfinished::StoreLost, probe, "no confirmation of payments.held").await {
                    Ok(again) => event = again,
                    Err(end) => return end,
                }
            }
        }
    }
}
