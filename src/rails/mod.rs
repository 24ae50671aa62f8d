//! A rail settles payments somewhere else. It claims ([`Answer`]); it never holds a receipt. A [`Check`] is asked
//! before.

#[cfg(acquit_cheats)]
#[path = "../../tests/cheats/rails.rs"]
mod cheats;
mod check;
pub mod http;

use std::future::Future;
use std::time::Duration;

use crate::domain::{Answer, Finding, RailKey};
use crate::store::Order;

pub(crate) use check::Ask;
pub use check::{CaseRef, Check, Cleared};

/// What a rail promises about time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The longest a submission may take effect after it was sent.
    pub longest_execution: Duration,
    /// How long the rail remembers an idempotency key.
    pub key_retention: Duration,
    /// How long one call is waited for before its outcome counts as unknown.
    pub deadline: Duration,
}

/// A settlement service. Implement it to bring your own.
///
/// The same order may be submitted again under the same key after a crash; a rail must make that one effect. The
/// future is run in a task of its own and is never dropped while the process lives.
pub trait Rail: Send + Sync + 'static {
    /// A constant name, kept with every attempt.
    fn name(&self) -> &'static str;
    /// Its promises about time.
    fn terms(&self) -> Terms;
    /// Asks for the payment to be made. Anything but proof is [`Answer::Unknown`].
    fn submit(&self, order: &Order) -> impl Future<Output = Answer> + Send;
    /// Whether [`Rail::inquire`] asks anybody. What it is answered moves a breaker of its own, and may probe a rail that
    /// was down; a rail without a status call says no.
    fn answers_inquiries(&self) -> bool {
        true
    }
    /// Asks what became of a key.
    fn inquire(&self, _key: &RailKey) -> impl Future<Output = Finding> + Send {
        async { Finding::CannotSay }
    }
}

/// The rail of a worker whose lanes all settle in the book. It has no value.
#[derive(Debug, Clone, Copy)]
pub enum NoRail {}

impl Rail for NoRail {
    fn name(&self) -> &'static str {
        match *self {}
    }

    fn terms(&self) -> Terms {
        match *self {}
    }

    async fn submit(&self, _order: &Order) -> Answer {
        match *self {}
    }
}
