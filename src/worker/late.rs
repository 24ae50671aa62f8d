//! Calls to a rail that outlive the time their event may be held: the answer still counts, so whoever gets the event
//! next in this process waits for it too.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;

use crate::domain::{Answer, PaymentId};
use crate::store::Doubt;

/// Calls kept at once. One more is not kept: the rail is then only inquired of.
const CALLS_MAX: usize = 4_096;

/// A call under way, or its answer.
pub(super) type Call = JoinHandle<Answer>;

/// The calls of a lane, each with the attempt that it is.
#[derive(Default)]
pub(super) struct LateCalls(Mutex<HashMap<PaymentId, (u32, Call)>>);

impl LateCalls {
    /// Keeps the call of the attempt in doubt.
    pub(super) fn keep(&self, doubt: &Doubt, call: Call) {
        let mut calls = self.lock();
        if calls.len() >= CALLS_MAX {
            // An answer nobody came for: its event is another process's by now.
            calls.retain(|_, (_, call)| !call.is_finished());
        }
        if calls.len() < CALLS_MAX {
            calls.insert(doubt.payment_id().clone(), (doubt.attempt(), call));
        }
    }

    /// The call of this very attempt; one of an earlier attempt has been overtaken.
    pub(super) fn take(&self, doubt: &Doubt) -> Option<Call> {
        let (attempt, call) = self.lock().remove(doubt.payment_id())?;
        (attempt == doubt.attempt()).then_some(call)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PaymentId, (u32, Call)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
