use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::civil::{Date, date};
use proptest::prelude::*;
use tokio::time::Instant;

use super::harness::{Expect, Home, RAIL, Wish, both, leading_code, open, origin};
use crate::domain::{Answer, Code, DeadReason, Finding, NotSent, RailRef};
use crate::intake::Allowance;
use crate::store::{Concluded, Doubt, Resolution, Resolved, Route, Ruling, Stand, Store};

const DAY: Date = date(2027, 1, 15);
const LIMIT: i64 = 100;

fn limited(payment: &str, minor: i64) -> Wish {
    Wish { allowance: Some(Allowance { day: DAY, most: LIMIT }), ..Wish::new(payment, minor) }
}

/// The code it was refused under, by our rules; none where it settled.
async fn posted(store: &Store, sequence: u64, wish: &Wish) -> Option<&'static str> {
    leading_code(&open(store, sequence, wish.valid(), Route::Book).await.recorded())
}

async fn claimed(store: &Store, sequence: u64, wish: &Wish) -> Doubt {
    let stand = open(store, sequence, wish.valid(), RAIL).await;
    let Stand::Go(go) = stand else { panic!("no intent: {stand:?}") };
    go.dispatch().1
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

async fn a_debtors_day_never_passes_its_limit_and_what_fits_is_taken(home: Home) {
    let store = home.store().await;
    assert_eq!(posted(&store, 1, &limited("PAY-1", 60)).await, None);
    assert_eq!(posted(&store, 2, &limited("PAY-2", 41)).await, Some("AM14"));
    assert_eq!(posted(&store, 3, &limited("PAY-3", 40)).await, None, "to the last cent");
    assert_eq!(posted(&store, 4, &limited("PAY-4", 1)).await, Some("AM14"));
    // Another debtor, another currency, another day, another limit; and what has none is not counted.
    assert_eq!(posted(&store, 5, &Wish { from: "carol".to_owned(), ..limited("PAY-5", 100) }).await, None);
    assert_eq!(posted(&store, 6, &Wish { currency: "JPY", ..limited("PAY-6", 100) }).await, None);
    let tomorrow = Allowance { day: date(2027, 1, 16), most: LIMIT };
    assert_eq!(posted(&store, 7, &Wish { allowance: Some(tomorrow), ..limited("PAY-7", 100) }).await, None);
    let raised = Allowance { day: DAY, most: 150 };
    assert_eq!(posted(&store, 8, &Wish { allowance: Some(raised), ..limited("PAY-8", 50) }).await, None);
    assert_eq!(posted(&store, 9, &Wish::new("PAY-9", i64::MAX / 4)).await, None);

    // By our rules: it leaves no payment behind, and the same payment may be asked for another day.
    assert!(home.reader().payment(&limited("PAY-4", 1).id).unwrap().unwrap().payment.is_none());
    assert_eq!(posted(&store, 4, &limited("PAY-4", 1)).await, Some("AM14"), "that event has its end");
    let corrected = Allowance { day: date(2027, 1, 17), most: LIMIT };
    assert_eq!(posted(&store, 10, &Wish { allowance: Some(corrected), ..limited("PAY-4", 1) }).await, None);
    home.assert_balanced();
}

async fn what_ends_without_money_moved_is_given_back_and_nothing_else_is(mut home: Home) {
    home.policy.declared.insert("other::poor".to_owned(), false);
    let store = home.store().await;
    // Refused by the book.
    let poor = |payment: &str| Wish { from: "poor".to_owned(), ..limited(payment, 100) };
    assert_eq!(posted(&store, 1, &poor("POOR-1")).await, Some("AM04"));
    assert_eq!(posted(&store, 2, &poor("POOR-2")).await, Some("AM04"), "the first one gave its room back");

    // Refused by the rail.
    let first = claimed(&store, 3, &limited("PAY-1", 100)).await;
    assert_eq!(posted(&store, 4, &limited("PAY-2", 1)).await, Some("AM14"), "what is claimed is reserved");
    let refused = Answer::Rejected { code: Code::AC03, resubmit: false };
    assert!(matches!(conclude(&store, first, refused).await, Concluded::Final(_)));
    // Proved not sent keeps its room, until its event leaves.
    let second = claimed(&store, 5, &limited("PAY-3", 100)).await;
    assert!(matches!(conclude(&store, second, Answer::NotSent(NotSent::Connect)).await, Concluded::Released));
    assert_eq!(posted(&store, 6, &limited("PAY-4", 1)).await, Some("AM14"));
    let wish = limited("PAY-3", 100);
    drop(store.condemn(origin(5), DeadReason::Exhausted { attempts: 3 }, Some(wish.id)).await.unwrap());
    // Past its deadline before it was sent.
    let expiring = Wish { expires_at: Some(home.now() + Duration::from_secs(5)), ..limited("PAY-5", 100) };
    let third = claimed(&store, 7, &expiring).await;
    assert!(matches!(conclude(&store, third, Answer::NotSent(NotSent::Tls)).await, Concluded::Released));
    home.pass(Duration::from_secs(5));
    assert_eq!(leading_code(&open(&store, 7, expiring.valid(), RAIL).await.recorded()), Some("AB11"));
    // What waits for a person, or is in doubt, keeps it; settled, it stays spent.
    let fourth = claimed(&store, 8, &limited("PAY-6", 100)).await;
    let Concluded::Held(fourth) = conclude(&store, fourth, Answer::Blocked).await else { panic!("not held") };
    assert_eq!(posted(&store, 9, &limited("PAY-7", 1)).await, Some("AM14"));
    drop(resume(&store, fourth, Finding::Answered(settled())).await.recorded());
    assert_eq!(posted(&store, 10, &limited("PAY-8", 1)).await, Some("AM14"));
}

async fn a_persons_word_spends_gives_back_or_keeps_what_a_payment_in_doubt_reserved(home: Home) {
    let store = home.store().await;
    let say = async |payment: &str, ruling: Ruling| {
        let longest = Duration::from_secs(10);
        let payment_id = limited(payment, 1).id;
        let resolution = Resolution { payment_id, ruling, last_attempt: 1, longest, record: 17 };
        assert!(matches!(store.resolve(resolution).await, Ok(Resolved::Recorded)), "{payment}");
    };
    drop(claimed(&store, 1, &limited("PAY-1", 100)).await);
    home.pass(Duration::from_secs(11));
    say("PAY-1", Ruling::Rejected(Code::AC04)).await;
    // Given back once, and not again as its event finds its end.
    assert_eq!(leading_code(&open(&store, 1, limited("PAY-1", 100).valid(), RAIL).await.recorded()), Some("AC04"));
    drop(claimed(&store, 2, &limited("PAY-2", 60)).await);
    home.pass(Duration::from_secs(11));
    // Open for another attempt.
    say("PAY-2", Ruling::NotProcessed).await;
    assert_eq!(posted(&store, 3, &limited("PAY-3", 41)).await, Some("AM14"));
    drop(claimed(&store, 4, &limited("PAY-4", 40)).await);
    say("PAY-4", Ruling::Settled(RailRef::parse("R-9").unwrap())).await;
    assert_eq!(posted(&store, 5, &limited("PAY-5", 1)).await, Some("AM14"));
    // The next attempt is made within what is reserved, and gives it back.
    let again = claimed(&store, 2, &limited("PAY-2", 60)).await;
    let refused = Answer::Rejected { code: Code::AC03, resubmit: false };
    assert!(matches!(conclude(&store, again, refused).await, Concluded::Final(_)));
    assert_eq!(posted(&store, 6, &limited("PAY-6", 61)).await, Some("AM14"));
    assert_eq!(posted(&store, 7, &limited("PAY-7", 60)).await, None);
}

async fn one_payment_counts_once_however_often_it_comes_or_is_sent(home: Home) {
    let store = home.store().await;
    // Twice in one group, again after its end, and for another event.
    let wish = limited("PAY-1", 40);
    let asks = [(1, &wish), (1, &wish), (2, &wish)];
    for stand in join_all(asks.map(|(sequence, wish)| open(&store, sequence, wish.valid(), Route::Book))).await {
        assert_eq!(leading_code(&stand.recorded()), None);
    }
    // Two in one group of which one fits.
    let asks = ["PAY-2", "PAY-3"].map(|id| limited(id, 20));
    let both = join_all(asks.iter().zip(3..).map(|(wish, n)| open(&store, n, wish.valid(), Route::Book))).await;
    assert!(both.into_iter().all(|stand| leading_code(&stand.recorded()).is_none()));
    // A restart between claim and answer, a re-send under the same key, a new key after a refusal that allows one.
    drop(claimed(&store, 5, &limited("PAY-4", 20)).await);
    store.stop().await;
    home.pass(Duration::from_secs(31));
    let store = home.start(home.backend().await, "next");
    let stand = open(&store, 5, limited("PAY-4", 20).valid(), RAIL).await;
    let Stand::Doubt(doubt) = stand else { panic!("no doubt: {stand:?}") };
    let Stand::Doubt(doubt) = resume(&store, doubt, Finding::NotFound).await else { panic!("no doubt") };
    let Stand::Go(again) = resume(&store, doubt, Finding::NotFound).await else { panic!("not sent again") };
    let resubmit = Answer::Rejected { code: Code::FF10, resubmit: true };
    assert!(matches!(conclude(&store, again.dispatch().1, resubmit).await, Concluded::Released));
    let last = claimed(&store, 5, &limited("PAY-4", 20)).await;
    assert!(matches!(conclude(&store, last, settled()).await, Concluded::Final(_)));
    assert_eq!(posted(&store, 6, &limited("PAY-5", 1)).await, Some("AM14"), "100 are spent");
    let record = home.reader().payment(&limited("PAY-4", 20).id).unwrap().unwrap();
    assert_eq!(record.attempts.len(), 3);
}

async fn days_long_past_are_forgotten_as_new_ones_come(home: Home) {
    let store = home.store().await;
    let on = |id: &str, day: Date| Wish { allowance: Some(Allowance { day, most: LIMIT }), ..Wish::new(id, 100) };
    for n in 0..10_u64 {
        let day = DAY.checked_add(jiff::Span::new().days(i64::try_from(n).unwrap())).unwrap();
        assert_eq!(posted(&store, n + 1, &on(&format!("OLD-{n}"), day)).await, None);
    }
    home.pass(Duration::from_secs(60 * 24 * 3600));
    let later = date(2027, 3, 16);
    assert_eq!(posted(&store, 20, &on("NEW-1", later)).await, None);
    assert_eq!(posted(&store, 21, &on("OLD-AGAIN", DAY)).await, Some("AM14"), "two months are kept");
    home.pass(Duration::from_secs(30 * 24 * 3600));
    assert_eq!(posted(&store, 22, &on("NEW-2", date(2027, 4, 15))).await, None);
    assert_eq!(posted(&store, 23, &on("ANEW", DAY)).await, None, "no longer");
}

both![
    a_debtors_day_never_passes_its_limit_and_what_fits_is_taken,
    what_ends_without_money_moved_is_given_back_and_nothing_else_is,
    a_persons_word_spends_gives_back_or_keeps_what_a_payment_in_doubt_reserved,
    one_payment_counts_once_however_often_it_comes_or_is_sent,
    days_long_past_are_forgotten_as_new_ones_come,
];

/// Two processes on one database spend one debtor's day between them, to the last cent and no further. Over a rail, where
/// no account of the book has the one wait for the other.
#[tokio::test]
async fn two_processes_share_one_limit() {
    let home = Home::postgres().await;
    let (one, two) = (home.start(home.backend().await, "one"), home.start(home.backend().await, "two"));
    let most = Allowance { day: DAY, most: 200 };
    let claims = async |store: &Store, n: u64| {
        let wish = Wish { allowance: Some(most), ..Wish::new(&format!("PAY-{n}"), 10) };
        let stand = open(store, n, wish.valid(), RAIL).await;
        if matches!(stand, Stand::Go(_)) {
            return true;
        }
        assert_eq!(leading_code(&stand.recorded()), Some("AM14"));
        false
    };
    let mut claimed = 0;
    for n in (1..=60).step_by(2) {
        let (mine, yours) = tokio::join!(claims(&one, n), claims(&two, n + 1));
        claimed += u32::from(mine) + u32::from(yours);
    }
    assert_eq!(claimed, 20);
}

/// One event of a random history: which payment, over what, and what becomes of an attempt of it.
#[derive(Debug, Clone)]
struct Step {
    payment: u8,
    book: bool,
    end: End,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Settled,
    Rejected,
    Resubmit,
    NotSent,
    Left,
    Unknown,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ends = vec![End::Settled, End::Rejected, End::Resubmit, End::NotSent, End::Left, End::Unknown];
    let step = (0..20_u8, prop::bool::weighted(0.4), prop::sample::select(ends));
    prop::collection::vec(step.prop_map(|(payment, book, end)| Step { payment, book, end }), 1..60)
}

/// What a payment asks for is its number's, so that one number never asks for two things.
fn asked(payment: u8) -> (Wish, (String, Date)) {
    let day = DAY.checked_add(jiff::Span::new().days(i64::from(payment / 2 % 2))).unwrap();
    let from = format!("debtor{}", payment % 2);
    let minor = i64::from(payment % 5 + 1) * 10;
    let allowance = Some(Allowance { day, most: LIMIT });
    let wish = Wish { from: from.clone(), allowance, ..Wish::new(&format!("PAY-{payment}"), minor) };
    (wish, (from, day))
}

/// What is known of a payment that has taken room.
enum Room {
    Taken {
        event: u64,
    },
    Spent,
    /// Refused for good, by its rail.
    GivenBack,
}

async fn history(home: &Home, steps: &[Step]) {
    let store = home.store().await;
    let mut rooms: HashMap<u8, Room> = HashMap::new();
    let taken = |rooms: &HashMap<u8, Room>, of: &(String, Date)| -> i64 {
        let counts = rooms.iter().filter(|(_, room)| !matches!(room, Room::GivenBack)).map(|(n, _)| asked(*n));
        counts.filter(|(_, whose)| whose == of).map(|(wish, _)| wish.minor).sum()
    };
    for (sequence, step) in (1..).zip(steps) {
        // Every claim before has run out.
        home.pass(Duration::from_secs(31));
        let (wish, whose) = asked(step.payment);
        let fits = taken(&rooms, &whose) + wish.minor <= LIMIT;
        let route = if step.book { Route::Book } else { RAIL };
        let stand = open(&store, sequence, wish.valid(), route).await;
        let event = match rooms.get(&step.payment) {
            None if !fits => {
                assert_eq!(leading_code(&stand.recorded()), Some("AM14"), "step {sequence} passes the limit");
                continue;
            }
            None => sequence,
            Some(Room::Taken { event }) => *event,
            Some(Room::Spent | Room::GivenBack) => {
                assert!(matches!(stand, Stand::Final(_)), "step {sequence}: {stand:?}");
                continue;
            }
        };
        let room = match stand {
            Stand::Final(recorded) => {
                assert_eq!(leading_code(&recorded), None, "step {sequence} fits");
                Some(Room::Spent)
            }
            Stand::Go(go) => attempted(&store, go.dispatch().1, step.end, event).await,
            Stand::Doubt(doubt) => attempted(&store, doubt, step.end, event).await,
            Stand::Condemned(_) | Stand::Tracked(_) | Stand::Elsewhere { .. } => panic!("step {sequence}: {stand:?}"),
        };
        match room {
            Some(room) => drop(rooms.insert(step.payment, room)),
            None => drop(rooms.remove(&step.payment)),
        }
        assert!(taken(&rooms, &whose) <= LIMIT, "step {sequence}");
    }
}

/// Ends an attempt; the room of its payment after that, none where it is free again.
async fn attempted(store: &Store, doubt: Doubt, end: End, event: u64) -> Option<Room> {
    let id = doubt.payment_id().clone();
    let answer = match end {
        End::Settled => settled(),
        End::Rejected => Answer::Rejected { code: Code::AC03, resubmit: false },
        End::Resubmit => Answer::Rejected { code: Code::FF10, resubmit: true },
        End::NotSent | End::Left => Answer::NotSent(NotSent::Connect),
        End::Unknown => return Some(Room::Taken { event }),
    };
    let concluded = conclude(store, doubt, answer).await;
    match end {
        End::Settled | End::Rejected => assert!(matches!(concluded, Concluded::Final(_)), "{concluded:?}"),
        End::Resubmit | End::NotSent | End::Left => assert!(matches!(concluded, Concluded::Released), "{concluded:?}"),
        End::Unknown => {}
    }
    match end {
        End::Settled => Some(Room::Spent),
        End::Rejected => Some(Room::GivenBack),
        End::Resubmit | End::NotSent | End::Unknown => Some(Room::Taken { event }),
        End::Left => {
            let exhausted = DeadReason::Exhausted { attempts: 1 };
            drop(store.condemn(origin(event), exhausted, Some(id)).await.unwrap());
            None
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_history_passes_a_limit_and_nothing_that_fits_is_refused(steps in steps()) {
        runtime().block_on(history(&Home::sqlite(), &steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn no_history_passes_a_limit_in_postgresql(steps in steps()) {
        runtime().block_on(async { history(&Home::postgres().await, &steps).await });
    }
}
