//! One lane's breaker: closed, open, half open (probes), ramping (1, 2, 4 ... permits), closed again.
//!
//! A call holds a [`Permit`] from [`Breaker::take`] until it is handed to [`Breaker::seen`] or, where the rail was not
//! reached, to [`Breaker::give_back`]. A permit names the era it was taken in: what was under way when the breaker
//! opened says nothing about the probes that came later, and is not counted among them.
//!
//! While half open and while ramping a step is judged by the same rates as the window, over the calls of that step:
//! one hopeless payment among good ones does not open the lane again once a step holds more than a few calls, and a
//! rail that fails again is noticed within one step, which is one wave of calls.

mod state;

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::policy::BreakerPolicy;
use super::window::{Tally, Window, reaches};
use super::{Call, Gate, ShutWhy};

pub use state::{Change, ChangeWhy, Forced, State};

/// The right to make one call. Neither cloned nor made elsewhere; it must come back to the breaker that gave it.
#[derive(Debug)]
#[must_use = "a permit that does not come back is lost to the lane"]
pub struct Permit {
    era: u64,
    change: Option<Change>,
}

/// A lane's breaker.
#[derive(Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    limit: NonZeroU32,
    phase: Phase,
    forced: Option<Forced>,
    /// Openings since it was last closed.
    opened: u32,
    /// Grows with each opening and each half-opening.
    era: u64,
    /// Permits out, of every era.
    out: u32,
    /// Permits out of the current era.
    out_now: u32,
}

#[derive(Debug)]
enum Phase {
    Closed(Window),
    Open { until: Instant },
    HalfOpen(Step),
    Ramping(Step),
}

/// A number of calls that are judged together.
#[derive(Debug)]
struct Step {
    size: u32,
    since: Instant,
    tally: Tally,
}

/// What a step says so far.
enum Verdict {
    Failed(ChangeWhy),
    Passed,
    Undecided,
}

// === impl Permit ===

impl Permit {
    /// The change that taking this permit made: the first probe turns `open` into `half_open`.
    #[must_use]
    pub fn change(&self) -> Option<Change> {
        self.change
    }
}

// === impl Breaker ===

impl Breaker {
    /// A closed breaker that never has more than `limit` permits out.
    #[must_use]
    pub fn new(policy: BreakerPolicy, limit: NonZeroU32) -> Self {
        let phase = Phase::Closed(Window::new(policy.settings()));
        Self { policy, limit, phase, forced: None, opened: 0, era: 0, out: 0, out_now: 0 }
    }

    /// What the lane may pull now, beside the permits that are out.
    #[must_use]
    pub fn gate(&self, now: Instant) -> Gate {
        let soon = |why| {
            let until = now.checked_add(self.policy.settings().wait_duration_in_open_state).unwrap_or(now);
            Gate::Shut { until, why }
        };
        if self.forced == Some(Forced::Open) {
            return soon(ShutWhy::Operator);
        }
        match self.phase {
            Phase::Closed(_) => Gate::Open,
            Phase::Open { until } if now < until => Gate::Shut { until, why: ShutWhy::Breaker },
            Phase::Open { .. } | Phase::HalfOpen(_) | Phase::Ramping(_) => {
                NonZeroU32::new(self.free(now)).map_or_else(|| soon(ShutWhy::PermitsOut), Gate::Permits)
            }
        }
    }

