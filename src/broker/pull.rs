//! Pulls with exact credit. A pull asks for no more than there are free slots, goes to a fresh inbox, and ends by
//! name: full, expired, refused, or silent past its time. Nothing is prefetched, so a shut gate burns no delivery.

use std::collections::{BTreeMap, VecDeque};
use std::future::{pending, ready};
use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{AbortHandle, BoxStream, SelectAll, abortable, once};
use tokio::time::{Instant, sleep_until};

use super::{Consumer, Delivery, Outgoing, Wire, WireError};

/// Past its `expires`, a pull without its terminal status is given up after this long.
const SILENCE: Duration = Duration::from_secs(2);
/// The inbox of a pull that was given up stays open for this long.
const LATE: Duration = Duration::from_secs(5);

/// Why the server ended a pull early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 409: the consumer is gone.
    ConsumerDeleted,
    /// 409: another server leads it now.
    LeadershipChange,
    /// 409: the server goes away.
    ServerShutdown,
    /// 409: the consumer's own limits do not allow this pull.
    Limit,
    /// 409 with other words.
    Terminated,
    /// 423: pinned to another client.
    Pinned,
    /// 503: nobody serves the consumer.
    NoResponders,
    /// A status this worker does not know.
    Other,
}

impl Refusal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ConsumerDeleted => "consumer_deleted",
            Self::LeadershipChange => "leadership_change",
            Self::ServerShutdown => "server_shutdown",
            Self::Limit => "limit",
            Self::Terminated => "terminated",
            Self::Pinned => "pinned",
            Self::NoResponders => "no_responders",
            Self::Other => "unknown_status",
        }
    }

    /// Whether stream or consumer may be another one now.
    pub(crate) fn casts_doubt(self) -> bool {
        match self {
            Self::ConsumerDeleted | Self::NoResponders | Self::ServerShutdown | Self::LeadershipChange => true,
            Self::Limit | Self::Terminated | Self::Pinned | Self::Other => false,
        }
    }
}

/// How a pull ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything asked for was delivered, or its time was over.
    Normally,
    /// The server said no.
    Refused(Refusal, String),
    /// No word until two seconds past its time.
    Silent,
}

/// What comes in on the inboxes.
pub(crate) enum Pulled<W> {
    /// A delivery within the credit.
    Delivery(Delivery<W>),
    /// A delivery of a pull that has ended: its credit is gone, so it is handed back.
    Late(Delivery<W>),
    /// A pull has ended with this much of its credit unused.
    Ended { unused: u32, how: Ended },
    /// A delivery that must not be worked on: its credit is used up, the event comes back after `ack_wait`.
    Void,
}

struct Open {
    left: u32,
    silent_at: Instant,
    inbox: AbortHandle,
}

type Tagged = BoxStream<'static, (u64, Option<Message>)>;

/// The outstanding pulls of one lane, each with an inbox of its own: a delivery keeps the subject it was published
/// on, so only the inbox tells which pull it belongs to.
pub(crate) struct Pulls<W: Wire> {
    consumer: Consumer<W>,
    inboxes: SelectAll<Tagged>,
    prefix: String,
    next: u64,
    open: BTreeMap<u64, Open>,
    /// Inboxes of pulls that went silent: what still comes is handed back.
    retired: VecDeque<(Instant, AbortHandle)>,
}

impl<W: Wire> Pulls<W> {
    /// No pull is out yet.
    pub(crate) fn new(consumer: Consumer<W>) -> Self {
        let wire = consumer.wire();
        let prefix = format!("{}.{}", wire.inbox_prefix(), wire.nonce());
        Self { consumer, inboxes: SelectAll::new(), prefix, next: 1, open: BTreeMap::new(), retired: VecDeque::new() }
    }

    /// Pulls the server has not ended.
    pub(crate) fn outstanding(&self) -> usize {
        self.open.len()
    }

    /// Credit given out and not used yet.
    pub(crate) fn credit(&self) -> u32 {
        self.open.values().fold(0, |sum, pull| sum.saturating_add(pull.left))
    }

