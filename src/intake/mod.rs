//! Bytes become a judged event. Pure and cheap: no I/O, no clock.
//!
//! [`Decode`] reads the identity and the content, [`Rules`] judges it. What cannot be read is [`Unreadable`] and
//! leaves as a dead letter; what breaks a rule is [`Refused`] and is reported with every finding.

mod canonical;
mod contract;
mod json;
mod rules;
mod scheme;

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Map, Value};

use crate::domain::{
    Currency, Decimal, Fingerprint, Money, OrderKey, Payment, PaymentId, Reason, References, SchemeName,
};

pub use contract::Contract;
pub use rules::Rules;
pub use scheme::{Maximum, Requires, Scheme, zone};

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
    content: Map<String, Value>,
    /// Containers within containers, the body itself counted.
    depth: usize,
}

/// A judged event. Only [`Rules::judge`] makes one; a check may turn a valid one into a refused one.
pub enum Judged {
    /// It may be settled.
    Valid(Valid),
    /// It broke at least one rule.
    Refused(Refused),
}

/// A payment that passed every rule.
pub struct Valid {
    payment: Box<Payment>,
    fingerprint: Fingerprint,
    allowance: Option<Allowance>,
}

/// The most that a payment's debtor account may spend on one day, in the payment's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The event's day in the scheme's zone.
    pub day: Date,
    /// In minor units.
    pub most: i64,
}

/// An event that broke at least one rule.
pub struct Refused {
    payment_id: PaymentId,
    fingerprint: Fingerprint,
    reasons: Vec<Reason>,
    references: References,
    amount: Option<Money>,
}

// === impl Decoded ===

impl Decoded {
    /// An event of `payment_id` that came on a subject of `scheme` and asks for `content`.
    ///
    /// `content` may not nest deeper than 100 levels: it is walked by recursion.
    #[must_use]
    pub fn new(payment_id: PaymentId, scheme: &SchemeName, content: Map<String, Value>) -> Self {
        let (fingerprint, depth) = canonical::fingerprint(&content, scheme);
        Self { payment_id, fingerprint, content, depth }
    }

    /// The payment the event asks for.
    #[must_use]
    pub fn payment_id(&self) -> &PaymentId {
        &self.payment_id
    }

    /// The digest of what was asked for.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The amount, where it can be told in its currency, whether or not a scheme takes it.
    #[must_use]
    pub fn amount(&self) -> Option<Money> {
        let amount = self.content.get("amount")?;
        let currency = Currency::parse(amount.get("currency")?.as_str()?)?;
        let value = Decimal::parse(amount.get("value")?.as_str()?)?;
        Money::new(value.at_scale(currency.exponent())?, currency)
    }

    /// The body in the form of contract v1, not judged: for tools that look one thing up.
    pub(crate) fn content(&self) -> &Map<String, Value> {
        &self.content
    }
}

// The derived form would print names and account numbers.
impl fmt::Debug for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decoded({}, {:?}, ..)", self.payment_id, self.fingerprint)
    }
}

// === impl Judged ===

impl fmt::Debug for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid(valid) => valid.fmt(f),
            Self::Refused(refused) => refused.fmt(f),
        }
    }
}

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

    /// The limit it counts against, where it is valid and there is one.
    pub(crate) fn allowance(&self) -> Option<Allowance> {
        match self {
            Self::Valid(valid) => valid.allowance,
            Self::Refused(_) => None,
        }
    }

    /// Refuses what was valid; what was refused stays as it is.
    pub(crate) fn refuse(self, reason: Reason) -> Self {
        match self {
            Self::Valid(Valid { payment, fingerprint, .. }) => Self::Refused(Refused {
                amount: Some(payment.amount),
                payment_id: payment.payment_id,
                references: payment.references,
                reasons: vec![reason],
                fingerprint,
            }),
            Self::Refused(refused) => Self::Refused(refused),
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

impl fmt::Debug for Valid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Valid({}, {:?}, ..)", self.payment.payment_id, self.fingerprint)
    }
}

impl Valid {
    /// The payment.
    #[must_use]
    pub fn payment(&self) -> &Payment {
        &self.payment
    }

    /// The limit it counts against, where the lane has one in its currency.
    #[must_use]
    pub fn allowance(&self) -> Option<Allowance> {
        self.allowance
    }
}

#[cfg(test)]
impl Valid {
    pub(crate) fn for_test(payment: Payment, fingerprint: Fingerprint) -> Self {
        Self { payment: Box::new(payment), fingerprint, allowance: None }
    }

    pub(crate) fn with_allowance(self, allowance: Option<Allowance>) -> Self {
        Self { allowance, ..self }
    }
}

#[cfg(test)]
impl Refused {
    pub(crate) fn for_test(payment_id: PaymentId, fingerprint: Fingerprint, reasons: Vec<Reason>) -> Self {
        Self { payment_id, fingerprint, reasons, references: References::default(), amount: None }
    }
}

// === impl Refused ===

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refused({}, {:?}, {:?}, ..)", self.payment_id, self.fingerprint, self.reasons)
    }
}

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
