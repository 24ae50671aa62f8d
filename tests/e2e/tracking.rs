//! `in_progress = "track"`: events whose rail takes long are acknowledged, and the store finishes their payments, in
//! this worker or another. The rail's ledger says what really happened.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use acquit::lab::servers::{PostgresOptions, PostgresServer};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::http_rail::{Bank, route};
use crate::load::Load;
use crate::process::wait_until;
use crate::site::{Role, Setup, Site};
use crate::unknown::metric_is;

/// Has the lane track what its rail takes long for; `more` are further keys of the lane.
pub(crate) fn track(site: &Site, bank: SocketAddr, more: &str) {
    route(site, bank, "");
    let file = site.store().with_file_name("acquit.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let lane = format!("route = \"bank\"\nin_progress = \"track\"\n{more}");
    std::fs::write(&file, text.replacen("route = \"bank\"\n", &lane, 1)).unwrap();
}

/// The stand-in takes every payment and settles it so much later.
fn later(after: &str) -> String {
    format!("idempotent = false\n[[behaviour]]\nkind = \"in_progress\"\nafter = \"{after}\"\n")
}

/// One effect a payment, and no other.
fn paid_once(bank: &Bank, payments: usize) {
    let effects = bank.effects();
    let distinct: BTreeSet<&String> = effects.iter().map(|(payment, ..)| payment).collect();
    assert_eq!((effects.len(), distinct.len()), (payments, payments), "effects and payments");
}

async fn explained(site: &Site, payment: &str) -> Value {
    site.acquit(Role::Operator, &["explain", payment, "--json"]).await.json()
}

#[tokio::test]
async fn what_one_worker_tracked_another_finishes_after_the_first_is_killed() {
    let database = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let site = Site::new(Setup { database: Some(database.url()), ..Setup::default() }).await;
    let bank = Bank::start(&site, &later("15s"), None).await;
    track(&site, bank.address, "");
    let load = Load::plain(51, 40);
    site.publish(&load).await;
    let first = site.worker().await;
    site.drained(&first).await;
    let lane = first.until("it sees what is tracked", |lane| lane.tracker == 40).await;
    assert_eq!((lane.settled, lane.dead_lettered, lane.gate.as_str()), (0, 0, "open"), "{lane:?}");
    // Acknowledged, unfinished, and on nobody's list of the lost.
    let events = site.reconciled().await;
    assert_eq!((events.held["tracked"], events.settled), (40, 0), "{events:?}");
    assert_eq!(site.stored_in("PAYMENT_OUTCOMES").await, 40, "told as held, once each");
    // Their rail says that it works on them: that is told apart from what nobody knows.
    wait_until("they are counted", Duration::from_secs(15), async || {
        let (_, status) = first.page("/status").await;
        let unknown = serde_json::from_str::<Value>(&status).unwrap()["unknown"].take();
        (&unknown["count"], &unknown["in_progress"]) == (&json!(0), &json!(40))
            && unknown["in_progress_oldest"].is_string()
    })
    .await;
    metric_is(&first, "acquit_in_progress_payments 40").await;
    metric_is(&first, "acquit_unknown_payments 0").await;
    let said = site.acquit(Role::Operator, &["unknown", "list", "--json", "--limit", "1"]).await.json::<Value>();
    assert_eq!((&said["count"], &said["in_progress"]["count"]), (&json!(0), &json!(40)), "{said}");
    let shown = &said["payments"][0];
    assert_eq!(shown["waits_for"], json!("its rail, which says that it works on it"));
    let life = explained(&site, shown["payment_id"].as_str().unwrap()).await;
    assert!(life["attempts"][0]["in_progress_at"].is_string(), "{life}");

    let second = site.worker().await;
    first.kill().await;
    wait_until("the rail settles", Duration::from_secs(60), async || bank.effects().len() == 40).await;
    second.within(Duration::from_secs(120), "the other worker tells all", |lane| lane.tracker == 0).await;
    paid_once(&bank, 40);
    assert_eq!(site.stored_in("PAYMENT_OUTCOMES").await, 80, "one outcome event each");
    let events = site.reconciled().await;
    assert_eq!((events.settled, events.held()), (40, 0), "{events:?}");
    second.stop().await;
    site.balances(load.expected).await;
}

