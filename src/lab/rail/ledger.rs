//! What really happened, on disk before any reply: one row a payment, one row an effect.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::{Currency, Decimal, Money, RailKey};
use crate::lab::conformance::{self, Effect};

/// The ledger's file. Everything goes through one connection.
pub struct Ledger(Mutex<Connection>);

/// How a new payment is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// Settled now; `status` is the reply to every POST with the key.
    Settled { status: Option<u16> },
    /// Settled at this time (Unix milliseconds).
    Later { at: i64 },
    /// Refused.
    Rejected { code: String },
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: String,
    pub(super) reference: String,
    pub(super) code: Option<String>,
    pub(super) stored_status: Option<u16>,
}

/// Money that moved once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    /// What it is known by.
    pub key: String,
    /// The payment that the order named.
    pub payment_id: String,
    /// How much, where the order said it in a currency that there is.
    pub amount: Option<Money>,
    /// The reference of the reply.
    pub reference: String,
}

/// The ledger in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Keys that were taken.
    pub keys: u32,
    /// Effects: each is money that moved.
    pub effects: u32,
    /// Different `payment_id`s among them.
    pub payments: u32,
    /// Keys that were refused.
    pub rejected: u32,
    /// Keys that are not final.
    pub in_progress: u32,
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, effects, payments, rejected, in_progress } = self;
        write!(
            f,
            "{keys} keys: {effects} effects of {payments} payments, {rejected} rejected, {in_progress} in progress"
        )
    }
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS keys (
  key TEXT PRIMARY KEY, fingerprint BLOB NOT NULL, payment_id TEXT, currency TEXT, value TEXT, state TEXT NOT NULL,
  code TEXT, stored_status INTEGER, due_ms INTEGER) STRICT;
CREATE INDEX IF NOT EXISTS due ON keys (due_ms) WHERE state = 'in_progress';
CREATE TABLE IF NOT EXISTS effects (
  number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, payment_id TEXT, currency TEXT, value TEXT,
  at_ms INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS effects_by_key ON effects (key, number);";

impl Ledger {
    /// Opens the file, or makes it. A commit is on disk before it is answered.
    ///
    /// # Errors
    /// What the database says.
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(Mutex::new(connection)))
    }

    /// One that is gone with its process, for a service that stands in for a distant one: its disk is not measured.
    ///
    /// # Errors
    /// What the database says.
    pub fn in_memory() -> rusqlite::Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(Mutex::new(connection)))
    }

    /// Opens a ledger that is there, beside the service that writes it.
    ///
    /// # Errors
    /// What the database says.
    pub fn beside(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(Self(Mutex::new(connection)))
    }

    /// Every effect under a key; under all keys without one.
    ///
    /// # Errors
    /// What the database says.
    pub fn effects(&self, key: Option<&str>) -> rusqlite::Result<Vec<Paid>> {
        let connection = self.lock();
        let mut effects = connection.prepare_cached(
            "SELECT key, coalesce(payment_id, ''), currency, value, \
             (SELECT min(number) FROM effects first WHERE first.key = effects.key) \
             FROM effects WHERE ?1 IS NULL OR key = ?1 ORDER BY number",
        )?;
        let rows = effects.query_map([key], |row| {
            let (currency, value): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
            let amount = currency.zip(value).and_then(|(currency, value)| {
                let currency = Currency::parse(&currency)?;
                Money::new(Decimal::parse(&value)?.at_scale(currency.exponent())?, currency)
            });
            let (key, payment_id) = (row.get(0)?, row.get(1)?);
            Ok(Paid { key, payment_id, amount, reference: reference(row.get(4)?) })
        })?;
        rows.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a payment, or gives what stands, paid once more where keys do not count; `None` where the key was used with
    /// another body.
    pub(super) fn take(
        &self,
        key: &str,
        body: &[u8],
        taken: &Taken,
        idempotent: bool,
        now: i64,
    ) -> rusqlite::Result<Option<Standing>> {
        let fingerprint = Sha256::digest(body).to_vec();
        let mut connection = self.lock();
        let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let known: Option<Vec<u8>> = tx
            .prepare_cached("SELECT fingerprint FROM keys WHERE key = ?1")?
            .query_row([key], |row| row.get(0))
            .optional()?;
        match known {
            Some(known) if known != fingerprint => return Ok(None),
            Some(_) if !idempotent => pay(&tx, key, now)?,
            Some(_) => {}
            None => insert(&tx, key, &fingerprint, body, taken, now)?,
        }
        settle_due(&tx, now)?;
        let standing = standing(&tx, key)?;
        tx.commit()?;
        Ok(standing)
    }

    /// What stands under a key.
    pub(super) fn look(&self, key: &str, now: i64) -> rusqlite::Result<Option<Standing>> {
        let mut connection = self.lock();
        let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        settle_due(&tx, now)?;
        let standing = standing(&tx, key)?;
        tx.commit()?;
        Ok(standing)
    }

    /// Every effect as a line of JSON, up to the first that `take` fails with.
    ///
    /// # Errors
    /// What the database says; inside it what `take` says.
    pub fn each_effect<E>(&self, mut take: impl FnMut(&str) -> Result<(), E>) -> rusqlite::Result<Result<(), E>> {
        let connection = self.lock();
        let mut effects = connection.prepare(
            "SELECT json_object('key', key, 'payment_id', payment_id, 'currency', currency, 'value', value, \
             'reference', printf('rail-%09d', (SELECT min(number) FROM effects f WHERE f.key = effects.key))) \
             FROM effects ORDER BY number",
        )?;
        let mut rows = effects.query([])?;
        while let Some(row) = rows.next()? {
            if let Err(stop) = take(row.get_ref(0)?.as_str()?) {
                return Ok(Err(stop));
            }
        }
        Ok(Ok(()))
    }

    /// The ledger in numbers, with what is due by now.
    ///
    /// # Errors
    /// What the database says.
    pub fn sums(&self, now: i64) -> rusqlite::Result<Sums> {
        let mut connection = self.lock();
        let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        settle_due(&tx, now)?;
        let count = |sql: &str| tx.query_row(sql, [], |row| row.get::<_, u32>(0));
        let sums = Sums {
            keys: count("SELECT count(*) FROM keys")?,
            effects: count("SELECT count(*) FROM effects")?,
            payments: count("SELECT count(DISTINCT payment_id) FROM effects")?,
            rejected: count("SELECT count(*) FROM keys WHERE state = 'rejected'")?,
            in_progress: count("SELECT count(*) FROM keys WHERE state = 'in_progress'")?,
        };
        tx.commit()?;
        Ok(sums)
    }
}

