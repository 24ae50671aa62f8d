use std::time::Duration;

use super::harness::{Expect, Home, Wish, both, event, id, leading_code, open, origin};
use crate::domain::{Code, DeadReason, Outcome, Reason, RefusedBy};
use crate::store::{EventKind, EventRecord, NotCondemned, Note, Route, State, Unknown};

async fn a_redelivered_event_is_settled_once_and_told_the_same_again(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 1050);

    let first = open(&store, 1, wish.valid(), Route::Book).await.recorded();
    home.pass(Duration::from_secs(5));
    let again = open(&store, 1, wish.valid(), Route::Book).await.recorded();

    assert!(!first.is_duplicate() && !again.is_duplicate());
    assert_eq!(first.outcome(), again.outcome());
    let Outcome::Settled(settled) = first.outcome() else { panic!("not settled") };
    assert_eq!(settled.rail_ref.as_str(), "tr_000000000001");
    assert_eq!((settled.attempts, settled.late), (1, false));
    let record = home.reader().payment(&wish.id).unwrap().unwrap();
    assert_eq!(record.payment.unwrap().deliveries, 2);
    assert_eq!(home.reader().book_check().unwrap()[0].transferred, 1050);
    home.assert_balanced();
}

async fn a_settled_payment_is_never_reported_rejected_because_rules_changed(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 1);
    let first = open(&store, 1, wish.valid(), Route::Book).await.recorded();
    let now_refused = wish.refused(vec![Reason::new(Code::AM13, "/amount/value", "too much")]);
    let again = open(&store, 1, now_refused, Route::Book).await.recorded();
    assert_eq!(first.outcome(), again.outcome());
}

async fn a_duplicate_gets_the_first_outcome_and_one_record_of_its_own(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let first = open(&store, 1, wish.valid(), Route::Book).await.recorded();
    for _ in 0..2 {
        let second = open(&store, 2, wish.valid(), Route::Book).await.recorded();
        assert!(second.is_duplicate());
        assert_eq!(second.event(), &event(2));
        assert_eq!(first.outcome(), second.outcome());
    }
    let (events, _) = home.reader().events_after(Default::default(), 10).unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].kind, events[0].event.sequence), (EventKind::Duplicate, 2));
    home.assert_balanced();
}

async fn the_same_id_with_other_content_is_condemned_and_leaves_the_payment_alone(home: Home) {
    let store = home.store().await;
    drop(open(&store, 1, Wish::new("PAY-1", 7).valid(), Route::Book).await.recorded());
    let before = home.reader().payments_after(0, 10).unwrap();
    for _ in 0..2 {
        let condemned = open(&store, 2, Wish::new("PAY-1", 8).valid(), Route::Book).await.condemned();
        assert_eq!(condemned.code(), Code::AM05);
        assert_eq!(condemned.payment_id(), Some(&id("PAY-1")));
    }
    assert_eq!(home.reader().payments_after(0, 10).unwrap(), before);
    let (events, _) = home.reader().events_after(Default::default(), 10).unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].kind, events[0].amount.map(|a| a.minor())), (EventKind::Condemned, Some(8)));
}

async fn duplicate_and_conflict_inside_one_group_follow_stream_order(mut home: Home) {
    home.busy_timeout = Duration::from_secs(10);
    let store = home.store().await;
    let (a, b, other) = (Wish::new("PAY-1", 7), Wish::new("PAY-1", 8), Wish::new("PAY-2", 9));
    // The writer is kept waiting with another payment until all three are in its queue: they become one group.
    let foreign = home.block().await;
    let mut before = std::pin::pin!(open(&store, 9, other.valid(), Route::Book));
    assert!(futures_util::poll!(before.as_mut()).is_pending());
    while store.waiting() > 0 {
        tokio::task::yield_now().await;
    }
    // Polled together, in an order that is not the stream's.
    let (conflict, duplicate, first, (), _) = tokio::join!(
        open(&store, 3, b.valid(), Route::Book),
        open(&store, 2, a.valid(), Route::Book),
        open(&store, 1, a.valid(), Route::Book),
        foreign.release(),
        before,
    );
    assert!(!first.recorded().is_duplicate());
    assert!(duplicate.recorded().is_duplicate());
    assert_eq!(conflict.condemned().code(), Code::AM05);
    home.assert_balanced();
}

