//! What debtors have spent of their limits: a sum per account, currency and day, reserved where a payment is claimed
//! and given back where it ends without money having moved. Pure.

use std::collections::HashMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::super::rows::{DayKey, Mark};
use crate::domain::{Code, Payment, Reason};
use crate::intake::Allowance;

/// How long a day's sums are kept: well past the age at which a stream deletes its events, which are counted on the day
/// of their own. A day that is forgotten would begin anew.
const DAYS_KEPT: i32 = 62;

/// The sums of one group of requests, and what the group did to them.
pub(super) struct Days {
    sums: HashMap<DayKey, (i64, Mark)>,
}

/// What the group did to the sums.
#[derive(Default)]
pub(super) struct Spent {
    pub(super) new: Vec<(DayKey, i64)>,
    pub(super) changed: Vec<(DayKey, i64)>,
    pub(super) forget_before: Option<Date>,
}

impl Days {
    pub(super) fn new(sums: HashMap<DayKey, i64>) -> Self {
        Self { sums: sums.into_iter().map(|(key, sum)| (key, (sum, Mark::Stands))).collect() }
    }

    /// Whether what the debtor has spent that day leaves room for the payment; says why not.
    pub(super) fn room(&self, payment: &Payment, allowance: Option<Allowance>) -> Result<(), Reason> {
        let Some(Allowance { day, most }) = allowance else { return Ok(()) };
        let spent = self.sums.get(&DayKey::of(payment, day)).map_or(0, |(sum, _)| *sum);
        match spent.checked_add(payment.amount.minor()) {
            Some(sum) if sum <= most => Ok(()),
            Some(_) | None => Err(Reason::new(
                Code::AM14,
                "/amount/value",
                "the debtor account's limit for the day does not cover the amount",
            )),
        }
    }

    /// Takes what [`Days::room`] has found room for; gives the name it is reserved under.
    pub(super) fn reserve(&mut self, payment: &Payment, allowance: Option<Allowance>) -> Option<DayKey> {
        let key = DayKey::of(payment, allowance?.day);
        let (sum, mark) = self.sums.entry(key.clone()).or_insert((0, Mark::New));
        *sum = sum.saturating_add(payment.amount.minor());
        if *mark == Mark::Stands {
            *mark = Mark::Changed;
        }
        Some(key)
    }

    /// Gives back what was reserved. A day that is forgotten by now has nothing to be given back to.
    pub(super) fn release(&mut self, reserved: Option<DayKey>, minor: i64) {
        if let Some((sum, mark)) = reserved.and_then(|key| self.sums.get_mut(&key)) {
            *sum = sum.saturating_sub(minor).max(0);
            if *mark == Mark::Stands {
                *mark = Mark::Changed;
            }
        }
    }

    /// What is to be written; where days were added, old ones go.
    pub(super) fn into_spent(self, now: Timestamp) -> Spent {
        let mut spent = Spent::default();
        for (key, (sum, mark)) in self.sums {
            match mark {
                Mark::Stands => {}
                Mark::Changed => spent.changed.push((key, sum)),
                Mark::New => spent.new.push((key, sum)),
            }
        }
        // One order in every process: two that write the same days wait for each other and do not deadlock.
        spent.new.sort_unstable();
        spent.changed.sort_unstable();
        if !spent.new.is_empty() {
            spent.forget_before = TimeZone::UTC.to_datetime(now).date().checked_sub(DAYS_KEPT.days()).ok();
        }
        spent
    }
}
