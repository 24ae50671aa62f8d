//! Reads a stream from front to back without a consumer: batched direct gets (NATS 2.11), so an operator's tool
//! leaves nothing behind on the server and never takes an event away from a worker.

use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::time::timeout;

use super::topology::header_pairs;
use super::{ApiError, Broker, Outgoing, StoredMessage, Wire, WireError};

/// Messages asked for at once.
const BATCH: u32 = 512;
/// How long the next message of a batch may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A reading position in a stream.
pub struct Scan<'a, W: Wire> {
    broker: &'a Broker<W>,
    stream: String,
    next: u64,
    last: u64,
}

impl<W: Wire> Broker<W> {
    /// Reads `stream` from sequence `from` up to `last`, both inclusive. The stream must allow direct gets.
    pub fn scan(&self, stream: &str, from: u64, last: u64) -> Scan<'_, W> {
        Scan { broker: self, stream: stream.to_owned(), next: from.max(1), last }
    }
}

impl<W: Wire> Scan<'_, W> {
    /// The next messages in order; empty at the end. Sequences that were deleted are left out.
    ///
    /// # Errors
    /// When the broker does not answer or does not allow direct gets; the position stays, so it can be called again.
    pub async fn page(&mut self) -> Result<Vec<StoredMessage>, ApiError> {
        if self.next > self.last {
            return Ok(Vec::new());
        }
        let subject = format!("$JS.API.DIRECT.GET.{}", self.stream);
        let lost = |cause| ApiError::Wire { subject: subject.clone(), cause };
        let wire = &self.broker.wire;
        let inbox = format!("{}.{}", wire.inbox_prefix(), wire.nonce());
        let mut replies = wire.listen(inbox.clone()).await.map_err(lost)?;
        let ask = format!("{{\"seq\":{},\"batch\":{BATCH},\"next_by_subj\":\">\"}}", self.next);
        let out = Outgoing { subject: subject.clone().into(), headers: None, payload: Bytes::from(ask) };
        wire.send(out, inbox).await.map_err(lost)?;
        let mut page = Vec::new();
        loop {
            let reply = timeout(PATIENCE, replies.next()).await.map_err(|_| lost(WireError::TimedOut))?;
            let reply = reply.ok_or_else(|| lost(WireError::Disconnected))?;
            match reply.status.map(|status| status.as_u16()) {
                None => {}
                // 204 ends a batch, 404 says that there is nothing from here on.
                Some(204 | 404) => break,
                Some(503) => return Err(lost(WireError::NoResponders)),
                Some(code) => {
                    let description = reply.description.unwrap_or_default();
                    return Err(ApiError::Refused { code: u64::from(code), description });
                }
            }
            let unreadable = || ApiError::Unreadable { subject: subject.clone(), detail: "no position headers".into() };
            page.push(stored(reply).ok_or_else(unreadable)?);
        }
        page.retain(|message| message.sequence <= self.last);
        self.next = page.last().map_or(self.last, |message| message.sequence).saturating_add(1);
        Ok(page)
    }
}

fn stored(message: Message) -> Option<StoredMessage> {
    let mut headers = message.headers.as_ref().map(header_pairs).unwrap_or_default();
    let mut take = |name: &str| {
        let at = headers.iter().position(|(n, _)| n == name)?;
        Some(headers.remove(at).1)
    };
    let subject = take("Nats-Subject")?;
    let sequence = take("Nats-Sequence")?.parse().ok()?;
    let time: Timestamp = take("Nats-Time-Stamp")?.parse().ok()?;
    for name in ["Nats-Stream", "Nats-Num-Pending", "Nats-Last-Sequence", "Nats-UpTo-Sequence"] {
        drop(take(name));
    }
    Some(StoredMessage { subject, sequence, headers, payload: message.payload, time })
}