    /// The state at `now`; an open breaker whose time is over is half open, though nobody has probed yet.
    #[must_use]
    pub fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed(_) => State::Closed,
            Phase::Open { until } if now < until || self.forced.is_some() => State::Open,
            Phase::Open { .. } | Phase::HalfOpen(_) => State::HalfOpen,
            Phase::Ramping(_) => State::Ramping,
        }
    }

    /// The state as metrics and status show it: what an operator holds it to goes before its own.
    #[must_use]
    pub fn shown(&self, now: Instant) -> &'static str {
        self.forced.map_or(self.state(now).name(), Forced::name)
    }

    /// What an operator holds it to.
    #[must_use]
    pub fn forced(&self) -> Option<Forced> {
        self.forced
    }

    /// Permits out.
    #[must_use]
    pub fn permits_out(&self) -> u32 {
        self.out
    }

    /// Takes the right to make one call, or `None` while there is none.
    pub fn take(&mut self, now: Instant) -> Option<Permit> {
        if self.free(now) == 0 {
            return None;
        }
        let change = if let Phase::Open { .. } = self.phase {
            let size = self.policy.settings().permitted_number_of_calls_in_half_open_state;
            self.era = self.era.saturating_add(1);
            self.out_now = 0;
            self.phase = Phase::HalfOpen(Step::new(size, now));
            Some(Change { from: State::Open, to: State::HalfOpen, why: ChangeWhy::OpenTimeOver })
        } else {
            None
        };
        self.out = self.out.saturating_add(1);
        self.out_now = self.out_now.saturating_add(1);
        Some(Permit { era: self.era, change })
    }

    /// Takes back a permit whose call was not made.
    pub fn give_back(&mut self, permit: Permit) {
        let _current = self.end(permit);
    }

    /// Counts a call that was made and ended at `now` after `took`. `chance` (0 to 1) is the jitter of the open time,
    /// should it open.
    pub fn seen(&mut self, permit: Permit, call: Call, took: Duration, now: Instant, chance: f64) -> Option<Change> {
        let current = self.end(permit);
        if !current || self.forced.is_some() {
            return None;
        }
        let slow = took >= self.policy.settings().slow_call_duration_threshold;
        let tally = Tally::one(call != Call::Served, slow);
        match &mut self.phase {
            Phase::Open { .. } => None,
            _ if call == Call::OurFault => Some(self.open(ChangeWhy::OurFault, now, chance)),
            Phase::Closed(window) => {
                let held = window.add(tally, now);
                if held.calls < self.policy.settings().minimum_number_of_calls {
                    return None;
                }
                let why = too_many(&self.policy, held, held.calls)?;
                Some(self.open(why, now, chance))
            }
            Phase::HalfOpen(step) | Phase::Ramping(step) => {
                step.tally.add(tally);
                match step.verdict(&self.policy, now) {
                    Verdict::Failed(why) => Some(self.open(why, now, chance)),
                    Verdict::Passed => self.next_step(now),
                    Verdict::Undecided => None,
                }
            }
        }
    }

    /// Holds the breaker open or closed, or lets it go. Let go from open it probes at once; from closed it starts
    /// with an empty window.
    pub fn force(&mut self, forced: Option<Forced>, now: Instant) -> Option<Change> {
        let from = self.state(now);
        if forced == self.forced {
            return None;
        }
        self.forced = forced;
        self.era = self.era.saturating_add(1);
        self.out_now = 0;
        match forced {
            Some(Forced::Open) => self.phase = Phase::Open { until: now },
            Some(Forced::Closed) => self.close(),
            None => {}
        }
        let to = self.state(now);
        (from != to).then_some(Change { from, to, why: ChangeWhy::Operator })
    }

    /// Permits that can be taken now.
    fn free(&self, now: Instant) -> u32 {
        if self.forced == Some(Forced::Open) {
            return 0;
        }
        let of_phase = match &self.phase {
            Phase::Closed(_) => u32::MAX,
            Phase::Open { until } if now < *until => 0,
            Phase::Open { .. } => self.policy.settings().permitted_number_of_calls_in_half_open_state,
            // Every probe is counted: those that were answered have used up their permit.
            Phase::HalfOpen(step) => step.size.saturating_sub(step.tally.calls).saturating_sub(self.out_now),
            Phase::Ramping(step) => step.size.saturating_sub(self.out_now),
        };
        of_phase.min(self.limit.get().saturating_sub(self.out))
    }

    /// Ends a permit; whether it is of the current era.
    fn end(&mut self, permit: Permit) -> bool {
        let Permit { era, change: _ } = permit;
        self.out = self.out.saturating_sub(1);
        let current = era == self.era;
        if current {
            self.out_now = self.out_now.saturating_sub(1);
        }
        current
    }

    fn open(&mut self, why: ChangeWhy, now: Instant, chance: f64) -> Change {
        let from = self.state(now);
        self.opened = self.opened.saturating_add(1);
        self.era = self.era.saturating_add(1);
        self.out_now = 0;
        let wait = self.policy.open_time(self.opened, chance);
        self.phase = Phase::Open { until: now.checked_add(wait).unwrap_or(now) };
        Change { from, to: State::Open, why }
    }

    fn close(&mut self) {
        self.opened = 0;
        self.phase = Phase::Closed(Window::new(self.policy.settings()));
    }

    /// After a step that passed: from the probes to one permit, then twice as many, then closed. The era goes on, so
    /// that calls under way count where they end.
    fn next_step(&mut self, now: Instant) -> Option<Change> {
        let (from, size) = match &self.phase {
            Phase::HalfOpen(_) => (State::HalfOpen, 1),
            Phase::Ramping(step) => (State::Ramping, step.size.saturating_mul(2)),
            Phase::Closed(_) | Phase::Open { .. } => return None,
        };
        if size >= self.limit.get() {
            self.close();
            return Some(Change { from, to: State::Closed, why: ChangeWhy::RampDone });
        }
        self.phase = Phase::Ramping(Step::new(size, now));
        (from == State::HalfOpen).then_some(Change { from, to: State::Ramping, why: ChangeWhy::ProbesServed })
    }
}

