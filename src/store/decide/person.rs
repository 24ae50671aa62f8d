//! A person's word in place of the answer that a rail does not give. It is the answer of every attempt that has none,
//! and never contradicts what the rail itself said.
//!
//! Whoever holds the payment is not asked: its next step finds the payment final and announces what stands, or finds
//! its attempt answered and sends again. A rail that says later that it settled is believed while the payment has no
//! end; after that its word is kept in the payment's life.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::resolution::{Refusal, Resolution, Resolved, Ruling};
use super::super::rows::{Ended, PaymentRow, State};
use super::rail::{all_conclusive, refused};
use super::{Group, Note, Slot, Verdict};
use crate::domain::Answer;

impl Group<'_> {
    pub(super) fn resolve(&mut self, asked: &Resolution) -> Verdict {
        let id = &asked.payment_id;
        let Some(mut slot) = self.payments.remove(id) else { return Verdict::Resolved(Err(Refusal::Unseen)) };
        let end = self.resolve_in(asked, &mut slot);
        self.payments.insert(id.clone(), slot);
        if end == Ok(Resolved::Recorded) {
            let what = format!("resolved by hand as {}: audit record {}", asked.ruling.word(), asked.record);
            self.note(id, &[Note { at: self.now, what, breaker: "-" }]);
        }
        Verdict::Resolved(end)
    }

    /// A rail that settled what a person has ended otherwise: nothing that was announced is taken back.
    pub(super) fn note_contradiction(&mut self, answer: &Answer, slot: &Slot) {
        if !matches!(answer, Answer::Settled(_)) || slot.row.state == State::Settled {
            return;
        }
        let what = format!("THE RAIL SAYS SETTLED, the payment ended as {}: a person must look", slot.row.state.word());
        self.note(&slot.row.payment_id, &[Note { at: self.now, what, breaker: "-" }]);
    }

    fn resolve_in(&mut self, asked: &Resolution, slot: &mut Slot) -> Result<Resolved, Refusal> {
        let end = check(&slot.row, asked, self.now)?;
        if end == Resolved::Recorded {
            self.rule(&asked.ruling, slot);
        }
        Ok(end)
    }

    /// Makes the payment final; nobody has asked for what stands now. What it reserved of its debtor's limit is spent
    /// where money moved, and given back where none did.
    pub(super) fn end(&mut self, state: State, slot: &mut Slot) {
        let reserved = slot.row.reserved.take();
        if state != State::Settled {
            self.days.release(reserved, slot.row.amount.minor());
        }
        slot.row.state = state;
        slot.row.finished_at = Some(self.now);
        slot.row.claim = None;
        slot.touch();
        self.due_at_once(slot);
        let event = slot.row.event.clone();
        self.ends(&event);
    }

    fn rule(&mut self, ruling: &Ruling, slot: &mut Slot) {
        let ended = match ruling {
            Ruling::Settled(_) => Ended::Settled,
            Ruling::Rejected(_) => Ended::Rejected,
            Ruling::NotProcessed => Ended::NotSent,
        };
        let row = &mut slot.row;
        for attempt in row.tries.iter_mut().filter(|attempt| attempt.ended.is_none()) {
            attempt.ended = Some(ended);
            // Without a time: it is nobody's own answer, and sends the payment to no other rail.
            attempt.ended_at = (ended != Ended::NotSent).then_some(self.now);
            attempt.dirty = true;
            row.rail = Arc::clone(&attempt.rail);
            if ended == Ended::NotSent {
                row.attempts = row.attempts.saturating_sub(1);
            }
        }
        match ruling {
            Ruling::Settled(reference) => {
                row.rail_ref = Some(reference.clone());
                self.end(State::Settled, slot);
            }
            Ruling::Rejected(code) => {
                row.reasons = vec![refused(*code)];
                self.end(State::Rejected, slot);
            }
            // Another attempt was refused for good by the rail itself: that is the end, now that no other can count.
            Ruling::NotProcessed if !row.reasons.is_empty() => self.end(State::Rejected, slot),
            Ruling::NotProcessed => {
                row.state = State::Open;
                row.claim = None;
                slot.touch();
            }
        }
    }
}

/// What a resolution would do at `now`. Nothing else decides it.
pub(in crate::store) fn check(row: &PaymentRow, asked: &Resolution, now: Timestamp) -> Result<Resolved, Refusal> {
    if stands(row, asked) {
        return Ok(Resolved::Stood);
    }
    match row.state {
        State::Settled | State::Rejected => return Err(Refusal::Final(row.state)),
        State::Freed => return Err(Refusal::NotInDoubt),
        State::Open | State::Held => {}
    }
    if all_conclusive(row) {
        return Err(Refusal::NotInDoubt);
    }
    if row.last_attempt != asked.last_attempt {
        return Err(Refusal::Moved);
    }
    let said = row.reasons.first().map(|reason| reason.code);
    match &asked.ruling {
        Ruling::Settled(_) if said.is_some() => Err(Refusal::RailSaid),
        Ruling::Rejected(code) if said.is_some_and(|said| said != *code) => Err(Refusal::RailSaid),
        Ruling::Settled(_) => Ok(Resolved::Recorded),
        Ruling::Rejected(_) | Ruling::NotProcessed => has_run_out(row, asked.longest, now),
    }
}

/// No attempt without an answer can still take effect at the rail.
fn has_run_out(row: &PaymentRow, longest: Duration, now: Timestamp) -> Result<Resolved, Refusal> {
    let longest = SignedDuration::try_from(longest).unwrap_or(SignedDuration::MAX);
    let open = row.tries.iter().filter(|attempt| attempt.ended.is_none());
    let youngest = open.map(|attempt| now.duration_since(attempt.started_at)).min().unwrap_or(SignedDuration::ZERO);
    if youngest > longest {
        return Ok(Resolved::Recorded);
    }
    Err(Refusal::TooEarly { left: Duration::try_from(longest.saturating_sub(youngest)).unwrap_or_default() })
}

/// Whether this very resolution was recorded before, or what it says has come to stand without it.
fn stands(row: &PaymentRow, asked: &Resolution) -> bool {
    match &asked.ruling {
        Ruling::Settled(reference) => row.state == State::Settled && row.rail_ref.as_ref() == Some(reference),
        Ruling::Rejected(code) => {
            row.state == State::Rejected && row.reasons.first().is_some_and(|reason| reason.code == *code)
        }
        Ruling::NotProcessed => {
            row.state == State::Open
                && row.last_attempt == asked.last_attempt
                && all_conclusive(row)
                && row.tries.last().is_some_and(|attempt| attempt.ended == Some(Ended::NotSent))
        }
    }
}

impl Ruling {
    /// As records and notes say it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Settled(_) => "settled",
            Self::Rejected(_) => "rejected",
            Self::NotProcessed => "not-processed",
        }
    }
}
