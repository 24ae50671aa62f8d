//! Sends dead letters again: the body byte for byte, to the subject it came on, under an id of its own.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::letter::{Letter, decoded};
use super::once::{Plan, REDRIVE_OF, headers, message_id, plan};
use super::walk::{Found, Walk};
use super::{Halted, Selection};
use crate::broker::{ApiError, Broker, PublishError, StoredMessage, Wire, WireError};
use crate::operate::Trouble;
use crate::operate::audit::{Action, Entry, Mandate, Written, read_last, write_once};
use crate::store::{Reader, State};

/// How to redrive.
#[derive(Debug, Clone)]
pub struct RedriveOptions {
    /// Which dead letters.
    pub selection: Selection,
    /// In whose name and why.
    pub mandate: Mandate,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Dead letters a second; 0 for no bound.
    pub per_second: u32,
    /// The most to send (or, in a dry run, to name).
    pub limit: usize,
    /// Send again what was redriven before.
    pub again: bool,
}

/// What was redriven.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RedriveResult {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Sent now (in a dry run: would be).
    pub redriven: u64,
    /// Redriven before.
    pub already: u64,
    /// Not sent, see `letters`.
    pub refused: u64,
    /// The bound was reached and more may match.
    pub limited: bool,
    /// One line each, but for those redriven before; at most `limit` and as many that were refused.
    pub letters: Vec<Redriven>,
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Redriven {
    /// Its sequence in the dead-letter stream.
    pub sequence: u64,
    /// Its subject.
    pub dead_letter: String,
    /// The code it left under.
    pub code: String,
    /// Its payment, where that can be read.
    pub payment_id: Option<String>,
    /// What was done.
    pub step: Step,
    /// What will become of the event, as far as the store tells.
    pub forecast: Forecast,
    /// The event's sequence in the payments stream.
    pub published_sequence: Option<u64>,
    /// Why it was refused.
    pub detail: Option<String>,
}

/// What was done with one dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A dry run: it would be sent.
    WouldRedrive,
    /// A dry run: a redrive that was cut off would be finished.
    WouldFinish,
    /// Sent.
    Redriven,
    /// A redrive that was cut off is finished; the event was sent now, or had been.
    Finished,
    /// Not sent.
    Refused,
}

/// What will become of a redriven event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Forecast {
    /// Nothing final stands for its payment: it is judged, and settled or rejected.
    Judged,
    /// Its payment is final with the same content: a duplicate, harmless, the same outcome again.
    Duplicate,
    /// Its payment stands with other content: a dead letter again (AM05).
    Conflict,
    /// It cannot be read: a dead letter again, unless the workers read more than this program.
    Unreadable,
    /// No store was asked.
    Unknown,
}

/// Redrives dead letters. `store`, where given, is asked what will become of each.
///
/// # Errors
/// [`Halted`] where broker or store fail; a single letter that is refused is a line of the result.
pub async fn redrive<W: Wire>(
    broker: &Broker<W>,
    store: Option<&Reader>,
    options: &RedriveOptions,
    mut progress: impl FnMut(&RedriveResult),
) -> Result<RedriveResult, Halted<RedriveResult>> {
    let mut result = RedriveResult { dry_run: options.dry_run, ..RedriveResult::default() };
    let done = all(broker, store, options, &mut result, &mut progress).await;
    match done {
        Ok(()) => Ok(result),
        Err(why) => Err(Halted { why, so_far: Box::new(result) }),
    }
}

