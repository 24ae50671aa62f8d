//! A person's word on a payment whose rail does not say what became of it.

use std::time::Duration;

use jiff::Timestamp;

use super::decide::check;
use super::rows::{AttemptRow, State};
use super::{AttemptRecord, PaymentRecord, StoreLost};
use crate::domain::{Code, PaymentId, RailRef};

/// What a person found out, with evidence, about every attempt that has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// The rail settled it, under this reference of its own.
    Settled(RailRef),
    /// The rail refused it for good.
    Rejected(Code),
    /// The rail did not process it and will not: it may be sent again, under the same key.
    ///
    /// Never under the next key, however sure the person is: while the rail remembers the key, it alone keeps a
    /// mistaken person from paying twice.
    NotProcessed,
}

/// One resolution, which is on record in the audit stream by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The payment in doubt.
    pub payment_id: PaymentId,
    /// What was found out.
    pub ruling: Ruling,
    /// The number of the last attempt that the person knew of: a later one is not meant.
    pub last_attempt: u32,
    /// How long after it was recorded an attempt may still take effect at the rail. A younger one is only settled.
    pub longest: Duration,
    /// Sequence of its record in the audit stream, for the payment's life.
    pub record: u64,
}

impl Resolution {
    /// What it would do to what was read, at `now`.
    ///
    /// # Errors
    /// What stands in its way.
    pub fn look(&self, record: &PaymentRecord, now: Timestamp) -> Result<Resolved, Refusal> {
        let Some(mut row) = record.payment.clone() else { return Err(Refusal::Unseen) };
        row.tries = record.attempts.iter().map(|attempt| tried(row.row, attempt)).collect();
        check(&row, self, now)
    }
}

fn tried(payment: i64, attempt: &AttemptRecord) -> AttemptRow {
    let AttemptRecord { number, leg, rail, started_at, ended, ended_at, not_found, in_progress_at } = attempt;
    AttemptRow {
        payment,
        number: *number,
        leg: *leg,
        rail: rail.as_str().into(),
        started_at: *started_at,
        ended: *ended,
        ended_at: *ended_at,
        not_found: *not_found,
        in_progress_at: *in_progress_at,
        dirty: false,
    }
}

/// What a resolution did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    /// It is on record as the answer of every attempt that had none.
    Recorded,
    /// The same stood already; nothing was written.
    Stood,
}

/// Why a resolution was not recorded. Nothing was written then, but for [`Unresolved::Lost`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// Whether it was recorded is not known; the same again is safe.
    #[error("{0}")]
    Lost(StoreLost),
    /// Its words say what stands.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What stands in the way of a resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such payment.
    #[error("the store has no such payment")]
    Unseen,
    /// The payment has its end.
    #[error("the payment is final: it is {}", .0.word())]
    Final(State),
    /// Every attempt has its conclusive answer.
    #[error("the payment is not in doubt: every attempt has a conclusive answer")]
    NotInDoubt,
    /// It was sent again meanwhile.
    #[error("the payment was sent again meanwhile: look at it again")]
    Moved,
    /// It contradicts what the rail itself said.
    #[error("the rail itself has refused an attempt of this payment, under another code or for good")]
    RailSaid,
    /// The rail may still execute an attempt.
    #[error("an attempt may still take effect at the rail for {} s: wait, then ask the rail again", .left.as_secs().saturating_add(1))]
    TooEarly {
        /// For that long.
        left: Duration,
    },
}
