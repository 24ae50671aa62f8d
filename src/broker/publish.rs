//! The two publications that must be confirmed: an outcome before its event is acknowledged, a dead letter before its
//! original is terminated. A PubAck counts only if it names the expected stream and a sequence: with no stream on a
//! subject, any subscriber that answers JSON would pass for one.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::outcome::{DeadLettered, HeldWhy, Millis, Waiting, describe, held, to_json, tracked};
use super::topology::ErrorBody;
use super::{AckUnknown, ApiError, Broker, Delivery, Outgoing, Wire, WireError};
use crate::domain::{EventId, Reason, StreamName, millis};
use crate::store::{Condemned, Confirmed, Recorded, Tracked};
use crate::telemetry::step::{Step, at};

/// How long a publication waits for its PubAck.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);
/// JetStream's error for a wrong expected sequence: something is stored under this subject already.
const WRONG_LAST_SEQUENCE: u64 = 10_071;

/// Why a publication is not confirmed. In every case the event stays un-acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No PubAck: it may be stored or not. Publishing again under the same id is safe.
    #[error("no confirmation: {0}")]
    Unconfirmed(WireError),
    /// The broker refuses: stream full, message too large, permission.
    #[error("refused: {description} (error {code})")]
    Refused {
        /// JetStream's error code.
        code: u64,
        /// Its words.
        description: String,
    },
    /// Something answered that is not the expected stream.
    #[error("the answer is not a confirmation of stream {expected}")]
    NotTheStream {
        /// The stream that should have answered.
        expected: String,
    },
    /// The proof is another event's: nothing was published. The worker's types rule it out.
    #[error("the proof is another event's")]
    OtherEvent,
    /// Another body is stored under this dead letter's subject.
    #[error("another message is stored as {subject}")]
    Collision {
        /// The dead letter's subject.
        subject: String,
    },
}

impl PublishError {
    /// Whether the same message would be refused however well the broker does.
    pub(crate) fn is_about_the_message(&self) -> bool {
        /// JetStream's error for a message above the stream's `max_msg_size`.
        const TOO_LARGE: u64 = 10_054;
        match self {
            Self::Collision { .. } | Self::OtherEvent => true,
            Self::Refused { code, .. } => *code == TOO_LARGE,
            Self::Unconfirmed(_) | Self::NotTheStream { .. } => false,
        }
    }
}

/// Proof that an outcome, or that the tracker owns the payment, is durable in the store, and that the event which tells
/// of it has a PubAck.
#[must_use]
pub(crate) struct Announced {
    event: EventId,
}

impl Announced {
    pub(super) fn event(&self) -> &EventId {
        &self.event
    }
}

impl Confirmed for Announced {
    fn event(&self) -> &EventId {
        &self.event
    }
}

/// Proof that a dead letter has its PubAck, or was stored before with the same body.
#[must_use]
pub(super) struct DeadLetterStored {
    code: &'static str,
}

impl DeadLetterStored {
    pub(super) fn code(&self) -> &'static str {
        self.code
    }
}

/// A delivery whose dead letter is confirmed: the only one that can be terminated.
#[must_use]
pub(crate) struct Buried<W> {
    delivery: Delivery<W>,
    stored: DeadLetterStored,
}

impl<W: Wire> Buried<W> {
    /// Removes the original from the consumer. Safe at any time now: the dead letter is stored.
    pub(crate) async fn terminate(self) -> Result<(), AckUnknown> {
        at(Step::BeforeTerm);
        self.delivery.terminate(self.stored).await
    }
}

#[derive(Deserialize)]
struct PubAck {
    #[serde(default)]
    stream: String,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<ErrorBody>,
}

impl<W: Wire> Broker<W> {
    /// Publishes an outcome event and waits for its PubAck. At least once: a repeat has the same message id.
    pub(crate) async fn announce(
        &self,
        proof: Recorded,
        traceparent: Option<&str>,
    ) -> Result<Announced, (PublishError, Recorded)> {
        at(Step::BeforeOutcome);
        let (subject, id, body) = describe(proof.outcome());
        match self.publish(subject, &id, body, traceparent, &self.streams.outcomes).await {
            Ok(_) => Ok(Announced { event: proof.event().clone() }),
            Err(error) => Err((error, proof)),
        }
    }

