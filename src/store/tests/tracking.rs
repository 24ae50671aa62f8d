use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use jiff::civil::date;
use tokio::time::Instant;

use super::harness::{Expect, Home, RAIL, Wish, both, event, leading_code, open, origin};
use crate::domain::{Answer, Code, DeadReason, EventId, Finding, NotSent, RailKey, RailRef, Reason};
use crate::intake::{Allowance, Judged};
use crate::store::{
    Concluded, Confirmed, Doubt, Due, DueList, Handed, Intent, Message, NotCondemned, Stand, State, Store, TrackLimits,
    Tracked,
};

/// A broker's word that the outcome of this event is stored.
struct Acked(EventId);

impl Confirmed for Acked {
    fn event(&self) -> &EventId {
        &self.0
    }
}

fn message() -> Message {
    let headers = vec![("traceparent".to_owned(), "00-1-2-01".to_owned())];
    Message { headers, body: Bytes::from_static(b"{\"as\": \"sent\"}\xff") }
}

fn many() -> TrackLimits {
    TrackLimits { count: 1_000, minor: BTreeMap::new() }
}

fn settled() -> Answer {
    Answer::Settled(RailRef::parse("R-1").unwrap())
}

fn intent(stand: Stand) -> Intent {
    let Stand::Go(intent) = stand else { panic!("no intent: {stand:?}") };
    intent
}

fn doubt(stand: Stand) -> Doubt {
    let Stand::Doubt(doubt) = stand else { panic!("no doubt: {stand:?}") };
    doubt
}

fn tracked(handed: Handed) -> Tracked {
    let Handed::Tracked(tracked) = handed else { panic!("not tracked: {handed:?}") };
    tracked
}

/// An attempt that the rail has and has not ended.
async fn in_progress(store: &Store, sequence: u64, wish: &Wish) -> Doubt {
    let (_order, doubt) = intent(open(store, sequence, wish.valid(), RAIL).await).dispatch();
    let said = store.conclude(doubt, Answer::InProgress).await.map_err(|(lost, _)| lost).unwrap();
    let Concluded::Doubt(doubt) = said else { panic!("{said:?}") };
    doubt
}

async fn track(store: &Store, doubt: Doubt, limits: &TrackLimits) -> Handed {
    store.track(doubt, message(), limits.clone()).await.map_err(|(lost, _)| lost).unwrap()
}

async fn list(store: &Store) -> DueList {
    store.due(origin(1).lane, 100).await.unwrap()
}

async fn only_due(store: &Store) -> Due {
    let mut list = list(store).await;
    assert_eq!(list.due.len(), 1, "{list:?}");
    list.due.remove(0)
}

async fn sweep(store: &Store, due: Due, judged: Judged) -> Stand {
    store.sweep(due, Some(judged), RAIL).await.unwrap().unwrap()
}

async fn resume(store: &Store, doubt: Doubt, finding: Finding) -> Stand {
    store.resume(doubt, finding, Instant::now(), Duration::from_secs(10)).await.map_err(|(lost, _)| lost).unwrap()
}

async fn a_tracked_payment_is_finished_without_its_event_and_leaves_the_tracker_once_it_is_told(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let doubt = in_progress(&store, 5, &wish).await;
    let proof = tracked(track(&store, doubt, &many()).await);
    assert_eq!(
        (proof.event(), proof.payment_id(), proof.rail(), proof.is_held()),
        (&event(5), &wish.id, "swift", false)
    );
    // It is acknowledged, and so counts as ended where the store is compared with the consumer.
    assert_eq!(home.reader().facts().unwrap().high_water[0].sequence, 5);
    assert_eq!((list(&store).await.due.len(), list(&store).await.totals.count), (0, 1), "not due yet");

    home.pass(Duration::from_secs(2));
    let due = only_due(&store).await;
    assert_eq!((&due.origin().event, due.origin().requested_at), (&event(5), origin(5).requested_at));
    assert!(*due.message() == message(), "byte for byte");
    let Stand::Doubt(left) = sweep(&store, due, wish.valid()).await else { panic!("no doubt") };
    assert_eq!((left.rail(), left.attempt(), left.key()), ("swift", 1, RailKey::of(&wish.id, 0)));
    let recorded = resume(&store, left, Finding::Answered(settled())).await.recorded();
    assert!(recorded.event() == &event(5) && !recorded.is_duplicate());

    // The end is due at once until it is told, and is told again as it was.
    let again = store.sweep(only_due(&store).await, None, RAIL).await.unwrap().unwrap().recorded();
    assert_eq!(again.outcome(), recorded.outcome());
    store.told(&Acked(event(5))).await.unwrap();
    home.pass(Duration::from_secs(600));
    let left = list(&store).await;
    assert_eq!((left.due.len(), left.totals.count), (0, 0));
    assert!(home.reader().payment(&wish.id).unwrap().unwrap().payment.unwrap().tracked.is_none());
}

