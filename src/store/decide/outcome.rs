//! Rows told as outcomes.

use super::{EventRow, PaymentRow, State};
use crate::domain::{Outcome, PaymentId, RefusedBy, Rejected, Settled};

/// The outcome of a final payment; `None` where the row is not final.
pub(super) fn of_payment(row: &PaymentRow) -> Option<Outcome> {
    let finished_at = row.finished_at?;
    match row.state {
        State::Open | State::Held | State::Freed => None,
        State::Settled => Some(Outcome::Settled(Settled {
            payment_id: row.payment_id.clone(),
            scheme: row.scheme.clone(),
            order_key: row.order_key.clone(),
            lane: row.lane.clone(),
            rail: row.rail.as_ref().to_owned(),
            rail_ref: row.rail_ref.clone()?,
            amount: row.amount,
            references: row.references.clone(),
            requested_at: row.requested_at,
            settled_at: finished_at,
            late: row.late,
            attempts: row.attempts,
        })),
        State::Rejected => Some(Outcome::Rejected(Rejected {
            payment_id: row.payment_id.clone(),
            scheme: row.scheme.clone(),
            order_key: row.order_key.clone(),
            event: row.event.clone(),
            lane: row.lane.clone(),
            by: RefusedBy::Rail,
            reasons: row.reasons.clone(),
            references: row.references.clone(),
            requested_at: row.requested_at,
            rejected_at: finished_at,
        })),
    }
}

/// The outcome of an event that our rules refused.
pub(super) fn of_event(row: &EventRow, payment_id: &PaymentId) -> Outcome {
    Outcome::Rejected(Rejected {
        payment_id: payment_id.clone(),
        scheme: row.scheme.clone(),
        order_key: row.order_key.clone(),
        event: row.event.clone(),
        lane: row.lane.clone(),
        by: RefusedBy::Rules,
        reasons: row.reasons.clone(),
        references: row.references.clone(),
        requested_at: row.requested_at,
        rejected_at: row.at,
    })
}
