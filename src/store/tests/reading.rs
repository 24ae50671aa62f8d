use super::harness::{Expect, Home, Wish, both, event, id, open};
use crate::store::{EventKey, EventRecord, ReadError, Reader, Route};

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

#[test]
fn a_missing_store_is_said_to_be_missing() {
    let home = Home::sqlite();
    let missing = Reader::open(&home.path(), std::time::Duration::ZERO).map(drop);
    assert_eq!(missing, Err(ReadError::Missing));
}

both![
    a_payment_is_shown_whole_with_its_accounts_masked,
    pages_follow_each_other_without_gap_or_repeat,
    a_tampered_book_does_not_balance,
];
