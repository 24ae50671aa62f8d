use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::harness::{Expect, Home, RAIL, Wish, both, event, id, leading_code, open};
use crate::domain::{Answer, Code, Finding, LaneName, NotSent, Outcome, RailKey, RailRef};
use crate::store::{
    Concluded, Doubt, Ended, Intent, Refusal, Resolution, Resolved, Route, Ruling, Stand, State, Store, UnknownFilter,
    UnknownKey, Unresolved,
};

const LONGEST: Duration = Duration::from_secs(10);

fn intent(stand: Stand) -> Intent {
    let Stand::Go(intent) = stand else { panic!("no intent: {stand:?}") };
    intent
}

fn doubt(stand: Stand) -> Doubt {
    let Stand::Doubt(doubt) = stand else { panic!("no doubt: {stand:?}") };
    doubt
}

/// The payment in doubt, held by the store's owner.
async fn in_doubt(store: &Store, wish: &Wish) -> Doubt {
    intent(open(store, 1, wish.valid(), RAIL).await).dispatch().1
}

async fn conclude(store: &Store, doubt: Doubt, answer: Answer) -> Concluded {
    store.conclude(doubt, answer).await.map_err(|(lost, _)| lost).unwrap()
}

async fn resume(store: &Store, doubt: Doubt, finding: Finding) -> Stand {
    store.resume(doubt, finding, Instant::now(), LONGEST).await.map_err(|(lost, _)| lost).unwrap()
}

async fn resolve(store: &Store, payment: &str, ruling: Ruling, last_attempt: u32) -> Result<Resolved, Refusal> {
    let resolution = Resolution { payment_id: id(payment), ruling, last_attempt, longest: LONGEST, record: 17 };
    store.resolve(resolution).await.map_err(|error| match error {
        Unresolved::Refused(refusal) => refusal,
        Unresolved::Lost(lost) => panic!("{lost}"),
    })
}

fn reference(text: &str) -> RailRef {
    RailRef::parse(text).unwrap()
}

fn settled(text: &str) -> Ruling {
    Ruling::Settled(reference(text))
}

async fn a_person_settles_a_payment_in_doubt_once_and_its_event_announces_that(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    drop(in_doubt(&store, &wish).await);
    // Young as it is: money that has moved needs no waiting.
    assert_eq!(resolve(&store, "PAY-1", settled("R-9"), 1).await, Ok(Resolved::Recorded));
    assert_eq!(resolve(&store, "PAY-1", settled("R-9"), 1).await, Ok(Resolved::Stood));
    for other in [settled("R-8"), Ruling::Rejected(Code::AC04), Ruling::NotProcessed] {
        assert_eq!(resolve(&store, "PAY-1", other, 1).await, Err(Refusal::Final(State::Settled)));
    }
    let recorded = open(&store, 1, wish.valid(), RAIL).await.recorded();
    let Outcome::Settled(outcome) = recorded.outcome() else { panic!("not settled") };
    assert_eq!((outcome.rail.as_str(), outcome.rail_ref.as_str(), outcome.attempts), ("swift", "R-9", 1));
    assert!(!recorded.is_duplicate());
    let record = home.reader().payment(&wish.id).unwrap().unwrap();
    assert_eq!(record.attempts[0].ended, Some(Ended::Settled));
    assert_eq!(record.notes[0].what, "resolved by hand as settled: audit record 17");
    assert_eq!(home.reader().facts().unwrap().high_water[0].sequence, event(1).sequence);
}

