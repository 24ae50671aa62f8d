//! Tells those who wait for an outcome that there is none yet: the payment is held for a person, or its rail is late.
//!
//! Beside the way of the event: it acknowledges nothing, no breaker hears of it, and where it fails the payment is
//! told as held with the next inquiry.

use jiff::{SignedDuration, Timestamp};

use super::context::Context;
use super::event::Event;
use crate::broker::{HeldWhy, Wire};
use crate::rails::{Rail, Terms};
use crate::store::Doubt;
use crate::telemetry::Waits;
use crate::telemetry::trace::Part;

/// Tells that the payment is held, where it is: once in this process, under one message id in all of them.
pub(super) async fn tell<W: Wire, R: Rail>(ctx: &Context<W, R>, event: &Event<Doubt, W>, terms: &Terms) {
    let Some(why) = why(event.doubt(), terms, ctx.outside.now()) else { return };
    if ctx.histories.of(event.id()).told_held {
        return;
    }
    let publish = Part::Publish { name: "publish payments.held", destination: "payments.held" };
    let span = event.trace().part(publish);
    let told = event.tell_held(&ctx.broker, why).await;
    span.confirmed(told.is_ok());
    match told {
        Ok(()) => ctx.histories.told_held(event.id()),
        Err(error) => {
            let (payment, detail) = (event.doubt().payment_id().as_str(), error.to_string());
            Waits::HeldNotTold { lane: ctx.name(), payment, detail: &detail }.emit();
        }
    }
}

/// Why a payment in doubt counts as held. A rail is late once its own longest execution time has passed.
fn why(doubt: &Doubt, terms: &Terms, now: Timestamp) -> Option<HeldWhy> {
    if doubt.is_held() {
        return Some(HeldWhy::ForPerson);
    }
    let longest = SignedDuration::try_from(terms.longest_execution).unwrap_or(SignedDuration::MAX);
    (now.duration_since(doubt.started_at()) > longest).then_some(HeldWhy::LateRail)
}
