use std::time::Duration;

use tokio::time::Instant;

use super::harness::{Expect, Home, RAIL, Wish, both, event, leading_code, open, origin};
use crate::domain::{Answer, Code, DeadReason, Finding, NotSent, Outcome, RailKey, RailRef, Reason};
use crate::store::{Concluded, Doubt, Intent, NotCondemned, Note, Route, Stand, State, Store};

fn intent(stand: Stand) -> Intent {
    let Stand::Go(intent) = stand else { panic!("no intent: {stand:?}") };
    intent
}

fn doubt(stand: Stand) -> Doubt {
    let Stand::Doubt(doubt) = stand else { panic!("no doubt: {stand:?}") };
    doubt
}

async fn conclude(store: &Store, doubt: Doubt, answer: Answer) -> Concluded {
    store.conclude(doubt, answer).await.map_err(|(lost, _)| lost).unwrap()
}

async fn resume(store: &Store, doubt: Doubt, finding: Finding) -> Stand {
    store.resume(doubt, finding, Instant::now(), Duration::from_secs(10)).await.map_err(|(lost, _)| lost).unwrap()
}

fn settled() -> Answer {
    Answer::Settled(RailRef::parse("R-1").unwrap())
}

async fn an_attempt_is_on_record_before_it_is_sent_and_settles_once(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let go = intent(open(&store, 1, wish.valid(), RAIL).await);
    let record = home.reader().payment(&wish.id).unwrap().unwrap();
    assert_eq!((record.attempts.len(), record.attempts[0].ended), (1, None));

    let (order, doubt) = go.dispatch();
    assert_eq!(order.key(), &RailKey::of(&wish.id, 0));
    assert_eq!(order.deadline(), home.now() + Duration::from_secs(30));
    let Concluded::Final(recorded) = conclude(&store, doubt, settled()).await else { panic!("not final") };
    let Outcome::Settled(outcome) = recorded.outcome() else { panic!("not settled") };
    assert_eq!((outcome.rail.as_str(), outcome.rail_ref.as_str(), outcome.attempts), ("swift", "R-1", 1));
    let again = open(&store, 1, wish.valid(), RAIL).await.recorded();
    assert_eq!(again.outcome(), recorded.outcome());
}

async fn a_crash_after_dispatch_leaves_a_doubt_that_is_only_inquired_about(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let (_order, lost) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    drop(lost);
    store.stop().await;

    // A fleet has no way to know that the owner is gone but the end of its claim.
    home.pass(Duration::from_secs(31));
    let store = home.start(home.backend().await, "next");
    // Not even a refusal by today's rules, another route, or the operator's condemnation passes it by.
    let refused = wish.refused(vec![Reason::new(Code::AM13, "/amount/value", "too much")]);
    drop(doubt(open(&store, 1, refused, RAIL).await));
    drop(doubt(open(&store, 1, wish.valid(), Route::Book).await));
    drop(doubt(open(&store, 1, wish.valid(), Route::Rail { name: "other", leg: 1 }).await));
    let poison = DeadReason::Poison { starts: 9 };
    let refused = store.condemn(origin(1), poison, Some(wish.id.clone())).await;
    assert!(matches!(refused, Err(NotCondemned::InDoubt(_))));

    let left = doubt(open(&store, 1, wish.valid(), RAIL).await);
    assert_eq!((left.rail(), left.attempt(), left.key()), ("swift", 1, RailKey::of(&wish.id, 0)));
    let recorded = resume(&store, left, Finding::Answered(settled())).await.recorded();
    assert!(matches!(recorded.outcome(), Outcome::Settled(_)));
}

