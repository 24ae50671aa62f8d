//! Sweeps of tracked payments keep to what inquiries of events keep to: the breaker, and what the rail bears at once.

use std::time::Duration;

use acquit::domain::{Currency, Money};
use acquit::lab::rail::ScriptedRail;
use acquit::lab::rail::ledger::Ledger;
use acquit::lab::rail::script::Script;
use acquit::lab::servers::{PostgresOptions, PostgresServer};
use rusqlite::Connection;
use serde_json::Value;

use crate::load::Load;
use crate::process::{Worker, wait_until};
use crate::site::{Setup, Site};
use crate::tracking::track;

const PAYMENTS: u32 = 200;
/// Every payment is taken, and settles soon.
const TAKES: &str = "idempotent = false\nlatency = [\"40ms\", \"60ms\"]\n\
                     [[behaviour]]\nkind = \"in_progress\"\nafter = \"2s\"\n";
/// Nobody answers inquiries.
const SILENT: &str = "[[behaviour]]\nkind = \"inquiry_error\"\n";

/// Every payment is turned away.
const BUSY: &str = "[[behaviour]]\nkind = \"too_many\"\nretry_after = 1\n";

/// A stand-in in this process, and a lane over it that tracks what it takes long for.
fn bank(site: &Site, script: &str) -> ScriptedRail {
    let ledger = Ledger::open(&site.folder("banks").join("bank")).unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let bank = ScriptedRail::start(listen, Script::parse(script).unwrap(), ledger).unwrap();
    track(site, bank.address(), "");
    bank
}

/// How many tracked payments were swept that often, or more often.
fn swept(site: &Site, times: u32) -> u32 {
    let store = Connection::open(site.store()).unwrap();
    store.query_row("SELECT count(*) FROM tracker WHERE sweeps >= ?1", [times], |row| row.get(0)).unwrap()
}

/// The most sweeps of one payment.
fn most_sweeps(site: &Site) -> u32 {
    let store = Connection::open(site.store()).unwrap();
    store.query_row("SELECT max(sweeps) FROM tracker", [], |row| row.get(0)).unwrap()
}

/// Waits until `/metrics` has these lines.
async fn metrics_are(worker: &Worker, lines: &[String]) {
    wait_until(&format!("{lines:?}"), Duration::from_secs(30), async || {
        let (_, text) = worker.page("/metrics").await;
        lines.iter().all(|line| text.lines().any(|one| one == line))
    })
    .await;
}

/// What the metrics say of the tracker's money.
fn money(site: &Site) -> Vec<String> {
    let store = Connection::open(site.store()).unwrap();
    let mut sums = store.prepare("SELECT currency, sum(minor) FROM tracker GROUP BY currency").unwrap();
    let line = |row: &rusqlite::Row<'_>| {
        let (code, minor): (String, i64) = (row.get(0)?, row.get(1)?);
        let amount = Money::format(minor.into(), Currency::parse(&code).unwrap()).parse::<f64>().unwrap();
        Ok(format!("acquit_tracked_amount{{lane=\"payments\",currency=\"{code}\"}} {amount}"))
    };
    sums.query_map([], line).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_rail_that_is_down_is_not_asked_by_sweeps_and_all_are_told_once_it_is_back() {
    let site = Site::new(Setup { slots: 8, breaker_wait: "2s", ..Setup::default() }).await;
    let bank = bank(&site, &format!("{TAKES}{SILENT}"));
    let load = Load::plain(81, PAYMENTS.into());
    site.publish(&load).await;
    let worker = site.worker().await;
    site.drained(&worker).await;
    worker.until("all is tracked", |lane| lane.tracker == u64::from(PAYMENTS)).await;
    worker.until("inquiries are paused", |lane| lane.breakers.inquiries == "open").await;

    let held = [money(&site), vec!["acquit_tracked_payments{lane=\"payments\"} 200".to_owned()]].concat();
    assert!(held.len() > 1);
    metrics_are(&worker, &held).await;
    let (_, status) = worker.page("/status").await;
    let status: Value = serde_json::from_str(&status).unwrap();
    let tracked = &status["tracked"]["payments"];
    assert!(tracked["count"] == PAYMENTS && tracked["oldest"].is_string() && tracked["due"].is_string(), "{status}");

    // Each payment has its next sweep, or more; what the rail sees of them is a probe now and then.
    let (before, sweeps) = (bank.inquiries().came, most_sweeps(&site));
    wait_until("all is swept again", Duration::from_secs(120), async || swept(&site, sweeps + 1) == PAYMENTS).await;
    let asked = bank.inquiries().came - before;
    assert!(asked * 2 < u64::from(PAYMENTS), "{asked} inquiries");
    let lane = worker.lane().await.unwrap();
    assert_eq!((lane.breakers.settlement.as_str(), lane.gate.as_str()), ("closed", "open"), "{lane:?}");

    bank.play(Script::parse(TAKES).unwrap());
    worker.within(Duration::from_secs(240), "all is told", |lane| lane.tracker == 0).await;
    let none = ["payments", "oldest_age_seconds", "overdue_age_seconds"];
    metrics_are(&worker, &none.map(|of| format!("acquit_tracked_{of}{{lane=\"payments\"}} 0"))).await;
    worker.stop().await;
    assert_eq!((bank.effects().unwrap().len(), bank.posts().values().sum()), (200, PAYMENTS));
    site.balances(load.expected).await;
}

