//! Payments that go over a rail: attempts, claims and fences, doubt.
//!
//! An attempt without a conclusive answer may have reached its rail. While there is one, the payment is only
//! inquired about, sent again under the same key once the rail has twice not known it, and never refused.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::super::rows::{AttemptRow, Claim, Ended, PaymentRow, State};
use super::super::{Origin, Route};
use super::leg::{bound, leg};
use super::refusal::expired;
use super::{Asked, Group, InHand, Slot, Ticket, Verdict, heard};
use crate::domain::{Answer, Code, Finding, RailRef, Reason};

/// Inquiries that must not find an attempt before it is sent again.
pub(super) const NOT_FOUND_ENOUGH: u32 = 2;

pub(super) fn all_conclusive(row: &PaymentRow) -> bool {
    row.tries.iter().all(|attempt| attempt.ended.is_some())
}

/// The rail has refused one attempt for good, and no other can have gone through meanwhile.
fn is_refused(row: &PaymentRow) -> bool {
    !row.reasons.is_empty() && all_conclusive(row)
}

/// No attempt without an answer is one that the rail may still know.
fn all_resendable(row: &PaymentRow) -> bool {
    row.tries.iter().all(|attempt| attempt.ended.is_some() || attempt.not_found >= NOT_FOUND_ENOUGH)
}

/// Nobody has taken the payment over since the ticket was given out.
pub(super) fn holds(row: &PaymentRow, ticket: &Ticket) -> bool {
    cfg!(acquit_sabotage = "no_fence") || row.fence == ticket.fence
}

