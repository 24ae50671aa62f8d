//! What only PostgreSQL has: several processes on one store, a server of its own life, a network.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::lab::servers::PostgresServer;
use crate::store::PostgresSettings;

/// A schema of its own in the server's database.
pub(super) fn settings(server: &PostgresServer) -> PostgresSettings {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    PostgresSettings {
        url: server.url(),
        password_file: None,
        ca_file: None,
        schema: format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        allow_plaintext: false,
        statement_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
    }
}
