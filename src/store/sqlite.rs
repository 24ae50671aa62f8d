//! The embedded store: one SQLite file, one writing process. Any SQLite client may read while it runs.

mod load;
mod open;
mod prune;
mod save;
mod tracker;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode};

use super::rows::{AccountKey, AccountRow, Changes, Rows, Wanted};
use super::tracker::{DueList, DueWanted};
use super::{Backend, Pruned, StoreLost, Trouble};
use crate::domain::{StoreId, StreamName};

pub(super) use load::{
    Fault, attempt_of, event_of, event_select, facts, instant, payment_of, payment_select, signed, unsigned,
};
pub use open::OpenError;
pub(super) use open::text;
pub(super) use tracker::place;

/// Accounts kept in memory; about 150 bytes each.
const ACCOUNTS_KEPT: usize = 16_384;

/// Streams kept in memory: a store belongs to one consumer, so there is one, and one more per recreation.
const STREAMS_KEPT: usize = 64;

/// How the file is opened.
#[derive(Clone)]
pub struct SqliteSettings {
    /// The database file; `-wal`, `-shm` and `.lock` appear beside it.
    pub path: PathBuf,
    /// How long a write waits for a lock that a foreign process holds.
    pub busy_timeout: Duration,
    /// Size of the write-ahead log from which on nothing is written until it can be reset.
    pub wal_limit_bytes: u64,
    /// Whether a store is made where there is none.
    pub create: bool,
    /// 128 random bits for the identity of a store that is made.
    pub store_id_bits: u128,
    /// The store's clock.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for SqliteSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteSettings")
            .field("path", &self.path)
            .field("busy_timeout", &self.busy_timeout)
            .field("wal_limit_bytes", &self.wal_limit_bytes)
            .field("create", &self.create)
            .finish_non_exhaustive()
    }
}

/// The highest sequence of a stream with a recorded end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HighWater {
    /// The stream.
    pub stream: StreamName,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// The sequence.
    pub sequence: u64,
}

/// What a store says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its identity.
    pub store_id: StoreId,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether no payment and no event is on record.
    pub empty: bool,
    /// One per stream it has served.
    pub high_water: Vec<HighWater>,
    /// Records of events that ended before this may have been removed; `None` where none ever was.
    pub pruned_before: Option<Timestamp>,
}

/// The embedded backend. It holds the lock file, and so the store, until it is dropped.
pub struct Sqlite {
    settings: SqliteSettings,
    connection: Option<Connection>,
    store_id: StoreId,
    /// Which file was opened.
    file: Option<(u64, u64)>,
    memory: Memory,
    round: prune::Round,
    /// Kept for its lock.
    _lock: open::Lock,
}

/// What is known without asking the database. Dropped whenever a transaction does not end as expected.
#[derive(Default)]
struct Memory {
    streams: HashMap<(StreamName, i64), Stream>,
    accounts: HashMap<AccountKey, AccountRow>,
    next_account: Option<i64>,
    /// Whether the table of starts has rows; nearly always it has none.
    starts: Option<bool>,
    /// `PRAGMA data_version`: moves when another connection has written.
    version: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    id: i64,
    high_water: u64,
}

impl Sqlite {
    /// Opens the store and takes it for this process; claims of the process before are ended.
    ///
    /// # Errors
    /// [`OpenError`], each with what to do.
    pub fn open(settings: SqliteSettings) -> Result<Self, OpenError> {
        let (lock, connection, store_id) = open::open(&settings)?;
        let file = open::identity(&settings.path);
        let (memory, round) = (Memory::default(), prune::Round::default());
        Ok(Self { settings, connection: Some(connection), store_id, file, memory, round, _lock: lock })
    }

    /// The store's identity.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// What the store says about itself, before it is started.
    ///
    /// # Errors
    /// [`StoreLost`] where it cannot be read.
    pub fn facts(&self) -> Result<Facts, StoreLost> {
        match &self.connection {
            Some(connection) => load::facts(connection).map_err(lost),
            None => Err(StoreLost::Closed),
        }
    }

    /// Has a connection to the very file that was opened.
    fn connected(&mut self) -> Result<(), Trouble> {
        if open::identity(&self.settings.path) != self.file {
            self.abandon();
            return Err(Trouble::Lost(StoreLost::Failed("its file was removed or replaced".to_owned())));
        }
        if self.connection.is_none() {
            self.connection = Some(open::connect(&self.settings, false).map_err(|fault| Trouble::Lost(lost(fault)))?);
        }
        Ok(())
    }

    fn begin_now(&mut self, wanted: &Wanted) -> Result<Rows, Trouble> {
        self.connected()?;
        let Some(connection) = &self.connection else { return Err(Trouble::Lost(StoreLost::Closed)) };
        let begun = begin(connection, &self.settings, &mut self.memory, wanted);
        if begun.is_err() {
            self.abandon();
        }
        begun
    }

