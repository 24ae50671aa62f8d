//! What the broker may refuse or take away: each by name in the log and in readiness, and never a hot loop.

use std::time::Duration;

use crate::load::Load;
use crate::site::{Setup, Site, accounts};

#[tokio::test]
async fn without_the_permission_to_pull_it_says_so_and_does_not_turn_in_circles() {
    let allowed = "\"$JS.API.CONSUMER.MSG.NEXT.PAYMENTS.acquit-payments\"";
    let denied = "\"payments.denied\"";
    let accounts = accounts().replacen(allowed, denied, 1);
    let site = Site::new(Setup { accounts: Some(accounts), ..Setup::default() }).await;
    let load = Load::plain(24, 100);
    site.publish(&load).await;
    let worker = site.worker().await;
    let lane = worker.until("it is not ready", |lane| !lane.ready && lane.trouble.is_some()).await;
    let trouble = lane.trouble.unwrap();
    assert!(trouble.to_lowercase().contains("permissions violation") && trouble.contains("MSG.NEXT"), "{trouble}");
    let (code, page) = worker.page("/readyz").await;
    assert!(code == 503 && page.contains("MSG.NEXT"), "{page}");
    let seen = worker.watch(Duration::from_secs(5)).await;
    assert!(seen.iter().all(|(_, lane)| !lane.ready && lane.received == 0), "it stays unready");
    assert!(worker.log_lines() < 60, "{}", worker.log_end());

    site.reload(denied, allowed);
    site.drained(&worker).await;
    worker.until("it is ready", |lane| lane.ready).await;
    worker.stop().await;
    site.balances(load.expected).await;
}

#[tokio::test]
async fn a_server_in_lame_duck_mode_is_named_and_its_successor_taken() {
    let mut site = Site::new(Setup::default()).await;
    let worker = site.worker().await;
    let load = Load::plain(25, 200);
    site.publish(&load).await;
    worker.until("it settles", |lane| lane.settled > 0).await;
    site.server.lame_duck().unwrap();
    assert!(site.server.wait_ended(Duration::from_secs(15)).await.unwrap());
    worker.until("it is not ready", |lane| !lane.ready && lane.is_shut_by("broker")).await;
    assert!(worker.said("lame duck").is_some(), "{}", worker.log_end());
    let (code, page) = worker.page("/readyz").await;
    assert!(code == 503 && page.contains("broker"), "{page}");
    // What is in hand is given up when its time is over, a few lines each; then it is quiet.
    worker.until("nothing is in hand", |lane| lane.in_flight == 0).await;
    let before = worker.log_lines();
    assert!(before < 400, "{before}");
    worker.watch(Duration::from_secs(2)).await;
    assert!(worker.log_lines() < before + 30, "{}", worker.log_end());
    site.server.restart().await.unwrap();
    site.drained(&worker).await;
    worker.stop().await;
    site.balances(load.expected).await;
}

#[tokio::test]
async fn without_a_consumer_it_waits_for_one_without_turning_in_circles() {
    let site = Site::new(Setup::default()).await;
    let load = Load::plain(26, 100);
    site.publish(&load).await;
    site.remove_consumer().await;
    let worker = site.worker().await;
    let lane = worker.until("it is not ready", |lane| !lane.ready && lane.trouble.is_some()).await;
    assert!(lane.trouble.unwrap().contains("does not exist"));
    worker.watch(Duration::from_secs(3)).await;
    assert!(worker.log_lines() < 40, "{}", worker.log_end());
    site.provision(&["--start", "all"]).await;
    site.drained(&worker).await;
    worker.stop().await;
    site.balances(load.expected).await;
}
