use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;

use super::harness::{Either, Expect, Home, Place, RAIL, Wish, both, event, open, origin};
use crate::domain::{Answer, Code, DeadReason, NotSent, Reason, StoreId};
use crate::store::{
    Backend, Changes, Concluded, DueList, DueWanted, NotCondemned, OpenError, Origin, Postgres, PostgresError, Route,
    Rows, Sqlite, SqliteSettings, Stand, Store, StoreLost, Trouble, Wanted, migrate,
};

/// What a commit is made to end like.
#[derive(Debug, Clone, Copy)]
enum Fault {
    LostAfter,
    LostBefore,
    Fine,
}

/// A real database whose commits end as the script says; content named `bad` is refused.
struct Faulty {
    inner: Either,
    script: Arc<Mutex<VecDeque<Fault>>>,
    resets: Arc<Mutex<u32>>,
}

impl Backend for Faulty {
    async fn begin(&mut self, wanted: &Wanted) -> Result<Rows, Trouble> {
        self.inner.begin(wanted).await
    }

    async fn commit(&mut self, changes: Changes) -> Result<(), Trouble> {
        if changes.new_payments.iter().any(|row| row.payment_id.as_str() == "bad") {
            self.inner.commit(Changes::default()).await?;
            return Err(Trouble::Content("refused".to_owned()));
        }
        let fault = self.script.lock().unwrap().pop_front().unwrap_or(Fault::Fine);
        match fault {
            Fault::Fine => self.inner.commit(changes).await,
            Fault::LostAfter => {
                self.inner.commit(changes).await?;
                Err(Trouble::Lost(StoreLost::Failed("no answer".to_owned())))
            }
            Fault::LostBefore => {
                self.inner.commit(Changes::default()).await?;
                Err(Trouble::Lost(StoreLost::Failed("no answer".to_owned())))
            }
        }
    }

    async fn due(&mut self, wanted: &DueWanted) -> Result<DueList, Trouble> {
        self.inner.due(wanted).await
    }

    async fn reset(&mut self) -> Result<(), Trouble> {
        *self.resets.lock().unwrap() += 1;
        self.inner.reset().await
    }
}

async fn faulty(home: &Home, script: &[Fault]) -> (Faulty, Arc<Mutex<u32>>) {
    let resets = Arc::new(Mutex::new(0));
    let script = Arc::new(Mutex::new(script.iter().copied().collect()));
    (Faulty { inner: home.backend().await, script, resets: Arc::clone(&resets) }, resets)
}

async fn a_commit_whose_answer_is_lost_is_read_back(home: Home) {
    for (sequence, fault) in (1..).zip([Fault::LostAfter, Fault::LostBefore]) {
        let (backend, resets) = faulty(&home, &[fault]).await;
        let store = home.start(backend, "worker");
        let wish = Wish::new(&format!("PAY-{sequence}"), 7);
        let recorded = open(&store, sequence, wish.valid(), Route::Book).await.recorded();
        assert!(!recorded.is_duplicate(), "{fault:?}");
        assert_eq!(*resets.lock().unwrap(), 1);
        assert_eq!(home.reader().book_check().unwrap()[0].transferred, i128::from(sequence) * 7);
        home.assert_balanced();
        store.stop().await;
    }
}

async fn a_lost_intent_is_a_doubt_and_a_lost_release_is_a_release(home: Home) {
    let (backend, _) = faulty(&home, &[Fault::LostAfter, Fault::Fine, Fault::Fine, Fault::LostAfter]).await;
    let store = home.start(backend, "worker");
    let wish = Wish::new("PAY-1", 7);
    // Decided again, the rows show an attempt that nobody can vouch for.
    let Stand::Doubt(_) = open(&store, 1, wish.valid(), RAIL).await else { panic!("not in doubt") };
    let Stand::Go(intent) = open(&store, 2, Wish::new("PAY-2", 7).valid(), RAIL).await else { panic!("no intent") };
    let (_, doubt) = intent.dispatch();
    let end = store.conclude(doubt, Answer::NotSent(NotSent::Connect)).await.map_err(|(lost, _)| lost).unwrap();
    assert!(matches!(end, Concluded::Released), "{end:?}");
}