async fn an_event_refused_by_rules_claims_nothing_and_a_corrected_one_is_judged_anew(home: Home) {
    let store = home.store().await;
    let bad = Wish::new("PAY-1", 7);
    let reasons = vec![Reason::new(Code::AC03, "/creditor_account/iban", "check digits do not match")];
    let refused = open(&store, 1, bad.refused(reasons.clone()), Route::Book).await.recorded();
    let Outcome::Rejected(rejected) = refused.outcome() else { panic!("not rejected") };
    assert_eq!((rejected.by, &rejected.reasons), (RefusedBy::Rules, &reasons));
    home.pass(Duration::from_secs(1));

    // Its redelivery is told the same, even where the rules would let it pass by now.
    let again = open(&store, 1, bad.valid(), Route::Book).await.recorded();
    assert_eq!(refused.outcome(), again.outcome());

    let corrected = open(&store, 2, Wish::new("PAY-1", 9).valid(), Route::Book).await.recorded();
    assert!(matches!(corrected.outcome(), Outcome::Settled(_)) && !corrected.is_duplicate());
}

async fn funds_and_unknown_accounts_refuse_for_good(mut home: Home) {
    home.policy.unknown = Unknown::Refuse;
    home.policy.declared =
        [("other::alice".to_owned(), false), ("other::bob".to_owned(), false), ("other::bank".to_owned(), true)].into();
    let store = home.store().await;
    let pay = |name: &str, from: &str, to: &str, minor| Wish {
        from: from.to_owned(),
        to: to.to_owned(),
        ..Wish::new(name, minor)
    };
    let cases = [
        (pay("P1", "alice", "bob", 1), Some("AM04")),
        (pay("P2", "nobody", "bob", 1), Some("AC02")),
        (pay("P3", "bank", "nobody", 1), Some("AC03")),
        (pay("P4", "bank", "alice", 100), None),
        (pay("P5", "alice", "bob", 60), None),
        (pay("P6", "alice", "bob", 41), Some("AM04")),
        (pay("P7", "alice", "bob", 40), None),
        (pay("P8", "alice", "alice", 1), Some("AM04")),
        (pay("P9", "bank", "bank", i64::MAX), Some("AM14")),
    ];
    for (sequence, (wish, code)) in (1..).zip(&cases) {
        let recorded = open(&store, sequence, wish.valid(), Route::Book).await.recorded();
        assert_eq!(leading_code(&recorded), *code, "{}", wish.id);
        if let Outcome::Rejected(rejected) = recorded.outcome() {
            assert_eq!(rejected.by, RefusedBy::Rail);
        }
    }
    // Final for the payment: funds that come later do not change it, and the id is used up.
    let again = open(&store, 20, cases[0].0.valid(), Route::Book).await.recorded();
    assert!(again.is_duplicate());
    assert_eq!(leading_code(&again), Some("AM04"));
    assert_eq!(open(&store, 21, pay("P1", "bank", "bob", 1).valid(), Route::Book).await.condemned().code(), Code::AM05);
    home.assert_balanced();
}

async fn a_payment_past_its_deadline_is_refused_by_rules_and_a_late_one_is_marked(home: Home) {
    let store = home.store().await;
    let expired = Wish { expires_at: Some(home.now()), ..Wish::new("PAY-1", 7) };
    let recorded = open(&store, 1, expired.valid(), Route::Book).await.recorded();
    assert_eq!(leading_code(&recorded), Some("AB11"));
    assert!(home.reader().payments_after(0, 10).unwrap().is_empty());

    let late = Wish { late_from: Some(home.now()), ..Wish::new("PAY-2", 7) };
    let recorded = open(&store, 2, late.valid(), Route::Book).await.recorded();
    assert!(matches!(recorded.outcome(), Outcome::Settled(settled) if settled.late));
}

