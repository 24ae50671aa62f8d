//! A store belongs to one process and one consumer, and its log is bounded.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::load::Load;
use crate::process::Worker;
use crate::site::{Role, Setup, Site};

/// Moves the store, its log and its index.
fn moved(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("acquit.db") {
            fs::rename(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// It pulls nothing and says why, where readiness is asked for.
async fn refuses(worker: Worker, words: &str) {
    let lane = worker.until("it refuses", |lane| lane.trouble.is_some()).await;
    assert!(!lane.ready && lane.received == 0, "{lane:?}");
    let (code, page) = worker.page("/readyz").await;
    assert!(code == 503 && page.contains(words), "{page}");
    worker.stop().await;
}

#[tokio::test]
async fn a_second_worker_on_one_store_is_refused_and_told_who_has_it() {
    let site = Site::new(Setup::default()).await;
    let first = site.worker().await;
    let second = site.acquit(Role::Worker, &["run"]).await;
    assert_eq!(second.code, Some(69), "{second:?}");
    assert!(second.err.contains(&format!("pid {}", first.pid())), "{second:?}");
    let load = Load::plain(19, 100);
    site.publish(&load).await;
    site.drained(&first).await;
    first.stop().await;
    site.balances(load.expected).await;
}

#[tokio::test]
async fn an_emptied_store_and_a_restored_one_are_refused_until_the_right_one_is_back() {
    let site = Site::new(Setup::default()).await;
    let store = site.store().parent().unwrap().to_owned();
    let (backup, newest) = (site.folder("backup"), site.folder("newest"));
    let (first, second) = (Load::plain(20, 100), Load::plain(21, 200));
    let worker = site.worker().await;
    site.publish(&first).await;
    site.drained(&worker).await;
    worker.stop().await;
    fs::copy(site.store(), backup.join("acquit.db")).unwrap();
    let worker = site.worker().await;
    let behind =
        Load { bodies: second.bodies[100..].to_vec(), expected: Load::plain(0, 100).expected, ..Load::default() };
    site.publish(&behind).await;
    site.drained(&worker).await;
    worker.stop().await;
    moved(&store, &newest);

    let none = site.acquit(Role::Worker, &["run"]).await;
    assert!(none.code == Some(69) && none.err.contains("there is no store"), "{none:?}");
    let said = site.acquit(Role::Provisioner, &["provision", "--replicas", "1", "--ack-wait", "1s"]).await;
    assert!(said.code == Some(1) && said.out.contains("REFUSED: it belongs to store"), "{said:?}");
    refuses(site.worker().await, "the consumer belongs to store").await;

    moved(&store, &site.folder("empty"));
    fs::copy(backup.join("acquit.db"), site.store()).unwrap();
    refuses(site.worker().await, "this looks like a restored backup").await;

    moved(&store, &site.folder("restored"));
    moved(&newest, &store);
    let worker = site.worker().await;
    let rest = Load::plain(22, 50);
    site.publish(&rest).await;
    site.drained(&worker).await;
    worker.stop().await;
    site.balances(first.then(behind).then(rest).expected).await;
}

#[tokio::test]
async fn a_filter_set_by_hand_is_left_and_named() {
    let site = Site::new(Setup::default()).await;
    for filter in
        [json!(["payments.requested.book.*"]), json!(["payments.requested.book.*", "payments.requested.sct.*"])]
    {
        site.set_consumer("filter_subjects", filter.clone()).await;
        let said = site.acquit(Role::Provisioner, &["provision", "--replicas", "1", "--ack-wait", "1s"]).await;
        assert!(said.code == Some(1) && said.out.contains("REFUSED: its filter would change in place"), "{said:?}");
        let is = site.consumer().await.unwrap().filters();
        assert_eq!(json!(is), filter, "it is left as it is");
    }
    site.set_consumer("filter_subjects", json!([])).await;
    site.provision(&[]).await;
}

#[tokio::test]
async fn a_reader_that_pins_the_log_ends_in_a_shut_gate_not_in_a_full_disk() {
    const MIB: u64 = 1 << 20;
    let site = Site::new(Setup { wal_limit: "1MiB", ..Setup::default() }).await;
    let worker = site.worker().await;
    let reader = site.pin();
    let load = Load::plain(23, 3_000);
    site.publish(&load).await;
    let lane = worker.until("the gate shuts", |lane| lane.is_shut_by("settlement")).await;
    assert!(lane.settled < 3_000, "{lane:?}");
    assert!(worker.said("the store did not serve").is_some());
    for _ in 0..4 {
        worker.watch(Duration::from_millis(500)).await;
        assert!((MIB..4 * MIB).contains(&site.log_bytes()), "{}", site.log_bytes());
    }
    drop(reader);
    site.drained(&worker).await;
    assert!(site.log_bytes() < 4 * MIB);
    worker.stop().await;
    site.balances(load.expected).await;
}
