//! One hand-over of an event, and the only ways out of it: acknowledged with a proof, terminated after its dead
//! letter, or handed back with a delay. Dropped, it is none of these: the event comes back after `ack_wait`.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subject};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::consumer::Stale;
use super::publish::DeadLetterStored;
use super::{Announced, Consumer, Outgoing, Wire, WireError};
use crate::domain::{EventId, OrderKey, SchemeName};
use crate::telemetry::trace::Trace;

/// How long one acknowledgement request waits before it is sent again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The broker's confirmation was not seen. The event may come again; the store then says what stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AckUnknown {
    /// The consumer is gone, or has no leader.
    #[error("nobody answers for the consumer")]
    NoResponders,
    /// No confirmation until `ack_wait` after the last answered beat.
    #[error("no confirmation before ack_wait was over")]
    Deadline,
    /// The proof is another event's: nothing was sent. The worker's types rule it out.
    #[error("the proof is another event's")]
    OtherEvent,
    /// Stream or consumer was recreated: an answer would hit another event.
    #[error("stream or consumer was recreated")]
    Recreated,
}

/// A delay above zero: a NAK without one comes back at once, and a failing downstream turns that into a storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Delay(Duration);

impl Delay {
    /// At least ten milliseconds.
    pub(crate) fn at_least(span: Duration) -> Self {
        Self(span.max(Duration::from_millis(10)))
    }

    pub(crate) fn get(self) -> Duration {
        self.0
    }
}

/// What keeps a delivery ours: where to send beats, and since when the broker counts.
pub(crate) struct Hold<W> {
    consumer: Consumer<W>,
    reply: Subject,
    era: u64,
    ack_wait: Duration,
    answered: Mutex<Instant>,
}

/// One hand-over of an event. Small, because it moves with every step of the event's way.
pub(crate) struct Delivery<W> {
    pub(super) hold: Arc<Hold<W>>,
    what: Box<What>,
}

/// What was handed over.
struct What {
    event: EventId,
    subject: Subject,
    tokens: Option<(SchemeName, OrderKey)>,
    headers: Option<HeaderMap>,
    payload: Bytes,
    requested_at: Timestamp,
    delivered: u64,
    pending: u64,
    received: Instant,
    trace: Trace,
}

/// The scheme and order key in the subject `<a>.<b>.<scheme>.<order key>`.
fn tokens(subject: &str) -> Option<(SchemeName, OrderKey)> {
    let mut tokens = subject.split('.').skip(2);
    let (scheme, key) = (tokens.next()?, tokens.next()?);
    Some((SchemeName::parse(scheme).ok()?, OrderKey::parse(key).ok()?))
}

/// The fields of an acknowledgement subject, versions 1 and 2.
struct AckSubject {
    delivered: u64,
    stream_seq: u64,
    consumer_seq: u64,
    nanos: i64,
    pending: u64,
}

fn parse_ack_subject(reply: &str) -> Option<AckSubject> {
    let tokens: Vec<&str> = reply.split('.').collect();
    // v1: $JS.ACK.<stream>.<consumer>.<5 fields>; v2 has domain and account hash after ACK and may have a tail.
    let first = match tokens.len() {
        9 => 4,
        11.. => 6,
        _ => return None,
    };
    let number = |at: usize| tokens.get(at)?.parse::<u64>().ok();
    Some(AckSubject {
        delivered: number(first)?,
        stream_seq: number(first.checked_add(1)?)?,
        consumer_seq: number(first.checked_add(2)?)?,
        nanos: i64::try_from(number(first.checked_add(3)?)?).ok()?,
        pending: number(first.checked_add(4)?)?,
    })
}

impl<W: Wire> Delivery<W> {
    /// Reads a delivery; `None` where the message is none of this consumer, as far as is known.
    pub(super) fn read(message: Message, consumer: &Consumer<W>) -> Option<Self> {
        let reply = message.reply?;
        let ack = parse_ack_subject(&reply)?;
        // A recreated consumer counts from 1 again. Until it is verified, its events must not go under the old
        // stream's name; dropped here, they come back after `ack_wait`.
        if !consumer.is_new(ack.consumer_seq) {
            consumer.doubt();
            return None;
        }
        // The era first: a verification in between makes the pair stale, and a stale delivery is never answered.
        let era = consumer.era();
        let terms = consumer.terms()?;
        let received = Instant::now();
        let hold =
            Hold { consumer: consumer.clone(), reply, era, ack_wait: terms.ack_wait, answered: Mutex::new(received) };
        let what = What {
            event: EventId {
                stream: consumer.stream().clone(),
                created_ms: terms.created_ms,
                sequence: ack.stream_seq,
            },
            tokens: tokens(&message.subject),
            subject: message.subject,
            headers: message.headers,
            payload: message.payload,
            requested_at: Timestamp::from_nanosecond(i128::from(ack.nanos)).ok()?,
            delivered: ack.delivered,
            pending: ack.pending,
            received,
            trace: Trace::default(),
        };
        Some(Self { hold: Arc::new(hold), what: Box::new(what) })
    }