async fn the_worker_that_holds_it_finds_a_persons_word_at_its_next_step(home: Home) {
    let store = home.store().await;
    for finding in [Finding::CannotSay, Finding::NotFound, Finding::Answered(Answer::Blocked)] {
        let wish = Wish::new(&format!("PAY-{finding:?}").replace(['(', ')'], ""), 7);
        let live = in_doubt(&store, &wish).await;
        assert_eq!(resolve(&store, wish.id.as_str(), settled("R-9"), 1).await, Ok(Resolved::Recorded));
        let end = resume(&store, live, finding).await.recorded();
        assert!(matches!(end.outcome(), Outcome::Settled(_)) && *end.event() == event(1));
    }
    // One whose claim ran out, and the other that took the payment over: both find what stands.
    let wish = Wish::new("PAY-2", 7);
    let stale = in_doubt(&store, &wish).await;
    home.pass(Duration::from_secs(31));
    let fresh = doubt(open(&store, 2, wish.valid(), RAIL).await);
    assert_eq!(resolve(&store, "PAY-2", settled("R-9"), 1).await, Ok(Resolved::Recorded));
    let Concluded::Final(end) = conclude(&store, stale, Answer::Unknown).await else { panic!("not final") };
    assert!(*end.event() == event(1) && !end.is_duplicate());
    let end = resume(&store, fresh, Finding::CannotSay).await.recorded();
    assert!(*end.event() == event(2) && end.is_duplicate());
}

async fn what_a_person_says_was_not_processed_goes_again_under_the_same_key(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let held = in_doubt(&store, &wish).await;
    home.pass(Duration::from_secs(4));
    for early in [Ruling::NotProcessed, Ruling::Rejected(Code::AC04)] {
        let left = Duration::from_secs(6);
        assert_eq!(resolve(&store, "PAY-1", early, 1).await, Err(Refusal::TooEarly { left }));
    }
    home.pass(Duration::from_secs(7));
    assert_eq!(resolve(&store, "PAY-1", Ruling::NotProcessed, 1).await, Ok(Resolved::Recorded));
    assert_eq!(resolve(&store, "PAY-1", Ruling::NotProcessed, 1).await, Ok(Resolved::Stood));
    // The holder sends it again, whatever its inquiry says.
    let (order, again) = intent(resume(&store, held, Finding::CannotSay).await).dispatch();
    assert_eq!((order.key(), order.attempt()), (&RailKey::of(&wish.id, 0), 2));
    home.pass(Duration::from_secs(11));
    assert_eq!(resolve(&store, "PAY-1", Ruling::NotProcessed, 1).await, Err(Refusal::Moved), "another attempt is out");
    let Concluded::Final(end) = conclude(&store, again, Answer::Settled(reference("R-1"))).await else {
        panic!("not final")
    };
    let Outcome::Settled(outcome) = end.outcome() else { panic!("not settled") };
    assert_eq!(outcome.attempts, 1, "what was not processed does not count");
}

async fn a_persons_word_sends_a_payment_to_no_other_rail_and_under_no_other_key(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    drop(in_doubt(&store, &wish).await);
    home.pass(Duration::from_secs(60));
    assert_eq!(resolve(&store, "PAY-1", Ruling::NotProcessed, 1).await, Ok(Resolved::Recorded));
    for route in [Route::Rail { name: "other", leg: 1 }, Route::Book, RAIL, Route::Rail { name: "swift", leg: 1 }] {
        let go = intent(open(&store, 1, wish.valid(), route).await);
        assert_eq!(go.rail(), "swift");
        let (order, again) = go.dispatch();
        assert_eq!(order.key(), &RailKey::of(&wish.id, 0));
        assert!(matches!(conclude(&store, again, Answer::NotSent(NotSent::Connect)).await, Concluded::Released));
    }
}

async fn a_rail_that_settled_after_all_is_believed_against_a_person(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let late = in_doubt(&store, &wish).await;
    home.pass(Duration::from_secs(60));
    assert_eq!(resolve(&store, "PAY-1", Ruling::NotProcessed, 1).await, Ok(Resolved::Recorded));
    let (_, again) = intent(open(&store, 1, wish.valid(), RAIL).await).dispatch();
    let Concluded::Final(end) = conclude(&store, late, Answer::Settled(reference("R-1"))).await else {
        panic!("money that moved is forgotten")
    };
    assert!(matches!(end.outcome(), Outcome::Settled(_)));
    assert!(matches!(conclude(&store, again, Answer::Unknown).await, Concluded::Final(_)));
}

