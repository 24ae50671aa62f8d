//! From configuration to a connected broker and an open store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use super::{Exit, Failure, Global};
use crate::broker::{Broker, BrokerSettings, Credentials, Nats, Tls};
use crate::config::{Config, Login, Place, Sources, StoreSettings};
use crate::store::{ReadError, Reader, SqliteSettings};

/// How long a verb waits for its first connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A broker and the configuration it was reached with.
pub struct Connected {
    /// What is meant.
    pub config: Config,
    /// The broker.
    pub broker: Broker<Nats>,
}

/// Reads and checks the configuration.
///
/// # Errors
/// Every problem at once, exit 64.
pub fn load(global: &Global) -> Result<Config, Failure> {
    let mut flags = Vec::new();
    for pair in &global.set {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Failure::new(Exit::Usage, format!("--set {pair}: write KEY=VALUE")));
        };
        flags.push((key.trim().to_owned(), value.to_owned()));
    }
    let sources = Sources { file: global.config.clone(), env: std::env::vars().collect(), flags };
    Config::load(sources).map_err(|errors| Failure::new(Exit::Config, format!("configuration:\n{errors}")))
}

/// Loads the configuration and connects.
///
/// # Errors
/// What is wrong with either.
pub async fn connect(global: &Global, role: &str) -> Result<Connected, Failure> {
    let config = load(global)?;
    let broker = connect_as(&config, role).await?;
    Ok(Connected { config, broker })
}

/// Connects as `role`, which shows in the connection's name.
///
/// # Errors
/// Why there is no connection.
pub async fn connect_as(config: &Config, role: &str) -> Result<Broker<Nats>, Failure> {
    let nats = Nats::connect(&broker_settings(config, role)?).await?;
    Ok(Broker::new(nats, config.broker.streams.clone()))
}

fn secret(path: &std::path::Path) -> Result<SecretString, Failure> {
    std::fs::read_to_string(path)
        .map(|text| SecretString::from(text.trim().to_owned()))
        .map_err(|e| Failure::new(Exit::Config, format!("{}: {e}", path.display())))
}

/// The token of those who may steer a worker, where there is one.
pub(super) fn control_token(config: &Config) -> Result<Option<SecretString>, Failure> {
    config.ops.control_token_file.as_deref().map(secret).transpose()
}

fn broker_settings(config: &Config, role: &str) -> Result<BrokerSettings, Failure> {
    let broker = &config.broker;
    let credentials = match &broker.login {
        Login::None => Credentials::None,
        Login::Credentials(path) => Credentials::File(path.clone()),
        Login::NkeySeed(path) => Credentials::Seed(secret(path)?),
        Login::Token(path) => Credentials::Token(secret(path)?),
        Login::Password { user, password_file } => {
            Credentials::Password { user: user.clone(), password: secret(password_file)? }
        }
    };
    Ok(BrokerSettings {
        servers: broker.servers.clone(),
        name: format!("{} {role}", broker.name),
        credentials,
        tls: Tls {
            required: broker.require_tls,
            ca_file: broker.ca_file.clone(),
            client: broker.client_cert.as_ref().map(|c| (c.cert_file.clone(), c.key_file.clone())),
        },
        inbox_prefix: broker.inbox_prefix.clone(),
        ping_interval: broker.ping_interval,
        connect_timeout: CONNECT_TIMEOUT,
    })
}

/// Opens the store for reading, beside running workers.
pub(super) fn reader(config: &Config) -> Result<Reader, Failure> {
    read(&config.store)
        .map_err(|e| Failure::new(Exit::Unavailable, format!("store {}: {e}; check [store]", config.store.shown())))
}

/// The same, for whoever says himself what to do.
pub(super) fn read(store: &StoreSettings) -> Result<Reader, ReadError> {
    match &store.place {
        Place::File(path) => Reader::open(path, Duration::from_secs(2)),
        Place::Postgres { settings, .. } => Reader::connect(settings),
    }
}

/// The durable consumers of all lanes.
pub(super) fn consumers(config: &Config) -> Vec<String> {
    config.lanes.iter().map(|lane| lane.consumer.clone()).collect()
}

/// The settings of a store in the file `path`; `create` where a missing one is to be made.
#[must_use]
pub fn sqlite_settings(config: &Config, path: &Path, create: bool) -> SqliteSettings {
    SqliteSettings {
        path: path.to_owned(),
        busy_timeout: config.store.busy_timeout,
        wal_limit_bytes: config.store.wal_limit,
        create,
        store_id_bits: rand::random(),
        now: Arc::new(Timestamp::now),
    }
}
