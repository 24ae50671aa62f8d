//! A lane's durable consumer: bound, never created or changed. It knows whether the consumer on the server is still
//! the one it was, because an acknowledgement is known to the broker by its stream sequence alone: sent to a
//! recreated consumer it would settle somebody else's event.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{ApiError, Broker, ConsumerInfo, StreamInfo, Teller, Wire};
use crate::domain::StreamName;

/// Whether answers may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Grows each time stream or consumer turns out to be another one.
    era: u64,
    /// The connection's epoch at the last verification; `None` where there is doubt.
    verified: Option<u64>,
    /// Grows with each doubt, so that a verification does not erase one that came up while it asked.
    doubts: u64,
}

/// What the last verification found.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) stream: StreamInfo,
    pub(crate) consumer: ConsumerInfo,
}

/// The numbers of a verification that every delivery and pull needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// The stream's creation time, in milliseconds since the Unix epoch.
    pub(crate) created_ms: i64,
    /// How long the broker waits for an answer.
    pub(crate) ack_wait: Duration,
    /// The largest message of the stream, in bytes.
    pub(crate) largest: u64,
    /// The largest batch a pull may ask for.
    pub(crate) max_batch: u32,
    /// How many events may be un-acknowledged over all workers.
    pub(crate) max_ack_pending: u64,
}

/// The largest message where the stream sets no bound: the body's own, and its headers.
const LARGEST: u64 = 80 * 1024;

impl Terms {
    fn of(facts: &Facts) -> Self {
        let positive = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
        Self {
            created_ms: facts.stream.created.as_millisecond(),
            ack_wait: facts.consumer.ack_wait(),
            largest: Some(facts.stream.number("max_msg_size")).filter(|n| *n > 0).unwrap_or(LARGEST),
            max_batch: positive(facts.consumer.number("max_batch"))
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(u32::MAX),
            max_ack_pending: positive(facts.consumer.number("max_ack_pending")).unwrap_or(u64::MAX),
        }
    }
}

/// Why a consumer cannot be verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VerifyError {
    /// The broker did not answer, or refused.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// Stream or consumer was recreated; held deliveries are void now.
    #[error("{what} was recreated")]
    Recreated {
        /// `stream` or `consumer`.
        what: &'static str,
    },
}

/// The event may no longer be answered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stale {
    /// Stream or consumer is another one now.
    Recreated,
    /// The time is up.
    Deadline,
}

struct Shared {
    stream: StreamName,
    name: String,
    standing: Teller<Standing>,
    facts: RwLock<Option<(Facts, Terms)>>,
    /// Consumer sequences seen since the last verification.
    seen: Mutex<Seen>,
}

/// How far behind the newest one a delivery may be read: deliveries of different pulls come on different inboxes and
/// are not read in the broker's order.
const WINDOW: u64 = 16_384;

/// The last [`WINDOW`] consumer sequences, one bit each.
struct Seen {
    top: u64,
    /// The connection's epoch at the last meeting; 0 before the first.
    epoch: u64,
    bits: Vec<u64>,
}

impl Seen {
    fn new() -> Self {
        Self { top: 0, epoch: 0, bits: vec![0; usize::try_from(WINDOW / 64).unwrap_or_default()] }
    }

    /// Takes on what the consumer says it has delivered: at the first meeting, for another consumer, and where the
    /// count went back over a new connection, as after a crash of an R1 server. Everything up to there counts as
    /// seen. On the same connection a lower count is only an older answer: deliveries have overtaken it.
    fn meet(&mut self, delivered: u64, changed: bool, epoch: u64) {
        let back = epoch != self.epoch && delivered < self.top;
        if self.epoch == 0 || changed || back {
            self.top = delivered;
            self.bits.fill(u64::MAX);
        }
        self.epoch = epoch;
    }

