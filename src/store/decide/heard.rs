//! When a rail said last that it works on an attempt. Kept for operators; no decision rests on it.

use jiff::Timestamp;

use super::super::rows::AttemptRow;
use super::{Group, Slot, Ticket};
use crate::domain::Answer;

impl Group<'_> {
    /// Silence says nothing new; any other word of the rail's takes the one before it back.
    pub(super) fn heard(&self, ticket: &Ticket, answer: &Answer, slot: &mut Slot) {
        match answer {
            Answer::InProgress => said(ticket, Some(self.now), slot),
            Answer::Blocked => said(ticket, None, slot),
            Answer::Settled(_) | Answer::Rejected { .. } | Answer::NotSent(_) | Answer::Unknown => {}
        }
    }
}

/// The rail knows nothing of what it was asked about.
pub(super) fn not_found(ticket: &Ticket, slot: &mut Slot) {
    said(ticket, None, slot);
}

/// What a rail says under a key holds for all that it was sent under that key.
fn said(ticket: &Ticket, at: Option<Timestamp>, slot: &mut Slot) {
    let own = |attempt: &&mut AttemptRow| attempt.ended.is_none() && attempt.leg == ticket.leg;
    for attempt in slot.row.tries.iter_mut().filter(own) {
        attempt.dirty |= attempt.in_progress_at != at;
        attempt.in_progress_at = at;
    }
    slot.touch();
}
