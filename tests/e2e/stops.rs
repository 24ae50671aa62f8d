//! Kills and signals under load.

use std::time::Duration;

use rustix::process::Signal;

use crate::load::Load;
use crate::site::{ACK_WAIT, Setup, Site};

#[tokio::test]
async fn a_worker_told_to_stop_under_load_loses_nothing_and_the_next_one_goes_on() {
    let site = Site::new(Setup::default()).await;
    let load = Load::mixed(3, 4_000, 10);
    site.publish(&load).await;
    for stop_after in [300, 1_200] {
        let worker = site.worker().await;
        worker.until("it settles", |lane| lane.settled > stop_after).await;
        let code = worker.terminate().await;
        assert!([0, 75].contains(&code), "{code}");
        let found = site.reconcile().await;
        assert!(found.clean() && found.events.held.total() > 0, "{found:#?}");
    }
    let worker = site.worker().await;
    site.drained(&worker).await;
    let repeated = site.deliveries().await - load.expected.published;
    assert!(repeated <= 2 * 64, "{repeated} deliveries too many");
    worker.stop().await;
    site.balances(load.expected).await;
}
