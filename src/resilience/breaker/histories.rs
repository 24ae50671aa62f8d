//! Properties of the breaker over long random histories.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::super::policy::{BreakerSettings, WindowType};
use super::*;

/// One thing that happens to a breaker. Indices are taken modulo the permits that are out.
#[derive(Debug, Clone)]
enum Step {
    Take,
    Seen { which: usize, call: Call, took_ms: u64, chance: f64 },
    GiveBack { which: usize },
    Wait { ms: u64 },
    Force(Option<Forced>),
}

fn policies() -> impl Strategy<Value = BreakerPolicy> {
    (any::<bool>(), 1_u32..60, 1_u32..60, 1_u8..=100, 1_u8..=100, 1_u64..2_000, 0_u64..20_000, 0.0_f64..0.9, 1_u32..12)
        .prop_map(|(by_time, size, calls, failed, slow, wait, more, factor, probes)| {
            BreakerPolicy::new(BreakerSettings {
                sliding_window_type: if by_time { WindowType::Time } else { WindowType::Count },
                sliding_window_size: size,
                minimum_number_of_calls: if by_time { calls } else { calls.min(size) },
                failure_rate_threshold: failed,
                slow_call_rate_threshold: slow,
                slow_call_duration_threshold: Duration::from_millis(500),
                wait_duration_in_open_state: Duration::from_millis(wait),
                exponential_max_wait_duration_in_open_state: Duration::from_millis(wait + more),
                randomized_wait_factor: factor,
                permitted_number_of_calls_in_half_open_state: probes,
            })
            .unwrap()
        })
}

fn steps() -> impl Strategy<Value = Step> {
    let call = prop_oneof![6 => Just(Call::Served), 4 => Just(Call::Down), 1 => Just(Call::OurFault)];
    prop_oneof![
        8 => Just(Step::Take),
        6 => (any::<usize>(), call, 0_u64..1_000, 0.0_f64..1.0)
            .prop_map(|(which, call, took_ms, chance)| Step::Seen { which, call, took_ms, chance }),
        2 => any::<usize>().prop_map(|which| Step::GiveBack { which }),
        3 => (0_u64..3_000).prop_map(|ms| Step::Wait { ms }),
        1 => prop_oneof![
            2 => Just(None),
            1 => Just(Some(Forced::Open)),
            1 => Just(Some(Forced::Closed)),
        ].prop_map(Step::Force),
    ]
}

fn limits() -> impl Strategy<Value = NonZeroU32> {
    (1_u32..600).prop_map(|n| NonZeroU32::new(n).unwrap())
}

/// A breaker, its clock, and the permits that are out.
struct Run {
    breaker: Breaker,
    now: Instant,
    held: Vec<Permit>,
    taken: u64,
    ended: u64,
}

impl Run {
    fn new(policy: BreakerPolicy, limit: NonZeroU32) -> Self {
        Self { breaker: Breaker::new(policy, limit), now: Instant::now(), held: Vec::new(), taken: 0, ended: 0 }
    }

    fn step(&mut self, step: Step) -> Option<Change> {
        match step {
            Step::Take => {
                let permit = self.breaker.take(self.now)?;
                let change = permit.change();
                self.taken += 1;
                self.held.push(permit);
                change
            }
            Step::Seen { which, call, took_ms, chance } => {
                let permit = self.pick(which)?;
                self.breaker.seen(permit, call, Duration::from_millis(took_ms), self.now, chance)
            }
            Step::GiveBack { which } => {
                let permit = self.pick(which)?;
                self.breaker.give_back(permit);
                None
            }
            Step::Wait { ms } => {
                self.now += Duration::from_millis(ms);
                None
            }
            Step::Force(forced) => self.breaker.force(forced, self.now),
        }
    }

    fn pick(&mut self, which: usize) -> Option<Permit> {
        let index = which.checked_rem(self.held.len())?;
        self.ended += 1;
        Some(self.held.swap_remove(index))
    }