async fn a_rail_that_settled_what_a_person_rejected_is_kept_in_the_payments_life(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let late = in_doubt(&store, &wish).await;
    home.pass(Duration::from_secs(11));
    assert_eq!(resolve(&store, "PAY-1", Ruling::Rejected(Code::AC04), 1).await, Ok(Resolved::Recorded));
    home.pass(Duration::from_secs(1));
    let Concluded::Final(end) = conclude(&store, late, Answer::Settled(reference("R-1"))).await else {
        panic!("not final")
    };
    assert_eq!(leading_code(&end), Some("AC04"), "what was announced is not taken back");
    let notes = home.reader().payment(&wish.id).unwrap().unwrap().notes;
    assert!(notes.last().unwrap().what.starts_with("THE RAIL SAYS SETTLED"), "{notes:?}");
}

async fn a_blocked_payment_is_ended_by_a_person(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let held = in_doubt(&store, &wish).await;
    let Concluded::Held(held) = conclude(&store, held, Answer::Blocked).await else { panic!("not held") };
    home.pass(Duration::from_secs(11));
    assert_eq!(resolve(&store, "PAY-1", Ruling::Rejected(Code::RR04), 1).await, Ok(Resolved::Recorded));
    assert_eq!(resolve(&store, "PAY-1", Ruling::Rejected(Code::RR04), 1).await, Ok(Resolved::Stood));
    let end = resume(&store, held, Finding::Answered(Answer::Blocked)).await.recorded();
    assert_eq!(leading_code(&end), Some("RR04"));
    assert_eq!(leading_code(&open(&store, 1, wish.valid(), RAIL).await.recorded()), Some("RR04"));
}

async fn a_held_payment_that_was_not_processed_gets_its_new_attempt(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let held = in_doubt(&store, &wish).await;
    drop(conclude(&store, held, Answer::Blocked).await);
    home.pass(Duration::from_secs(11));
    assert_eq!(resolve(&store, "PAY-1", Ruling::NotProcessed, 1).await, Ok(Resolved::Recorded));
    assert_eq!(intent(open(&store, 1, wish.valid(), RAIL).await).dispatch().0.attempt(), 2);
}

async fn an_expired_payment_in_doubt_ends_once_a_person_knows_that_it_was_not_processed(home: Home) {
    let store = home.store().await;
    let wish = Wish { expires_at: Some(home.now() + Duration::from_secs(5)), ..Wish::new("PAY-1", 7) };
    drop(in_doubt(&store, &wish).await);
    home.pass(Duration::from_secs(60));
    let held = doubt(open(&store, 1, wish.valid(), RAIL).await);
    assert_eq!(resolve(&store, "PAY-1", Ruling::NotProcessed, 1).await, Ok(Resolved::Recorded));
    assert_eq!(leading_code(&resume(&store, held, Finding::NotFound).await.recorded()), Some("AB11"));
}

async fn a_person_never_contradicts_what_the_rail_itself_said(home: Home) {
    let store = home.store().await;
    assert_eq!(resolve(&store, "PAY-9", Ruling::NotProcessed, 1).await, Err(Refusal::Unseen));
    let wish = Wish::new("PAY-1", 7);
    let mine = in_doubt(&store, &wish).await;
    assert!(matches!(conclude(&store, mine, Answer::NotSent(NotSent::Tls)).await, Concluded::Released));
    assert_eq!(resolve(&store, "PAY-1", settled("R-9"), 1).await, Err(Refusal::NotInDoubt));
    // One attempt is refused for good while another, under the same key, has no answer.
    let wish = Wish::new("PAY-2", 7);
    let mine = in_doubt(&store, &wish).await;
    home.pass(Duration::from_secs(60));
    let other = doubt(open(&store, 1, wish.valid(), RAIL).await);
    let other = doubt(resume(&store, other, Finding::NotFound).await);
    drop(intent(resume(&store, other, Finding::NotFound).await).dispatch());
    let never = Answer::Rejected { code: Code::AC03, resubmit: false };
    assert!(matches!(conclude(&store, mine, never).await, Concluded::Elsewhere { .. }));
    for ruling in [settled("R-9"), Ruling::Rejected(Code::AC04)] {
        assert_eq!(resolve(&store, "PAY-2", ruling, 2).await, Err(Refusal::RailSaid));
    }
    home.pass(Duration::from_secs(60));
    assert_eq!(resolve(&store, "PAY-2", Ruling::NotProcessed, 2).await, Ok(Resolved::Recorded));
    let end = open(&store, 1, wish.valid(), RAIL).await.recorded();
    assert_eq!(leading_code(&end), Some("AC03"), "the rail's own word");
}

