//! Records of what ended long ago, removed a page at a time. Payments and transfers stay, and so does what the
//! high-water mark of a stream is read from.
//!
//! One process at a time makes a round: it holds an advisory lock of its session until the round's end, and the others
//! leave that round to it. Correctness does not hang on that: a page removes nothing that could still say something, and
//! passes by rows that another transaction holds.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::Pruned;
use super::connect::{Fault, Session};
use super::{Memory, sql};

/// Where the next page of this process's round begins; each table is in order of its key, and with events and attempts
/// that is nearly the order of time.
#[derive(Debug)]
pub(super) enum Round {
    Events { stream: i64, sequence: i64 },
    Attempts { payment: i64, number: i32 },
    Notes { payment_id: String, at: Timestamp, what: String },
}

impl Round {
    const FIRST: Self = Self::Events { stream: 0, sequence: 0 };
    const ATTEMPTS: Self = Self::Attempts { payment: 0, number: 0 };

    fn notes() -> Self {
        // Before any of ours, and one that the database takes.
        Self::Notes { payment_id: String::new(), at: Timestamp::UNIX_EPOCH, what: String::new() }
    }
}

/// What one page came to.
struct Page {
    gone: u64,
    /// Where the table goes on; `None` at its end.
    next: Option<Round>,
}

/// One page of what ended more than `keep` ago by the database's clock.
pub(super) async fn prune(session: &Session, memory: &mut Memory, keep: Duration, most: u32) -> Result<Pruned, Fault> {
    let now = session.query(sql::NOW, &[]).await?;
    let now = now.first().ok_or(Fault::Row("the clock"))?.try_get::<_, Timestamp>(0)?;
    let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
    // A span before all times asks for nothing.
    let Ok(before) = now.checked_sub(keep) else { return Ok(Pruned::default()) };
    page(session, memory, super::super::rows::to_millis(before), most).await
}

/// One page of what ended before `before`, in a transaction of its own.
pub(super) async fn page(
    session: &Session,
    memory: &mut Memory,
    before: Timestamp,
    most: u32,
) -> Result<Pruned, Fault> {
    let round = match memory.round.take() {
        Some(round) => round,
        None if flag(session, sql::PRUNE_LOCK).await? => Round::FIRST,
        None => return Ok(Pruned::default()),
    };
    session.client.batch_execute("BEGIN").await?;
    let mut pruned = Pruned::default();
    let next = match round {
        Round::Events { stream, sequence } => {
            let page = events(session, (stream, sequence), before, most).await?;
            pruned.events = page.gone;
            Some(page.next.unwrap_or(Round::ATTEMPTS))
        }
        Round::Attempts { payment, number } => {
            let page = attempts(session, (payment, number), before, most).await?;
            pruned.attempts = page.gone;
            Some(page.next.unwrap_or_else(Round::notes))
        }
        Round::Notes { payment_id, at, what } => {
            let page = notes(session, (payment_id, at, what), before, most).await?;
            pruned.notes = page.gone;
            page.next
        }
    };
    if pruned.rows() == 0 {
        session.client.batch_execute("ROLLBACK").await?;
    } else {
        // Whoever compares the store with what was read of the streams long ago must know that it has forgotten.
        session.execute(sql::PRUNED_BEFORE, &[&before.as_millisecond().to_string()]).await?;
        session.client.batch_execute("COMMIT").await?;
    }
    pruned.more = next.is_some();
    memory.round = next;
    if !pruned.more {
        session.query(sql::PRUNE_UNLOCK, &[]).await?;
    }
    Ok(pruned)
}

async fn flag(session: &Session, sql: &'static str) -> Result<bool, Fault> {
    let said = session.query(sql, &[]).await?;
    Ok(said.first().ok_or(Fault::Row("a lock"))?.try_get(0)?)
}

async fn events(session: &Session, after: (i64, i64), before: Timestamp, most: u32) -> Result<Page, Fault> {
    let found = session.query(sql::OLD_EVENTS, &[&after.0, &after.1, &before, &i64::from(most)]).await?;
    let Some(row) = found.first() else { return Ok(Page { gone: 0, next: None }) };
    let next = Round::Events { stream: row.try_get(3)?, sequence: row.try_get(4)? };
    page_of(row, most, next)
}

async fn attempts(session: &Session, after: (i64, i32), before: Timestamp, most: u32) -> Result<Page, Fault> {
    let found = session.query(sql::OLD_ATTEMPTS, &[&after.0, &after.1, &before, &i64::from(most)]).await?;
    let Some(row) = found.first() else { return Ok(Page { gone: 0, next: None }) };
    let next = Round::Attempts { payment: row.try_get(3)?, number: row.try_get(4)? };
    page_of(row, most, next)
}

async fn notes(
    session: &Session,
    after: (String, Timestamp, String),
    before: Timestamp,
    most: u32,
) -> Result<Page, Fault> {
    let with: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&after.0, &after.1, &after.2, &before, &i64::from(most)];
    let found = session.query(sql::AGED_NOTES, &with).await?;
    let Some(row) = found.first() else { return Ok(Page { gone: 0, next: None }) };
    let next = Round::Notes { payment_id: row.try_get(3)?, at: row.try_get(4)?, what: row.try_get(5)? };
    page_of(row, most, next)
}

/// Each statement tells how many rows it looked at, how many of them are gone, whether there may be old ones behind the
/// last, and the last one's key.
fn page_of(row: &tokio_postgres::Row, most: u32, next: Round) -> Result<Page, Fault> {
    let (seen, gone): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let on = row.try_get::<_, bool>(2)? && seen >= i64::from(most);
    let gone = u64::try_from(gone).map_err(|_| Fault::Row("a count"))?;
    Ok(Page { gone, next: on.then_some(next) })
}
