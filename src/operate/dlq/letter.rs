//! One dead letter as it lies in its stream.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::broker::StoredMessage;
use crate::domain::{EventId, OrderKey, SchemeName, StreamName};
use crate::intake::{Contract, Decode, Decoded, Raw};
use crate::operate::audit::{Action, Entry, Mandate, sha256_hex};

/// A dead letter without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Letter {
    /// Its sequence in the dead-letter stream.
    pub sequence: u64,
    /// `payments.dead.<stream>.<created ms>.<sequence>`: names the event that left.
    pub subject: String,
    /// When it was stored, by the broker's clock.
    pub stored_at: Timestamp,
    /// The code it left under.
    pub code: String,
    /// Why, in words without any value of the event.
    pub reason: String,
    /// Where the event had been published.
    pub original_subject: String,
    /// The event's stream.
    pub stream: String,
    /// When that stream was created, in milliseconds since the Unix epoch.
    pub stream_created_ms: i64,
    /// The event's sequence.
    pub event_sequence: u64,
    /// When the store saw the event first, as the worker wrote it.
    pub first_seen: Option<String>,
    /// Starts or attempts, whichever the reason counts.
    pub attempts: Option<u32>,
    /// The worker that buried it.
    pub worker: Option<String>,
    /// Its payment, where that can be read.
    pub payment_id: Option<String>,
    /// Bytes of its body.
    pub body_bytes: usize,
}

/// The event that a dead letter's subject names.
pub(in crate::operate) fn event_of(subject: &str) -> Option<EventId> {
    let mut tokens = subject.strip_prefix("payments.dead.")?.split('.');
    let stream = StreamName::parse(tokens.next()?).ok()?;
    let created_ms = tokens.next()?.parse().ok()?;
    let sequence = tokens.next()?.parse().ok()?;
    tokens.next().is_none().then_some(EventId { stream, created_ms, sequence })
}

/// The headers that a stored message came with, first values only, `Acquit-Contract` and `Content-Type` among them.
fn headers(message: &StoredMessage) -> HashMap<&str, &str> {
    message.headers.iter().rev().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Scheme and order key of a subject `payments.<word>.<scheme>.<order-key>`.
pub(in crate::operate) fn subject_tokens(subject: &str) -> (SchemeName, OrderKey) {
    let mut tokens = subject.split('.').skip(2);
    let scheme = tokens.next().and_then(|text| SchemeName::parse(text).ok()).unwrap_or_else(SchemeName::unread);
    let key = tokens.next().and_then(|text| OrderKey::parse(text).ok()).unwrap_or_else(OrderKey::unread);
    (scheme, key)
}

/// Reads a message's body as a worker would that gets it on `subject`.
pub(in crate::operate) fn decoded(message: &StoredMessage, subject: &str) -> Option<Decoded> {
    let (scheme, order_key) = subject_tokens(subject);
    let headers = headers(message);
    let header = |name: &str| headers.get(name).copied();
    Contract.decode(Raw { scheme: &scheme, order_key: &order_key, header: &header, body: &message.payload }).ok()
}

impl Letter {
    /// Reads what a worker wrote; `None` where the message is no dead letter of ours.
    pub(super) fn of(message: &StoredMessage) -> Option<Self> {
        let event = event_of(&message.subject)?;
        let own = |name: &str| message.header(name).map(str::to_owned);
        let original_subject = own("Acquit-Subject")?;
        let payment_id = decoded(message, &original_subject).map(|decoded| decoded.payment_id().to_string());
        Some(Self {
            sequence: message.sequence,
            subject: message.subject.clone(),
            stored_at: message.time,
            code: own("Acquit-Code")?,
            reason: own("Acquit-Reason").unwrap_or_default(),
            original_subject,
            stream: event.stream.to_string(),
            stream_created_ms: event.created_ms,
            event_sequence: event.sequence,
            first_seen: own("Acquit-First-Seen"),
            attempts: own("Acquit-Attempts").and_then(|text| text.parse().ok()),
            worker: own("Acquit-Worker"),
            payment_id,
            body_bytes: message.payload.len(),
        })
    }

    /// The record of what is about to be done with it, before anything of the deed itself is known.
    pub(super) fn entry(&self, action: Action, message: &StoredMessage, mandate: &Mandate) -> Entry {
        Entry {
            contract: 1,
            action,
            who: mandate.who().to_owned(),
            why: mandate.why().to_owned(),
            at: Timestamp::now(),
            dead_letter: self.subject.clone(),
            dead_letter_sequence: self.sequence,
            code: self.code.clone(),
            payment_id: self.payment_id.clone(),
            body_sha256: sha256_hex(&message.payload),
            round: 0,
            message_id: None,
            subject: None,
            stream_created_ms: None,
            stream_last: None,
            published_sequence: None,
        }
    }

    /// `<stream>.<created ms>.<sequence>` of the event: the tail of every subject that has to do with this letter.
    pub(super) fn token(&self) -> &str {
        self.subject.strip_prefix("payments.dead.").unwrap_or_default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;

    use super::*;

    /// A dead letter as a worker stores it.
    pub(in crate::operate::dlq) fn stored(sequence: u64, code: &str, at: i64, body: &str) -> StoredMessage {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        StoredMessage {
            subject: format!("payments.dead.PAYMENTS.1700000000000.{}", sequence + 100),
            sequence,
            headers: vec![
                header("Acquit-Attempts", "1"),
                header("Acquit-Code", code),
                header("Acquit-First-Seen", "2026-11-23T09:15:02.113Z"),
                header("Acquit-Orig-Nats-Expected-Stream", "PAYMENTS"),
                header("Acquit-Orig-Nats-Msg-Id", "P-1:00"),
                header("Acquit-Reason", "not JSON"),
                header("Acquit-Subject", "payments.requested.book.k1"),
                header("Acquit-Worker", "w-1"),
                header("Nats-Msg-Id", "payments.dead.PAYMENTS.1700000000000.101"),
                header("traceparent", "00-1-2-01"),
            ],
            payload: Bytes::from(body.to_owned()),
            time: Timestamp::from_second(at).expect("in range"),
        }
    }

    #[test]
    fn a_subject_names_its_event_and_nothing_else_passes() {
        let event = event_of("payments.dead.PAYMENTS.1700000000000.7").expect("an event");
        assert_eq!(event.token(), "PAYMENTS.1700000000000.7");
        for subject in ["payments.dead.P.1", "payments.dead.P.1.2.3", "payments.dead.P.x.2", "payments.settled.P.1.2"] {
            assert_eq!(event_of(subject), None, "{subject}");
        }
    }

    #[test]
    fn the_letter_says_what_the_worker_wrote_and_its_payment_where_it_can_be_read() {
        let letter = Letter::of(&stored(1, "FF01", 0, "{")).expect("a letter");
        assert_eq!((letter.code.as_str(), letter.reason.as_str()), ("FF01", "not JSON"));
        assert_eq!((letter.payment_id.as_deref(), letter.attempts, letter.event_sequence), (None, Some(1), 101));
        let conflict = Letter::of(&stored(2, "AM05", 0, r#"{"payment_id":"P-1"}"#)).expect("a letter");
        assert_eq!(conflict.payment_id.as_deref(), Some("P-1"));
        assert_eq!(conflict.token(), "PAYMENTS.1700000000000.102");
    }
}
