//! A stream of the model: an append-only log with message ids, expectations and look-ups by subject.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

/// How long the broker remembers message ids.
const WINDOW: Duration = Duration::from_secs(120);

/// A stored message.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) subject: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) payload: Bytes,
    pub(super) at: Timestamp,
}

impl Stored {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn id(&self) -> &str {
        self.header("Nats-Msg-Id").unwrap_or_default()
    }
}

/// A stream. Sequences count from 1; nothing is ever removed.
pub(super) struct Log {
    pub(super) name: &'static str,
    pub(super) created: Timestamp,
    pub(super) messages: Vec<Stored>,
    ids: BTreeMap<String, (u64, Timestamp)>,
}

fn error(code: u64, description: &str) -> Value {
    json!({ "error": { "code": 400, "err_code": code, "description": description } })
}

impl Log {
    pub(super) fn new(name: &'static str, created: Timestamp) -> Self {
        Self { name, created, messages: Vec::new(), ids: BTreeMap::new() }
    }

    pub(super) fn last(&self) -> u64 {
        u64::try_from(self.messages.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Stored> {
        self.messages.get(usize::try_from(sequence.checked_sub(1)?).ok()?)
    }

    /// Sequence and message, from a sequence on.
    fn from(&self, first: u64) -> impl DoubleEndedIterator<Item = (u64, &Stored)> {
        let skip = usize::try_from(first.saturating_sub(1)).unwrap_or(usize::MAX);
        self.messages.iter().enumerate().skip(skip).map(|(at, stored)| {
            let sequence = u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1);
            (sequence, stored)
        })
    }

    /// Stores a message, or says why not: expected stream first, then the id, then the expected sequence.
    pub(super) fn publish(&mut self, message: Stored) -> Value {
        if message.header("Nats-Expected-Stream").is_some_and(|expected| expected != self.name) {
            return error(10_060, "expected stream does not match");
        }
        let id = message.id().to_owned();
        if let Some((sequence, at)) = self.ids.get(&id)
            && !id.is_empty()
            && Duration::try_from(message.at.duration_since(*at)).unwrap_or_default() < WINDOW
        {
            return json!({ "stream": self.name, "seq": sequence, "duplicate": true });
        }
        if let Some(expected) = message.header("Nats-Expected-Last-Subject-Sequence") {
            let last = self.from(1).rev().find(|(_, stored)| stored.subject == message.subject).map_or(0, |(at, _)| at);
            if expected.parse() != Ok(last) {
                return error(10_071, "wrong last sequence");
            }
        }
        let sequence = self.last().saturating_add(1);
        self.ids.insert(id, (sequence, message.at));
        self.messages.push(message);
        json!({ "stream": self.name, "seq": sequence })
    }

    pub(super) fn info(&self) -> Value {
        let first = u64::from(!self.messages.is_empty());
        json!({
            "config": { "name": self.name, "max_age": 604_800_000_000_000_u64, "max_msg_size": 81_920 },
            "created": self.created.to_string(),
            "state": { "messages": self.last(), "first_seq": first, "last_seq": self.last() },
        })
    }

    /// `STREAM.MSG.GET` by last message of a subject, or by the first from a sequence on.
    pub(super) fn find(&self, ask: &Value) -> Value {
        let found = match ask.get("last_by_subj").and_then(Value::as_str) {
            Some(subject) => self.from(1).rev().find(|(_, stored)| stored.subject == subject),
            None => self.from(ask.get("seq").and_then(Value::as_u64).unwrap_or(1)).next(),
        };
        let Some((sequence, stored)) = found else {
            return json!({ "error": { "code": 404, "err_code": 10_037, "description": "no message found" } });
        };
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let headers: String = stored.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        json!({ "message": {
            "subject": stored.subject, "seq": sequence, "time": stored.at.to_string(),
            "hdrs": encode(format!("NATS/1.0\r\n{headers}\r\n").as_bytes()), "data": encode(&stored.payload),
        } })
    }
}
