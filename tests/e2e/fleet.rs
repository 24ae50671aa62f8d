//! Several workers on one consumer and one PostgreSQL database, each of which may be killed at any moment, and so may
//! the database.

use std::time::Duration;

use acquit::lab::servers::{PostgresOptions, PostgresServer};
use rand::Rng;
use tokio_postgres::NoTls;

use crate::load::{Expected, Load};
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
    settled_once(&site, &database, fleet, load.expected).await;
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

/// Kills among the workers only: there are many of them, and each comes back. Some of every part of the load is in their
/// hands when one of them dies.
#[tokio::test]
async fn eight_workers_on_one_consumer_killed_at_random_lose_and_double_nothing() {
    const PARTS: u64 = 12;
    let database = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let site = Site::new(Setup { slots: 16, database: Some(database.url()), ..Setup::default() }).await;
    let mut fleet = Vec::new();
    for _ in 0..8 {
        fleet.push(site.worker().await);
    }
    let mut expected = Expected::default();
    for part in 1..=PARTS {
        let load = Load::mixed(100 + part, 200, 20);
        let (before, _) = (number(&database, ENDED).await, site.publish(&load).await);
        expected += load.expected;
        wait_until("the fleet gets on", Duration::from_secs(60), async || number(&database, ENDED).await > before)
            .await;
        let victim = rand::rng().random_range(0..fleet.len());
        fleet.swap_remove(victim).kill().await;
        // Two are away at a time, so that what a dead one held goes to living ones.
        if part % 2 == 0 {
            fleet.push(site.worker().await);
            fleet.push(site.worker().await);
        }
    }
    settled_once(&site, &database, fleet, expected).await;
}

/// A commit waits for a standby that never comes: it is on the disk, and nobody has been told. Then the database dies.
#[tokio::test]
async fn a_database_killed_while_commits_wait_for_their_answer_is_read_back() {
    let mut database = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let site = Site::new(Setup { slots: 32, database: Some(database.url()), ..Setup::default() }).await;
    let load = Load::mixed(43, 2_000, 20);
    site.publish(&load).await;
    let fleet = vec![site.worker().await, site.worker().await];
    for kill in 1..=4 {
        wait_until("the fleet gets on", Duration::from_secs(60), async || number(&database, ENDED).await >= 200 * kill)
            .await;
        tell(&database, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
        tell(&database, "SELECT pg_reload_conf()").await;
        let mut waiting = 0;
        wait_until("a commit waits", Duration::from_secs(60), async || {
            waiting = number(&database, WAITING).await;
            waiting > 0
        })
        .await;
        tell(&database, "ALTER SYSTEM RESET synchronous_standby_names").await;
        database.kill9().unwrap();
        database.restart().await.unwrap();
        let status = format!("SELECT (pg_xact_status('{waiting}') = 'committed')::int::bigint");
        assert_eq!(number(&database, &status).await, 1, "the commit that nobody was told of was not written");
    }
    settled_once(&site, &database, fleet, load.expected).await;
}

/// The first transaction that waits in its commit, or 0. It is not to be seen, but it is written.
const WAITING: &str = "SELECT coalesce(min(backend_xid::text::bigint), 0) FROM pg_stat_activity \
                       WHERE wait_event = 'SyncRep' AND application_name = 'acquit'";

/// To the end of the load; then each payment has moved its money once.
async fn settled_once(site: &Site, database: &PostgresServer, fleet: Vec<Worker>, expected: Expected) {
    site.drained(&fleet[0]).await;
    for worker in fleet {
        worker.stop().await;
    }
    site.balances(expected).await;
    let settled = i64::try_from(expected.settled).unwrap();
    assert_eq!(number(database, "SELECT count(*) FROM acquit.transfers").await, settled);
    let paid = "SELECT count(DISTINCT p.payment_id) FROM acquit.transfers t JOIN acquit.payments p ON p.id = t.payment \
                AND p.state = 'settled' AND p.minor = t.minor AND p.currency = t.currency";
    assert_eq!(number(database, paid).await, settled);
}

const ENDED: &str = "SELECT (SELECT count(*) FROM acquit.payments WHERE finished_at IS NOT NULL) \
                     + (SELECT count(*) FROM acquit.events)";

async fn tell(database: &PostgresServer, sql: &str) {
    let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
}

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
