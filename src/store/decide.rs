//! The decision: rows and requests give changes and one answer per request. Pure; SQLite, PostgreSQL and the
//! simulation share it. Requests of one group see what the ones before them did.

mod ask;
mod changes;
mod ended;
mod heard;
mod leg;
mod limits;
mod outcome;
mod person;
mod rail;
mod refusal;
#[cfg(acquit_sabotage = "no_claim")]
mod sabotage;
mod track;

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::book::Book;
use super::rows::{
    Changes, EventKind, EventRow, Mark, PaymentRow, Rows, StartRow, State, TrackerChange, TrackerTotals, to_millis,
};
use super::{Note, Origin, Route};
use crate::domain::{
    DeadReason, EventId, Fingerprint, LaneName, Money, Payment, PaymentId, RailRef, Reason, References, StreamName,
};
use crate::intake::Judged;

use limits::Days;

pub(super) use ask::{Ask, Asked, InHand, Terms, Ticket, Verdict};
pub(super) use person::check;

/// Decides a group. `asks` are applied in the order given. `here` is this process's own clock, read after the rows were: their `now` is no later than it.
pub(super) fn decide(rows: Rows, asks: &[Ask<'_>], terms: &Terms, here: Instant) -> (Changes, Vec<Verdict>) {
    let mut group = Group::new(rows, asks.len(), terms, here);
    let verdicts = asks.iter().map(|ask| group.answer(ask)).collect();
    (group.into_changes(), verdicts)
}

struct Slot {
    row: PaymentRow,
    mark: Mark,
}

struct Group<'a> {
    terms: &'a Terms,
    claim: SignedDuration,
    now: Timestamp,
    here: Instant,
    next_payment: i64,
    payments: HashMap<PaymentId, Slot>,
    events: HashMap<EventId, EventRow>,
    ended: Vec<EventId>,
    starts: HashMap<EventId, StartRow>,
    starts_changed: BTreeMap<EventId, Option<StartRow>>,
    book: Book<'a>,
    days: Days,
    notes: Vec<(PaymentId, Note)>,
    high_water: BTreeMap<(StreamName, i64), u64>,
    trackers: HashMap<LaneName, TrackerTotals>,
    tracker: Vec<TrackerChange>,
}

impl<'a> Group<'a> {
    fn new(rows: Rows, asks: usize, terms: &'a Terms, here: Instant) -> Self {
        let mut payments = HashMap::with_capacity(asks);
        payments.extend(rows.payments.into_iter().map(|(id, row)| (id, Slot { row, mark: Mark::Stands })));
        Self {
            terms,
            claim: SignedDuration::try_from(terms.claim).unwrap_or(SignedDuration::from_mins(5)),
            now: to_millis(rows.now),
            here,
            next_payment: rows.next_payment,
            payments,
            events: rows.events,
            ended: Vec::new(),
            starts: rows.starts,
            starts_changed: BTreeMap::new(),
            book: Book::new(&terms.policy, rows.accounts, rows.next_account),
            days: Days::new(rows.days),
            notes: Vec::new(),
            high_water: BTreeMap::new(),
            trackers: rows.trackers,
            tracker: Vec::new(),
        }
    }

    fn answer(&mut self, ask: &Ask<'_>) -> Verdict {
        match ask {
            Ask::Open { origin, judged, route, begin } => self.open(origin, judged, route, *begin),
            Ask::Conclude { with, answer } => self.conclude(*with, answer, false),
            Ask::Resume { with, finding, asked, longest } => self.resume(*with, finding, *asked, *longest),
            Ask::Condemn { origin, why, payment } => self.condemn(origin, why, *payment),
            Ask::Start { event } => self.start(event),
            Ask::Resolve { resolution } => self.resolve(resolution),
            Ask::Track { with, message, limits } => self.track(*with, message, limits),
            Ask::Sweep { due, judged, route } => self.sweep(due.origin(), *judged, route),
            Ask::Told { event } => self.told(event),
        }
    }