async fn starts_are_counted_across_processes_until_the_event_ends(home: Home) {
    let store = home.store().await;
    assert_eq!(store.start_of(event(1)).await, Ok(1));
    store.stop().await;
    let store = home.store().await;
    assert_eq!(store.start_of(event(1)).await, Ok(2));
    drop(open(&store, 1, Wish::new("PAY-1", 7).valid(), Route::Book).await.recorded());
    assert_eq!(store.start_of(event(1)).await, Ok(1));
}

async fn a_condemned_event_stays_condemned_and_an_ended_one_is_not_condemned(home: Home) {
    let store = home.store().await;
    let poison = DeadReason::Poison { starts: 3 };
    let wish = Wish::new("PAY-1", 7);
    let condemned = store.condemn(origin(1), poison.clone(), Some(wish.id.clone())).await.unwrap();
    assert_eq!((condemned.code(), condemned.attempts()), (Code::FF10, 3));
    assert_eq!(open(&store, 1, wish.valid(), Route::Book).await.condemned().code(), Code::FF10);

    // The same content, redriven as a new event, is a new chance.
    drop(open(&store, 2, wish.valid(), Route::Book).await.recorded());
    let refused = store.condemn(origin(2), poison, Some(wish.id.clone())).await;
    assert!(matches!(refused, Err(NotCondemned::Ended(_))));
}

async fn an_unreadable_event_is_condemned_without_a_payment(home: Home) {
    let store = home.store().await;
    let why = DeadReason::Unreadable(Reason::new(Code::FF01, "", "not JSON"));
    let condemned = store.condemn(origin(1), why, None).await.unwrap();
    assert_eq!(condemned.reason().unwrap().text, "not JSON");
    let found = home.reader().event(&event(1)).unwrap().unwrap();
    assert!(matches!(
        found,
        EventRecord::Other { kind: EventKind::Condemned, payment_id: None, code: Some(Code::FF01), amount: None }
    ));
}

async fn the_history_of_an_event_is_kept_once_and_bounded(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let mut from = origin(1);
    for n in 0..100 {
        home.pass(Duration::from_secs(1));
        from.history.push(Note { at: home.now(), what: format!("handed back {n}"), breaker: "open" });
    }
    for _ in 0..2 {
        drop(
            store.open(from.clone(), wish.valid(), Route::Book).await.map_err(|(lost, _, _)| lost).unwrap().recorded(),
        );
    }
    let record = home.reader().payment(&wish.id).unwrap().unwrap();
    assert_eq!(record.notes.len(), 64);
    assert_eq!(record.notes.last().unwrap().what, "handed back 99");
    assert_eq!(record.payment.unwrap().state, State::Settled);
}

both![
    a_redelivered_event_is_settled_once_and_told_the_same_again,
    a_settled_payment_is_never_reported_rejected_because_rules_changed,
    a_duplicate_gets_the_first_outcome_and_one_record_of_its_own,
    the_same_id_with_other_content_is_condemned_and_leaves_the_payment_alone,
    duplicate_and_conflict_inside_one_group_follow_stream_order,
    an_event_refused_by_rules_claims_nothing_and_a_corrected_one_is_judged_anew,
    funds_and_unknown_accounts_refuse_for_good,
    a_payment_past_its_deadline_is_refused_by_rules_and_a_late_one_is_marked,
    starts_are_counted_across_processes_until_the_event_ends,
    a_condemned_event_stays_condemned_and_an_ended_one_is_not_condemned,
    an_unreadable_event_is_condemned_without_a_payment,
    the_history_of_an_event_is_kept_once_and_bounded,
];
