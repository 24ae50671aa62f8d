//! Changes written and committed in one round trip: one statement a table.
//!
//! The commit goes out with the writes. Where one of them fails the transaction is aborted, the server takes the
//! commit for a rollback, and the failed write's own answer says why.

mod payments;

use std::cmp::Ordering;

use futures_util::future::{try_join, try_join3, try_join4, try_join5};
use jiff::Timestamp;
use tokio::task::yield_now;

use super::super::rows::{AttemptRow, Changes};
use super::connect::{Fault, Session};
use super::instant::Instant;
use super::load::{signed, stream};
use super::tracker::Tracker;
use super::{Memory, spending, sql};
use crate::domain::{EventId, Reason};
use payments::Payments;

/// Attempts without an effect kept per payment.
const UNSENT_KEPT: u32 = 64;

pub(super) async fn save(session: &Session, memory: &mut Memory, changes: &Changes) -> Result<(), Fault> {
    let new = sorted(&changes.new_payments, |a, b| a.payment_id.cmp(&b.payment_id));
    let new = Payments::of(session, memory, new).await?;
    let changed = Payments::of(session, memory, changes.changed_payments.iter().collect()).await?;
    let events = Events::of(session, memory, changes).await?;
    let starts = Starts::of(session, memory, changes).await?;
    let (attempts, accounts) = (Attempts::of(changes)?, Accounts::of(changes));
    let tracker = Tracker::of(&changes.tracker)?;
    let commit = async {
        session.client.batch_execute("COMMIT").await?;
        Ok(())
    };
    // Polled, and so sent, in this order. Boxed: each holds a column of every row.
    let behind = async {
        // The server is at work on the first one while the others are put together.
        yield_now().await;
        try_join(
            try_join4(
                Box::pin(changed.update(session)),
                Box::pin(attempts.write(session)),
                Box::pin(accounts.write(session)),
                Box::pin(events.write(session)),
            ),
            try_join5(
                Box::pin(spending::write(session, changes)),
                Box::pin(write_notes(session, changes)),
                Box::pin(starts.write(session)),
                Box::pin(tracker.write(session)),
                commit,
            ),
        )
        .await
    };
    try_join(Box::pin(new.insert(session)), Box::pin(behind)).await?;
    Ok(())
}

fn sorted<T>(rows: &[T], order: impl Fn(&T, &T) -> Ordering) -> Vec<&T> {
    let mut rows: Vec<&T> = rows.iter().collect();
    rows.sort_by(|a, b| order(a, b));
    rows
}

/// Attempts that were made or answered, and how many of the old ones go.
struct Attempts<'a> {
    rows: Vec<&'a AttemptRow>,
    old: Vec<(i64, i32)>,
}

impl<'a> Attempts<'a> {
    fn of(changes: &'a Changes) -> Result<Self, Fault> {
        let payments = changes.new_payments.iter().chain(&changes.changed_payments);
        let rows: Vec<&AttemptRow> =
            payments.flat_map(|payment| payment.tries.iter().filter(|attempt| attempt.dirty)).collect();
        let mut old = Vec::new();
        for row in rows.iter().filter(|row| row.number > UNSENT_KEPT) {
            let upto = row.number.saturating_sub(UNSENT_KEPT);
            old.push((row.payment, i32::try_from(upto).map_err(|_| Fault::Row("attempts.number"))?));
        }
        Ok(Self { rows, old })
    }

    async fn write(&self, session: &Session) -> Result<(), Fault> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let each = &self.rows;
        let (payments, upto): (Vec<i64>, Vec<i32>) = self.old.iter().copied().unzip();
        let forget = async {
            if self.old.is_empty() {
                return Ok(0);
            }
            session.execute(sql::UNSENT, &[&payments, &upto]).await
        };
        // Neither is waited for before the other is sent: the commit goes out right behind them.
        try_join(
            session.execute(
                sql::ATTEMPTS,
                &[
                    &all(each, |row| row.payment),
                    &signed32(each, |row| row.number)?,
                    &all(each, |row| i16::from(row.leg)),
                    &all(each, |row| &*row.rail),
                    &all(each, |row| Instant(row.started_at)),
                    &all(each, |row| row.ended.map(|ended| ended.word())),
                    &all(each, |row| row.ended_at.map(Instant)),
                    &signed32(each, |row| row.not_found)?,
                    &all(each, |row| row.in_progress_at.map(Instant)),
                ],
            ),
            forget,
        )
        .await?;
        Ok(())
    }
}

