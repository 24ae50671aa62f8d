//! The poison guard: an event whose handling never comes to an end must not keep a fleet crashing for ever.
//!
//! A panic is caught and counted against its event. A crash of the whole process (an abort, a stack that runs over)
//! says nothing about which of the events in hand it was: so an event that has come often is read alone, with its name
//! in a marker file beside the store. Who finds the marker at its start knows the culprit, and counts it in the store.
//! A kill from outside hits this moment of microseconds hardly ever, and never `poison_starts` times.

use std::path::PathBuf;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::domain::{EventId, StreamName};

/// Deliveries of an event from which on it is read alone.
const SUSPECT_FROM: u64 = 3;

/// Who may read events at the same time, and the marker.
pub(super) struct PoisonGuard {
    alone: RwLock<()>,
    marker: Option<PathBuf>,
}

/// Held while one event is decoded and judged.
pub(super) enum Reading<'a> {
    /// Among others.
    Shared { _guard: RwLockReadGuard<'a, ()> },
    /// Alone, under its name.
    Alone { _guard: RwLockWriteGuard<'a, ()>, marker: &'a PathBuf },
}

impl PoisonGuard {
    /// A guard with its marker at a path; without one only panics are counted.
    pub(super) fn new(marker: Option<PathBuf>) -> Self {
        Self { alone: RwLock::new(()), marker }
    }

    /// Waits for the right to read an event that has been delivered `delivered` times.
    pub(super) async fn enter(&self, event: &EventId, delivered: u64) -> Reading<'_> {
        match &self.marker {
            Some(marker) if delivered >= SUSPECT_FROM => {
                let guard = self.alone.write().await;
                // Not synced: it must outlive this process, not the machine. Unwritten, a crash goes uncounted.
                drop(std::fs::write(marker, event.token()));
                Reading::Alone { _guard: guard, marker }
            }
            Some(_) | None => Reading::Shared { _guard: self.alone.read().await },
        }
    }

    /// The event that was being read alone when the last process ended, if there is one. Forgets it.
    pub(super) fn culprit(&self) -> Option<EventId> {
        let marker = self.marker.as_ref()?;
        let text = std::fs::read_to_string(marker).ok()?;
        drop(std::fs::remove_file(marker));
        let mut tokens = text.trim().split('.');
        let stream = StreamName::parse(tokens.next()?).ok()?;
        let created_ms = tokens.next()?.parse().ok()?;
        let sequence = tokens.next()?.parse().ok()?;
        Some(EventId { stream, created_ms, sequence })
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if let Self::Alone { marker, .. } = self {
            drop(std::fs::remove_file(marker));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> EventId {
        EventId { stream: StreamName::parse("PAYMENTS").unwrap(), created_ms: 1_700_000_000_000, sequence: 7 }
    }

    #[tokio::test]
    async fn only_what_was_being_read_alone_when_the_process_ended_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let guard = PoisonGuard::new(Some(dir.path().join("suspect")));
        drop(guard.enter(&event(), 1).await);
        assert_eq!(guard.culprit(), None, "read among others");
        drop(guard.enter(&event(), 3).await);
        assert_eq!(guard.culprit(), None, "read alone, and to its end");
        std::mem::forget(guard.enter(&event(), 3).await);
        let next = PoisonGuard::new(Some(dir.path().join("suspect")));
        assert_eq!(next.culprit(), Some(event()));
        assert_eq!(next.culprit(), None, "counted once");
    }
}