    fn open(&mut self, origin: &Origin, judged: &Judged, route: &Route, begin: bool) -> Verdict {
        let id = judged.payment_id();
        self.note(id, &origin.history);
        if let Some(row) = self.events.get(&origin.event) {
            // A server that lost its tail gives a sequence out again: the row is another message's.
            if row.requested_at != to_millis(origin.requested_at) {
                return Verdict::Foreign;
            }
            if self.starts.remove(&origin.event).is_some() {
                self.starts_changed.insert(origin.event.clone(), None);
            }
            match row.kind {
                EventKind::Rejected => {
                    return Verdict::Final { outcome: Box::new(outcome::of_event(row, id)), duplicate: false };
                }
                EventKind::Condemned => return Verdict::Condemned(Box::new(row.clone())),
                EventKind::Duplicate => {}
            }
        }
        let Some(mut slot) = self.payments.remove(id) else {
            return self.open_fresh(origin, judged, route, begin, None);
        };
        if let Some(verdict) = self.open_tracked(origin, judged, &mut slot) {
            self.payments.insert(id.clone(), slot);
            return verdict;
        }
        if slot.row.state == State::Freed {
            return self.open_fresh(origin, judged, route, begin, Some(slot));
        }
        #[cfg(acquit_sabotage = "no_claim")]
        if slot.row.fingerprint == judged.fingerprint() {
            return self.pay_again(origin, judged, route, slot);
        }
        let verdict = if slot.row.fingerprint == judged.fingerprint() {
            let verdict = self.open_standing(origin, Asked::of(judged), route, begin, &mut slot);
            if !matches!(verdict, Verdict::Nothing) {
                slot.row.deliveries = slot.row.deliveries.saturating_add(1);
                slot.touch();
            }
            verdict
        } else {
            self.end_condemned(origin, &DeadReason::Conflict, Some(id), judged.amount())
        };
        self.payments.insert(id.clone(), slot);
        verdict
    }

    /// Nothing stands for the payment; `freed` is a row that a corrected event may take over.
    fn open_fresh(
        &mut self,
        origin: &Origin,
        judged: &Judged,
        route: &Route,
        begin: bool,
        freed: Option<Slot>,
    ) -> Verdict {
        let id = judged.payment_id();
        match self.refusal(judged) {
            Ok(_) if !begin => {
                self.payments.extend(freed.map(|freed| (id.clone(), freed)));
                Verdict::Nothing
            }
            Ok(payment) => {
                let mut slot = self.new_slot(origin, judged.fingerprint(), payment, freed);
                slot.row.reserved = self.days.reserve(payment, judged.allowance());
                let verdict = match route {
                    Route::Book => self.post(origin, payment, &mut slot),
                    Route::Rail { name, leg } => self.go(origin, name, *leg, &mut slot),
                };
                self.payments.insert(id.clone(), slot);
                verdict
            }
            Err((reasons, references)) => {
                if let Some(freed) = freed {
                    self.payments.insert(id.clone(), freed);
                }
                self.end_rejected(origin, id, reasons, references, judged.amount())
            }
        }
    }

    fn new_slot(&mut self, origin: &Origin, print: Fingerprint, payment: &Payment, freed: Option<Slot>) -> Slot {
        let mut row = PaymentRow {
            row: 0,
            payment_id: payment.payment_id.clone(),
            fingerprint: print,
            state: State::Open,
            event: origin.event.clone(),
            scheme: origin.scheme.clone(),
            order_key: origin.order_key.clone(),
            lane: origin.lane.clone(),
            rail: "book".into(),
            rail_ref: None,
            amount: payment.amount,
            references: payment.references.clone(),
            requested_at: to_millis(origin.requested_at),
            finished_at: None,
            late: false,
            attempts: 0,
            last_attempt: 0,
            reasons: Vec::new(),
            claim: None,
            fence: 0,
            deliveries: 1,
            tracked: None,
            reserved: None,
            tries: Vec::new(),
            renewed: false,
        };
        if let Some(Slot { row: old, mark }) = freed {
            // Numbers, fence and keys go on: an attempt of the event before must never be taken for one of this.
            let (last_attempt, fence, tries) = (old.last_attempt, old.fence, old.tries);
            row = PaymentRow { row: old.row, last_attempt, fence, tries, renewed: true, ..row };
            return Slot { row, mark: if mark == Mark::New { Mark::New } else { Mark::Changed } };
        }
        row.row = self.next_payment;
        self.next_payment = self.next_payment.saturating_add(1);
        Slot { row, mark: Mark::New }
    }

    /// Settles in the book, or refuses for good.
    fn post(&mut self, origin: &Origin, payment: &Payment, slot: &mut Slot) -> Verdict {
        slot.row.rail = "book".into();
        slot.row.attempts = slot.row.attempts.saturating_add(1);
        match self.book.post(slot.row.row, payment, self.now) {
            Ok(()) => {
                slot.row.rail_ref = Some(RailRef::of_transfer(slot.row.row));
                slot.row.late = payment.late_from.is_some_and(|from| self.now >= from);
                self.finish(origin, State::Settled, slot)
            }
            Err(reason) => {
                slot.row.reasons = vec![reason];
                self.finish(origin, State::Rejected, slot)
            }
        }
    }

