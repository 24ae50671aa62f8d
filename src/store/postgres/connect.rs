//! The connection: TLS, session settings, prepared statements, and what its errors mean to the caller.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::{StoreLost, Trouble};
use super::{PostgresSettings, sql};

/// Why a store in PostgreSQL was not opened.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The url cannot be read.
    #[error("store.url is not a PostgreSQL address ({problem}): write \"postgres://user@host:5432/database\"")]
    Url {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file that the connection needs.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        problem: String,
    },
    /// TLS cannot be set up.
    #[error("TLS for the database: {0}")]
    Tls(String),
    /// No connection, or it went away.
    #[error("the database cannot be reached ({0}): check store.url, and that the server runs and lets this machine in")]
    Unreachable(String),
    /// The server does not let us in, or refuses a statement.
    #[error("the database refuses ({0}): check the user, its password file and its rights")]
    Refused(String),
    /// There is no store in the schema.
    #[error("there is no store in schema {schema}: run `acquit provision` to make one, or correct store.schema")]
    Missing {
        /// The schema.
        schema: String,
    },
    /// It was written by an older version.
    #[error("the store's schema is version {found}, this program needs {known}: run `acquit provision`")]
    SchemaTooOld {
        /// The store's version.
        found: i32,
        /// The version needed.
        known: i32,
    },
    /// It was written by a newer version.
    #[error("the store's schema is version {found}, this program knows up to {known}: run the newer version")]
    SchemaTooNew {
        /// The store's version.
        found: i32,
        /// The newest version known here.
        known: i32,
    },
    /// The schema holds something else.
    #[error("schema {schema} does not hold a store of Acquit: correct store.schema")]
    NotAStore {
        /// The schema.
        schema: String,
    },
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        let text = text(&error);
        // Authorisation, access rules and names that do not exist; the rest is a server that does not serve now.
        match error.code().and_then(|state| state.code().get(..2)) {
            Some("28" | "42" | "3D" | "3F") => Self::Refused(text),
            Some(_) | None => Self::Unreachable(text),
        }
    }
}

