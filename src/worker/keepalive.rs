//! Beats for every held event: a third of `ack_wait` after the last answered one the broker hears that the event is
//! still worked on. One task a lane, and no timer for the many events that end before their first beat.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::Instant;

use crate::broker::{Hold, Wire};
use crate::telemetry::metrics::{AckKind, LaneMetrics};

/// Between looks at what is due: fine enough for an `ack_wait` of one second.
const TICK: Duration = Duration::from_millis(50);
/// Beats under way at once.
const CONCURRENT: usize = 64;

/// The events a lane holds.
pub(super) struct Keepalive<W> {
    next: AtomicU64,
    held: Mutex<BTreeMap<u64, Weak<Hold<W>>>>,
    metrics: Arc<LaneMetrics>,
}

/// Keeps one event among those that are beaten for.
pub(super) struct Kept<W: Wire> {
    keepalive: Arc<Keepalive<W>>,
    key: u64,
}

impl<W: Wire> Keepalive<W> {
    pub(super) fn new(metrics: Arc<LaneMetrics>) -> Arc<Self> {
        Arc::new(Self { next: AtomicU64::new(0), held: Mutex::default(), metrics })
    }

    /// Beats for the event until the guard is dropped.
    pub(super) fn keep(self: &Arc<Self>, hold: &Arc<Hold<W>>) -> Kept<W> {
        // Not the sequence: a second delivery of an event still in hand is held beside the first.
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(key, Arc::downgrade(hold));
        Kept { keepalive: Arc::clone(self), key }
    }

    /// Events in hand.
    pub(super) fn held(&self) -> u32 {
        u32::try_from(self.lock().len()).unwrap_or(u32::MAX)
    }

    /// Runs for as long as the lane does.
    pub(super) async fn run(self: Arc<Self>) {
        #[cfg(acquit_sabotage = "no_beats")]
        std::future::pending::<()>().await;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            let due: Vec<Arc<Hold<W>>> =
                self.lock().values().filter_map(Weak::upgrade).filter(|hold| hold.beat_due() <= now).collect();
            stream::iter(due).for_each_concurrent(CONCURRENT, |hold| self.beat(hold)).await;
        }
    }

    async fn beat(&self, hold: Arc<Hold<W>>) {
        if hold.is_void() {
            return;
        }
        let sent = Instant::now();
        // Unanswered, it is due again at the next tick; the deadline moves only with an answer.
        let answered = hold.beat().await.is_ok();
        self.metrics.answered(AckKind::InProgress, answered, sent.elapsed());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Weak<Hold<W>>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Wire> Drop for Kept<W> {
    fn drop(&mut self) {
        self.keepalive.lock().remove(&self.key);
    }
}
