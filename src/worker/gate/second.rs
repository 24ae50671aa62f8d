//! What a second rail changes: the lane goes on while one of the two can take.
//!
//! An operator's order is about the lane: forced open, it settles nowhere.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use super::{Gates, Pass, Watch};
use crate::resilience::{Gate, ShutWhy, State};

impl Gates {
    /// What may be settled now, over either rail.
    pub(super) fn settlement(&self, now: Instant) -> Gate {
        let first = self.breaker(Watch::Settlement).gate(now);
        if !self.second {
            return first;
        }
        either(first, self.breaker(Watch::Fallback).gate(now))
    }

    /// Whether new attempts go to the second rail, but for probes of the first.
    pub(crate) fn is_over_second(&self, now: Instant) -> bool {
        let first = self.breaker(Watch::Settlement).gate(now);
        let ordered = matches!(first, Gate::Shut { why: ShutWhy::Operator, .. });
        let serves = !matches!(self.breaker(Watch::Fallback).gate(now), Gate::Shut { .. });
        self.second && first != Gate::Open && !ordered && serves
    }

    /// The first of these breakers that lets a call pass.
    pub(crate) fn try_any(self: &Arc<Self>, watches: &[Watch]) -> Option<Pass> {
        watches.iter().find_map(|watch| if self.is_ordered_shut(*watch) { None } else { self.try_pass(*watch) })
    }

    /// An order to the lane holds for its second rail, too.
    fn is_ordered_shut(&self, watch: Watch) -> bool {
        watch == Watch::Fallback
            && matches!(self.breaker(Watch::Settlement).gate(super::now()), Gate::Shut { why: ShutWhy::Operator, .. })
    }

    /// Whether the lane stands still while this breaker is open.
    pub(crate) fn is_only_way(&self, watch: Watch) -> bool {
        let other = match watch {
            Watch::Settlement => Watch::Fallback,
            Watch::Fallback => Watch::Settlement,
            Watch::Outcomes | Watch::DeadLetters | Watch::Inquiries | Watch::Checks | Watch::FallbackInquiries => {
                return true;
            }
        };
        !self.second || self.state(other) == State::Open
    }
}

fn either(first: Gate, second: Gate) -> Gate {
    match (first, second) {
        (Gate::Shut { why: ShutWhy::Operator, .. }, _) => first,
        (Gate::Open, _) | (_, Gate::Open) => Gate::Open,
        (Gate::Permits(one), Gate::Permits(other)) => Gate::Permits(one.saturating_add(NonZeroU32::get(other))),
        (Gate::Permits(_), Gate::Shut { .. }) => first,
        (Gate::Shut { .. }, Gate::Permits(_)) => second,
        (Gate::Shut { until: one, why }, Gate::Shut { until: other, .. }) => Gate::Shut { until: one.min(other), why },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::super::{BreakerOrder, Credit};
    use super::*;
    use crate::resilience::{BreakerPolicy, BreakerSettings, Call, Forced};
    use crate::telemetry::metrics::{LaneMetrics, Paused};
    use crate::worker::outside::Outside;

    const OPEN: Duration = Duration::from_secs(2);
    const EITHER: [Watch; 2] = [Watch::Settlement, Watch::Fallback];

    fn gates() -> Arc<Gates> {
        let policy = BreakerPolicy::new(BreakerSettings {
            sliding_window_size: 2,
            minimum_number_of_calls: 2,
            wait_duration_in_open_state: OPEN,
            permitted_number_of_calls_in_half_open_state: 1,
            randomized_wait_factor: 0.0,
            ..BreakerSettings::default()
        })
        .unwrap();
        let metrics = Arc::new(LaneMetrics::new("lane", "STREAM", "consumer"));
        Gates::new("lane", &policy, &policy, NonZeroU32::new(8).unwrap(), true, metrics, Outside::default())
    }

    fn fail(gates: &Arc<Gates>, watch: Watch) {
        for _ in 0..2 {
            gates.try_pass(watch).unwrap().seen(Call::Down, Duration::ZERO);
        }
        assert_eq!(gates.state(watch), State::Open);
    }

    fn credit(gates: &Gates) -> Credit {
        gates.credit(super::super::now())
    }

    fn which(gates: &Arc<Gates>) -> Option<Watch> {
        gates.try_any(&EITHER).map(|pass| pass.watch())
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_pulls_while_either_rail_can_take_and_prefers_the_first() {
        let gates = gates();
        assert_eq!((credit(&gates), which(&gates)), (Credit::Open, Some(Watch::Settlement)));
        fail(&gates, Watch::Settlement);
        assert_eq!((credit(&gates), which(&gates)), (Credit::Open, Some(Watch::Fallback)));
        fail(&gates, Watch::Fallback);
        assert!(matches!(credit(&gates), Credit::Shut { why: Paused::Settlement, until: Some(_) }));
        assert_eq!(which(&gates), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_rail_is_probed_while_the_second_takes_the_rest_and_is_taken_again_once_it_serves() {
        let gates = gates();
        fail(&gates, Watch::Settlement);
        tokio::time::sleep(OPEN).await;
        assert_eq!(credit(&gates), Credit::Open);
        let probe = gates.try_any(&EITHER).unwrap();
        assert!(probe.is_probe() && probe.watch() == Watch::Settlement);
        assert_eq!(which(&gates), Some(Watch::Fallback), "one probe at a time");
        assert!(gates.is_over_second(super::super::now()));
        probe.seen(Call::Served, Duration::ZERO);
        while gates.state(Watch::Settlement) != State::Closed {
            gates.try_pass(Watch::Settlement).unwrap().seen(Call::Served, Duration::ZERO);
        }
        assert!(!gates.is_over_second(super::super::now()));
        assert_eq!(which(&gates), Some(Watch::Settlement));
    }

    #[tokio::test(start_paused = true)]
    async fn an_operators_order_to_stop_stops_both() {
        let gates = gates();
        let order = |forced| BreakerOrder { forced, who: "ops-1", why: "INC-7", record: 1 };
        gates.force(order(Some(Forced::Open)));
        assert!(matches!(credit(&gates), Credit::Shut { .. }));
        assert_eq!((which(&gates), gates.is_over_second(super::super::now())), (None, false));
        let soon = tokio::time::Instant::now() + OPEN;
        assert!(gates.pass_any(&EITHER, soon, &CancellationToken::new()).await.is_none());
        gates.force(order(None));
        assert_eq!(which(&gates), Some(Watch::Settlement));
    }
}
