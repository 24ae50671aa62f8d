//! Bounds that hold whatever is asked of a worker.

use std::time::Duration;

use crate::load::Load;
use crate::site::{Setup, Site};

#[tokio::test]
async fn no_more_events_are_in_hand_than_there_are_slots() {
    let site = Site::new(Setup { slots: 16, busy_timeout: "10s", quiet: true, ..Setup::default() }).await;
    let load = Load::plain(21, 1_000);
    let worker = site.worker().await;
    let slow = site.lock();
    site.publish(&load).await;
    worker.until("all slots are taken", |lane| lane.in_flight >= 16).await;
    let seen = worker.watch(Duration::from_secs(2)).await;
    let most = seen.iter().map(|(_, lane)| lane.in_flight).max();
    assert_eq!((most, site.consumer().await.unwrap().num_ack_pending), (Some(16), 16));
    drop(slow);
    site.drained(&worker).await;
    worker.stop().await;
    site.balances(load.expected).await;
}

#[tokio::test]
async fn what_is_handed_back_stays_away_for_its_delay() {
    let site = Site::new(Setup { quiet: true, ..Setup::default() }).await;
    let load = Load::plain(22, 200);
    let newer = [("Acquit-Contract".to_owned(), "2".to_owned())];
    let subject = "payments.requested.book.newer";
    let payments = &site.broker.streams().payments;
    site.broker.publish_confirmed(subject, "newer", &newer, "of a later day".into(), payments).await.unwrap();
    let worker = site.worker().await;
    worker.until("it is handed back", |lane| lane.handed_back >= 1).await;
    // Its delay is fifteen times a pull's time.
    let seen = worker.watch(Duration::from_secs(2)).await;
    assert_eq!(site.deliveries().await, 1, "it is not delivered again before its delay is over");
    assert!(seen.iter().all(|(_, lane)| lane.handed_back == 1 && lane.gate == "open"));
    site.publish(&load).await;
    worker.until("the others settle", |lane| lane.settled == 200).await;
    assert_eq!(site.deliveries().await, 201, "each event was delivered once");
    worker.stop().await;
    let found = site.reconciled().await;
    assert_eq!((found.published, found.settled, found.held()), (201, 200, 1), "{found:?}");
}
