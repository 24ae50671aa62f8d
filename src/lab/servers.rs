//! Real NATS and PostgreSQL servers for the demo and the tests: found or fetched, started on free ports, killed and
//! brought back.
//!
//! A server runs in its own process group, so that Ctrl-C reaches the worker alone; a watchdog process kills it when
//! this process dies without dropping it.

mod cluster;
mod fetch;
mod find;
mod nats;
mod ports;
mod postgres;
mod process;

pub use cluster::Cluster;
pub use find::nats_server;
pub use nats::{NatsOptions, NatsServer};
pub use postgres::{PostgresOptions, PostgresServer};

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why there is no server to work with.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No usable server on this machine and none could be fetched: somebody has to install one.
    #[error("no {server}: {why}\n  remedy: {remedy}")]
    Missing {
        /// Which.
        server: &'static str,
        /// What was tried, and how each attempt ended.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The server ended by itself while starting.
    #[error("{server} ended while starting ({status}); the end of its log:\n{log}")]
    Died {
        /// Which.
        server: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// The server runs, and does not get ready.
    #[error("{server} was not ready after {after:?}; the end of its log:\n{log}")]
    NotReady {
        /// Which.
        server: &'static str,
        /// How long was waited.
        after: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// No pair of free ports below the ephemeral range.
    #[error("no free port between {} and {}", ports::FIRST, ports::LAST)]
    NoPort,
    /// The file system or the process table refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ServerError {
    fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
