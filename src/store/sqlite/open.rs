//! Opening: the lock, the pragmas, the schema, the claims that a dead process left.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::super::schema;
use super::{Fault, SqliteSettings};
use crate::domain::StoreId;

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no store.
    #[error("there is no store at {}: run `acquit provision` to make one, or correct the path", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Another process has it.
    #[error(
        "another worker process ({}) has this store: an embedded store serves exactly one process; stop it, or use a \
         store of another kind for a fleet",
        pid.map_or_else(|| "its pid cannot be read".to_owned(), |pid| format!("pid {pid}"))
    )]
    AlreadyRunning {
        /// The process that holds the lock, where its lock file says so.
        pid: Option<u32>,
    },
    /// It was written by a newer version.
    #[error("the store's schema is version {found}, this program knows up to {known}: run the newer version")]
    SchemaTooNew {
        /// The store's version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// Another program holds its write lock for longer than the busy timeout.
    #[error("the store at {} is locked by another program: end that program's transaction, then start again", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{} is not a store of Acquit: correct the path, or move the file away", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The file or its folder cannot be used.
    #[error("the store at {} cannot be opened ({problem}): check that the folder exists and is writable", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's or the database's words.
        problem: String,
    },
}

/// The lock on a store. It ends with the process, however that ends.
pub(super) struct Lock(File);

impl Drop for Lock {
    /// By name, not by closing the file: a child that this process has forked and that has not yet begun its own
    /// program still has a copy of it, which would keep the store locked for a moment.
    fn drop(&mut self) {
        // Where it fails, closing the file ends it.
        drop(self.0.unlock());
    }
}

pub(super) fn open(settings: &SqliteSettings) -> Result<(Lock, Connection, StoreId), OpenError> {
    let path = &settings.path;
    if !settings.create && !path.exists() {
        return Err(OpenError::Missing { path: path.clone() });
    }
    let lock = lock(path)?;
    let connection = connect(settings, settings.create).map_err(|fault| unusable(path, fault))?;
    prepare(&connection, settings)?;
    let store_id = connection
        .query_row("SELECT value FROM meta WHERE key = 'store_id'", [], |row| row.get::<_, String>(0))
        .map_err(|error| unusable(path, Fault::Sql(error)))?;
    let store_id = StoreId::parse(&store_id).map_err(|_| OpenError::NotAStore { path: path.clone() })?;
    // The lock proves that whoever made these claims is gone.
    connection
        .execute("UPDATE payments SET claim_until = 0 WHERE state IN ('open', 'held') AND claim_until > 0", [])
        .map_err(|error| unusable(path, Fault::Sql(error)))?;
    Ok((lock, connection, store_id))
}

/// One process writes. The file stays.
fn lock(path: &Path) -> Result<Lock, OpenError> {
    let io = |error: std::io::Error| OpenError::Io { path: path.to_owned(), problem: error.to_string() };
    let file = beside(path, ".lock");
    let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // What cannot be read is not known; that the lock is held is.
            let pid = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::AlreadyRunning { pid });
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    lock.set_len(0).map_err(io)?;
    lock.seek(SeekFrom::Start(0)).map_err(io)?;
    writeln!(lock, "{}", std::process::id()).map_err(io)?;
    Ok(Lock(lock))
}

/// A connection with the settings that durability rests on. `create` only at the start: a file that vanishes later is
/// a fault, not a fresh store.
pub(super) fn connect(settings: &SqliteSettings, create: bool) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let flags = if create { flags | OpenFlags::SQLITE_OPEN_CREATE } else { flags };
    let connection = Connection::open_with_flags(&settings.path, flags)?;
    connection.busy_timeout(settings.busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(48);
    // Without it a bound value may have a statement planned, and so parsed, anew.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Only a new file takes it on. The index on payment ids is written at random places: smaller pages make the log
    // of a group smaller (measured: a tenth less processor time a payment than with 4 KiB; 1 KiB was slower again).
    connection.execute_batch("PRAGMA page_size = 2048")?;
    let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
    if mode != "wal" {
        return Err(Fault::Row("the file system does not allow a write-ahead log"));
    }
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192; PRAGMA trusted_schema = OFF;",
    )?;
    // A checkpoint holds up every payment for a sync of the whole file, and pages written twice since the last one are
    // copied once: rarer than the default, well under the bound (measured: 64 MiB settled a tenth more than 16).
    let pages = (settings.wal_limit_bytes / 4 / 2048).clamp(64, 32_768);
    connection.query_row(&format!("PRAGMA wal_autocheckpoint = {pages}"), [], |_| Ok(()))?;
    Ok(connection)
}

