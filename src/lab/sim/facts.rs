//! What happened, as the surroundings saw it: whom the check cleared, what the broker stored, how full the tracker was.
//! The worker has no part in it, so that what it does can be judged by it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::Instant;

use super::db::{Db, End};
use super::plan::Plan;
use crate::domain::PaymentId;
use crate::intake::Scheme;
use crate::store::{AccountKey, Changes, DayKey, PaymentRow, State, TrackLimits, TrackerChange, TrackerTotals};
use crate::worker::{InProgress, Lane};

/// How long a tracker may be full until each worker's gate is shut: a sweep finds it, and a sweep may have to wait for a
/// rail and a store that are slow.
const NOTICED: Duration = Duration::from_secs(8);

/// What the surroundings know.
#[derive(Default)]
pub(super) struct Facts {
    /// Message ids of the outcome events in the stream.
    told: BTreeSet<String>,
    /// When the check last cleared a payment, by the process that asked.
    cleared: BTreeMap<(String, PaymentId), Instant>,
    /// Payments that the check has said `Hold` to, or `Refuse`.
    pub(super) held: BTreeSet<PaymentId>,
    pub(super) refused: BTreeSet<PaymentId>,
    /// Debtor accounts of what was published.
    debtors: BTreeMap<PaymentId, String>,
    zones: BTreeMap<String, TimeZone>,
    limited: BTreeMap<&'static str, i64>,
    tracker: Option<TrackLimits>,
    full_since: Option<Instant>,
    pub(super) ever_tracked: BTreeSet<PaymentId>,
    screened: bool,
    /// How long after a clearance a payment may still be begun: an event's time in hand and a slow commit.
    fresh: Duration,
}

impl Facts {
    /// Of a history before it begins.
    pub(super) fn new(plan: &Plan, lane: &Lane, debtors: BTreeMap<PaymentId, String>) -> Self {
        let zone = |scheme: &Scheme| (scheme.name.as_str().to_owned(), scheme.zone.clone());
        let tracker = match &lane.in_progress {
            InProgress::Track(policy) => Some(policy.limits.clone()),
            InProgress::Hold => None,
        };
        Self {
            debtors,
            zones: lane.rules.schemes().iter().map(zone).collect(),
            limited: lane
                .rules
                .debtor_daily_limits()
                .iter()
                .map(|most| (most.currency().code(), most.minor()))
                .collect(),
            tracker,
            screened: plan.screened,
            fresh: plan.ack_wait.saturating_mul(2).saturating_add(Duration::from_secs(30)),
            ..Self::default()
        }
    }

    /// An outcome event is in the stream.
    pub(super) fn tell(&mut self, id: &str) {
        self.told.insert(id.to_owned());
    }

    pub(super) fn is_told(&self, id: &str) -> bool {
        self.told.contains(id)
    }

    /// The check clears a payment for a process.
    pub(super) fn clear(&mut self, life: &str, payment: &PaymentId) {
        self.cleared.insert((life.to_owned(), payment.clone()), Instant::now());
    }

    /// Whether the check has cleared the payment for anybody.
    pub(super) fn is_cleared(&self, payment: &PaymentId) -> bool {
        !self.screened || self.cleared.keys().any(|(_, cleared)| cleared == payment)
    }

    /// Whether the tracker has been full for so long that a process that began at `began` must have seen it.
    pub(super) fn is_tracker_full_since(&self, began: Instant) -> bool {
        self.full_since.is_some_and(|since| since.max(began).elapsed() > NOTICED)
    }

    /// What may never stand after a commit by `life`; `before` are the rows that `changes` replaced.
    ///
    /// I14: a payment is begun only by a process that the check has just cleared it for.
    /// I15: the tracker keeps its bound in count and in money, and lets go of no payment before its outcome is told.
    /// I16: a debtor's day is the sum of what has settled and what is in doubt, and never above its limit.
    pub(super) fn judge(&mut self, life: &str, changes: &Changes, before: &[PaymentRow], db: &Db) -> Option<String> {
        let begun = self.begun(life, changes, before);
        begun.or_else(|| self.tracker(changes, db)).or_else(|| self.days(db))
    }