    /// Stores the dead letter of a condemned event, tells of it, and returns what may be terminated.
    pub(crate) async fn bury(
        &self,
        delivery: Delivery<W>,
        proof: Condemned,
        worker: &str,
    ) -> Result<Buried<W>, (PublishError, Delivery<W>, Condemned)> {
        if proof.event() != delivery.event() {
            return Err((PublishError::OtherEvent, delivery, proof));
        }
        #[cfg(acquit_sabotage = "term_before_dead_letter")]
        {
            drop(delivery.hold().sabotage_term().await);
            at(Step::BeforeTerm);
        }
        let buried = match self.store_dead_letter(&delivery, &proof, worker).await {
            Ok(stored) => self.tell_of_dead_letter(&delivery, &proof).await.map(|()| stored),
            Err(error) => Err(error),
        };
        match buried {
            Ok(stored) => Ok(Buried { delivery, stored }),
            Err(error) => Err((error, delivery, proof)),
        }
    }

    async fn store_dead_letter(
        &self,
        delivery: &Delivery<W>,
        proof: &Condemned,
        worker: &str,
    ) -> Result<DeadLetterStored, PublishError> {
        let code = proof.code().as_str();
        let subject = format!("payments.dead.{}", delivery.event().token());
        let headers = dead_letter_headers(delivery, proof, worker, &subject, &self.streams.dead_letters);
        let out =
            Outgoing { subject: subject.clone().into(), headers: Some(headers), payload: delivery.payload().clone() };
        let stored_before = match self.confirmed(out, &self.streams.dead_letters).await {
            Ok(ack) => ack.duplicate,
            Err(PublishError::Refused { code: WRONG_LAST_SEQUENCE, .. }) => true,
            Err(error) => return Err(error),
        };
        if !stored_before {
            return Ok(DeadLetterStored { code });
        }
        // Either this very dead letter, stored before a crash, or an id somebody else has used up: look.
        match self.last_on(self.streams.dead_letters.as_str(), &subject).await {
            Ok(found) if Sha256::digest(&found.payload) == Sha256::digest(delivery.payload()) => {
                Ok(DeadLetterStored { code })
            }
            Ok(_) => Err(PublishError::Collision { subject }),
            Err(ApiError::NotFound { .. } | ApiError::Unreadable { .. }) => Err(PublishError::Collision { subject }),
            Err(ApiError::Wire { cause, .. }) => Err(PublishError::Unconfirmed(cause)),
            Err(ApiError::Refused { code, description }) => Err(PublishError::Refused { code, description }),
        }
    }

    async fn tell_of_dead_letter(&self, delivery: &Delivery<W>, proof: &Condemned) -> Result<(), PublishError> {
        let Some(payment_id) = proof.payment_id() else { return Ok(()) };
        let Some((scheme, key)) = delivery.subject_tokens() else { return Ok(()) };
        let event = delivery.event();
        let reason = Reason::new(proof.code(), "", words(proof));
        let body = DeadLettered {
            contract: 1,
            payment_id,
            status: "dead-lettered",
            scheme: scheme.as_str(),
            lane: proof.lane().as_str(),
            reasons: &[reason],
            dead_letter: &format!("payments.dead.{}", event.token()),
            requested_at: Millis(delivery.requested_at()),
            dead_lettered_at: Millis(proof.condemned_at()),
        };
        let subject = format!("payments.dead-lettered.{scheme}.{key}");
        let id = format!("{payment_id}:dead-lettered:{}.{}", event.created_ms, event.sequence);
        let trace = delivery.onward();
        self.publish(subject, &id, to_json(&body), trace.as_deref(), &self.streams.outcomes).await.map(drop)
    }

    /// Publishes that a payment has no outcome yet. Proves nothing: what acknowledges is an outcome.
    pub(crate) async fn tell_held(
        &self,
        delivery: &Delivery<W>,
        waiting: &Waiting<'_>,
        why: HeldWhy,
    ) -> Result<(), PublishError> {
        if waiting.origin.event != *delivery.event() {
            return Err(PublishError::OtherEvent);
        }
        let (subject, id, body) = held(waiting, why, Timestamp::now());
        let trace = delivery.onward();
        self.publish(subject, &id, body, trace.as_deref(), &self.streams.outcomes).await.map(drop)
    }

    /// Publishes that a payment goes on without its event, and waits for the PubAck: then the event may be acknowledged.
    pub(crate) async fn announce_tracked(
        &self,
        proof: Tracked,
        traceparent: Option<&str>,
    ) -> Result<Announced, (PublishError, Tracked)> {
        at(Step::BeforeOutcome);
        let (subject, id, body) = tracked(&proof, Timestamp::now());
        match self.publish(subject, &id, body, traceparent, &self.streams.outcomes).await {
            Ok(_) => Ok(Announced { event: proof.event().clone() }),
            Err(error) => Err((error, proof)),
        }
    }

