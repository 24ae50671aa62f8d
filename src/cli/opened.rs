//! The store that the configuration names, opened by a worker.

use std::time::Duration;

use super::Failure;
use super::setup::{read, sqlite_settings};
use crate::config::{Config, Place};
use crate::domain::StoreId;
use crate::operate::guard::StoreGuard;
use crate::store::{Backend, Changes, DueList, DueWanted, Postgres, Pruned, Rows, Sqlite, Trouble, Wanted};

/// Whichever store it is.
#[derive(Debug)]
pub enum Opened {
    /// A file.
    Sqlite(Sqlite),
    /// A database.
    Postgres(Postgres),
}

/// Opens the store; it must have been provisioned.
///
/// # Errors
/// What is missing and what to do about it.
pub async fn open_store(config: &Config) -> Result<Opened, Failure> {
    Ok(match &config.store.place {
        Place::File(path) => Opened::Sqlite(Sqlite::open(sqlite_settings(config, path, false))?),
        Place::Postgres { settings, .. } => Opened::Postgres(Postgres::open(settings.clone()).await?),
    })
}

/// A guard that compares the store, which has identity `store_id`, with the lanes' consumers.
#[must_use]
pub fn store_guard(config: &Config, store_id: StoreId) -> StoreGuard {
    let store = config.store.clone();
    StoreGuard::new(move || read(&store)?.facts(), store_id, config.broker.streams.payments.to_string())
}

impl Opened {
    /// The store's identity.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        match self {
            Self::Sqlite(store) => store.store_id(),
            Self::Postgres(store) => store.store_id(),
        }
    }
}

impl Backend for Opened {
    async fn begin(&mut self, wanted: &Wanted) -> Result<Rows, Trouble> {
        match self {
            Self::Sqlite(store) => store.begin(wanted).await,
            Self::Postgres(store) => store.begin(wanted).await,
        }
    }

    async fn commit(&mut self, changes: Changes) -> Result<(), Trouble> {
        match self {
            Self::Sqlite(store) => store.commit(changes).await,
            Self::Postgres(store) => store.commit(changes).await,
        }
    }

    async fn reset(&mut self) -> Result<(), Trouble> {
        match self {
            Self::Sqlite(store) => store.reset().await,
            Self::Postgres(store) => store.reset().await,
        }
    }

    async fn due(&mut self, wanted: &DueWanted) -> Result<DueList, Trouble> {
        match self {
            Self::Sqlite(store) => store.due(wanted).await,
            Self::Postgres(store) => store.due(wanted).await,
        }
    }

    async fn prune(&mut self, keep: Duration, most: u32) -> Result<Pruned, Trouble> {
        match self {
            Self::Sqlite(store) => store.prune(keep, most).await,
            Self::Postgres(store) => store.prune(keep, most).await,
        }
    }
}
