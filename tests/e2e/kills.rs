//! `kill -9` of the worker between any two effects, twenty times each, the next worker following at once.

use crate::load::Load;
use crate::site::{Setup, Site};

async fn survives_twenty_kills(step: &str, seed: u64) {
    let site = Site::new(Setup::default()).await;
    let load = Load::mixed(seed, 1_000, 20).then(Load::unreadable("kill", 60));
    site.publish(&load).await;
    for n in 0..20 {
        // Not always the first time, so that other events are at other places when it dies.
        site.dies_at(step, 1 + n * 3 % 5).await;
    }
    let worker = site.worker().await;
    site.drained(&worker).await;
    worker.stop().await;
    site.balances(load.expected).await;
    assert_eq!(site.stored_in("PAYMENT_DEAD_LETTERS").await, load.expected.dead_lettered);
}

#[tokio::test]
async fn killed_after_a_pull_it_loses_and_doubles_nothing() {
    survives_twenty_kills("after-pull", 31).await;
}

#[tokio::test]
async fn killed_before_a_commit_it_loses_and_doubles_nothing() {
    survives_twenty_kills("before-commit", 32).await;
}

#[tokio::test]
async fn killed_after_a_commit_it_loses_and_doubles_nothing() {
    survives_twenty_kills("after-commit", 33).await;
}

#[tokio::test]
async fn killed_before_an_outcome_event_it_loses_and_doubles_nothing() {
    survives_twenty_kills("before-outcome", 34).await;
}

#[tokio::test]
async fn killed_before_an_acknowledgement_it_loses_and_doubles_nothing() {
    survives_twenty_kills("before-ack", 35).await;
}

#[tokio::test]
async fn killed_between_a_dead_letter_and_its_term_it_loses_and_doubles_nothing() {
    survives_twenty_kills("before-term", 36).await;
}
