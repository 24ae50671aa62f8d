//! The conformance suite, public as `acquit::testing`: the worker's own code in front of a rail of yours, over a
//! database of yours, killed and stopped at chosen steps; then the rail's own ledger is compared with what the store
//! says. It names every payment that was made twice, or not at all.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use acquit::{Backend, Rail};
//! # use acquit::testing::{Ledger, Suite};
//! # async fn test(rail: impl Rail, ledger: impl Ledger, backend: impl Backend) {
//! let report = Suite::new(Arc::new(rail), ledger).run(backend).await;
//! assert!(report.is_certified(), "{report}");
//! # }
//! ```
//!
//! The broker is the simulation's model on the machine's own clock; rail and database are real. The backend must have
//! been provisioned; records of the suite stay in it. Money is really asked for: use a rail of a sandbox. The suite
//! takes as long as the rail's terms make an unknown payment wait: about four times the longest execution and the
//! deadline together, and 15 s.
//!
//! What it cannot show: what the rail does after its key retention, under load, or when it is restored from a backup;
//! and with a ledger that does not count ([`Ledger::counts`]), a second effect under one key that has the first one's
//! reference.

mod between;
mod experiment;
mod report;
mod sample;
mod scene;
mod suite;

use std::future::Future;
use std::sync::Arc;

use crate::domain::{Answer, Finding, Money, RailKey};
use crate::rails::Rail;

pub use experiment::Experiment;
pub use report::{Breach, Kind, Report, Sum, Tried};
pub use sample::{Sample, SampleError};
pub use suite::Suite;

/// Money that moved once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// How much; `None` where the ledger does not say.
    pub amount: Option<Money>,
}

/// What really happened at the rail, told by another way than its answers.
pub trait Ledger: Send + Sync + 'static {
    /// Every effect under a key, one for each time that money moved.
    ///
    /// # Errors
    /// Why the ledger cannot be read now.
    fn effects(&self, key: &RailKey) -> impl Future<Output = Result<Vec<Effect>, String>> + Send;

    /// Whether a second effect under one key would be told of.
    fn counts(&self) -> bool {
        true
    }
}

impl<L: Ledger> Ledger for Arc<L> {
    async fn effects(&self, key: &RailKey) -> Result<Vec<Effect>, String> {
        L::effects(self, key).await
    }

    fn counts(&self) -> bool {
        L::counts(self)
    }
}

/// A rail's own inquiry in place of a ledger: it tells whether a payment was made, not how often or how much.
#[derive(Debug)]
pub struct Inquiry<R>(pub R);

impl<R: Rail> Ledger for Inquiry<R> {
    async fn effects(&self, key: &RailKey) -> Result<Vec<Effect>, String> {
        match self.0.inquire(key).await {
            Finding::Answered(Answer::Settled(_)) => Ok(vec![Effect { amount: None }]),
            Finding::Answered(Answer::Rejected { .. }) | Finding::NotFound => Ok(Vec::new()),
            Finding::Answered(Answer::InProgress | Answer::Blocked | Answer::NotSent(_) | Answer::Unknown)
            | Finding::CannotSay => Err("the inquiry does not say".to_owned()),
        }
    }

    fn counts(&self) -> bool {
        false
    }
}
