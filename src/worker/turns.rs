//! Turns at the rail: no more calls are under way than the lane's limit allows, and what becomes of them moves it.
//!
//! The limit bounds what is pulled, too: an event that would only wait for its turn is better left to another worker.
//! A lane that settles in the book takes no turns, so its limit stays at its slots.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::slots::Slots;
use crate::domain::{Answer, NotSent};
use crate::resilience::{LimitPolicy, Limiter, Load};
use crate::telemetry::metrics::LaneMetrics;

/// The turns at one rail of a lane.
pub(super) struct Turns {
    places: Arc<Semaphore>,
    inner: Mutex<Inner>,
    slots: Arc<Slots>,
    metrics: Arc<LaneMetrics>,
    /// Whether they are the second rail's.
    second: bool,
}

struct Inner {
    limiter: Option<Limiter>,
    limit: u32,
    /// Places that are gone as soon as their calls end.
    owed: u32,
}

/// The right to make one call; dropped, it is the next one's.
pub(super) struct Turn {
    turns: Arc<Turns>,
    place: Option<OwnedSemaphorePermit>,
    began: Instant,
    under_way: u32,
}

impl Turns {
    /// Without a policy the limit is the lane's slots for good.
    pub(super) fn new(
        policy: Option<LimitPolicy>,
        deadline: Duration,
        slots: Arc<Slots>,
        metrics: Arc<LaneMetrics>,
        second: bool,
    ) -> Arc<Self> {
        let most = NonZeroU32::new(slots.limit()).unwrap_or(NonZeroU32::MIN);
        let limiter = policy.map(|policy| Limiter::new(policy, most, deadline));
        let limit = limiter.as_ref().map_or(most.get(), Limiter::limit);
        let turns = Self {
            places: Arc::new(Semaphore::new(usize::try_from(limit).unwrap_or(Semaphore::MAX_PERMITS))),
            inner: Mutex::new(Inner { limiter, limit, owed: 0 }),
            slots,
            metrics,
            second,
        };
        turns.show(limit);
        Arc::new(turns)
    }

    /// How many calls may be under way.
    pub(super) fn limit(&self) -> u32 {
        self.lock().limit
    }

    /// Waits for a turn until `deadline` or `stop`, first come, first served. Cancel-safe.
    pub(super) async fn turn(self: &Arc<Self>, deadline: Instant, stop: &CancellationToken) -> Option<Turn> {
        let place = Arc::clone(&self.places).acquire_owned();
        let place = tokio::select! {
            biased;
            place = place => place.ok()?,
            () = stop.cancelled() => return None,
            () = tokio::time::sleep_until(deadline) => return None,
        };
        let inner = self.lock();
        let free = u32::try_from(self.places.available_permits()).unwrap_or(u32::MAX);
        let under_way = inner.limit.saturating_add(inner.owed).saturating_sub(free);
        drop(inner);
        Some(Turn { turns: Arc::clone(self), place: Some(place), began: Instant::now(), under_way })
    }

    fn seen(&self, began: Instant, took: Duration, load: Load, under_way: u32) {
        let mut inner = self.lock();
        let was = inner.limit;
        let Some(limiter) = &mut inner.limiter else { return };
        let limit = limiter.seen(began.into_std(), took, load, under_way);
        if limit == was {
            return;
        }
        inner.limit = limit;
        if limit > was {
            let more = limit.saturating_sub(was);
            let kept = more.min(inner.owed);
            inner.owed = inner.owed.saturating_sub(kept);
            self.places.add_permits(usize::try_from(more.saturating_sub(kept)).unwrap_or(0));
        } else {
            let fewer = was.saturating_sub(limit);
            let gone = self.places.forget_permits(usize::try_from(fewer).unwrap_or(0));
            let gone = u32::try_from(gone).unwrap_or(fewer);
            inner.owed = inner.owed.saturating_add(fewer.saturating_sub(gone));
        }
        drop(inner);
        self.show(limit);
    }

