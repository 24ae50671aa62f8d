//! What an operator may do to a running worker: hold a lane's settlement breaker open or closed, or let it go.
//!
//! A handle of its own: who only looks gets a [`super::StatusHandle`] and cannot steer.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use serde::Serialize;

use super::context::Context;
use crate::broker::Wire;
use crate::rails::Rail;
use crate::resilience::Forced;

/// What an operator holds a settlement breaker to. It ends with the process.
#[derive(Debug, Clone, Serialize)]
pub struct Hold {
    /// `forced_open` or `forced_closed`.
    pub to: &'static str,
    /// In whose name.
    pub who: String,
    /// For what reason.
    pub why: String,
    /// Sequence of its record in the audit stream, as whoever asked for it said.
    pub record: u64,
    /// Since when, by this machine's clock.
    pub since: Timestamp,
}

/// One order to a settlement breaker.
#[derive(Debug, Clone, Copy)]
pub struct BreakerOrder<'a> {
    /// What to hold it to; `None` gives it back to its own judgement.
    pub forced: Option<Forced>,
    /// In whose name.
    pub who: &'a str,
    /// For what reason.
    pub why: &'a str,
    /// Sequence of its record in the audit stream.
    pub record: u64,
}

/// What an order did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forcing {
    /// The breaker's state before, as it is shown.
    pub was: &'static str,
    /// Its state now.
    pub is: &'static str,
}

pub(super) trait Steer: Send + Sync {
    fn lane(&self) -> &str;
    fn force(&self, order: BreakerOrder<'_>) -> Forcing;
}

/// A handle to steer a worker's lanes with; empty before it runs.
#[derive(Clone, Default)]
pub struct ControlHandle(Arc<RwLock<Vec<Arc<dyn Steer>>>>);

impl ControlHandle {
    /// Gives an order to a lane's settlement breaker; `None` where there is no such lane. The same order again
    /// changes nothing but the name and the reason.
    pub fn force(&self, lane: &str, order: BreakerOrder<'_>) -> Option<Forcing> {
        let lanes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        lanes.iter().find(|one| one.lane() == lane).map(|one| one.force(order))
    }

    pub(super) fn set<W: Wire, R: Rail>(&self, contexts: &[Arc<Context<W, R>>]) {
        let lanes = contexts.iter().map(|ctx| Arc::clone(ctx) as Arc<dyn Steer>).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = lanes;
    }
}

impl<W: Wire, R: Rail> Steer for Context<W, R> {
    fn lane(&self) -> &str {
        self.name()
    }

    fn force(&self, order: BreakerOrder<'_>) -> Forcing {
        self.gates.force(order)
    }
}