    /// Everything under way ends, nothing is forced, and the longest open time passes.
    fn settle_down(&mut self) {
        while !self.held.is_empty() {
            self.step(Step::GiveBack { which: 0 });
        }
        self.breaker.force(None, self.now);
        self.now += self.breaker.policy.settings().exponential_max_wait_duration_in_open_state;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn served_calls_never_open_it(
        policy in policies(), limit in limits(), history in prop::collection::vec((0_u64..2_000, 0_u64..500), 1..500),
    ) {
        let mut run = Run::new(policy, limit);
        for (ms, took_ms) in history {
            run.step(Step::Wait { ms });
            run.step(Step::Take);
            let change = run.step(Step::Seen { which: 0, call: Call::Served, took_ms, chance: 0.5 });
            prop_assert_eq!(change, None);
            prop_assert_eq!(run.breaker.gate(run.now), Gate::Open);
        }
    }

    #[test]
    fn permits_never_leak_and_never_exceed_the_limit(
        policy in policies(), limit in limits(), history in prop::collection::vec(steps(), 1..500),
    ) {
        let mut run = Run::new(policy, limit);
        for step in history {
            run.step(step);
            let out = run.breaker.permits_out();
            prop_assert_eq!(u64::from(out), run.taken - run.ended);
            prop_assert!(out <= limit.get() && run.breaker.out_now <= out);
            if let Gate::Permits(permits) = run.breaker.gate(run.now) {
                prop_assert!(permits.get() <= limit.get() - out);
            }
        }
        run.settle_down();
        prop_assert_eq!(run.breaker.permits_out(), 0);
    }

    #[test]
    fn the_gate_says_exactly_what_can_be_taken(
        policy in policies(), limit in limits(), history in prop::collection::vec(steps(), 1..300),
    ) {
        let mut run = Run::new(policy, limit);
        for step in history {
            run.step(step);
        }
        let promised = match run.breaker.gate(run.now) {
            Gate::Shut { until, .. } => {
                prop_assert!(until > run.now);
                0
            }
            Gate::Permits(permits) => permits.get(),
            Gate::Open => limit.get() - run.breaker.permits_out(),
        };
        let mut taken = 0;
        while run.breaker.take(run.now).is_some() {
            taken += 1;
        }
        prop_assert_eq!(taken, promised);
    }

    #[test]
    fn after_any_history_it_probes_again_within_the_longest_open_time(
        policy in policies(), limit in limits(), history in prop::collection::vec(steps(), 1..500),
    ) {
        let mut run = Run::new(policy, limit);
        for step in history {
            run.step(step);
        }
        run.settle_down();
        prop_assert!(run.breaker.gate(run.now).credit(1) == 1);
        prop_assert!(run.breaker.take(run.now).is_some());
    }

    #[test]
    fn after_any_history_it_ramps_up_step_by_step_to_closed_when_calls_are_served(
        policy in policies(), limit in limits(), history in prop::collection::vec(steps(), 1..300),
    ) {
        let mut run = Run::new(policy, limit);
        for step in history {
            run.step(step);
        }
        run.settle_down();
        let mut steps = Vec::new();
        let (mut rounds, mut openings) = (0, 0);
        while run.breaker.state(run.now) != State::Closed {
            rounds += 1;
            prop_assert!(rounds < 60, "still {:?}", run.breaker.state(run.now));
            if let Phase::Ramping(step) = &run.breaker.phase {
                steps.push(step.size);
            }
            // A step that the history left with bad calls may open it once more when it is complete.
            if let Gate::Shut { until, .. } = run.breaker.gate(run.now) {
                openings += 1;
                steps.clear();
                run.now = until;
            }
            let permits = run.breaker.gate(run.now).credit(u32::MAX);
            for _ in 0..permits {
                run.step(Step::Take);
            }
            for _ in 0..permits {
                run.step(Step::Seen { which: 0, call: Call::Served, took_ms: 1, chance: 0.5 });
            }
        }
        prop_assert!(openings <= 1);
        prop_assert!(steps.windows(2).all(|pair| pair[0] <= pair[1]), "{steps:?}");
        prop_assert!(steps.iter().all(|size| *size < limit.get()));
    }

    #[test]
    fn one_hopeless_payment_never_keeps_the_lane_shut(
        policy in policies(), limit in 1_u32..5, probes in 1_u32..4, calls in 1_u32..4, good in 1_usize..100,
        place in any::<prop::sample::Index>(), chance in 0.0_f64..1.0,
    ) {
        // Few slots, few probes and quick judgement: the settings under which one payment weighs most.
        let policy = BreakerPolicy::new(BreakerSettings {
            sliding_window_size: 4,
            minimum_number_of_calls: calls,
            permitted_number_of_calls_in_half_open_state: probes,
            ..policy.settings().clone()
        }).unwrap();
        let limit = NonZeroU32::new(limit).unwrap();
        let longest = policy.settings().exponential_max_wait_duration_in_open_state;
        let mut run = Run::new(policy, limit);
        let start = run.now;
        let hopeless = place.index(good + 1);
        let mut queue: VecDeque<usize> = (0..=good).collect();
        let mut charged = None;
        // Only the hopeless payment opens the breaker: once as a probe, once in the ramp behind a good probe. It does
        // not probe twice running, so every third opening at the latest lets another payment through.
        let most = longest * u32::try_from(3 * good + 4).unwrap() + Duration::from_millis(10 * good as u64 + 100);
        while queue.len() > 1 {
            prop_assert!(run.now - start <= most, "{} left after {:?}", queue.len() - 1, run.now - start);
            run.step(Step::Wait { ms: 1 });
            if let Gate::Shut { until, .. } = run.breaker.gate(run.now) {
                run.now = until;
            }
            let probing = run.breaker.state(run.now) == State::HalfOpen;
            let mut wave = Vec::new();
            while wave.len() < queue.len() && run.breaker.gate(run.now).credit(1) == 1 {
                let next = queue.iter().position(|payment| {
                    !(wave.contains(payment) || probing && charged == Some(*payment))
                });
                let Some(payment) = next.and_then(|at| queue.get(at).copied()) else { break };
                let before = run.taken;
                run.step(Step::Take);
                if run.taken == before {
                    break;
                }
                wave.push(payment);
            }
            queue.retain(|payment| !wave.contains(payment));
            for payment in wave {
                let call = if payment == hopeless { Call::Down } else { Call::Served };
                run.step(Step::Seen { which: 0, call, took_ms: 1, chance });
                if payment == hopeless {
                    // The worst that redelivery can do: it comes back before everybody else.
                    queue.push_front(payment);
                }
                if probing {
                    charged = (payment == hopeless).then_some(payment);
                }
            }
        }
    }
}
