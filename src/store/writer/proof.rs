//! What the store has proved, as values that only the writer makes and that are used once.

use std::sync::Arc;

use jiff::Timestamp;

use super::super::decide::{Asked, InHand, Ticket};
use super::super::rows::EventRow;
use super::super::{Note, Origin};
use crate::domain::{
    Code, EventId, LaneName, OrderKey, Outcome, Payment, PaymentId, RailKey, Reason, References, SchemeName,
};
use crate::intake::{Judged, Refused, Valid};

/// The durable end of a payment, or of one event that our rules refused.
#[must_use = "the outcome must be announced"]
pub struct Recorded {
    event: EventId,
    scheme: SchemeName,
    order_key: OrderKey,
    outcome: Box<Outcome>,
    duplicate: bool,
}

/// The durable decision that an event leaves as a dead letter.
#[must_use = "the event must be buried"]
pub struct Condemned {
    row: Box<EventRow>,
}

/// An attempt that is on record and that nobody has sent: it may be sent once.
///
/// Dropped unsent it counts as sent: only its dispatch and an answer `NotSent` say that it was not.
#[must_use = "the attempt is on record: dispatch it, then conclude"]
pub struct Intent {
    doubt: Doubt,
    valid: Arc<Valid>,
}

/// An attempt that may have reached its rail: it may only be inquired about.
#[must_use = "conclude it, resume it, or hand its event back"]
pub struct Doubt {
    origin: Origin,
    known: Known,
    ticket: Ticket,
    notes: Vec<Note>,
}

enum Known {
    Valid(Arc<Valid>),
    Refused(Box<Refused>),
}

/// What a rail sees of an attempt.
pub struct Order {
    valid: Arc<Valid>,
    key: RailKey,
    leg: u8,
    attempt: u32,
    deadline: Timestamp,
}

// === impl Recorded ===

impl Recorded {
    pub(super) fn mint(origin: &Origin, outcome: Box<Outcome>, duplicate: bool) -> Self {
        Self {
            event: origin.event.clone(),
            scheme: origin.scheme.clone(),
            order_key: origin.order_key.clone(),
            outcome,
            duplicate,
        }
    }

    /// The event it was made for, which may be acknowledged once the outcome is announced.
    #[must_use]
    pub fn event(&self) -> &EventId {
        &self.event
    }

    /// Third subject token of that event.
    #[must_use]
    pub fn scheme(&self) -> &SchemeName {
        &self.scheme
    }

    /// Fourth subject token of that event.
    #[must_use]
    pub fn order_key(&self) -> &OrderKey {
        &self.order_key
    }

    /// What became of the payment or event.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Whether the outcome is that of an earlier event.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }
}

// === impl Condemned ===

impl Condemned {
    pub(super) fn mint(row: Box<EventRow>) -> Self {
        Self { row }
    }

    /// The event that leaves.
    #[must_use]
    pub fn event(&self) -> &EventId {
        &self.row.event
    }

    /// The code and the words it travels under.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        self.row.reasons.first()
    }

    /// The code it travels under.
    #[must_use]
    pub fn code(&self) -> Code {
        self.row.code().unwrap_or(Code::FF10)
    }

    /// Its payment, where it could be read.
    #[must_use]
    pub fn payment_id(&self) -> Option<&PaymentId> {
        self.row.payment_id.as_ref()
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

    /// The lane that held it.
    #[must_use]
    pub fn lane(&self) -> &LaneName {
        &self.row.lane
    }

    /// The event's broker timestamp.
    #[must_use]
    pub fn requested_at(&self) -> Timestamp {
        self.row.requested_at
    }

    /// When the store saw the event first.
    #[must_use]
    pub fn first_seen(&self) -> Timestamp {
        self.row.first_seen
    }

    /// When it was condemned.
    #[must_use]
    pub fn condemned_at(&self) -> Timestamp {
        self.row.at
    }

    /// Starts, charged attempts or deliveries, whichever its reason counts.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.row.attempts
    }
}

// === impl Intent ===

impl Intent {
    pub(super) fn mint(origin: Origin, valid: Valid, ticket: Ticket) -> Self {
        let valid = Arc::new(valid);
        let known = Known::Valid(Arc::clone(&valid));
        Self {
            doubt: Doubt { origin: Origin { history: Vec::new(), ..origin }, known, ticket, notes: Vec::new() },
            valid,
        }
    }

    /// The payment.
    #[must_use]
    pub fn payment(&self) -> &Payment {
        self.valid.payment()
    }

    /// The rail it is for; no other may be given the order.
    #[must_use]
    pub fn rail(&self) -> &str {
        &self.doubt.ticket.rail
    }

