use std::time::Duration;

use tokio::sync::mpsc;

use super::harness::{Expect, Home, RAIL, Wish, both, event, open, origin};
use crate::domain::{Answer, Code, RailRef, Reason};
use crate::store::{Backend, Concluded, Note, Pruned, Route, Stand, Store};

const DAY: Duration = Duration::from_secs(24 * 3600);
const KEEP: Duration = Duration::from_secs(400 * 24 * 3600);

/// Whole rounds over a closed store, `most` rows a page.
async fn prune(home: &Home, most: u32) -> (Pruned, usize) {
    let mut backend = home.backend().await;
    let (mut all, mut pages) = (Pruned::default(), 0);
    loop {
        let page = backend.prune(KEEP, most).await.unwrap();
        all.events += page.events;
        all.attempts += page.attempts;
        all.notes += page.notes;
        pages += 1;
        if !page.more {
            return (all, pages);
        }
    }
}

/// Settles over the rail; the event has waited once before.
async fn settle_over_rail(home: &Home, store: &Store, sequence: u64, wish: &Wish) {
    let waited = Note { at: home.now(), what: "waited".to_owned(), breaker: "closed" };
    let mut origin = origin(sequence);
    origin.history.push(waited);
    let stand = store.open(origin, wish.valid(), RAIL).await.map_err(|(lost, _, _)| lost).unwrap();
    let Stand::Go(intent) = stand else { panic!("no intent: {stand:?}") };
    let answer = Answer::Settled(RailRef::parse("R-1").unwrap());
    let concluded = store.conclude(intent.dispatch().1, answer).await.map_err(|(lost, _)| lost).unwrap();
    assert!(matches!(concluded, Concluded::Final(_)));
}

both!(
    what_ended_long_ago_is_forgotten_and_the_payment_still_answers_the_same,
    attempts_of_a_payment_in_doubt_stay_however_old_they_are,
    a_round_goes_on_page_by_page_and_passes_by_what_is_young,
    the_writer_prunes_by_itself_between_its_groups,
    what_the_high_water_mark_is_read_from_is_not_lost,
);

async fn what_ended_long_ago_is_forgotten_and_the_payment_still_answers_the_same(home: Home) {
    let store = home.store().await;
    let (booked, railed) = (Wish::new("PAY-1", 7), Wish::new("PAY-2", 8));
    let first = open(&store, 1, booked.valid(), Route::Book).await.recorded();
    drop(open(&store, 2, booked.valid(), Route::Book).await.recorded());
    drop(open(&store, 3, Wish::new("PAY-1", 9).valid(), Route::Book).await.condemned());
    let refused = Wish::new("PAY-3", 1).refused(vec![Reason::new(Code::AM13, "/amount/value", "too much")]);
    drop(open(&store, 4, refused, Route::Book).await.recorded());
    settle_over_rail(&home, &store, 5, &railed).await;
    let told = open(&store, 5, railed.valid(), RAIL).await.recorded();
    store.stop().await;

    home.pass(KEEP - DAY);
    assert_eq!(prune(&home, 2).await.0.rows(), 0, "nothing is old enough");
    assert_eq!(home.reader().facts().unwrap().pruned_before, None);
    home.pass(2 * DAY);
    let (pruned, _) = prune(&home, 2).await;
    assert_eq!(pruned, Pruned { events: 3, attempts: 1, notes: 1, more: false });
    let before = home.reader().facts().unwrap().pruned_before.unwrap();
    assert_eq!(before, home.now() - jiff::SignedDuration::try_from(KEEP).unwrap());
    assert!(home.reader().event(&event(4)).unwrap().is_none() && home.reader().event(&event(1)).unwrap().is_some());

    let store = home.store().await;
    let again = open(&store, 6, booked.valid(), Route::Book).await.recorded();
    assert!(again.is_duplicate() && again.outcome() == first.outcome());
    let again = open(&store, 7, railed.valid(), RAIL).await.recorded();
    assert!(again.is_duplicate() && again.outcome() == told.outcome());
    for (sequence, route) in [(8, Route::Book), (9, RAIL)] {
        let conflict = open(&store, sequence, Wish::new("PAY-2", 9).valid(), route).await.condemned();
        assert_eq!(conflict.code(), Code::AM05);
    }
    home.assert_balanced();
    assert_eq!(home.reader().book_check().unwrap()[0].transferred, 7);
}

async fn attempts_of_a_payment_in_doubt_stay_however_old_they_are(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let Stand::Go(intent) = open(&store, 1, wish.valid(), RAIL).await else { panic!("no intent") };
    drop(intent.dispatch());
    store.stop().await;
    home.pass(3 * KEEP);
    assert_eq!(prune(&home, 2).await.0.rows(), 0);
    let store = home.store().await;
    let stand = open(&store, 1, wish.valid(), RAIL).await;
    assert!(matches!(stand, Stand::Doubt(_)), "it would be sent again: {stand:?}");
}

async fn a_round_goes_on_page_by_page_and_passes_by_what_is_young(home: Home) {
    let store = home.store().await;
    let reason = || vec![Reason::new(Code::AM13, "/amount/value", "too much")];
    for sequence in 1..=60 {
        if sequence == 41 {
            home.pass(2 * KEEP);
        }
        drop(open(&store, sequence, Wish::new("PAY-1", 1).refused(reason()), Route::Book).await.recorded());
    }
    store.stop().await;
    // Five full pages of old rows, one that ends in young ones, one for attempts, one for notes.
    assert_eq!(prune(&home, 7).await, (Pruned { events: 40, ..Pruned::default() }, 8));
    assert!(home.reader().event(&event(40)).unwrap().is_none() && home.reader().event(&event(41)).unwrap().is_some());
    assert_eq!(prune(&home, 7).await.0.rows(), 0);
}

async fn the_writer_prunes_by_itself_between_its_groups(mut home: Home) {
    let store = home.store().await;
    let refused = Wish::new("PAY-3", 1).refused(vec![Reason::new(Code::AM13, "/amount/value", "too much")]);
    drop(open(&store, 1, refused, Route::Book).await.recorded());
    drop(open(&store, 2, Wish::new("PAY-1", 7).valid(), Route::Book).await.recorded());
    store.stop().await;

    home.pass(2 * KEEP);
    home.limits.keep = Some(KEEP);
    let (told, mut pages) = mpsc::unbounded_channel();
    let backend = home.backend().await;
    let store = Store::start(backend, home.policy.clone(), home.limits, "worker", move |done| {
        told.send((done.requests, done.pruned.events)).ok();
    })
    .unwrap();
    assert_eq!(pages.recv().await, Some((0, 1)));
    drop(open(&store, 3, Wish::new("PAY-2", 7).valid(), Route::Book).await.recorded());
    store.stop().await;
    let mut requests = 0;
    while let Some((asked, _)) = pages.recv().await {
        requests += asked;
    }
    assert_eq!(requests, 1);
}

async fn what_the_high_water_mark_is_read_from_is_not_lost(home: Home) {
    let store = home.store().await;
    drop(open(&store, 1, Wish::new("PAY-1", 7).valid(), Route::Book).await.recorded());
    for sequence in 2..=4 {
        drop(open(&store, sequence, Wish::new("PAY-1", 7).valid(), Route::Book).await.recorded());
    }
    store.stop().await;
    home.pass(2 * KEEP);
    assert!(prune(&home, 2).await.0.events >= 2);
    let facts = home.reader().facts().unwrap();
    assert_eq!(facts.high_water.iter().map(|mark| mark.sequence).collect::<Vec<_>>(), [4]);
}