async fn a_commit_lost_twice_gives_everything_back(home: Home) {
    let (backend, _) = faulty(&home, &[Fault::LostBefore, Fault::LostBefore]).await;
    let store = home.start(backend, "worker");
    let wish = Wish::new("PAY-1", 7);
    let (lost, origin, judged) = store.open(origin(1), wish.valid(), Route::Book).await.unwrap_err();
    assert_eq!(lost, StoreLost::Failed("no answer".to_owned()));
    drop(store.open(origin, *judged, Route::Book).await.map_err(|(lost, _, _)| lost).unwrap().recorded());
}

async fn content_that_the_database_refuses_costs_only_its_own_event(home: Home) {
    let (backend, _) = faulty(&home, &[]).await;
    let store = home.start(backend, "worker");
    let opens = (1..=20).map(|sequence| {
        let name = if sequence == 13 { "bad".to_owned() } else { format!("PAY-{sequence}") };
        let store = store.clone();
        tokio::spawn(async move { store.open(origin(sequence), Wish::new(&name, 7).valid(), Route::Book).await })
    });
    for (sequence, end) in (1..).zip(opens.collect::<Vec<_>>()) {
        match end.await.unwrap() {
            Ok(stand) => assert_eq!(stand.recorded().event(), &event(sequence)),
            Err((lost, _, _)) => assert_eq!((sequence, lost), (13, StoreLost::Refused("refused".to_owned()))),
        }
    }
    assert_eq!(home.reader().payments_after(0, 100).unwrap().len(), 19);
    home.assert_balanced();
}

#[tokio::test]
async fn a_foreign_lock_is_named_and_passes_when_it_is_released() {
    let home = Home::sqlite();
    let store = home.store().await;
    probe(&store).await.unwrap();
    let foreign = Connection::open(home.path()).unwrap();
    foreign.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(probe(&store).await, Err(StoreLost::Locked));
    foreign.execute_batch("ROLLBACK").unwrap();
    assert_eq!(probe(&store).await, Ok(()));
}