async fn nothing_but_an_end_that_is_told_leaves_the_tracker(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let doubt = in_progress(&store, 5, &wish).await;
    drop(tracked(track(&store, doubt, &many()).await));
    store.told(&Acked(event(5))).await.unwrap();
    store.told(&Acked(event(6))).await.unwrap();
    assert_eq!(list(&store).await.totals.count, 1);
}

async fn its_own_event_is_acknowledged_again_and_any_other_waits(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let left = in_progress(&store, 5, &wish).await;
    drop(tracked(track(&store, left, &many()).await));
    for _ in 0..2 {
        let stand = open(&store, 5, wish.valid(), RAIL).await;
        assert!(matches!(&stand, Stand::Tracked(proof) if proof.event() == &event(5)), "{stand:?}");
    }
    // Long after any claim: another event of the payment gets no attempt and no doubt, and tracks nothing.
    home.pass(Duration::from_secs(600));
    let stand = open(&store, 6, wish.valid(), RAIL).await;
    assert!(matches!(stand, Stand::Elsewhere { .. }), "{stand:?}");
    let other = Wish { minor: 8, ..wish.clone() };
    assert_eq!(open(&store, 7, other.valid(), RAIL).await.condemned().code(), Code::AM05);
    let poison = store.condemn(origin(5), DeadReason::Poison { starts: 9 }, Some(wish.id.clone())).await;
    assert!(matches!(poison, Err(NotCondemned::InDoubt(_))));

    let left = doubt(sweep(&store, only_due(&store).await, wish.valid()).await);
    drop(resume(&store, left, Finding::Answered(settled())).await.recorded());
    assert!(open(&store, 6, wish.valid(), RAIL).await.recorded().is_duplicate());
}

async fn only_the_event_that_the_payment_stands_for_is_tracked(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    drop(in_progress(&store, 5, &wish).await);
    home.pass(Duration::from_secs(31));
    let left = doubt(open(&store, 6, wish.valid(), RAIL).await);
    let kept = track(&store, left, &many()).await;
    assert!(matches!(kept, Handed::Kept(_)), "{kept:?}");
    assert_eq!(list(&store).await.totals.count, 0);
}

async fn who_lost_the_claim_tracks_nothing(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let stale = in_progress(&store, 5, &wish).await;
    home.pass(Duration::from_secs(31));
    let _taken = doubt(open(&store, 6, wish.valid(), RAIL).await);
    let handed = track(&store, stale, &many()).await;
    assert!(matches!(handed, Handed::Elsewhere { .. }), "{handed:?}");
}

async fn a_sweep_claims_and_comes_seldomer_each_time(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let left = in_progress(&store, 5, &wish).await;
    drop(tracked(track(&store, left, &many()).await));
    let mut fence = 0;
    for wait in [1, 2, 5, 10, 30, 60, 60] {
        home.pass(Duration::from_secs(wait) - Duration::from_millis(1));
        assert!(list(&store).await.due.is_empty(), "before {wait} s are over");
        home.pass(Duration::from_millis(1));
        let due = only_due(&store).await;
        let twice = store.due(origin(1).lane, 100).await.unwrap().due.remove(0);
        let left = doubt(sweep(&store, due, wish.valid()).await);
        assert!(left.fence() > fence);
        fence = left.fence();
        // Who listed it at the same time comes too late.
        let stand = sweep(&store, twice, wish.valid()).await;
        assert!(matches!(stand, Stand::Elsewhere { .. }), "{stand:?}");
        let stand = resume(&store, left, Finding::Answered(Answer::InProgress)).await;
        assert!(matches!(stand, Stand::Doubt(_)), "{stand:?}");
    }
    store.stop().await;

    // The claim of a sweep that died ends like any other.
    home.pass(Duration::from_secs(60));
    let next = home.start(home.backend().await, "next");
    assert_eq!(next.due(origin(1).lane, 100).await.unwrap().due.len(), 1);
    drop(doubt(sweep(&next, only_due(&next).await, wish.valid()).await));
}

