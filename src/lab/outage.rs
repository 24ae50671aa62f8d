//! Takes settlement down for real: another connection holds the store's write lock, so that the worker's commits fail
//! as they would with a disk or a database that does not answer. Nothing in the worker knows of it.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use crate::cli::{Exit, Failure};

/// An outage under way.
pub(super) struct Outage {
    end: oneshot::Sender<()>,
    thread: tokio::task::JoinHandle<rusqlite::Result<()>>,
}

impl Outage {
    /// Takes the write lock; returns when it is held.
    pub(super) async fn begin(store: PathBuf) -> Result<Self, Failure> {
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
    pub(super) async fn end(self) {
        self.end.send(()).ok();
        drop(self.thread.await);
    }
}
