//! Which rail a new attempt goes to, and under which key, where every attempt before has an answer.
//!
//! Another rail is only for what is known not to have counted: each attempt elsewhere was not sent, or was refused with
//! leave to try again, and its own process or the rail itself said so about this very attempt. A person's word and an
//! answer that only covers an attempt given up as not found are good for another try at the same rail, whose key
//! forbids a second effect. Elsewhere nothing would.

use std::sync::Arc;

use super::super::rows::{AttemptRow, Ended, PaymentRow};
use super::rail::NOT_FOUND_ENOUGH;

/// The rail that the payment may not leave for `wanted` (`None`: the book); `None` where it may go there.
pub(super) fn bound(row: &PaymentRow, wanted: Option<&str>) -> Option<Arc<str>> {
    let elsewhere = |attempt: &&AttemptRow| wanted != Some(&*attempt.rail);
    let open = row.tries.iter().filter(elsewhere).find(|attempt| !had_no_effect(attempt));
    open.map(|attempt| Arc::clone(&attempt.rail))
}

/// Whether no money moved, and will not, for this attempt.
fn had_no_effect(attempt: &AttemptRow) -> bool {
    match attempt.ended {
        // A person's answer has no time.
        Some(Ended::NotSent) => attempt.ended_at.is_some(),
        Some(Ended::Resubmit) => attempt.not_found < NOT_FOUND_ENOUGH,
        Some(Ended::Settled | Ended::Rejected) | None => false,
    }
}

/// The key's number at `rail`: the one that it knows the payment by, else `wanted`. A key that a rail has refused, or
/// that another rail may have seen, is used up; and no two rails share one.
pub(super) fn leg(row: &PaymentRow, rail: &str, wanted: u8) -> u8 {
    let (own, others): (Vec<_>, Vec<_>) = row.tries.iter().partition(|before| &*before.rail == rail);
    let known = own.last().map(|before| before.leg);
    let refused = row.tries.iter().filter(|before| before.ended == Some(Ended::Resubmit));
    let seen = others.iter().copied().filter(|before| before.ended != Some(Ended::NotSent));
    let free = refused.chain(seen).map(|before| before.leg.saturating_add(1)).max().unwrap_or(0);
    let mut leg = known.unwrap_or(wanted).max(free);
    while known != Some(leg) && leg < u8::MAX && others.iter().any(|before| before.leg == leg) {
        leg = leg.saturating_add(1);
    }
    leg
}
