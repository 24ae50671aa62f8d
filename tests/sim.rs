//! The simulation: many histories of the worker's own code over a model of its surroundings, each from one seed.
//!
//! `ACQUIT_SIM_SEED` starts at a seed, `ACQUIT_SIM_RUNS` plays so many.
#![cfg(feature = "lab")]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::thread;

use acquit::lab::sim::{self, Lie};

/// Histories of an ordinary run: seconds, not minutes, on two cores without optimisation.
const RUNS: u64 = 120;

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
    let (many, first) = (broken.len(), broken.get(..broken.len().min(3)).unwrap_or_default());
    assert!(broken.is_empty(), "{many} of {runs} histories break an invariant\n\n{}", first.join("\n\n"));
}

fn play(seeds: &[u64]) -> Vec<String> {
    seeds.iter().filter_map(|seed| sim::run(*seed).err()).map(|broken| broken.to_string()).collect()
}

/// Histories that once found something.
#[test]
fn what_was_found_before_stays_right() {
    // A payment that its rail had blocked and then refused with leave to try again stayed held for ever.
    let broken: Vec<_> = [1204, 1423, 1975].into_iter().filter_map(|seed| sim::run_plain(seed).err()).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    // What its rail twice did not know and then did not take stayed in doubt while the lane wanted its other rail.
    let broken = play(&[2074, 2173, 2443, 2621]);
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

#[test]
fn a_surrounding_that_breaks_its_word_is_found_out() {
    for (lie, invariant) in
        [(Lie::Commits, "I"), (Lie::Keys, "I2"), (Lie::PubAcks, "I"), (Lie::Letters, "I5"), (Lie::Deliveries, "I")]
    {
        // A lie may show elsewhere first: an event that is never done, for instance.
        let mut found = (1..=30).filter_map(|seed| sim::run_with(seed, lie).err());
        let named = found.find(|broken| broken.what.starts_with(invariant));
        assert!(named.is_some(), "{lie:?} does not show as {invariant} in 30 histories");
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 1..=12 {
        let [once, again] = [sim::run(seed), sim::run(seed)].map(|end| end.unwrap_or_else(|broken| panic!("{broken}")));
        assert_eq!(once, again, "seed {seed}");
    }
}