    async fn publish(
        &self,
        subject: String,
        id: &str,
        payload: Bytes,
        traceparent: Option<&str>,
        stream: &StreamName,
    ) -> Result<PubAck, PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
        if let Some(trace) = traceparent.filter(|t| is_header_value(t)) {
            headers.insert("traceparent", trace);
        }
        self.confirmed(Outgoing { subject: subject.into(), headers: Some(headers), payload }, stream).await
    }

    async fn confirmed(&self, out: Outgoing, stream: &StreamName) -> Result<PubAck, PublishError> {
        let reply = self.wire.request(out, PUBLISH_TIMEOUT).await.map_err(PublishError::Unconfirmed)?;
        let not_the_stream = || PublishError::NotTheStream { expected: stream.to_string() };
        let ack: PubAck = serde_json::from_slice(&reply.payload).map_err(|_| not_the_stream())?;
        if let Some(error) = ack.error {
            return Err(PublishError::Refused { code: error.err_code, description: error.description });
        }
        if ack.stream != stream.as_str() || ack.seq == 0 { Err(not_the_stream()) } else { Ok(ack) }
    }

    /// Publishes any message and waits for the PubAck of `stream`; for operators' tools. Gives the sequence, and
    /// whether the broker knew the id already.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish_confirmed(
        &self,
        subject: &str,
        id: &str,
        headers: &[(String, String)],
        payload: Bytes,
        stream: &StreamName,
    ) -> Result<(u64, bool), PublishError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().filter(|(n, v)| is_header_name(n) && is_header_value(v)) {
            map.append(name.as_str(), value.as_str());
        }
        map.insert(async_nats::header::NATS_MESSAGE_ID, id);
        let out = Outgoing { subject: subject.to_owned().into(), headers: Some(map), payload };
        self.confirmed(out, stream).await.map(|ack| (ack.seq, ack.duplicate))
    }
}

/// Why, on one line and without any value of the event.
fn words(proof: &Condemned) -> String {
    match proof.reason() {
        Some(reason) if reason.path.is_empty() => reason.text.clone(),
        Some(reason) => format!("{}: {}", reason.path, reason.text),
        None => proof.code().meaning().to_owned(),
    }
}

fn dead_letter_headers<W: Wire>(
    delivery: &Delivery<W>,
    proof: &Condemned,
    worker: &str,
    subject: &str,
    stream: &StreamName,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in delivery.headers().map(super::topology::header_pairs).unwrap_or_default() {
        if !is_header_name(&name) || !is_header_value(&value) {
            continue;
        }
        // The broker acts on `Nats-` headers: the original's expectations would fail or fool this publication.
        if name.to_ascii_lowercase().starts_with("nats-") {
            headers.append(format!("Acquit-Orig-{name}").as_str(), value.as_str());
        } else if !name.to_ascii_lowercase().starts_with("acquit-") || name == "Acquit-Contract" {
            headers.append(name.as_str(), value.as_str());
        }
    }
    let event = delivery.event();
    headers.insert("Acquit-Code", proof.code().as_str());
    headers.insert("Acquit-Reason", words(proof));
    headers.insert("Acquit-Subject", delivery.subject());
    headers.insert("Acquit-Stream", event.stream.as_str());
    headers.insert("Acquit-Stream-Created", event.created_ms.to_string());
    headers.insert("Acquit-Sequence", event.sequence.to_string());
    headers.insert("Acquit-First-Seen", millis(proof.first_seen()));
    headers.insert("Acquit-Attempts", proof.attempts().to_string());
    headers.insert("Acquit-Worker", worker);
    // What is redriven continues the trace of the worker that gave it up.
    if let Some(trace) = delivery.onward().filter(|t| is_header_value(t)) {
        headers.insert("traceparent", trace.as_ref());
    }
    headers.insert(async_nats::header::NATS_MESSAGE_ID, subject);
    headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    headers.insert(async_nats::header::NATS_EXPECTED_STREAM, stream.as_str());
    headers
}

/// What the protocol allows in a header value: anything on one line.
fn is_header_value(value: &str) -> bool {
    !value.contains(['\r', '\n'])
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':')
}
