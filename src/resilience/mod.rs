//! Pure decisions about trying again: how long to wait, when to give up, when a lane must not pull, and how much at
//! once a rail bears.
//!
//! `now` and `chance` (uniform in 0 to 1, drawn by the caller) are arguments, so every history can be replayed in a
//! test. Asking never changes anything; only [`Breaker::take`], [`Breaker::give_back`] and [`Breaker::seen`] do.

mod breaker;
mod limit;
mod policy;
mod window;

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

pub use breaker::{Breaker, Change, ChangeWhy, Forced, Permit, State};
pub use limit::{LimitPolicy, Limiter, Load};
pub use policy::{BreakerPolicy, BreakerSettings, WindowType};

/// A setting that breaks its rule. `field` is the name of the key in configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct BadSetting {
    /// The key, without its section.
    pub field: &'static str,
    /// What must hold.
    pub rule: &'static str,
}

/// What a lane may pull now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Nothing. Ask again at `until`, or sooner when something changed.
    Shut {
        /// When asking again makes sense at the latest.
        until: Instant,
        /// What keeps it shut.
        why: ShutWhy,
    },
    /// At most so many events more.
    Permits(NonZeroU32),
    /// As many as there are free slots.
    Open,
}

/// What keeps a gate shut, as far as the breaker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShutWhy {
    /// The breaker is open.
    Breaker,
    /// The breaker probes or ramps, and every permit is out.
    PermitsOut,
    /// An operator forced the breaker open.
    Operator,
}

/// How a call to the rail or the store ended, as far as the breaker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// It was answered: settled, or refused for its content.
    Served,
    /// It was not answered, or the answer was that it cannot serve now.
    Down,
    /// It was refused for our own configuration (401, 403, 404): every further call would be as well.
    OurFault,
}

/// Exponential backoff with full jitter. Exists only with `0 < base <= max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
}

/// What an unfinished event waits for; each class has its own backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryClass {
    /// The rail was not reached, or said that it did not process.
    NotSent,
    /// The store did not answer.
    StoreLost,
    /// Another worker holds a live claim.
    Elsewhere,
    /// This worker was interrupted (shutdown, a cancelled task).
    Interrupted,
    /// The rail may have it: the next step is an inquiry.
    Doubt,
}

/// The budget of attempts and of age, and the delay per class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    attempts: NonZeroU32,
    age: Duration,
    delays: RetryDelays,
}

/// One backoff for each [`RetryClass`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryDelays {
    /// For [`RetryClass::NotSent`].
    pub not_sent: Backoff,
    /// For [`RetryClass::StoreLost`].
    pub store_lost: Backoff,
    /// For [`RetryClass::Elsewhere`].
    pub elsewhere: Backoff,
    /// For [`RetryClass::Interrupted`].
    pub interrupted: Backoff,
    /// For [`RetryClass::Doubt`].
    pub doubt: Backoff,
}

/// Which budget of a [`RetryPolicy`] is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spent {
    /// As many charged attempts as allowed.
    Attempts,
    /// The first attempt that reached the rail is too long ago.
    Age,
}

// === impl Gate ===

impl Gate {
    /// How many of `free` slots may be filled now.
    #[must_use]
    pub fn credit(self, free: u32) -> u32 {
        match self {
            Self::Shut { .. } => 0,
            Self::Permits(permits) => permits.get().min(free),
            Self::Open => free,
        }
    }
}

// === impl ShutWhy ===

impl ShutWhy {
    /// The reason in one word, for metrics and status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::PermitsOut => "permits_out",
            Self::Operator => "operator",
        }
    }
}

// === impl Backoff ===

impl Backoff {
    /// The shortest delay ever drawn: a hand-back without delay would come back at once.
    pub const SHORTEST: Duration = Duration::from_millis(1);

    /// A backoff whose ceiling doubles from `base` up to `max`.
    ///
    /// # Errors
    /// Unless `1 ms <= base <= max`.
    pub fn new(base: Duration, max: Duration) -> Result<Self, BadSetting> {
        if base < Self::SHORTEST {
            return Err(BadSetting { field: "backoff", rule: "must be at least 1ms" });
        }
        if base > max {
            return Err(BadSetting { field: "backoff", rule: "must not be above its maximum" });
        }
        Ok(Self { base, max })
    }

    /// The longest delay after `tries` tries (0 before the first).
    #[must_use]
    pub fn ceiling(&self, tries: u32) -> Duration {
        doubled(self.base, tries).min(self.max)
    }

    /// The delay after `tries` tries: full jitter, anything between 1 ms and the ceiling.
    #[must_use]
    pub fn delay(&self, tries: u32, chance: f64) -> Duration {
        scaled(self.ceiling(tries), chance).clamp(Self::SHORTEST, self.max)
    }
}

