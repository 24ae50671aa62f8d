//! A server that is killed, restarted, frozen; a network that loses an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::harness::{Expect, Wish, event, open, origin, server};
use super::{number, settings};
use crate::lab::servers::{PostgresOptions, PostgresServer};
use crate::store::{
    BookPolicy, Postgres, PostgresSettings, Reader, Route, Store, StoreLost, Unknown, WriterLimits, migrate,
};

async fn started(settings: &PostgresSettings) -> Store {
    let policy = BookPolicy { unknown: Unknown::Open { overdraft: true }, declared: Default::default() };
    let limits = WriterLimits { group: 64, claim: Duration::from_secs(30), poison_starts: 3, keep: None };
    Store::start(Postgres::open(settings.clone()).await.unwrap(), policy, limits, "worker", |_| {}).unwrap()
}

fn balanced(settings: &PostgresSettings) {
    let lines = Reader::connect(settings).unwrap().book_check().unwrap();
    assert!(lines.iter().all(|line| line.balances()), "{lines:?}");
}

/// Asks until the store says what stands, as a broker that delivers again.
async fn persist(store: Store, n: u64) {
    let wish = Wish::new(&format!("PAY-{n}"), 1);
    loop {
        match store.open(origin(n), wish.valid(), Route::Book).await {
            Ok(stand) => {
                let recorded = stand.recorded();
                assert!(recorded.event() == &event(n) && !recorded.is_duplicate());
                return;
            }
            Err((StoreLost::Failed(_) | StoreLost::Full, ..)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err((lost, ..)) => panic!("{lost}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_and_restarted_under_load_loses_and_doubles_nothing() {
    const PAYMENTS: u64 = 2_500;
    let mut server = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let settings = PostgresSettings { statement_timeout: Duration::from_secs(2), ..settings(&server) };
    migrate(&settings, 1).await.unwrap();
    let (a, b) = (started(&settings).await, started(&settings).await);
    // Each event is in both processes' hands, a few at a time.
    let load = |store: Store| {
        tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            for n in 1..=PAYMENTS {
                if running.len() >= 96 {
                    running.join_next().await.unwrap().unwrap();
                }
                running.spawn(persist(store.clone(), n));
            }
            running.join_all().await;
        })
    };
    let loads = [load(a), load(b)];
    let mut downs = 0;
    while !loads.iter().all(tokio::task::JoinHandle::is_finished) && downs < 8 {
        let reader = Reader::connect(&settings).unwrap();
        let seen = reader.payments_after(0, 10_000).unwrap().len();
        drop(reader);
        // At a moment of its work, not of the clock: some payments further.
        while !loads.iter().all(tokio::task::JoinHandle::is_finished) {
            match Reader::connect(&settings).and_then(|reader| reader.payments_after(0, 10_000)) {
                Ok(now) if now.len() > seen + 100 => break,
                Ok(_) | Err(_) => {}
            }
        }
        if downs % 3 == 2 {
            server.stop().await.unwrap()
        } else {
            server.kill9().unwrap()
        }
        server.restart().await.unwrap();
        downs += 1;
    }
    for load in loads {
        load.await.unwrap();
    }
    assert!(downs >= 3, "{downs}");
    let payments = i64::try_from(PAYMENTS).unwrap();
    assert_eq!(number(&settings, "SELECT count(*) FROM transfers").await, payments);
    assert_eq!(number(&settings, "SELECT sum(debits_posted)::bigint FROM accounts").await, payments);
    balanced(&settings);
}

/// What happens to the next commit on the way.
const FINE: u8 = 0;
const ANSWER_LOST: u8 = 1;
const REQUEST_LOST: u8 = 2;

/// Passes bytes on between clients and the server; armed, it cuts the connection at a commit.
async fn network(server: u16, fate: Arc<AtomicU8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, server, Arc::clone(&fate)));
        }
    });
    port
}