    pub(crate) fn event(&self) -> &EventId {
        &self.what.event
    }

    pub(crate) fn subject(&self) -> &str {
        &self.what.subject
    }

    pub(crate) fn payload(&self) -> &Bytes {
        &self.what.payload
    }

    pub(super) fn headers(&self) -> Option<&HeaderMap> {
        self.what.headers.as_ref()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.what.headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str)
    }

    /// What the tracker keeps of it: the body byte for byte, and every header but those that the broker acts on. It is
    /// judged anew from that, and what it leads to continues this event's trace.
    pub(crate) fn message(&self) -> crate::store::Message {
        let all = self.what.headers.as_ref().map(super::topology::header_pairs).unwrap_or_default();
        let broker = |name: &str| name.to_ascii_lowercase().starts_with("nats-");
        let mut headers: Vec<(String, String)> =
            all.into_iter().filter(|(name, _)| !broker(name) && name != "traceparent").collect();
        headers.extend(self.onward().map(|trace| ("traceparent".to_owned(), trace.into_owned())));
        crate::store::Message { headers, body: self.what.payload.clone() }
    }

    pub(crate) fn requested_at(&self) -> Timestamp {
        self.what.requested_at
    }

    /// Which delivery of the event this is, as the broker counts.
    pub(crate) fn delivered(&self) -> u64 {
        self.what.delivered
    }

    /// Events the consumer had not delivered yet when this one was.
    pub(crate) fn pending(&self) -> u64 {
        self.what.pending
    }

    pub(crate) fn received(&self) -> Instant {
        self.what.received
    }

    pub(crate) fn hold(&self) -> &Arc<Hold<W>> {
        &self.hold
    }

    /// Gives it the event's span, of which its publications are children.
    pub(crate) fn follow(&mut self, trace: Trace) {
        self.what.trace = trace;
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.what.trace
    }

    /// The `traceparent` of whatever this event leads to.
    pub(crate) fn onward(&self) -> Option<Cow<'_, str>> {
        self.what.trace.onward(self.header("traceparent"))
    }

    /// The scheme and order key in its subject, where both are well formed.
    pub(crate) fn subject_tokens(&self) -> Option<&(SchemeName, OrderKey)> {
        self.what.tokens.as_ref()
    }

    /// Says that the event is done. Takes the proof that its outcome is durable and announced.
    ///
    /// Sent again until `ack_wait` after the beat answered last before it; a late acknowledgement is safe, the work is done.
    pub(crate) async fn acknowledge(self, proof: Announced) -> Result<(), AckUnknown> {
        if proof.event() != &self.what.event {
            return Err(AckUnknown::OtherEvent);
        }
        #[cfg(acquit_sabotage = "ack_before_commit")]
        return Ok(());
        #[cfg(not(acquit_sabotage = "ack_before_commit"))]
        self.hold.answer(Bytes::from_static(b"+ACK")).await
    }

    /// Removes the event from the consumer. Takes the proof that its dead letter is stored.
    pub(super) async fn terminate(self, proof: DeadLetterStored) -> Result<(), AckUnknown> {
        #[cfg(acquit_sabotage = "term_before_dead_letter")]
        return Ok(());
        #[cfg(not(acquit_sabotage = "term_before_dead_letter"))]
        self.hold.answer(Bytes::from(format!("+TERM {}", proof.code()))).await
    }

    /// Gives the event back to the broker, to be delivered again after `after`. Tried once: unanswered, it comes back
    /// after `ack_wait` all the same. Past the deadline nothing is sent, since it would hit another worker's delivery.
    pub(crate) async fn hand_back(self, after: Delay) -> Result<(), AckUnknown> {
        let nanos = after.get().as_nanos();
        #[cfg(acquit_sabotage = "nak_without_delay")]
        return self.hold.once(Bytes::from_static(b"-NAK")).await;
        #[cfg(not(acquit_sabotage = "nak_without_delay"))]
        self.hold.once(Bytes::from(format!("-NAK {{\"delay\":{nanos}}}"))).await
    }
}

