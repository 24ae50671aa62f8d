//! Broken events, duplicates and conflicts.

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::load::{Expected, Load};
use crate::site::{Setup, Site};

/// The same payment id, asking for something else.
fn conflicting(body: &Bytes) -> Bytes {
    let mut value: Value = serde_json::from_slice(body).unwrap();
    value["end_to_end_id"] = json!("ANOTHER-INVOICE");
    value.to_string().into()
}

#[tokio::test]
async fn every_kind_of_broken_event_ends_as_it_must_and_the_rest_settles() {
    // Fewer slots than events between a payment and its repeat: the order of ends is the order of events.
    let site = Site::new(Setup { slots: 24, ..Setup::default() }).await;
    let load = Load::mixed(8, 2_000, 50);
    let e = load.expected;
    assert!([e.settled, e.rejected, e.dead_lettered, e.duplicates, e.swallowed].into_iter().all(|n| n > 10), "{e:?}");
    let worker = site.worker().await;
    site.publish(&load).await;
    site.drained(&worker).await;
    assert_eq!(site.stored_in("PAYMENT_DEAD_LETTERS").await, e.dead_lettered);
    worker.stop().await;
    site.balances(e).await;
}

#[tokio::test]
async fn a_repeat_the_broker_does_not_know_is_a_duplicate_and_another_content_a_conflict() {
    let site = Site::new(Setup::default()).await;
    let load = Load::plain(9, 40);
    let worker = site.worker().await;
    site.publish(&load).await;
    site.drained(&worker).await;
    for (n, body) in load.bodies.iter().enumerate() {
        site.publish_as(&format!("again-{n}"), body).await;
        site.publish_as(&format!("other-{n}"), &conflicting(body)).await;
    }
    site.drained(&worker).await;
    assert_eq!(worker.lane().await.unwrap().settled, 40);
    worker.stop().await;
    let expected = Expected { published: 120, duplicates: 40, dead_lettered: 40, ..load.expected };
    site.balances(expected).await;
    assert_eq!(site.reconciled().await.dead_lettered_by_code["AM05"], 40);
    // One settled and one dead-lettered each; the duplicate's announcement is the same message.
    assert_eq!(site.stored_in("PAYMENT_OUTCOMES").await, 80);
}

#[tokio::test]
async fn duplicates_and_conflicts_within_one_group_leave_the_first_event_standing() {
    let site = Site::new(Setup { slots: 256, busy_timeout: "10s", ..Setup::default() }).await;
    let worker = site.worker().await;
    // While the lock is held all that follows gathers behind the group that waits for it.
    let lock = site.lock();
    let first = Load::plain(10, 30);
    site.publish(&first).await;
    worker.until("the first wait", |lane| lane.in_flight == 30).await;
    let load = Load::plain(11, 50);
    // Side by side: the worker waits ten seconds for the lock, on a busy machine too.
    let others: Vec<Bytes> = load.bodies.iter().map(conflicting).collect();
    for (name, bodies) in [("first", &load.bodies), ("again", &load.bodies), ("other", &others)] {
        let published =
            bodies.iter().enumerate().map(async |(n, body)| site.publish_as(&format!("{name}-{n}"), body).await);
        join_all(published).await;
    }
    worker.until("all wait", |lane| lane.in_flight == 180).await;
    drop(lock);
    site.drained(&worker).await;
    worker.stop().await;
    let expected = Expected { published: 180, settled: 80, duplicates: 50, dead_lettered: 50, ..Expected::default() };
    site.balances(expected).await;
}