async fn what_was_proved_not_sent_goes_again_under_the_same_key(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    for attempt in 1..=3 {
        let go = intent(open(&store, 1, wish.valid(), RAIL).await);
        let (order, doubt) = go.dispatch();
        assert_eq!((order.key(), order.attempt()), (&RailKey::of(&wish.id, 0), attempt));
        assert!(matches!(conclude(&store, doubt, Answer::NotSent(NotSent::Connect)).await, Concluded::Released));
    }
    let record = home.reader().payment(&wish.id).unwrap().unwrap();
    assert_eq!((record.attempts.len(), record.payment.unwrap().attempts), (3, 0));

    // Nothing reached the rail, so the event may leave, and the id is free for a corrected one.
    let exhausted = DeadReason::Exhausted { attempts: 3 };
    let condemned = store.condemn(origin(1), exhausted, Some(wish.id.clone())).await.unwrap();
    assert_eq!(condemned.attempts(), 3);
    let corrected = Wish { from: "carol".to_owned(), ..Wish::new("PAY-1", 8) };
    let (order, doubt) = intent(open(&store, 2, corrected.valid(), RAIL).await).dispatch();
    assert_eq!((order.attempt(), order.payment().amount.minor()), (4, 8));
    let stands = home.reader().payment(&wish.id).unwrap().unwrap().payment.unwrap();
    assert_eq!((stands.amount.minor(), stands.event, stands.deliveries), (8, event(2), 1));
    assert!(matches!(conclude(&store, doubt, settled()).await, Concluded::Final(_)));
    // What the first event asked for is another payment by now.
    assert_eq!(open(&store, 3, wish.valid(), RAIL).await.condemned().code(), Code::AM05);
    let Stand::Final(again) = open(&store, 4, corrected.valid(), RAIL).await else { panic!("not final") };
    assert!(matches!(again.outcome(), Outcome::Settled(settled) if settled.amount.minor() == 8));
}

async fn a_refusal_that_allows_another_attempt_takes_the_next_key(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let (_, doubt) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    let again = Answer::Rejected { code: Code::FF10, resubmit: true };
    assert!(matches!(conclude(&store, doubt, again).await, Concluded::Released));
    let (order, doubt) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    assert_eq!((order.leg(), order.key()), (1, &RailKey::of(&wish.id, 1)));
    let never = Answer::Rejected { code: Code::AC03, resubmit: false };
    let Concluded::Final(recorded) = conclude(&store, doubt, never).await else { panic!("not final") };
    assert_eq!(leading_code(&recorded), Some("AC03"));
}

async fn an_unknown_answer_keeps_the_claim_and_two_old_not_founds_send_again_under_the_same_key(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let (_, in_hand) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    let Concluded::Doubt(mut in_hand) = conclude(&store, in_hand, Answer::Unknown).await else { panic!("known") };
    in_hand.note(Note { at: home.now(), what: "asked".to_owned(), breaker: "closed" });

    // Too young to mean anything; an inquiry that was not sent means nothing at any age.
    let in_hand = doubt(resume(&store, in_hand, Finding::NotFound).await);
    home.pass(Duration::from_secs(11));
    let in_hand = doubt(resume(&store, in_hand, Finding::Answered(Answer::NotSent(NotSent::Connect))).await);
    let in_hand = doubt(resume(&store, in_hand, Finding::NotFound).await);
    assert_eq!(in_hand.not_found(), 1);
    let in_hand = doubt(resume(&store, in_hand, Finding::CannotSay).await);
    let (order, second) = intent(resume(&store, in_hand, Finding::NotFound).await).dispatch();
    assert_eq!((order.key(), order.attempt()), (&RailKey::of(&wish.id, 0), 2));

    // The second attempt was not sent. The first is still without an answer of its own: no rejection, same key only.
    assert!(matches!(conclude(&store, second, Answer::NotSent(NotSent::Pool)).await, Concluded::Released));
    let expired = Wish { expires_at: Some(home.now()), ..wish.clone() };
    drop(doubt(open(&store, 1, expired.valid(), RAIL).await));
    let (order, third) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    assert_eq!(order.key(), &RailKey::of(&wish.id, 0));
    let never = Answer::Rejected { code: Code::AC03, resubmit: false };
    assert!(matches!(conclude(&store, third, never).await, Concluded::Final(_)));
    let record = home.reader().payment(&wish.id).unwrap().unwrap();
    assert_eq!((record.payment.unwrap().state, record.notes.len()), (State::Rejected, 1));
}

async fn a_blocked_payment_waits_for_a_person_and_can_still_end(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let (_, in_hand) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    let Concluded::Held(in_hand) = conclude(&store, in_hand, Answer::Blocked).await else { panic!("not held") };
    assert!(in_hand.is_held());
    drop(in_hand);
    home.pass(Duration::from_secs(60));
    let refused = store.condemn(origin(1), DeadReason::Poison { starts: 9 }, Some(wish.id.clone())).await;
    assert!(matches!(refused, Err(NotCondemned::InDoubt(_))));
    let in_hand = doubt(open(&store, 1, wish.valid(), RAIL).await);
    assert!(in_hand.is_held());
    assert_eq!(home.reader().unfinished_after(0, 10).unwrap().len(), 1);
    drop(resume(&store, in_hand, Finding::Answered(settled())).await.recorded());
    assert!(home.reader().unfinished_after(0, 10).unwrap().is_empty());
}

