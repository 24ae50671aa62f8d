//! How many calls may be under way to a rail: fewer while it slows down or does not answer, more while it keeps up.
//!
//! A rail that slows down under the same load has less room than before; whoever goes on sending as much fills its
//! queue until calls outlast their deadline. What a call takes while the rail is not crowded (the baseline) follows
//! the fastest rounds, and is taken anew where the limit is at its least: what a call takes then is not our doing.
//! Only calls that began under the present limit are judged, in rounds of some tens: a limit is not blamed for the
//! calls of the one before it.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::BadSetting;

/// Where a limit begins: few enough for a rail that is slow already.
const FIRST: u32 = 16;
/// Calls of a round, at least and at most.
const ROUND: (u32, u32) = (10, 50);
/// Good rounds before the limit is tried again at which calls outlasted their deadline.
const PATIENCE: u32 = 20;

/// How a limit follows its rail, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitPolicy {
    least: NonZeroU32,
    slowdown: u32,
}

/// How a call ended, as far as the limit cares. One that says nothing about the rail's room is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Load {
    /// The rail answered, whatever it was.
    Answered,
    /// It did not answer in time, or said that it is too busy.
    Overloaded,
}

/// The limit of one lane.
#[derive(Debug)]
pub struct Limiter {
    policy: LimitPolicy,
    most: NonZeroU32,
    deadline_us: u64,
    limit: u32,
    /// Doubles until the rail was crowded once.
    beginning: bool,
    baseline_us: Option<u64>,
    /// Where calls outlasted their deadline last, and the good rounds just below it.
    wall: Option<(u32, u32)>,
    since: Option<Instant>,
    round: Round,
}

/// The calls of one round.
#[derive(Debug, Default)]
struct Round {
    answered: u32,
    overloaded: u32,
    sum_us: u64,
    slowest_us: u64,
    /// Most calls under way when one of them began.
    peak: u32,
}

// === impl LimitPolicy ===

impl Default for LimitPolicy {
    fn default() -> Self {
        Self { least: NonZeroU32::MIN.saturating_add(1), slowdown: 200 }
    }
}

impl LimitPolicy {
    /// `least` calls are always allowed (at least 1); a rail is crowded where a call takes `slowdown` percent (110 to
    /// 1000) of what it takes uncrowded.
    ///
    /// # Errors
    /// Every setting that breaks its rule.
    pub fn new(least: u32, slowdown: u32) -> Result<Self, Vec<BadSetting>> {
        let mut bad = Vec::new();
        if !(110..=1_000).contains(&slowdown) {
            bad.push(BadSetting { field: "slowdown", rule: "must be 110 to 1000 percent" });
        }
        match NonZeroU32::new(least) {
            Some(least) if bad.is_empty() => Ok(Self { least, slowdown }),
            Some(_) => Err(bad),
            None => {
                bad.insert(0, BadSetting { field: "least", rule: "must be at least 1" });
                Err(bad)
            }
        }
    }

    /// Calls that are always allowed.
    #[must_use]
    pub fn least(&self) -> NonZeroU32 {
        self.least
    }
}

// === impl Limiter ===

impl Limiter {
    /// A limit of never more than `most`, for calls that are waited for until `deadline`.
    #[must_use]
    pub fn new(policy: LimitPolicy, most: NonZeroU32, deadline: Duration) -> Self {
        let policy = LimitPolicy { least: policy.least.min(most), ..policy };
        let limit = most.get().min(FIRST.max(policy.least.get()));
        let deadline_us = micros(deadline);
        let round = Round::default();
        Self { policy, most, deadline_us, limit, beginning: true, baseline_us: None, wall: None, since: None, round }
    }