/// The book's part.
struct Accounts<'a> {
    changes: &'a Changes,
}

impl<'a> Accounts<'a> {
    fn of(changes: &'a Changes) -> Self {
        Self { changes }
    }

    async fn write(&self, session: &Session) -> Result<(), Fault> {
        let ((), (), ()) = try_join3(self.open(session), self.count(session), self.transfer(session)).await?;
        Ok(())
    }

    async fn open(&self, session: &Session) -> Result<(), Fault> {
        if self.changes.new_accounts.is_empty() {
            return Ok(());
        }
        let each = &sorted(&self.changes.new_accounts, |(a, _), (b, _)| a.cmp(b));
        session
            .execute(
                sql::NEW_ACCOUNTS,
                &[
                    &all(each, |(_, row)| row.id),
                    &all(each, |(key, _)| &*key.key),
                    &all(each, |(key, _)| key.currency),
                    &all(each, |(_, row)| row.debits),
                    &all(each, |(_, row)| row.credits),
                    &all(each, |(_, row)| row.overdraft),
                    &all(each, |(_, row)| row.opened_at),
                ],
            )
            .await?;
        Ok(())
    }

    async fn count(&self, session: &Session) -> Result<(), Fault> {
        let each = &self.changes.changed_accounts;
        if each.is_empty() {
            return Ok(());
        }
        let written = session
            .execute(
                sql::CHANGED_ACCOUNTS,
                &[
                    &all(each, |(_, row)| row.id),
                    &all(each, |(_, row)| row.debits),
                    &all(each, |(_, row)| row.credits),
                    &all(each, |(_, row)| row.overdraft),
                ],
            )
            .await?;
        complete(written, each.len(), "accounts")
    }

    async fn transfer(&self, session: &Session) -> Result<(), Fault> {
        let each = &self.changes.transfers;
        if each.is_empty() {
            return Ok(());
        }
        session
            .execute(
                sql::TRANSFERS,
                &[
                    &all(each, |row| row.payment),
                    &all(each, |row| row.debit),
                    &all(each, |row| row.credit),
                    &all(each, |row| row.amount.currency().code()),
                    &all(each, |row| row.amount.minor()),
                    &all(each, |row| Instant(row.posted_at)),
                ],
            )
            .await?;
        Ok(())
    }
}

/// Ended events with their streams' numbers.
struct Events<'a> {
    rows: Vec<(&'a super::super::rows::EventRow, i64, i64, Option<String>)>,
}

impl<'a> Events<'a> {
    async fn of(session: &Session, memory: &mut Memory, changes: &'a Changes) -> Result<Self, Fault> {
        let mut rows = Vec::new();
        for row in &changes.events {
            let (stream, sequence) = (stream(session, memory, &row.event).await?, signed(row.event.sequence)?);
            rows.push((row, stream, sequence, reasons_json(&row.reasons)?));
        }
        rows.sort_by_key(|(_, stream, sequence, _)| (*stream, *sequence));
        Ok(Self { rows })
    }