async fn payments_in_doubt_are_listed_the_oldest_first_and_summed(home: Home) {
    let store = home.store().await;
    let began = home.now();
    for (sequence, payment, currency) in [(1, "PAY-1", "EUR"), (2, "PAY-2", "JPY"), (3, "PAY-3", "EUR")] {
        let wish = Wish { currency, ..Wish::new(payment, 250) };
        let (_, held) = intent(open(&store, sequence, wish.valid(), RAIL).await).dispatch();
        if payment == "PAY-2" {
            drop(conclude(&store, held, Answer::Blocked).await);
        }
        home.pass(Duration::from_secs(1));
    }
    // Neither a payment of the book nor one with an answer is in doubt.
    let answered = intent(open(&store, 4, Wish::new("PAY-4", 7).valid(), RAIL).await).dispatch().1;
    drop(conclude(&store, answered, Answer::NotSent(NotSent::Connect)).await);
    let reader = home.reader();
    let all = UnknownFilter { lane: None, before: Timestamp::MAX };
    let first = reader.unknown_after(&all, UnknownKey::default(), 2).unwrap();
    let rest = reader.unknown_after(&all, first.last().unwrap().key(), 2).unwrap();
    let names: Vec<_> = first.iter().chain(&rest).map(|line| line.payment_id.to_string()).collect();
    assert_eq!(names, ["PAY-1", "PAY-2", "PAY-3"]);
    let line = &first[1];
    assert_eq!((line.state, line.rail.as_str(), line.leg, line.attempts), (State::Held, "swift", 0, 1));
    assert_eq!((line.since, line.amount.minor()), (began + Duration::from_secs(1), 250));
    let old = UnknownFilter { before: began, ..all.clone() };
    assert_eq!(reader.unknown_after(&old, UnknownKey::default(), 9).unwrap().len(), 1);
    let elsewhere = UnknownFilter { lane: Some(LaneName::parse("other").unwrap()), ..all };
    assert!(reader.unknown_after(&elsewhere, UnknownKey::default(), 9).unwrap().is_empty());

    let sums = reader.unknown_sums(home.now(), began).unwrap().unknown;
    let money: Vec<_> = sums.money.iter().map(|(code, (_, minor))| (*code, *minor)).collect();
    assert_eq!((sums.count, sums.oldest, money), (3, Some(began), vec![("EUR", 500), ("JPY", 250)]));
    // What a call may be under way for is no doubt yet; what is held for a person is one from the start.
    let sums = reader.unknown_sums(began - Duration::from_secs(1), began).unwrap().unknown;
    assert_eq!((sums.count, sums.oldest), (1, Some(began + Duration::from_secs(1))));
}

