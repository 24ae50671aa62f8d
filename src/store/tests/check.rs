use std::time::Duration;

use tokio::time::Instant;

use super::harness::{Expect, Home, RAIL, Wish, both, id, leading_code, open, origin};
use crate::domain::{Answer, Code, DeadReason, NotSent, Reason};
use crate::intake::Judged;
use crate::store::{Concluded, Peek, Route, Stand, Store};

async fn peek(store: &Store, sequence: u64, judged: Judged, route: Route) -> Peek {
    store.peek(origin(sequence), judged, route).await.map_err(|(lost, _, _)| lost).unwrap()
}

async fn stands(store: &Store, sequence: u64, judged: Judged, route: Route) -> Stand {
    let peeked = peek(store, sequence, judged, route).await;
    let Peek::Stands(stand) = peeked else { panic!("nothing stands: {peeked:?}") };
    *stand
}

fn refused_by_a_check(wish: &Wish) -> Judged {
    wish.valid().refuse(Reason::new(Code::RR04, "", Code::RR04.meaning()))
}

async fn a_look_begins_nothing_and_what_stands_answers_it(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    for route in [Route::Book, RAIL] {
        let Peek::Nothing(back) = peek(&store, 1, wish.valid(), route).await else { panic!("something stands") };
        assert_eq!(back.payment_id(), &id("PAY-1"));
    }
    assert!(home.reader().payment(&wish.id).unwrap().is_none());

    drop(open(&store, 1, wish.valid(), Route::Book).await.recorded());
    assert!(!stands(&store, 1, wish.valid(), Route::Book).await.recorded().is_duplicate());
    assert!(stands(&store, 2, wish.valid(), Route::Book).await.recorded().is_duplicate());
    assert_eq!(stands(&store, 3, Wish::new("PAY-1", 8).valid(), Route::Book).await.condemned().code(), Code::AM05);
    // A payment that waits for its check still ends by its own clock.
    let expired = Wish { expires_at: Some(home.now()), ..Wish::new("PAY-2", 7) };
    let ended = stands(&store, 4, expired.valid(), Route::Book).await.recorded();
    assert_eq!(leading_code(&ended), Some("AB11"));
    home.assert_balanced();
}

async fn a_check_refuses_what_nobody_has_and_nothing_else(home: Home) {
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let refused = open(&store, 1, refused_by_a_check(&wish), RAIL).await.recorded();
    assert_eq!(leading_code(&refused), Some("RR04"));
    assert!(home.reader().payment(&wish.id).unwrap().unwrap().payment.is_none(), "it leaves no payment behind");

    // In doubt: neither the look nor the refusal passes it by.
    let Stand::Go(go) = open(&store, 2, wish.valid(), RAIL).await else { panic!("no intent") };
    let (_order, doubt) = go.dispatch();
    let Stand::Doubt(_) = stands(&store, 2, wish.valid(), RAIL).await else { panic!("no doubt") };
    let Stand::Doubt(_) = open(&store, 2, refused_by_a_check(&wish), RAIL).await else { panic!("refused in doubt") };
    drop(doubt);

    // Proved not sent: nothing may move money any more, and the check is asked again before it may.
    let wish = Wish::new("PAY-2", 7);
    let Stand::Go(go) = open(&store, 3, wish.valid(), RAIL).await else { panic!("no intent") };
    let unsent = store.conclude(go.dispatch().1, Answer::NotSent(NotSent::Connect)).await.map_err(|(lost, _)| lost);
    assert!(matches!(unsent, Ok(Concluded::Released)));
    assert!(matches!(peek(&store, 3, wish.valid(), RAIL).await, Peek::Nothing(_)));
    let refused = open(&store, 3, refused_by_a_check(&wish), RAIL).await.recorded();
    assert_eq!(leading_code(&refused), Some("RR04"));
    assert!(store.condemn(origin(3), DeadReason::Poison { starts: 9 }, Some(wish.id)).await.is_err());
}

async fn two_not_founds_send_what_was_cleared_again_without_a_new_beginning(home: Home) {
    use crate::domain::Finding;
    let store = home.store().await;
    let wish = Wish::new("PAY-1", 7);
    let Stand::Go(go) = open(&store, 1, wish.valid(), RAIL).await else { panic!("no intent") };
    let mut doubt = go.dispatch().1;
    home.pass(Duration::from_secs(11));
    let longest = Duration::from_secs(10);
    let first =
        store.resume(doubt, Finding::NotFound, Instant::now(), longest).await.map_err(|(lost, _)| lost).unwrap();
    let Stand::Doubt(still) = first else { panic!("not in doubt") };
    doubt = still;
    let second =
        store.resume(doubt, Finding::NotFound, Instant::now(), longest).await.map_err(|(lost, _)| lost).unwrap();
    let Stand::Go(again) = second else { panic!("not sent again") };
    let unsent = store.conclude(again.dispatch().1, Answer::NotSent(NotSent::Pool)).await.map_err(|(lost, _)| lost);
    assert!(matches!(unsent, Ok(Concluded::Released)));
    let Stand::Go(go) = stands(&store, 1, wish.valid(), RAIL).await else { panic!("left in doubt") };
    assert_eq!(go.rail(), "swift");
}

both![
    a_look_begins_nothing_and_what_stands_answers_it,
    a_check_refuses_what_nobody_has_and_nothing_else,
    two_not_founds_send_what_was_cleared_again_without_a_new_beginning,
];