// === impl Step ===

impl Step {
    fn new(size: u32, since: Instant) -> Self {
        Self { size, since, tally: Tally::default() }
    }

    /// Failed as soon as the bad calls would be too many of a full step, or are too many of as many calls as a closed
    /// breaker is judged by. Passed when it is full; or when it lasted an open time and what it has is good, because a
    /// quiet lane must not ramp for hours.
    fn verdict(&self, policy: &BreakerPolicy, now: Instant) -> Verdict {
        let calls = self.tally.calls;
        let judged = if calls >= policy.settings().minimum_number_of_calls { calls } else { self.size.max(calls) };
        if let Some(why) = too_many(policy, self.tally, judged) {
            return Verdict::Failed(why);
        }
        let lasted = now.saturating_duration_since(self.since);
        let judged_early =
            lasted >= policy.settings().wait_duration_in_open_state && too_many(policy, self.tally, calls).is_none();
        if calls >= self.size || judged_early { Verdict::Passed } else { Verdict::Undecided }
    }
}

/// Which rate of `tally` over `calls` calls is too high.
fn too_many(policy: &BreakerPolicy, tally: Tally, calls: u32) -> Option<ChangeWhy> {
    let settings = policy.settings();
    let percent = |part: u32| {
        let percent = u64::from(part).saturating_mul(100).checked_div(u64::from(calls)).unwrap_or(0);
        u8::try_from(percent).unwrap_or(100)
    };
    if reaches(tally.failed, calls, settings.failure_rate_threshold) {
        Some(ChangeWhy::FailureRate(percent(tally.failed)))
    } else if reaches(tally.slow, calls, settings.slow_call_rate_threshold) {
        Some(ChangeWhy::SlowCallRate(percent(tally.slow)))
    } else {
        None
    }
}

#[cfg(test)]
mod histories;

#[cfg(test)]
mod tests {
    use super::super::policy::BreakerSettings;
    use super::*;

    const FAST: Duration = Duration::from_millis(1);

    fn settings() -> BreakerSettings {
        BreakerSettings {
            sliding_window_size: 10,
            minimum_number_of_calls: 4,
            wait_duration_in_open_state: Duration::from_secs(1),
            exponential_max_wait_duration_in_open_state: Duration::from_secs(8),
            randomized_wait_factor: 0.0,
            permitted_number_of_calls_in_half_open_state: 2,
            ..BreakerSettings::default()
        }
    }

    fn breaker(limit: u32) -> Breaker {
        Breaker::new(BreakerPolicy::new(settings()).unwrap(), NonZeroU32::new(limit).unwrap())
    }

    fn call(breaker: &mut Breaker, call: Call, now: Instant) -> Option<Change> {
        let permit = breaker.take(now).unwrap();
        breaker.seen(permit, call, FAST, now, 0.5)
    }