/// Why rows were not read or written.
#[derive(Debug)]
pub(in crate::store) enum Fault {
    /// The database or the connection said so.
    Sql(tokio_postgres::Error),
    /// A value is not what the schema says; names the column.
    Row(&'static str),
    /// An account that is remembered is not there, or has another name.
    Stale,
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl Fault {
    /// What the group's caller does next.
    pub(super) fn trouble(self) -> Trouble {
        let error = match self {
            Self::Row(what) => return Trouble::Content(what.to_owned()),
            Self::Stale => return Trouble::Again("an account is not what it was".to_owned()),
            Self::Sql(error) => error,
        };
        let Some(state) = error.code() else { return Trouble::Lost(StoreLost::Failed(text(&error))) };
        // Another process was faster, or stood in the way: the rows tell what stands now.
        let again = [SqlState::UNIQUE_VIOLATION, SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
        if again.contains(state) {
            return Trouble::Again(text(&error));
        }
        if *state == SqlState::DISK_FULL {
            return Trouble::Lost(StoreLost::Full);
        }
        match state.code().get(..2) {
            // Data exception, integrity constraint violation.
            Some("22" | "23") => Trouble::Content(text(&error)),
            _ => Trouble::Lost(StoreLost::Failed(text(&error))),
        }
    }
}

/// The database's complaint without any value: messages may hold keys and contents.
pub(in crate::store) fn text(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let about = db.constraint().or(db.column()).or(db.table()).unwrap_or("");
            let about = if about.is_empty() { String::new() } else { format!(" ({about})") };
            format!("SQLSTATE {}{about}", db.code().code())
        }
        None if error.is_closed() => "the connection is closed".to_owned(),
        None => cause(error),
    }
}

/// What the network or TLS said, which holds nothing of ours.
fn cause(error: &tokio_postgres::Error) -> String {
    let Some(source) = std::error::Error::source(error) else { return "the connection failed".to_owned() };
    let io = source.downcast_ref::<std::io::Error>();
    let inner = io.and_then(std::io::Error::get_ref).map(|inner| inner as &dyn std::error::Error);
    match inner.unwrap_or(source).downcast_ref::<rustls::Error>() {
        Some(tls) => tls.to_string(),
        None => io.map_or_else(|| "the connection failed".to_owned(), |io| io.kind().to_string()),
    }
}

/// One connection with its statements.
pub(super) struct Session {
    pub(super) client: Client,
    statements: HashMap<&'static str, Statement>,
    driver: JoinHandle<()>,
}

impl Session {
    pub(super) async fn connect(settings: &PostgresSettings) -> Result<Self, PostgresError> {
        let (client, driver) = dial(settings).await?;
        let prepared = ready(&client).await;
        match prepared {
            Ok(prepared) => Ok(Self { client, statements: sql::ALL.into_iter().zip(prepared).collect(), driver }),
            Err(error) => {
                driver.abort();
                Err(error.into())
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Sent when first polled; statements polled one after the other go out together.
    pub(super) async fn query(&self, sql: &'static str, with: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Fault> {
        Ok(self.client.query(self.statement(sql)?, with).await?)
    }

    /// As [`Session::query`], for what gives no rows.
    pub(super) async fn execute(&self, sql: &'static str, with: &[&(dyn ToSql + Sync)]) -> Result<u64, Fault> {
        Ok(self.client.execute(self.statement(sql)?, with).await?)
    }

    fn statement(&self, sql: &'static str) -> Result<&Statement, Fault> {
        self.statements.get(sql).ok_or(Fault::Row("a statement that was not prepared"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The statements, each with a plan that neither the tables' statistics nor the sets' sizes change: every one finds its
/// rows by a key, and a plan made over young tables would read the whole of them for ever after.
async fn ready(client: &Client) -> Result<Vec<Statement>, tokio_postgres::Error> {
    client
        .batch_execute(
            "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off; \
             SET enable_mergejoin = off",
        )
        .await?;
    try_join_all(sql::ALL.iter().map(|sql| client.prepare(sql))).await
}

/// A connection for reading and for provisioning; it ends with the client.
pub(in crate::store) async fn client(settings: &PostgresSettings) -> Result<Client, PostgresError> {
    dial(settings).await.map(|(client, _)| client)
}

async fn dial(settings: &PostgresSettings) -> Result<(Client, JoinHandle<()>), PostgresError> {
    let config = config(settings)?;
    let unreachable = || PostgresError::Unreachable("no answer in time".to_owned());
    let connecting = async {
        if config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = config.connect(NoTls).await?;
            return Ok((client, tokio::spawn(async move { drop(connection.await) })));
        }
        let (client, connection) = config.connect(tls(settings.ca_file.as_deref())?).await?;
        Ok::<_, PostgresError>((client, tokio::spawn(async move { drop(connection.await) })))
    };
    let (client, driver) =
        tokio::time::timeout(settings.connect_timeout, connecting).await.map_err(|_| unreachable())??;
    let prepared = tokio::time::timeout(settings.connect_timeout, prepare(&client, settings)).await;
    match prepared {
        Ok(Ok(())) => Ok((client, driver)),
        Ok(Err(error)) => {
            driver.abort();
            Err(error.into())
        }
        Err(_) => {
            driver.abort();
            Err(unreachable())
        }
    }
}

async fn prepare(client: &Client, settings: &PostgresSettings) -> Result<(), tokio_postgres::Error> {
    let millis = settings.statement_timeout.as_millis();
    // The order of locks is by "C" collation whatever the database's is. A server that waits for its standbys to
    // apply keeps doing so; one that does not wait for its disk is told to.
    client
        .batch_execute(&format!(
            "SET search_path = \"{}\"; SET timezone = 'UTC'; SET statement_timeout = {millis}; \
             SET idle_in_transaction_session_timeout = {}; \
             SET default_transaction_isolation = 'read committed'; SET jit = off; \
             SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') \
             WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)",
            settings.schema,
            millis.saturating_mul(2),
        ))
        .await
}

pub(in crate::store) fn config(settings: &PostgresSettings) -> Result<Config, PostgresError> {
    if let Some(problem) = url_problem(&settings.url) {
        return Err(PostgresError::Url { problem });
    }
    // It goes into statements as a name.
    if !is_schema_name(&settings.schema) {
        return Err(PostgresError::Url { problem: "the name of the schema is none that may be used" });
    }
    let mut config = settings.url.parse::<Config>().map_err(|_| PostgresError::Url { problem: "it cannot be read" })?;
    if let Some(path) = &settings.password_file {
        let file = |e: std::io::Error| PostgresError::File { path: path.clone(), problem: e.to_string() };
        config.password(std::fs::read_to_string(path).map_err(file)?.trim());
    }
    // An address that is given beside a name is the one that is connected to.
    let here = config.get_hosts().iter().all(is_here) && config.get_hostaddrs().iter().all(|a| a.is_loopback());
    if !here && !settings.allow_plaintext {
        config.ssl_mode(SslMode::Require);
    } else if here && config.get_ssl_mode() == SslMode::Prefer {
        config.ssl_mode(SslMode::Disable);
    }
    config
        .application_name("acquit")
        .connect_timeout(settings.connect_timeout)
        .keepalives_idle(Duration::from_secs(10))
        .tcp_user_timeout(Duration::from_secs(15));
    Ok(config)
}

/// What is wrong with a url, if anything.
#[must_use]
pub fn url_problem(url: &str) -> Option<&'static str> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Some("it does not begin with postgres://");
    }
    match url.parse::<Config>() {
        Err(_) => Some("it cannot be read"),
        Ok(config) if config.get_password().is_some() => Some("it holds a password"),
        Ok(config) if config.get_hosts().is_empty() => Some("it names no host"),
        Ok(config) if config.get_user().is_none() => Some("it names no user"),
        Ok(_) => None,
    }
}

/// Whether a schema may have this name: lower-case letters, digits and `_`, at most 63, and none of PostgreSQL's own.
#[must_use]
pub fn is_schema_name(name: &str) -> bool {
    let tail = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    starts && name.len() <= 63 && name.bytes().all(tail) && !name.starts_with("pg_")
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn tls(ca_file: Option<&Path>) -> Result<MakeRustlsConnect, PostgresError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let file = |problem: String| PostgresError::File { path: path.to_owned(), problem };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| file(e.to_string()))? {
                let certificate = certificate.map_err(|e| file(e.to_string()))?;
                roots.add(certificate).map_err(|e| file(e.to_string()))?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
        }
    }
    if roots.is_empty() {
        return Err(PostgresError::Tls("no certificate to trust is known; give store.ca_file".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| PostgresError::Tls(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
