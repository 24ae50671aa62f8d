//! What operators read: a connection of its own that cannot write. Nothing is held longer than a page, because a
//! long reader keeps the write-ahead log from being reset.

mod check;

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::rows::{AttemptRow, Ended, EventKind, EventRow, PaymentRow, State};
use super::sqlite::{
    Fault, attempt_of, event_of, event_select, facts, instant, payment_of, payment_select, signed, text, unsigned,
};
use super::{Facts, schema};
use crate::domain::{Code, Currency, EventId, Fingerprint, Money, PaymentId, StreamName};

pub use check::BookLine;

/// Why the store was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no store at the path.
    #[error("there is no store at this path")]
    Missing,
    /// The file is something else, or another version's.
    #[error("the file is not a store of this version")]
    NotAStore,
    /// A writer had it locked for too long; try again.
    #[error("the store is locked")]
    Locked,
    /// Anything else.
    #[error("the store cannot be read: {0}")]
    Failed(String),
}

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

/// One attempt over a rail, for `explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// From 1, over all legs.
    pub number: u32,
    /// Counts rails and keys.
    pub leg: u8,
    /// The rail's name.
    pub rail: String,
    /// When the intent was recorded.
    pub started_at: Timestamp,
    /// Its conclusive answer; without one it may have reached the rail.
    pub ended: Option<Ended>,
    /// When that was recorded.
    pub ended_at: Option<Timestamp>,
    /// Inquiries that count and did not find it.
    pub not_found: u32,
}

/// A transfer with its accounts masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferRecord {
    /// Its number, as in `tr_<number>`.
    pub number: i64,
    /// Country and last four characters.
    pub debit: String,
    /// Country and last four characters.
    pub credit: String,
    /// What moved.
    pub amount: Money,
    /// When.
    pub posted_at: Timestamp,
}

/// One line of a payment's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteRecord {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: String,
    /// The lane's breaker then.
    pub breaker: String,
}

/// All that is known of one payment id.
#[derive(Debug, Clone)]
pub struct PaymentRecord {
    /// Its row, where it was claimed or ended by its rail or the book.
    pub payment: Option<PaymentRow>,
    /// Attempts over rails, in order.
    pub attempts: Vec<AttemptRecord>,
    /// Its transfer in the book.
    pub transfer: Option<TransferRecord>,
    /// Other events that named it, in stream order; at most 256.
    pub events: Vec<EventRow>,
    /// Lines of its life, in order.
    pub notes: Vec<NoteRecord>,
}

/// How one event ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventRecord {
    /// It is the event its payment stands for.
    Payment(PaymentLine),
    /// It ended otherwise.
    Other {
        /// How.
        kind: EventKind,
        /// Its payment, where it could be read.
        payment_id: Option<PaymentId>,
        /// The code that leads.
        code: Option<Code>,
        /// Where it could be read.
        amount: Option<Money>,
    },
}

/// A payment in one line, for reconciliation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentLine {
    /// Its number: where the next page starts.
    pub row: i64,
    /// Its identity.
    pub payment_id: PaymentId,
    /// What was asked for.
    pub fingerprint: Fingerprint,
    /// How far it is.
    pub state: State,
    /// The event it stands for.
    pub event: EventId,
    /// What moves or moved.
    pub amount: Money,
    /// The leading reason, where it was rejected.
    pub code: Option<Code>,
    /// `book` or the rail of the last attempt.
    pub rail: String,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Attempts that may have reached a rail.
    pub attempts: u32,
}

/// Where a page of events ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventKey {
    stream: i64,
    sequence: i64,
}

