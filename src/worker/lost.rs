//! An event about which the store did not say what stands.

use std::sync::Arc;

use tokio::time::Instant;

use super::context::Context;
use super::dispose::Unfinished;
use super::event::Event;
use super::gate::Pass;
use super::process::{foreign, interrupted, store_served, wait_or_leave};
use crate::broker::Wire;
use crate::intake::Judged;
use crate::rails::Rail;
use crate::resilience::Call;
use crate::store::StoreLost;
use crate::telemetry::metrics::Finished;
use crate::telemetry::trace::Span;

/// Has the event in hand to be asked about again, or ends this delivery.
pub(super) async fn not_opened<W: Wire, R: Rail>(
    ctx: &Arc<Context<W, R>>,
    event: Event<Judged, W>,
    lost: &StoreLost,
    pass: Pass,
    began: Instant,
    span: Span,
) -> Result<Event<Judged, W>, Finished> {
    match lost {
        StoreLost::Foreign => {
            span.fail("foreign");
            store_served(ctx, pass, began);
            Err(foreign(ctx, event).await)
        }
        StoreLost::Refused(what) => {
            span.fail("store_refused");
            // The store serves; it is this event's content that it cannot take. No breaker is moved by that.
            store_served(ctx, pass, began);
            ctx.metrics.settlement(true, began.elapsed());
            let starts = ctx.store.start_of(event.id().clone()).await.unwrap_or(0);
            ctx.histories.started(event.id(), starts);
            Err(interrupted(ctx, event, &format!("the store refuses its content: {what}")).await)
        }
        StoreLost::Locked
        | StoreLost::LogPinned { .. }
        | StoreLost::Full
        | StoreLost::Failed(_)
        | StoreLost::Closed => {
            span.fail("store_lost");
            ctx.metrics.settlement(false, began.elapsed());
            ctx.store_lost(lost);
            let probe = pass.is_probe();
            pass.seen(Call::Down, began.elapsed());
            wait_or_leave(ctx, event, Unfinished::StoreLost, probe, "the store did not serve").await
        }
    }
}
