//! Collects what store and broker know of one payment.

use jiff::{SignedDuration, Timestamp};

use super::{
    AttemptPart, DeadLetterPart, EventPart, Explanation, LedgerPart, NO_ANSWER, NotePart, OutcomePart, PaymentPart,
    Standing,
};
use crate::broker::{ApiError, Broker, ConsumerInfo, StreamInfo, Wire};
use crate::domain::{EventId, PaymentId, RailRef, Reason, millis};
use crate::operate::Trouble;
use crate::operate::audit::{Action, Entry, LaneEntry, read_last};
use crate::store::{
    AttemptRecord, Ended, EventKind, EventRow, PaymentRecord, PaymentRow, Reader, State, TransferRecord,
};

/// How far before and after its end a payment's outcome event is looked for.
const BEFORE: SignedDuration = SignedDuration::from_secs(5);
const AFTER: SignedDuration = SignedDuration::from_mins(10);
/// Outcome events of the same account that are looked at.
const LOOK_AT: usize = 256;

/// Tells a payment's life. `consumers` are the lanes' durable consumers, to say whether an event is acknowledged.
///
/// # Errors
/// [`Trouble`].
pub async fn explain<W: Wire>(
    broker: &Broker<W>,
    store: &Reader,
    consumers: &[String],
    id: &PaymentId,
) -> Result<Explanation, Trouble> {
    let Some(record) = store.payment(id)? else { return Ok(unseen(id)) };
    let standing = standing(&record);
    let broker_now = BrokerNow::look(broker, consumers).await?;
    let mut events = Vec::new();
    for mut part in event_parts(&record) {
        broker_now.complete(broker, &mut part).await?;
        events.push(part.part);
    }
    let mut outcomes = Vec::new();
    for (from, until, scheme, key) in spans(&record, Timestamp::now()) {
        let subject = format!("payments.*.{scheme}.{key}");
        for outcome in told(broker, &subject, id, from, until).await? {
            if !outcomes.contains(&outcome) {
                outcomes.push(outcome);
            }
        }
    }
    let waits = matches!(standing, Standing::Open | Standing::InDoubt | Standing::Held);
    let steered = match &record.payment {
        Some(row) if waits => LaneEntry::newest(broker, &row.lane).await?,
        Some(_) | None => None,
    };
    outcomes.sort_by_key(|outcome: &OutcomePart| outcome.sequence);
    Ok(Explanation {
        payment_id: id.to_string(),
        standing,
        next: next(standing, &record),
        payment: record.payment.as_ref().map(payment_part),
        events,
        attempts: record.attempts.into_iter().map(attempt_part).collect(),
        ledger: record.transfer.map(ledger_part),
        notes: record.notes.into_iter().map(|n| NotePart { at: n.at, what: n.what, breaker: n.breaker }).collect(),
        outcomes,
        steered,
    })
}

fn unseen(id: &PaymentId) -> Explanation {
    Explanation {
        payment_id: id.to_string(),
        standing: Standing::Unseen,
        next: Standing::Unseen.next().to_owned(),
        payment: None,
        events: Vec::new(),
        attempts: Vec::new(),
        ledger: None,
        notes: Vec::new(),
        outcomes: Vec::new(),
        steered: None,
    }
}

/// What the tracker owns goes on without its event.
fn next(standing: Standing, record: &PaymentRecord) -> String {
    let tracked = record.payment.as_ref().and_then(|row| Some((row, row.tracked?)));
    let Some((row, tracked)) = tracked else { return standing.next().to_owned() };
    let due = millis(tracked.due);
    if row.finished_at.is_some() || standing == Standing::Freed {
        return format!("Its outcome event is published, from {due} on again, until the broker has confirmed it.");
    }
    format!(
        "Any worker of its lane goes on with it from {due} on: its event is acknowledged, the store keeps what it asks for."
    )
}

/// Where the payment stands. An open one with an attempt that has no conclusive answer is in doubt.
fn standing(record: &PaymentRecord) -> Standing {
    match record.payment.as_ref().map(|row| row.state) {
        None if record.events.is_empty() => Standing::Open,
        None => Standing::EventsOnly,
        Some(State::Open) if record.attempts.iter().any(|attempt| attempt.ended.is_none()) => Standing::InDoubt,
        Some(State::Open) => Standing::Open,
        Some(State::Held) => Standing::Held,
        Some(State::Freed) => Standing::Freed,
        Some(State::Settled) => Standing::Settled,
        Some(State::Rejected) => Standing::Rejected,
    }
}

