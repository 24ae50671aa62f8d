//! The connection to NATS: how it is made, what is known of it, and the wire over it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{ConnectOptions, Event, Message, ServerError, Subscriber};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::request::Table;
use super::{LinkState, Listener, Outgoing, Teller, Wire, WireError};
use crate::telemetry::Link;

/// How this role proves who it is.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// It does not.
    None,
    /// A `.creds` file (JWT and seed).
    File(PathBuf),
    /// An NKEY seed.
    Seed(SecretString),
    /// A token.
    Token(SecretString),
    /// User and password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: SecretString,
    },
}

/// TLS towards the broker.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Refuse a connection without TLS.
    pub required: bool,
    /// The CA that must have signed the server's certificate.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Where the broker is and how to speak to it.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// `nats://` or `tls://` URLs.
    pub servers: Vec<String>,
    /// The connection's name, seen by the server's operator.
    pub name: String,
    /// Who we are.
    pub credentials: Credentials,
    /// TLS.
    pub tls: Tls,
    /// Prefix of all our inboxes.
    pub inbox_prefix: String,
    /// Between pings, 5 to 10 s: two unanswered ones end the connection.
    pub ping_interval: Duration,
    /// How long the first connection may take.
    pub connect_timeout: Duration,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered; worth another try.
    #[error("no NATS server at {servers}: {detail}")]
    Unreachable {
        /// Where we looked.
        servers: String,
        /// What the client said.
        detail: String,
    },
    /// The server said no.
    #[error("the NATS server refuses these credentials: {0}")]
    Refused(String),
    /// A file or URL of ours is wrong.
    #[error("{0}")]
    Settings(String),
}

/// A wire over a real connection.
#[derive(Clone)]
pub struct Nats {
    client: async_nats::Client,
    table: Arc<Table>,
    link: Listener<LinkState>,
    inbox_prefix: Arc<str>,
}

impl Nats {
    /// Connects, or says why not.
    ///
    /// # Errors
    /// When no server answers in `connect_timeout`, the server refuses us, or a file cannot be read.
    pub async fn connect(settings: &BrokerSettings) -> Result<Self, ConnectError> {
        let state = Teller::new(LinkState::default());
        let mut link = state.subscribe();
        let table_cell: Arc<OnceLock<Arc<Table>>> = Arc::default();
        let options = options(settings)?.event_callback({
            let table_cell = Arc::clone(&table_cell);
            move |event| {
                note(&event, &state, table_cell.get());
                // No await here: the client drops events while a callback is slow.
                std::future::ready(())
            }
        });
        let servers = settings.servers.join(", ");
        let client = match timeout(settings.connect_timeout, options.connect(settings.servers.as_slice())).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(refused_or_unreachable(servers, &error)),
            Err(_) => return Err(ConnectError::Unreachable { servers, detail: "no answer in time".to_owned() }),
        };
        let prefix = format!("{}.{}", settings.inbox_prefix, token());
        let table = table_cell.get_or_init(|| Table::new(format!("{prefix}.r"))).clone();
        let unreachable = |detail: String| ConnectError::Unreachable { servers: servers.clone(), detail };
        let replies = client.subscribe(table.wildcard()).await.map_err(|e| unreachable(e.to_string()))?;
        client.flush().await.map_err(|e| unreachable(e.to_string()))?;
        tokio::spawn(Arc::clone(&table).serve(replies));
        // The event of the first connection comes over a channel of its own and may be on its way.
        let up = timeout(settings.connect_timeout, link.wait_for(|l| l.connected)).await;
        if up.is_err() {
            return Err(unreachable("connected, and lost again at once".to_owned()));
        }
        Ok(Self { client, table, link, inbox_prefix: settings.inbox_prefix.as_str().into() })
    }

    /// The largest payload the server takes, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// The server's version.
    #[must_use]
    pub fn server_version(&self) -> String {
        self.client.server_info().version
    }

    fn up(&self) -> Result<(), WireError> {
        if self.client.connection_state() == State::Connected { Ok(()) } else { Err(WireError::Disconnected) }
    }
}