impl<W: Wire> Hold<W> {
    /// When the broker takes the event away, if no further beat is answered.
    pub(crate) fn deadline(&self) -> Instant {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.checked_add(self.ack_wait).unwrap_or(answered)
    }

    /// When the next beat is due: a third of `ack_wait` after the last answered one.
    pub(crate) fn beat_due(&self) -> Instant {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.checked_add(self.ack_wait / 3).unwrap_or(answered)
    }

    pub(crate) fn ack_wait(&self) -> Duration {
        self.ack_wait
    }

    /// Whether stream or consumer has been recreated since.
    pub(crate) fn is_void(&self) -> bool {
        self.consumer.era() != self.era
    }

    /// Tells the broker that the event is still being worked on.
    pub(crate) async fn beat(&self) -> Result<(), AckUnknown> {
        let sent = Instant::now();
        self.once(Bytes::from_static(b"+WPI")).await?;
        // Counted from before the sending: the broker's timer cannot be ahead of ours.
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = sent;
        Ok(())
    }

    /// A sabotage for the negative controls: an acknowledgement without a proof.
    #[cfg(acquit_sabotage = "ack_before_commit")]
    pub(crate) async fn sabotage_ack(&self) -> Result<(), AckUnknown> {
        self.answer(Bytes::from_static(b"+ACK")).await
    }

    /// A sabotage for the negative controls: an end without a dead letter.
    #[cfg(acquit_sabotage = "term_before_dead_letter")]
    pub(super) async fn sabotage_term(&self) -> Result<(), AckUnknown> {
        self.answer(Bytes::from_static(b"+TERM")).await
    }

    async fn once(&self, payload: Bytes) -> Result<(), AckUnknown> {
        let deadline = self.deadline();
        self.consumer.clear(self.era, deadline).await.map_err(AckUnknown::from)?;
        self.send(payload, deadline).await.map_err(|error| self.lost(error).unwrap_or(AckUnknown::Deadline))
    }

    async fn answer(&self, payload: Bytes) -> Result<(), AckUnknown> {
        // Read once: beats go on and are answered even where the answer itself never is. An R1 consumer that lost its
        // last deliveries in a crash ignores what it has not delivered anew, and would hold the slot for ever.
        let deadline = self.deadline();
        loop {
            self.consumer.clear(self.era, deadline).await.map_err(AckUnknown::from)?;
            match self.send(payload.clone(), deadline).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    if let Some(lost) = self.lost(error) {
                        return Err(lost);
                    }
                }
            }
        }
    }

    async fn send(&self, payload: Bytes, deadline: Instant) -> Result<(), WireError> {
        let within = deadline.saturating_duration_since(Instant::now()).min(ANSWER_TIMEOUT);
        let out = Outgoing { subject: self.reply.clone(), headers: None, payload };
        self.consumer.wire().request(out, within).await.map(drop)
    }

    /// What an unanswered request means; `None` where asking again may help.
    fn lost(&self, error: WireError) -> Option<AckUnknown> {
        match error {
            WireError::NoResponders => {
                // No consumer, or no leader: who it is must be asked again before anything else is answered.
                self.consumer.doubt();
                Some(AckUnknown::NoResponders)
            }
            WireError::TimedOut | WireError::Disconnected | WireError::Busy => None,
        }
    }
}

impl From<Stale> for AckUnknown {
    fn from(stale: Stale) -> Self {
        match stale {
            Stale::Recreated => Self::Recreated,
            Stale::Deadline => Self::Deadline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_the_acknowledgement_subject_are_read() {
        for reply in [
            "$JS.ACK.S.C.3.77.12.1700000000000000000.5",
            "$JS.ACK._.hash.S.C.3.77.12.1700000000000000000.5",
            "$JS.ACK._.hash.S.C.3.77.12.1700000000000000000.5.tail",
        ] {
            let ack = parse_ack_subject(reply).unwrap();
            assert_eq!((ack.delivered, ack.stream_seq, ack.nanos), (3, 77, 1_700_000_000_000_000_000));
        }
        assert!(parse_ack_subject("_INBOX.x.1").is_none());
    }
}