async fn what_the_rail_twice_did_not_know_is_sent_again_under_its_key(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let left = in_progress(&store, 5, &wish).await;
    drop(tracked(track(&store, left, &many()).await));
    home.pass(Duration::from_secs(11));
    let left = doubt(sweep(&store, only_due(&store).await, wish.valid()).await);
    assert!(matches!(resume(&store, left, Finding::NotFound).await, Stand::Doubt(_)));
    home.pass(Duration::from_secs(11));
    let left = doubt(sweep(&store, only_due(&store).await, wish.valid()).await);
    let (order, left) = intent(resume(&store, left, Finding::NotFound).await).dispatch();
    assert_eq!((order.key(), order.attempt()), (&RailKey::of(&wish.id, 0), 2));
    let said = store.conclude(left, Answer::NotSent(NotSent::Connect)).await.map_err(|(lost, _)| lost).unwrap();
    // The first attempt is still one that the rail may have.
    assert!(!matches!(said, Concluded::Final(_)), "{said:?}");

    home.pass(Duration::from_secs(60));
    let (order, left) = intent(sweep(&store, only_due(&store).await, wish.valid()).await).dispatch();
    assert_eq!((order.key(), order.attempt()), (&RailKey::of(&wish.id, 0), 3));
    let refused = Answer::Rejected { code: Code::AC03, resubmit: true };
    assert!(matches!(store.conclude(left, refused).await, Ok(Concluded::Released)));
    home.pass(Duration::from_secs(60));
    let (order, left) = intent(sweep(&store, only_due(&store).await, wish.valid()).await).dispatch();
    assert_eq!(order.key(), &RailKey::of(&wish.id, 1), "a key that was refused is used up");
    assert!(matches!(store.conclude(left, settled()).await, Ok(Concluded::Final(_))));
}

async fn what_the_rules_refuse_by_now_is_refused_only_where_no_attempt_counts(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let refused = || wish.refused(vec![Reason::new(Code::AM13, "/amount/value", "too much")]);
    let left = in_progress(&store, 5, &wish).await;
    drop(tracked(track(&store, left, &many()).await));
    home.pass(Duration::from_secs(11));
    let left = doubt(sweep(&store, only_due(&store).await, refused()).await);
    let said = Finding::Answered(Answer::Rejected { code: Code::AC03, resubmit: true });
    let recorded = resume(&store, left, said).await.recorded();
    assert_eq!((leading_code(&recorded), recorded.event()), (Some("AM13"), &event(5)));

    // Until that is told, the id is not free: the sweep would take the corrected event for the refused one.
    let corrected = Wish { minor: 6, ..wish.clone() };
    let stand = open(&store, 9, corrected.valid(), RAIL).await;
    assert!(matches!(stand, Stand::Elsewhere { .. }), "{stand:?}");
    home.pass(Duration::from_secs(60));
    let again = store.sweep(only_due(&store).await, None, RAIL).await.unwrap().unwrap().recorded();
    assert_eq!(again.outcome(), recorded.outcome());
    store.told(&Acked(event(5))).await.unwrap();
    assert_eq!(list(&store).await.totals.count, 0);
    drop(intent(open(&store, 9, corrected.valid(), RAIL).await));
}

async fn the_tracker_is_bounded_in_count_and_in_money(home: Home) {
    let store = home.store().await;
    let two = TrackLimits { count: 2, minor: BTreeMap::new() };
    for n in 1..=2 {
        let left = in_progress(&store, n, &Wish::new(&format!("PAY-{n}"), 7)).await;
        drop(tracked(track(&store, left, &two).await));
    }
    let third = Wish::new("PAY-3", 7);
    let full = track(&store, in_progress(&store, 3, &third).await, &two).await;
    let Handed::Full(left, amount) = full else { panic!("{full:?}") };
    assert_eq!(amount, third.amount());

    let euros = |most| TrackLimits { count: 9, minor: BTreeMap::from([("EUR", most)]) };
    let full = track(&store, left, &euros(20)).await;
    let Handed::Full(left, _) = full else { panic!("{full:?}") };
    // What would not even fit alone, or is no money of the bound, keeps its event.
    let kept = track(&store, left, &euros(6)).await;
    let Handed::Kept(left) = kept else { panic!("{kept:?}") };
    drop(tracked(track(&store, left, &euros(21)).await));
    let dollars = Wish { currency: "USD", ..Wish::new("PAY-4", 1) };
    let kept = track(&store, in_progress(&store, 4, &dollars).await, &euros(1_000)).await;
    assert!(matches!(kept, Handed::Kept(_)), "{kept:?}");
    let totals = list(&store).await.totals;
    assert_eq!((totals.count, totals.minor), (3, BTreeMap::from([("EUR", 21)])));
}

