//! Reads what is new in the four streams into the scratch database, a batch at a time.

use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::Progress;
use super::scratch::{EventFact, OutcomeFact, Scratch};
use crate::broker::{Broker, Scan, StoredMessage, StreamInfo, Wire};
use crate::domain::{Currency, Decimal, EventId, Money, StreamName};
use crate::operate::Trouble;
use crate::operate::dlq::{decoded, event_of, subject_tokens};

/// Which of the four streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Payments,
    Outcomes,
    DeadLetters,
    Audit,
}

/// A stream as it was when its reading began.
pub(super) struct Cut {
    pub(super) role: Role,
    pub(super) name: StreamName,
    pub(super) id: i64,
    pub(super) info: StreamInfo,
    from: u64,
}

impl Cut {
    /// Looks at a stream; only what it holds now is read.
    pub(super) async fn of<W: Wire>(
        broker: &Broker<W>,
        scratch: &mut Scratch,
        role: Role,
        name: &StreamName,
    ) -> Result<Self, Trouble> {
        let info = broker.stream_info(name.as_str()).await;
        let info = info.map_err(|error| Trouble::of_api(broker, error).naming(|| format!("stream {name}")))?;
        let (id, read_to) = scratch.live(name, info.created.as_millisecond(), info.state.first_seq)?;
        Ok(Self { role, name: name.clone(), id, from: read_to.saturating_add(1).max(info.state.first_seq), info })
    }

    /// What happened before this instant may have aged out of the stream; in milliseconds since the Unix epoch.
    pub(super) fn horizon_ms(&self, now_ms: i64) -> i64 {
        match (self.info.state.messages, self.info.state.first_seq) {
            (_, 0 | 1) => 0,
            (0, _) => now_ms,
            (_, _) => self.info.state.first_ts.map_or(now_ms, |at| at.as_millisecond()),
        }
    }
}

/// Reads a stream up to its cut.
pub(super) async fn read<W: Wire>(
    broker: &Broker<W>,
    scratch: &mut Scratch,
    cut: &Cut,
    progress: &mut impl FnMut(&Progress),
) -> Result<(), Trouble> {
    let last = cut.info.state.last_seq;
    let mut scan = broker.scan(cut.name.as_str(), cut.from, last);
    let mut report =
        Progress { what: cut.name.to_string(), done: 0, of: last.saturating_add(1).saturating_sub(cut.from) };
    loop {
        let page = page(broker, &mut scan).await?;
        let Some(end) = page.last().map(|message| message.sequence) else { break };
        scratch.begin()?;
        for message in &page {
            take(scratch, cut, message)?;
        }
        scratch.read_to(cut.id, end)?;
        scratch.commit()?;
        report.done = end.saturating_add(1).saturating_sub(cut.from);
        progress(&report);
    }
    scratch.read_to(cut.id, last)
}

