//! Whether a rail's "not found" is worth anything: only once this process has seen its status call find a payment that
//! settled. One that looks in the wrong place finds nothing, and every payment in doubt would be sent again. Pure.

use std::time::{Duration, Instant};

use crate::domain::RailKey;

/// What this process knows of the rail's status call since it started.
#[derive(Debug, Default)]
pub(super) struct Witness {
    finds: bool,
    settled: Option<(RailKey, Instant)>,
}

/// What a "not found" of the moment is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Worth {
    /// It counts.
    Counts,
    /// It counts if an inquiry about this key, a settled payment's, finds it.
    IfFound(RailKey),
    /// Nothing: no other payment is known to have settled.
    Nothing,
}

impl Witness {
    /// A submission under this key was answered as settled. The first such key is kept, and another only once the rail
    /// may have forgotten it: what has just settled may not have reached the place where the rail looks.
    pub(super) fn settled(&mut self, key: &RailKey, now: Instant, retention: Duration) {
        let forgotten =
            |at: &Instant| now.saturating_duration_since(*at) > retention.checked_div(2).unwrap_or_default();
        if self.settled.as_ref().is_none_or(|(_, at)| forgotten(at)) {
            self.settled = Some((key.clone(), now));
        }
    }

    /// An inquiry has found a settled payment.
    pub(super) fn found(&mut self) {
        self.finds = true;
    }

    /// What it is worth that `asked` was not found.
    pub(super) fn worth(&self, asked: &RailKey) -> Worth {
        match &self.settled {
            _ if self.finds => Worth::Counts,
            Some((key, _)) if key != asked => Worth::IfFound(key.clone()),
            Some(_) | None => Worth::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PaymentId;

    const DAY: Duration = Duration::from_secs(86_400);

    fn key(payment: &str) -> RailKey {
        RailKey::of(&PaymentId::parse(payment).unwrap(), 0)
    }

    #[test]
    fn not_found_is_worth_nothing_until_another_payment_has_settled_and_was_found() {
        let (mut witness, now) = (Witness::default(), Instant::now());
        assert_eq!(witness.worth(&key("doubt")), Worth::Nothing);
        witness.settled(&key("settled"), now, DAY);
        assert_eq!(witness.worth(&key("settled")), Worth::Nothing, "it did settle, whatever the rail finds");
        assert_eq!(witness.worth(&key("doubt")), Worth::IfFound(key("settled")));
        witness.found();
        assert_eq!(witness.worth(&key("doubt")), Worth::Counts);
    }

    #[test]
    fn the_witness_is_the_first_that_the_rail_must_still_know() {
        let (mut witness, now) = (Witness::default(), Instant::now());
        for (payment, hours, expected) in [("a", 0, "a"), ("b", 11, "a"), ("c", 13, "c"), ("d", 14, "c")] {
            witness.settled(&key(payment), now + Duration::from_secs(hours * 3_600), DAY);
            assert_eq!(witness.worth(&key("doubt")), Worth::IfFound(key(expected)), "after {hours} hours");
        }
    }
}
