//! Dead letters that cannot be stored: the originals stay, the gate shuts, and after the repair everything ends.

use serde_json::{Value, json};

use crate::load::Load;
use crate::process::Worker;
use crate::site::{Setup, Site, accounts};

const STREAM: &str = "PAYMENT_DEAD_LETTERS";

/// Waits for the shut gate, adds payments that must wait behind it, and gives what was published.
async fn shuts(site: &Site, worker: &Worker, load: Load) -> Load {
    site.publish(&load).await;
    let lane = worker.until("the gate shuts", |lane| lane.is_shut_by("dead_letters")).await;
    assert_eq!(lane.breakers.dead_letters, "open");
    let more = Load::plain(13, 100);
    site.publish(&more).await;
    let kept = site.consumer().await.unwrap();
    assert!(kept.num_ack_pending + kept.num_pending >= 100, "{kept:?}");
    assert!(worker.said("dead letter got no confirmation; the original stays in the stream").is_some());
    load.then(more)
}

async fn ends(site: &Site, worker: Worker, load: Load) {
    site.drained(&worker).await;
    // There are too few of them for the breaker's ramp to end by them.
    worker.until("nothing throttles the lane any more", |lane| lane.gate == "open").await;
    assert_eq!(site.stored_in(STREAM).await, load.expected.dead_lettered);
    worker.stop().await;
    site.balances(load.expected).await;
}

fn load() -> Load {
    Load::plain(12, 100).then(Load::unreadable("letter", 20))
}

#[tokio::test]
async fn without_a_stream_for_dead_letters_the_originals_are_kept() {
    let site = Site::new(Setup::default()).await;
    site.broker.api(&format!("STREAM.DELETE.{STREAM}"), &Value::Null).await.unwrap();
    let worker = site.worker().await;
    let load = shuts(&site, &worker, load()).await;
    assert_eq!(worker.lane().await.unwrap().dead_lettered, 0);
    site.provision(&[]).await;
    ends(&site, worker, load).await;
}

#[tokio::test]
async fn with_a_full_stream_for_dead_letters_the_originals_are_kept() {
    let site = Site::new(Setup::default()).await;
    site.set(STREAM, "max_msgs", json!(3)).await;
    let worker = site.worker().await;
    let load = shuts(&site, &worker, load()).await;
    assert_eq!(site.stored_in(STREAM).await, 3);
    assert_eq!(worker.lane().await.unwrap().dead_lettered, 3);
    site.set(STREAM, "max_msgs", json!(-1)).await;
    ends(&site, worker, load).await;
}

#[tokio::test]
async fn without_the_permission_to_store_dead_letters_the_originals_are_kept() {
    let allowed = "\"payments.dead.PAYMENTS.*.*\"";
    let denied = "\"payments.denied\"";
    let accounts = accounts().replacen(allowed, denied, 1);
    let site = Site::new(Setup { accounts: Some(accounts), ..Setup::default() }).await;
    let worker = site.worker().await;
    let load = shuts(&site, &worker, load()).await;
    assert!(worker.said("the broker denies a permission that this worker needs").is_some());
    assert_eq!(worker.lane().await.unwrap().dead_lettered, 0);
    site.reload(denied, allowed);
    ends(&site, worker, load).await;
}