fn token() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn options(settings: &BrokerSettings) -> Result<ConnectOptions, ConnectError> {
    let mut options = ConnectOptions::new()
        .name(&settings.name)
        .custom_inbox_prefix(&settings.inbox_prefix)
        .ping_interval(settings.ping_interval)
        .connection_timeout(Duration::from_secs(5))
        .skip_subject_validation(true)
        .read_buffer_capacity(u16::MAX)
        .client_capacity(8192);
    if settings.tls.required {
        options = options.require_tls(true);
    }
    if let Some(ca) = &settings.tls.ca_file {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((cert, key)) = &settings.tls.client {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(match &settings.credentials {
        Credentials::None => options,
        Credentials::File(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|e| ConnectError::Settings(format!("credentials file {}: {e}", path.display())))?;
            options
                .credentials(&text)
                .map_err(|_| ConnectError::Settings(format!("credentials file {} is not one", path.display())))?
        }
        Credentials::Seed(seed) => options.nkey(seed.expose_secret().to_owned()),
        Credentials::Token(token) => options.token(token.expose_secret().to_owned()),
        Credentials::Password { user, password } => {
            options.user_and_password(user.clone(), password.expose_secret().to_owned())
        }
    })
}

fn refused_or_unreachable(servers: String, error: &async_nats::ConnectError) -> ConnectError {
    use async_nats::ConnectErrorKind as Kind;
    match error.kind() {
        Kind::Authentication | Kind::AuthorizationViolation => ConnectError::Refused(error.to_string()),
        Kind::ServerParse => ConnectError::Settings(format!("broker.servers: {error}")),
        Kind::Dns | Kind::TimedOut | Kind::Tls | Kind::Io | Kind::MaxReconnects => {
            ConnectError::Unreachable { servers, detail: error.to_string() }
        }
    }
}

fn note(event: &Event, state: &Teller<LinkState>, table: Option<&Arc<Table>>) {
    match event {
        Event::Connected => {
            state.send_modify(|link| {
                *link =
                    LinkState { connected: true, epoch: link.epoch.saturating_add(1), lame_duck: false, denied: None };
                Link::Connected { epoch: link.epoch }.emit();
            });
        }
        Event::Disconnected | Event::Closed | Event::Draining => {
            state.send_modify(|link| link.connected = false);
            if let Some(table) = table {
                table.fail_all();
            }
            Link::Disconnected.emit();
        }
        Event::LameDuckMode => {
            state.send_modify(|link| link.lame_duck = true);
            Link::LameDuck.emit();
        }
        Event::SlowConsumer(_) | Event::ServerError(ServerError::SlowConsumer(_)) => Link::SlowConsumer.emit(),
        Event::ServerError(ServerError::AuthorizationViolation) => {
            state.send_modify(|link| link.denied = Some("authorization violation".to_owned()));
            Link::Denied { what: "authorization violation" }.emit();
        }
        Event::ServerError(ServerError::Other(what)) => {
            if what.to_ascii_lowercase().contains("permissions violation") {
                state.send_if_modified(|link| {
                    let new = link.denied.as_deref() != Some(what.as_str());
                    if new {
                        link.denied = Some(what.clone());
                        Link::Denied { what }.emit();
                    }
                    new
                });
            } else {
                Link::ConnectionTrouble { what }.emit();
            }
        }
        Event::ClientError(error) => Link::ConnectionTrouble { what: &error.to_string() }.emit(),
    }
}

// === impl Wire ===

impl Wire for Nats {
    type Inbox = Subscriber;

    async fn request(&self, out: Outgoing, within: Duration) -> Result<Message, WireError> {
        self.up()?;
        let (inbox, open) = self.table.open().ok_or(WireError::Busy)?;
        let exchange = async {
            self.send(out, inbox).await?;
            open.reply().await.ok_or(WireError::Disconnected)
        };
        // The bound covers the sending too: a full command channel blocks without limit.
        let reply = timeout(within, exchange).await.map_err(|_| WireError::TimedOut)??;
        match reply.status {
            Some(async_nats::StatusCode::NO_RESPONDERS) => Err(WireError::NoResponders),
            _ => Ok(reply),
        }
    }

    async fn send(&self, out: Outgoing, reply: String) -> Result<(), WireError> {
        self.up()?;
        let sent = match out.headers {
            Some(headers) => self.client.publish_with_reply_and_headers(out.subject, reply, headers, out.payload).await,
            None => self.client.publish_with_reply(out.subject, reply, out.payload).await,
        };
        sent.map_err(|_| WireError::Disconnected)
    }

    async fn listen(&self, subject: String) -> Result<Subscriber, WireError> {
        self.client.subscribe(subject).await.map_err(|_| WireError::Disconnected)
    }

    fn inbox_prefix(&self) -> &str {
        &self.inbox_prefix
    }

    fn nonce(&self) -> String {
        token()
    }

    fn link(&self) -> Listener<LinkState> {
        self.link.clone()
    }

    async fn reconnect(&self) {
        // Fails only where the client has ended, and then there is nothing left to reconnect.
        drop(self.client.force_reconnect().await);
    }
}
