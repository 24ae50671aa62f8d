//! What happened to an event in this process before: how often it was tried and why it waited. Kept over
//! redeliveries, bounded, and written into the store with the event's end.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::time::Instant;

use super::gate::Watch;
use crate::domain::EventId;
use crate::store::Note;

/// Events remembered at once; the oldest is forgotten first.
const EVENTS_MAX: usize = 16_384;
/// Notes kept of one event: the first ones and the latest tell the story.
const NOTES_MAX: usize = 32;

/// One event's history in this process.
#[derive(Debug, Clone, Default)]
pub(super) struct Tries {
    /// Attempts charged to the event.
    pub(super) charged: u32,
    /// Waits of any kind.
    pub(super) waits: u32,
    /// Starts that ended in a panic.
    pub(super) starts: u32,
    /// Inquiries that were made about its payment.
    pub(super) asked: u32,
    /// When the next one is due.
    pub(super) ask_at: Option<Instant>,
    /// The rail that has not taken its payment, where that was the last thing it did.
    pub(super) declined: Option<Watch>,
    /// Whether it was told that the payment is held.
    pub(super) told_held: bool,
    /// What `explain` will show.
    pub(super) notes: Vec<Note>,
}

#[derive(Default)]
struct Inner {
    of: HashMap<EventId, Tries>,
    order: VecDeque<EventId>,
}

/// Events met whose number is on record as another message's.
#[derive(Default)]
pub(super) struct Foreign(Mutex<BTreeSet<EventId>>);

impl Foreign {
    /// Notes one; whether it is the first time.
    pub(super) fn note(&self, event: &EventId) -> bool {
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        met.len() < EVENTS_MAX && met.insert(event.clone())
    }

    /// How many, up to a bound.
    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// The histories of a lane's unfinished events.
#[derive(Default)]
pub(super) struct Histories(Mutex<Inner>);

impl Histories {
    /// What is known of an event.
    pub(super) fn of(&self, event: &EventId) -> Tries {
        let inner = self.lock();
        if inner.of.is_empty() { Tries::default() } else { inner.of.get(event).cloned().unwrap_or_default() }
    }

    /// Notes one more wait; gives the history as it is now.
    pub(super) fn waited(
        &self,
        event: &EventId,
        charged: bool,
        what: &str,
        breaker: &'static str,
        at: Timestamp,
    ) -> Tries {
        self.change(event, |tries| {
            tries.waits = tries.waits.saturating_add(1);
            tries.charged = tries.charged.saturating_add(u32::from(charged));
            if tries.notes.len() < NOTES_MAX {
                tries.notes.push(Note { at, what: what.to_owned(), breaker });
            } else if let Some(last) = tries.notes.last_mut() {
                *last = Note { at, what: what.to_owned(), breaker };
            }
        })
    }

    /// Notes how often handling the event was started without an end.
    pub(super) fn started(&self, event: &EventId, starts: u32) {
        self.change(event, |tries| tries.starts = starts);
    }

    /// Notes when the payment is to be asked about.
    pub(super) fn ask_at(&self, event: &EventId, at: Instant) {
        self.change(event, |tries| tries.ask_at = Some(at));
    }

    /// Notes that the payment was asked about, or that its turn to be was let pass.
    pub(super) fn asked(&self, event: &EventId) {
        self.change(event, |tries| {
            tries.asked = tries.asked.saturating_add(1);
            tries.ask_at = None;
        });
    }

    /// Payments that the rail is to be asked about, and when the first of them is due.
    pub(super) fn to_ask(&self) -> (usize, Option<Instant>) {
        let inner = self.lock();
        let due = || inner.of.values().filter_map(|tries| tries.ask_at);
        (due().count(), due().min())
    }

    /// Notes which rail did not take the payment.
    pub(super) fn declined(&self, event: &EventId, by: Watch) {
        self.change(event, |tries| tries.declined = Some(by));
    }

    /// Notes that the payment was told as held.
    pub(super) fn told_held(&self, event: &EventId) {
        self.change(event, |tries| tries.told_held = true);
    }

    /// Forgets an event that has its end.
    pub(super) fn finished(&self, event: &EventId) {
        let mut inner = self.lock();
        if !inner.of.is_empty() {
            inner.of.remove(event);
        }
    }

    fn change(&self, event: &EventId, change: impl FnOnce(&mut Tries)) -> Tries {
        let mut inner = self.lock();
        let Inner { of, order } = &mut *inner;
        let tries = of.entry(event.clone()).or_insert_with(|| {
            order.push_back(event.clone());
            Tries::default()
        });
        change(tries);
        let now = tries.clone();
        while order.len() > EVENTS_MAX {
            if let Some(oldest) = order.pop_front() {
                of.remove(&oldest);
            }
        }
        now
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::StreamName;

    fn event(sequence: u64) -> EventId {
        EventId { stream: StreamName::parse("PAYMENTS").unwrap(), created_ms: 1, sequence }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_rail_is_to_be_asked_about_is_counted_until_it_has_its_end() {
        let (histories, now) = (Histories::default(), Instant::now());
        assert_eq!(histories.to_ask(), (0, None));
        let at = |seconds| now + Duration::from_secs(seconds);
        for (sequence, seconds) in [(1, 5), (2, 2), (3, 9)] {
            histories.ask_at(&event(sequence), at(seconds));
        }
        histories.started(&event(4), 1);
        assert_eq!(histories.to_ask(), (3, Some(at(2))));
        histories.finished(&event(2));
        histories.asked(&event(1));
        assert_eq!(histories.to_ask(), (1, Some(at(9))));
    }
}