    async fn write(&self, session: &Session) -> Result<(), Fault> {
        let each = &self.rows;
        if each.is_empty() {
            return Ok(());
        }
        session
            .execute(
                sql::NEW_EVENTS,
                &[
                    &all(each, |(_, stream, ..)| *stream),
                    &all(each, |(_, _, sequence, _)| *sequence),
                    &all(each, |(row, ..)| row.kind.word()),
                    &all(each, |(row, ..)| row.payment_id.as_ref().map(|id| id.as_str())),
                    &all(each, |(row, ..)| row.code().map(|code| code.as_str())),
                    &all(each, |(.., reasons)| reasons.as_deref()),
                    &all(each, |(row, ..)| row.scheme.as_str()),
                    &all(each, |(row, ..)| row.order_key.as_str()),
                    &all(each, |(row, ..)| row.lane.as_str()),
                    &all(each, |(row, ..)| row.references.end_to_end_id.as_deref()),
                    &all(each, |(row, ..)| row.references.instruction_id.as_deref()),
                    &all(each, |(row, ..)| row.references.uetr.as_deref()),
                    &all(each, |(row, ..)| row.amount.map(|amount| amount.currency().code())),
                    &all(each, |(row, ..)| row.amount.map(|amount| amount.minor())),
                    &all(each, |(row, ..)| row.requested_at),
                    &all(each, |(row, ..)| row.first_seen),
                    &signed32(each, |(row, ..)| row.attempts)?,
                    &all(each, |(row, ..)| row.at),
                ],
            )
            .await?;
        Ok(())
    }
}

async fn write_notes(session: &Session, changes: &Changes) -> Result<(), Fault> {
    if changes.notes.is_empty() {
        return Ok(());
    }
    let each = &sorted(&changes.notes, |(a, one), (b, other)| (a, one.at).cmp(&(b, other.at)));
    let ids = all(each, |(id, _)| id.as_str());
    let (at, what) = (all(each, |(_, note)| note.at), all(each, |(_, note)| note.what.as_str()));
    let breakers = all(each, |(_, note)| note.breaker);
    // Neither is waited for before the other is sent: the commit goes out right behind them.
    try_join(session.execute(sql::NOTES, &[&ids, &at, &what, &breakers]), session.execute(sql::OLD_NOTES, &[&ids]))
        .await?;
    Ok(())
}

/// Starts to be stored or forgotten, by key.
struct Starts {
    rows: Vec<(i64, i64, i32, Timestamp)>,
}

impl Starts {
    async fn of(session: &Session, memory: &mut Memory, changes: &Changes) -> Result<Self, Fault> {
        let mut rows = Vec::new();
        for (event, start) in &changes.starts {
            let (stream, sequence) = key(session, memory, event).await?;
            let count = i32::try_from(start.map_or(0, |start| start.count)).map_err(|_| Fault::Row("starts.count"))?;
            rows.push((stream, sequence, count, start.map_or(Timestamp::UNIX_EPOCH, |start| start.first_at)));
        }
        rows.sort_unstable();
        Ok(Self { rows })
    }

    async fn write(&self, session: &Session) -> Result<(), Fault> {
        let each = &self.rows;
        if each.is_empty() {
            return Ok(());
        }
        session
            .execute(
                sql::PUT_STARTS,
                &[&all(each, |row| row.0), &all(each, |row| row.1), &all(each, |row| row.2), &all(each, |row| row.3)],
            )
            .await?;
        Ok(())
    }
}

async fn key(session: &Session, memory: &mut Memory, event: &EventId) -> Result<(i64, i64), Fault> {
    Ok((stream(session, memory, event).await?, signed(event.sequence)?))
}

/// One column of every row.
pub(super) fn all<'a, R, T>(rows: &'a [R], column: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(column).collect()
}

fn signed32<R>(rows: &[R], column: impl Fn(&R) -> u32) -> Result<Vec<i32>, Fault> {
    rows.iter().map(|row| i32::try_from(column(row)).map_err(|_| Fault::Row("a count"))).collect()
}

pub(super) fn complete(written: u64, wanted: usize, table: &'static str) -> Result<(), Fault> {
    if u64::try_from(wanted) == Ok(written) { Ok(()) } else { Err(Fault::Row(table)) }
}

fn reasons_json(reasons: &[Reason]) -> Result<Option<String>, Fault> {
    if reasons.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(reasons).map(Some).map_err(|_| Fault::Row("reasons"))
}