async fn what_its_rail_says_to_work_on_is_told_apart_from_what_nobody_knows(home: Home) {
    let store = home.store().await;
    let (began, mut held) = (home.now(), Vec::new());
    for (sequence, payment) in [(1, "WORKS"), (2, "SILENT"), (3, "PERSON"), (4, "LOST")] {
        let wish = Wish::new(payment, 250);
        let (_, doubt) = intent(open(&store, sequence, wish.valid(), RAIL).await).dispatch();
        // The first sending already says so, or the first inquiry.
        let Concluded::Doubt(doubt) = conclude(&store, doubt, Answer::InProgress).await else { panic!("no doubt") };
        held.push(doubt);
    }
    let counted = |heard: Timestamp| {
        let sums = home.reader().unknown_sums(Timestamp::MAX, heard).unwrap();
        (sums.unknown.count, sums.unknown.oldest, sums.in_progress.count, sums.in_progress.oldest)
    };
    assert_eq!(counted(began), (0, None, 4, Some(began)));
    assert_eq!(counted(began + Duration::from_secs(1)), (4, Some(began), 0, None), "its word is too old");

    home.pass(Duration::from_secs(20));
    let later = home.now();
    let lost = doubt(resume(&store, held.pop().unwrap(), Finding::NotFound).await);
    let person = resume(&store, held.pop().unwrap(), Finding::Answered(Answer::Blocked)).await;
    let silent = doubt(resume(&store, held.pop().unwrap(), Finding::CannotSay).await);
    let works = doubt(resume(&store, held.pop().unwrap(), Finding::Answered(Answer::InProgress)).await);
    // Silence takes no word back, any other word does.
    let said = |payment: &str| {
        let record = home.reader().payment(&id(payment)).unwrap().unwrap();
        record.attempts.iter().map(|attempt| attempt.in_progress_at).collect::<Vec<_>>()
    };
    let each = ["WORKS", "SILENT", "PERSON", "LOST"].map(&said);
    assert_eq!(each, [vec![Some(later)], vec![Some(began)], vec![None], vec![None]]);
    let all = UnknownFilter { lane: None, before: Timestamp::MAX };
    let lines = home.reader().unknown_after(&all, UnknownKey::default(), 9).unwrap();
    let mut listed: Vec<_> = lines.iter().map(|line| (line.payment_id.as_str(), line.in_progress_at)).collect();
    listed.sort_unstable();
    assert_eq!(listed, [("LOST", None), ("PERSON", None), ("SILENT", Some(began)), ("WORKS", Some(later))]);
    assert_eq!(counted(began + Duration::from_secs(1)), (3, Some(began), 1, Some(began)));
    // What was heard of late is no older than that word.
    home.pass(Duration::from_secs(1));
    for (doubt, rail) in [(lost, Answer::NotSent(NotSent::Connect)), (silent, Answer::InProgress)] {
        drop(resume(&store, doubt, Finding::Answered(rail)).await);
    }
    assert_eq!(counted(home.now()), (3, Some(began), 1, Some(began)));
    drop((works, person));
    assert_eq!(said("SILENT"), [Some(home.now())]);
    assert_eq!(said("LOST"), [None], "an inquiry that was not sent says nothing");
}

async fn who_has_lost_a_payment_says_nothing_about_its_progress(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let stale = in_doubt(&store, &wish).await;
    home.pass(Duration::from_secs(60));
    drop(doubt(open(&store, 1, wish.valid(), RAIL).await));
    drop(conclude(&store, stale, Answer::InProgress).await);
    assert_eq!(home.reader().payment(&wish.id).unwrap().unwrap().attempts[0].in_progress_at, None);
}

both![
    what_its_rail_says_to_work_on_is_told_apart_from_what_nobody_knows,
    who_has_lost_a_payment_says_nothing_about_its_progress,
    a_persons_word_sends_a_payment_to_no_other_rail_and_under_no_other_key,
    a_person_settles_a_payment_in_doubt_once_and_its_event_announces_that,
    what_a_person_says_was_not_processed_goes_again_under_the_same_key,
    a_rail_that_settled_after_all_is_believed_against_a_person,
    a_rail_that_settled_what_a_person_rejected_is_kept_in_the_payments_life,
    a_blocked_payment_is_ended_by_a_person,
    a_held_payment_that_was_not_processed_gets_its_new_attempt,
    an_expired_payment_in_doubt_ends_once_a_person_knows_that_it_was_not_processed,
    a_person_never_contradicts_what_the_rail_itself_said,
    payments_in_doubt_are_listed_the_oldest_first_and_summed,
    the_worker_that_holds_it_finds_a_persons_word_at_its_next_step,
];
