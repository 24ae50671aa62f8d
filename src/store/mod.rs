//! The durable record of claims, attempts, outcomes, and the book. It answers first: what stands already decides.
//!
//! [`Store`] is the only mint of proofs ([`Recorded`], [`Condemned`], [`Intent`], [`Doubt`]). Behind it one writer
//! groups whatever is waiting into one transaction of a dumb [`Backend`]; the decision itself is pure (`decide`).

mod book;
#[cfg(acquit_cheats)]
#[path = "../../tests/cheats/store.rs"]
mod cheats;
mod decide;
mod postgres;
mod read;
mod resolution;
mod rows;
mod schema;
mod sqlite;
mod tracker;
mod words;
mod writer;

// They run over real servers, which are the lab's.
#[cfg(test)]
#[cfg(feature = "lab")]
mod tests;

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::{EventId, LaneName, OrderKey, SchemeName};

pub use book::{BookPolicy, Unknown};
pub use postgres::{
    Postgres, PostgresError, PostgresSettings, Provisioned, Shortfall, is_schema_name, migrate, shortfalls, url_problem,
};
pub use read::{
    AttemptRecord, BookLine, DoubtSums, EventKey, EventRecord, NoteRecord, PaymentLine, PaymentRecord, ReadError,
    Reader, TrackedSums, TransferRecord, UnknownFilter, UnknownKey, UnknownLine, UnknownSums, heard_since,
};
pub use resolution::{Refusal, Resolution, Resolved, Ruling, Unresolved};
pub use rows::{
    AccountKey, AccountRow, AttemptRow, Changes, Claim, DayKey, Ended, EventKind, EventRow, PaymentRow, Rows, StartRow,
    State, TransferRow, Wanted,
};
pub use sqlite::{Facts, HighWater, OpenError, Sqlite, SqliteSettings};
pub(crate) use tracker::{Confirmed, SWEEP_EVERY};
pub use tracker::{Due, DueList, DueWanted, Message, TrackLimits, TrackerChange, TrackerRow, TrackerTotals, Tracking};
pub(crate) use writer::Peek;
pub use writer::{
    Concluded, Condemned, Doubt, GroupDone, Handed, Intent, NotCondemned, Order, Recorded, Stand, Store, Tracked,
};

/// Everything the store keeps about the event that asks, beside what was judged.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The event.
    pub event: EventId,
    /// Third subject token.
    pub scheme: SchemeName,
    /// Fourth subject token.
    pub order_key: OrderKey,
    /// The lane that holds it.
    pub lane: LaneName,
    /// The broker's timestamp of the event.
    pub requested_at: Timestamp,
    /// Which delivery of the event this is, as the broker counts (on R1 it restarts after a crash: a hint only).
    pub delivery: u64,
    /// What happened to the event in this process before, for `explain`.
    pub history: Vec<Note>,
}

impl Origin {
    /// The event that a tracked payment stands for.
    pub(crate) fn of_tracked(row: PaymentRow, lane: LaneName) -> Self {
        Self {
            event: row.event,
            scheme: row.scheme,
            order_key: row.order_key,
            lane,
            requested_at: row.requested_at,
            delivery: 1,
            history: Vec::new(),
        }
    }
}

/// One line of an event's life that is worth keeping: why it waited, was retried or handed back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// What, in words that hold no value of the event.
    pub what: String,
    /// The lane's breaker then: `closed`, `open`, `half_open`; `-` for what a person did.
    pub breaker: &'static str,
}

/// The lane's way of settling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Our own double-entry ledger: posted in the claim's own transaction.
    Book,
    /// A service; `leg` counts the rails that a payment was given to.
    Rail {
        /// The rail's name.
        name: &'static str,
        /// 0 for the first.
        leg: u8,
    },
}

/// The store did not answer, or its answer was not seen: nothing is known, nothing may be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreLost {
    /// Another process holds the write lock past the busy timeout.
    #[error("the store is locked by another process")]
    Locked,
    /// A reader keeps the write-ahead log from being reset and it has reached its bound.
    #[error("the write-ahead log has {bytes} bytes and a reader keeps it from being reset (bound {bound})")]
    LogPinned {
        /// Its size.
        bytes: u64,
        /// The configured bound.
        bound: u64,
    },
    /// No space left.
    #[error("the disk of the store is full")]
    Full,
    /// Anything else; the text is the database's own and holds no value of an event.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The database takes everything but this: its content breaks a rule of the schema. No value is in the text.
    #[error("the store refuses what was to be written: {0}")]
    Refused(String),
    /// What is on record under the event's number is another message's: a server that lost the end of its stream gives
    /// numbers out again. Such an event is never answered for the other.
    #[error("what is on record under this event's number is another message's")]
    Foreign,
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

/// Why a group of changes was not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The database is out of reach or did not answer.
    Lost(StoreLost),
    /// The database refused what was to be written; the group is halved down to the culprit.
    Content(String),
    /// Another process was in the way: nothing was written, and the same group is decided again over the rows that
    /// stand now.
    Again(String),
}

/// What a database must do. It is dumb: loads rows under lock, writes, commits. It never sees a proof.
pub trait Backend: Send + 'static {
    /// Starts a transaction and loads what stands for `ids`, for the events, and for the accounts.
    fn begin(&mut self, wanted: &Wanted) -> impl Future<Output = Result<Rows, Trouble>> + Send;
    /// Writes the changes and commits them durably; or rolls everything back.
    fn commit(&mut self, changes: Changes) -> impl Future<Output = Result<(), Trouble>> + Send;
    /// After an unanswered commit: forget everything held in memory and connect anew.
    fn reset(&mut self) -> impl Future<Output = Result<(), Trouble>> + Send;
    /// Tracked payments of a lane that are due and that no other process holds, and what its tracker holds in all. It
    /// changes nothing.
    fn due(&mut self, wanted: &DueWanted) -> impl Future<Output = Result<DueList, Trouble>> + Send;
    /// In a transaction of its own: looks at up to `most` records that say nothing any more about what stands, and
    /// removes those that ended more than `keep` ago by the database's clock. That is ended events, attempts of settled
    /// and rejected payments, and notes; payments, accounts and transfers stay for ever. Without it all is kept.
    fn prune(&mut self, _keep: Duration, _most: u32) -> impl Future<Output = Result<Pruned, Trouble>> + Send {
        std::future::ready(Ok(Pruned::default()))
    }
}

/// Records that were removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ended events.
    pub events: u64,
    /// Attempts over rails.
    pub attempts: u64,
    /// Lines of payments' lives.
    pub notes: u64,
    /// Whether there is more to look at.
    pub more: bool,
}

impl Pruned {
    /// All of them.
    #[must_use]
    pub fn rows(self) -> u64 {
        self.events.saturating_add(self.attempts).saturating_add(self.notes)
    }
}

/// Bounds of the writer.
#[derive(Debug, Clone, Copy)]
pub struct WriterLimits {
    /// Requests in one transaction.
    pub group: u16,
    /// A claim's length, by the database's clock.
    pub claim: Duration,
    /// Starts without an end after which an event is poison.
    pub poison_starts: u32,
    /// How long records of what ended are kept; `None`: for ever. It must be longer than any stream keeps what they
    /// tell of: an event delivered again after it would be judged anew.
    pub keep: Option<Duration>,
}
