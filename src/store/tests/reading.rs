use std::time::Duration;

use futures_util::future::join_all;

use super::harness::{Expect, Home, Wish, both, event, id, open, origin};
use crate::domain::{LaneName, Outcome, StreamName};
use crate::store::{EventKey, EventRecord, Origin, PaymentRecord, ReadError, Reader, Route, State};

async fn a_payment_is_shown_whole_with_its_accounts_masked(home: Home) {
    let store = home.store().await;
    let wish = Wish { from: "ACC-00000847".to_owned(), to: "short".to_owned(), ..Wish::new("PAY-1", 7) };
    drop(open(&store, 1, wish.valid(), Route::Book).await.recorded());
    drop(open(&store, 2, wish.valid(), Route::Book).await.recorded());
    let record = home.reader().payment(&wish.id).unwrap().unwrap();
    let transfer = record.transfer.unwrap();
    assert_eq!((transfer.debit.as_str(), transfer.credit.as_str()), ("..0847", ".."));
    assert_eq!(record.events.len(), 1);
    assert!(home.reader().payment(&id("PAY-2")).unwrap().is_none());
}

async fn pages_follow_each_other_without_gap_or_repeat(home: Home) {
    let store = home.store().await;
    for sequence in 1..=10 {
        let wish = Wish::new(&format!("PAY-{}", sequence.min(6)), 7);
        drop(open(&store, sequence, wish.valid(), Route::Book).await.recorded());
    }
    let reader = home.reader();
    let (mut after, mut rows) = (0, Vec::new());
    loop {
        let page = reader.payments_after(after, 4).unwrap();
        let Some(last) = page.last() else { break };
        after = last.row;
        rows.extend(page.iter().map(|line| line.event.sequence));
    }
    assert_eq!(rows, [1, 2, 3, 4, 5, 6]);
    let (mut after, mut events) = (EventKey::default(), Vec::new());
    loop {
        let (page, next) = reader.events_after(after, 3).unwrap();
        if page.is_empty() {
            break;
        }
        after = next;
        events.extend(page.iter().map(|row| row.event.sequence));
    }
    assert_eq!(events, [7, 8, 9, 10]);
    assert!(matches!(reader.event(&event(3)).unwrap(), Some(EventRecord::Payment(line)) if line.event == event(3)));
    assert!(reader.event(&event(11)).unwrap().is_none());
}

async fn a_tampered_book_does_not_balance(home: Home) {
    let store = home.store().await;
    drop(open(&store, 1, Wish::new("PAY-1", 7).valid(), Route::Book).await.recorded());
    store.stop().await;
    assert!(!home.tamper("UPDATE transfers SET minor = 8").await);
    assert!(!home.tamper("DELETE FROM transfers").await);
    assert!(home.tamper("UPDATE accounts SET debits_posted = 8 WHERE debits_posted = 7").await);
    assert!(home.tamper("UPDATE payments SET minor = 8").await);
    let line = home.reader().book_check().unwrap().remove(0);
    assert!(!line.balances());
    assert_eq!((line.accounts_differing, line.transfers_without_settled), (1, 1));
}

/// Payments settled in one group are read back as each was asked for, whatever they have in common.
async fn a_group_is_read_back_row_by_row(mut home: Home, alike: bool) {
    home.busy_timeout = Duration::from_secs(5);
    let store = home.store().await;
    drop(open(&store, 1, Wish::new("PAY-0", 1).valid(), Route::Book).await.recorded());
    // The writer waits with one until the rest is in its queue: they become one group.
    let blocked = home.block().await;
    let mut before = std::pin::pin!(open(&store, 2, Wish::new("PAY-00", 1).valid(), Route::Book));
    assert!(futures_util::poll!(before.as_mut()).is_pending());
    while store.waiting() > 0 {
        tokio::task::yield_now().await;
    }
    let asked: Vec<(Origin, Wish)> = (3..=8)
        .map(|n| {
            let (mut origin, mut wish) = (origin(n), Wish::new(&format!("PAY-{n}"), i64::try_from(n).unwrap()));
            if !alike && n == 4 {
                origin.lane = LaneName::parse("other").unwrap();
            }
            if !alike && n == 5 {
                wish.late_from = Some(home.now());
            }
            if !alike && n == 6 {
                origin.event.stream = StreamName::parse("OTHER").unwrap();
            }
            (origin, wish)
        })
        .collect();
    let opens = asked.iter().map(|(origin, wish)| store.open(origin.clone(), wish.valid(), Route::Book));
    let (opens, (), _) = tokio::join!(join_all(opens), blocked.release(), before);
    for ((origin, wish), stand) in asked.iter().zip(opens) {
        let told = stand.map_err(|(lost, ..)| lost).unwrap().recorded();
        let Outcome::Settled(settled) = told.outcome() else { panic!("{told:?}") };
        let PaymentRecord { payment, transfer, .. } = home.reader().payment(&wish.id).unwrap().unwrap();
        let (row, transfer) = (payment.unwrap(), transfer.unwrap());
        assert_eq!((&row.event, &row.scheme, &row.order_key), (&origin.event, &origin.scheme, &origin.order_key));
        assert_eq!((&row.lane, row.late, &*row.rail), (&origin.lane, wish.late_from.is_some(), "book"));
        assert_eq!((row.state, row.fingerprint, row.amount), (State::Settled, wish.fingerprint(), wish.amount()));
        assert_eq!((row.requested_at, row.finished_at), (origin.requested_at, Some(settled.settled_at)));
        assert_eq!((row.attempts, row.last_attempt, row.fence, row.deliveries), (1, 0, 0, 1));
        assert_eq!(row.references.end_to_end_id.as_deref(), Some("E2E-1"));
        assert_eq!((row.rail_ref, row.claim, row.reasons.len()), (Some(settled.rail_ref.clone()), None, 0));
        assert_eq!(transfer.amount, wish.amount());
    }
    home.assert_balanced();
}

async fn a_group_whose_payments_are_alike_is_read_back_row_by_row(home: Home) {
    a_group_is_read_back_row_by_row(home, true).await;
}

async fn a_group_whose_payments_differ_is_read_back_row_by_row(home: Home) {
    a_group_is_read_back_row_by_row(home, false).await;
}

#[test]
fn a_missing_store_is_said_to_be_missing() {
    let home = Home::sqlite();
    let missing = Reader::open(&home.path(), Duration::ZERO).map(drop);
    assert_eq!(missing, Err(ReadError::Missing));
}

both![
    a_payment_is_shown_whole_with_its_accounts_masked,
    pages_follow_each_other_without_gap_or_repeat,
    a_tampered_book_does_not_balance,
    a_group_whose_payments_are_alike_is_read_back_row_by_row,
    a_group_whose_payments_differ_is_read_back_row_by_row,
];