    /// Calls that may be under way: between the policy's least and the lane's slots.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Counts a call that began at `began` as one of `under_way`, and took `took`. Gives the limit from now on.
    pub fn seen(&mut self, began: Instant, took: Duration, load: Load, under_way: u32) -> u32 {
        if self.since.is_some_and(|since| began < since) {
            return self.limit;
        }
        let round = &mut self.round;
        round.peak = round.peak.max(under_way);
        match load {
            Load::Answered => {
                round.answered = round.answered.saturating_add(1);
                round.sum_us = round.sum_us.saturating_add(micros(took));
                round.slowest_us = round.slowest_us.max(micros(took));
            }
            Load::Overloaded => round.overloaded = round.overloaded.saturating_add(1),
        }
        let whole = self.limit.clamp(ROUND.0, ROUND.1);
        // One call in ten may hang for reasons of its own; more is a rail that cannot keep up, at once.
        let flooded = round.overloaded.saturating_mul(10) > whole;
        if flooded || round.answered.saturating_add(round.overloaded) >= whole {
            let round = std::mem::take(&mut self.round);
            let limit = self.judge(&round, flooded).clamp(self.policy.least.get(), self.most.get());
            if limit != self.limit {
                self.limit = limit;
                self.since = began.checked_add(took);
            }
        }
        self.limit
    }

    /// What follows from a round.
    fn judge(&mut self, round: &Round, flooded: bool) -> u32 {
        if flooded {
            (self.beginning, self.wall) = (false, Some((self.limit, 0)));
            return self.limit / 2;
        }
        let Some(mean) = round.sum_us.checked_div(u64::from(round.answered)) else { return self.limit };
        let baseline = self.baseline_us.unwrap_or(mean);
        self.baseline_us = Some(baseline);
        let ceiling = self.ceiling(baseline);
        if mean > ceiling && self.limit <= self.policy.least.get() {
            (self.baseline_us, self.wall, self.beginning) = (Some(mean), None, false);
            return self.limit;
        }
        if mean > ceiling {
            // In proportion, and never by more than half: the next round is slow only for what is queued by now.
            let fair = u64::from(self.limit).saturating_mul(ceiling).checked_div(mean).unwrap_or(0);
            let most = self.limit.saturating_sub(self.limit.div_ceil(10));
            let fair = u32::try_from(fair).unwrap_or(most).min(most);
            self.beginning = false;
            return fair.max(self.limit / 2).min(most);
        }
        // An idle lane learns nothing about how much more the rail could bear, but what the rail's own time is; and so
        // does one whose calls take about as long as ever.
        let used = round.peak.saturating_mul(2) > self.limit;
        if mean < baseline {
            self.baseline_us = Some(baseline.saturating_sub(baseline.saturating_sub(mean).div_ceil(4)));
        } else if !used || mean <= baseline.saturating_add(baseline / 4) {
            self.baseline_us = Some(baseline.saturating_add(mean.saturating_sub(baseline) / 16));
        }
        if used && round.slowest_us <= self.nearly_late(baseline) { self.grown() } else { self.limit }
    }

    fn grown(&mut self) -> u32 {
        if self.beginning {
            return self.limit.saturating_mul(2);
        }
        let more = self.limit.saturating_add((self.limit / 16).max(1));
        let Some((wall, good)) = self.wall.filter(|(wall, _)| more >= *wall) else { return more };
        if good < PATIENCE {
            self.wall = Some((wall, good.saturating_add(1)));
            return self.limit;
        }
        self.wall = None;
        more
    }

    /// What a call may take on average: some times the baseline and a little, and never nearer to the deadline than to the baseline,
    /// for the slow ones among them.
    fn ceiling(&self, baseline: u64) -> u64 {
        let slowed = baseline.saturating_mul(u64::from(self.policy.slowdown)) / 100;
        let halfway = baseline.saturating_add(self.deadline_us.saturating_sub(baseline) / 2);
        // What is little against the deadline is noise, not a queue.
        slowed.saturating_add(self.deadline_us / 16).min(halfway)
    }

    /// What no call may take where there are to be more of them.
    fn nearly_late(&self, baseline: u64) -> u64 {
        baseline.saturating_add((self.deadline_us.saturating_sub(baseline) / 4).saturating_mul(3))
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
