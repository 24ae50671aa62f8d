//! Settlement that is down, and settlement that is slow.

use std::time::Duration;

use crate::load::{Expected, Load};
use crate::site::{ACK_WAIT, EXPIRES, Setup, Site};

#[tokio::test]
async fn settlement_down_for_longer_than_ack_wait_burns_no_deliveries_and_then_everything_settles() {
    let site = Site::new(Setup { breaker_wait: "2s", quiet: true, ..Setup::default() }).await;
    let load = Load::plain(1, 5_000);
    site.publish(&load).await;
    let worker = site.worker().await;
    worker.until("it settles", |lane| lane.settled > 100).await;

    let outage = site.lock();
    let seen = worker.watch(ACK_WAIT * 4).await;
    let opened = seen.iter().position(|(_, lane)| lane.is_shut_by("settlement")).expect("the gate shuts");
    let (_, before) = &seen[opened];
    assert_eq!(before.breakers.settlement, "open");
    assert!(before.breaker_opened >= 1);
    let mut since = None;
    for (at, lane) in &seen[opened..] {
        if lane.breakers.settlement != "open" {
            since = None;
            continue;
        }
        let since = *since.get_or_insert(*at);
        let slack = EXPIRES + Duration::from_millis(500);
        assert!(lane.pulls_outstanding == 0 || at.duration_since(since) < slack, "a pull is out: {lane:?}");
        assert!(lane.in_flight <= 64);
    }
    assert!(seen[opened..].iter().any(|(_, lane)| lane.pulls_outstanding == 0));
    drop(outage);
    site.drained(&worker).await;

    let lane = worker.until("the gate opens", |lane| lane.gate == "open").await;
    assert_eq!(lane.pulls_while_open, 0);
    assert_eq!((lane.settled, lane.dead_lettered), (5_000, 0));
    // Once each slot's event at the most, and the few that went out to try whether settlement is back.
    assert!(lane.handed_back <= 64 + 20, "{lane:?}");
    let repeated = site.deliveries().await - load.expected.published;
    assert!(repeated <= 64 + 20, "{repeated} deliveries too many");
    worker.stop().await;
    site.balances(load.expected).await;
}

#[tokio::test]
async fn settlement_slower_than_ack_wait_redelivers_nothing() {
    let site = Site::new(Setup { busy_timeout: "10s", quiet: true, ..Setup::default() }).await;
    let load = Load::plain(2, 300);
    let worker = site.worker().await;
    let slow = site.lock();
    site.publish(&load).await;
    worker.until("all slots are taken", |lane| lane.in_flight == 64).await;
    let seen = worker.watch(ACK_WAIT * 5 / 2).await;
    assert!(seen.iter().all(|(_, lane)| lane.settled == 0 && lane.in_flight == 64 && lane.gate == "open"));
    let held = site.consumer().await.unwrap();
    assert_eq!((held.num_ack_pending, held.num_redelivered), (64, 0));
    drop(slow);
    site.drained(&worker).await;
    assert_eq!(site.deliveries().await, 300, "each event was delivered once");
    let lane = worker.until("all are counted", |lane| lane.settled == 300).await;
    assert_eq!((lane.received, lane.handed_back, lane.breaker_opened), (300, 0, 0));
    worker.stop().await;
    site.balances(Expected { published: 300, settled: 300, ..Expected::default() }).await;
}