fn prepare(connection: &Connection, settings: &SqliteSettings) -> Result<(), OpenError> {
    let path = &settings.path;
    let pragma = |name: &str| {
        connection
            .query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0))
            .map_err(|error| unusable(path, Fault::Sql(error)))
    };
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
        .map_err(|error| unusable(path, Fault::Sql(error)))?;
    match (application, version) {
        (0, 0) if tables == 0 && settings.create => make(connection, settings).map_err(|fault| unusable(path, fault)),
        (0, 0) if tables == 0 => Err(OpenError::Missing { path: path.clone() }),
        (schema::APPLICATION_ID, schema::VERSION) => Ok(()),
        // The lock is held: nobody else writes, and whoever reads finds the version before or the one after.
        (schema::APPLICATION_ID, found) if (1..schema::VERSION).contains(&found) => {
            raise(connection, found).map_err(|fault| unusable(path, fault))
        }
        (schema::APPLICATION_ID, found) if found > schema::VERSION => {
            Err(OpenError::SchemaTooNew { found, known: schema::VERSION })
        }
        _ => Err(OpenError::NotAStore { path: path.clone() }),
    }
}

fn make(connection: &Connection, settings: &SqliteSettings) -> Result<(), Fault> {
    let id = StoreId::from_random(settings.store_id_bits).to_string();
    let made = (settings.now)().as_millisecond().to_string();
    let (application, version) = (schema::APPLICATION_ID, schema::VERSION);
    let transaction = connection.unchecked_transaction()?;
    steps(&transaction, 0)?;
    transaction.execute("INSERT INTO meta VALUES ('store_id', ?1), ('created_at', ?2)", [&id, &made])?;
    transaction.execute_batch(&format!("PRAGMA application_id = {application}; PRAGMA user_version = {version};"))?;
    transaction.commit()?;
    Ok(())
}

/// Brings a store of an older version to this one, all or nothing.
fn raise(connection: &Connection, from: i64) -> Result<(), Fault> {
    let transaction = connection.unchecked_transaction()?;
    steps(&transaction, from)?;
    transaction.pragma_update(None, "user_version", schema::VERSION)?;
    transaction.commit()?;
    Ok(())
}

fn steps(connection: &Connection, from: i64) -> Result<(), Fault> {
    for (_, sql) in schema::STEPS.iter().filter(|(version, _)| *version > from) {
        connection.execute_batch(sql)?;
    }
    Ok(())
}

fn unusable(path: &Path, fault: Fault) -> OpenError {
    let path = path.to_owned();
    match fault {
        Fault::Sql(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            OpenError::NotAStore { path }
        }
        Fault::Sql(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
            OpenError::Locked { path }
        }
        Fault::Sql(error) => OpenError::Io { path, problem: text(&error) },
        Fault::Row(what) => OpenError::Io { path, problem: what.to_owned() },
    }
}

/// Which file a path names at the moment. A database that is moved away or replaced under a running worker would take
/// commits that no restart finds again.
#[cfg(unix)]
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Which file a path names at the moment: only whether there is one.
#[cfg(not(unix))]
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    path.exists().then_some((0, 0))
}

/// A database error in the database's own words for its code: its messages may hold more.
pub(in crate::store) fn text(error: &rusqlite::Error) -> String {
    let Some(code) = error.sqlite_error() else { return "a statement or a value does not fit the schema".to_owned() };
    code.to_string()
}

/// A file beside the database: the same name with a suffix.
pub(in crate::store) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