fn words(reasons: &[Reason]) -> Vec<String> {
    let word = |reason: &Reason| match reason.path.as_str() {
        "" => format!("{} {}", reason.code, reason.text),
        path => format!("{} {path}: {}", reason.code, reason.text),
    };
    reasons.iter().map(word).collect()
}

fn payment_part(row: &PaymentRow) -> PaymentPart {
    let took = row.finished_at.map(|end| end.as_millisecond().saturating_sub(row.requested_at.as_millisecond()));
    PaymentPart {
        scheme: row.scheme.to_string(),
        lane: row.lane.to_string(),
        rail: row.rail.as_ref().to_owned(),
        rail_ref: row.rail_ref.as_ref().map(|reference| reference.as_str().to_owned()),
        requested_at: row.requested_at,
        finished_at: row.finished_at,
        took_ms: took,
        late: row.late,
        attempts: row.attempts,
        deliveries: row.deliveries,
        tracked_since: row.tracked.map(|tracked| tracked.since),
        reasons: words(&row.reasons),
        claim: row.claim.as_ref().map(|claim| (claim.owner.as_ref().to_owned(), claim.until)),
    }
}

fn attempt_part(attempt: AttemptRecord) -> AttemptPart {
    AttemptPart {
        number: attempt.number,
        leg: attempt.leg,
        rail: attempt.rail,
        started_at: attempt.started_at,
        answer: match attempt.ended {
            Some(Ended::Settled) => "settled",
            Some(Ended::Rejected) => "rejected",
            Some(Ended::Resubmit) => "rejected, may be sent again",
            Some(Ended::NotSent) if attempt.ended_at.is_none() => "not processed, as a person says",
            Some(Ended::NotSent) => "not sent",
            None => NO_ANSWER,
        },
        answered_at: attempt.ended_at,
        not_found: attempt.not_found,
        in_progress_at: attempt.in_progress_at,
    }
}

fn ledger_part(transfer: TransferRecord) -> LedgerPart {
    LedgerPart {
        transfer: RailRef::of_transfer(transfer.number).as_str().to_owned(),
        debit: transfer.debit,
        credit: transfer.credit,
        currency: transfer.amount.currency().code().to_owned(),
        value: transfer.amount.value(),
        posted_at: transfer.posted_at,
    }
}

struct Known {
    id: EventId,
    scheme: String,
    part: EventPart,
}

/// The payment's own event and all others that named it, in stream order.
fn event_parts(record: &PaymentRecord) -> Vec<Known> {
    let mut known: Vec<Known> = record.events.iter().map(other_part).collect();
    let own = record.payment.as_ref().filter(|row| !record.events.iter().any(|event| event.event == row.event));
    known.extend(own.map(own_part));
    known.sort_by(|left, right| left.id.cmp(&right.id));
    known
}

fn own_part(row: &PaymentRow) -> Known {
    let part = EventPart {
        event: row.event.token(),
        ended: "own",
        requested_at: row.requested_at,
        ended_at: row.finished_at,
        reasons: words(&row.reasons),
        in_stream: None,
        acknowledged: None,
        dead_letter: None,
    };
    Known { id: row.event.clone(), scheme: row.scheme.to_string(), part }
}

fn other_part(row: &EventRow) -> Known {
    let part = EventPart {
        event: row.event.token(),
        ended: match row.kind {
            EventKind::Rejected => "rejected",
            EventKind::Duplicate => "duplicate",
            EventKind::Condemned => "condemned",
        },
        requested_at: row.requested_at,
        ended_at: Some(row.at),
        reasons: words(&row.reasons),
        in_stream: None,
        acknowledged: None,
        dead_letter: None,
    };
    Known { id: row.event.clone(), scheme: row.scheme.to_string(), part }
}

/// Between which instants and on which subject tokens outcomes may have been told: around the payment's end and each
/// event's own; and, that it is held, from its first attempt over a rail on.
fn spans(record: &PaymentRecord, now: Timestamp) -> Vec<(Timestamp, Timestamp, String, String)> {
    let around = |at: Timestamp| (at.checked_sub(BEFORE).unwrap_or(at), at.checked_add(AFTER).unwrap_or(at));
    let mut spans: Vec<_> = record
        .events
        .iter()
        .filter(|row| row.kind != EventKind::Duplicate)
        .map(|row| (around(row.at), &row.scheme, &row.order_key))
        .take(8)
        .collect();
    if let Some(row) = &record.payment {
        let began = record.attempts.first().map(|attempt| attempt.started_at);
        let span = match (began, row.finished_at.map(around)) {
            (Some(began), end) => Some((around(began).0, end.map_or(now, |(_, until)| until))),
            (None, end) => end,
        };
        spans.extend(span.map(|span| (span, &row.scheme, &row.order_key)));
    }
    spans.into_iter().map(|((from, until), scheme, key)| (from, until, scheme.to_string(), key.to_string())).collect()
}