/// `base` x 2^`times`, without overflow.
pub(crate) fn doubled(base: Duration, times: u32) -> Duration {
    base.saturating_mul(2_u32.saturating_pow(times))
}

/// `whole` x `part`; `whole` where `part` is no number.
pub(crate) fn scaled(whole: Duration, part: f64) -> Duration {
    Duration::try_from_secs_f64(whole.as_secs_f64() * part).unwrap_or(whole)
}

// === impl RetryPolicy ===

impl RetryPolicy {
    /// A policy of at most `attempts` charged attempts within `age` of the first that reached the rail.
    ///
    /// # Errors
    /// When a budget is zero.
    pub fn new(attempts: u32, age: Duration, delays: RetryDelays) -> Result<Self, BadSetting> {
        let Some(attempts) = NonZeroU32::new(attempts) else {
            return Err(BadSetting { field: "attempts", rule: "must be at least 1" });
        };
        if age.is_zero() {
            return Err(BadSetting { field: "age", rule: "must be above zero" });
        }
        Ok(Self { attempts, age, delays })
    }

    /// The delay before the next try of this class, after `tries` tries.
    #[must_use]
    pub fn delay(&self, class: RetryClass, tries: u32, chance: f64) -> Duration {
        let backoff = match class {
            RetryClass::NotSent => &self.delays.not_sent,
            RetryClass::StoreLost => &self.delays.store_lost,
            RetryClass::Elsewhere => &self.delays.elsewhere,
            RetryClass::Interrupted => &self.delays.interrupted,
            RetryClass::Doubt => &self.delays.doubt,
        };
        backoff.delay(tries, chance)
    }

    /// Which budget is used up after `attempts` charged attempts, `age` after the first that reached the rail.
    ///
    /// `age` must leave out the time in which the gate was shut.
    #[must_use]
    pub fn spent(&self, attempts: u32, age: Duration) -> Option<Spent> {
        if attempts >= self.attempts.get() {
            Some(Spent::Attempts)
        } else if age >= self.age {
            Some(Spent::Age)
        } else {
            None
        }
    }

    /// Charged attempts allowed.
    #[must_use]
    pub fn attempts(&self) -> NonZeroU32 {
        self.attempts
    }

    /// Age allowed.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn delays() -> RetryDelays {
        let backoff = Backoff::new(ms(100), ms(1_000)).unwrap();
        RetryDelays { not_sent: backoff, store_lost: backoff, elsewhere: backoff, interrupted: backoff, doubt: backoff }
    }

    #[test]
    fn a_backoff_exists_only_between_its_bounds() {
        assert!(Backoff::new(ms(0), ms(10)).is_err());
        assert!(Backoff::new(ms(11), ms(10)).is_err());
        assert!(Backoff::new(ms(10), ms(10)).is_ok());
    }

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum() {
        let backoff = Backoff::new(ms(100), ms(1_000)).unwrap();
        let ceilings: Vec<u128> = (0..6).map(|n| backoff.ceiling(n).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(backoff.ceiling(u32::MAX), ms(1_000));
    }

    #[test]
    fn a_policy_without_a_budget_is_refused() {
        assert_eq!(RetryPolicy::new(0, ms(1), delays()).unwrap_err().field, "attempts");
        assert_eq!(RetryPolicy::new(1, ms(0), delays()).unwrap_err().field, "age");
    }

    #[test]
    fn whichever_budget_ends_first_ends_the_tries() {
        let policy = RetryPolicy::new(3, ms(500), delays()).unwrap();
        assert_eq!(policy.spent(2, ms(499)), None);
        assert_eq!(policy.spent(3, ms(0)), Some(Spent::Attempts));
        assert_eq!(policy.spent(0, ms(500)), Some(Spent::Age));
    }

    #[test]
    fn a_gate_never_gives_more_credit_than_there_are_free_slots() {
        let now = Instant::now();
        assert_eq!(Gate::Open.credit(7), 7);
        assert_eq!(Gate::Permits(NonZeroU32::MIN).credit(7), 1);
        assert_eq!(Gate::Permits(NonZeroU32::MIN).credit(0), 0);
        assert_eq!(Gate::Shut { until: now, why: ShutWhy::Breaker }.credit(7), 0);
    }

    proptest! {
        #[test]
        fn a_delay_is_never_zero_and_never_above_its_ceiling(
            base in 1_u64..10_000, more in 0_u64..100_000, tries in any::<u32>(), chance in 0.0_f64..1.0,
        ) {
            let backoff = Backoff::new(ms(base), ms(base + more)).unwrap();
            let delay = backoff.delay(tries, chance);
            prop_assert!(delay >= Backoff::SHORTEST && delay <= backoff.ceiling(tries));
        }
    }
}