    fn opened(limit: u32, now: Instant) -> Breaker {
        let mut breaker = breaker(limit);
        while call(&mut breaker, Call::Down, now).is_none() {}
        breaker
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn it_opens_at_the_failure_rate_once_there_are_enough_calls() {
        let (mut breaker, now) = (breaker(8), Instant::now());
        for _ in 0..3 {
            assert_eq!(call(&mut breaker, Call::Down, now), None);
        }
        let change = call(&mut breaker, Call::Down, now).unwrap();
        assert_eq!(change, Change { from: State::Closed, to: State::Open, why: ChangeWhy::FailureRate(100) });
        assert_eq!(breaker.gate(now), Gate::Shut { until: now + secs(1), why: ShutWhy::Breaker });
        assert!(breaker.take(now).is_none());
    }

    #[test]
    fn it_opens_when_served_calls_are_slow() {
        let (mut breaker, now) = (breaker(8), Instant::now());
        let changes: Vec<Change> = (0..4)
            .filter_map(|_| {
                let permit = breaker.take(now).unwrap();
                breaker.seen(permit, Call::Served, secs(10), now, 0.5)
            })
            .collect();
        assert_eq!(changes.first().map(|change| change.why), Some(ChangeWhy::SlowCallRate(100)));
    }

    #[test]
    fn a_fault_of_ours_opens_it_at_once() {
        let change = call(&mut breaker(8), Call::OurFault, Instant::now()).unwrap();
        assert_eq!((change.to, change.why), (State::Open, ChangeWhy::OurFault));
    }

    #[test]
    fn probes_then_a_doubling_ramp_lead_back_to_closed() {
        let start = Instant::now();
        let mut breaker = opened(8, start);
        let now = start + secs(1);
        assert_eq!(breaker.state(now), State::HalfOpen);
        assert_eq!(breaker.gate(now), Gate::Permits(NonZeroU32::new(2).unwrap()));
        let first = breaker.take(now).unwrap();
        assert_eq!(first.change().map(|change| change.to), Some(State::HalfOpen));
        let second = breaker.take(now).unwrap();
        assert!(breaker.take(now).is_none());
        assert!(matches!(breaker.gate(now), Gate::Shut { why: ShutWhy::PermitsOut, .. }));
        assert_eq!(breaker.seen(first, Call::Served, FAST, now, 0.5), None);
        let change = breaker.seen(second, Call::Served, FAST, now, 0.5).unwrap();
        assert_eq!(change, Change { from: State::HalfOpen, to: State::Ramping, why: ChangeWhy::ProbesServed });
        let mut sizes = Vec::new();
        while let Gate::Permits(permits) = breaker.gate(now) {
            sizes.push(permits.get());
            let taken: Vec<Permit> = (0..permits.get()).map(|_| breaker.take(now).unwrap()).collect();
            for permit in taken {
                breaker.seen(permit, Call::Served, FAST, now, 0.5);
            }
        }
        assert_eq!(sizes, [1, 2, 4]);
        assert_eq!((breaker.state(now), breaker.gate(now)), (State::Closed, Gate::Open));
    }

    #[test]
    fn a_failure_early_in_the_ramp_opens_it_again_for_longer() {
        let start = Instant::now();
        let mut breaker = opened(8, start);
        let now = start + secs(1);
        call(&mut breaker, Call::Served, now);
        call(&mut breaker, Call::Served, now);
        let change = call(&mut breaker, Call::Down, now).unwrap();
        assert_eq!((change.from, change.to), (State::Ramping, State::Open));
        assert_eq!(breaker.gate(now), Gate::Shut { until: now + secs(2), why: ShutWhy::Breaker });
    }

    #[test]
    fn calls_from_before_the_opening_are_not_taken_for_probes() {
        let start = Instant::now();
        let mut breaker = breaker(8);
        let old: Vec<Permit> = (0..3).map(|_| breaker.take(start).unwrap()).collect();
        while call(&mut breaker, Call::Down, start).is_none() {}
        let now = start + secs(1);
        let probe = breaker.take(now).unwrap();
        for permit in old {
            assert_eq!(breaker.seen(permit, Call::Served, secs(1), now, 0.5), None);
        }
        assert_eq!((breaker.state(now), breaker.permits_out()), (State::HalfOpen, 1));
        breaker.give_back(probe);
        assert_eq!(breaker.gate(now), Gate::Permits(NonZeroU32::new(2).unwrap()));
    }

    #[test]
    fn a_quiet_lane_does_not_ramp_for_hours() {
        let start = Instant::now();
        let mut breaker = opened(4_096, start);
        let mut calls = 0;
        let mut now = start;
        while breaker.state(now) != State::Closed {
            now += secs(60);
            call(&mut breaker, Call::Served, now);
            calls += 1;
        }
        assert!(calls <= 24, "{calls} calls");
    }

    #[test]
    fn an_operator_holds_it_open_or_closed_and_lets_it_probe_afterwards() {
        let now = Instant::now();
        let mut breaker = breaker(8);
        assert_eq!(breaker.force(Some(Forced::Open), now).map(|change| change.to), Some(State::Open));
        assert!(matches!(breaker.gate(now + secs(99)), Gate::Shut { why: ShutWhy::Operator, .. }));
        assert!(breaker.take(now + secs(99)).is_none());
        assert_eq!(breaker.force(None, now).map(|change| change.to), Some(State::HalfOpen));
        assert_eq!(breaker.force(Some(Forced::Closed), now).map(|change| change.to), Some(State::Closed));
        for _ in 0..100 {
            assert_eq!(call(&mut breaker, Call::Down, now), None);
        }
        assert_eq!(breaker.gate(now), Gate::Open);
    }
}
