//! Bytes become a judged event. Pure and cheap: no I/O, no clock.
//!
//! [`Decode`] reads the identity and the content, [`Rules`] judges it. What cannot be read is [`Unreadable`] and
//! leaves as a dead letter; what breaks a rule is [`Refused`] and is reported with every finding.

mod contract;
mod rules;
mod scheme;

use jiff::Timestamp;

use crate::domain::{Fingerprint, Money, OrderKey, Payment, PaymentId, Reason, References, SchemeName};

pub use contract::Contract;
pub use rules::Rules;
pub use scheme::{Requires, Scheme};

/// One event as the broker handed it over.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    /// Third subject token.
    pub scheme: &'a SchemeName,
    /// Fourth subject token.
    pub order_key: &'a OrderKey,
    /// Looks a header up by its exact name.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
    /// The payload.
    pub body: &'a [u8],
}

/// Reads an event's identity and content. Implement it to take events of your own form.
pub trait Decode: Send + Sync + 'static {
    /// Must be pure: the same bytes give the same answer on every delivery.
    ///
    /// # Errors
    /// [`Unreadable`] where the event cannot be known by a payment id.
    fn decode(&self, raw: Raw<'_>) -> Result<Decoded, Unreadable>;
}

/// Why an event cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// For good: it leaves as a dead letter under this code (FF01, CH21 or CH16).
    Malformed(Reason),
    /// It speaks a newer contract than this worker; a newer worker may read it. Handed back, never judged.
    NewerContract {
        /// The version it names.
        version: u32,
    },
}

/// An event whose identity is known and whose content is not judged yet.
///
/// `content` is the body in the form of contract v1; a decoder of another form maps its own onto it.
pub struct Decoded {
    payment_id: PaymentId,
    fingerprint: Fingerprint,
    content: serde_json::Map<String, serde_json::Value>,
}

/// A judged event. Only [`Rules::judge`] makes one.
pub enum Judged {
    /// It may be settled.
    Valid(Valid),
    /// It broke at least one rule.
    Refused(Refused),
}

/// A payment that passed every rule.
pub struct Valid {
    payment: Payment,
    fingerprint: Fingerprint,
}

/// An event that broke at least one rule.
pub struct Refused {
    payment_id: PaymentId,
    fingerprint: Fingerprint,
    reasons: Vec<Reason>,
    references: References,
    amount: Option<Money>,
}

// === impl Judged ===

impl Judged {
    /// The payment the event asks for.
    #[must_use]
    pub fn payment_id(&self) -> &PaymentId {
        match self {
            Self::Valid(valid) => &valid.payment.payment_id,
            Self::Refused(refused) => &refused.payment_id,
        }
    }

    /// The digest of what was asked for.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Valid(valid) => valid.fingerprint,
            Self::Refused(refused) => refused.fingerprint,
        }
    }

    /// The amount, where it could be read.
    #[must_use]
    pub fn amount(&self) -> Option<Money> {
        match self {
            Self::Valid(valid) => Some(valid.payment.amount),
            Self::Refused(refused) => refused.amount,
        }
    }
}

// === impl Valid ===

impl Valid {
    /// The payment.
    #[must_use]
    pub fn payment(&self) -> &Payment {
        &self.payment
    }
}

// === impl Refused ===

impl Refused {
    /// At least one finding, in table order; the first leads.
    #[must_use]
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// The references that were well formed.
    #[must_use]
    pub fn references(&self) -> &References {
        &self.references
    }
}

/// The instants a judgement depends on, so that judging stays pure.
#[derive(Debug, Clone, Copy)]
pub struct Instants {
    /// The event's broker timestamp: dates are judged at it.
    pub requested_at: Timestamp,
    /// The worker's clock: only `expires_at` is judged at it.
    pub now: Timestamp,
}