    fn finish(&mut self, origin: &Origin, state: State, slot: &mut Slot) -> Verdict {
        slot.row.lane = origin.lane.clone();
        self.end(state, slot);
        self.stands(origin, slot)
    }

    /// A final payment answers an event: its own, or one that asks again.
    fn stands(&mut self, origin: &Origin, slot: &Slot) -> Verdict {
        let row = &slot.row;
        let duplicate = row.event != origin.event;
        if duplicate && !self.events.contains_key(&origin.event) {
            let record = EventRow {
                kind: EventKind::Duplicate,
                references: References::default(),
                ..self.event_row(origin, Some(&row.payment_id), Some(row.amount))
            };
            self.end_event(record);
        }
        self.forget_starts(&origin.event);
        match outcome::of_payment(row) {
            Some(outcome) => Verdict::Final { outcome: Box::new(outcome), duplicate },
            None => Verdict::Foreign,
        }
    }

    fn end_rejected(
        &mut self,
        origin: &Origin,
        id: &PaymentId,
        reasons: Vec<Reason>,
        references: References,
        amount: Option<Money>,
    ) -> Verdict {
        let row = EventRow { reasons, references, ..self.event_row(origin, Some(id), amount) };
        let outcome = Box::new(outcome::of_event(&row, id));
        self.end_event(row);
        Verdict::Final { outcome, duplicate: false }
    }

    fn end_condemned(
        &mut self,
        origin: &Origin,
        why: &DeadReason,
        id: Option<&PaymentId>,
        amount: Option<Money>,
    ) -> Verdict {
        let mut row = self.event_row(origin, id, amount);
        row.kind = EventKind::Condemned;
        row.reasons = vec![Reason::new(why.code(), "", why.text())];
        row.attempts = match why {
            DeadReason::Unreadable(_) | DeadReason::Conflict => u32::try_from(origin.delivery).unwrap_or(u32::MAX),
            DeadReason::Poison { starts } => *starts,
            DeadReason::Exhausted { attempts } => *attempts,
        };
        self.end_event(row.clone());
        Verdict::Condemned(Box::new(row))
    }

    fn condemn(&mut self, origin: &Origin, why: &DeadReason, payment: Option<&PaymentId>) -> Verdict {
        if let Some(row) = self.events.get(&origin.event) {
            if row.requested_at != to_millis(origin.requested_at) {
                return Verdict::Foreign;
            }
            return match row.kind {
                EventKind::Condemned => Verdict::Condemned(Box::new(row.clone())),
                EventKind::Rejected | EventKind::Duplicate => Verdict::Ended,
            };
        }
        // Unread, or refused before it was read again: the payment that this very event asked for may be in doubt.
        let owned = self.payments.iter().find(|(_, slot)| is_own(&slot.row, origin)).map(|(id, _)| id.clone());
        let payment = payment.or(owned.as_ref());
        let mut amount = None;
        if let Some(slot) = payment.and_then(|id| self.payments.get_mut(id)) {
            let (own, row) = (is_own(&slot.row, origin), &mut slot.row);
            match row.state {
                State::Settled | State::Rejected if own => return Verdict::Ended,
                State::Settled | State::Rejected | State::Freed => {}
                State::Open | State::Held => {
                    if row.state == State::Held || row.tracked.is_some() || !rail::all_conclusive(row) {
                        return Verdict::InDoubt;
                    }
                    if own {
                        row.state = State::Freed;
                        row.claim = None;
                        self.days.release(row.reserved.take(), row.amount.minor());
                        amount = Some(row.amount);
                        slot.touch();
                    }
                }
            }
        }
        if let Some(id) = payment {
            self.note(id, &origin.history);
        }
        self.end_condemned(origin, why, payment, amount)
    }

    fn note(&mut self, id: &PaymentId, notes: &[Note]) {
        self.notes.extend(notes.iter().map(|note| (id.clone(), note.clone())));
    }
}

impl Slot {
    fn touch(&mut self) {
        if self.mark == Mark::Stands {
            self.mark = Mark::Changed;
        }
    }
}

/// Whether the payment was first asked for by this very event: a number alone may be another message's.
fn is_own(row: &PaymentRow, origin: &Origin) -> bool {
    row.event == origin.event && row.requested_at == to_millis(origin.requested_at)
}