/// A page; a missing answer is waited for, because a reconnection in the middle of a million events is no reason to
/// begin again.
async fn page<W: Wire>(broker: &Broker<W>, scan: &mut Scan<'_, W>) -> Result<Vec<StoredMessage>, Trouble> {
    const TRIES: u32 = 5;
    let mut tries = 0_u32;
    loop {
        tries = tries.saturating_add(1);
        let error = match scan.page().await {
            Ok(page) => return Ok(page),
            Err(error) => Trouble::of_api(broker, error),
        };
        if tries >= TRIES || !matches!(error, Trouble::BrokerLost { .. }) {
            return Err(error);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

fn take(scratch: &mut Scratch, cut: &Cut, message: &StoredMessage) -> Result<(), Trouble> {
    match cut.role {
        Role::Payments => scratch.put_event(&event(cut.id, message)),
        Role::Outcomes => match outcome(message) {
            Some(fact) => scratch.put_outcome(cut.id, message.sequence, &fact),
            None => Ok(()),
        },
        Role::DeadLetters => match event_of(&message.subject) {
            Some(event) => {
                scratch.put_letter(cut.id, message.sequence, &event, &Sha256::digest(&message.payload).into())
            }
            None => Ok(()),
        },
        Role::Audit => match discarded(&message.subject) {
            Some(event) => scratch.put_discard(&event),
            None => Ok(()),
        },
    }
}

fn event(stream: i64, message: &StoredMessage) -> EventFact {
    let decoded = decoded(message, &message.subject);
    let content = decoded.map(|d| (d.payment_id().to_string(), d.fingerprint().0, d.amount()));
    let scheme = subject_tokens(&message.subject).0.to_string();
    let (sha, at_ms) = (Sha256::digest(&message.payload).into(), message.time.as_millisecond());
    EventFact { stream, seq: message.sequence, scheme, content, sha, at_ms }
}

fn discarded(subject: &str) -> Option<EventId> {
    let tail = subject.strip_prefix("payments.audit.discard.")?;
    event_of(&format!("payments.dead.{tail}"))
}

/// What an outcome event says; `None` where it is none of ours.
fn outcome(message: &StoredMessage) -> Option<OutcomeFact> {
    #[derive(Deserialize)]
    struct Body {
        payment_id: String,
        status: String,
        amount: Option<Amount>,
        rail: Option<String>,
        rail_ref: Option<String>,
        settled_at: Option<String>,
    }
    #[derive(Deserialize)]
    struct Amount {
        currency: String,
        value: String,
    }
    let body: Body = serde_json::from_slice(&message.payload).ok()?;
    let kind = match body.status.as_str() {
        "settled" => "settled",
        "rejected" => "rejected",
        "dead-lettered" => "dead-lettered",
        "held" => "held",
        _ => return None,
    };
    // `<payment_id>:<status>`, and `:<created ms>.<sequence>` where it is the outcome of one event.
    let origin = message.header("Nats-Msg-Id").and_then(|id| id.splitn(3, ':').nth(2)).map(str::to_owned);
    let amount = body.amount.as_ref().and_then(|amount| {
        let currency = Currency::parse(&amount.currency)?;
        Money::new(Decimal::parse(&amount.value)?.at_scale(currency.exponent())?, currency)
    });
    let told = |text: &Option<String>| text.clone().unwrap_or_default();
    let money = amount.map(|a| format!("{} {}", a.currency(), a.minor())).unwrap_or_default();
    let effect = format!("{money} {} {} {}", told(&body.rail), told(&body.rail_ref), told(&body.settled_at));
    Some(OutcomeFact { kind, payment_id: body.payment_id, origin, amount, rail_ref: body.rail_ref, effect })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jiff::Timestamp;

    use super::*;

    fn message(subject: &str, id: &str, body: &str) -> StoredMessage {
        StoredMessage {
            subject: subject.to_owned(),
            sequence: 5,
            headers: vec![("Nats-Msg-Id".to_owned(), id.to_owned())],
            payload: Bytes::from(body.to_owned()),
            time: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_outcome_names_its_event_where_it_is_that_events_own() {
        let body = r#"{"payment_id":"P","status":"rejected","by":"rules"}"#;
        let of = |id: &str| outcome(&message("payments.rejected.book.k", id, body)).expect("an outcome").origin;
        assert_eq!(of("P:rejected:17.3").as_deref(), Some("17.3"));
        assert_eq!(of("P:rejected"), None);
        assert_eq!(outcome(&message("payments.settled.book.k", "", "{}")), None);
    }

    #[test]
    fn two_tellings_of_one_settlement_have_one_effect() {
        let told = |value: &str, at: &str| {
            let body = format!(
                r#"{{"payment_id":"P","status":"settled","amount":{{"currency":"EUR","value":"{value}"}},
                    "rail":"book","rail_ref":"tr_000000000001","settled_at":"{at}","attempts":1}}"#
            );
            outcome(&message("payments.settled.book.k", "P:settled", &body)).expect("an outcome").effect
        };
        assert_eq!(told("1.00", "2026-11-23T09:15:02.131Z"), told("1.0", "2026-11-23T09:15:02.131Z"));
        assert_ne!(told("1.00", "2026-11-23T09:15:02.131Z"), told("2.00", "2026-11-23T09:15:02.131Z"));
        assert_ne!(told("1.00", "2026-11-23T09:15:02.131Z"), told("1.00", "2026-11-23T09:15:02.132Z"));
    }

    #[test]
    fn an_event_is_taken_with_what_can_be_read_of_it() {
        let readable = event(
            1,
            &message("payments.requested.sct.k", "", r#"{"payment_id":"P","amount":{"currency":"JPY","value":"7"}}"#),
        );
        let (id, _, amount) = readable.content.expect("read");
        assert_eq!((id.as_str(), amount.map(Money::minor), readable.scheme.as_str()), ("P", Some(7), "sct"));
        assert!(event(1, &message("payments.requested.book.unread", "", "{")).content.is_none());
    }

    #[test]
    fn a_discard_names_the_event_of_its_dead_letter() {
        assert_eq!(discarded("payments.audit.discard.PAYMENTS.7.9").map(|e| e.sequence), Some(9));
        assert_eq!(discarded("payments.audit.redrive.PAYMENTS.7.9.1"), None);
    }
}