/// Found by the simulation (seeds 1204, 1423, 1975): held for ever, and handed back again and again.
async fn a_blocked_payment_that_the_rail_lets_go_gets_its_new_attempt(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let (_, in_hand) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    let Concluded::Held(in_hand) = conclude(&store, in_hand, Answer::Blocked).await else { panic!("not held") };
    let refused = Answer::Rejected { code: Code::AM14, resubmit: true };
    let next = intent(resume(&store, in_hand, Finding::Answered(refused)).await);
    let (order, in_hand) = next.dispatch();
    assert_eq!((order.leg(), order.attempt()), (1, 2));
    assert!(matches!(conclude(&store, in_hand, settled()).await, Concluded::Final(_)));
}

async fn a_live_claim_sends_others_away_and_a_stale_holder_only_tells_its_own_answer(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let (_, stale) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    let Stand::Elsewhere { until } = open(&store, 2, wish.valid(), RAIL).await else { panic!("not sent away") };
    assert_eq!(until, home.now() + Duration::from_secs(30));
    assert_eq!(open(&store, 3, Wish::new("PAY-1", 8).valid(), RAIL).await.condemned().code(), Code::AM05);

    home.pass(Duration::from_secs(31));
    let fresh = doubt(open(&store, 2, wish.valid(), RAIL).await);
    assert!(fresh.fence() > stale.fence());
    let Concluded::Elsewhere { .. } = conclude(&store, stale, Answer::Unknown).await else { panic!("stale holds") };
    let stale = doubt(open(&store, 2, wish.valid(), RAIL).await);
    drop(fresh);

    // Its own conclusive answer counts, whoever holds the payment.
    home.pass(Duration::from_secs(31));
    drop(doubt(open(&store, 1, wish.valid(), RAIL).await));
    let Concluded::Final(recorded) = conclude(&store, stale, settled()).await else { panic!("not final") };
    assert_eq!((recorded.is_duplicate(), recorded.event()), (true, &event(2)));
    assert!(!open(&store, 1, wish.valid(), RAIL).await.recorded().is_duplicate());
}

/// Two are not found, each by a holder that has lost the payment, after a third has sent it again: believed of that
/// sending, they would allow another.
async fn what_former_holders_did_not_find_sends_nothing_again(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let (_, first) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    home.pass(Duration::from_secs(31));
    let second = doubt(open(&store, 2, wish.valid(), RAIL).await);
    home.pass(Duration::from_secs(31));
    let third = doubt(open(&store, 3, wish.valid(), RAIL).await);
    let third = doubt(resume(&store, third, Finding::NotFound).await);
    let (order, third) = intent(resume(&store, third, Finding::NotFound).await).dispatch();
    assert_eq!(order.attempt(), 2);
    home.pass(Duration::from_secs(11));
    for former in [first, second] {
        let stand = resume(&store, former, Finding::NotFound).await;
        assert!(matches!(stand, Stand::Elsewhere { .. }), "a former holder is believed");
    }
    assert!(matches!(conclude(&store, third, settled()).await, Concluded::Final(_)));
}

async fn an_unsent_payment_past_its_deadline_is_refused_and_frees_its_id(home: Home) {
    let store = home.store().await;
    let wish = Wish { expires_at: Some(home.now() + Duration::from_secs(5)), ..Wish::new("PAY-1", 7) };
    let (order, doubt) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    assert_eq!(Some(order.deadline()), wish.expires_at);
    assert!(matches!(conclude(&store, doubt, Answer::NotSent(NotSent::Tls)).await, Concluded::Released));
    home.pass(Duration::from_secs(5));
    let recorded = open(&store, 1, wish.valid(), RAIL).await.recorded();
    assert_eq!(leading_code(&recorded), Some("AB11"));
    drop(intent(open(&store, 2, Wish::new("PAY-1", 8).valid(), RAIL).await));
}

async fn a_late_refusal_of_one_attempt_ends_the_payment_once_the_other_is_known_too(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let (_, mine) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    // The same event again: this delivery gives the first attempt up as not found and sends once more.
    home.pass(Duration::from_secs(60));
    let other = doubt(open(&store, 1, wish.valid(), RAIL).await);
    let other = doubt(resume(&store, other, Finding::NotFound).await);
    let (_, second) = intent(resume(&store, other, Finding::NotFound).await).dispatch();

    let never = Answer::Rejected { code: Code::AC03, resubmit: false };
    assert!(matches!(conclude(&store, mine, never).await, Concluded::Elsewhere { .. }));
    let Concluded::Final(recorded) = conclude(&store, second, Answer::NotSent(NotSent::Connect)).await else {
        panic!("sent again after a refusal")
    };
    assert_eq!(leading_code(&recorded), Some("AC03"));
}