impl Group<'_> {
    /// The same payment is asked for and something stands.
    pub(super) fn open_standing(
        &mut self,
        origin: &Origin,
        asked: Asked<'_>,
        route: &Route,
        begin: bool,
        slot: &mut Slot,
    ) -> Verdict {
        match slot.row.state {
            State::Settled | State::Rejected => return self.stands(origin, slot),
            State::Open | State::Held | State::Freed => {}
        }
        let claimant = self.claimant(origin);
        if let Some(claim) = &slot.row.claim
            && claim.until > self.now
            && claim.owner != claimant
        {
            return Verdict::Elsewhere { until: claim.until };
        }
        #[cfg(acquit_sabotage = "resend_on_unknown")]
        if let (Asked::Valid(_), Route::Rail { name, leg }) = (asked, route) {
            return self.go(origin, name, *leg, slot);
        }
        #[cfg(acquit_sabotage = "fallback_after_inconclusive")]
        if let (Asked::Valid(_), Route::Rail { name, leg }) = (asked, route)
            && slot.row.tries.iter().any(|attempt| &*attempt.rail != *name && attempt.ended.is_none())
        {
            return self.attempt(origin, (*name).into(), super::leg::leg(&slot.row, name, *leg), slot);
        }
        // Held with every attempt answered: nothing is left to be asked, the payment goes on.
        if slot.row.state == State::Held && !all_conclusive(&slot.row) {
            return self.take_over(origin, slot);
        }
        if is_refused(&slot.row) {
            return self.finish(origin, State::Rejected, slot);
        }
        if all_conclusive(&slot.row) {
            return match (asked, route) {
                (Asked::Refused(_), _) => self.refuse_standing(origin, asked, slot),
                (Asked::Valid(payment), _) if self.expired(payment) => self.refuse_standing(origin, asked, slot),
                (Asked::Valid(_), _) if !begin => Verdict::Nothing,
                (Asked::Valid(payment), Route::Book) => match bound(&slot.row, None) {
                    Some(rail) => self.go(origin, &rail, 0, slot),
                    None => self.post(origin, payment, slot),
                },
                (Asked::Valid(_), Route::Rail { name, leg }) => self.go(origin, name, *leg, slot),
            };
        }
        // The same attempt goes on under the same key: what began before needs no new beginning.
        if let (Asked::Valid(payment), Route::Rail { name, .. }) = (asked, route)
            && all_resendable(&slot.row)
            && slot.row.reasons.is_empty()
            && !self.expired(payment)
            && let Some(open) = unanswered(&slot.row)
            && &*open.rail == *name
        {
            let leg = open.leg;
            return self.attempt(origin, (*name).into(), leg, slot);
        }
        self.take_over(origin, slot)
    }

    /// The event ends by our rules although its payment was claimed: every attempt is known not to have counted.
    fn refuse_standing(&mut self, origin: &Origin, asked: Asked<'_>, slot: &mut Slot) -> Verdict {
        if slot.row.event == origin.event {
            slot.row.state = State::Freed;
            slot.row.claim = None;
            self.days.release(slot.row.reserved.take(), slot.row.amount.minor());
            slot.touch();
        }
        let (reasons, references) = match asked {
            Asked::Valid(payment) => (vec![expired()], payment.references.clone()),
            Asked::Refused(refused) => (refused.reasons().to_vec(), refused.references().clone()),
        };
        self.end_rejected(origin, &slot.row.payment_id.clone(), reasons, references, Some(slot.row.amount))
    }

    /// A new attempt where every one before has its conclusive answer: at `wanted`, or at the rail that it may not leave.
    pub(super) fn go(&mut self, origin: &Origin, wanted: &str, leg_wanted: u8, slot: &mut Slot) -> Verdict {
        let rail = bound(&slot.row, Some(wanted)).unwrap_or_else(|| wanted.into());
        let leg = leg(&slot.row, &rail, leg_wanted);
        self.attempt(origin, rail, leg, slot)
    }

    fn attempt(&mut self, origin: &Origin, rail: Arc<str>, leg: u8, slot: &mut Slot) -> Verdict {
        let row = &mut slot.row;
        #[cfg(acquit_sabotage = "key_per_attempt")]
        let leg = leg.saturating_add(u8::try_from(row.last_attempt).unwrap_or(u8::MAX));
        row.state = State::Open;
        row.rail = Arc::clone(&rail);
        row.lane = origin.lane.clone();
        row.last_attempt = row.last_attempt.saturating_add(1);
        row.attempts = row.attempts.saturating_add(1);
        row.tries.push(AttemptRow {
            payment: row.row,
            number: row.last_attempt,
            leg,
            rail,
            started_at: self.now,
            ended: None,
            ended_at: None,
            not_found: 0,
            in_progress_at: None,
            dirty: true,
        });
        self.claim(origin, slot);
        self.ticket(slot).map_or(Verdict::Foreign, Verdict::Go)
    }

    /// Whoever held the payment is gone, or is this event's earlier delivery in this process.
    fn take_over(&mut self, origin: &Origin, slot: &mut Slot) -> Verdict {
        self.claim(origin, slot);
        self.ticket(slot).map_or(Verdict::Foreign, Verdict::Doubt)
    }

    fn claim(&mut self, origin: &Origin, slot: &mut Slot) {
        slot.row.fence = slot.row.fence.saturating_add(1);
        self.extend(origin, slot);
    }

    fn extend(&mut self, origin: &Origin, slot: &mut Slot) {
        let until = self.now.saturating_add(self.claim).unwrap_or(Timestamp::MAX);
        slot.row.claim = Some(Claim { owner: self.claimant(origin), until });
        slot.touch();
    }

    /// A process may work on one payment for two events; they must not take each other's attempts for their own.
    pub(super) fn claimant(&self, origin: &Origin) -> Arc<str> {
        format!("{}/{}", self.terms.owner, origin.event).into()
    }

    /// The ticket of the attempt in doubt, or of the last one.
    fn ticket(&self, slot: &Slot) -> Option<Ticket> {
        let row = &slot.row;
        let attempt = unanswered(row).or_else(|| row.tries.last())?;
        Some(Ticket {
            row: row.row,
            payment_id: row.payment_id.clone(),
            rail: Arc::clone(&attempt.rail),
            leg: attempt.leg,
            attempt: attempt.number,
            fence: row.fence,
            started_at: attempt.started_at,
            until: row.claim.as_ref().map_or(self.now, |claim| claim.until),
            not_found: attempt.not_found,
            held: row.state == State::Held,
        })
    }

    /// Records what a rail said to an attempt, or (`inquiry`) about it.
    pub(super) fn conclude(&mut self, with: InHand<'_>, answer: &Answer, inquiry: bool) -> Verdict {
        let id = &with.ticket.payment_id;
        self.note(id, with.notes);
        let Some(mut slot) = self.payments.remove(id) else { return Verdict::Foreign };
        let verdict = if slot.row.row == with.ticket.row {
            self.conclude_in(with, answer, inquiry, &mut slot)
        } else {
            Verdict::Foreign
        };
        self.payments.insert(id.clone(), slot);
        verdict
    }

    fn conclude_in(&mut self, with: InHand<'_>, answer: &Answer, inquiry: bool, slot: &mut Slot) -> Verdict {
        match slot.row.state {
            State::Settled | State::Rejected => {
                self.answer_own(with.ticket, answer, inquiry, slot);
                self.note_contradiction(answer, slot);
                return self.stands(with.origin, slot);
            }
            State::Freed => {
                self.note_contradiction(answer, slot);
                return Verdict::Released;
            }
            State::Open | State::Held => {}
        }
        let fresh = holds(&slot.row, with.ticket);
        if !slot.row.tries.iter().any(|own| own.number == with.ticket.attempt && own.ended.is_none()) {
            if let Answer::Settled(reference) = answer {
                // A person said that the rail did not process it. The rail knows better: money has moved.
                return self.settle(with, reference, slot);
            }
            // It has its answer: this one was recorded before and the commit's own answer was lost, or a person gave it.
            return if fresh { Verdict::Released } else { self.elsewhere(slot) };
        }
        self.answer_own(with.ticket, answer, inquiry, slot);
        if slot.row.state == State::Held && all_conclusive(&slot.row) {
            // The rail has let go of it after all. Left held, a refusal that allows a new attempt would never get one.
            slot.row.state = State::Open;
        }
        if fresh {
            self.heard(with.ticket, answer, slot);
        }
        if let Answer::Rejected { code, resubmit: false } = answer {
            slot.row.reasons = vec![refused(*code)];
        }
        match answer {
            Answer::Settled(reference) => self.settle(with, reference, slot),
            Answer::Rejected { .. } | Answer::NotSent(_) if is_refused(&slot.row) => {
                self.finish(with.origin, State::Rejected, slot)
            }
            Answer::Blocked => {
                slot.row.state = State::Held;
                slot.touch();
                if !fresh {
                    return self.elsewhere(slot);
                }
                self.extend(with.origin, slot);
                self.ticket(slot).map_or(Verdict::Foreign, Verdict::Held)
            }
            Answer::NotSent(_) if inquiry => self.still_in_doubt(with, fresh, slot),
            Answer::Rejected { .. } | Answer::NotSent(_) if fresh => {
                slot.row.claim = None;
                slot.touch();
                Verdict::Released
            }
            Answer::Rejected { .. } | Answer::NotSent(_) => self.elsewhere(slot),
            Answer::InProgress | Answer::Unknown => self.still_in_doubt(with, fresh, slot),
        }
    }

    /// Writes the conclusive answer of the ticket's own attempt, whoever holds the payment by now.
    fn answer_own(&self, ticket: &Ticket, answer: &Answer, inquiry: bool, slot: &mut Slot) {
        let ended = match answer {
            Answer::Settled(_) => Ended::Settled,
            Answer::Rejected { resubmit: false, .. } => Ended::Rejected,
            Answer::Rejected { resubmit: true, .. } => Ended::Resubmit,
            // An inquiry that was not sent says nothing about the attempt.
            Answer::NotSent(_) if inquiry => return,
            Answer::NotSent(_) => Ended::NotSent,
            Answer::InProgress | Answer::Blocked | Answer::Unknown => return,
        };
        let mut answered = false;
        for attempt in &mut slot.row.tries {
            let own = attempt.number == ticket.attempt;
            // What a rail says under a key holds for all that it was sent under that key.
            let covered = ended != Ended::NotSent && attempt.leg == ticket.leg && attempt.not_found >= NOT_FOUND_ENOUGH;
            if attempt.ended.is_none() && (own || covered) {
                attempt.ended = Some(ended);
                attempt.ended_at = Some(self.now);
                attempt.dirty = true;
                answered |= own;
            }
        }
        if answered && ended == Ended::NotSent {
            slot.row.attempts = slot.row.attempts.saturating_sub(1);
        }
        slot.touch();
    }

    fn settle(&mut self, with: InHand<'_>, reference: &RailRef, slot: &mut Slot) -> Verdict {
        slot.row.rail = Arc::clone(&with.ticket.rail);
        slot.row.rail_ref = Some(reference.clone());
        slot.row.reasons.clear();
        slot.row.late = match with.asked {
            Asked::Valid(payment) => payment.late_from.is_some_and(|from| self.now >= from),
            Asked::Refused(_) => false,
        };
        self.finish(with.origin, State::Settled, slot)
    }

    fn still_in_doubt(&mut self, with: InHand<'_>, fresh: bool, slot: &mut Slot) -> Verdict {
        if !fresh {
            return self.elsewhere(slot);
        }
        self.extend(with.origin, slot);
        self.ticket(slot).map_or(Verdict::Foreign, Verdict::Doubt)
    }

    pub(super) fn elsewhere(&self, slot: &Slot) -> Verdict {
        Verdict::Elsewhere { until: slot.row.claim.as_ref().map_or(self.now, |claim| claim.until) }
    }

    /// Records what an inquiry found, and goes on where that allows it.
    pub(super) fn resume(&mut self, with: InHand<'_>, finding: &Finding, asked: Instant, longest: Duration) -> Verdict {
        let verdict = match finding {
            Finding::Answered(answer) => self.conclude(with, answer, true),
            Finding::CannotSay => self.conclude(with, &Answer::Unknown, true),
            Finding::NotFound => self.not_found(with, asked, longest),
        };
        // Also where the rail says nothing: a person may have.
        if matches!(verdict, Verdict::Released) { self.again(with) } else { verdict }
    }

    /// No attempt is in doubt any more and the payment has no end: a new attempt at once, under the next key where the
    /// rail has used up the last one.
    fn again(&mut self, with: InHand<'_>) -> Verdict {
        let id = &with.ticket.payment_id;
        let Some(mut slot) = self.payments.remove(id) else { return Verdict::Foreign };
        let verdict = match with.asked {
            _ if slot.row.state != State::Open => self.elsewhere(&slot),
            _ if !all_conclusive(&slot.row) => self.take_over(with.origin, &mut slot),
            Asked::Valid(payment) if !self.expired(payment) => {
                self.go(with.origin, &with.ticket.rail, with.ticket.leg, &mut slot)
            }
            Asked::Valid(_) | Asked::Refused(_) => self.refuse_standing(with.origin, with.asked, &mut slot),
        };
        self.payments.insert(id.clone(), slot);
        verdict
    }

    /// When an inquiry was sent, by the database's clock, or earlier: what the rail did not find then says nothing of an
    /// attempt that had come of age only when the finding was written.
    fn asked_at(&self, asked: Instant) -> Timestamp {
        let ago = SignedDuration::try_from(self.here.saturating_duration_since(asked)).unwrap_or(SignedDuration::MAX);
        self.now.checked_sub(ago).unwrap_or(Timestamp::MIN)
    }

    fn not_found(&mut self, with: InHand<'_>, asked: Instant, longest: Duration) -> Verdict {
        let id = &with.ticket.payment_id;
        let verdict = self.conclude(with, &Answer::Unknown, true);
        let Verdict::Doubt(_) = verdict else { return verdict };
        let Some(mut slot) = self.payments.remove(id) else { return Verdict::Foreign };
        let longest = SignedDuration::try_from(longest).unwrap_or(SignedDuration::MAX);
        heard::not_found(with.ticket, &mut slot);
        let asked_at = self.asked_at(asked);
        for attempt in &mut slot.row.tries {
            let old = asked_at.duration_since(attempt.started_at) > longest;
            if old && attempt.ended.is_none() && attempt.leg == with.ticket.leg && attempt.not_found < NOT_FOUND_ENOUGH
            {
                attempt.not_found = attempt.not_found.saturating_add(1);
                attempt.dirty = true;
            }
        }
        let verdict = match with.asked {
            // Also where nothing was left to be counted: the rail had not taken what was sent again, and a delivery that
            // wants another rail only comes by here.
            Asked::Valid(payment)
                if slot.row.state == State::Open && all_resendable(&slot.row) && !self.expired(payment) =>
            {
                self.attempt(with.origin, Arc::clone(&with.ticket.rail), with.ticket.leg, &mut slot)
            }
            Asked::Valid(_) | Asked::Refused(_) => self.ticket(&slot).map_or(Verdict::Foreign, Verdict::Doubt),
        };
        self.payments.insert(id.clone(), slot);
        verdict
    }
}

fn unanswered(row: &PaymentRow) -> Option<&AttemptRow> {
    row.tries.iter().rev().find(|attempt| attempt.ended.is_none())
}

/// The rail's refusal for good.
pub(super) fn refused(code: Code) -> Reason {
    Reason::new(code, "", format!("refused by the rail: {}", code.meaning()))
}