/// The stream and its consumers, asked once.
struct BrokerNow {
    stream: StreamInfo,
    name: String,
    consumers: Vec<ConsumerInfo>,
}

impl BrokerNow {
    async fn look<W: Wire>(broker: &Broker<W>, names: &[String]) -> Result<Self, Trouble> {
        let name = broker.streams().payments.to_string();
        let stream = broker.stream_info(&name).await.map_err(|e| Trouble::of_api(broker, e))?;
        let mut consumers = Vec::new();
        for consumer in names {
            match broker.consumer_info(&name, consumer).await {
                Ok(info) => consumers.push(info),
                Err(ApiError::NotFound { .. }) => {}
                Err(error) => return Err(Trouble::of_api(broker, error)),
            }
        }
        Ok(Self { stream, name, consumers })
    }

    async fn complete<W: Wire>(&self, broker: &Broker<W>, known: &mut Known) -> Result<(), Trouble> {
        let live = known.id.stream.as_str() == self.name && known.id.created_ms == self.stream.created.as_millisecond();
        known.part.in_stream = Some(match live {
            false => false,
            true => match broker.message_at(&self.name, known.id.sequence).await {
                Ok(_) => true,
                Err(ApiError::NotFound { .. }) => false,
                Err(error) => return Err(Trouble::of_api(broker, error)),
            },
        });
        if live {
            let mine = self.consumers.iter().find(|c| crate::operate::reconcile::serves(c, &known.scheme));
            known.part.acknowledged = mine.map(|consumer| known.id.sequence <= consumer.ack_floor.stream_seq);
        }
        if known.part.ended == "condemned" {
            known.part.dead_letter = Some(dead_letter(broker, &known.id).await?);
        }
        Ok(())
    }
}

async fn dead_letter<W: Wire>(broker: &Broker<W>, event: &EventId) -> Result<DeadLetterPart, Trouble> {
    let token = event.token();
    let subject = format!("payments.dead.{token}");
    let sequence = match broker.last_on(broker.streams().dead_letters.as_str(), &subject).await {
        Ok(stored) => Some(stored.sequence),
        Err(ApiError::NotFound { .. }) => None,
        Err(error) => return Err(Trouble::of_api(broker, error)),
    };
    let intent: Option<Entry> = read_last(broker, &Action::Redrive.subject(&token, "*")).await?;
    let end: Option<Entry> = read_last(broker, &Action::Redriven.subject(&token, "*")).await?;
    let ended = end.filter(|end| intent.as_ref().is_none_or(|intent| intent.round <= end.round));
    let discard = read_last(broker, &Action::Discard.subject(&token, "")).await?;
    Ok(DeadLetterPart { subject, sequence, redrive: ended.or(intent), discard })
}

/// Outcome events of the payment that were stored in a span: the place is found by halving, because sequences and
/// timestamps of a stream grow together; from there only events of the same account are looked at.
async fn told<W: Wire>(
    broker: &Broker<W>,
    subject: &str,
    id: &PaymentId,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<OutcomePart>, Trouble> {
    let stream = broker.streams().outcomes.as_str();
    let info = broker.stream_info(stream).await.map_err(|e| Trouble::of_api(broker, e))?;
    let mut low = info.state.first_seq;
    let mut high = info.state.last_seq.saturating_add(1);
    while low < high {
        let middle = low.saturating_add(high.saturating_sub(low) / 2);
        match broker.message_from(stream, ">", middle).await {
            Ok(found) => {
                if found.time < from {
                    low = found.sequence.saturating_add(1)
                } else {
                    high = middle
                }
            }
            Err(ApiError::NotFound { .. }) => high = middle,
            Err(error) => return Err(Trouble::of_api(broker, error)),
        }
    }
    let mut found = Vec::new();
    let mine = format!("{id}:");
    for _ in 0..LOOK_AT {
        match broker.message_from(stream, subject, low).await {
            Ok(event) if event.time > until => break,
            Ok(event) => {
                low = event.sequence.saturating_add(1);
                if let Some(message_id) = event.header("Nats-Msg-Id").filter(|text| text.starts_with(&mine)) {
                    found.push(OutcomePart {
                        sequence: event.sequence,
                        message_id: message_id.to_owned(),
                        stored_at: event.time,
                        subject: event.subject,
                    });
                }
            }
            Err(ApiError::NotFound { .. }) => break,
            Err(error) => return Err(Trouble::of_api(broker, error)),
        }
    }
    Ok(found)
}