async fn a_payment_in_doubt_is_not_condemned_by_an_event_that_nobody_has_read(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-9", 7);
    let (_order, _doubt) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    let condemned = store.condemn(origin(1), DeadReason::Poison { starts: 5 }, None).await;
    assert!(matches!(condemned, Err(NotCondemned::InDoubt(_))), "{condemned:?}");
}

async fn what_one_rail_does_not_know_is_not_sent_to_another(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let (_, first) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    home.pass(Duration::from_secs(11));
    let first = doubt(resume(&store, first, Finding::NotFound).await);
    let (_, second) = intent(resume(&store, first, Finding::NotFound).await).dispatch();
    // The attempt to send once more never left; only the first one is in doubt.
    assert!(matches!(conclude(&store, second, Answer::NotSent(NotSent::Pool)).await, Concluded::Released));
    for route in [Route::Rail { name: "other", leg: 0 }, Route::Book] {
        let left = doubt(open(&store, 1, wish.valid(), route).await);
        assert_eq!((left.rail(), left.attempt()), ("swift", 1));
        // Nor is it left in doubt for ever: not found once more, it is sent again where it was.
        let (order, again) = intent(resume(&store, left, Finding::NotFound).await).dispatch();
        assert_eq!((again.rail(), order.key()), ("swift", &RailKey::of(&wish.id, 0)));
        assert!(matches!(conclude(&store, again, Answer::NotSent(NotSent::Pool)).await, Concluded::Released));
    }
    assert_eq!(intent(open(&store, 1, wish.valid(), RAIL).await).rail(), "swift");
}

const SECOND: Route = Route::Rail { name: "other", leg: 1 };

/// One attempt over a route, ended as its rail says; gives its rail, leg and number.
async fn tried(store: &Store, wish: &Wish, route: Route, answer: Answer) -> (String, u8, u32) {
    let go = intent(open(store, 1, wish.valid(), route).await);
    let rail = go.rail().to_owned();
    let (order, doubt) = go.dispatch();
    assert_eq!(order.key(), &RailKey::of(&wish.id, order.leg()));
    let went = (rail, order.leg(), order.attempt());
    let concluded = conclude(store, doubt, answer).await;
    assert!(matches!(concluded, Concluded::Released | Concluded::Final(_)), "{concluded:?}");
    went
}

async fn what_one_rail_did_not_take_goes_to_another_and_back_under_a_key_for_each(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let (busy, again) =
        (NotSent::SaidNotProcessed { retry_after: None }, |code| Answer::Rejected { code, resubmit: true });
    for (route, answer, rail, leg) in [
        (RAIL, Answer::NotSent(NotSent::Connect), "swift", 0),
        (SECOND, Answer::NotSent(busy), "other", 1),
        (RAIL, Answer::NotSent(NotSent::Tls), "swift", 0),
        (SECOND, again(Code::FF10), "other", 1),
        (RAIL, again(Code::FF10), "swift", 2),
        (SECOND, Answer::NotSent(NotSent::Pool), "other", 3),
        (RAIL, Answer::NotSent(NotSent::Pool), "swift", 4),
        (SECOND, settled(), "other", 3),
    ]
    .into_iter()
    {
        let (went, on, number) = tried(&store, &wish, route, answer).await;
        assert_eq!((went.as_str(), on), (rail, leg), "attempt {number}");
    }
    let record = home.reader().payment(&wish.id).unwrap().unwrap();
    let payment = record.payment.unwrap();
    assert_eq!((record.attempts.len(), payment.attempts, &*payment.rail), (8, 3, "other"));
}

