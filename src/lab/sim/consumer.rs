//! The durable pull consumer of the model, after `notes` on the real one: an answer is known by its stream sequence
//! alone, an answered beat proves nothing, and a crash of a server with one copy takes the last deliveries back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::stream::Log;
use crate::broker::Incoming;

/// How often a server with one copy writes down where its consumer is.
const SAVED_EVERY: Duration = Duration::from_millis(100);

/// A pull request that waits at the server.
pub(super) struct Pull {
    pub(super) client: u64,
    pub(super) inbox: String,
    pub(super) left: u32,
    pub(super) until: Instant,
}

/// An event that is delivered and not acknowledged.
#[derive(Debug, Clone)]
struct Held {
    until: Instant,
    client: u64,
    /// Handed back: its return is wanted.
    back: bool,
}

/// What an R1 server writes down.
#[derive(Clone)]
struct Place {
    next: u64,
    count: u64,
    held: BTreeMap<u64, Held>,
}

/// A message to a client's inbox.
pub(super) struct Out {
    pub(super) client: u64,
    pub(super) message: Incoming,
}

/// What an answer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// The event is done (`+ACK`), and whether the server confirms it.
    Ack { confirmed: bool },
    /// The event is ended (`+TERM`), and whether the server confirms it.
    Term { confirmed: bool },
    /// Handed back after a delay.
    Back { after: Duration },
    /// Still worked on.
    Beat,
}

/// The consumer.
pub(super) struct Durable {
    pub(super) created: Timestamp,
    ack_wait: Duration,
    max_ack_pending: usize,
    place: Place,
    saved: (Instant, Place),
    again: BTreeSet<u64>,
    delivered: BTreeMap<u64, u64>,
    pub(super) waiting: VecDeque<Pull>,
}

pub(super) fn status(client: u64, inbox: &str, code: u16, words: &'static str) -> Out {
    let message = Incoming { subject: inbox.to_owned(), status: Some((code, words)), ..Incoming::default() };
    Out { client, message }
}

