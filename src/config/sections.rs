//! The small sections: store, book, ops, log.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::domain::{Account, Iban, OtherAccount};
use crate::store::{PostgresSettings, is_schema_name, url_problem};
use crate::telemetry::TraceSettings;

use super::problem::Problem;
use super::read::Table;

/// The least time for which records of ended events are kept.
const KEEP_LEAST: Duration = Duration::from_secs(24 * 3600);

/// The store's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// Where it is.
    pub place: Place,
    /// Bytes of the write-ahead log at which lanes pause.
    pub wal_limit: u64,
    /// How long a write waits for another process's lock.
    pub busy_timeout: Duration,
    /// Requests in one transaction, 1 to 4096.
    pub group: u16,
    /// Starts without an end after which an event is quarantined.
    pub poison_starts: u32,
    /// How long records of ended events are kept; `None`: for ever. Payments and transfers stay whatever it says.
    pub keep: Option<Duration>,
}

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL database.
    Postgres {
        /// How it is reached.
        settings: PostgresSettings,
        /// The poison guard's file; a file store has it beside itself.
        marker: PathBuf,
    },
}

impl StoreSettings {
    /// Its place in a few words, without any secret.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.place {
            Place::File(path) => path.display().to_string(),
            Place::Postgres { settings, .. } => format!("PostgreSQL, schema {}", settings.schema),
        }
    }
}

/// The book's settings.
///
/// By default an unknown account is opened and must not go below zero: a payment never overdraws unless somebody said
/// so. Accounts that money comes from are named with `overdraft = "allow"`.
#[derive(Debug, Clone)]
pub struct BookSettings {
    /// Whether an unknown account is opened; else the payment is refused.
    pub open_unknown: bool,
    /// Whether an account opened so may go below zero.
    pub overdraft: bool,
    /// Accounts known from the start, each with whether it may go below zero.
    pub accounts: Vec<(Account, bool)>,
}

/// The HTTP side's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpsSettings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A file with the token of those who may steer; without one only this machine may.
    pub control_token_file: Option<PathBuf>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The log's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// How it is written.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
}

/// Traces of the section `telemetry`; none without an endpoint.
///
/// Over plain HTTP only: spans hold ids and no values of events, and a collector beside the worker does the rest.
pub(super) fn telemetry(table: &Table, problems: &mut Vec<Problem>) -> Option<TraceSettings> {
    let written = table.text("otlp_endpoint")?;
    let remedy = "name a collector beside the worker, such as \"http://127.0.0.1:4318\"; TLS is its business";
    let plain = |url: &Url| {
        url.scheme() == "http" && url.username().is_empty() && url.password().is_none() && url.query().is_none()
    };
    let Some(endpoint) = Url::parse(written).ok().filter(plain) else {
        let rule = "must be an http:// address without user, password and query";
        problems.push(table.problem("otlp_endpoint", rule, remedy));
        return None;
    };
    Some(TraceSettings { endpoint, ratio: table.factor("sampling_ratio") })
}

/// How long connecting to the database may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

fn place(table: &Table, problems: &mut Vec<Problem>) -> Place {
    let Some(url) = table.text("url") else {
        for key in ["password_file", "ca_file"].into_iter().filter(|key| table.is_given(key)) {
            problems.push(table.problem(key, "must come together with url", "give store.url, or take it out"));
        }
        return Place::File(table.path("path").unwrap_or_default());
    };
    if table.is_given("path") {
        let rule = "must be the only place of the store, but path is given too";
        problems.push(table.problem("url", rule, "take out store.path or store.url"));
    }
    if let Some(problem) = url_problem(url) {
        let remedy = if problem.contains("password") {
            "put the password into a file and name it in store.password_file"
        } else {
            "write \"postgres://acquit@127.0.0.1:5432/payments\" for instance"
        };
        problems.push(table.problem("url", format!("must be an address of PostgreSQL ({problem})"), remedy));
    }
    let schema = table.text("schema").unwrap_or_default().to_owned();
    if !is_schema_name(&schema) {
        let rule = "must be at most 63 lower-case letters, digits and _, not beginning with a digit or pg_";
        problems.push(table.problem("schema", rule, "write \"acquit\" for instance"));
    }
    let settings = PostgresSettings {
        url: url.to_owned(),
        password_file: table.path("password_file"),
        ca_file: table.path("ca_file"),
        schema,
        allow_plaintext: table.flag("allow_plaintext"),
        statement_timeout: table.span("statement_timeout"),
        connect_timeout: CONNECT_TIMEOUT,
    };
    Place::Postgres { settings, marker: table.path("marker").unwrap_or_default() }
}

pub(super) fn store(table: &Table, problems: &mut Vec<Problem>) -> StoreSettings {
    let keep = Some(table.span("keep")).filter(|keep| !keep.is_zero());
    if keep.is_some_and(|keep| keep < KEEP_LEAST) {
        let remedy = "it must outlast what the streams keep; \"9600h\" are 400 days";
        problems.push(table.problem("keep", "must be 0s or at least 24h", remedy));
    }
    let place = place(table, problems);
    StoreSettings {
        place,
        wal_limit: table.whole("wal_limit"),
        busy_timeout: table.span("busy_timeout"),
        group: table.whole("group"),
        poison_starts: table.whole("poison_starts"),
        keep,
    }
}

pub(super) fn book(table: &Table, accounts: &[Table], problems: &mut Vec<Problem>) -> BookSettings {
    let mut seen: Vec<Account> = Vec::new();
    let mut known = Vec::with_capacity(accounts.len());
    for declared in accounts {
        let Some(account) = account(declared, problems) else { continue };
        if seen.contains(&account) {
            let rule = "must not name an account a second time";
            problems.push(declared.problem("overdraft", rule, "keep one [[account]] for it"));
        }
        seen.push(account.clone());
        known.push((account, declared.text("overdraft") == Some("allow")));
    }
    BookSettings {
        open_unknown: table.text("unknown_accounts") == Some("open"),
        overdraft: table.text("overdraft") == Some("allow"),
        accounts: known,
    }
}

fn account(table: &Table, problems: &mut Vec<Problem>) -> Option<Account> {
    let parsed = match (table.text("iban"), table.text("other_id"), table.text("other_scheme")) {
        (Some(iban), None, None) => Iban::parse(iban).map(Account::Iban).map_err(|bad| ("iban", bad.rule)),
        (None, Some(id), scheme) => {
            OtherAccount::parse(id, scheme).map(Account::Other).map_err(|bad| ("other_id", bad.rule))
        }
        _ => Err(("iban", "one of iban and other_id, not both")),
    };
    parsed
        .map_err(|(key, rule)| {
            problems.push(table.problem(key, format!("must be {rule}"), "write it as in the events' accounts"));
        })
        .ok()
}

pub(super) fn ops(table: &Table, problems: &mut Vec<Problem>) -> Option<OpsSettings> {
    let listen = table.text("listen").and_then(|text| text.parse().ok());
    if listen.is_none() {
        let rule = "must be an IP address and a port";
        problems.push(table.problem("listen", rule, "write \"127.0.0.1:9464\" or \"[::1]:9464\" for instance"));
    }
    Some(OpsSettings { listen: listen?, control_token_file: table.path("control_token_file") })
}

pub(super) fn log(table: &Table) -> LogSettings {
    LogSettings {
        format: if table.text("format") == Some("json") { LogFormat::Json } else { LogFormat::Text },
        level: table.text("level").unwrap_or("info").to_owned(),
    }
}