async fn within_one_group_the_bound_holds_too(home: Home) {
    let store = home.store().await;
    let mut doubts = Vec::new();
    for n in 1..=20 {
        doubts.push(in_progress(&store, n, &Wish::new(&format!("PAY-{n}"), 7)).await);
    }
    let limits = TrackLimits { count: 7, minor: BTreeMap::new() };
    let handed = futures_util::future::join_all(doubts.into_iter().map(|left| track(&store, left, &limits))).await;
    assert_eq!(handed.iter().filter(|handed| matches!(handed, Handed::Tracked(_))).count(), 7);
    assert_eq!(list(&store).await.totals.count, 7);
}

async fn a_tracked_payment_may_be_blocked_and_stays_tracked(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let left = in_progress(&store, 5, &wish).await;
    drop(tracked(track(&store, left, &many()).await));
    home.pass(Duration::from_secs(11));
    let left = doubt(sweep(&store, only_due(&store).await, wish.valid()).await);
    let stand = resume(&store, left, Finding::Answered(Answer::Blocked)).await;
    assert!(matches!(&stand, Stand::Doubt(held) if held.is_held()), "{stand:?}");
    let row = home.reader().payment(&wish.id).unwrap().unwrap().payment.unwrap();
    assert!(row.state == State::Held && row.tracked.is_some_and(|tracking| tracking.sweeps == 1));
    home.pass(Duration::from_secs(60));
    let left = doubt(sweep(&store, only_due(&store).await, wish.valid()).await);
    drop(resume(&store, left, Finding::Answered(settled())).await.recorded());
}

async fn a_tracked_payment_keeps_what_it_reserved_until_its_end(home: Home) {
    let store = home.store().await;
    let day = Some(Allowance { day: date(2027, 1, 15), most: 100 });
    let limited = |payment: &str, minor: i64| Wish { allowance: day, ..Wish::new(payment, minor) };
    let wish = limited("PAY-1", 100);
    let doubt = in_progress(&store, 1, &wish).await;
    drop(tracked(track(&store, doubt, &many()).await));
    let over = open(&store, 2, limited("PAY-2", 1).valid(), RAIL).await.recorded();
    assert_eq!(leading_code(&over), Some("AM14"));
    home.pass(Duration::from_secs(2));
    let Stand::Doubt(left) = sweep(&store, only_due(&store).await, wish.valid()).await else { panic!("no doubt") };
    let refused = Finding::Answered(Answer::Rejected { code: Code::AC03, resubmit: false });
    assert_eq!(leading_code(&resume(&store, left, refused).await.recorded()), Some("AC03"));
    drop(intent(open(&store, 3, limited("PAY-3", 100).valid(), RAIL).await));
}

async fn what_a_tracker_holds_is_counted_with_its_money_and_its_next_sweep(home: Home) {
    let store = home.store().await;
    assert!(home.reader().tracked_sums().unwrap().is_empty());
    for (sequence, minor) in [(5, 700), (6, 11)] {
        let wish = Wish::new(&format!("PAY-{sequence}"), minor);
        let doubt = in_progress(&store, sequence, &wish).await;
        drop(tracked(track(&store, doubt, &many()).await));
        home.pass(Duration::from_secs(30));
    }
    // In doubt as well, and its event's.
    drop(in_progress(&store, 7, &Wish::new("PAY-7", 5)).await);
    let sums = home.reader().tracked_sums().unwrap();
    let (lane, of) = sums.first_key_value().unwrap();
    assert_eq!((sums.len(), lane, of.count), (1, &origin(1).lane, 2));
    let money: Vec<_> = of.money.values().map(|(currency, minor)| (currency.code(), *minor)).collect();
    assert_eq!(money, [("EUR", 711)]);
    // The first sweep comes a second later; the first payment's is the next.
    assert_eq!(of.due.duration_since(of.oldest).as_secs(), 1);
    assert_eq!(list(&store).await.due.len(), 2);
}

both![
    what_a_tracker_holds_is_counted_with_its_money_and_its_next_sweep,
    a_tracked_payment_keeps_what_it_reserved_until_its_end,
    a_tracked_payment_is_finished_without_its_event_and_leaves_the_tracker_once_it_is_told,
    nothing_but_an_end_that_is_told_leaves_the_tracker,
    its_own_event_is_acknowledged_again_and_any_other_waits,
    only_the_event_that_the_payment_stands_for_is_tracked,
    who_lost_the_claim_tracks_nothing,
    a_sweep_claims_and_comes_seldomer_each_time,
    what_the_rail_twice_did_not_know_is_sent_again_under_its_key,
    what_the_rules_refuse_by_now_is_refused_only_where_no_attempt_counts,
    the_tracker_is_bounded_in_count_and_in_money,
    within_one_group_the_bound_holds_too,
    a_tracked_payment_may_be_blocked_and_stays_tracked,
];
