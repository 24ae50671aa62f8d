//! The simulation: many histories of the worker's own code over a model of its surroundings, each from one seed.
//!
//! `ACQUIT_SIM_SEED` starts at a seed, `ACQUIT_SIM_RUNS` plays so many.
#![cfg(feature = "lab")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::thread;

use acquit::lab::sim;

/// Histories of an ordinary run: seconds, not minutes, on two cores without optimisation.
const RUNS: u64 = 200;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn no_history_breaks_an_invariant() {
    let (first, runs) = (number("ACQUIT_SIM_SEED", 1), number("ACQUIT_SIM_RUNS", RUNS));
    let seeds = (first..first + runs).collect::<Vec<_>>();
    let workers = thread::available_parallelism().map_or(2, usize::from);
    let share = seeds.len().div_ceil(workers).max(1);
    let broken: Vec<String> = thread::scope(|scope| {
        let halves: Vec<_> = seeds.chunks(share).map(|seeds| scope.spawn(|| play(seeds))).collect();
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    assert!(broken.is_empty(), "{} of {runs} histories break an invariant\n\n{}", broken.len(), broken.join("\n\n"));
}

fn play(seeds: &[u64]) -> Vec<String> {
    seeds.iter().filter_map(|seed| sim::run(*seed).err()).map(|broken| broken.to_string()).collect()
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 1..=12 {
        let [once, again] = [sim::run(seed), sim::run(seed)].map(|end| end.unwrap_or_else(|broken| panic!("{broken}")));
        assert_eq!(once, again, "seed {seed}");
    }
}