#[tokio::test]
async fn sweeps_ask_no_more_at_once_than_the_rail_bears() {
    let site = Site::new(Setup::default()).await;
    let late = "latency = [\"80ms\", \"120ms\"]\n[[behaviour]]\nkind = \"in_progress\"\nafter = \"1h\"\n";
    let bank = bank(&site, late);
    site.publish(&Load::plain(82, 100)).await;
    let worker = site.worker().await;
    site.drained(&worker).await;
    worker.until("all is tracked", |lane| lane.tracker == 100).await;
    // It has no room: what is published now is not taken, and the limit shrinks to its least.
    let busy = || Script::parse(&format!("latency = [\"80ms\", \"120ms\"]\n{BUSY}")).unwrap();
    bank.play(busy());
    site.publish(&Load::plain(83, 40)).await;
    worker.until("the limit is at its least", |lane| lane.in_flight_limit == 2).await;
    let more = async |inquiries: u64| {
        let end = bank.inquiries().came + inquiries;
        wait_until("it asks", Duration::from_secs(120), async || bank.inquiries().came >= end).await;
    };
    // More than a page: those that were asked about before are over.
    more(40).await;
    bank.play(busy());
    more(40).await;
    let (seen, lane) = (bank.inquiries(), worker.lane().await.unwrap());
    // Two of sweeps. What was published is not taken yet: the probes of it, as many as may be submitted at once, ask first.
    assert!(lane.in_flight_limit == 2 && seen.at_once <= 4, "{seen:?}");
    worker.kill().await;
    site.reconciled().await;
}

/// When the worker last counted, in Unix time; and whether it has said that it cannot.
async fn counted_at(worker: &Worker) -> (f64, bool) {
    let (_, text) = worker.page("/metrics").await;
    let series = "acquit_last_count_timestamp_seconds ";
    let at = text.lines().find_map(|line| line.strip_prefix(series)).expect("a series").parse().unwrap();
    (at, worker.said("cannot be counted").is_some())
}

#[tokio::test]
async fn a_count_that_stands_still_shows_and_goes_on_with_the_store() {
    let mut database = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let site = Site::new(Setup { database: Some(database.url()), ..Setup::default() }).await;
    let worker = site.worker().await;
    let grows = async |than: f64| {
        wait_until("it counts", Duration::from_secs(60), async || counted_at(&worker).await.0 > than).await;
    };
    grows(counted_at(&worker).await.0).await;
    database.stop().await.unwrap();
    wait_until("it says so", Duration::from_secs(60), async || counted_at(&worker).await.1).await;
    let stood = counted_at(&worker).await.0;
    // More than a count's interval.
    worker.watch(Duration::from_secs(7)).await;
    assert_eq!(counted_at(&worker).await, (stood, true));
    database.restart().await.unwrap();
    grows(stood).await;
    worker.stop().await;
}