#[tokio::test]
async fn an_end_whose_outcome_event_a_kill_prevented_is_told_after_the_restart() {
    let site = Site::new(Setup::default()).await;
    let bank = Bank::start(&site, &later("8s"), None).await;
    track(&site, bank.address, "");
    let load = Load::plain(52, 10);
    site.publish(&load).await;
    let worker = site.worker().await;
    site.drained(&worker).await;
    worker.until("all is tracked", |lane| lane.tracker == 10).await;
    worker.kill().await;

    let log = site.folder("log").join("killed");
    let mut command = site.command(Role::Worker, &["run"]);
    command.env("ACQUIT_LAB_KILL", "before-outcome:1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let ended = timeout(Duration::from_secs(90), command.spawn().unwrap().wait()).await.expect("it is killed").unwrap();
    assert_eq!(ended.signal(), Some(9), "{}", std::fs::read_to_string(&log).unwrap());
    let number = |sql: &str| {
        let store = Connection::open(site.store()).unwrap();
        store.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let (untold, tracked) = (
        "SELECT count(*) FROM tracker t JOIN payments p ON p.id = t.payment AND p.state = 'settled'",
        "SELECT count(*) FROM tracker",
    );
    assert!(number(untold) > 0 && number(tracked) == 10, "{} ends", number(untold));
    assert_eq!(site.stored_in("PAYMENT_OUTCOMES").await, 10, "none of the ends is told");
    // It is no difference: the store knows that it is to be told.
    assert_eq!(site.reconciled().await.held["tracked"], 10 - u64::try_from(number(untold)).unwrap());
    let payment = "SELECT p.payment_id FROM tracker t JOIN payments p ON p.id = t.payment LIMIT 1";
    let payment: String = Connection::open(site.store()).unwrap().query_row(payment, [], |row| row.get(0)).unwrap();
    let life = explained(&site, &payment).await;
    assert!(life["payment"]["tracked_since"].is_string(), "{life}");

    let worker = site.worker().await;
    worker.within(Duration::from_secs(120), "all is told", |lane| lane.tracker == 0 && lane.ready).await;
    wait_until("all is told", Duration::from_secs(120), async || number(tracked) == 0).await;
    assert_eq!(site.stored_in("PAYMENT_OUTCOMES").await, 20, "one outcome event each");
    worker.stop().await;
    bank.agrees_with(&site, 10);
    site.balances(load.expected).await;
}

#[tokio::test]
async fn at_its_bound_the_tracker_shuts_the_gate_and_the_rest_keep_their_events() {
    let site = Site::new(Setup { slots: 8, ..Setup::default() }).await;
    let bank = Bank::start(&site, &later("10s"), None).await;
    track(&site, bank.address, "track_limit = 5\n");
    let load = Load::plain(53, 24);
    site.publish(&load).await;
    let worker = site.worker().await;
    worker.until("the gate shuts", |lane| lane.is_shut_by("tracker") && lane.tracker == 5).await;
    let seen = worker.watch(Duration::from_secs(3)).await;
    assert!(seen.iter().all(|(_, lane)| lane.tracker <= 5), "{:?}", seen.last());
    assert!(seen.iter().all(|(_, lane)| lane.is_shut_by("tracker")), "{:?}", seen.last());
    let events = site.reconciled().await;
    assert!(events.held["tracked"] == 5 && events.held["in_stream"] > 0, "{events:?}");

    wait_until("all has its end", Duration::from_secs(240), async || {
        site.has_ended().await && bank.effects().len() == 24
    })
    .await;
    worker.within(Duration::from_secs(120), "all is told", |lane| lane.tracker == 0 && lane.gate == "open").await;
    worker.stop().await;
    bank.agrees_with(&site, 24);
    site.balances(load.expected).await;
}

#[tokio::test]
async fn another_event_of_a_tracked_payment_waits_and_is_a_duplicate_in_the_end() {
    let site = Site::new(Setup::default()).await;
    let bank = Bank::start(&site, &later("10s"), None).await;
    track(&site, bank.address, "");
    let account = |iban: &str| json!({ "iban": iban });
    let body = json!({
        "payment_id": "TWICE", "scheme": "book", "amount": { "currency": "EUR", "value": "12.00" },
        "debtor": { "name": "Canary Bakery" }, "debtor_account": account("GB29NWBK60161331926819"),
        "creditor_account": account("DE89370400440532013000"),
    });
    let body = body.to_string().into();
    site.publish_as("first", &body).await;
    let worker = site.worker().await;
    site.drained(&worker).await;
    worker.until("it is tracked", |lane| lane.tracker == 1).await;
    site.publish_as("second", &body).await;
    worker.until("the other event waits", |lane| lane.handed_back > 0).await;
    assert!(bank.effects().is_empty() && site.consumer().await.unwrap().num_ack_pending == 1);
    let life = explained(&site, "TWICE").await;
    assert!(life["attempts"].as_array().unwrap().len() == 1, "{life}");

    worker.within(Duration::from_secs(90), "it is told", |lane| lane.tracker == 0).await;
    site.drained(&worker).await;
    worker.stop().await;
    paid_once(&bank, 1);
    let events = site.reconciled().await;
    assert_eq!((events.settled, events.duplicates, events.held()), (1, 1, 0), "{events:?}");
}
