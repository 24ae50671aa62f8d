//! A database in memory: rows by key, the constraints of the schema, nothing else.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::{EventId, LaneName, PaymentId};
use crate::store::{
    AccountKey, AccountRow, AttemptRow, Changes, DayKey, Due, DueList, DueWanted, Ended, EventKind, EventRow, Origin,
    PaymentRow, Rows, StartRow, State, TrackerChange, TrackerRow, TrackerTotals, TransferRow, Wanted,
};

/// What is committed.
#[derive(Default)]
pub(super) struct Db {
    pub(super) payments: BTreeMap<PaymentId, PaymentRow>,
    /// By payment row and number.
    pub(super) attempts: BTreeMap<(i64, u32), AttemptRow>,
    pub(super) events: BTreeMap<EventId, EventRow>,
    pub(super) accounts: BTreeMap<AccountKey, AccountRow>,
    pub(super) transfers: BTreeMap<i64, TransferRow>,
    starts: BTreeMap<EventId, StartRow>,
    /// By payment row.
    pub(super) tracker: BTreeMap<i64, TrackerRow>,
    /// What debtors with a limit have spent.
    pub(super) days: BTreeMap<DayKey, i64>,
    next_payment: i64,
    next_account: i64,
}

/// How an event ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The message id of the outcome event that tells of it.
    Outcome(String),
    /// It leaves as a dead letter.
    Condemned,
}

impl Db {
    /// What stands.
    pub(super) fn rows(&self, wanted: &Wanted, now: Timestamp) -> Rows {
        let mut rows = Rows {
            now,
            next_payment: self.next_payment.saturating_add(1),
            next_account: self.next_account.saturating_add(1),
            payments: std::collections::HashMap::new(),
            events: std::collections::HashMap::new(),
            accounts: std::collections::HashMap::new(),
            starts: std::collections::HashMap::new(),
            trackers: std::collections::HashMap::new(),
            days: std::collections::HashMap::new(),
        };
        let named = wanted.payments.iter().filter_map(|id| self.payments.get(id));
        let owned = self.payments.values().filter(|row| wanted.owners.contains(&row.event));
        for row in named.chain(owned) {
            let row = PaymentRow { tries: self.tries(row), ..row.clone() };
            rows.payments.insert(row.payment_id.clone(), row);
        }
        for id in &wanted.events {
            rows.events.extend(self.events.get(id).map(|row| (id.clone(), row.clone())));
            rows.starts.extend(self.starts.get(id).map(|row| (id.clone(), *row)));
        }
        for key in &wanted.accounts {
            rows.accounts.extend(self.accounts.get(key).map(|row| (key.clone(), row.clone())));
        }
        for lane in &wanted.trackers {
            rows.trackers.insert(lane.clone(), self.totals(lane));
        }
        let reserved: Vec<DayKey> = rows.payments.values().filter_map(|row| row.reserved.clone()).collect();
        for key in wanted.days.iter().chain(&reserved) {
            rows.days.extend(self.days.get(key).map(|sum| (key.clone(), *sum)));
        }
        rows
    }

    fn totals(&self, lane: &LaneName) -> TrackerTotals {
        let mut totals = TrackerTotals::default();
        for row in self.tracker.values().filter(|row| row.lane == *lane) {
            totals.add(1, row.amount, row.tracking.since);
        }
        totals
    }

    /// What is due and free of its tracker.
    pub(super) fn due(&self, wanted: &DueWanted, now: Timestamp) -> DueList {
        let own = format!("{}/", wanted.owner);
        let free = |row: &PaymentRow| {
            row.claim.as_ref().is_none_or(|claim| claim.until <= now || claim.owner.starts_with(&own))
        };
        let mut rows: Vec<&TrackerRow> =
            self.tracker.values().filter(|row| row.lane == wanted.lane && row.tracking.due <= now).collect();
        rows.sort_by_key(|row| row.tracking.due);
        let payment = |of: i64| self.payments.values().find(|row| row.row == of && free(row)).cloned();
        let due = rows.into_iter().filter_map(|row| {
            let origin = Origin::of_tracked(payment(row.payment)?, row.lane.clone());
            Some(Due::new(origin, row.message.clone()))
        });
        DueList { due: due.take(usize::from(wanted.most)).collect(), totals: self.totals(&wanted.lane) }
    }

