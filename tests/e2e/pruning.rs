//! A store that forgets what ended long ago, beside streams that have forgotten it before.

use std::time::Duration;

use acquit::lab::servers::{PostgresOptions, PostgresServer};
use bytes::Bytes;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

use crate::load::Load;
use crate::process::{Worker, wait_until};
use crate::site::{Reconciled, Role, Setup, Site, accounts};

const KEEP: &str = "9600h";
const STREAMS: [&str; 3] = ["PAYMENTS", "PAYMENT_OUTCOMES", "PAYMENT_DEAD_LETTERS"];

async fn worker(site: &Site) -> Worker {
    let mut command = site.command(Role::Worker, &["run"]);
    command.env("ACQUIT_STORE_KEEP", KEEP);
    Worker::start(command).await
}

/// The store's tables, past every guard of ours.
struct Records<'a> {
    site: &'a Site,
    database: Option<PostgresServer>,
}

impl Records<'_> {
    async fn client(database: &PostgresServer) -> Client {
        let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("SET search_path = acquit").await.unwrap();
        client
    }

    /// Two years go by.
    async fn age(&self) {
        match &self.database {
            Some(database) => {
                let sql = "UPDATE events SET at = at - interval '730 days'; \
                           UPDATE payments SET finished_at = finished_at - interval '730 days'";
                Self::client(database).await.batch_execute(sql).await.unwrap();
            }
            None => {
                let sql = "UPDATE events SET at = at - 63072000000;
                           UPDATE payments SET finished_at = finished_at - 63072000000;";
                Connection::open(self.site.store()).unwrap().execute_batch(sql).unwrap();
            }
        }
    }

    async fn count(&self, table: &str) -> u64 {
        let sql = format!("SELECT count(*) FROM {table}");
        let rows: i64 = match &self.database {
            Some(database) => Self::client(database).await.query_one(&sql, &[]).await.unwrap().get(0),
            None => {
                let store = Connection::open(self.site.store()).unwrap();
                store.busy_timeout(Duration::from_secs(5)).unwrap();
                store.query_row(&sql, [], |row| row.get(0)).unwrap()
            }
        };
        u64::try_from(rows).unwrap()
    }
}

/// Lets all that was published age out of its stream, and two years go by for the store.
async fn grow_old(site: &Site, records: &Records<'_>) {
    for stream in STREAMS {
        let was = site.broker.stream_info(stream).await.unwrap().config;
        site.set(stream, "duplicate_window", json!(100_000_000)).await;
        site.set(stream, "max_age", json!(100_000_000)).await;
        wait_until("the stream is empty", Duration::from_secs(20), async || site.stored_in(stream).await == 0).await;
        for key in ["max_age", "duplicate_window"] {
            site.set(stream, key, was[key].clone()).await;
        }
    }
    records.age().await;
}

/// Reconciles with a state file that has seen everything.
async fn reconciled(site: &Site) -> Reconciled {
    let state = site.folder("state").join("reconcile.db");
    let said = site.acquit(Role::Operator, &["reconcile", "--json", "--state", state.to_str().unwrap()]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    said.json()
}

fn conflicting(body: &Bytes) -> Bytes {
    let mut value: Value = serde_json::from_slice(body).unwrap();
    value["end_to_end_id"] = json!("ANOTHER-INVOICE");
    value.to_string().into()
}

#[tokio::test]
async fn after_pruning_a_repeat_is_a_duplicate_a_conflict_a_conflict_and_reconciliation_is_clean() {
    let site = Site::new(Setup::default()).await;
    pruned(&site, None).await;
}

#[tokio::test]
async fn after_pruning_in_postgresql_a_repeat_is_a_duplicate_a_conflict_a_conflict_and_reconciliation_is_clean() {
    let database = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let site = Site::new(Setup { database: Some(database.url()), ..Setup::default() }).await;
    pruned(&site, Some(database)).await;
}

async fn pruned(site: &Site, database: Option<PostgresServer>) {
    // There the last ended event of a stream stays, where no payment ended behind it.
    let last = u64::from(database.is_some());
    let records = Records { site, database };
    let (plain, mixed) = (Load::plain(31, 20), Load::mixed(32, 300, 40));
    let first = site.worker().await;
    site.publish(&plain).await;
    site.publish(&mixed).await;
    site.drained(&first).await;
    first.stop().await;
    assert_eq!(reconciled(site).await.events.settled, 20 + mixed.expected.settled);
    let ended = records.count("events").await;
    assert!(ended > 50, "{ended}");

    grow_old(site, &records).await;
    let worker = worker(site).await;
    wait_until("all records of events are gone", Duration::from_secs(20), async || {
        records.count("events").await <= last
    })
    .await;
    let (_, metrics) = worker.page("/metrics").await;
    let gone = ended - records.count("events").await;
    assert!(metrics.contains(&format!("acquit_store_pruned_rows_total{{table=\"events\"}} {gone}\n")), "{metrics}");
    for (n, body) in plain.bodies.iter().enumerate() {
        site.publish_as(&format!("again-{n}"), body).await;
        site.publish_as(&format!("other-{n}"), &conflicting(body)).await;
    }
    site.drained(&worker).await;
    worker.stop().await;

    assert_eq!(records.count("payments").await, 20 + mixed.expected.settled, "payments stay");
    for found in [reconciled(site).await.events, site.reconciled().await] {
        assert_eq!((found.published, found.duplicates, found.dead_lettered), (40, 20, 20), "{found:?}");
        assert_eq!(found.dead_lettered_by_code["AM05"], 20);
    }
    assert_eq!(site.stored_in("PAYMENT_OUTCOMES").await, 40, "the duplicates' outcomes are told again");
}

#[tokio::test]
async fn a_store_that_would_forget_what_a_stream_still_holds_is_refused() {
    let site = Site::new(Setup { accounts: Some(accounts()), ..Setup::default() }).await;
    // The payments stream keeps a week, the dead letters a quarter: 168 and 168 + 2160 hours are needed.
    for (keep, streams) in [("100h", 3), ("1000h", 1), ("2328h", 1), ("2329h", 0)] {
        let mut check = site.command(Role::Operator, &["check", "--json"]);
        let said = check.env("ACQUIT_STORE_KEEP", keep).output().await.unwrap();
        let findings: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap();
        let about = findings.iter().filter(|finding| finding["about"] == "store.keep").count();
        assert_eq!((about, said.status.code()), (streams, Some(i32::from(streams > 0))), "{keep}: {findings:?}");
    }
    let mut run = site.command(Role::Worker, &["run"]);
    let said = run.env("ACQUIT_STORE_KEEP", "1000h").output().await.unwrap();
    assert_eq!(said.status.code(), Some(64));
    let told = String::from_utf8(said.stderr).unwrap();
    assert!(told.contains("records that stream PAYMENT_DEAD_LETTERS needs for 2328h"), "{told}");
}