fn insert(
    tx: &Transaction<'_>,
    key: &str,
    fingerprint: &[u8],
    body: &[u8],
    taken: &Taken,
    now: i64,
) -> rusqlite::Result<()> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let (state, code, status, due) = match taken {
        Taken::Settled { status } => ("settled", None, *status, None),
        Taken::Later { at } => ("in_progress", None, None, Some(*at)),
        Taken::Rejected { code } => ("rejected", Some(code.as_str()), None, None),
    };
    tx.prepare_cached(
        "INSERT INTO keys (key, fingerprint, payment_id, currency, value, state, code, stored_status, due_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        key,
        fingerprint,
        text("/payment_id"),
        text("/amount/currency"),
        text("/amount/value"),
        state,
        code,
        status,
        due
    ])?;
    if state == "settled" { pay(tx, key, now) } else { Ok(()) }
}

fn pay(tx: &Transaction<'_>, key: &str, now: i64) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO effects (key, payment_id, currency, value, at_ms) \
         SELECT key, payment_id, currency, value, ?2 FROM keys WHERE key = ?1",
    )?
    .execute(params![key, now])?;
    Ok(())
}

/// Settles what was taken to be settled by now.
fn settle_due(tx: &Transaction<'_>, now: i64) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO effects (key, payment_id, currency, value, at_ms) SELECT key, payment_id, currency, value, due_ms \
         FROM keys WHERE state = 'in_progress' AND due_ms <= ?1",
    )?
    .execute([now])?;
    tx.prepare_cached("UPDATE keys SET state = 'settled' WHERE state = 'in_progress' AND due_ms <= ?1")?
        .execute([now])?;
    Ok(())
}

/// As replies name the first effect of a key.
fn reference(number: i64) -> String {
    format!("rail-{number:09}")
}

fn standing(tx: &Transaction<'_>, key: &str) -> rusqlite::Result<Option<Standing>> {
    let sql =
        "SELECT state, code, stored_status, (SELECT min(number) FROM effects WHERE key = ?1) FROM keys WHERE key = ?1";
    let mut standing = tx.prepare_cached(sql)?;
    let standing = standing.query_row([key], |row| {
        let number: Option<i64> = row.get(3)?;
        let reference = number.map_or_else(String::new, reference);
        Ok(Standing { state: row.get(0)?, reference, code: row.get(1)?, stored_status: row.get(2)? })
    });
    standing.optional()
}

impl conformance::Ledger for Ledger {
    async fn effects(&self, key: &RailKey) -> Result<Vec<Effect>, String> {
        let effects = self.effects(Some(key.as_str())).map_err(|error| error.to_string())?;
        Ok(effects.into_iter().map(|paid| Effect { amount: paid.amount }).collect())
    }
}
