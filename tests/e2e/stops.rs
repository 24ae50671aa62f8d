//! Kills and signals under load.

use std::time::Duration;

use jiff::SignedDuration;
use rustix::process::Signal;

use crate::load::Load;
use crate::process::wait_until;
use crate::site::{ACK_WAIT, Setup, Site};

#[tokio::test]
async fn a_worker_told_to_stop_under_load_loses_nothing_and_the_next_one_goes_on() {
    let site = Site::new(Setup { quiet: true, ..Setup::default() }).await;
    let load = Load::mixed(3, 4_000, 10);
    site.publish(&load).await;
    for stop_after in [300, 1_200] {
        let worker = site.worker().await;
        worker.until("it settles", |lane| lane.settled > stop_after).await;
        let code = worker.terminate().await;
        assert!([0, 75].contains(&code), "{code}");
        assert!(site.reconciled().await.held() > 0);
    }
    let worker = site.worker().await;
    site.drained(&worker).await;
    let repeated = site.deliveries().await - load.expected.published;
    assert!(repeated <= 2 * 64, "{repeated} deliveries too many");
    worker.stop().await;
    site.balances(load.expected).await;
}

#[tokio::test]
async fn a_server_killed_under_load_loses_nothing() {
    let mut site = Site::new(Setup::default()).await;
    let load = Load::mixed(4, 3_000, 10);
    let publishing = site.publishing(&load);
    let worker = site.worker().await;
    for settled in [200, 900] {
        worker.until("it settles", |lane| lane.settled > settled).await;
        site.server.kill9().unwrap();
        worker.until("it notices", |lane| !lane.ready && lane.is_shut_by("broker")).await;
        site.server.restart().await.unwrap();
        worker.until("it is ready again", |lane| lane.ready).await;
    }
    let said = publishing.await.unwrap();
    assert_eq!(said.code, Some(0), "{said:?}");
    site.drained(&worker).await;
    worker.stop().await;
    // A retry whose first try was stored before the kill may be known to the broker or not.
    site.balances(load.expected).await;
}

#[tokio::test]
async fn acknowledgements_of_deliveries_that_the_server_has_forgotten_do_not_hold_their_slots() {
    let mut site = Site::new(Setup { busy_timeout: "10s", ..Setup::default() }).await;
    let load = Load::plain(29, 300);
    let worker = site.worker().await;
    let lock = site.lock();
    site.publish(&load).await;
    worker.until("all slots are taken", |lane| lane.in_flight == 64).await;
    wait_until("the server keeps that on its disk", Duration::from_secs(5), async || site.kept_deliveries() == 64)
        .await;
    site.server.kill9().unwrap();
    site.forget_deliveries();
    site.server.restart().await.unwrap();
    worker.until("it is ready again", |lane| lane.ready).await;
    assert_eq!(site.deliveries().await, 0, "the server has forgotten");
    drop(lock);
    site.drained(&worker).await;
    worker.stop().await;
    site.balances(load.expected).await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_the_next_worker_goes_on() {
    let site = Site::new(Setup { busy_timeout: "10s", ..Setup::default() }).await;
    let load = Load::plain(5, 200);
    let mut worker = site.worker().await;
    let lock = site.lock();
    site.publish(&load).await;
    worker.until("all slots are taken", |lane| lane.in_flight == 64).await;
    worker.signal(Signal::TERM);
    wait_until("it drains", Duration::from_secs(5), async || worker.said("lane drains").is_some()).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.ended(Duration::from_secs(1)).await, 75);
    drop(lock);
    let worker = site.worker().await;
    site.drained(&worker).await;
    worker.stop().await;
    site.balances(load.expected).await;
}

#[tokio::test]
async fn an_event_delivered_again_while_it_is_still_in_hand_settles_once() {
    let site = Site::new(Setup { busy_timeout: "10s", ..Setup::default() }).await;
    let load = Load::plain(6, 24);
    let worker = site.worker().await;
    let lock = site.lock();
    site.publish(&load).await;
    worker.until("all are in hand", |lane| lane.in_flight == 24).await;
    worker.signal(Signal::STOP);
    let (stopped_at, _) = site.clock_and_pulls().await;
    wait_until("the server has given up waiting", Duration::from_secs(20), async || {
        let (now, pulls) = site.clock_and_pulls().await;
        pulls == 0 && now.duration_since(stopped_at) > SignedDuration::try_from(ACK_WAIT * 2).unwrap()
    })
    .await;
    worker.signal(Signal::CONT);
    worker.until("all are in hand twice", |lane| lane.in_flight == 48 && lane.received == 48).await;
    drop(lock);
    site.drained(&worker).await;
    worker.stop().await;
    site.balances(load.expected).await;
    assert_eq!(site.stored_in("PAYMENT_OUTCOMES").await, 24, "told once each");
}

#[tokio::test]
async fn a_worker_killed_under_load_again_and_again_settles_everything_once() {
    let site = Site::new(Setup::default()).await;
    let load = Load::mixed(7, 3_000, 10);
    site.publish(&load).await;
    for settled in [50, 150, 250, 100] {
        let worker = site.worker().await;
        worker.until("it settles", |lane| lane.settled > settled).await;
        worker.kill().await;
    }
    let worker = site.worker().await;
    site.drained(&worker).await;
    worker.stop().await;
    site.balances(load.expected).await;
}
