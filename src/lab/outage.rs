//! Takes settlement down for real. Where the book settles another connection holds the store's write lock, so that the
//! worker's commits fail as they would with a disk or a database that does not answer; where a service settles it
//! answers nothing but 503. Nothing in the worker knows of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::rail::ScriptedRail;
use super::rail::script::Script;
use crate::cli::{Exit, Failure};

/// An outage under way.
pub(super) enum Outage {
    /// Of the store.
    Store(Locked),
    /// Of the service, which goes on by this script.
    Service(Arc<ScriptedRail>, Script),
}

/// The store's write lock, held.
pub(super) struct Locked {
    end: oneshot::Sender<()>,
    thread: tokio::task::JoinHandle<rusqlite::Result<()>>,
}

impl Outage {
    /// Takes the store down.
    pub(super) async fn of_store(store: PathBuf) -> Result<Self, Failure> {
        Locked::begin(store).await.map(Self::Store)
    }

    /// Takes the service down.
    pub(super) fn of_service(bank: &Arc<ScriptedRail>) -> Result<Self, Failure> {
        let down = Script::parse("[[behaviour]]\nkind = \"error\"\nstatus = 503\n");
        let down = down.map_err(|e| Failure::new(Exit::Bug, format!("the outage's own script: {e}")))?;
        let before = bank.play(down);
        Ok(Self::Service(Arc::clone(bank), before))
    }

    /// Ends it.
    pub(super) async fn end(self) {
        match self {
            Self::Store(locked) => locked.end().await,
            Self::Service(bank, before) => drop(bank.play(before)),
        }
    }
}

impl Locked {
    /// Takes the write lock; returns when it is held.
    async fn begin(store: PathBuf) -> Result<Self, Failure> {
        let (held, is_held) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let thread = tokio::task::spawn_blocking(move || {
            let mut connection = Connection::open(store)?;
            connection.busy_timeout(Duration::from_secs(10))?;
            let lock = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // An error means that the demo has ended: so does the outage.
            held.send(()).ok();
            ended.blocking_recv().ok();
            lock.rollback()
        });
        if is_held.await.is_err() {
            let why = match thread.await {
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(())) | Err(_) => "the thread ended".to_owned(),
            };
            return Err(Failure::new(Exit::Unavailable, format!("the store's lock was not to be had: {why}")));
        }
        Ok(Self { end, thread })
    }

    /// Lets the store go.
    async fn end(self) {
        self.end.send(()).ok();
        drop(self.thread.await);
    }
}
