//! Payments that the tracker owns: taken on within the bound, swept as if their event had come again, and let go once
//! their outcome is told.

use super::super::rows::{EventKind, PaymentRow, State, TrackerChange, TrackerRow, Tracking};
use super::super::tracker::{Message, TrackLimits, due_after};
use super::super::{Origin, Route};
use super::rail::holds;
use super::{Asked, Group, InHand, Slot, Verdict, is_own, outcome};
use crate::domain::EventId;
use crate::intake::Judged;

impl Group<'_> {
    /// The tracker takes the payment on, and from the commit on its event may be acknowledged.
    pub(super) fn track(&mut self, with: InHand<'_>, message: &Message, limits: &TrackLimits) -> Verdict {
        let id = &with.ticket.payment_id;
        self.note(id, with.notes);
        let Some(mut slot) = self.payments.remove(id) else { return Verdict::Foreign };
        let verdict = if slot.row.row == with.ticket.row {
            self.track_in(with, message, limits, &mut slot)
        } else {
            Verdict::Foreign
        };
        self.payments.insert(id.clone(), slot);
        verdict
    }

    fn track_in(&mut self, with: InHand<'_>, message: &Message, limits: &TrackLimits, slot: &mut Slot) -> Verdict {
        match slot.row.state {
            State::Settled | State::Rejected => return self.stands(with.origin, slot),
            State::Freed => return Verdict::Untracked,
            State::Open | State::Held => {}
        }
        let own = is_own(&slot.row, with.origin);
        if own && slot.row.tracked.is_some() {
            return tracked(&slot.row);
        }
        if !holds(&slot.row, with.ticket) {
            return self.elsewhere(slot);
        }
        // Only the event that the payment stands for brings it here: its message is the one to be judged again, and
        // its outcome the one that is told.
        if !own || slot.row.tracked.is_some() || !limits.admit(slot.row.amount) {
            return Verdict::Untracked;
        }
        let totals = self.trackers.entry(with.origin.lane.clone()).or_default();
        if !limits.has_room(totals, slot.row.amount) {
            return Verdict::Full { amount: slot.row.amount };
        }
        totals.add(1, slot.row.amount, self.now);
        let tracking = Tracking { since: self.now, due: due_after(self.now, 0), sweeps: 0 };
        slot.row.tracked = Some(tracking);
        // Any worker may sweep it.
        slot.row.claim = None;
        slot.touch();
        self.tracker.push(TrackerChange::New(TrackerRow {
            payment: slot.row.row,
            lane: with.origin.lane.clone(),
            amount: slot.row.amount,
            tracking,
            message: message.clone(),
        }));
        // No end of the payment, but the end of its event: the mark must not stay behind what is acknowledged.
        self.ends(&with.origin.event);
        tracked(&slot.row)
    }

    /// What an event hears whose payment is tracked; `None` where that changes nothing.
    pub(super) fn open_tracked(&mut self, origin: &Origin, judged: &Judged, slot: &mut Slot) -> Option<Verdict> {
        let tracking = slot.row.tracked?;
        let wait = Verdict::Elsewhere { until: tracking.due };
        match slot.row.state {
            State::Settled | State::Rejected => None,
            // The refusal is not told yet: its event could be taken for the one that comes now.
            State::Freed => Some(wait),
            State::Open | State::Held if slot.row.fingerprint != judged.fingerprint() => None,
            State::Open | State::Held => {
                slot.row.deliveries = slot.row.deliveries.saturating_add(1);
                slot.touch();
                Some(if is_own(&slot.row, origin) { tracked(&slot.row) } else { wait })
            }
        }
    }

    /// A tracked payment goes on as if its event had come again; the next sweep is set whatever becomes of this one.
    pub(super) fn sweep(&mut self, origin: &Origin, judged: Option<&Judged>, route: &Route) -> Verdict {
        let id = match judged {
            Some(judged) => Some(judged.payment_id().clone()),
            None => self.payments.iter().find(|(_, slot)| is_own(&slot.row, origin)).map(|(id, _)| id.clone()),
        };
        let Some((id, mut slot)) = id.and_then(|id| self.payments.remove_entry(&id)) else { return Verdict::Foreign };
        let verdict = self.sweep_in(origin, judged, route, &mut slot);
        self.payments.insert(id, slot);
        verdict
    }

    fn sweep_in(&mut self, origin: &Origin, judged: Option<&Judged>, route: &Route, slot: &mut Slot) -> Verdict {
        let Some(tracking) = slot.row.tracked else { return Verdict::Gone };
        if !is_own(&slot.row, origin) {
            return Verdict::Foreign;
        }
        if tracking.due > self.now {
            // Another worker has swept it since it was listed.
            return Verdict::Elsewhere { until: tracking.due };
        }
        if let Some(claim) = &slot.row.claim
            && claim.until > self.now
            && claim.owner != self.claimant(origin)
        {
            return Verdict::Elsewhere { until: claim.until };
        }
        let sweeps = tracking.sweeps.saturating_add(1);
        self.set_due(slot, Tracking { due: due_after(self.now, sweeps), sweeps, ..tracking });
        match slot.row.state {
            State::Settled | State::Rejected => self.stands(origin, slot),
            State::Open | State::Held => match judged {
                // Read otherwise than when it was claimed, it asks for another payment: nothing is done about that one.
                Some(judged) if slot.row.fingerprint == judged.fingerprint() => {
                    // A sweep begins what may be begun, and asks no check of its worker's: a tracked payment was
                    // cleared before its first attempt.
                    self.open_standing(origin, Asked::of(judged), route, true, slot)
                }
                Some(_) | None => Verdict::Untracked,
            },
            State::Freed => match self.events.get(&origin.event).filter(|row| row.kind == EventKind::Rejected) {
                Some(row) => {
                    Verdict::Final { outcome: Box::new(outcome::of_event(row, &slot.row.payment_id)), duplicate: false }
                }
                None => Verdict::Foreign,
            },
        }
    }

    /// The outcome event of a payment that the tracker owned is confirmed: the row goes.
    pub(super) fn told(&mut self, event: &EventId) -> Verdict {
        for slot in self.payments.values_mut() {
            let ended = match slot.row.state {
                State::Settled | State::Rejected | State::Freed => true,
                State::Open | State::Held => false,
            };
            if ended && slot.row.event == *event && slot.row.tracked.take().is_some() {
                self.tracker.push(TrackerChange::Gone { payment: slot.row.row });
            }
        }
        Verdict::Told
    }

    /// The payment has its end, which is to be told: by whoever wrote it, and after a crash by the next sweep.
    pub(super) fn due_at_once(&mut self, slot: &mut Slot) {
        if let Some(tracking) = slot.row.tracked {
            self.set_due(slot, Tracking { due: self.now, sweeps: 0, ..tracking });
        }
    }

    fn set_due(&mut self, slot: &mut Slot, tracking: Tracking) {
        slot.row.tracked = Some(tracking);
        self.tracker.push(TrackerChange::Due { payment: slot.row.row, tracking });
    }
}

fn tracked(row: &PaymentRow) -> Verdict {
    Verdict::Tracked(Box::new(row.clone()))
}
