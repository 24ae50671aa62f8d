//! A sabotage for the negative controls: a payment that is asked for again is paid again.

use super::super::{Origin, Route};
use super::{Group, Slot, Verdict};
use crate::domain::PaymentId;
use crate::intake::Judged;

impl Group<'_> {
    /// As if nothing stood, and past the index that would refuse a second row.
    pub(super) fn pay_again(&mut self, origin: &Origin, judged: &Judged, route: &Route, standing: Slot) -> Verdict {
        let id = judged.payment_id();
        let verdict = self.open_fresh(origin, judged, route, true, None);
        if let Some(mut again) = self.payments.remove(id)
            && let Ok(other) = PaymentId::parse(&format!("{id}-{}", again.row.row))
        {
            again.row.payment_id = other.clone();
            self.payments.insert(other, again);
        }
        self.payments.insert(id.clone(), standing);
        verdict
    }
}