async fn pass(mut client: TcpStream, server: u16, fate: Arc<AtomicU8>) {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let n = read.unwrap_or(0);
                let commit = up[..n].windows(7).any(|word| word == b"COMMIT\0");
                let fate = if commit { fate.swap(FINE, Ordering::SeqCst) } else { FINE };
                if n == 0 || fate == REQUEST_LOST {
                    return;
                }
                server.write_all(&up[..n]).await.unwrap();
                if fate == ANSWER_LOST {
                    // It has come to the server, and been answered, before the client hears of the cut.
                    while !down.windows(7).any(|word| word == b"COMMIT\0") {
                        assert!(server.read(&mut down).await.unwrap() > 0);
                    }
                    return;
                }
            }
            read = server.read(&mut down) => {
                let n = read.unwrap_or(0);
                if n == 0 || client.write_all(&down[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_commit_that_is_cut_off_on_the_way_is_read_back_and_moves_money_once() {
    let server = server().await;
    let direct = settings(server);
    migrate(&direct, 1).await.unwrap();
    let fate = Arc::new(AtomicU8::new(FINE));
    let port = network(server.port(), Arc::clone(&fate)).await;
    let url = direct.url.replace(&server.port().to_string(), &port.to_string());
    let store = started(&PostgresSettings { url, ..direct.clone() }).await;
    for (n, how) in (1..).zip([FINE, ANSWER_LOST, REQUEST_LOST, ANSWER_LOST]) {
        fate.store(how, Ordering::SeqCst);
        let recorded = open(&store, n, Wish::new(&format!("PAY-{n}"), 1).valid(), Route::Book).await.recorded();
        assert!(!recorded.is_duplicate(), "{n}");
        assert_eq!(fate.load(Ordering::SeqCst), FINE, "the commit was never seen");
        let transfers = number(&direct, "SELECT count(*) FROM transfers").await;
        assert_eq!(transfers, i64::try_from(n).unwrap());
    }
    balanced(&direct);
}

#[tokio::test]
async fn a_frozen_server_ends_as_lost_and_serves_again_when_it_is_thawed() {
    let mut server = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let wait = Duration::from_secs(1);
    let usual = settings(&server);
    migrate(&usual, 1).await.unwrap();
    let settings = PostgresSettings { statement_timeout: wait, connect_timeout: wait, ..usual };
    let store = started(&settings).await;
    persist(store.clone(), 1).await;
    server.freeze().unwrap();
    let begun = std::time::Instant::now();
    let wish = Wish::new("PAY-2", 1);
    let (lost, ..) = store.open(origin(2), wish.valid(), Route::Book).await.unwrap_err();
    assert_eq!(lost, StoreLost::Failed("the database did not answer in time".to_owned()));
    assert!(begun.elapsed() < Duration::from_secs(30));
    let (lost, ..) = store.open(origin(2), wish.valid(), Route::Book).await.unwrap_err();
    assert!(matches!(&lost, StoreLost::Failed(why) if why.contains("cannot be reached")), "{lost}");
    assert!(Reader::connect(&settings).is_err());
    server.thaw().unwrap();
    persist(store, 2).await;
    assert_eq!(number(&settings, "SELECT count(*) FROM transfers").await, 2);
}

#[tokio::test]
async fn a_statement_that_takes_too_long_ends_as_lost_and_the_next_is_served() {
    let usual = settings(server().await);
    migrate(&usual, 1).await.unwrap();
    let settings = PostgresSettings { statement_timeout: Duration::from_secs(1), ..usual };
    let store = started(&settings).await;
    persist(store.clone(), 1).await;
    let client = super::client_of(&settings).await;
    client.batch_execute("BEGIN; LOCK TABLE payments IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let (lost, ..) = store.open(origin(2), Wish::new("PAY-2", 1).valid(), Route::Book).await.unwrap_err();
    assert_eq!(lost, StoreLost::Failed("SQLSTATE 57014".to_owned()));
    drop(client);
    persist(store, 2).await;
    assert_eq!(number(&settings, "SELECT count(*) FROM transfers").await, 2);
}