async fn all<W: Wire>(
    broker: &Broker<W>,
    store: Option<&Reader>,
    options: &RedriveOptions,
    result: &mut RedriveResult,
    progress: &mut impl FnMut(&RedriveResult),
) -> Result<(), Trouble> {
    let mut walk = Walk::of(broker, &options.selection).await?;
    let pace = Duration::from_secs(1).checked_div(options.per_second).unwrap_or_default();
    let mut next_at = Instant::now();
    while let Some(found) = walk.next().await? {
        let (message, letter) = match found {
            Found::Letter(pair) => *pair,
            Found::Nothing { sequence, why } => {
                result.refuse(Redriven::nothing(sequence, why), options.limit);
                continue;
            }
        };
        let forecast = forecast(&message, &letter, store)?;
        let intent: Option<Entry> = read_last(broker, &Action::Redrive.subject(letter.token(), "*")).await?;
        let end: Option<Entry> = read_last(broker, &Action::Redriven.subject(letter.token(), "*")).await?;
        let plan = plan(intent, end.as_ref(), options.again);
        if matches!(plan, Plan::Done { .. }) {
            result.already = result.already.saturating_add(1);
            continue;
        }
        if result.redriven >= u64::try_from(options.limit).unwrap_or(u64::MAX) {
            result.limited = true;
            return Ok(());
        }
        if options.dry_run {
            let step = if matches!(plan, Plan::Finish { .. }) { Step::WouldFinish } else { Step::WouldRedrive };
            result.sent(Redriven::of(&letter, step, forecast));
            continue;
        }
        sleep_until(next_at).await;
        next_at = next_at.max(Instant::now()).checked_add(pace).unwrap_or(next_at);
        let mut line = Redriven::of(&letter, Step::Redriven, forecast);
        match send(broker, &message, &letter, plan, &options.mandate).await {
            Ok((step, sequence)) => {
                (line.step, line.published_sequence) = (step, Some(sequence));
                result.sent(line);
            }
            Err(Trouble::Refused { what }) => {
                (line.step, line.detail) = (Step::Refused, Some(what));
                result.refuse(line, options.limit);
            }
            Err(why) => return Err(why),
        }
        progress(result);
    }
    Ok(())
}

async fn send<W: Wire>(
    broker: &Broker<W>,
    message: &StoredMessage,
    letter: &Letter,
    plan: Plan,
    mandate: &Mandate,
) -> Result<(Step, u64), Trouble> {
    let (intent, begun_before) = match plan {
        Plan::Fresh { round } => intend(broker, message, letter, round, mandate).await?,
        Plan::Finish { intent } => (*intent, true),
        Plan::Done { .. } => return Err(Trouble::Refused { what: "it was redriven before".to_owned() }),
    };
    let sequence = match if begun_before { published_before(broker, letter, &intent).await? } else { None } {
        Some(sequence) => sequence,
        None => publish(broker, message, letter, &intent).await?,
    };
    let end = Entry {
        action: Action::Redriven,
        who: mandate.who().to_owned(),
        why: mandate.why().to_owned(),
        at: Timestamp::now(),
        published_sequence: Some(sequence),
        ..intent
    };
    write_once(broker, &Action::Redriven.subject(letter.token(), &end.round.to_string()), &end).await?;
    Ok((if begun_before { Step::Finished } else { Step::Redriven }, sequence))
}

/// Writes the intent; where somebody else wrote it first, theirs is the one to finish.
async fn intend<W: Wire>(
    broker: &Broker<W>,
    message: &StoredMessage,
    letter: &Letter,
    round: u32,
    mandate: &Mandate,
) -> Result<(Entry, bool), Trouble> {
    if !letter.original_subject.starts_with("payments.requested.") {
        return Err(Trouble::Refused { what: "it names no subject of payment events".to_owned() });
    }
    let payments = broker.streams().payments.as_str();
    let stream = broker.stream_info(payments).await.map_err(|e| Trouble::of_api(broker, e))?;
    let entry = Entry {
        round,
        message_id: Some(message_id(letter.token(), round)),
        subject: Some(letter.original_subject.clone()),
        stream_created_ms: Some(stream.created.as_millisecond()),
        stream_last: Some(stream.state.last_seq),
        ..letter.entry(Action::Redrive, message, mandate)
    };
    match write_once(broker, &Action::Redrive.subject(letter.token(), &round.to_string()), &entry).await? {
        Written::Now => Ok((entry, false)),
        Written::Before(theirs) => Ok((*theirs, true)),
    }
}