#[tokio::test]
async fn a_reader_that_pins_the_log_stops_writes_at_the_bound_and_they_go_on_when_it_leaves() {
    let mut home = Home::sqlite();
    home.wal_limit_bytes = 256 * 1024;
    let store = home.store().await;
    drop(open(&store, 1, Wish::new("PAY-1", 7).valid(), Route::Book).await.recorded());
    let reader = Connection::open(home.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM payments").unwrap();
    reader.query_row("SELECT count(*) FROM payments", [], |row| row.get::<_, i64>(0)).unwrap();

    let mut sequence = 1;
    let lost = loop {
        sequence += 1;
        let wish = Wish::new(&format!("PAY-{sequence}"), 7);
        match store.open(origin(sequence), wish.valid(), Route::Book).await {
            Ok(stand) => drop(stand.recorded()),
            Err((lost, _, _)) => break lost,
        }
        assert!(sequence < 10_000, "the log is not bounded");
    };
    assert!(matches!(lost, StoreLost::LogPinned { bytes, bound: 262_144 } if bytes < 512 * 1024), "{lost:?}");
    reader.execute_batch("ROLLBACK").unwrap();
    assert_eq!(probe(&store).await, Ok(()));
    home.assert_balanced();
}

#[tokio::test]
async fn a_second_process_is_refused_with_the_first_ones_pid_until_it_ends() {
    let home = Home::sqlite();
    let store = home.store().await;
    let refused = home.open_sqlite().unwrap_err();
    assert!(matches!(refused, OpenError::AlreadyRunning { pid: Some(pid) } if pid == std::process::id()), "{refused}");
    store.stop().await;
    home.open_sqlite().unwrap();
}

#[tokio::test]
async fn a_store_that_another_client_wrote_to_is_read_anew() {
    let home = Home::sqlite();
    let store = home.store().await;
    drop(open(&store, 1, Wish::new("PAY-1", 7).valid(), Route::Book).await.recorded());
    let foreign = Connection::open(home.path()).unwrap();
    foreign.execute("UPDATE accounts SET credits_posted = 100, overdraft = 0 WHERE key = 'other::alice'", []).unwrap();
    drop(open(&store, 2, Wish::new("PAY-2", 93).valid(), Route::Book).await.recorded());
    let recorded = open(&store, 3, Wish::new("PAY-3", 1).valid(), Route::Book).await.recorded();
    assert_eq!(super::harness::leading_code(&recorded), Some("AM04"));
}

#[tokio::test]
async fn a_file_that_is_replaced_under_the_worker_takes_no_more_commits() {
    let home = Home::sqlite();
    let store = home.store().await;
    drop(open(&store, 1, Wish::new("PAY-1", 7).valid(), Route::Book).await.recorded());
    let aside = home.folder().join("aside.db");
    std::fs::rename(home.path(), &aside).unwrap();
    let gone = Err(StoreLost::Failed("its file was removed or replaced".to_owned()));
    assert_eq!(probe(&store).await, gone);
    std::fs::write(home.path(), "").unwrap();
    assert_eq!(probe(&store).await, gone);
    std::fs::rename(&aside, home.path()).unwrap();
    assert_eq!(probe(&store).await, Ok(()));
}

#[test]
fn files_that_are_no_store_are_refused_by_name() {
    let home = Home::sqlite();
    let closed = |settings: SqliteSettings| Sqlite::open(settings).unwrap_err();
    let missing = closed(SqliteSettings { create: false, ..home.settings() });
    assert!(matches!(missing, OpenError::Missing { .. }));
    assert!(!home.path().exists());

    std::fs::write(home.path(), "certainly not a database, but long enough to look at").unwrap();
    assert!(matches!(closed(home.settings()), OpenError::NotAStore { .. }));
    std::fs::remove_file(home.path()).unwrap();

    Connection::open(home.path()).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(matches!(closed(home.settings()), OpenError::NotAStore { .. }));
    std::fs::remove_file(home.path()).unwrap();

    drop(home.open_sqlite().unwrap());
    Connection::open(home.path()).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(matches!(closed(home.settings()), OpenError::SchemaTooNew { found: 99, known: 2 }));
}

async fn a_store_of_the_version_before_is_raised_with_all_that_it_holds(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    drop(open(&store, 1, wish.valid(), RAIL).await);
    store.stop().await;
    // As the version before left it. Only `provision` raises what a fleet works on.
    let lowered = match &home.place {
        Place::Sqlite(_) => "PRAGMA user_version = 1",
        Place::Postgres(_) => "DELETE FROM migrations WHERE version = 2",
    };
    assert!(home.tamper(&format!("ALTER TABLE attempts DROP COLUMN in_progress_at; {lowered}")).await);
    if let Place::Postgres(settings) = &home.place {
        assert!(matches!(
            Postgres::open(settings.clone()).await,
            Err(PostgresError::SchemaTooOld { found: 1, known: 2 })
        ));
        let raised = migrate(settings, 9).await.unwrap();
        assert_eq!((raised.store_id, raised.from, raised.to), (StoreId::from_random(7), 1, 2));
    }
    let store = home.store().await;
    let record = home.reader().payment(&wish.id).unwrap().unwrap();
    let [attempt] = &record.attempts[..] else { panic!("{record:?}") };
    assert_eq!((attempt.number, attempt.rail.as_str(), attempt.in_progress_at), (1, "swift", None));
    home.pass(Duration::from_secs(60));
    let Stand::Doubt(doubt) = open(&store, 1, wish.valid(), RAIL).await else { panic!("it may be sent again") };
    drop(store.conclude(doubt, Answer::InProgress).await.map_err(|(lost, _)| lost).unwrap());
    assert!(home.reader().payment(&wish.id).unwrap().unwrap().attempts[0].in_progress_at.is_some());
}

async fn a_store_tells_its_identity_and_how_far_it_came(home: Home) {
    let store = home.store().await;
    let facts = home.reader().facts().unwrap();
    assert_eq!((facts.store_id, facts.empty), (StoreId::from_random(7), true));
    drop(open(&store, 5, Wish::new("PAY-5", 7).valid(), Route::Book).await.recorded());
    drop(open(&store, 3, Wish::new("PAY-5", 8).valid(), Route::Book).await.condemned());
    store.stop().await;
    let facts = home.reader().facts().unwrap();
    assert!(!facts.empty);
    assert_eq!(facts.high_water.iter().map(|mark| mark.sequence).collect::<Vec<_>>(), [5]);
    if let Place::Sqlite(_) = home.place {
        assert_eq!(home.open_sqlite().unwrap().facts().unwrap(), facts);
    }
}

async fn a_stopped_store_gives_requests_back(home: Home) {
    let store = home.store().await;
    let other = store.clone();
    store.stop().await;
    let (lost, back, _) = other.open(origin(1), Wish::new("PAY-1", 7).valid(), Route::Book).await.unwrap_err();
    assert_eq!((lost, back.event), (StoreLost::Closed, event(1)));
    tokio::time::timeout(Duration::from_secs(1), other.stop()).await.unwrap();
}

/// One small durable write: whether the store takes writes.
async fn probe(store: &Store) -> Result<(), StoreLost> {
    store.start_of(event(9_999)).await.map(drop)
}

async fn a_number_given_out_twice_gets_no_answer_of_the_message_that_had_it_before(home: Home) {
    let store = home.store().await;
    let reason = Reason::new(Code::AM13, "/amount/value", "too much");
    drop(open(&store, 1, Wish::new("PAY-1", 7).refused(vec![reason]), Route::Book).await.recorded());
    drop(store.condemn(origin(2), DeadReason::Poison { starts: 5 }, None).await.unwrap());
    drop(open(&store, 3, Wish::new("PAY-3", 7).valid(), Route::Book).await.recorded());

    let other = |sequence| {
        let at = origin(sequence).requested_at + jiff::SignedDuration::from_millis(1);
        Origin { requested_at: at, ..origin(sequence) }
    };
    for sequence in [1, 2] {
        let opened = store.open(other(sequence), Wish::new("PAY-1", 7).valid(), Route::Book).await;
        assert!(matches!(opened, Err((StoreLost::Foreign, ..))), "{sequence}: {opened:?}");
        let condemned = store.condemn(other(sequence), DeadReason::Poison { starts: 5 }, None).await;
        assert!(matches!(condemned, Err(NotCondemned::Lost(StoreLost::Foreign, _))), "{sequence}: {condemned:?}");
    }
    // Only a payment is on record under the third: what cannot be read is none of its business.
    let condemned = store.condemn(other(3), DeadReason::Poison { starts: 5 }, None).await.unwrap();
    assert_eq!(condemned.payment_id(), None);
    assert!(matches!(
        store.condemn(origin(3), DeadReason::Poison { starts: 5 }, None).await,
        Err(NotCondemned::Lost(StoreLost::Foreign, _))
    ));
}

both![
    a_commit_whose_answer_is_lost_is_read_back,
    a_lost_intent_is_a_doubt_and_a_lost_release_is_a_release,
    a_commit_lost_twice_gives_everything_back,
    content_that_the_database_refuses_costs_only_its_own_event,
    a_store_of_the_version_before_is_raised_with_all_that_it_holds,
    a_store_tells_its_identity_and_how_far_it_came,
    a_stopped_store_gives_requests_back,
    a_number_given_out_twice_gets_no_answer_of_the_message_that_had_it_before,
];
