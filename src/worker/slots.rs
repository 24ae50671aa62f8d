//! The bounds of what a lane holds: slots and bytes for events in hand, the parked budget for those handed back with
//! a delay, which the broker still counts against `max_ack_pending`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Slots and bytes of one lane. Only the pull loop takes; events give back when they end.
pub(super) struct Slots {
    limit: u32,
    bytes_limit: u64,
    free: AtomicU32,
    /// What the rail bears; never above the limit. The second rail's beside it.
    allowed: [AtomicU32; 2],
    /// Whether what is pulled now is the second rail's.
    over_second: AtomicBool,
    /// Held for payments in doubt: they make no call.
    aside: AtomicU32,
    held_bytes: AtomicU64,
    freed: Notify,
}

/// One event's slot; dropped, it is free again.
pub(super) struct Slot {
    slots: Arc<Slots>,
    bytes: u64,
}

/// Keeps one held slot out of what the rail's limit counts.
pub(super) struct Aside(Arc<Slots>);

impl Slots {
    pub(super) fn new(limit: u16, bytes_limit: u32) -> Arc<Self> {
        Arc::new(Self {
            limit: u32::from(limit),
            bytes_limit: u64::from(bytes_limit),
            free: AtomicU32::new(u32::from(limit)),
            allowed: [AtomicU32::new(u32::from(limit)), AtomicU32::new(u32::from(limit))],
            over_second: AtomicBool::new(false),
            aside: AtomicU32::new(0),
            held_bytes: AtomicU64::new(0),
            freed: Notify::new(),
        })
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// Slots that are neither held nor promised to a pull.
    pub(super) fn free(&self) -> u32 {
        self.free.load(Ordering::Acquire)
    }

    /// Free slots that may be promised now: no more than the rail bears beside what is on its way to it.
    pub(super) fn room(&self) -> u32 {
        let counted = self.used().saturating_sub(self.aside.load(Ordering::Acquire));
        self.free().min(self.allowed().saturating_sub(counted))
    }

    /// How many events may be on their way to the rail, or at it.
    pub(super) fn allowed(&self) -> u32 {
        let [first, second] = &self.allowed;
        let over = if self.over_second.load(Ordering::Acquire) { second } else { first };
        over.load(Ordering::Acquire)
    }

    /// Sets that for a rail, from 1 to the limit.
    pub(super) fn allow(&self, second: bool, events: u32) {
        let [first, other] = &self.allowed;
        let of = if second { other } else { first };
        of.store(events.clamp(1, self.limit.max(1)), Ordering::Release);
        self.freed.notify_one();
    }

    /// Says which rail what is pulled now is for.
    pub(super) fn go_over(&self, second: bool) {
        self.over_second.store(second, Ordering::Release);
    }

    /// Keeps a held slot out of what is counted against it, until the guard is dropped.
    pub(super) fn aside(self: &Arc<Self>) -> Aside {
        self.aside.fetch_add(1, Ordering::AcqRel);
        self.freed.notify_one();
        Aside(Arc::clone(self))
    }

    /// Events in hand or promised.
    pub(super) fn used(&self) -> u32 {
        self.limit.saturating_sub(self.free())
    }

    /// How many events of at most `largest` bytes fit beside what is held and promised.
    pub(super) fn fit(&self, promised: u32, largest: u64) -> u32 {
        let promised = u64::from(promised).saturating_mul(largest);
        let held = self.held_bytes.load(Ordering::Acquire).saturating_add(promised);
        let left = self.bytes_limit.saturating_sub(held).checked_div(largest.max(1)).unwrap_or(0);
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// Promises `n` slots to a pull; `n` is at most [`Slots::free`], and only the pull loop calls this.
    pub(super) fn promise(&self, n: u32) {
        self.free.fetch_sub(n.min(self.free()), Ordering::AcqRel);
    }

    /// Returns promised slots that no event came for.
    pub(super) fn give_back(&self, n: u32) {
        self.free.fetch_add(n, Ordering::AcqRel);
        self.freed.notify_one();
    }

    /// A promised slot becomes an event's.
    pub(super) fn fill(self: &Arc<Self>, bytes: usize) -> Slot {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.held_bytes.fetch_add(bytes, Ordering::AcqRel);
        Slot { slots: Arc::clone(self), bytes }
    }

    /// Wakes when enough slots are free for the next pull to be worth its while, and when the last one is.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// The number of free slots from which a further pull is worth its while.
    pub(super) fn worthwhile(&self) -> u32 {
        (self.allowed() / 4).max(1)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.0.aside.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.held_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        let free = self.slots.free.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        // A wake-up for every event would cost more than the pull; all-free catches what the threshold misses.
        if free.is_multiple_of(self.slots.worthwhile()) || free == self.slots.limit {
            self.slots.freed.notify_one();
        }
    }
}

/// Hand-backs whose delay is not over.
#[derive(Default)]
pub(super) struct Parked(Mutex<BinaryHeap<Reverse<Instant>>>);

impl Parked {
    /// Notes a hand-back.
    pub(super) fn park(&self, delay: Duration) {
        let now = Instant::now();
        self.lock().push(Reverse(now.checked_add(delay).unwrap_or(now)));
    }

    /// How many are waiting now.
    pub(super) fn count(&self) -> usize {
        let now = Instant::now();
        let mut parked = self.lock();
        while parked.peek().is_some_and(|Reverse(end)| *end <= now) {
            parked.pop();
        }
        parked.len()
    }

    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Instant>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_bytes_bound_what_may_be_asked_for() {
        let slots = Slots::new(8, 1000);
        slots.promise(3);
        assert_eq!((slots.free(), slots.used()), (5, 3));
        let slot = slots.fill(400);
        // 400 held, 2 promised at 100 each: 400 bytes left, four events of 100.
        assert_eq!(slots.fit(2, 100), 4);
        drop(slot);
        slots.give_back(2);
        assert_eq!((slots.free(), slots.fit(0, 100)), (8, 10));
    }

    #[test]
    fn what_the_rail_bears_bounds_what_is_asked_for_beside_what_is_in_doubt() {
        let slots = Slots::new(8, 1000);
        slots.allow(false, 3);
        assert_eq!((slots.room(), slots.free(), slots.worthwhile()), (3, 8, 1));
        slots.promise(3);
        assert_eq!(slots.room(), 0);
        let aside = slots.aside();
        assert_eq!(slots.room(), 1);
        drop(aside);
        slots.allow(false, 100);
        assert_eq!((slots.room(), slots.allowed()), (5, 8));
        slots.allow(false, 0);
        assert_eq!(slots.allowed(), 1);
        slots.allow(true, 2);
        slots.go_over(true);
        assert_eq!(slots.allowed(), 2);
    }
}
