//! `[broker]`: where the servers are and how this worker proves who it is.

use std::path::PathBuf;
use std::time::Duration;

use crate::broker::Streams;
use crate::domain::StreamName;

use super::problem::Problem;
use super::read::Table;

/// How to reach the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSettings {
    /// `nats://` or `tls://` addresses without user information; at least one.
    pub servers: Vec<String>,
    /// The connection's name.
    pub name: String,
    /// The streams; no two are the same.
    pub streams: Streams,
    /// How the worker proves who it is.
    pub login: Login,
    /// Authorities that may vouch for the servers.
    pub ca_file: Option<PathBuf>,
    /// The client's own certificate.
    pub client_cert: Option<ClientCert>,
    /// Refuse a server that does not offer TLS.
    pub require_tls: bool,
    /// Where replies come to.
    pub inbox_prefix: String,
    /// 5 to 10 s.
    pub ping_interval: Duration,
}

/// How a client proves who it is. The files are read by the broker layer at each connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// Not at all.
    None,
    /// A `.creds` file.
    Credentials(PathBuf),
    /// A file with an NKEY seed.
    NkeySeed(PathBuf),
    /// A user, and a file with the password.
    Password {
        /// The user.
        user: String,
        /// The file.
        password_file: PathBuf,
    },
    /// A file with a token.
    Token(PathBuf),
}

/// A client certificate and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCert {
    /// The certificate.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

/// The broker's settings, or their problems.
pub(super) fn broker(table: &Table, problems: &mut Vec<Problem>) -> Option<BrokerSettings> {
    let servers = servers(table, problems);
    let streams = streams(table, problems);
    let login = login(table, problems);
    let client_cert = client_cert(table, problems);
    let inbox_prefix = table.text("inbox_prefix").filter(|prefix| is_subject(prefix));
    if inbox_prefix.is_none() {
        let rule = "must be a subject of tokens joined by points, without wildcards or spaces";
        problems.push(table.problem("inbox_prefix", rule, "write \"_INBOX_acquit\" for instance"));
    }
    Some(BrokerSettings {
        servers: servers?,
        name: table.text("name").unwrap_or("acquit").to_owned(),
        streams: streams?,
        login: login?,
        ca_file: table.path("ca_file"),
        client_cert,
        require_tls: table.flag("require_tls"),
        inbox_prefix: inbox_prefix?.to_owned(),
        ping_interval: table.span("ping_interval"),
    })
}

fn is_subject(text: &str) -> bool {
    text.split('.').all(|token| {
        !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || b == b'$')
    })
}

fn servers(table: &Table, problems: &mut Vec<Problem>) -> Option<Vec<String>> {
    let servers = table.texts("servers").to_vec();
    let urls: Option<Vec<url::Url>> = servers.iter().map(|server| url::Url::parse(server).ok()).collect();
    let reachable = |url: &url::Url| matches!(url.scheme(), "nats" | "tls") && url.host().is_some();
    let Some(urls) = urls.filter(|urls| !urls.is_empty() && urls.iter().all(reachable)) else {
        let rule = "must be at least one address that begins with nats:// or tls://";
        problems.push(table.problem("servers", rule, "write [\"nats://127.0.0.1:4222\"] for instance"));
        return None;
    };
    // A password here would end up in connection errors and in the process list.
    if urls.iter().any(|url| !url.username().is_empty() || url.password().is_some()) {
        let remedy = "take it out and use broker.user with broker.password_file, or broker.token_file";
        problems.push(table.problem("servers", "must not hold a user or a password", remedy));
        return None;
    }
    Some(servers)
}

fn streams(table: &Table, problems: &mut Vec<Problem>) -> Option<Streams> {
    let mut seen: Vec<StreamName> = Vec::new();
    let mut stream = |key: &str| {
        let name = table.text(key).and_then(|name| StreamName::parse(name).ok());
        match &name {
            None => {
                let rule = "must be 1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'";
                problems.push(table.problem(key, rule, "write the stream's name as `nats stream ls` shows it"));
            }
            Some(name) if seen.contains(name) => {
                problems.push(table.problem(key, "must not be another role's stream", "name a stream of its own"));
            }
            Some(name) => seen.push(name.clone()),
        }
        name
    };
    let (payments, outcomes) = (stream("stream"), stream("outcomes_stream"));
    let (dead_letters, audit) = (stream("dead_letters_stream"), stream("audit_stream"));
    Some(Streams { payments: payments?, outcomes: outcomes?, dead_letters: dead_letters?, audit: audit? })
}

fn login(table: &Table, problems: &mut Vec<Problem>) -> Option<Login> {
    let user = table.text("user").map(str::to_owned);
    let password_file = table.path("password_file");
    let before = problems.len();
    if user.is_some() != password_file.is_some() && !broken(problems, "broker.password_file") {
        let key = if user.is_some() { "user" } else { "password_file" };
        problems.push(table.problem(key, "must come together with its other half", "set user and password_file"));
    }
    let ways: Vec<(&str, Login)> = [
        table.path("credentials_file").map(|file| ("credentials_file", Login::Credentials(file))),
        table.path("nkey_seed_file").map(|file| ("nkey_seed_file", Login::NkeySeed(file))),
        user.zip(password_file).map(|(user, file)| ("user", Login::Password { user, password_file: file })),
        table.path("token_file").map(|file| ("token_file", Login::Token(file))),
    ]
    .into_iter()
    .flatten()
    .collect();
    for (key, _) in ways.iter().skip(1) {
        problems.push(table.problem(key, "must be the only way to log in", "keep one of the login keys"));
    }
    if problems.len() > before {
        return None;
    }
    Some(ways.into_iter().next().map_or(Login::None, |(_, login)| login))
}

fn client_cert(table: &Table, problems: &mut Vec<Problem>) -> Option<ClientCert> {
    let (cert, key) = (table.path("client_cert_file"), table.path("client_key_file"));
    let halves_broken = broken(problems, "broker.client_cert_file") || broken(problems, "broker.client_key_file");
    if cert.is_some() != key.is_some() && !halves_broken {
        let name = if cert.is_some() { "client_cert_file" } else { "client_key_file" };
        let remedy = "set client_cert_file and client_key_file";
        problems.push(table.problem(name, "must come together with its other half", remedy));
    }
    cert.zip(key).map(|(cert_file, key_file)| ClientCert { cert_file, key_file })
}

/// Whether a key's form is a problem already: what follows from its absence need not be said as well.
fn broken(problems: &[Problem], key: &str) -> bool {
    problems.iter().any(|problem| problem.key == key)
}
