//! Two processes on one store, each with an owner and a connection of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;

use super::super::harness::{Expect, Home, Place, RAIL, Wish, event, id, leading_code, open, origin};
use super::number;
use crate::domain::{Answer, Code, NotSent, Outcome, RailRef, Reason};
use crate::intake::Judged;
use crate::store::{
    Backend, Concluded, Doubt, GroupDone, Postgres, PostgresSettings, Pruned, Route, Stand, Store, StoreLost, Unknown,
};

/// How often each of two asks.
const EACH: u64 = 300;

struct Fleet {
    home: Home,
    groups: Arc<Mutex<Vec<GroupDone>>>,
}

impl Fleet {
    async fn new() -> Self {
        Self { home: Home::postgres().await, groups: Arc::default() }
    }

    fn settings(&self) -> &PostgresSettings {
        let Place::Postgres(settings) = &self.home.place else { panic!("not PostgreSQL") };
        settings
    }

    /// A process: its claims end by the database's clock.
    async fn process(&self, owner: &str) -> Store {
        let backend = Postgres::open(self.settings().clone()).await.unwrap();
        let groups = Arc::clone(&self.groups);
        let seen = move |done: &GroupDone| groups.lock().unwrap().push(done.clone());
        Store::start(backend, self.home.policy.clone(), self.home.limits, owner, seen).unwrap()
    }

    async fn number(&self, sql: &str) -> i64 {
        number(self.settings(), sql).await
    }

    fn nothing_lost(&self) {
        let groups = self.groups.lock().unwrap();
        let lost: Vec<&StoreLost> = groups.iter().filter_map(|done| done.lost.as_ref()).collect();
        assert!(!groups.is_empty() && lost.is_empty(), "{lost:?}");
    }
}

/// Asks all at once and gives the answers in the order of the questions.
async fn all(store: &Store, asks: impl IntoIterator<Item = (u64, Judged)>) -> Vec<Stand> {
    join_all(asks.into_iter().map(|(sequence, judged)| open(store, sequence, judged, Route::Book))).await
}

