//! What the simulation's model of a broker needs of the client's own types, as plain values.

use async_nats::{Message, StatusCode};
use bytes::Bytes;

use super::Outgoing;
use super::topology::header_pairs;

/// A message as the model sends it to a client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Incoming {
    /// The subject it was published on, or the inbox.
    pub(crate) subject: String,
    /// Where an answer goes.
    pub(crate) reply: Option<String>,
    /// Names and values.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) payload: Bytes,
    /// A status in place of a message, and its words.
    pub(crate) status: Option<(u16, &'static str)>,
}

impl Incoming {
    /// The same as the client gives it out.
    pub(crate) fn into_message(self) -> Message {
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name.as_str(), value.as_str());
        }
        let status = self.status.and_then(|(code, _)| StatusCode::from_u16(code).ok());
        Message {
            subject: self.subject.into(),
            reply: self.reply.map(Into::into),
            length: self.payload.len(),
            payload: self.payload,
            headers: if self.headers.is_empty() { None } else { Some(headers) },
            status,
            description: self.status.map(|(_, words)| words.to_owned()),
        }
    }
}

impl Outgoing {
    /// Its headers, sorted by name.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        self.headers.as_ref().map(header_pairs).unwrap_or_default()
    }
}

/// The client's message, so that a model of the wire can name it.
pub(crate) type ClientMessage = Message;
