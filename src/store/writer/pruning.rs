//! When records of what ended long ago are removed: in small pages between groups, so that no payment waits for it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::super::{Backend, Pruned};

/// Records looked at in one page.
const PAGE: u32 = 256;
/// Between the pages of a round.
const PAUSE: Duration = Duration::from_millis(100);
/// Between rounds, and after a page that failed.
const REST: Duration = Duration::from_secs(3600);

/// The schedule of one writer.
pub(super) struct Pruning {
    keep: Option<Duration>,
    next: Instant,
}

impl Pruning {
    /// The first page is due at once.
    pub(super) fn new(keep: Option<Duration>) -> Self {
        Self { keep, next: Instant::now() }
    }

    /// Ready when a page is due; never where everything is kept.
    pub(super) async fn due(&self) {
        match self.keep {
            Some(_) => sleep_until(self.next).await,
            None => std::future::pending().await,
        }
    }

    /// One page. A failure is no more than a page less: the groups say what the store cannot do.
    pub(super) async fn page<B: Backend>(&mut self, backend: &mut B) -> Pruned {
        let Some(keep) = self.keep else { return Pruned::default() };
        let pruned = backend.prune(keep, PAGE).await.unwrap_or_default();
        let now = Instant::now();
        self.next = now.checked_add(if pruned.more { PAUSE } else { REST }).unwrap_or(now);
        pruned
    }
}
