//! Payments in doubt that their rail never resolves, decided by a person: the real binary in front of the stand-in
//! service, whose ledger says what really happened.

use std::time::Duration;

use acquit::lab::servers::{PostgresOptions, PostgresServer};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::http_rail::{Bank, route};
use crate::load::Load;
use crate::process::{Worker, wait_until};
use crate::site::{Role, Said, Setup, Site, accounts};

const SAID: [&str; 6] = ["--evidence", "statement 311, line 4", "--who", "ops-1", "--why", "INC-7: no answer"];
/// A rail that never answers an inquiry.
const SILENT: &str = "[[behaviour]]\nkind = \"inquiry_error\"\n";

fn payment(load: &Load) -> String {
    let body: Value = serde_json::from_slice(&load.bodies[0]).unwrap();
    body["payment_id"].as_str().unwrap().to_owned()
}

/// The payments that are listed as in doubt for longer than that.
pub(crate) async fn listed(site: &Site, older: &str) -> Vec<Value> {
    let said = site.acquit(Role::Operator, &["unknown", "list", "--json", "--older-than", older]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    said.json::<Value>()["payments"].as_array().unwrap().clone()
}

/// Waits until so many are in doubt for so long.
async fn in_doubt(site: &Site, count: usize, older: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    wait_until("they are in doubt", Duration::from_secs(30), async || {
        seen = listed(site, older).await;
        seen.len() == count
    })
    .await;
    seen
}

pub(crate) async fn resolve(site: &Site, id: &str, words: &[&str], worker: Option<&Worker>) -> Said {
    let mut arguments = vec!["unknown", "resolve", id, "--json", "--as"];
    arguments.extend(words);
    arguments.extend(SAID);
    let url = worker.map(|worker| worker.address().to_owned()).unwrap_or_default();
    if worker.is_some() {
        arguments.extend(["--url", &url]);
    }
    site.acquit(Role::Operator, &arguments).await
}

/// The resolution is done; gives its record in the audit stream.
pub(crate) fn record(said: &Said) -> u64 {
    let done: Value = said.json();
    assert!(said.code == Some(0) && done["resolved"] == json!(true), "{said:?}");
    done["record"].as_u64().unwrap()
}

fn refused(said: &Said, why: &str) {
    let end: Value = said.json();
    let text = end["why"].as_str().unwrap_or_default();
    assert!(said.code == Some(1) && end["resolved"] == json!(false) && text.contains(why), "{said:?}");
}

/// The newest audit record about a payment: its sequence and what it holds.
async fn audit(site: &Site, id: &str) -> Option<(u64, Value)> {
    let stored = site.broker.last_on("PAYMENT_AUDIT", &format!("payments.audit.unknown.{id}")).await.ok()?;
    Some((stored.sequence, serde_json::from_slice(&stored.payload).unwrap()))
}

pub(crate) async fn metric_is(worker: &Worker, line: &str) {
    wait_until(line, Duration::from_secs(20), async || {
        let (_, metrics) = worker.page("/metrics").await;
        metrics.lines().any(|one| one == line)
    })
    .await;
}

#[tokio::test]
async fn a_person_settles_what_the_rail_never_confirms_and_the_event_is_announced_and_acknowledged() {
    let site = Site::new(Setup { accounts: Some(accounts()), ..Setup::default() }).await;
    let bank = Bank::start(&site, &format!("{SILENT}[[behaviour]]\nkind = \"hang_after\"\n"), None).await;
    route(&site, bank.address, "");
    let load = Load::plain(71, 1);
    let id = payment(&load);
    let worker = site.worker().await;
    metric_is(&worker, "acquit_unknown_payments 0").await;
    site.publish(&load).await;

    let shown = in_doubt(&site, 1, "2s").await.remove(0);
    assert_eq!((&shown["payment_id"], &shown["rail"], &shown["leg"]), (&json!(id), &json!("bank"), &json!(0)));
    assert_eq!((&shown["attempts"], &shown["state"]), (&json!(1), &json!("open")));
    let (currency, value) = (shown["currency"].as_str().unwrap(), shown["amount"].as_str().unwrap());
    let effects = bank.effects();
    assert_eq!((&*effects[0].1, &*effects[0].2), (currency, value), "the money that moved is the money in doubt");
    metric_is(&worker, "acquit_unknown_payments 1").await;
    let amount: f64 = value.parse().unwrap();
    metric_is(&worker, &format!("acquit_unknown_amount{{currency=\"{currency}\"}} {amount}")).await;
    let (_, status) = worker.page("/status").await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert!(status["unknown"]["count"] == json!(1) && status["unknown"]["oldest"].is_string(), "{status}");

    let asked = site.acquit(Role::Operator, &["unknown", "inquire", &id, "--json"]).await;
    assert_eq!((asked.code, &asked.json::<Value>()["answers"][0]["says"]), (Some(69), &json!("nothing")));
    let settled = ["settled", "--rail-ref", &effects[0].3];
    let dry = resolve(&site, &id, &[settled.as_slice(), &["--dry-run"]].concat(), Some(&worker)).await;
    assert!(dry.code == Some(0) && audit(&site, &id).await.is_none(), "{dry:?}");
    assert_eq!(listed(&site, "1s").await.len(), 1);

    let said = resolve(&site, &id, &settled, Some(&worker)).await;
    let (sequence, kept) = audit(&site, &id).await.expect("a record");
    assert_eq!(record(&said), sequence);
    assert_eq!((&kept["who"], &kept["why"], &kept["evidence"]), (&json!(SAID[3]), &json!(SAID[5]), &json!(SAID[1])));
    assert_eq!((&kept["payment_id"], &kept["rail_ref"]), (&json!(id), &json!(effects[0].3)));
    site.drained(&worker).await;
    metric_is(&worker, "acquit_unknown_payments 0").await;
    assert!(worker.said("resolved by hand").is_some());

    // The same again is done already; anything else about a final payment is refused, and nothing is written.
    assert_eq!(record(&resolve(&site, &id, &settled, Some(&worker)).await), sequence);
    refused(&resolve(&site, &id, &["rejected", "--code", "AC04"], Some(&worker)).await, "final: it is settled");
    assert_eq!(audit(&site, &id).await.map(|(last, _)| last), Some(sequence));
    worker.stop().await;
    bank.agrees_with(&site, 1);
    site.balances(load.expected).await;
    let life = site.acquit(Role::Operator, &["explain", &id]).await;
    assert!(life.out.contains(&format!("resolved by hand as settled: audit record {sequence}")), "{life:?}");
}

#[tokio::test]
async fn what_was_not_processed_is_sent_again_once_also_where_no_worker_runs() {
    let site = Site::new(Setup::default()).await;
    let bank = Bank::start(&site, &format!("{SILENT}[[behaviour]]\nkind = \"hang\"\ntimes = 1\n"), None).await;
    route(&site, bank.address, "");
    let load = Load::plain(72, 1);
    let id = payment(&load);
    let worker = site.worker().await;
    site.publish(&load).await;
    in_doubt(&site, 1, "1ms").await;
    // A call of it may still be under way at the rail.
    let early = resolve(&site, &id, &["not-processed"], Some(&worker)).await;
    refused(&early, "may still take effect");
    assert!(audit(&site, &id).await.is_none());
    in_doubt(&site, 1, "3s").await;
    worker.kill().await;
    let sequence = record(&resolve(&site, &id, &["not-processed"], None).await);
    assert!(listed(&site, "1ms").await.is_empty() && bank.effects().is_empty());
    assert_eq!(record(&resolve(&site, &id, &["not-processed"], None).await), sequence, "nothing more is done");

    let worker = site.worker().await;
    site.drained(&worker).await;
    let late = resolve(&site, &id, &["settled", "--rail-ref", "R-1"], Some(&worker)).await;
    refused(&late, "final: it is settled");
    worker.stop().await;
    bank.agrees_with(&site, 1);
    site.balances(load.expected).await;
    let store = rusqlite::Connection::open(site.store()).unwrap();
    let attempts = store.query_row("SELECT count(*), max(leg) FROM attempts", [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(attempts, Ok((2, 0)), "one more attempt, under the same key");
}

#[tokio::test]
async fn a_payment_that_its_rail_blocked_is_rejected_by_a_person() {
    let site = Site::new(Setup::default()).await;
    let bank = Bank::start(&site, &format!("{SILENT}[[behaviour]]\nkind = \"error\"\nstatus = 422\n"), None).await;
    route(&site, bank.address, "");
    let load = Load::plain(73, 1);
    let id = payment(&load);
    let worker = site.worker().await;
    site.publish(&load).await;
    let shown = in_doubt(&site, 1, "3s").await.remove(0);
    assert!(shown["state"] == json!("held") && shown["waits_for"].as_str().unwrap().starts_with("a person"), "{shown}");
    record(&resolve(&site, &id, &["rejected", "--code", "RR04"], Some(&worker)).await);
    site.drained(&worker).await;
    worker.stop().await;
    let found = site.reconciled().await;
    assert_eq!((found.rejected, found.rejected_by_code.get("RR04"), found.held()), (1, Some(&1), 0), "{found:?}");
    assert!(bank.effects().is_empty());
}

#[tokio::test]
async fn a_run_that_ended_behind_its_record_is_finished_by_the_next_and_an_unreachable_worker_leaves_none() {
    let site = Site::new(Setup::default()).await;
    let bank = Bank::start(&site, &format!("{SILENT}[[behaviour]]\nkind = \"hang_after\"\n"), None).await;
    route(&site, bank.address, "");
    let load = Load::plain(74, 1);
    let id = payment(&load);
    let worker = site.worker().await;
    site.publish(&load).await;
    in_doubt(&site, 1, "1s").await;
    let settled = ["settled", "--rail-ref", &bank.effects()[0].3];
    let nobody = resolve(&site, &id, &[settled.as_slice(), &["--url", "127.0.0.1:1"]].concat(), None).await;
    assert!(nobody.code == Some(69) && audit(&site, &id).await.is_none(), "{nobody:?}");
    // What a run that was killed between its two steps leaves.
    let dry = resolve(&site, &id, &[settled.as_slice(), &["--dry-run"]].concat(), Some(&worker)).await;
    let entry = Bytes::from(dry.json::<Value>()["would_record"].to_string());
    let (subject, stream) = (format!("payments.audit.unknown.{id}"), &site.broker.streams().audit);
    let (sequence, _) = site.broker.publish_confirmed(&subject, "killed", &[], entry, stream).await.unwrap();
    assert_eq!(record(&resolve(&site, &id, &settled, Some(&worker)).await), sequence, "no second record");
    site.drained(&worker).await;
    worker.stop().await;
    bank.agrees_with(&site, 1);
    site.balances(load.expected).await;
}

#[tokio::test]
async fn any_process_may_resolve_a_payment_of_a_fleet_while_a_worker_holds_it() {
    let database = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let site = Site::new(Setup { database: Some(database.url()), ..Setup::default() }).await;
    let bank = Bank::start(&site, &format!("{SILENT}[[behaviour]]\nkind = \"hang_after\"\n"), None).await;
    route(&site, bank.address, "");
    let load = Load::plain(75, 1);
    let id = payment(&load);
    let worker = site.worker().await;
    site.publish(&load).await;
    in_doubt(&site, 1, "1s").await;
    metric_is(&worker, "acquit_unknown_payments 1").await;
    record(&resolve(&site, &id, &["settled", "--rail-ref", &bank.effects()[0].3], None).await);
    site.drained(&worker).await;
    worker.stop().await;
    assert_eq!(bank.effects().len(), 1);
    site.balances(load.expected).await;
}
