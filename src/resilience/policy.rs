//! A breaker's settings, checked. The names are those of resilience4j.

use std::time::Duration;

use super::{BadSetting, doubled, scaled};

/// What a sliding window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowType {
    /// The last `sliding_window_size` calls.
    Count,
    /// The calls of the last `sliding_window_size` seconds.
    Time,
}

/// A breaker's settings as they are written, not checked.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerSettings {
    /// What the window holds.
    pub sliding_window_type: WindowType,
    /// Calls (1 to 10000) or seconds (1 to 3600).
    pub sliding_window_size: u32,
    /// No rate is judged before the window holds so many calls.
    pub minimum_number_of_calls: u32,
    /// Percent of failed calls that opens it, 1 to 100.
    pub failure_rate_threshold: u8,
    /// Percent of slow calls that opens it, 1 to 100.
    pub slow_call_rate_threshold: u8,
    /// A call that took at least this long is slow.
    pub slow_call_duration_threshold: Duration,
    /// How long it stays open the first time; doubles with every opening until it closes.
    pub wait_duration_in_open_state: Duration,
    /// The longest it stays open.
    pub exponential_max_wait_duration_in_open_state: Duration,
    /// Jitter of the open time, as a part of it each way, 0 to 0.9.
    pub randomized_wait_factor: f64,
    /// Probes after the open time.
    pub permitted_number_of_calls_in_half_open_state: u32,
}

/// A breaker's settings, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerPolicy(BreakerSettings);

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            sliding_window_type: WindowType::Count,
            sliding_window_size: 100,
            minimum_number_of_calls: 20,
            failure_rate_threshold: 50,
            slow_call_rate_threshold: 100,
            slow_call_duration_threshold: Duration::from_secs(10),
            wait_duration_in_open_state: Duration::from_secs(2),
            exponential_max_wait_duration_in_open_state: Duration::from_secs(60),
            randomized_wait_factor: 0.2,
            permitted_number_of_calls_in_half_open_state: 3,
        }
    }
}

impl BreakerPolicy {
    /// Checks the settings.
    ///
    /// # Errors
    /// Every setting that breaks its rule.
    pub fn new(settings: BreakerSettings) -> Result<Self, Vec<BadSetting>> {
        let s = &settings;
        let (largest, size_rule) = match s.sliding_window_type {
            WindowType::Count => (10_000, "must be 1 to 10000 calls"),
            WindowType::Time => (3_600, "must be 1 to 3600 seconds"),
        };
        // A count window never holds more calls than its size: a larger minimum would never be reached.
        let reachable = match s.sliding_window_type {
            WindowType::Count => s.minimum_number_of_calls <= s.sliding_window_size,
            WindowType::Time => true,
        };
        let percent = |n: u8| (1..=100).contains(&n);
        let wait = s.wait_duration_in_open_state;
        let rules = [
            ((1..=largest).contains(&s.sliding_window_size), "sliding_window_size", size_rule),
            (s.minimum_number_of_calls >= 1, "minimum_number_of_calls", "must be at least 1"),
            (reachable, "minimum_number_of_calls", "must not be above sliding_window_size in a window by count"),
            (percent(s.failure_rate_threshold), "failure_rate_threshold", "must be 1 to 100 percent"),
            (percent(s.slow_call_rate_threshold), "slow_call_rate_threshold", "must be 1 to 100 percent"),
            (!s.slow_call_duration_threshold.is_zero(), "slow_call_duration_threshold", "must be above zero"),
            (wait >= Duration::from_millis(1), "wait_duration_in_open_state", "must be at least 1ms"),
            (
                wait <= s.exponential_max_wait_duration_in_open_state,
                "exponential_max_wait_duration_in_open_state",
                "must not be below wait_duration_in_open_state",
            ),
            (
                s.exponential_max_wait_duration_in_open_state <= Duration::from_secs(3_600),
                "exponential_max_wait_duration_in_open_state",
                "must be at most 1h: a lane must probe again in the end",
            ),
            ((0.0..=0.9).contains(&s.randomized_wait_factor), "randomized_wait_factor", "must be 0 to 0.9"),
            (
                (1..=1_000).contains(&s.permitted_number_of_calls_in_half_open_state),
                "permitted_number_of_calls_in_half_open_state",
                "must be 1 to 1000",
            ),
        ];
        let broken: Vec<BadSetting> = rules
            .into_iter()
            .filter(|(holds, _, _)| !holds)
            .map(|(_, field, rule)| BadSetting { field, rule })
            .collect();
        if broken.is_empty() { Ok(Self(settings)) } else { Err(broken) }
    }

    /// The policy for confirmed publications: five in a row without a confirmation shut the gate, and one at a time
    /// tries whether confirmations come again. The same for every lane: what it guards is our own broker.
    #[must_use]
    pub fn publishing() -> Self {
        Self(BreakerSettings {
            sliding_window_size: 5,
            minimum_number_of_calls: 5,
            failure_rate_threshold: 100,
            wait_duration_in_open_state: Duration::from_secs(1),
            exponential_max_wait_duration_in_open_state: Duration::from_secs(10),
            permitted_number_of_calls_in_half_open_state: 1,
            ..BreakerSettings::default()
        })
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &BreakerSettings {
        &self.0
    }

    /// How long it stays open after it opened `opened` times without closing between (1 the first time).
    #[must_use]
    pub fn open_time(&self, opened: u32, chance: f64) -> Duration {
        let longest = self.0.exponential_max_wait_duration_in_open_state;
        let wait = doubled(self.0.wait_duration_in_open_state, opened.saturating_sub(1)).min(longest);
        let factor = self.0.randomized_wait_factor;
        scaled(wait, 1.0 - factor + 2.0 * factor * chance).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_keep_their_own_rules() {
        assert!(BreakerPolicy::new(BreakerPolicy::publishing().0).is_ok());
        assert!(BreakerPolicy::new(BreakerSettings::default()).is_ok());
    }

    #[test]
    fn every_broken_setting_is_named_at_once() {
        let broken = BreakerPolicy::new(BreakerSettings {
            sliding_window_size: 0,
            failure_rate_threshold: 101,
            randomized_wait_factor: f64::NAN,
            exponential_max_wait_duration_in_open_state: Duration::from_millis(1),
            ..BreakerSettings::default()
        })
        .unwrap_err();
        let fields: Vec<&str> = broken.iter().map(|b| b.field).collect();
        assert_eq!(
            fields,
            [
                "sliding_window_size",
                "minimum_number_of_calls",
                "failure_rate_threshold",
                "exponential_max_wait_duration_in_open_state",
                "randomized_wait_factor",
            ]
        );
    }

    #[test]
    fn the_open_time_doubles_with_jitter_each_way_up_to_its_maximum() {
        let policy = BreakerPolicy::new(BreakerSettings::default()).unwrap();
        let times: Vec<u128> = (1..8).map(|n| policy.open_time(n, 0.5).as_millis()).collect();
        assert_eq!(times, [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(policy.open_time(1, 0.0), Duration::from_millis(1_600));
        assert_eq!(policy.open_time(u32::MAX, 0.99), Duration::from_secs(60));
    }
}
