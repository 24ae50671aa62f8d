//! One payment's whole life: what asked for it, what was tried and why it waited, how it ended, what was told, what
//! moved, and what happens next. Amounts and accounts of the publisher stay out, but for the book's masked entry.

mod gather;
mod text;

use jiff::Timestamp;
use serde::Serialize;

pub use gather::explain;

use super::audit::{Entry, LaneEntry};

/// A payment's life.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The payment.
    pub payment_id: String,
    /// Where it stands.
    pub standing: Standing,
    /// What happens next, in one sentence.
    pub next: String,
    /// What the store holds of the payment itself; absent where no event of it was claimed or ended by rail or book.
    pub payment: Option<PaymentPart>,
    /// Every event known to have asked for it, in stream order; at most 257.
    pub events: Vec<EventPart>,
    /// Attempts over rails, in order.
    pub attempts: Vec<AttemptPart>,
    /// What moved in the book.
    pub ledger: Option<LedgerPart>,
    /// Delays and why, with the breaker's state then, in order.
    pub notes: Vec<NotePart>,
    /// Outcome events found near the end, in stream order.
    pub outcomes: Vec<OutcomePart>,
    /// What an operator did last to its lane, where the payment is not final.
    pub steered: Option<LaneEntry>,
}

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The store never saw it.
    Unseen,
    /// Only events that ended otherwise: refused by our rules or condemned. The id may be used again.
    EventsOnly,
    /// Its event is being handled, or waits for a rail.
    Open,
    /// An attempt may have reached the rail and has no conclusive answer.
    InDoubt,
    /// Waits for a person.
    Held,
    /// Nothing of it reached a rail and its event ended as a dead letter.
    Freed,
    /// Money moved.
    Settled,
    /// Refused by the rail or the book.
    Rejected,
}

/// The payment's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PaymentPart {
    /// Scheme of the subject.
    pub scheme: String,
    /// The lane that holds or ended it.
    pub lane: String,
    /// `book`, or the rail of the last attempt.
    pub rail: String,
    /// The rail's reference.
    pub rail_ref: Option<String>,
    /// When it was asked for, by the broker's clock.
    pub requested_at: Timestamp,
    /// When its end became durable.
    pub finished_at: Option<Timestamp>,
    /// Milliseconds between the two.
    pub took_ms: Option<i64>,
    /// Executed after the requested date.
    pub late: bool,
    /// Attempts that may have reached a rail.
    pub attempts: u32,
    /// How often an event asked for it, deliveries of one event included.
    pub deliveries: u32,
    /// Since when the tracker owns it in place of its event; absent where it does not.
    pub tracked_since: Option<Timestamp>,
    /// Why it was rejected: code, path and rule.
    pub reasons: Vec<String>,
    /// Who works on it, until when.
    pub claim: Option<(String, Timestamp)>,
}

/// One event that asked for the payment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventPart {
    /// `<stream>.<created ms>.<sequence>`.
    pub event: String,
    /// `own`, `rejected`, `duplicate` or `condemned`.
    pub ended: &'static str,
    /// When it was published, by the broker's clock.
    pub requested_at: Timestamp,
    /// When its end became durable.
    pub ended_at: Option<Timestamp>,
    /// Codes, paths and rules.
    pub reasons: Vec<String>,
    /// Whether the event is still in its stream; absent where that could not be asked.
    pub in_stream: Option<bool>,
    /// Whether the consumer is past it; absent where that could not be asked.
    pub acknowledged: Option<bool>,
    /// Its dead letter, where it was condemned.
    pub dead_letter: Option<DeadLetterPart>,
}

/// The dead letter of an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetterPart {
    /// Its subject.
    pub subject: String,
    /// Its sequence; absent where it is not there (discarded, aged out, or not yet stored).
    pub sequence: Option<u64>,
    /// The newest redrive on record, ended or not.
    pub redrive: Option<Entry>,
    /// The record of its discard.
    pub discard: Option<Entry>,
}

/// One attempt over a rail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttemptPart {
    /// From 1.
    pub number: u32,
    /// Counts rails and keys.
    pub leg: u8,
    /// The rail.
    pub rail: String,
    /// When the intent was recorded.
    pub started_at: Timestamp,
    /// `settled`, `rejected`, `rejected, may be sent again`, `not sent`, or `no conclusive answer`.
    pub answer: &'static str,
    /// When that was recorded.
    pub answered_at: Option<Timestamp>,
    /// Inquiries that count and did not find it.
    pub not_found: u32,
    /// When its rail said last that it works on it.
    pub in_progress_at: Option<Timestamp>,
}

/// What stands in the place of an answer.
const NO_ANSWER: &str = "no conclusive answer";

impl AttemptPart {
    /// Whether it may have reached its rail, which has not said what became of it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.answer == NO_ANSWER
    }
}

/// A transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerPart {
    /// `tr_<number>`.
    pub transfer: String,
    /// Debited account, masked.
    pub debit: String,
    /// Credited account, masked.
    pub credit: String,
    /// Its currency.
    pub currency: String,
    /// A decimal string.
    pub value: String,
    /// When.
    pub posted_at: Timestamp,
}

/// One line of the life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotePart {
    /// When.
    pub at: Timestamp,
    /// What and why.
    pub what: String,
    /// The lane's breaker then.
    pub breaker: String,
}

/// An outcome event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutcomePart {
    /// Its sequence in the outcomes stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Its message id.
    pub message_id: String,
    /// When it was stored, by the broker's clock.
    pub stored_at: Timestamp,
}

impl Standing {
    /// What happens next.
    #[must_use]
    pub fn next(self) -> &'static str {
        match self {
            Self::Unseen => {
                "The store never saw this payment id: no event of it was delivered to a worker yet, or \
                 its body could not be read."
            }
            Self::EventsOnly => {
                "Nothing more by itself: its events are ended; a corrected event with the same payment id is judged \
                 anew."
            }
            Self::Open => {
                "The event is delivered again until the payment is final; it is tried again when the gate is open."
            }
            Self::InDoubt => {
                "The rail is asked what became of the attempt until it says; nothing is sent under another key \
                 before that. Where it never says: `acquit unknown resolve`."
            }
            Self::Held => "A person decides, by `acquit unknown resolve`: the rail neither credited nor returned it.",
            Self::Freed => {
                "Nothing more by itself: nothing reached a rail; redrive the dead letter or publish a \
                 corrected event."
            }
            Self::Settled => "Nothing: it is final; further events with the same content are answered as duplicates.",
            Self::Rejected => {
                "Nothing: it is final for this payment id; pay under a new payment id once the cause is removed."
            }
        }
    }
}