/// A reading connection.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Reader {
    /// Opens the store at `path` for reading, whether or not a worker runs on it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open(path: &Path, busy_timeout: Duration) -> Result<Self, ReadError> {
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

    /// What the store says about itself.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn facts(&self) -> Result<Facts, ReadError> {
        Ok(facts(&self.connection)?)
    }

    /// All that is known of one payment id; `None` where it was never seen.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn payment(&self, id: &PaymentId) -> Result<Option<PaymentRecord>, ReadError> {
        let mut statement = self.connection.prepare_cached(concat!(payment_select!(), " WHERE p.payment_id = ?1"))?;
        let mut found = statement.query([id.as_str()])?;
        let payment = found.next()?.map(payment_of).transpose()?;
        let (attempts, transfer) = match &payment {
            Some(payment) => (self.attempts(payment.row)?, self.transfer(payment.row)?),
            None => (Vec::new(), None),
        };
        let record = PaymentRecord { payment, attempts, transfer, events: self.named(id)?, notes: self.notes(id)? };
        let empty = record.payment.is_none() && record.events.is_empty() && record.notes.is_empty();
        Ok(if empty { None } else { Some(record) })
    }

    /// How one event ended; `None` where no end is on record.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn event(&self, event: &EventId) -> Result<Option<EventRecord>, ReadError> {
        let Some(stream) = self.stream(&event.stream, event.created_ms)? else { return Ok(None) };
        let sequence = signed(event.sequence)?;
        let mut statement =
            self.connection.prepare_cached(concat!(event_select!(), " WHERE e.stream = ?1 AND e.sequence = ?2"))?;
        if let Some(row) = statement.query((stream, sequence))?.next()? {
            let row = event_of(row)?;
            let code = row.code();
            return Ok(Some(EventRecord::Other {
                kind: row.kind,
                payment_id: row.payment_id,
                code,
                amount: row.amount,
            }));
        }
        let mut statement =
            self.connection.prepare_cached(concat!(payment_select!(), " WHERE p.stream = ?1 AND p.sequence = ?2"))?;
        let mut found = statement.query((stream, sequence))?;
        Ok(found.next()?.map(payment_of).transpose()?.map(|row| EventRecord::Payment(line(row))))
    }

    /// A page of payments after the row `after` (0 for the first page), in row order.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn payments_after(&self, after: i64, limit: u32) -> Result<Vec<PaymentLine>, ReadError> {
        self.page(concat!(payment_select!(), " WHERE p.id > ?1 ORDER BY p.id LIMIT ?2"), after, limit)
    }

    /// A page of payments without an end (in doubt, released, or held for a person), in row order.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn unfinished_after(&self, after: i64, limit: u32) -> Result<Vec<PaymentLine>, ReadError> {
        self.page(
            concat!(payment_select!(), " WHERE p.state IN ('open', 'held') AND p.id > ?1 ORDER BY p.id LIMIT ?2"),
            after,
            limit,
        )
    }

    /// A page of events that ended otherwise than as their payment's own, and where the next page starts.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn events_after(&self, after: EventKey, limit: u32) -> Result<(Vec<EventRow>, EventKey), ReadError> {
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
            lines.push(line(payment_of(row)?));
        }
        Ok(lines)
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
            "SELECT number, leg, rail, started_at, answer, answered_at, not_found FROM attempts WHERE payment = ?1 \
             ORDER BY number",
        )?;
        let mut found = statement.query([payment])?;
        let mut attempts = Vec::new();
        while let Some(row) = found.next()? {
            let AttemptRow { number, leg, rail, started_at, ended, ended_at, not_found, .. } =
                attempt_of(payment, row)?;
            let rail = rail.as_ref().to_owned();
            attempts.push(AttemptRecord { number, leg, rail, started_at, ended, ended_at, not_found });
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

fn line(row: PaymentRow) -> PaymentLine {
    PaymentLine {
        row: row.row,
        code: row.reasons.first().map(|reason| reason.code),
        payment_id: row.payment_id,
        fingerprint: row.fingerprint,
        state: row.state,
        event: row.event,
        amount: row.amount,
        rail: row.rail.as_ref().to_owned(),
        requested_at: row.requested_at,
        finished_at: row.finished_at,
        attempts: row.attempts,
    }
}

/// Enough to recognise an account, too little to use it: country and last four of an IBAN, last four of others.
fn masked(key: &str) -> String {
    let (country, id) = match key.strip_prefix("iban:") {
        Some(iban) => (iban.get(..2).unwrap_or(""), iban),
        None => ("", key.rsplit(':').next().unwrap_or("")),
    };
    let length = id.chars().count();
    let shown: String = id.chars().skip(if length > 6 { length.saturating_sub(4) } else { length }).collect();
    format!("{country}..{shown}")
}
