//! What a process reads by what it remembers, and by numbers that lie close together.

use std::sync::{Arc, Mutex};

use super::super::harness::{Expect, Home, Place, Wish, account, event, open};
use super::number;
use crate::domain::{Code, Currency, Reason};
use crate::store::{AccountKey, Backend, Changes, Postgres, PostgresSettings, Route, Store, Wanted};

fn settings(home: &Home) -> PostgresSettings {
    let Place::Postgres(settings) = &home.place else { panic!("not PostgreSQL") };
    settings.clone()
}

/// A store, and how often it decided a group again.
async fn process(home: &Home) -> (Store, Arc<Mutex<u32>>) {
    let again: Arc<Mutex<u32>> = Arc::default();
    let sum = Arc::clone(&again);
    let backend = Postgres::open(settings(home)).await.unwrap();
    let seen = move |done: &crate::store::GroupDone| *sum.lock().unwrap() += done.again;
    (Store::start(backend, home.policy.clone(), home.limits, "a", seen).unwrap(), again)
}

async fn pay(store: &Store, sequence: u64, from: &str, to: &str) {
    let wish = Wish { from: from.to_owned(), to: to.to_owned(), ..Wish::new(&format!("PAY-{sequence}"), 7) };
    drop(open(store, sequence, wish.valid(), Route::Book).await.recorded());
}

async fn debits(home: &Home, key: &str) -> i64 {
    let sum = format!("SELECT coalesce(sum(debits_posted), -1)::bigint FROM accounts WHERE key = '{key}'");
    number(&settings(home), &sum).await
}

#[tokio::test]
async fn an_account_that_was_renamed_or_removed_by_hand_is_not_taken_for_the_one_it_was() {
    let home = Home::postgres().await;
    let (store, again) = process(&home).await;
    pay(&store, 1, "alice", "bob").await;
    pay(&store, 2, "alice", "bob").await;
    assert_eq!(*again.lock().unwrap(), 0);

    assert!(home.tamper("UPDATE accounts SET key = 'other::mallory' WHERE key = 'other::alice'").await);
    pay(&store, 3, "alice", "bob").await;
    assert_eq!((debits(&home, "other::mallory").await, debits(&home, "other::alice").await), (14, 7));
    assert_eq!(*again.lock().unwrap(), 1);

    assert!(home.tamper("DELETE FROM accounts WHERE key = 'other::alice'").await);
    pay(&store, 4, "alice", "bob").await;
    assert_eq!(debits(&home, "other::alice").await, 7);
    assert_eq!(*again.lock().unwrap(), 2);

    // One known by number, one not known.
    pay(&store, 5, "alice", "carol").await;
    assert_eq!((debits(&home, "other::alice").await, *again.lock().unwrap()), (14, 2));
}

#[tokio::test]
async fn accounts_known_by_number_and_others_are_locked_in_the_order_of_their_numbers() {
    let home = Home::postgres().await;
    let (store, _) = process(&home).await;
    // Numbers against the order of names.
    for (sequence, (from, to)) in (1..).zip([("d", "c"), ("b", "a")]) {
        pay(&store, sequence, from, to).await;
    }
    store.stop().await;
    let key = |name: &str| AccountKey::new(&account(name).key(), Currency::parse("EUR").unwrap());
    let mut first = Postgres::open(settings(&home)).await.unwrap();
    // It knows two of the four from here on, and they are not the first ones.
    let two = Wanted { accounts: vec![key("a"), key("c")], ..Wanted::default() };
    let known = first.begin(&two).await.unwrap().accounts;
    assert_eq!(known.len(), 2);
    first.commit(Changes::default()).await.unwrap();

    // Whoever holds the first number keeps it from the second, which it would take ahead of the first out of order.
    let holder = super::client_of(&settings(&home)).await;
    holder.batch_execute("BEGIN; SELECT 1 FROM accounts WHERE key = 'other::d' FOR UPDATE").await.unwrap();
    let all = Wanted { accounts: vec![key("a"), key("b"), key("c"), key("d")], ..Wanted::default() };
    let waiting = tokio::spawn(async move {
        let rows = first.begin(&all).await.unwrap();
        first.commit(Changes::default()).await.unwrap();
        rows.accounts.len()
    });
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
         AND pg_blocking_pids(pid) @> ARRAY(SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction' \
         AND query LIKE '%other::d%')";
    while number(&settings(&home), blocked).await == 0 {
        tokio::task::yield_now().await;
    }
    let rest = "SELECT count(*) FROM (SELECT 1 FROM accounts WHERE key <> 'other::d' FOR UPDATE SKIP LOCKED) AS free";
    assert_eq!(number(&settings(&home), rest).await, 3);
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(waiting.await.unwrap(), 4);
}

#[tokio::test]
async fn what_lies_between_the_wanted_events_is_not_taken_for_one_of_them() {
    let home = Home::postgres().await;
    let (store, _) = process(&home).await;
    for sequence in [1, 2, 3, 1_000_000] {
        let refused = Wish::new(&format!("PAY-{sequence}"), 7).refused(vec![Reason::new(Code::AM13, "", "too much")]);
        drop(open(&store, sequence, refused, Route::Book).await.recorded());
    }
    for sequence in [11, 12, 13, 1_000_011] {
        assert_eq!(store.start_of(event(sequence)).await, Ok(1));
    }
    store.stop().await;
    let mut backend = Postgres::open(settings(&home)).await.unwrap();
    for wanted in [[1, 3], [1, 1_000_000], [11, 13], [11, 1_000_011]] {
        let wanted = Wanted { events: wanted.map(event).to_vec(), ..Wanted::default() };
        let rows = backend.begin(&wanted).await.unwrap();
        let mut found: Vec<_> = rows.events.into_keys().chain(rows.starts.into_keys()).collect();
        found.sort_unstable();
        assert_eq!(found, wanted.events);
        backend.commit(Changes::default()).await.unwrap();
    }
}
