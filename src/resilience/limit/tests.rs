use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::*;

const DEADLINE: Duration = Duration::from_millis(1_500);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn nonzero(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn limiter(most: u32) -> Limiter {
    Limiter::new(LimitPolicy::default(), nonzero(most), DEADLINE)
}

/// A lane that always has as many calls under way as it may, each taking `took`; gives the limit after each.
fn calls(limiter: &mut Limiter, now: &mut Instant, count: u32, took: Duration, load: Load) -> Vec<u32> {
    let mut limits = Vec::new();
    for _ in 0..count {
        let under_way = limiter.limit();
        limits.push(limiter.seen(*now, took, load, under_way));
        *now += took;
    }
    limits
}

/// A rail that works on `workers` calls at once and lets the others queue.
struct Rail {
    workers: usize,
    /// What a call takes at a time, in milliseconds.
    service: fn(u64) -> u64,
}

/// What came of a lane that always has something to send: calls by the second in which they began, and those of them
/// that outlasted the deadline. `limiter` says how many are under way; without one it is `most`.
fn play(rail: &Rail, most: u32, mut limiter: Option<Limiter>, seconds: u64) -> Vec<(u32, u32, u32)> {
    let start = Instant::now();
    let mut by_second = vec![(0, 0, most); usize::try_from(seconds).unwrap()];
    let mut free: BinaryHeap<Reverse<u64>> = (0..rail.workers).map(|_| Reverse(0)).collect();
    // When each call under way is over for us, when it began, with how many.
    let mut under_way: BinaryHeap<Reverse<(u64, u64, u32)>> = BinaryHeap::new();
    let mut now = 0;
    while now < seconds * 1_000 {
        let allowed = limiter.as_ref().map_or(most, Limiter::limit);
        while u32::try_from(under_way.len()).unwrap() < allowed {
            // The rail works on what it has, whether or not somebody still waits for it.
            let Reverse(ready) = free.pop().unwrap();
            let begins = ready.max(now);
            let ends = begins + (rail.service)(begins);
            free.push(Reverse(ends));
            let with = u32::try_from(under_way.len()).unwrap() + 1;
            let over = ends.min(now + u64::try_from(DEADLINE.as_millis()).unwrap());
            under_way.push(Reverse((over, now, with)));
            // Calls do not begin all at the same moment.
            now += u64::from(allowed > 8 && with.is_multiple_of(8));
        }
        let Reverse((over, began, with)) = under_way.pop().unwrap();
        now = now.max(over);
        let (took, late) = (ms(over - began), over - began >= 1_500);
        let load = if late { Load::Overloaded } else { Load::Answered };
        let limit = limiter.as_mut().map_or(most, |limiter| limiter.seen(start + ms(began), took, load, with));
        if let Some((all, timed_out, last)) = by_second.get_mut(usize::try_from(began / 1_000).unwrap()) {
            (*all, *timed_out, *last) = (*all + 1, *timed_out + u32::from(late), limit);
        }
    }
    by_second
}

/// From 20 ms to 1 s within 20 s.
const RAMP: Rail = Rail { workers: 16, service: |at| 20 + at.min(20_000) * 980 / 20_000 };

fn timed_out(by_second: &[(u32, u32, u32)]) -> u32 {
    by_second.iter().map(|(_, timed_out, _)| timed_out).sum()
}

#[test]
fn a_rail_that_slows_down_is_not_flooded() {
    let seen = play(&RAMP, 64, Some(limiter(64)), 300);
    let all: u32 = seen.iter().map(|(all, ..)| all).sum();
    assert!(timed_out(&seen) * 200 < all, "{} of {all} timed out: {seen:?}", timed_out(&seen));
    assert_eq!(timed_out(&seen[200..]), 0, "it has settled: {seen:?}");
    // The rail is not left idle either: it could do 16 a second.
    let done: u32 = seen[200..].iter().map(|(all, ..)| all).sum();
    assert!(done >= 100 * 16 * 6 / 10, "{done} of 1600: {seen:?}");
}

#[test]
fn without_a_limit_the_same_rail_answers_nobody_in_time() {
    let seen = play(&RAMP, 64, None, 60);
    let late: Vec<_> = seen[30..].iter().filter(|(all, ..)| *all > 0).collect();
    assert!(late.iter().all(|(all, timed_out, _)| timed_out * 10 >= all * 9), "{seen:?}");
}

#[test]
fn a_rail_that_becomes_fast_again_gets_everything_again() {
    const DIP: Rail = Rail { workers: 64, service: |at| if (20_000..60_000).contains(&at) { 1_000 } else { 20 } };
    let seen = play(&DIP, 64, Some(limiter(64)), 120);
    assert_eq!(seen[19].2, 64, "{seen:?}");
    assert_eq!(seen[119].2, 64, "{seen:?}");
}

#[test]
fn a_rail_that_was_slow_from_the_start_is_not_flooded_for_long() {
    let slow = Rail { workers: 8, service: |_| 1_000 };
    let seen = play(&slow, 512, Some(limiter(512)), 120);
    // Each try of one call more costs a few.
    let all: u32 = seen[30..].iter().map(|(all, ..)| all).sum();
    assert!(timed_out(&seen[30..]) * 20 < all, "{seen:?}");
}

#[test]
fn it_shrinks_when_the_same_number_of_calls_takes_longer_and_grows_back() {
    let (mut limiter, mut now) = (limiter(64), Instant::now());
    calls(&mut limiter, &mut now, 1_000, ms(20), Load::Answered);
    assert_eq!(limiter.limit(), 64);
    calls(&mut limiter, &mut now, 60, ms(300), Load::Answered);
    assert!(limiter.limit() <= 32, "{}", limiter.limit());
    calls(&mut limiter, &mut now, 5_000, ms(20), Load::Answered);
    assert_eq!(limiter.limit(), 64);
}

#[test]
fn it_halves_when_calls_outlast_their_deadline_and_not_for_a_single_one() {
    let (mut limiter, mut now) = (limiter(64), Instant::now());
    calls(&mut limiter, &mut now, 1_000, ms(20), Load::Answered);
    calls(&mut limiter, &mut now, 1, DEADLINE, Load::Overloaded);
    calls(&mut limiter, &mut now, 200, ms(20), Load::Answered);
    assert_eq!(limiter.limit(), 64);
    calls(&mut limiter, &mut now, 6, DEADLINE, Load::Overloaded);
    assert_eq!(limiter.limit(), 32);
}

#[test]
fn a_flood_of_calls_that_began_together_halves_it_once() {
    let (mut limiter, mut now) = (limiter(64), Instant::now());
    calls(&mut limiter, &mut now, 1_000, ms(20), Load::Answered);
    for _ in 0..64 {
        limiter.seen(now, DEADLINE, Load::Overloaded, 64);
    }
    assert_eq!(limiter.limit(), 32);
}

#[test]
fn it_shrinks_before_calls_outlast_their_deadline_however_slow_the_rail_is_by_itself() {
    let (mut limiter, mut now) = (limiter(64), Instant::now());
    calls(&mut limiter, &mut now, 1_000, ms(1_000), Load::Answered);
    assert_eq!(limiter.limit(), 64);
    calls(&mut limiter, &mut now, 60, ms(1_400), Load::Answered);
    assert!(limiter.limit() < 64);
}

#[test]
fn where_calls_outlasted_their_deadline_is_tried_seldom() {
    let (mut limiter, mut now, mut late) = (limiter(64), Instant::now(), 0);
    for _ in 0..50_000 {
        // As a rail that drops what is beyond 32.
        let over = limiter.limit() > 32;
        late += u32::from(over);
        let (took, load) = if over { (DEADLINE, Load::Overloaded) } else { (ms(20), Load::Answered) };
        calls(&mut limiter, &mut now, 1, took, load);
    }
    assert!(late < 50_000 * 6 / 1_000, "{late} of 50000 calls");
}

#[test]
fn a_fast_rail_that_stutters_keeps_its_calls() {
    let (mut limiter, mut now) = (limiter(64), Instant::now());
    calls(&mut limiter, &mut now, 1_000, ms(20), Load::Answered);
    for _ in 0..100 {
        calls(&mut limiter, &mut now, 100, ms(90), Load::Answered);
        calls(&mut limiter, &mut now, 300, ms(20), Load::Answered);
        assert_eq!(limiter.limit(), 64);
    }
}

#[test]
fn an_idle_lane_does_not_grow_its_limit() {
    let mut limiter = limiter(512);
    let now = Instant::now();
    for call in 0..10_000 {
        limiter.seen(now + ms(call * 20), ms(20), Load::Answered, 1);
    }
    assert_eq!(limiter.limit(), FIRST);
}

#[test]
fn a_policy_without_a_call_or_without_room_is_refused_with_all_that_is_wrong() {
    let fields = |least, slowdown| -> Vec<&str> {
        LimitPolicy::new(least, slowdown).err().unwrap_or_default().iter().map(|bad| bad.field).collect()
    };
    assert_eq!(fields(0, 100), ["least", "slowdown"]);
    assert_eq!(fields(1, 1_001), ["slowdown"]);
    assert_eq!(fields(1, 110), [""; 0]);
}

proptest! {
    #[test]
    fn it_stays_between_its_least_and_the_slots_and_one_round_at_most_halves_it(
        most in 1_u32..600, least in 1_u32..20, slowdown in 110_u32..1_000,
        history in prop::collection::vec((1_u64..3_000_000, prop::bool::weighted(0.2), 0_u32..700), 1..2_000),
    ) {
        let policy = LimitPolicy::new(least, slowdown).unwrap();
        let mut limiter = Limiter::new(policy, nonzero(most), DEADLINE);
        let (mut now, lowest) = (Instant::now(), least.min(most));
        for (took, overloaded, under_way) in history {
            let before = limiter.limit();
            let load = if overloaded { Load::Overloaded } else { Load::Answered };
            let after = limiter.seen(now, Duration::from_micros(took), load, under_way);
            prop_assert!((lowest..=most).contains(&after), "{after}");
            prop_assert!(after >= before / 2, "{before} to {after}");
            now += Duration::from_micros(took);
        }
    }

    #[test]
    fn whatever_it_was_it_grows_back_to_the_slots_on_a_rail_that_keeps_up(
        most in 1_u32..200,
        history in prop::collection::vec((1_u64..1_500, any::<bool>()), 0..500),
    ) {
        let (mut limiter, mut now) = (limiter(most), Instant::now());
        for (took, overloaded) in history {
            calls(&mut limiter, &mut now, 1, ms(took), if overloaded { Load::Overloaded } else { Load::Answered });
        }
        // The least of all times, so that no history has a faster baseline.
        calls(&mut limiter, &mut now, 20_000, ms(1), Load::Answered);
        prop_assert_eq!(limiter.limit(), most);
    }

    #[test]
    fn ten_times_the_time_at_the_same_concurrency_shrinks_it(most in 4_u32..500, took in 20_u64..100) {
        let (mut limiter, mut now) = (limiter(most), Instant::now());
        calls(&mut limiter, &mut now, 5_000, ms(took), Load::Answered);
        let before = limiter.limit();
        prop_assert_eq!(before, most);
        let limits = calls(&mut limiter, &mut now, 100, ms(took * 10), Load::Answered);
        prop_assert!(limits.iter().any(|limit| *limit <= before * 3 / 4), "{before} to {limits:?}");
    }
}
