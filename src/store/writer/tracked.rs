//! What the store has proved of a payment that goes on without its event.

use jiff::Timestamp;

use super::super::Origin;
use super::super::rows::{PaymentRow, State};
use crate::domain::{EventId, LaneName, OrderKey, PaymentId, References, SchemeName};

/// The durable handing over of a payment to the tracker: from here on its event is not needed.
#[must_use = "that the payment is held must be told, then its event may be acknowledged"]
pub struct Tracked {
    event: EventId,
    row: Box<PaymentRow>,
}

impl Tracked {
    pub(super) fn mint(origin: &Origin, row: Box<PaymentRow>) -> Self {
        Self { event: origin.event.clone(), row }
    }

    /// The event it was made for, which may be acknowledged once it is told that the payment is held.
    #[must_use]
    pub fn event(&self) -> &EventId {
        &self.event
    }

    /// The payment that the tracker owns.
    #[must_use]
    pub fn payment_id(&self) -> &PaymentId {
        &self.row.payment_id
    }

    /// Third subject token of the event.
    #[must_use]
    pub fn scheme(&self) -> &SchemeName {
        &self.row.scheme
    }

    /// Fourth subject token of the event.
    #[must_use]
    pub fn order_key(&self) -> &OrderKey {
        &self.row.order_key
    }

    /// The lane that sweeps it.
    #[must_use]
    pub fn lane(&self) -> &LaneName {
        &self.row.lane
    }

    /// The rail of its last attempt.
    #[must_use]
    pub fn rail(&self) -> &str {
        &self.row.rail
    }

    /// The publisher's references.
    #[must_use]
    pub fn references(&self) -> &References {
        &self.row.references
    }

    /// The event's broker timestamp.
    #[must_use]
    pub fn requested_at(&self) -> Timestamp {
        self.row.requested_at
    }

    /// Whether it waits for a person.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.row.state == State::Held
    }
}
