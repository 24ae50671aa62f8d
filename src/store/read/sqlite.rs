//! Reading a SQLite file. Nothing is held longer than a page, because a long reader keeps the write-ahead log from being
//! reset.

mod check;
mod tracked;
mod unknown;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::super::rows::{EventRow, PaymentRow};
use super::super::sqlite::{
    Fault, attempt_of, event_of, event_select, facts, instant, payment_of, payment_select, place, signed, text,
    unsigned,
};
use super::super::{Facts, schema};
use super::{
    AttemptRecord, EventKey, EventRecord, NoteRecord, PaymentLine, PaymentRecord, ReadError, TransferRecord, masked,
};
use crate::domain::{Currency, EventId, Money, PaymentId, StreamName};

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Row(what) => Self::Failed(format!("a stored row cannot be read: {what}")),
            Fault::Sql(error) => match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => Self::Locked,
                Some(rusqlite::ErrorCode::NotADatabase) => Self::NotAStore,
                Some(rusqlite::ErrorCode::CannotOpen) => Self::Missing,
                Some(_) | None => Self::Failed(text(&error)),
            },
        }
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::from(Fault::Sql(error))
    }
}

#[derive(Debug)]
pub(super) struct Reader {
    connection: Connection,
}

impl Reader {
    pub(super) fn open(path: &Path, busy_timeout: Duration) -> Result<Self, ReadError> {
        if !path.exists() {
            return Err(ReadError::Missing);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(busy_timeout)?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -2048;")?;
        connection.set_prepared_statement_cache_capacity(24);
        let pragma = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let known = (pragma("PRAGMA application_id")?, pragma("PRAGMA user_version")?);
        if known == (schema::APPLICATION_ID, schema::VERSION) {
            Ok(Self { connection })
        } else {
            Err(ReadError::NotAStore)
        }
    }

    pub(super) fn facts(&self) -> Result<Facts, ReadError> {
        Ok(facts(&self.connection)?)
    }

    pub(super) fn payment(&self, id: &PaymentId) -> Result<Option<PaymentRecord>, ReadError> {
        let mut statement = self.connection.prepare_cached(concat!(payment_select!(), " WHERE p.payment_id = ?1"))?;
        let mut found = statement.query([id.as_str()])?;
        let payment = found.next()?.map(|row| self.placed(row)).transpose()?;
        let (attempts, transfer) = match &payment {
            Some(payment) => (self.attempts(payment.row)?, self.transfer(payment.row)?),
            None => (Vec::new(), None),
        };
        Ok(PaymentRecord { payment, attempts, transfer, events: self.named(id)?, notes: self.notes(id)? }.known())
    }

    pub(super) fn event(&self, event: &EventId) -> Result<Option<EventRecord>, ReadError> {
        let Some(stream) = self.stream(&event.stream, event.created_ms)? else { return Ok(None) };
        let sequence = signed(event.sequence)?;
        let mut statement =
            self.connection.prepare_cached(concat!(event_select!(), " WHERE e.stream = ?1 AND e.sequence = ?2"))?;
        if let Some(row) = statement.query((stream, sequence))?.next()? {
            return Ok(Some(EventRecord::of(event_of(row)?)));
        }
        let mut statement =
            self.connection.prepare_cached(concat!(payment_select!(), " WHERE p.stream = ?1 AND p.sequence = ?2"))?;
        let mut found = statement.query((stream, sequence))?;
        Ok(found.next()?.map(|row| self.placed(row)).transpose()?.map(|row| EventRecord::Payment(PaymentLine::of(row))))
    }

    pub(super) fn payments_after(&self, after: i64, limit: u32) -> Result<Vec<PaymentLine>, ReadError> {
        self.page(concat!(payment_select!(), " WHERE p.id > ?1 ORDER BY p.id LIMIT ?2"), after, limit)
    }

    pub(super) fn unfinished_after(&self, after: i64, limit: u32) -> Result<Vec<PaymentLine>, ReadError> {
        self.page(
            concat!(payment_select!(), " WHERE p.state IN ('open', 'held') AND p.id > ?1 ORDER BY p.id LIMIT ?2"),
            after,
            limit,
        )
    }

    pub(super) fn events_after(&self, after: EventKey, limit: u32) -> Result<(Vec<EventRow>, EventKey), ReadError> {
        let mut statement = self.connection.prepare_cached(concat!(
            event_select!(),
            " WHERE (e.stream, e.sequence) > (?1, ?2) ORDER BY e.stream, e.sequence LIMIT ?3"
        ))?;
        let mut found = statement.query((after.stream, after.sequence, limit))?;
        let (mut rows, mut end) = (Vec::new(), after);
        while let Some(row) = found.next()? {
            rows.push(event_of(row)?);
        }
        if let Some(last) = rows.last() {
            let stream = self.stream(&last.event.stream, last.event.created_ms)?.unwrap_or(after.stream);
            end = EventKey { stream, sequence: signed(last.event.sequence)? };
        }
        Ok((rows, end))
    }

    fn page(&self, sql: &str, after: i64, limit: u32) -> Result<Vec<PaymentLine>, ReadError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query((after, limit))?;
        let mut lines = Vec::new();
        while let Some(row) = found.next()? {
            lines.push(PaymentLine::of(self.placed(row)?));
        }
        Ok(lines)
    }