fn wish(n: u64) -> Wish {
    Wish::new(&format!("PAY-{n}"), 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_events_in_two_processes_are_settled_once_and_told_the_same() {
    let fleet = Fleet::new().await;
    let (a, b) = (fleet.process("a").await, fleet.process("b").await);
    let events = || (1..=EACH).map(|n| (n, wish(n).valid()));
    let (first, second) = tokio::join!(all(&a, events()), all(&b, events()));
    for (one, other) in first.into_iter().zip(second) {
        let (one, other) = (one.recorded(), other.recorded());
        assert!(!one.is_duplicate() && !other.is_duplicate());
        assert_eq!(one.outcome(), other.outcome());
    }
    assert_eq!(fleet.number("SELECT count(*) FROM transfers").await, i64::try_from(EACH).unwrap());
    assert_eq!(fleet.number("SELECT count(*) FROM events").await, 0);
    fleet.home.assert_balanced();
    fleet.nothing_lost();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_payments_of_two_publications_are_settled_by_one_process_and_duplicates_to_the_other() {
    let fleet = Fleet::new().await;
    let (a, b) = (fleet.process("a").await, fleet.process("b").await);
    // The second process meets them from the other end.
    let there = (1..=EACH).map(|n| (n, wish(n).valid()));
    let back = (1..=EACH).map(|n| (EACH + n, wish(EACH + 1 - n).valid()));
    let (first, second) = tokio::join!(all(&a, there), all(&b, back));
    let duplicates = first.into_iter().chain(second).map(Stand::recorded);
    assert_eq!(duplicates.filter(|recorded| recorded.is_duplicate()).count(), usize::try_from(EACH).unwrap());
    assert_eq!(fleet.number("SELECT count(*) FROM transfers").await, i64::try_from(EACH).unwrap());
    assert_eq!(fleet.number("SELECT count(*) FROM events WHERE kind = 'duplicate'").await, 300);
    fleet.home.assert_balanced();
    fleet.nothing_lost();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_one_process_refuses_and_another_settles_has_one_end() {
    let fleet = Fleet::new().await;
    let (a, b) = (fleet.process("a").await, fleet.process("b").await);
    let reasons = || vec![Reason::new(Code::AM13, "/amount/value", "too much")];
    // One at a time, so that the two meet at each event.
    for n in 1..=EACH {
        let refused = open(&a, n, wish(n).refused(reasons()), Route::Book);
        let (refused, settled) = tokio::join!(refused, open(&b, n, wish(n).valid(), Route::Book));
        assert_eq!(refused.recorded().outcome(), settled.recorded().outcome(), "event {n}");
    }
    let both = "SELECT count(*) FROM payments p JOIN events e USING (stream, sequence)";
    assert_eq!(fleet.number(both).await, 0);
    let (rejected, settled) = (
        fleet.number("SELECT count(*) FROM events WHERE kind = 'rejected'").await,
        fleet.number("SELECT count(*) FROM payments WHERE state = 'settled'").await,
    );
    assert!(rejected > 0 && settled > 0 && rejected + settled == 300, "{rejected} + {settled}");
    fleet.nothing_lost();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_contents_under_one_id_one_is_settled_and_the_other_condemned() {
    let fleet = Fleet::new().await;
    let (a, b) = (fleet.process("a").await, fleet.process("b").await);
    let (first, second) = tokio::join!(
        all(&a, (1..=EACH).map(|n| (n, wish(n).valid()))),
        all(&b, (1..=EACH).map(|n| (EACH + n, Wish { minor: 2, ..wish(n) }.valid()))),
    );
    for (one, other) in first.into_iter().zip(second) {
        match (one, other) {
            (Stand::Final(_), Stand::Condemned(condemned)) | (Stand::Condemned(condemned), Stand::Final(_)) => {
                assert_eq!(condemned.code(), Code::AM05);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fleet.number("SELECT count(*) FROM transfers").await, 300);
    fleet.home.assert_balanced();
    fleet.nothing_lost();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_two_processes_spend_from_never_goes_below_zero() {
    let mut fleet = Fleet::new().await;
    fleet.home.policy.unknown = Unknown::Open { overdraft: false };
    fleet.home.policy.declared = BTreeMap::from([("other::bank".to_owned(), true)]);
    let (a, b) = (fleet.process("a").await, fleet.process("b").await);
    let fund = Wish { from: "bank".to_owned(), to: "alice".to_owned(), ..Wish::new("FUND", 300) };
    drop(open(&a, 1_000, fund.valid(), Route::Book).await.recorded());
    let (first, second) = tokio::join!(
        all(&a, (1..=EACH).map(|n| (n, wish(n).valid()))),
        all(&b, (EACH + 1..=2 * EACH).map(|n| (n, wish(n).valid()))),
    );
    let codes = first.into_iter().chain(second).map(|stand| leading_code(&stand.recorded()));
    let (mut settled, mut short) = (0, 0);
    for code in codes {
        match code {
            None => settled += 1,
            Some("AM04") => short += 1,
            Some(other) => panic!("{other}"),
        }
    }
    assert_eq!((settled, short), (300, 300));
    fleet.home.assert_balanced();
    fleet.nothing_lost();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_that_two_processes_open_at_once_are_opened_once_and_a_conflict_is_not_a_loss() {
    let fleet = Fleet::new().await;
    let (a, b) = (fleet.process("a").await, fleet.process("b").await);
    let again = || fleet.groups.lock().unwrap().iter().map(|done| done.again).sum::<u32>();
    let mut rounds = 0;
    // Until they were in each other's way, which on a busy machine may take more than one round.
    while again() == 0 {
        assert!(rounds < 20, "the two never met");
        // New accounts in each group, met in opposite orders.
        let pay = |n: u64, from: u64, to: u64| {
            let (from, to) = (format!("acc{rounds}.{from}"), format!("acc{rounds}.{to}"));
            (n, Wish { from, to, ..wish(n) }.valid())
        };
        let (there, back) = (2 * EACH * rounds, 2 * EACH * rounds + EACH);
        let there = (1..=EACH).map(|n| pay(there + n, n, n + 1));
        let back = (1..=EACH).map(|n| pay(back + n, EACH + 1 - n, EACH + 2 - n));
        let (first, second) = tokio::join!(all(&a, there), all(&b, back));
        assert!(first.into_iter().chain(second).all(|stand| leading_code(&stand.recorded()).is_none()));
        rounds += 1;
    }
    let accounts = fleet.number("SELECT count(*) FROM accounts").await;
    assert_eq!(u64::try_from(accounts).unwrap(), (EACH + 1) * rounds);
    fleet.home.assert_balanced();
    fleet.nothing_lost();
}

fn doubt(stand: Stand) -> Doubt {
    let Stand::Doubt(doubt) = stand else { panic!("no doubt: {stand:?}") };
    doubt
}

#[tokio::test]
async fn a_claim_ends_by_the_databases_clock_and_the_fence_grows_at_each_takeover() {
    let mut fleet = Fleet::new().await;
    fleet.home.limits.claim = Duration::from_millis(200);
    let (a, b) = (fleet.process("a").await, fleet.process("b").await);
    let wish = wish(1);
    let Stand::Go(intent) = open(&a, 1, wish.valid(), RAIL).await else { panic!("no intent") };
    let (_, stale) = intent.dispatch();
    let Stand::Elsewhere { until } = open(&b, 1, wish.valid(), RAIL).await else { panic!("claimed twice") };
    let now = fleet.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").await;
    assert!((0..=200).contains(&(until.as_millisecond() - now)));
    let taken = loop {
        match open(&b, 1, wish.valid(), RAIL).await {
            Stand::Elsewhere { .. } => tokio::task::yield_now().await,
            stand @ (Stand::Doubt(_) | Stand::Final(_) | Stand::Go(_) | Stand::Condemned(_) | Stand::Tracked(_)) => {
                break doubt(stand);
            }
        }
    };
    let now = fleet.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").await;
    assert!(now >= until.as_millisecond() && taken.fence() > stale.fence());

    // The stale holder may tell its own answer, and nothing else.
    let Ok(Concluded::Elsewhere { .. }) = a.conclude(stale, Answer::Unknown).await else { panic!("stale holds") };
    let settled = Answer::Settled(RailRef::parse("R-1").unwrap());
    let Ok(Concluded::Final(recorded)) = b.conclude(taken, settled).await else { panic!("not final") };
    assert!(matches!(recorded.outcome(), Outcome::Settled(_)));
    let told = open(&a, 1, wish.valid(), RAIL).await.recorded();
    assert_eq!(told.outcome(), recorded.outcome());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_that_claim_for_a_rail_at_once_one_may_send() {
    let fleet = Fleet::new().await;
    let (a, b) = (fleet.process("a").await, fleet.process("b").await);
    let sent = AtomicU32::new(0);
    for n in 1..=100 {
        let (one, other) = tokio::join!(open(&a, n, wish(n).valid(), RAIL), open(&b, n, wish(n).valid(), RAIL));
        for stand in [one, other] {
            match stand {
                Stand::Go(intent) => {
                    let _dispatched = intent.dispatch();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                Stand::Elsewhere { .. } => {}
                stand @ (Stand::Doubt(_) | Stand::Final(_) | Stand::Condemned(_) | Stand::Tracked(_)) => {
                    panic!("{stand:?}")
                }
            }
        }
    }
    assert_eq!(sent.into_inner(), 100);
    assert_eq!(fleet.number("SELECT count(*) FROM attempts").await, 100);
    fleet.nothing_lost();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_events_that_ask_for_one_released_payment_at_once_one_may_send() {
    let fleet = Fleet::new().await;
    let (a, b) = (fleet.process("a").await, fleet.process("b").await);
    for n in 1..=100 {
        let Stand::Go(intent) = open(&a, n, wish(n).valid(), RAIL).await else { panic!("no intent") };
        let (_, doubt) = intent.dispatch();
        let Ok(Concluded::Released) = a.conclude(doubt, Answer::NotSent(NotSent::Connect)).await else {
            panic!("not released")
        };
        let (one, other) = tokio::join!(open(&a, n, wish(n).valid(), RAIL), open(&b, 1_000 + n, wish(n).valid(), RAIL));
        let both = (&one, &other);
        let alone = matches!(both, (Stand::Go(_), Stand::Elsewhere { .. }) | (Stand::Elsewhere { .. }, Stand::Go(_)));
        assert!(alone, "payment {n}: {both:?}");
    }
    assert_eq!(fleet.number("SELECT count(*) FROM attempts").await, 200);
    fleet.nothing_lost();
}

#[tokio::test]
async fn what_the_database_refuses_costs_its_own_event_and_is_told_without_its_values() {
    let fleet = Fleet::new().await;
    assert!(fleet.home.tamper("ALTER TABLE payments ADD CONSTRAINT no_canary CHECK (payment_id <> 'canary')").await);
    let store = fleet.process("a").await;
    drop(open(&store, 100, wish(100).valid(), Route::Book).await.recorded());
    // The writer waits with one until the rest is in its queue: they become one group.
    let blocked = fleet.home.block().await;
    let mut before = std::pin::pin!(open(&store, 101, wish(101).valid(), Route::Book));
    assert!(futures_util::poll!(before.as_mut()).is_pending());
    while store.waiting() > 0 {
        tokio::task::yield_now().await;
    }
    let opens = join_all((1..=20).map(|n| {
        let wish = if n == 13 { Wish::new("canary", 7) } else { wish(n) };
        store.open(origin(n), wish.valid(), Route::Book)
    }));
    let (opens, (), _) = tokio::join!(opens, blocked.release(), before);
    for (n, end) in (1..).zip(opens) {
        match end {
            Ok(stand) => assert_eq!(stand.recorded().event(), &event(n)),
            Err((lost, ..)) => {
                assert_eq!((n, lost), (13, StoreLost::Refused("SQLSTATE 23514 (no_canary)".to_owned())));
            }
        }
    }
    assert!(fleet.home.reader().payment(&id("canary")).unwrap().is_none());
    assert_eq!(fleet.number("SELECT count(*) FROM transfers").await, 21);
}

#[tokio::test]
async fn the_clock_of_a_process_decides_nothing() {
    // The harness has a clock of its own for other tests; here it stands still in the past and nobody asks it.
    let fleet = Fleet::new().await;
    fleet.home.clock.store(0, Ordering::SeqCst);
    let store = fleet.process("a").await;
    let Outcome::Settled(settled) = open(&store, 1, wish(1).valid(), Route::Book).await.recorded().outcome().clone()
    else {
        panic!("not settled")
    };
    let now = fleet.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").await;
    assert!((now - settled.settled_at.as_millisecond()).abs() < 60_000);
}

#[tokio::test]
async fn one_process_makes_a_round_of_pruning_and_another_leaves_it_to_that() {
    const KEEP: Duration = Duration::from_millis(1);
    let fleet = Fleet::new().await;
    let store = fleet.process("a").await;
    drop(open(&store, 1, wish(1).valid(), Route::Book).await.recorded());
    drop(all(&store, (2..=20).map(|n| (n, wish(1).valid()))).await);
    drop(open(&store, 21, wish(2).valid(), Route::Book).await.recorded());
    let ended = "SELECT count(*) FROM events WHERE at < clock_timestamp() - interval '1 millisecond'";
    while fleet.number(ended).await < 19 {
        tokio::task::yield_now().await;
    }
    let mut one = Postgres::open(fleet.settings().clone()).await.unwrap();
    let mut other = Postgres::open(fleet.settings().clone()).await.unwrap();
    let page = one.prune(KEEP, 5).await.unwrap();
    assert_eq!(page, Pruned { events: 5, more: true, ..Pruned::default() });
    assert_eq!(other.prune(KEEP, 5).await.unwrap(), Pruned::default(), "two made a round");
    // What another transaction holds is passed by, and nobody waits.
    let holder = super::client_of(fleet.settings()).await;
    holder.batch_execute("BEGIN; SELECT 1 FROM events WHERE sequence = 8 FOR UPDATE").await.unwrap();
    assert_eq!(one.prune(KEEP, 5).await.unwrap().events, 4);
    holder.batch_execute("ROLLBACK").await.unwrap();
    while one.prune(KEEP, 5).await.unwrap().more {}
    assert_eq!(fleet.number("SELECT count(*) FROM events").await, 1);
    let page = other.prune(KEEP, 5).await.unwrap();
    assert_eq!(page.events, 1, "the round's end has not freed it");
}