    /// Asks for up to `batch` events, which must fit free slots. The request ends by itself after `expires`.
    pub(crate) async fn pull(&mut self, batch: u32, expires: Duration) -> Result<(), WireError> {
        let token = self.next;
        self.next = self.next.wrapping_add(1);
        let inbox = format!("{}.{token}", self.prefix);
        let (tagged, abort) =
            abortable(self.consumer.wire().listen(inbox.clone()).await?.map(Some).chain(once(ready(None))));
        self.inboxes.push(tagged.map(move |message| (token, message)).boxed());
        let now = Instant::now();
        let silent_at = now.checked_add(expires).and_then(|end| end.checked_add(SILENCE)).unwrap_or(now);
        // Entered before it is sent: the first delivery may be faster than this task.
        self.open.insert(token, Open { left: batch, silent_at, inbox: abort });
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.consumer.stream(), self.consumer.name());
        let payload = Bytes::from(format!("{{\"batch\":{batch},\"expires\":{}}}", expires.as_nanos()));
        let out = Outgoing { subject: subject.into(), headers: None, payload };
        let sent = self.consumer.wire().send(out, inbox).await;
        if sent.is_err() {
            self.close(token);
        }
        sent
    }

    /// The next thing that happens. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Pulled<W> {
        loop {
            self.drop_retired();
            let silent_at = self.open.values().map(|pull| pull.silent_at).min();
            let silence = async {
                match silent_at {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            let inboxes = &mut self.inboxes;
            let message = async {
                match inboxes.next().await {
                    Some(tagged) => tagged,
                    // No pull is out: there is nothing to wait for.
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                (token, message) = message => if let Some(pulled) = self.take(token, message) { return pulled },
                () = silence => if let Some(pulled) = self.silent() { return pulled },
            }
        }
    }

    fn take(&mut self, token: u64, message: Option<Message>) -> Option<Pulled<W>> {
        let Some(message) = message else {
            // The subscription itself ended: the connection is closing.
            return self.close(token).map(|unused| Pulled::Ended { unused, how: Ended::Silent });
        };
        if let Some(status) = message.status {
            return self.ended(token, status.as_u16(), message.description.as_deref().unwrap_or(""));
        }
        let delivery = Delivery::read(message, &self.consumer);
        let Some(pull) = self.open.get_mut(&token) else { return delivery.map(Pulled::Late) };
        pull.left = pull.left.saturating_sub(1);
        if pull.left == 0 {
            self.close(token);
        }
        Some(delivery.map_or(Pulled::Void, Pulled::Delivery))
    }

    fn silent(&mut self) -> Option<Pulled<W>> {
        let now = Instant::now();
        let token = self.open.iter().find(|(_, pull)| pull.silent_at <= now).map(|(token, _)| *token)?;
        let pull = self.open.remove(&token)?;
        self.retired.push_back((now.checked_add(LATE).unwrap_or(now), pull.inbox));
        Some(Pulled::Ended { unused: pull.left, how: Ended::Silent })
    }

    /// Ends a pull and its inbox; after its terminal status or its last message nothing more can come.
    fn close(&mut self, token: u64) -> Option<u32> {
        let pull = self.open.remove(&token)?;
        pull.inbox.abort();
        Some(pull.left)
    }

    fn drop_retired(&mut self) {
        let now = Instant::now();
        while self.retired.front().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, inbox)) = self.retired.pop_front() {
                inbox.abort();
            }
        }
    }

    fn ended(&mut self, token: u64, status: u16, words: &str) -> Option<Pulled<W>> {
        if status == 100 {
            return None;
        }
        let unused = self.close(token)?;
        let how = match status {
            404 | 408 => Ended::Normally,
            409 => match refusal(words) {
                None => Ended::Normally,
                Some(refusal) => Ended::Refused(refusal, words.to_owned()),
            },
            423 => Ended::Refused(Refusal::Pinned, words.to_owned()),
            503 => Ended::Refused(Refusal::NoResponders, words.to_owned()),
            other => Ended::Refused(Refusal::Other, format!("status {other} {words}")),
        };
        Some(Pulled::Ended { unused, how })
    }
}

/// The server's words for status 409, which has no finer code.
fn refusal(words: &str) -> Option<Refusal> {
    let words = words.to_ascii_lowercase();
    if words.contains("batch completed") {
        None
    } else if words.contains("consumer deleted") {
        Some(Refusal::ConsumerDeleted)
    } else if words.contains("leadership") {
        Some(Refusal::LeadershipChange)
    } else if words.contains("shutdown") {
        Some(Refusal::ServerShutdown)
    } else if words.contains("exceed") || words.contains("push") {
        Some(Refusal::Limit)
    } else {
        Some(Refusal::Terminated)
    }
}
