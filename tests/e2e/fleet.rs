//! Several workers on one consumer and one PostgreSQL database, each of which may be killed at any moment, and so may
//! the database.

use std::time::Duration;

use acquit::lab::servers::{PostgresOptions, PostgresServer};
use rand::Rng;
use tokio_postgres::NoTls;

use crate::load::Load;
use crate::process::{Worker, wait_until};
use crate::site::{Role, Setup, Site};

#[tokio::test]
async fn two_workers_and_their_database_killed_under_load_lose_and_double_nothing() {
    killed(2, 4_000, 8).await;
}

#[tokio::test]
async fn four_workers_and_their_database_killed_under_load_lose_and_double_nothing() {
    killed(4, 6_000, 8).await;
}

async fn killed(workers: usize, events: u64, rounds: u32) {
    let mut database = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let site = Site::new(Setup { slots: 32, database: Some(database.url()), ..Setup::default() }).await;
    let load = Load::mixed(40, events, 20);
    site.publish(&load).await;
    let mut fleet = Vec::new();
    for _ in 0..workers {
        fleet.push(site.worker().await);
    }
    let mut ended = 0;
    for round in 0..rounds {
        let goal = ended + i64::try_from(events).unwrap() / 16;
        wait_until("the fleet gets on", Duration::from_secs(60), async || {
            ended = number(&database, ENDED).await;
            ended >= goal
        })
        .await;
        if round % 2 == 0 {
            let victim = rand::rng().random_range(0..workers);
            fleet.swap_remove(victim).kill().await;
            fleet.push(site.worker().await);
        } else {
            if round % 4 == 1 {
                database.kill9().unwrap()
            } else {
                database.stop().await.unwrap()
            }
            let mut opened = 0;
            for worker in &fleet {
                opened += shuts(worker).await;
            }
            assert!(opened > 0, "no breaker has opened");
            database.restart().await.unwrap();
        }
    }
    let open = number(&database, ENDED).await;
    assert!(open < i64::try_from(load.expected.published).unwrap(), "the load was done before the last kill");
    site.drained(&fleet[0]).await;
    for worker in fleet {
        worker.stop().await;
    }
    site.balances(load.expected).await;
    let settled = i64::try_from(load.expected.settled).unwrap();
    assert_eq!(number(&database, "SELECT count(*) FROM acquit.transfers").await, settled);
    let paid = "SELECT count(DISTINCT p.payment_id) FROM acquit.transfers t JOIN acquit.payments p ON p.id = t.payment \
                AND p.state = 'settled' AND p.minor = t.minor AND p.currency = t.currency";
    assert_eq!(number(&database, paid).await, settled);
    let said = site.acquit(Role::Operator, &["check"]).await;
    assert!(said.out.contains("stream PAYMENTS") && !said.out.contains("PROBLEM"), "{said:?}");
}

/// Without its database a worker stops pulling. Says how often its breaker has opened.
async fn shuts(worker: &Worker) -> u64 {
    // The guard that compares store and consumer may shut the gate before enough calls have failed for the breaker.
    let lane = worker
        .until("the gate is shut and no pull is out", |lane| lane.gate == "shut" && lane.pulls_outstanding == 0)
        .await;
    assert_eq!(lane.pulls_while_open, 0, "{lane:?}");
    lane.breaker_opened
}

const ENDED: &str = "SELECT (SELECT count(*) FROM acquit.payments WHERE finished_at IS NOT NULL) \
                     + (SELECT count(*) FROM acquit.events)";

async fn number(database: &PostgresServer, sql: &str) -> i64 {
    let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_database_that_was_not_provisioned_and_one_of_other_settings_are_named() {
    let settings = vec![("fsync".to_owned(), "off".to_owned()), ("max_connections".to_owned(), "12".to_owned())];
    let database = PostgresServer::start(PostgresOptions { settings, ..PostgresOptions::default() }).await.unwrap();
    let site = Site::new(Setup { database: Some(database.url()), ..Setup::default() }).await;
    let other = ["run", "--set", "store.schema=other"];
    let said = site.acquit(Role::Worker, &other).await;
    assert!(said.code == Some(69) && said.err.contains("there is no store in schema other"), "{said:?}");
    let said = site.acquit(Role::Operator, &["check"]).await;
    assert!(said.out.contains("fsync off") && said.out.contains("max_locks_per_transaction"), "{said:?}");
    // Provisioned anew, another store: the consumer belongs to the first.
    let said = site.acquit(Role::Provisioner, &["provision", "--set", "store.schema=other"]).await;
    assert!(said.code == Some(1) && said.out.contains("REFUSED: it belongs to store"), "{said:?}");

    let worker = site.worker().await;
    let load = Load::plain(41, 200);
    site.publish(&load).await;
    site.drained(&worker).await;
    let said = site.acquit(Role::Operator, &["explain", "no-such-payment"]).await;
    assert!(said.code.is_some_and(|code| code < 2), "{said:?}");
    worker.terminate().await;
    site.balances(load.expected).await;
}