    /// The event that asks.
    #[must_use]
    pub fn event(&self) -> &EventId {
        &self.doubt.origin.event
    }

    /// Gives the order out. From here a crash or a timeout leaves a doubt.
    pub(crate) fn dispatch(self) -> (Order, Doubt) {
        let ticket = &self.doubt.ticket;
        let end = ticket.until;
        let order = Order {
            key: RailKey::of(&ticket.payment_id, ticket.leg),
            leg: ticket.leg,
            attempt: ticket.attempt,
            deadline: self.valid.payment().expires_at.map_or(end, |expires| expires.min(end)),
            valid: self.valid,
        };
        (order, self.doubt)
    }
}

// === impl Doubt ===

impl Doubt {
    pub(super) fn mint(mut origin: Origin, judged: Judged, ticket: Ticket) -> Self {
        // It is in the store by now.
        origin.history = Vec::new();
        let known = match judged {
            Judged::Valid(valid) => Known::Valid(Arc::new(valid)),
            Judged::Refused(refused) => Known::Refused(Box::new(refused)),
        };
        Self { origin, known, ticket, notes: Vec::new() }
    }

    pub(super) fn renewed(mut self, ticket: Ticket) -> Self {
        self.ticket = ticket;
        self.notes = Vec::new();
        self
    }

    /// Gives the doubt back where its judgement is no payment: `decide` lets only valid ones go.
    #[expect(clippy::result_large_err, reason = "the value goes back, it is no error")]
    pub(super) fn into_intent(self) -> Result<Intent, Self> {
        match &self.known {
            Known::Valid(valid) => Ok(Intent { valid: Arc::clone(valid), doubt: self }),
            Known::Refused(_) => Err(self),
        }
    }

    pub(super) fn in_hand(&self) -> InHand<'_> {
        let asked = match &self.known {
            Known::Valid(valid) => Asked::Valid(valid.payment()),
            Known::Refused(refused) => Asked::Refused(refused),
        };
        InHand { origin: &self.origin, asked, ticket: &self.ticket, notes: &self.notes }
    }

    /// The payment in doubt.
    #[must_use]
    pub fn payment_id(&self) -> &PaymentId {
        &self.ticket.payment_id
    }

    /// The event in hand.
    #[must_use]
    pub fn event(&self) -> &EventId {
        &self.origin.event
    }

    /// Where the event came from and who holds it.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The only rail that may be asked.
    #[must_use]
    pub fn rail(&self) -> &str {
        &self.ticket.rail
    }

    /// Which rail, or key, of the payment it is: 0 for the first.
    #[must_use]
    pub fn leg(&self) -> u8 {
        self.ticket.leg
    }

    /// What the rail knows the attempt by.
    #[must_use]
    pub fn key(&self) -> RailKey {
        RailKey::of(&self.ticket.payment_id, self.ticket.leg)
    }

    /// The attempt's number, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.ticket.attempt
    }

    /// Grows at each takeover of the payment.
    #[must_use]
    pub fn fence(&self) -> i64 {
        self.ticket.fence
    }

    /// When the attempt was recorded: the age of the doubt counts from here.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        self.ticket.started_at
    }

    /// Until when this process holds the payment, by the database's clock.
    #[must_use]
    pub fn claimed_until(&self) -> Timestamp {
        self.ticket.until
    }

    /// How often an inquiry that counts did not find it.
    #[must_use]
    pub fn not_found(&self) -> u32 {
        self.ticket.not_found
    }

    /// The publisher's references.
    #[must_use]
    pub fn references(&self) -> &References {
        match &self.known {
            Known::Valid(valid) => &valid.payment().references,
            Known::Refused(refused) => refused.references(),
        }
    }

    /// Whether it waits for a person.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.ticket.held
    }

    /// Keeps a line of its life; written with the next answer or finding. At most 32 wait.
    pub fn note(&mut self, note: Note) {
        if self.notes.len() < 32 {
            self.notes.push(note);
        }
    }
}

// === impl Order ===

impl Order {
    /// The payment.
    #[must_use]
    pub fn payment(&self) -> &Payment {
        self.valid.payment()
    }

    /// What the rail must know it by: the same on every attempt of this leg.
    #[must_use]
    pub fn key(&self) -> &RailKey {
        &self.key
    }

    /// Which rail, or key, of the payment it is: 0 for the first.
    #[must_use]
    pub fn leg(&self) -> u8 {
        self.leg
    }

    /// The attempt's number over all legs, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Not to be sent at or after this instant: the end of the claim, or of the payment itself.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        self.deadline
    }
}
