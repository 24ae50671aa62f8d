//! What operators read: a connection of its own that cannot write, and that waits for its answers on the caller's
//! thread. Pages bound the memory.

mod book;
mod postgres;
mod sqlite;
mod tracked;
mod unknown;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::rows::{AttemptRow, Ended, EventKind, EventRow, PaymentRow, State, Tracking};
use super::{Facts, PostgresSettings};
use crate::domain::{Code, EventId, Fingerprint, LaneName, Money, PaymentId};

pub use book::BookLine;
pub use tracked::TrackedSums;
pub use unknown::{DoubtSums, UnknownFilter, UnknownKey, UnknownLine, UnknownSums, heard_since};

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
    /// Anything else; the text says what to do where there is something to do.
    #[error("the store cannot be read: {0}")]
    Failed(String),
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
    /// When the rail said last that it works on it.
    pub in_progress_at: Option<Timestamp>,
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
    /// Its place in the tracker, where that owns it.
    pub tracked: Option<Tracking>,
}

/// Where a page of events ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventKey {
    stream: i64,
    sequence: i64,
}

/// A reading connection.
#[derive(Debug)]
pub struct Reader(Kind);

#[derive(Debug)]
enum Kind {
    Sqlite(sqlite::Reader),
    Postgres(postgres::Reader),
}

/// The same question to whichever store it is.
macro_rules! ask {
    ($reader:expr, $question:ident($($with:expr),*)) => {
        match &$reader.0 {
            Kind::Sqlite(reader) => reader.$question($($with),*),
            Kind::Postgres(reader) => reader.$question($($with),*),
        }
    };
}

impl Reader {
    /// Opens the file at `path` for reading, whether or not a worker runs on it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open(path: &Path, busy_timeout: Duration) -> Result<Self, ReadError> {
        sqlite::Reader::open(path, busy_timeout).map(|reader| Self(Kind::Sqlite(reader)))
    }

    /// Connects to a PostgreSQL database for reading.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn connect(settings: &PostgresSettings) -> Result<Self, ReadError> {
        postgres::Reader::connect(settings).map(|reader| Self(Kind::Postgres(reader)))
    }

    /// What the store says about itself.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn facts(&self) -> Result<Facts, ReadError> {
        ask!(self, facts())
    }

    /// All that is known of one payment id; `None` where it was never seen.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn payment(&self, id: &PaymentId) -> Result<Option<PaymentRecord>, ReadError> {
        ask!(self, payment(id))
    }

    /// How one event ended; `None` where no end is on record.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn event(&self, event: &EventId) -> Result<Option<EventRecord>, ReadError> {
        ask!(self, event(event))
    }

    /// A page of payments after the row `after` (0 for the first page), in row order.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn payments_after(&self, after: i64, limit: u32) -> Result<Vec<PaymentLine>, ReadError> {
        ask!(self, payments_after(after, limit))
    }

    /// A page of payments without an end (in doubt, released, or held for a person), in row order.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn unfinished_after(&self, after: i64, limit: u32) -> Result<Vec<PaymentLine>, ReadError> {
        ask!(self, unfinished_after(after, limit))
    }

    /// A page of payments in doubt, the oldest first. The database sorts all that there are for each page.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn unknown_after(
        &self,
        filter: &UnknownFilter,
        after: UnknownKey,
        limit: u32,
    ) -> Result<Vec<UnknownLine>, ReadError> {
        ask!(self, unknown_after(filter, after, limit))
    }

    /// All payments that are in doubt since `before` or longer, and those that are held for a person; apart, those whose
    /// rail said at `heard` or later that it works on them.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn unknown_sums(&self, before: Timestamp, heard: Timestamp) -> Result<DoubtSums, ReadError> {
        ask!(self, unknown_sums(before, heard))
    }

    /// What the tracker of each lane holds; lanes without tracked payments are left out.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn tracked_sums(&self) -> Result<BTreeMap<LaneName, TrackedSums>, ReadError> {
        ask!(self, tracked_sums())
    }

    /// A page of events that ended otherwise than as their payment's own, and where the next page starts.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn events_after(&self, after: EventKey, limit: u32) -> Result<(Vec<EventRow>, EventKey), ReadError> {
        ask!(self, events_after(after, limit))
    }

    /// Counts the book anew, a line per currency. It may run beside a worker; a difference found beside one should be
    /// looked at again before it is believed.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn book_check(&self) -> Result<Vec<BookLine>, ReadError> {
        ask!(self, book_check())
    }
}

impl PaymentLine {
    fn of(row: PaymentRow) -> Self {
        Self {
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
            tracked: row.tracked,
        }
    }
}

impl AttemptRecord {
    fn of(row: AttemptRow) -> Self {
        let AttemptRow { number, leg, rail, started_at, ended, ended_at, not_found, in_progress_at, .. } = row;
        Self { number, leg, rail: rail.as_ref().to_owned(), started_at, ended, ended_at, not_found, in_progress_at }
    }
}

impl EventRecord {
    fn of(row: EventRow) -> Self {
        let code = row.code();
        Self::Other { kind: row.kind, payment_id: row.payment_id, code, amount: row.amount }
    }
}

impl PaymentRecord {
    /// `None` where nothing at all is known.
    fn known(self) -> Option<Self> {
        let empty = self.payment.is_none() && self.events.is_empty() && self.notes.is_empty();
        if empty { None } else { Some(self) }
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
