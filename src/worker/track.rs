//! Events let go before their payments have an end: the tracker takes the payment on, it is told as held, the event is
//! acknowledged. In this order; and only where the rail said that it is in progress, or the doubt has become old.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::context::Context;
use super::event::{Event, HandedOver, Opened};
use super::lane::InProgress;
use super::process::{announce, opened_as};
use crate::broker::Wire;
use crate::domain::Money;
use crate::rails::Rail;
use crate::store::{Doubt, TrackLimits, TrackerTotals};
use crate::telemetry::metrics::{Finished, Paused};

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
        Ok(HandedOver::Tracked(event)) => Ok(announce(ctx, event).await),
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