    fn begun(&self, life: &str, changes: &Changes, before: &[PaymentRow]) -> Option<String> {
        if !self.screened {
            return None;
        }
        let begins = |row: &&PaymentRow| {
            let old = before.iter().find(|old| old.row == row.row);
            old.is_none_or(|old| old.state == State::Freed) && row.state != State::Freed
        };
        let rows = changes.new_payments.iter().chain(&changes.changed_payments).filter(begins);
        let unchecked = rows.map(|row| &row.payment_id).find(|id| {
            let cleared = self.cleared.get(&(life.to_owned(), (*id).clone()));
            cleared.is_none_or(|at| at.elapsed() > self.fresh)
        });
        unchecked.map(|id| format!("I14: {life} begins {id}, which the check has not cleared for it"))
    }

    fn tracker(&mut self, changes: &Changes, db: &Db) -> Option<String> {
        let limits = self.tracker.as_ref()?;
        if changes.tracker.is_empty() {
            return None;
        }
        let mut totals = TrackerTotals::default();
        for row in db.tracker.values() {
            totals.add(1, row.amount, row.tracking.since);
        }
        let over = totals.minor.iter().find(|(code, sum)| limits.minor.get(*code).is_some_and(|most| *sum > most));
        if totals.count > u64::from(limits.count) || over.is_some() {
            return Some(format!("I15: the tracker holds {} payments, {over:?} of {limits:?}", totals.count));
        }
        let full = totals.count >= u64::from(limits.count);
        self.full_since = if full { self.full_since.or_else(|| Some(Instant::now())) } else { None };
        let row = |number: i64| db.payments.values().find(|row| row.row == number);
        for change in &changes.tracker {
            let (payment, gone) = match change {
                TrackerChange::New(new) => (row(new.payment)?, false),
                TrackerChange::Gone { payment } => (row(*payment)?, true),
                TrackerChange::Due { .. } => continue,
            };
            self.ever_tracked.insert(payment.payment_id.clone());
            let told = matches!(db.end_of(&payment.event), Some(End::Outcome(id)) if self.is_told(&id));
            if gone && !told {
                return Some(format!("I15: the tracker lets go of {} before its outcome is told", payment.payment_id));
            }
        }
        None
    }

    fn days(&self, db: &Db) -> Option<String> {
        if self.limited.is_empty() {
            return None;
        }
        let mut spent: BTreeMap<DayKey, i64> = db.days.keys().map(|key| (key.clone(), 0)).collect();
        for row in db.payments.values() {
            match row.state {
                State::Settled | State::Open | State::Held => {}
                State::Rejected | State::Freed => continue,
            }
            if let Some(key) = self.day(row) {
                let sum = spent.entry(key).or_default();
                *sum = sum.saturating_add(row.amount.minor());
            }
        }
        for (key, sum) in spent {
            let most = self.limited.get(key.account.currency).copied().unwrap_or(0);
            let recorded = db.days.get(&key).copied().unwrap_or(0);
            if sum != recorded || sum > most {
                return Some(format!("I16: {key:?}: {sum} settled or in doubt, {recorded} reserved, {most} allowed"));
            }
        }
        None
    }

    /// The day that a payment counts on, where its debtor has a limit.
    fn day(&self, row: &PaymentRow) -> Option<DayKey> {
        self.limited.get(row.amount.currency().code())?;
        let (zone, debtor) = (self.zones.get(row.scheme.as_str())?, self.debtors.get(&row.payment_id)?);
        let account = AccountKey::new(debtor, row.amount.currency());
        Some(DayKey { day: date(zone, row.requested_at), account })
    }
}

fn date(zone: &TimeZone, at: Timestamp) -> jiff::civil::Date {
    zone.to_datetime(at).date()
}
