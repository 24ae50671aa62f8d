//! The only user of the NATS client: connection, pulls, acknowledgements, and the two confirmed publications
//! (outcome events and dead letters).
//!
//! Everything above talks to a [`Broker`]; everything it sends goes through the private trait [`Wire`], which the
//! NATS client and a model of it can both be.

#[cfg(acquit_cheats)]
#[path = "../../tests/cheats/broker.rs"]
mod cheats;
mod connection;
mod consumer;
mod delivery;
#[cfg(feature = "lab")]
mod model;
mod outcome;
mod publish;
mod pull;
mod request;
mod scan;
mod told;
mod topology;

use std::future::Future;
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subject};
use bytes::Bytes;
use futures_util::Stream;

pub use connection::{BrokerSettings, ConnectError, Credentials, Nats, Tls};
pub(crate) use consumer::{Consumer, Facts, VerifyError};
pub(crate) use delivery::{AckUnknown, Delay, Delivery, Hold};
#[cfg(feature = "lab")]
pub(crate) use model::{ClientMessage, Incoming};
pub(crate) use outcome::{HeldWhy, Waiting};
pub use publish::PublishError;
pub(crate) use publish::{Announced, Buried};
pub(crate) use pull::{Ended, Pulled, Pulls};
pub use scan::Scan;
pub use told::Listener;
pub(crate) use told::Teller;
pub use topology::{ApiError, ConsumerInfo, StoredMessage, StreamInfo};

use crate::domain::StreamName;

/// One message to be sent.
pub struct Outgoing {
    pub(crate) subject: Subject,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) payload: Bytes,
}

/// Why a request has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Nobody serves the subject (status 503): no stream, no consumer, or no leader just now.
    #[error("no responders")]
    NoResponders,
    /// No reply in time: what was sent may have been taken.
    #[error("no reply in time")]
    TimedOut,
    /// Not connected, or the connection went away: what was sent may have been taken.
    #[error("not connected")]
    Disconnected,
    /// The bounded table of open requests is full.
    #[error("too many open requests")]
    Busy,
}

/// How the connection is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Connected now.
    pub(crate) connected: bool,
    /// Grows with each connection.
    pub(crate) epoch: u64,
    /// The server announced that it goes away.
    pub(crate) lame_duck: bool,
    /// The last denied permission since the connection was made, in the server's words.
    pub(crate) denied: Option<String>,
}

/// What the NATS client and a model of it can both do. Nothing outside this crate implements it.
pub trait Wire: Clone + Send + Sync + 'static {
    /// A subscription.
    type Inbox: Stream<Item = Message> + Send + Unpin + 'static;
    /// Sends and waits for one reply. Cancel-safe: a reply that comes later is dropped.
    fn request(&self, out: Outgoing, within: Duration) -> impl Future<Output = Result<Message, WireError>> + Send;
    /// Sends with `reply` as the inbox for any number of answers.
    fn send(&self, out: Outgoing, reply: String) -> impl Future<Output = Result<(), WireError>> + Send;
    /// Subscribes to a subject below [`Wire::inbox_prefix`].
    fn listen(&self, subject: String) -> impl Future<Output = Result<Self::Inbox, WireError>> + Send;
    /// The prefix of every inbox of this role.
    fn inbox_prefix(&self) -> &str;
    /// A token nobody else uses.
    fn nonce(&self) -> String;
    /// The connection's state.
    fn link(&self) -> Listener<LinkState>;
    /// Drops the connection so that a new one is made.
    fn reconnect(&self) -> impl Future<Output = ()> + Send;
}

/// The streams a worker touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streams {
    /// Payment events.
    pub payments: StreamName,
    /// Outcome events.
    pub outcomes: StreamName,
    /// Dead letters.
    pub dead_letters: StreamName,
    /// Who did what and why.
    pub audit: StreamName,
}

/// Speaks JetStream over a wire.
#[derive(Clone)]
pub struct Broker<W> {
    wire: W,
    streams: Streams,
}

impl<W: Wire> Broker<W> {
    /// A broker over a connected wire.
    pub fn new(wire: W, streams: Streams) -> Self {
        Self { wire, streams }
    }

    /// The streams it was told about.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    pub(crate) fn link(&self) -> Listener<LinkState> {
        self.wire.link()
    }

    pub(crate) async fn reconnect(&self) {
        self.wire.reconnect().await;
    }
}

impl Broker<Nats> {
    /// The server's version.
    #[must_use]
    pub fn server_version(&self) -> String {
        self.wire.server_version()
    }
}