    /// The attempts that matter for a decision, as the real stores load them.
    fn tries(&self, of: &PaymentRow) -> Vec<AttemptRow> {
        let all = self.attempts.range((of.row, 0)..=(of.row, u32::MAX)).map(|(_, row)| row);
        all.filter(|row| row.ended_at.is_none() || row.ended == Some(Ended::Resubmit) || row.number == of.last_attempt)
            .map(|row| AttemptRow { dirty: false, ..row.clone() })
            .collect()
    }

    /// Writes all of it or nothing; says which constraint forbids it.
    pub(super) fn apply(&mut self, changes: Changes) -> Result<(), &'static str> {
        self.check(&changes)?;
        for (key, row) in changes.new_accounts.into_iter().chain(changes.changed_accounts) {
            self.next_account = self.next_account.max(row.id);
            self.accounts.insert(key, row);
        }
        for mut row in changes.new_payments.into_iter().chain(changes.changed_payments) {
            self.next_payment = self.next_payment.max(row.row);
            for attempt in std::mem::take(&mut row.tries).into_iter().filter(|attempt| attempt.dirty) {
                self.attempts.insert((row.row, attempt.number), attempt);
            }
            self.payments.insert(row.payment_id.clone(), row);
        }
        for change in changes.tracker {
            match change {
                TrackerChange::New(row) => drop(self.tracker.insert(row.payment, row)),
                TrackerChange::Due { payment, tracking } => {
                    if let Some(row) = self.tracker.get_mut(&payment) {
                        row.tracking = tracking;
                    }
                }
                TrackerChange::Gone { payment } => drop(self.tracker.remove(&payment)),
            }
        }
        self.days.extend(changes.new_days.into_iter().chain(changes.changed_days));
        self.transfers.extend(changes.transfers.into_iter().map(|row| (row.payment, row)));
        self.events.extend(changes.events.into_iter().map(|row| (row.event.clone(), row)));
        for (event, start) in changes.starts {
            match start {
                Some(start) => drop(self.starts.insert(event, start)),
                None => drop(self.starts.remove(&event)),
            }
        }
        Ok(())
    }

    fn check(&self, changes: &Changes) -> Result<(), &'static str> {
        let rows_taken = |row: i64| self.payments.values().any(|other| other.row == row);
        if changes.new_payments.iter().any(|new| self.payments.contains_key(&new.payment_id) || rows_taken(new.row)) {
            return Err("a second row of a payment");
        }
        if changes.changed_payments.iter().any(|row| !self.payments.contains_key(&row.payment_id)) {
            return Err("a change of a payment that is not there");
        }
        if changes.transfers.iter().any(|new| self.transfers.contains_key(&new.payment)) {
            return Err("a second transfer of a payment");
        }
        if changes.events.iter().any(|new| self.events.contains_key(&new.event)) {
            return Err("a second end of an event");
        }
        if changes.new_days.iter().any(|(key, _)| self.days.contains_key(key)) {
            return Err("a second row of a day");
        }
        if changes.new_accounts.iter().any(|(key, _)| self.accounts.contains_key(key)) {
            return Err("a second row of an account");
        }
        Ok(())
    }

    /// Whether what an outcome event of this message id tells of is on record.
    pub(super) fn stands(&self, id: &str) -> bool {
        let mut parts = id.splitn(3, ':');
        let (payment, what, event) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let Ok(payment) = PaymentId::parse(payment) else { return false };
        let ended = |kind: EventKind| {
            let event = event.unwrap_or_default();
            let named = |row: &&EventRow| format!("{}.{}", row.event.created_ms, row.event.sequence) == event;
            self.events.values().filter(|row| row.kind == kind).any(|row| named(&row))
        };
        let state = self.payments.get(&payment).map(|row| row.state);
        match (what, event) {
            (Some("settled"), None) => state == Some(State::Settled),
            (Some("rejected"), None) => state == Some(State::Rejected),
            (Some("rejected"), Some(_)) => ended(EventKind::Rejected),
            (Some("dead-lettered"), Some(_)) => ended(EventKind::Condemned),
            // No end: it tells that an attempt was made and its rail has not said enough.
            (Some("held"), None) => self.payments.get(&payment).is_some_and(|row| row.last_attempt > 0),
            _ => false,
        }
    }

    /// In doubt for good: it has expired, so that it may not be sent again, and its rail does not know it, which is no
    /// answer to the attempt. It waits for a person.
    pub(super) fn is_for_person(&self, payment: &str, now: Timestamp) -> bool {
        let row = PaymentId::parse(payment).ok().and_then(|id| self.payments.get(&id));
        row.is_some_and(|row| {
            let tries = self.attempts.range((row.row, 0)..=(row.row, u32::MAX)).map(|(_, attempt)| attempt);
            // One that was sent again may still be answered.
            let mut open = tries.filter(|attempt| attempt.ended.is_none()).peekable();
            row.state == State::Open
                && row.requested_at < now
                && open.peek().is_some()
                && open.all(|attempt| attempt.not_found >= 2)
        })
    }

    /// The payment that the tracker owns in place of this event.
    pub(super) fn tracked_for(&self, event: &EventId) -> Option<&PaymentRow> {
        self.payments.values().find(|row| row.event == *event && self.tracker.contains_key(&row.row))
    }

    /// The first event whose payment is tracked.
    pub(super) fn oldest_tracked(&self) -> Option<u64> {
        let tracked = self.payments.values().filter(|row| self.tracker.contains_key(&row.row));
        tracked.map(|row| row.event.sequence).min()
    }

    /// Whether an attempt of the payment at another rail is without its own answer that it had no effect there. An
    /// answer to a later attempt that covers one given up as not found is none.
    pub(super) fn may_be_at_another(&self, payment: &PaymentId, rail: &str) -> bool {
        let row = self.payments.get(payment).map_or(i64::MIN, |row| row.row);
        let tries = self.attempts.range((row, 0)..=(row, u32::MAX)).map(|(_, attempt)| attempt);
        tries.filter(|attempt| &*attempt.rail != rail).any(|attempt| match attempt.ended {
            Some(Ended::NotSent) => false,
            Some(Ended::Resubmit) => attempt.not_found >= 2,
            Some(Ended::Settled | Ended::Rejected) | None => true,
        })
    }

    /// How the event ended, if it did.
    pub(super) fn end_of(&self, event: &EventId) -> Option<End> {
        if let Some(row) = self.events.get(event) {
            return match row.kind {
                EventKind::Condemned => Some(End::Condemned),
                EventKind::Rejected => {
                    let id = row.payment_id.as_ref()?;
                    Some(End::Outcome(format!("{id}:rejected:{}.{}", event.created_ms, event.sequence)))
                }
                EventKind::Duplicate => outcome_of(self.payments.get(row.payment_id.as_ref()?)?),
            };
        }
        self.payments.values().find(|row| row.event == *event).and_then(outcome_of)
    }
}

fn outcome_of(row: &PaymentRow) -> Option<End> {
    match row.state {
        State::Settled => Some(End::Outcome(format!("{}:settled", row.payment_id))),
        State::Rejected => Some(End::Outcome(format!("{}:rejected", row.payment_id))),
        State::Open | State::Held | State::Freed => None,
    }
}
