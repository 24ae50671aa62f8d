//! The store of a fleet: one PostgreSQL database, any number of worker processes. Claims end by the database's clock.
//!
//! One connection writes for a process; a group is two round trips: begin, lock and load in one, write and commit in
//! the other. Locks are taken in one order everywhere: events, payments by id, accounts by number, debtors' days by key
//! (where there is a limit, which costs a third round trip), then what is inserted,
//! each table by its key. Whatever two processes do all the same to each other's groups (a unique key, a deadlock) is
//! [`Trouble::Again`]: the group is decided anew over the rows that stand then.

mod accounts;
mod connect;
mod durability;
mod instant;
mod load;
mod migrate;
mod prune;
mod save;
mod spending;
mod sql;
mod tracker;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::rows::{Changes, Rows, Wanted};
use super::tracker::{DueList, DueWanted};
use super::{Backend, Pruned, StoreLost, Trouble};
use crate::domain::{StoreId, StreamName};
use connect::Session;

#[cfg(test)]
pub(super) use connect::config;
pub(super) use connect::{Fault, client, text as fault_text};
pub use connect::{PostgresError, is_schema_name, url_problem};
pub use durability::{Shortfall, shortfalls};
pub(super) use load::{attempt_of, event_of, money, payment_of, signed, unsigned};
pub(super) use migrate::verify;
pub use migrate::{Provisioned, migrate};
pub(super) use sql::{event_columns, payment_columns};
pub(super) use tracker::tracking;

/// Numbers taken at once; never fewer than a group can need.
const BLOCK: i64 = 4096;

/// Waits between attempts to connect.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How the database is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresSettings {
    /// `postgres://user@host:5432/database`, without a password.
    pub url: String,
    /// Holds the password; read at each connection, so that it can be changed under a running worker.
    pub password_file: Option<PathBuf>,
    /// Certificates that sign the server's; the system's where there is none.
    pub ca_file: Option<PathBuf>,
    /// The schema that holds the tables: a lower-case name of letters, digits and `_`.
    pub schema: String,
    /// Whether a connection over a network may do without TLS. One to this machine may in any case.
    pub allow_plaintext: bool,
    /// How long a statement may take.
    pub statement_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A url may hold a password, although it should not.
        f.debug_struct("PostgresSettings").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// A backend over one connection, made again whenever it is lost.
pub struct Postgres {
    settings: PostgresSettings,
    store_id: StoreId,
    session: Option<Session>,
    memory: Memory,
    wait: Duration,
    not_before: Option<Instant>,
}

/// What is known without asking the database.
#[derive(Default)]
struct Memory {
    streams: HashMap<(StreamName, i64), i64>,
    payments: Block,
    accounts: Block,
    known: accounts::Known,
    /// This process's round of pruning, while its session holds the lock for it.
    round: Option<prune::Round>,
}

/// Free row numbers of this process.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    next: i64,
    end: i64,
}

impl Block {
    fn holds(self, wanted: usize) -> bool {
        i64::try_from(wanted).is_ok_and(|wanted| self.end.saturating_sub(self.next) >= wanted)
    }

    /// The numbers of one value of a block sequence.
    fn of(value: i64) -> Self {
        let end = value.saturating_mul(BLOCK);
        Self { next: end.saturating_sub(BLOCK).saturating_add(1), end: end.saturating_add(1) }
    }

    fn used(&mut self, last: Option<i64>) {
        self.next = last.map_or(self.next, |last| self.next.max(last.saturating_add(1)));
    }
}

impl Postgres {
    /// Connects once to see that the store is there, is ours and has this version's schema.
    ///
    /// # Errors
    /// [`PostgresError`], each with what to do.
    pub async fn open(settings: PostgresSettings) -> Result<Self, PostgresError> {
        let client = connect::client(&settings).await?;
        let store_id = migrate::verify(&client).await?;
        Ok(Self { settings, store_id, session: None, memory: Memory::default(), wait: FIRST_WAIT, not_before: None })
    }

