//! A check before settlement: screening, or limits of one's own. It says whether a payment may go on; it makes no
//! proof, and it cannot pass the store by.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use crate::domain::{Code, Payment};

/// What a check says to a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleared {
    /// It may be settled.
    Clear,
    /// A person has to look into it. The event waits and the check is asked again at each of its redeliveries, so that
    /// a release over there lets it go on.
    Hold(CaseRef),
    /// It is refused by our rules, under this code. The words that go with it are the code's own and say no more.
    Refuse(Code),
    /// It cannot say now. The payment waits, however long that takes: it is neither settled nor charged nor given up.
    Unavailable,
}

/// What the checking system calls a case. Only a reference of 1 to 64 characters of `[A-Za-z0-9._:-]` is kept, for the
/// log and for `explain`; any other text might hold what nobody may read there.
#[derive(Clone, PartialEq, Eq)]
pub struct CaseRef(Option<Box<str>>);

impl CaseRef {
    /// The case of this reference.
    #[must_use]
    pub fn new(reference: &str) -> Self {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
        let kept = (1..=64).contains(&reference.len()) && reference.bytes().all(plain);
        Self(kept.then(|| reference.into()))
    }

    /// The reference, where it was well formed.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Display for CaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str().unwrap_or("without a well-formed reference"))
    }
}

impl fmt::Debug for CaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaseRef({self})")
    }
}

/// Asked before a payment is settled. Implement it to bring your own.
///
/// The store answers first: a check is asked only where nothing stands that could still move money or has moved it, so
/// no later word of its undoes a payment. It is asked at each delivery of such an event, for up to as many payments at
/// once as the lane has slots, and must give one payment the same case each time. It sees the scheme: where the law of
/// a scheme forbids screening each payment (SEPA instant credit transfers, against the EU's lists), it says `Clear`.
///
/// A breaker watches it. While it does not answer, nothing is pulled.
pub trait Check: Send + Sync + 'static {
    /// Says whether the payment may be settled. Dropped at its deadline; that, and a panic, is
    /// [`Cleared::Unavailable`].
    fn check(&self, payment: &Payment) -> impl Future<Output = Cleared> + Send;

    /// How long an answer is waited for. A shutdown waits for it as well: the lane's grace time must hold it.
    fn deadline(&self) -> Duration {
        Duration::from_secs(2)
    }
}

/// A check without its type.
pub(crate) trait Ask: Send + Sync {
    /// What it says; else in a few words why it says nothing.
    fn ask<'a>(&'a self, payment: &'a Payment) -> BoxFuture<'a, Result<Cleared, &'static str>>;
}

impl<C: Check> Ask for C {
    fn ask<'a>(&'a self, payment: &'a Payment) -> BoxFuture<'a, Result<Cleared, &'static str>> {
        // Called within the future, so that a panic before the first await is caught as well.
        let guarded = AssertUnwindSafe(async move { self.check(payment).await }).catch_unwind();
        Box::pin(async move {
            match timeout(self.deadline(), guarded).await {
                Ok(Ok(said)) => Ok(said),
                Ok(Err(_)) => Err("it panicked"),
                Err(_) => Err("no answer within its deadline"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_case_reference_is_ever_shown() {
        let long = "A".repeat(65);
        for text in ["", "Jane Doe", "GB29 NWBK", "case/7", "é", long.as_str()] {
            assert_eq!(CaseRef::new(text).as_str(), None);
            assert_eq!(format!("{:?}", CaseRef::new(text)), "CaseRef(without a well-formed reference)");
        }
        assert_eq!(CaseRef::new("SCR-2026:00_1.7").as_str(), Some("SCR-2026:00_1.7"));
    }
}