    /// Notes a sequence; false where it was seen before or lies too far back: the consumer counts anew.
    fn note(&mut self, sequence: u64) -> bool {
        if sequence.saturating_add(WINDOW) <= self.top {
            return false;
        }
        // Bits of sequences that the window has passed are cleared as it moves.
        let ahead = sequence.saturating_sub(self.top).min(WINDOW);
        for passed in 1..=ahead {
            let (word, bit) = Self::place(self.top.saturating_add(passed));
            if let Some(word) = self.bits.get_mut(word) {
                *word &= !bit;
            }
        }
        self.top = self.top.max(sequence);
        let (word, bit) = Self::place(sequence);
        let Some(word) = self.bits.get_mut(word) else { return false };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn place(sequence: u64) -> (usize, u64) {
        let at = sequence % WINDOW;
        (usize::try_from(at / 64).unwrap_or_default(), 1 << (at % 64))
    }
}

/// A handle on a bound consumer.
#[derive(Clone)]
pub(crate) struct Consumer<W> {
    broker: Broker<W>,
    shared: Arc<Shared>,
}

impl<W: Wire> Broker<W> {
    /// Binds to a consumer of the payments stream. It is not asked about yet: see [`Consumer::verify`].
    pub(crate) fn bind(&self, name: &str) -> Consumer<W> {
        let shared = Shared {
            stream: self.streams.payments.clone(),
            name: name.to_owned(),
            standing: Teller::new(Standing { era: 1, verified: None, doubts: 0 }),
            facts: RwLock::default(),
            seen: Mutex::new(Seen::new()),
        };
        Consumer { broker: self.clone(), shared: Arc::new(shared) }
    }
}

impl<W: Wire> Consumer<W> {
    pub(super) fn wire(&self) -> &W {
        &self.broker.wire
    }

    pub(crate) fn stream(&self) -> &StreamName {
        &self.shared.stream
    }

    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    pub(super) fn era(&self) -> u64 {
        self.shared.standing.borrow().era
    }

    /// Notes a delivery's consumer sequence; false where it comes a second time, as after a recreation.
    pub(super) fn is_new(&self, consumer_seq: u64) -> bool {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).note(consumer_seq)
    }

    /// What the last verification found.
    pub(crate) fn facts(&self) -> Option<Facts> {
        let facts = self.shared.facts.read().unwrap_or_else(PoisonError::into_inner);
        facts.as_ref().map(|(facts, _)| facts.clone())
    }

    /// What the hot path needs of the last verification.
    pub(crate) fn terms(&self) -> Option<Terms> {
        let facts = self.shared.facts.read().unwrap_or_else(PoisonError::into_inner);
        facts.as_ref().map(|(_, terms)| *terms)
    }

    /// Something was said that makes the consumer's identity doubtful: nothing is answered until it is verified.
    pub(crate) fn doubt(&self) {
        self.shared.standing.send_modify(|standing| {
            standing.verified = None;
            standing.doubts = standing.doubts.wrapping_add(1);
        });
    }

    /// Whether answers and pulls may go out now.
    pub(crate) fn is_verified(&self) -> bool {
        let epoch = { self.broker.wire.link().borrow().clone() };
        epoch.connected && self.shared.standing.borrow().verified == Some(epoch.epoch)
    }