    /// The store's identity.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// A page of what ended before a moment that a test names.
    #[cfg(test)]
    #[cfg(feature = "lab")]
    pub(super) async fn prune_before(&mut self, before: jiff::Timestamp, most: u32) -> Result<Pruned, Trouble> {
        self.session().await?;
        let Some(session) = &self.session else { return Err(Trouble::Lost(StoreLost::Closed)) };
        prune::page(session, &mut self.memory, before, most).await.map_err(connect::Fault::trouble)
    }

    async fn session(&mut self) -> Result<(), Trouble> {
        if self.session.as_ref().is_some_and(Session::is_open) {
            return Ok(());
        }
        self.forget();
        if let Some(until) = self.not_before
            && Instant::now() < until
        {
            return Err(Trouble::Lost(StoreLost::Failed("not connected to the database".to_owned())));
        }
        match Session::connect(&self.settings).await {
            Ok(session) => {
                (self.session, self.wait, self.not_before) = (Some(session), FIRST_WAIT, None);
                Ok(())
            }
            Err(error) => {
                self.not_before = Instant::now().checked_add(self.wait);
                self.wait = self.wait.saturating_mul(2).min(LONGEST_WAIT);
                Err(Trouble::Lost(StoreLost::Failed(error.to_string())))
            }
        }
    }

    fn forget(&mut self) {
        self.session = None;
        self.memory = Memory::default();
    }

    /// Ends what is open without keeping anything of it; a connection that cannot do that is dropped.
    async fn abandon(&mut self) {
        let Some(session) = &self.session else { return };
        match timeout(self.settings.statement_timeout, session.client.batch_execute("ROLLBACK")).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => self.forget(),
        }
    }

    /// The statement's own timeout is the server's; this one is for a server that says nothing at all.
    fn patience(&self) -> Duration {
        self.settings.statement_timeout.saturating_add(Duration::from_secs(2))
    }

    async fn settle<T>(
        &mut self,
        end: Result<Result<T, connect::Fault>, tokio::time::error::Elapsed>,
    ) -> Result<T, Trouble> {
        match end {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(fault)) => {
                let trouble = fault.trouble();
                self.abandon().await;
                Err(trouble)
            }
            Err(_) => {
                self.forget();
                Err(Trouble::Lost(StoreLost::Failed("the database did not answer in time".to_owned())))
            }
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("store_id", &self.store_id)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Backend for Postgres {
    async fn begin(&mut self, wanted: &Wanted) -> Result<Rows, Trouble> {
        self.session().await?;
        let patience = self.patience();
        let Some(session) = &self.session else { return Err(Trouble::Lost(StoreLost::Closed)) };
        let end = timeout(patience, load::load(session, &mut self.memory, wanted)).await;
        self.settle(end).await
    }

    async fn commit(&mut self, changes: Changes) -> Result<(), Trouble> {
        let patience = self.patience();
        let Some(session) = &self.session else { return Err(Trouble::Lost(StoreLost::Closed)) };
        if changes.is_empty() {
            let end = timeout(patience, session.client.batch_execute("ROLLBACK")).await;
            return self.settle(end.map(|end| end.map_err(connect::Fault::from))).await;
        }
        let end = timeout(patience, save::save(session, &mut self.memory, &changes)).await;
        self.settle(end).await?;
        self.memory.payments.used(changes.new_payments.iter().map(|row| row.row).max());
        self.memory.accounts.used(changes.new_accounts.iter().map(|(_, row)| row.id).max());
        self.memory.known.learn(changes.new_accounts.iter().map(|(key, row)| (key, row)));
        Ok(())
    }

    async fn due(&mut self, wanted: &DueWanted) -> Result<DueList, Trouble> {
        self.session().await?;
        let patience = self.patience();
        let Some(session) = &self.session else { return Err(Trouble::Lost(StoreLost::Closed)) };
        let end = timeout(patience, tracker::due(session, wanted)).await;
        self.settle(end).await
    }

    async fn reset(&mut self) -> Result<(), Trouble> {
        self.forget();
        self.not_before = None;
        self.session().await
    }

    async fn prune(&mut self, keep: Duration, most: u32) -> Result<Pruned, Trouble> {
        self.session().await?;
        let patience = self.patience();
        let Some(session) = &self.session else { return Err(Trouble::Lost(StoreLost::Closed)) };
        let end = timeout(patience, prune::prune(session, &mut self.memory, keep, most)).await;
        self.settle(end).await
    }
}