impl Durable {
    pub(super) fn new(created: Timestamp, ack_wait: Duration, max_ack_pending: usize) -> Self {
        let place = Place { next: 1, count: 0, held: BTreeMap::new() };
        Self {
            created,
            ack_wait,
            max_ack_pending,
            saved: (Instant::now(), place.clone()),
            place,
            again: BTreeSet::new(),
            delivered: BTreeMap::new(),
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn pending(&self, log: &Log) -> u64 {
        log.last().saturating_add(1).saturating_sub(self.place.next)
    }

    pub(super) fn held(&self) -> usize {
        self.place.held.len()
    }

    /// The lowest event without an end.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.unended().next()
    }

    /// Delivered, and without an end.
    pub(super) fn unended(&self) -> impl Iterator<Item = u64> {
        self.place.held.keys().copied()
    }

    pub(super) fn info(&self, log: &Log, now: Timestamp) -> Value {
        let floor = self.oldest().unwrap_or(self.place.next).saturating_sub(1);
        let nanos = u64::try_from(self.ack_wait.as_nanos()).unwrap_or(u64::MAX);
        json!({
            "config": { "ack_wait": nanos, "max_ack_pending": self.max_ack_pending, "max_deliver": -1 },
            "created": self.created.to_string(), "ts": now.to_string(),
            "delivered": { "consumer_seq": self.place.count, "stream_seq": self.place.next.saturating_sub(1) },
            "ack_floor": { "consumer_seq": floor, "stream_seq": floor },
            "num_ack_pending": self.held(), "num_pending": self.pending(log), "num_redelivered": self.delivered.len(),
        })
    }

    /// What time has done: pulls that are over, and events that come again, each with the client that held it, where
    /// that was not asked for.
    pub(super) fn expire(&mut self, now: Instant) -> (Vec<Out>, Vec<(u64, u64)>) {
        let mut outs = Vec::new();
        self.waiting.retain(|pull| {
            let over = pull.until <= now;
            if over {
                outs.push(status(pull.client, &pull.inbox, 408, "Request Timeout"));
            }
            !over
        });
        let mut lost = Vec::new();
        for (sequence, held) in self.place.held.iter().filter(|(_, held)| held.until <= now) {
            if self.again.insert(*sequence) && !held.back {
                lost.push((*sequence, held.client));
            }
        }
        if now.duration_since(self.saved.0) >= SAVED_EVERY {
            self.saved = (now, self.place.clone());
        }
        (outs, lost)
    }

    /// Delivers what there is to those who wait, in turn.
    pub(super) fn deliver(&mut self, log: &Log, now: Instant) -> Vec<Out> {
        let mut outs = Vec::new();
        while !self.waiting.is_empty() {
            let Some(sequence) = self.next(log) else { break };
            let (Some(mut pull), Some(stored)) = (self.waiting.pop_front(), log.get(sequence)) else { break };
            self.place.count = self.place.count.saturating_add(1);
            let times = self.delivered.get(&sequence).copied().unwrap_or(0).saturating_add(1);
            self.delivered.insert(sequence, times);
            let until = now.checked_add(self.ack_wait).unwrap_or(now);
            self.place.held.insert(sequence, Held { until, client: pull.client, back: false });
            let reply = format!(
                "$JS.ACK.{}.lane.{times}.{sequence}.{}.{}.{}",
                log.name,
                self.place.count,
                stored.at.as_nanosecond(),
                self.pending(log)
            );
            let message = Incoming {
                // The client finds the inbox by its own subscription; the model names it here.
                subject: format!("{}\n{}", pull.inbox, stored.subject),
                reply: Some(reply),
                headers: stored.headers.clone(),
                payload: stored.payload.clone(),
                status: None,
            };
            outs.push(Out { client: pull.client, message });
            pull.left = pull.left.saturating_sub(1);
            if pull.left > 0 {
                self.waiting.push_back(pull);
            }
        }
        outs
    }

    fn next(&mut self, log: &Log) -> Option<u64> {
        if let Some(sequence) = self.again.pop_first() {
            return Some(sequence);
        }
        if self.place.held.len() >= self.max_ack_pending || self.place.next > log.last() {
            return None;
        }
        let sequence = self.place.next;
        self.place.next = sequence.saturating_add(1);
        Some(sequence)
    }

    /// Takes an answer; `None` where it is none.
    pub(super) fn answer(&mut self, sequence: u64, body: &[u8], now: Instant) -> Option<Said> {
        if body == b"+ACK" {
            return Some(Said::Ack { confirmed: self.done(sequence) });
        }
        if body.starts_with(b"+TERM") {
            return Some(Said::Term { confirmed: self.done(sequence) });
        }
        let held = self.place.held.get_mut(&sequence);
        if body == b"+WPI" {
            // Answered whatever it is about.
            if let Some(held) = held {
                held.until = now.checked_add(self.ack_wait).unwrap_or(now);
                self.again.remove(&sequence);
            }
            return Some(Said::Beat);
        }
        let rest = body.strip_prefix(b"-NAK")?;
        let ask: Value = serde_json::from_slice(rest).unwrap_or_default();
        let after = Duration::from_nanos(ask.get("delay").and_then(Value::as_u64).unwrap_or(0));
        if let Some(held) = held {
            *held = Held { until: now.checked_add(after).unwrap_or(now), back: true, ..held.clone() };
            self.again.remove(&sequence);
        }
        Some(Said::Back { after })
    }

    /// False where the event is one that this consumer does not know to have been delivered: no reply then.
    fn done(&mut self, sequence: u64) -> bool {
        if sequence >= self.place.next {
            return false;
        }
        self.place.held.remove(&sequence);
        self.again.remove(&sequence);
        self.delivered.remove(&sequence);
        true
    }

    /// When something is over next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let pulls = self.waiting.iter().map(|pull| pull.until).min();
        let held = self.place.held.iter().filter(|(sequence, _)| !self.again.contains(sequence));
        let held = held.map(|(_, held)| held.until).min();
        pulls.into_iter().chain(held).min()
    }

    /// The client is gone, and with it the interest in its inboxes.
    pub(super) fn forget(&mut self, client: u64) {
        self.waiting.retain(|pull| pull.client != client);
    }

    /// Every pull ends, with these words.
    pub(super) fn refuse(&mut self, words: &'static str) -> Vec<Out> {
        self.waiting.drain(..).map(|pull| status(pull.client, &pull.inbox, 409, words)).collect()
    }

    /// The server was killed: what it had not written down has not been.
    pub(super) fn crash(&mut self) {
        self.place = self.saved.1.clone();
        self.again.clear();
        self.delivered.clear();
        self.waiting.clear();
    }
}