    /// The payment with its place in the tracker: one that never went over a rail has none.
    fn placed(&self, row: &rusqlite::Row<'_>) -> Result<PaymentRow, ReadError> {
        let mut payment = payment_of(row)?;
        if payment.last_attempt > 0 {
            payment.tracked = place(&self.connection, payment.row)?;
        }
        Ok(payment)
    }

    fn stream(&self, name: &StreamName, created_ms: i64) -> Result<Option<i64>, ReadError> {
        Ok(self
            .connection
            .prepare_cached("SELECT id FROM streams WHERE name = ?1 AND created_ms = ?2")?
            .query_row((name.as_str(), created_ms), |row| row.get(0))
            .optional()?)
    }

    fn attempts(&self, payment: i64) -> Result<Vec<AttemptRecord>, ReadError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, leg, rail, started_at, answer, answered_at, not_found, in_progress_at FROM attempts \
             WHERE payment = ?1 ORDER BY number",
        )?;
        let mut found = statement.query([payment])?;
        let mut attempts = Vec::new();
        while let Some(row) = found.next()? {
            attempts.push(AttemptRecord::of(attempt_of(payment, row)?));
        }
        Ok(attempts)
    }

    fn transfer(&self, payment: i64) -> Result<Option<TransferRecord>, ReadError> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT d.key, c.key, t.currency, t.minor, t.posted_at FROM transfers t \
                 JOIN accounts d ON d.id = t.debit_account JOIN accounts c ON c.id = t.credit_account \
                 WHERE t.payment = ?1",
            )?
            .query_row([payment], |row| {
                let (debit, credit, currency): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok((debit, credit, currency, row.get::<_, i64>(3)?, row.get::<_, i64>(4)?))
            })
            .optional()?;
        let Some((debit, credit, currency, minor, posted_at)) = found else { return Ok(None) };
        let amount = Currency::parse(&currency)
            .and_then(|currency| Money::new(minor, currency))
            .ok_or(Fault::Row("transfers.minor"))?;
        let (debit, credit) = (masked(&debit), masked(&credit));
        Ok(Some(TransferRecord { number: payment, debit, credit, amount, posted_at: instant(posted_at)? }))
    }

    fn named(&self, id: &PaymentId) -> Result<Vec<EventRow>, ReadError> {
        let mut statement = self.connection.prepare_cached(concat!(
            event_select!(),
            " WHERE e.payment_id = ?1 ORDER BY e.stream, e.sequence LIMIT 256"
        ))?;
        let mut found = statement.query([id.as_str()])?;
        let mut events = Vec::new();
        while let Some(row) = found.next()? {
            events.push(event_of(row)?);
        }
        Ok(events)
    }

    fn notes(&self, id: &PaymentId) -> Result<Vec<NoteRecord>, ReadError> {
        let mut statement =
            self.connection.prepare_cached("SELECT at, what, breaker FROM notes WHERE payment_id = ?1 ORDER BY at")?;
        let mut found = statement.query([id.as_str()])?;
        let mut notes = Vec::new();
        while let Some(row) = found.next()? {
            notes.push(NoteRecord { at: instant(row.get(0)?)?, what: row.get(1)?, breaker: row.get(2)? });
        }
        Ok(notes)
    }
}
