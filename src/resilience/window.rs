//! How the calls of a sliding window ended, in bounded memory.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::policy::{BreakerSettings, WindowType};

/// Counts of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) calls: u32,
    pub(super) failed: u32,
    pub(super) slow: u32,
}

/// Calls that leave the window together: one in a window by count, those of a second in a window by time.
#[derive(Debug, Clone)]
struct Bucket {
    since: Instant,
    tally: Tally,
}

/// How the latest calls ended.
#[derive(Debug, Clone)]
pub(super) struct Window {
    kind: WindowType,
    size: u32,
    buckets: VecDeque<Bucket>,
    sum: Tally,
}

impl Tally {
    /// One call.
    pub(super) fn one(failed: bool, slow: bool) -> Self {
        Self { calls: 1, failed: u32::from(failed), slow: u32::from(slow) }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.failed = self.failed.saturating_add(other.failed);
        self.slow = self.slow.saturating_add(other.slow);
    }

    fn take_off(&mut self, other: Self) {
        self.calls = self.calls.saturating_sub(other.calls);
        self.failed = self.failed.saturating_sub(other.failed);
        self.slow = self.slow.saturating_sub(other.slow);
    }
}

/// Whether `part` of `whole` calls reaches `percent`.
pub(super) fn reaches(part: u32, whole: u32, percent: u8) -> bool {
    part > 0 && u64::from(part).saturating_mul(100) >= u64::from(whole).saturating_mul(u64::from(percent))
}

impl Window {
    pub(super) fn new(settings: &BreakerSettings) -> Self {
        Self {
            kind: settings.sliding_window_type,
            size: settings.sliding_window_size,
            buckets: VecDeque::new(),
            sum: Tally::default(),
        }
    }

    /// Adds one call that ended at `now` and returns what the window holds then.
    pub(super) fn add(&mut self, call: Tally, now: Instant) -> Tally {
        while self.oldest_leaves(now)
            && let Some(oldest) = self.buckets.pop_front()
        {
            self.sum.take_off(oldest.tally);
        }
        self.sum.add(call);
        match self.buckets.back_mut() {
            Some(newest) if self.kind == WindowType::Time && age(newest, now) < Duration::from_secs(1) => {
                newest.tally.add(call);
            }
            Some(_) | None => self.buckets.push_back(Bucket { since: now, tally: call }),
        }
        self.sum
    }

    /// Whether the oldest bucket has no place beside a call that ends at `now`.
    fn oldest_leaves(&self, now: Instant) -> bool {
        self.buckets.front().is_some_and(|oldest| match self.kind {
            WindowType::Count => self.sum.calls >= self.size,
            WindowType::Time => age(oldest, now) >= Duration::from_secs(u64::from(self.size)),
        })
    }
}

fn age(bucket: &Bucket, now: Instant) -> Duration {
    now.saturating_duration_since(bucket.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(sliding_window_type: WindowType, sliding_window_size: u32) -> BreakerSettings {
        BreakerSettings { sliding_window_type, sliding_window_size, ..BreakerSettings::default() }
    }

    #[test]
    fn a_window_by_count_forgets_its_oldest_call() {
        let mut window = Window::new(&settings(WindowType::Count, 3));
        let now = Instant::now();
        for failed in [true, true, false] {
            window.add(Tally::one(failed, failed), now);
        }
        assert_eq!(window.add(Tally::one(false, false), now), Tally { calls: 3, failed: 1, slow: 1 });
        assert_eq!(window.add(Tally::one(false, false), now), Tally { calls: 3, failed: 0, slow: 0 });
    }

    #[test]
    fn a_window_by_time_forgets_what_is_older_than_its_span_and_keeps_one_bucket_a_second() {
        let mut window = Window::new(&settings(WindowType::Time, 10));
        let start = Instant::now();
        for ms in 0..10_000 {
            window.add(Tally::one(true, false), start + Duration::from_millis(ms));
        }
        assert_eq!(window.buckets.len(), 10);
        let later = window.add(Tally::one(false, true), start + Duration::from_secs(30));
        assert_eq!(later, Tally { calls: 1, failed: 0, slow: 1 });
    }

    #[test]
    fn a_rate_is_reached_at_its_threshold_and_never_by_nothing() {
        assert!(reaches(1, 2, 50) && !reaches(49, 100, 50) && !reaches(0, 0, 50));
    }
}
