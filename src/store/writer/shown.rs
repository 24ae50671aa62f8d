//! Proofs as a log line may show them: identities, never content.

use std::fmt;

use super::proof::{Condemned, Doubt, Intent, Order, Recorded};
use super::tracked::Tracked;
use crate::domain::Outcome;

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match self.outcome() {
            Outcome::Settled(_) => "settled",
            Outcome::Rejected(_) => "rejected",
        };
        write!(f, "Recorded({}, {end}, duplicate: {})", self.event(), self.is_duplicate())
    }
}

impl fmt::Debug for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tracked({}, {})", self.event(), self.payment_id())
    }
}

impl fmt::Debug for Condemned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condemned({}, {})", self.event(), self.code())
    }
}

impl fmt::Debug for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Intent({}, rail {})", self.payment().payment_id, self.rail())
    }
}

impl fmt::Debug for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Doubt({}, attempt {}, fence {})", self.payment_id(), self.attempt(), self.fence())
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Order({}, leg {}, attempt {})", self.payment().payment_id, self.leg(), self.attempt())
    }
}
