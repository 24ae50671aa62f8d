//! What was read of streams and store, in a SQLite file of our own: on disk, so that memory stays flat, and kept
//! between runs where a file is named, so that a later run reads only what is new.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::{EventId, Money, StreamName};
use crate::operate::Trouble;

const VERSION: i64 = 4;

const SQL: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    read_to INTEGER NOT NULL DEFAULT 0,    -- last sequence that was read
    first_seq INTEGER NOT NULL DEFAULT 0,  -- at the start of the last run; events below it are gone from the stream
    live INTEGER NOT NULL DEFAULT 0,       -- 1: the stream of this name that exists now
    UNIQUE (name, created_ms)
) STRICT;
CREATE TABLE events (
    stream INTEGER NOT NULL, seq INTEGER NOT NULL,
    scheme TEXT NOT NULL,
    payment_id TEXT, fp BLOB, currency TEXT, minor INTEGER,  -- where they could be read
    sha BLOB NOT NULL,
    at_ms INTEGER NOT NULL,                -- a number may be given out again: what the store knows must have its time
    class TEXT NOT NULL DEFAULT '',        -- what the store says became of it
    acked INTEGER NOT NULL DEFAULT 0,      -- 1: the broker will not deliver it again
    PRIMARY KEY (stream, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE outcomes (
    stream INTEGER NOT NULL, seq INTEGER NOT NULL,
    kind TEXT NOT NULL, payment_id TEXT NOT NULL,
    origin TEXT,                           -- <created ms>.<seq> of the event, where it is that event's own outcome
    currency TEXT, minor INTEGER, rail_ref TEXT,
    effect TEXT NOT NULL,                  -- what must be the same each time it is told
    PRIMARY KEY (stream, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX outcomes_by_payment ON outcomes (payment_id, kind);
CREATE TABLE letters (
    stream INTEGER NOT NULL, seq INTEGER NOT NULL,
    e_stream INTEGER NOT NULL, e_seq INTEGER NOT NULL, sha BLOB NOT NULL,
    PRIMARY KEY (stream, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX letters_by_event ON letters (e_stream, e_seq);
CREATE TABLE discards (stream INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (stream, seq)) STRICT, WITHOUT ROWID;
-- From here on: as of the last run, written anew by each.
CREATE TABLE payments (
    row INTEGER PRIMARY KEY, payment_id TEXT NOT NULL, fp BLOB NOT NULL, state TEXT NOT NULL,
    stream INTEGER NOT NULL, seq INTEGER NOT NULL, currency TEXT NOT NULL, minor INTEGER NOT NULL,
    rail TEXT NOT NULL, code TEXT, finished_ms INTEGER, requested_ms INTEGER NOT NULL, attempts INTEGER NOT NULL,
    tracked INTEGER NOT NULL               -- 1: the store owns it in place of its event, its outcome is still to be told
) STRICT;
CREATE INDEX payments_by_id ON payments (payment_id);
CREATE INDEX payments_by_event ON payments (stream, seq);
CREATE TABLE ends (
    stream INTEGER NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, payment_id TEXT, code TEXT,
    at_ms INTEGER NOT NULL, requested_ms INTEGER NOT NULL,
    PRIMARY KEY (stream, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX ends_by_payment ON ends (payment_id);
CREATE TABLE ledgers (
    rail TEXT PRIMARY KEY,
    until_ms INTEGER NOT NULL              -- payments settled later may be missing from it
) STRICT, WITHOUT ROWID;
CREATE TABLE effects (                     -- money that a rail moved, as its own ledger has it
    number INTEGER PRIMARY KEY, rail TEXT NOT NULL, key TEXT, payment_id TEXT, currency TEXT NOT NULL,
    minor INTEGER NOT NULL, reference TEXT
) STRICT;
CREATE INDEX effects_by_payment ON effects (payment_id);
CREATE INDEX effects_by_key ON effects (key) WHERE payment_id IS NULL;
CREATE TABLE cover (
    stream INTEGER NOT NULL, scheme TEXT NOT NULL,
    floor INTEGER NOT NULL,                -- below or at it everything is acknowledged
    delivered INTEGER NOT NULL,
    served INTEGER NOT NULL,               -- 0: no consumer takes this scheme
    PRIMARY KEY (stream, scheme)
) STRICT, WITHOUT ROWID;
";

/// The scratch database.
pub(super) struct Scratch {
    db: Connection,
    streams: HashMap<(StreamName, i64), i64>,
}

/// One event, as it is compared.
pub(super) struct EventFact {
    pub(super) stream: i64,
    pub(super) seq: u64,
    pub(super) scheme: String,
    pub(super) content: Option<(String, [u8; 32], Option<Money>)>,
    pub(super) sha: [u8; 32],
    pub(super) at_ms: i64,
}

/// One outcome event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutcomeFact {
    pub(super) kind: &'static str,
    pub(super) payment_id: String,
    pub(super) origin: Option<String>,
    pub(super) amount: Option<Money>,
    pub(super) rail_ref: Option<String>,
    pub(super) effect: String,
}

pub(super) fn broken(error: &rusqlite::Error) -> Trouble {
    Trouble::Local { what: format!("the state file of reconcile: {error}") }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        broken(&error)
    }
}

/// A sequence as SQLite holds it.
pub(super) fn signed(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

impl Scratch {
    /// Opens `path`, or a private temporary database that leaves nothing behind. `store` names the store it belongs to.
    pub(super) fn open(path: Option<&Path>, store: &str) -> Result<Self, Trouble> {
        let db = match path {
            Some(path) => Connection::open(path)?,
            None => Connection::open("")?,
        };
        // Losing the file costs one reading of the streams, so it is not synced. The journal is on disk: in memory it
        // would grow with every row that an update touches.
        db.execute_batch(
            "PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384; \
             PRAGMA temp_store = FILE;",
        )?;
        db.set_prepared_statement_cache_capacity(32);
        let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version == 0 {
            db.execute_batch(SQL)?;
            db.execute("INSERT INTO meta VALUES ('store', ?1)", [store])?;
            db.pragma_update(None, "user_version", VERSION)?;
        } else if version != VERSION {
            return Err(Trouble::BadInput { what: "the state file is of another version: remove it".to_owned() });
        }
        let known: String = db.query_row("SELECT value FROM meta WHERE key = 'store'", [], |row| row.get(0))?;
        if known != store {
            return Err(Trouble::BadInput {
                what: "the state file belongs to another store: name another one".to_owned(),
            });
        }
        Ok(Self { db, streams: HashMap::new() })
    }

    pub(super) fn db(&self) -> &Connection {
        &self.db
    }

    /// Everything since [`Scratch::begin`] stands, or nothing.
    pub(super) fn begin(&self) -> Result<(), Trouble> {
        Ok(self.db.execute_batch("BEGIN")?)
    }

    pub(super) fn commit(&self) -> Result<(), Trouble> {
        Ok(self.db.execute_batch("COMMIT")?)
    }

    /// The number of a stream of this name and creation time.
    pub(super) fn stream(&mut self, name: &StreamName, created_ms: i64) -> Result<i64, Trouble> {
        let key = (name.clone(), created_ms);
        if let Some(id) = self.streams.get(&key) {
            return Ok(*id);
        }
        self.db.execute(
            "INSERT INTO streams (name, created_ms) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![name.as_str(), created_ms],
        )?;
        let id = self.db.query_row(
            "SELECT id FROM streams WHERE name = ?1 AND created_ms = ?2",
            params![name.as_str(), created_ms],
            |row| row.get(0),
        )?;
        self.streams.insert(key, id);
        Ok(id)
    }

    /// The stream that exists now, and the last sequence that was read of it.
    pub(super) fn live(&mut self, name: &StreamName, created_ms: i64, first_seq: u64) -> Result<(i64, u64), Trouble> {
        let id = self.stream(name, created_ms)?;
        self.db.execute("UPDATE streams SET live = (id = ?1) WHERE name = ?2", params![id, name.as_str()])?;
        self.db.execute("UPDATE streams SET first_seq = ?2 WHERE id = ?1", params![id, signed(first_seq)])?;
        let read_to: i64 = self.db.query_row("SELECT read_to FROM streams WHERE id = ?1", [id], |row| row.get(0))?;
        Ok((id, u64::try_from(read_to).unwrap_or(0)))
    }

    /// Forgets what the streams hold no more: a store that removes old records has none of it perhaps. What they still
    /// hold is younger than anything it removes.
    pub(super) fn forget_gone(&self) -> Result<(), Trouble> {
        for table in ["events", "outcomes", "letters"] {
            self.db.execute_batch(&format!(
                "DELETE FROM {table} WHERE NOT EXISTS (SELECT 1 FROM streams s \
                 WHERE s.id = {table}.stream AND s.live AND {table}.seq >= s.first_seq)"
            ))?;
        }
        Ok(())
    }

    pub(super) fn read_to(&self, stream: i64, sequence: u64) -> Result<(), Trouble> {
        self.db.prepare_cached("UPDATE streams SET read_to = ?2 WHERE id = ?1")?.execute((stream, signed(sequence)))?;
        Ok(())
    }

    pub(super) fn put_event(&self, event: &EventFact) -> Result<(), Trouble> {
        let amount = event.content.as_ref().and_then(|(_, _, amount)| *amount);
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO events (stream, seq, scheme, payment_id, fp, currency, minor, sha, at_ms) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                event.stream,
                signed(event.seq),
                event.scheme,
                event.content.as_ref().map(|(id, _, _)| id),
                event.content.as_ref().map(|(_, fp, _)| fp.as_slice()),
                amount.map(|a| a.currency().code()),
                amount.map(Money::minor),
                event.sha.as_slice(),
                event.at_ms,
            ])?;
        Ok(())
    }

    pub(super) fn put_outcome(&self, stream: i64, seq: u64, outcome: &OutcomeFact) -> Result<(), Trouble> {
        self.db
            .prepare_cached("INSERT OR REPLACE INTO outcomes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
            .execute(params![
                stream,
                signed(seq),
                outcome.kind,
                outcome.payment_id,
                outcome.origin,
                outcome.amount.map(|a| a.currency().code()),
                outcome.amount.map(Money::minor),
                outcome.rail_ref,
                outcome.effect,
            ])?;
        Ok(())
    }

    pub(super) fn put_letter(&mut self, stream: i64, seq: u64, event: &EventId, sha: &[u8; 32]) -> Result<(), Trouble> {
        let of = self.stream(&event.stream, event.created_ms)?;
        self.db.prepare_cached("INSERT OR REPLACE INTO letters VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
            stream,
            signed(seq),
            of,
            signed(event.sequence),
            sha.as_slice()
        ])?;
        Ok(())
    }

    pub(super) fn put_discard(&mut self, event: &EventId) -> Result<(), Trouble> {
        let of = self.stream(&event.stream, event.created_ms)?;
        self.db
            .prepare_cached("INSERT OR IGNORE INTO discards VALUES (?1, ?2)")?
            .execute((of, signed(event.sequence)))?;
        Ok(())
    }

    /// `<stream>.<created ms>.<sequence>` of an event.
    pub(super) fn token(&self, stream: i64, seq: i64) -> Result<String, Trouble> {
        let found = self
            .db
            .prepare_cached("SELECT name || '.' || created_ms FROM streams WHERE id = ?1")?
            .query_row([stream], |row| row.get::<_, String>(0))
            .optional()?;
        Ok(format!("{}.{seq}", found.unwrap_or_default()))
    }
}