/// Looks for the event of an intent whose end is not on record. The broker would swallow a repeat only inside its
/// duplicate window; behind it, the stream itself is the record.
async fn published_before<W: Wire>(
    broker: &Broker<W>,
    letter: &Letter,
    intent: &Entry,
) -> Result<Option<u64>, Trouble> {
    let payments = broker.streams().payments.as_str();
    let stream = broker.stream_info(payments).await.map_err(|e| Trouble::of_api(broker, e))?;
    let same = intent.stream_created_ms == Some(stream.created.as_millisecond());
    let after = if same { intent.stream_last.unwrap_or(0) } else { 0 };
    let mut from = after.saturating_add(1).max(stream.state.first_seq);
    let id = intent.message_id.as_deref();
    while from <= stream.state.last_seq {
        match broker.message_from(payments, &letter.original_subject, from).await {
            Ok(event) if event.header("Nats-Msg-Id") == id && event.header(REDRIVE_OF) == Some(&*letter.subject) => {
                return Ok(Some(event.sequence));
            }
            Ok(event) => from = event.sequence.saturating_add(1),
            Err(ApiError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(Trouble::of_api(broker, error)),
        }
    }
    Ok(None)
}

async fn publish<W: Wire>(
    broker: &Broker<W>,
    message: &StoredMessage,
    letter: &Letter,
    intent: &Entry,
) -> Result<u64, Trouble> {
    const TRIES: u32 = 4;
    let id = intent.message_id.clone().unwrap_or_else(|| message_id(letter.token(), intent.round));
    let headers = headers(&message.headers, &letter.subject);
    let subject = letter.original_subject.as_str();
    let mut tries = 0_u32;
    loop {
        tries = tries.saturating_add(1);
        let payload = message.payload.clone();
        match broker.publish_confirmed(subject, &id, &headers, payload, &broker.streams().payments).await {
            Ok((sequence, _)) => return Ok(sequence),
            Err(PublishError::Unconfirmed(_)) if tries < TRIES => sleep(Duration::from_millis(250)).await,
            // After a second of this it is not a leader on its way but a subject that no stream takes any more.
            Err(PublishError::Unconfirmed(WireError::NoResponders)) => {
                return Err(Trouble::Refused { what: format!("no stream takes {subject}") });
            }
            Err(error) => return Err(Trouble::of_publish(broker, subject, &error)),
        }
    }
}

/// What the store knows of the letter's payment.
fn forecast(message: &StoredMessage, letter: &Letter, store: Option<&Reader>) -> Result<Forecast, Trouble> {
    let Some(event) = decoded(message, &letter.original_subject) else { return Ok(Forecast::Unreadable) };
    let Some(store) = store else { return Ok(Forecast::Unknown) };
    let standing = store.payment(event.payment_id())?.and_then(|record| record.payment);
    Ok(match standing {
        None => Forecast::Judged,
        Some(row) => match (row.state, row.fingerprint == event.fingerprint()) {
            (State::Freed, _) | (State::Open | State::Held, true) => Forecast::Judged,
            (State::Settled | State::Rejected, true) => Forecast::Duplicate,
            (State::Open | State::Held | State::Settled | State::Rejected, false) => Forecast::Conflict,
        },
    })
}

impl RedriveResult {
    fn sent(&mut self, line: Redriven) {
        self.redriven = self.redriven.saturating_add(1);
        self.letters.push(line);
    }

    fn refuse(&mut self, line: Redriven, most: usize) {
        self.refused = self.refused.saturating_add(1);
        if self.refused <= u64::try_from(most).unwrap_or(u64::MAX) {
            self.letters.push(line);
        }
    }
}

impl Redriven {
    fn of(letter: &Letter, step: Step, forecast: Forecast) -> Self {
        Self {
            sequence: letter.sequence,
            dead_letter: letter.subject.clone(),
            code: letter.code.clone(),
            payment_id: letter.payment_id.clone(),
            step,
            forecast,
            published_sequence: None,
            detail: None,
        }
    }

    fn nothing(sequence: u64, why: String) -> Self {
        Self {
            sequence,
            dead_letter: String::new(),
            code: String::new(),
            payment_id: None,
            step: Step::Refused,
            forecast: Forecast::Unknown,
            published_sequence: None,
            detail: Some(why),
        }
    }
}
