//! The operations HTTP of a worker, and what provisioning makes of a broker.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::load::Load;
use crate::site::{Role, Setup, Site};

const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yml");
const RULES: &str = include_str!("../../deploy/prometheus/rules.yml");

/// The metrics that an alert or a rule reads; what a rule makes has a colon in its name.
fn read_by_prometheus() -> BTreeSet<&'static str> {
    let names = |line: &'static str| {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        words.filter(|word| word.starts_with("acquit_") && !word.contains(':'))
    };
    ALERTS.lines().chain(RULES.lines()).filter(|line| !line.trim_start().starts_with('#')).flat_map(names).collect()
}

#[tokio::test]
async fn a_worker_says_how_it_is_and_a_shut_gate_is_ready_but_paused() {
    let site = Site::new(Setup { breaker_wait: "1s", ..Setup::default() }).await;
    let worker = site.worker().await;
    assert_eq!(worker.page("/livez").await, (200, "ok\n".to_owned()));
    worker.until("it is ready", |lane| lane.ready).await;
    // Before anything has happened: a series that is not there yet can raise no alert.
    let (code, metrics) = worker.page("/metrics").await;
    assert_eq!(code, 200);
    let names = read_by_prometheus();
    assert!(names.len() > 15, "{names:?}");
    let shows =
        |name: &str| metrics.lines().any(|line| line.strip_prefix(name).is_some_and(|l| l.starts_with(['{', ' '])));
    let missing: Vec<_> = names.into_iter().filter(|name| !shows(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");

    let load = Load::mixed(27, 500, 20);
    site.publish(&load).await;
    worker.until("it is ready", |lane| lane.ready && lane.settled > 0).await;
    assert_eq!(worker.page("/readyz").await, (200, "lane payments: ready\n".to_owned()));

    let lock = site.lock();
    let more = Load::plain(28, 200);
    site.publish(&more).await;
    worker.until("the gate shuts", |lane| lane.is_shut_by("settlement") && lane.ready).await;
    assert_eq!(worker.page("/readyz").await, (200, "lane payments: ready, paused: settlement\n".to_owned()));
    assert_eq!(worker.page("/livez").await.0, 200);
    drop(lock);
    site.drained(&worker).await;

    let status = site.acquit(Role::Operator, &["status", "--json", "--at", worker.address()]).await;
    assert!(status.code == Some(0) && status.out.contains("\"lanes\""), "{status:?}");
    worker.stop().await;
    site.balances(load.then(more).expected).await;
}

#[tokio::test]
async fn provisioning_again_changes_nothing_and_a_value_that_somebody_changed_is_found_and_put_back() {
    let site = Site::new(Setup::default()).await;
    let provision = ["provision", "--replicas", "1", "--ack-wait", "1s", "--json"];
    let actions = |said: &Value| -> Vec<Value> {
        said["steps"].as_array().unwrap().iter().map(|step| step["action"].clone()).collect()
    };
    let keep = vec![json!("keep"); 5];
    let said = site.acquit(Role::Provisioner, &provision).await;
    assert_eq!(actions(&said.json()), keep, "{said:?}");
    let said = site.acquit(Role::Operator, &["check"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");

    site.set("PAYMENTS", "max_age", json!(86_400_000_000_000_u64)).await;
    let said = site.acquit(Role::Operator, &["check"]).await;
    assert!(said.code == Some(1) && said.out.contains("max_age"), "{said:?}");
    let said = site.acquit(Role::Provisioner, &provision).await;
    assert!(said.code == Some(0) && actions(&said.json()).contains(&json!("update")), "{said:?}");
    let said = site.acquit(Role::Provisioner, &provision).await;
    assert_eq!(actions(&said.json()), keep, "{said:?}");
}