async fn what_may_have_reached_a_rail_goes_to_no_other(home: Home) {
    let store = home.store().await;
    let wish = |name: &str| Wish::new(name, 7);
    let first = async |wish: &Wish| intent(open(&store, 1, wish.valid(), RAIL).await).dispatch().1;
    // Under way, unknown, in progress; blocked; asked about in vain.
    for (name, answer) in [("A", None), ("B", Some(Answer::Unknown)), ("C", Some(Answer::InProgress))] {
        let in_hand = first(&wish(name)).await;
        if let Some(answer) = answer {
            assert!(matches!(conclude(&store, in_hand, answer).await, Concluded::Doubt(_)));
        }
        assert_eq!(doubt(open(&store, 1, wish(name).valid(), SECOND).await).rail(), "swift", "{name}");
    }
    let in_hand = first(&wish("D")).await;
    assert!(matches!(conclude(&store, in_hand, Answer::Blocked).await, Concluded::Held(_)));
    let held = doubt(open(&store, 1, wish("D").valid(), SECOND).await);
    assert!(held.is_held() && held.rail() == "swift");
    let in_hand = first(&wish("E")).await;
    home.pass(Duration::from_secs(11));
    let in_hand = doubt(resume(&store, in_hand, Finding::NotFound).await);
    drop(doubt(resume(&store, in_hand, Finding::CannotSay).await));
    assert_eq!(doubt(open(&store, 1, wish("E").valid(), SECOND).await).rail(), "swift");
}

/// A holder that was stopped before it wrote may still send: the rail's refusal of a later attempt under that key covers
/// the first one at this rail, and at no other.
async fn an_attempt_that_only_another_ones_answer_covers_keeps_its_payment_at_its_rail(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let (_, stopped) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    home.pass(Duration::from_secs(60));
    let other = doubt(open(&store, 1, wish.valid(), SECOND).await);
    let other = doubt(resume(&store, other, Finding::NotFound).await);
    let (_, second) = intent(resume(&store, other, Finding::NotFound).await).dispatch();
    let again = Answer::Rejected { code: Code::FF10, resubmit: true };
    assert!(matches!(conclude(&store, second, again).await, Concluded::Released));
    for _ in 0..2 {
        let not_sent = Answer::NotSent(NotSent::Connect);
        let (rail, leg, _) = tried(&store, &wish, SECOND, not_sent).await;
        assert_eq!((rail.as_str(), leg), ("swift", 1));
    }
    drop(stopped);
}

async fn what_a_rail_did_not_find_counts_by_when_it_was_asked(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let mut in_hand = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch().1;
    let not_found = async |doubt, ago| {
        let asked = Instant::now().checked_sub(Duration::from_secs(ago)).unwrap();
        let longest = Duration::from_secs(10);
        store.resume(doubt, Finding::NotFound, asked, longest).await.map_err(|(lost, _)| lost).unwrap()
    };
    let counted = || home.reader().payment(&wish.id).unwrap().unwrap().attempts[0].not_found;
    home.pass(Duration::from_secs(12));
    // The attempt was seven seconds old when the rail was asked; the finding took five to be written, twice.
    for _ in 0..2 {
        in_hand = doubt(not_found(in_hand, 5).await);
        assert_eq!(counted(), 0);
    }
    in_hand = doubt(not_found(in_hand, 1).await);
    assert_eq!(counted(), 1);
    in_hand = doubt(not_found(in_hand, 5).await);
    home.pass(Duration::from_secs(5));
    drop(intent(not_found(in_hand, 5).await));
}

both![
    what_a_rail_did_not_find_counts_by_when_it_was_asked,
    what_one_rail_did_not_take_goes_to_another_and_back_under_a_key_for_each,
    what_may_have_reached_a_rail_goes_to_no_other,
    an_attempt_that_only_another_ones_answer_covers_keeps_its_payment_at_its_rail,
    an_attempt_is_on_record_before_it_is_sent_and_settles_once,
    a_crash_after_dispatch_leaves_a_doubt_that_is_only_inquired_about,
    what_was_proved_not_sent_goes_again_under_the_same_key,
    a_refusal_that_allows_another_attempt_takes_the_next_key,
    an_unknown_answer_keeps_the_claim_and_two_old_not_founds_send_again_under_the_same_key,
    a_blocked_payment_waits_for_a_person_and_can_still_end,
    a_live_claim_sends_others_away_and_a_stale_holder_only_tells_its_own_answer,
    what_former_holders_did_not_find_sends_nothing_again,
    an_unsent_payment_past_its_deadline_is_refused_and_frees_its_id,
    a_late_refusal_of_one_attempt_ends_the_payment_once_the_other_is_known_too,
    a_payment_in_doubt_is_not_condemned_by_an_event_that_nobody_has_read,
    a_blocked_payment_that_the_rail_lets_go_gets_its_new_attempt,
    what_one_rail_does_not_know_is_not_sent_to_another,
];
