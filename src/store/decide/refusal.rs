//! Why a payment that nothing stands for yet is refused by our rules: its judgement, its own clock, its debtor's limit.

use super::{Asked, Group};
use crate::domain::{Code, Payment, Reason, References};
use crate::intake::Judged;

impl Group<'_> {
    /// The payment, or why it is refused.
    pub(super) fn refusal<'j>(&self, judged: &'j Judged) -> Result<&'j Payment, (Vec<Reason>, References)> {
        let payment = match Asked::of(judged) {
            Asked::Refused(refused) => return Err((refused.reasons().to_vec(), refused.references().clone())),
            Asked::Valid(payment) => payment,
        };
        let refused = |reason| (vec![reason], payment.references.clone());
        if self.expired(payment) {
            return Err(refused(expired()));
        }
        self.days.room(payment, judged.allowance()).map_err(refused)?;
        Ok(payment)
    }

    pub(super) fn expired(&self, payment: &Payment) -> bool {
        payment.expires_at.is_some_and(|end| self.now >= end)
    }
}

pub(super) fn expired() -> Reason {
    Reason::new(Code::AB11, "/expires_at", "the deadline passed before the payment was submitted")
}