    fn show(&self, limit: u32) {
        self.slots.allow(self.second, limit);
        if self.second {
            self.metrics.second_limit(limit);
        } else {
            self.metrics.in_flight_limit.set(f64::from(limit));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The call is over, or no longer waited for (`late`): it counts.
    pub(super) fn seen(self, answer: &Answer, late: bool, took: Duration) {
        if let Some(load) = load(answer, late) {
            self.turns.seen(self.began, took, load, self.under_way);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        let mut inner = self.turns.lock();
        if inner.owed > 0 {
            inner.owed = inner.owed.saturating_sub(1);
            place.forget();
        }
    }
}

/// What an answer says about the rail's room. What never reached it, or was lost on the way, says nothing.
fn load(answer: &Answer, late: bool) -> Option<Load> {
    match answer {
        Answer::Settled(_) | Answer::InProgress | Answer::Rejected { .. } | Answer::Blocked => Some(Load::Answered),
        Answer::NotSent(NotSent::SaidNotProcessed { .. }) => Some(Load::Overloaded),
        Answer::NotSent(NotSent::Resolve | NotSent::Connect | NotSent::Tls | NotSent::Pool | NotSent::OurFault) => None,
        Answer::Unknown => late.then_some(Load::Overloaded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(policy: Option<LimitPolicy>) -> (Arc<Turns>, Arc<Slots>) {
        let (slots, metrics) = (Slots::new(64, 1 << 20), Arc::new(LaneMetrics::new("lane", "STREAM", "consumer")));
        (Turns::new(policy, Duration::from_secs(1), Arc::clone(&slots), metrics, false), slots)
    }

    async fn try_turn(turns: &Arc<Turns>) -> Option<Turn> {
        turns.turn(Instant::now(), &CancellationToken::new()).await
    }

    async fn all(turns: &Arc<Turns>) -> Vec<Turn> {
        let mut taken = Vec::new();
        while let Some(turn) = try_turn(turns).await {
            taken.push(turn);
        }
        taken
    }

    #[tokio::test]
    async fn no_more_turns_are_out_than_the_limit_and_a_smaller_one_waits_for_those_that_are() {
        let (turns, slots) = lane(Some(LimitPolicy::default()));
        let mut out = all(&turns).await;
        assert_eq!((out.len(), slots.room()), (16, 16));
        // A rail without room: half as many, once those above it are over.
        for _ in 0..2 {
            let busy = Answer::NotSent(NotSent::SaidNotProcessed { retry_after: None });
            out.pop().unwrap().seen(&busy, false, Duration::from_millis(1));
        }
        assert_eq!((slots.room(), all(&turns).await.len()), (8, 0));
        out.truncate(8);
        assert_eq!(all(&turns).await.len(), 0);
        out.pop();
        assert_eq!(all(&turns).await.len(), 1);
        drop(out);
        assert_eq!(all(&turns).await.len(), 8);
    }

    #[tokio::test]
    async fn without_a_policy_the_limit_is_the_slots_whatever_happens() {
        let (turns, slots) = lane(None);
        for turn in all(&turns).await {
            turn.seen(&Answer::Unknown, true, Duration::from_secs(1));
        }
        assert_eq!((slots.room(), all(&turns).await.len()), (64, 64));
    }

    #[test]
    fn only_what_the_rail_did_with_a_call_says_anything_about_its_room() {
        for not_sent in [NotSent::Resolve, NotSent::Connect, NotSent::Tls, NotSent::Pool, NotSent::OurFault] {
            assert_eq!(load(&Answer::NotSent(not_sent), false), None);
        }
        assert_eq!(load(&Answer::Unknown, false), None, "lost on the way");
        assert_eq!(load(&Answer::Unknown, true), Some(Load::Overloaded));
        assert_eq!(load(&Answer::InProgress, false), Some(Load::Answered));
    }
}