    fn commit_now(&mut self, changes: &Changes) -> Result<(), Trouble> {
        let Some(connection) = &self.connection else { return Err(Trouble::Lost(StoreLost::Closed)) };
        if changes.is_empty() {
            // Nothing to wait for the disk for.
            return match connection.execute_batch("ROLLBACK") {
                Ok(()) => Ok(()),
                Err(error) => {
                    self.abandon();
                    Err(Trouble::Lost(lost(Fault::Sql(error))))
                }
            };
        }
        let written = save::save(connection, &mut self.memory, changes)
            .and_then(|()| connection.execute_batch("COMMIT").map_err(Fault::Sql));
        match written {
            Ok(()) => {
                self.memory.keep(changes);
                Ok(())
            }
            Err(fault) => {
                self.abandon();
                Err(trouble(fault))
            }
        }
    }

    fn prune_now(&mut self, keep: Duration, most: u32) -> Result<Pruned, Trouble> {
        self.connected()?;
        let Some(connection) = &self.connection else { return Err(Trouble::Lost(StoreLost::Closed)) };
        let pruned = bound_log(connection, &self.settings).and_then(|()| {
            let now = (self.settings.now)();
            prune::prune(connection, &mut self.round, now, keep, most).map_err(|fault| Trouble::Lost(lost(fault)))
        });
        if pruned.is_err() {
            self.abandon();
            self.round = prune::Round::default();
        }
        pruned
    }

    /// Ends what is open without keeping anything of it; a connection that cannot do that is dropped.
    fn abandon(&mut self) {
        self.memory = Memory::default();
        let usable = match &self.connection {
            Some(connection) => connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok(),
            None => true,
        };
        if !usable {
            self.connection = None;
        }
    }

    fn reset_now(&mut self) -> Result<(), Trouble> {
        self.memory = Memory::default();
        self.connection = None;
        self.connection = Some(open::connect(&self.settings, false).map_err(|fault| Trouble::Lost(lost(fault)))?);
        Ok(())
    }
}

impl fmt::Debug for Sqlite {
    // What it keeps in memory are balances.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite")
            .field("store_id", &self.store_id)
            .field("path", &self.settings.path)
            .finish_non_exhaustive()
    }
}

impl Backend for Sqlite {
    async fn begin(&mut self, wanted: &Wanted) -> Result<Rows, Trouble> {
        self.begin_now(wanted)
    }

    async fn commit(&mut self, changes: Changes) -> Result<(), Trouble> {
        self.commit_now(&changes)
    }

    async fn reset(&mut self) -> Result<(), Trouble> {
        self.reset_now()
    }

    async fn due(&mut self, wanted: &DueWanted) -> Result<DueList, Trouble> {
        self.connected()?;
        let Some(connection) = &self.connection else { return Err(Trouble::Lost(StoreLost::Closed)) };
        tracker::due(connection, wanted, wanted.at.unwrap_or_else(&*self.settings.now))
            .map_err(|fault| Trouble::Lost(lost(fault)))
    }

    async fn prune(&mut self, keep: Duration, most: u32) -> Result<Pruned, Trouble> {
        self.prune_now(keep, most)
    }
}

impl Memory {
    fn keep(&mut self, changes: &Changes) {
        if self.accounts.len().saturating_add(changes.new_accounts.len()) > ACCOUNTS_KEPT {
            self.accounts.clear();
        }
        for (key, row) in changes.new_accounts.iter().chain(&changes.changed_accounts) {
            self.accounts.insert(key.clone(), row.clone());
        }
        if self.streams.len() > STREAMS_KEPT {
            self.streams.clear();
        }
    }
}

fn begin(
    connection: &Connection,
    settings: &SqliteSettings,
    memory: &mut Memory,
    wanted: &Wanted,
) -> Result<Rows, Trouble> {
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").map_err(|error| Trouble::Lost(lost(Fault::Sql(error))))?;
    }
    bound_log(connection, settings)?;
    connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| Trouble::Lost(lost(Fault::Sql(error))))?;
    load::load(connection, memory, wanted, (settings.now)()).map_err(|fault| Trouble::Lost(lost(fault)))
}

/// Keeps the write-ahead log under its bound: a long reader pins it, and then it would grow until the disk is full.
fn bound_log(connection: &Connection, settings: &SqliteSettings) -> Result<(), Trouble> {
    let log = open::beside(&settings.path, "-wal");
    let size = || std::fs::metadata(&log).map_or(0, |meta| meta.len());
    if size() <= settings.wal_limit_bytes {
        return Ok(());
    }
    // Its row says whether a reader was in the way; the file's size is what counts.
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        .map_err(|error| Trouble::Lost(lost(Fault::Sql(error))))?;
    match size() {
        bytes if bytes > settings.wal_limit_bytes => {
            Err(Trouble::Lost(StoreLost::LogPinned { bytes, bound: settings.wal_limit_bytes }))
        }
        _ => Ok(()),
    }
}

/// The database's complaint without any value: a code and its meaning.
fn lost(fault: Fault) -> StoreLost {
    match fault {
        Fault::Row(what) => StoreLost::Failed(format!("a stored row cannot be read: {what}")),
        Fault::Sql(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreLost::Locked,
            Some(ErrorCode::DiskFull) => StoreLost::Full,
            Some(_) | None => StoreLost::Failed(open::text(&error)),
        },
    }
}

fn trouble(fault: Fault) -> Trouble {
    match &fault {
        Fault::Sql(error) => match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
                Trouble::Content(open::text(error))
            }
            Some(_) | None => Trouble::Lost(lost(fault)),
        },
        Fault::Row(what) => Trouble::Content((*what).to_owned()),
    }
}
