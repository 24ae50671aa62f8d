//! What only PostgreSQL has: several processes on one store, a server of its own life, a network.

mod fleet;
mod memory;
mod schema;
mod server;
mod standby;
mod tls;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::lab::servers::PostgresServer;
use crate::store::PostgresSettings;
use crate::store::postgres::client;

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

async fn client_of(settings: &PostgresSettings) -> tokio_postgres::Client {
    client(settings).await.unwrap()
}

async fn number(settings: &PostgresSettings, sql: &str) -> i64 {
    client_of(settings).await.query_one(sql, &[]).await.unwrap().get(0)
}