    /// Asks the broker who stream and consumer are, and compares with what was known.
    pub(crate) async fn verify(&self) -> Result<Facts, VerifyError> {
        let epoch = self.broker.wire.link().borrow().epoch;
        let before = self.shared.standing.borrow().doubts;
        let stream = self.broker.stream_info(self.shared.stream.as_str()).await;
        let stream = stream.inspect_err(|_| self.doubt())?;
        let consumer = self.broker.consumer_info(self.shared.stream.as_str(), &self.shared.name).await;
        let consumer = consumer.inspect_err(|_| self.doubt())?;
        let new = Facts { stream, consumer };
        let old = {
            let mut facts = self.shared.facts.write().unwrap_or_else(PoisonError::into_inner);
            facts.replace((new.clone(), Terms::of(&new)))
        };
        let changed = old.and_then(|(old, _)| {
            if old.stream.created != new.stream.created {
                Some("stream")
            } else if old.consumer.created != new.consumer.created {
                Some("consumer")
            } else {
                None
            }
        });
        let delivered = new.consumer.delivered.consumer_seq;
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).meet(delivered, changed.is_some(), epoch);
        self.shared.standing.send_modify(|standing| {
            // Another consumer is verified a second time, after whoever owns the lane has looked at it.
            let good = changed.is_none() && standing.doubts == before;
            standing.verified = if good { Some(epoch) } else { None };
            standing.era = standing.era.saturating_add(u64::from(changed.is_some()));
        });
        match changed {
            Some(what) => Err(VerifyError::Recreated { what }),
            None => Ok(new),
        }
    }

    /// Waits until an answer for a delivery of `era` may be sent: connected, and the consumer verified on this very
    /// connection. Cancel-safe.
    pub(super) async fn clear(&self, era: u64, deadline: Instant) -> Result<(), Stale> {
        let mut standing = self.shared.standing.subscribe();
        let mut link = self.broker.wire.link();
        loop {
            let (now, connection) = (*standing.borrow_and_update(), link.borrow_and_update().clone());
            if now.era != era {
                return Err(Stale::Recreated);
            }
            if Instant::now() >= deadline {
                return Err(Stale::Deadline);
            }
            if connection.connected && now.verified == Some(connection.epoch) {
                return Ok(());
            }
            let changed = async {
                tokio::select! {
                    biased;
                    () = standing.changed() => {}
                    () = link.changed() => {}
                }
            };
            if timeout_at(deadline, changed).await.is_err() {
                return Err(Stale::Deadline);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use async_nats::Message;
    use futures_util::stream::{Pending, pending as nothing};

    use super::*;
    use crate::broker::{LinkState, Listener, Outgoing, Streams, Teller, WireError};

    type Happening = Box<dyn FnOnce() + Send>;

    /// A server with one stream and one consumer; something may happen while it is asked about the consumer.
    #[derive(Clone)]
    struct Model {
        link: Arc<Teller<LinkState>>,
        meanwhile: Arc<Mutex<Option<Happening>>>,
    }

    impl Wire for Model {
        type Inbox = Pending<Message>;

        async fn request(&self, out: Outgoing, _within: Duration) -> Result<Message, WireError> {
            let body = if out.subject.contains("STREAM.INFO") {
                r#"{"config":{},"created":"2026-01-01T00:00:00Z","state":{"messages":0,"first_seq":1,"last_seq":0}}"#
            } else {
                if let Some(happen) = self.meanwhile.lock().unwrap().take() {
                    happen();
                }
                r#"{"config":{},"created":"2026-01-01T00:00:00Z","delivered":{"consumer_seq":0,"stream_seq":0},
                    "ack_floor":{"consumer_seq":0,"stream_seq":0}}"#
            };
            Ok(Message {
                subject: out.subject,
                reply: None,
                payload: body.into(),
                headers: None,
                status: None,
                description: None,
                length: body.len(),
            })
        }

        async fn send(&self, _out: Outgoing, _reply: String) -> Result<(), WireError> {
            pending().await
        }

        async fn listen(&self, _subject: String) -> Result<Self::Inbox, WireError> {
            Ok(nothing())
        }

        fn inbox_prefix(&self) -> &str {
            "_INBOX"
        }

        fn nonce(&self) -> String {
            "1".to_owned()
        }

        fn link(&self) -> Listener<LinkState> {
            self.link.subscribe()
        }

        async fn reconnect(&self) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubt_that_comes_up_during_a_verification_outlives_it() {
        let link = LinkState { connected: true, epoch: 1, ..LinkState::default() };
        let wire = Model { link: Arc::new(Teller::new(link)), meanwhile: Arc::default() };
        let name = |name| StreamName::parse(name).unwrap();
        let (payments, outcomes) = (name("P"), name("O"));
        let streams = Streams { payments, outcomes, dead_letters: name("D"), audit: name("A") };
        let consumer = Broker::new(wire.clone(), streams).bind("lane");
        consumer.verify().await.unwrap();
        assert!(consumer.is_verified());

        let doubtful = consumer.clone();
        *wire.meanwhile.lock().unwrap() = Some(Box::new(move || doubtful.doubt()));
        consumer.verify().await.unwrap();
        assert!(!consumer.is_verified(), "what was said may be newer than the answer");
        let soon = Instant::now() + Duration::from_secs(1);
        assert_eq!(consumer.clear(consumer.era(), soon).await, Err(Stale::Deadline), "nothing is answered");

        consumer.verify().await.unwrap();
        assert!(consumer.is_verified());
    }

    #[test]
    fn deliveries_read_out_of_order_are_new_and_a_recount_is_not() {
        let mut seen = Seen::new();
        assert!([3, 1, 2, 900, 4].into_iter().all(|n| seen.note(n)));
        assert!(!seen.note(3), "the same sequence twice");
        assert!(seen.note(100_000) && seen.note(99_000));
        assert!(!seen.note(1), "far behind the newest");
        seen.meet(99_500, false, 1);
        assert!(!seen.note(99_400) && seen.note(99_501), "the first meeting");
        seen.meet(99_000, false, 1);
        assert!(!seen.note(99_501) && seen.note(99_502), "an older answer on the same connection");
        seen.meet(50, false, 2);
        assert!(!seen.note(50) && seen.note(51), "a count that went back over a new connection");
    }
}
