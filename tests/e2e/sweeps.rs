//! Sweeps of tracked payments keep to what inquiries of events keep to: the breaker, and what the rail bears at once.

use std::time::Duration;

use acquit::lab::rail::ScriptedRail;
use acquit::lab::rail::ledger::Ledger;
use acquit::lab::rail::script::Script;
use rusqlite::Connection;

use crate::http_rail::route;
use crate::load::Load;
use crate::process::wait_until;
use crate::site::{Setup, Site};

const PAYMENTS: u32 = 200;
/// What the lane may have under way.
const SLOTS: u16 = 8;
/// Every payment is taken, and settles soon.
const TAKES: &str = "idempotent = false\nlatency = [\"40ms\", \"60ms\"]\n\
                     [[behaviour]]\nkind = \"in_progress\"\nafter = \"2s\"\n";
/// Nobody answers inquiries.
const SILENT: &str = "[[behaviour]]\nkind = \"inquiry_error\"\n";

/// A stand-in in this process, and a lane over it that tracks what it takes long for.
fn bank(site: &Site, script: &str) -> ScriptedRail {
    let ledger = Ledger::open(&site.folder("banks").join("bank")).unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let bank = ScriptedRail::start(listen, Script::parse(script).unwrap(), ledger).unwrap();
    route(site, bank.address(), "");
    let file = site.store().with_file_name("acquit.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let lane = "route = \"bank\"\nin_progress = \"track\"\n";
    std::fs::write(&file, text.replacen("route = \"bank\"\n", lane, 1)).unwrap();
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

#[tokio::test]
async fn a_rail_that_is_down_is_not_asked_by_sweeps_and_one_that_is_back_by_no_more_than_it_bears() {
    let site = Site::new(Setup { slots: SLOTS, breaker_wait: "2s", ..Setup::default() }).await;
    let bank = bank(&site, &format!("{TAKES}{SILENT}"));
    let load = Load::plain(81, PAYMENTS.into());
    site.publish(&load).await;
    let worker = site.worker().await;
    site.drained(&worker).await;
    worker.until("all is tracked", |lane| lane.tracker == u64::from(PAYMENTS)).await;
    worker.until("inquiries are paused", |lane| lane.breakers.inquiries == "open").await;

    // Each payment has its next sweep, or more; what the rail sees of them is a probe now and then.
    let (before, sweeps) = (bank.inquiries().came, most_sweeps(&site));
    wait_until("all is swept again", Duration::from_secs(120), async || swept(&site, sweeps + 1) == PAYMENTS).await;
    let asked = bank.inquiries().came - before;
    assert!(asked * 2 < u64::from(PAYMENTS), "{asked} inquiries");
    let lane = worker.lane().await.unwrap();
    assert_eq!((lane.breakers.settlement.as_str(), lane.gate.as_str()), ("closed", "open"), "{lane:?}");

    bank.play(Script::parse(TAKES).unwrap());
    worker.within(Duration::from_secs(240), "all is told", |lane| lane.tracker == 0).await;
    let seen = bank.inquiries();
    assert!(seen.at_once <= u32::from(SLOTS), "{seen:?}");
    worker.stop().await;
    assert_eq!((bank.effects().unwrap().len(), bank.posts().values().sum()), (200, PAYMENTS));
    site.balances(load.expected).await;
}
