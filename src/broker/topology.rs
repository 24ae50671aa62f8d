//! What the broker knows of streams and consumers, asked for with plain API requests so that a configuration goes
//! over the wire exactly as it stands in its file.

use std::time::Duration;

use async_nats::HeaderMap;
use base64::Engine as _;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Broker, Outgoing, Wire, WireError};

const API_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an API request did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No reply.
    #[error("the broker did not answer {subject}: {cause}")]
    Wire {
        /// The API subject.
        subject: String,
        /// Why.
        cause: WireError,
    },
    /// What was named is not there.
    #[error("{what} does not exist")]
    NotFound {
        /// The API subject that was asked.
        what: String,
    },
    /// The broker said no.
    #[error("the broker refuses: {description} (error {code})")]
    Refused {
        /// JetStream's error code.
        code: u64,
        /// Its words.
        description: String,
    },
    /// The reply was not what the API promises.
    #[error("the broker's answer to {subject} cannot be read: {detail}")]
    Unreadable {
        /// The API subject.
        subject: String,
        /// What is wrong.
        detail: String,
    },
}

/// A stream, as far as Acquit looks at it.
#[derive(Debug, Clone, Deserialize)]
pub struct StreamInfo {
    /// Its configuration as the broker gives it.
    pub config: Value,
    /// When it was created (RFC 3339).
    pub created: jiff::Timestamp,
    /// Counters.
    pub state: StreamState,
}

/// A stream's counters.
#[derive(Debug, Clone, Deserialize)]
pub struct StreamState {
    /// Messages in it.
    pub messages: u64,
    /// The first sequence.
    pub first_seq: u64,
    /// The last sequence.
    pub last_seq: u64,
    /// The first message's timestamp.
    #[serde(default)]
    pub first_ts: Option<jiff::Timestamp>,
}

/// A consumer, as far as Acquit looks at it.
#[derive(Debug, Clone, Deserialize)]
pub struct ConsumerInfo {
    /// Its configuration as the broker gives it.
    pub config: Value,
    /// When it was created.
    pub created: jiff::Timestamp,
    /// What has been delivered.
    pub delivered: SequencePair,
    /// Below which everything is acknowledged.
    pub ack_floor: SequencePair,
    /// Delivered and not acknowledged.
    #[serde(default)]
    pub num_ack_pending: u64,
    /// Delivered more than once and not acknowledged.
    #[serde(default)]
    pub num_redelivered: u64,
    /// Not yet delivered.
    #[serde(default)]
    pub num_pending: u64,
    /// Paused on the server, by an operator.
    #[serde(default)]
    pub paused: bool,
    /// The broker's clock.
    #[serde(default)]
    pub ts: Option<jiff::Timestamp>,
}

/// A consumer's and the stream's sequence.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct SequencePair {
    /// The consumer's own count.
    pub consumer_seq: u64,
    /// The stream's sequence.
    pub stream_seq: u64,
}

/// A message read from a stream.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// Where it was published.
    pub subject: String,
    /// Its sequence.
    pub sequence: u64,
    /// Its headers, names and values in the order they were sent.
    pub headers: Vec<(String, String)>,
    /// Its payload.
    pub payload: Bytes,
    /// The broker's timestamp.
    pub time: jiff::Timestamp,
}

impl StoredMessage {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// The error object of an API reply.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(default)]
    pub(super) code: u64,
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    pub(super) description: String,
}

impl StreamInfo {
    /// A number of the configuration; 0 where it is absent or negative.
    #[must_use]
    pub fn number(&self, key: &str) -> u64 {
        self.config.get(key).and_then(Value::as_u64).unwrap_or(0)
    }
}

impl ConsumerInfo {
    /// The consumer's `ack_wait`.
    #[must_use]
    pub fn ack_wait(&self) -> Duration {
        Duration::from_nanos(self.config.get("ack_wait").and_then(Value::as_u64).unwrap_or(30_000_000_000))
    }

    /// A number of the configuration; -1 where it is absent.
    #[must_use]
    pub fn number(&self, key: &str) -> i64 {
        self.config.get(key).and_then(Value::as_i64).unwrap_or(-1)
    }

    /// Until when an operator has paused it on the server; `None` where it is not paused.
    #[must_use]
    pub fn paused_until(&self) -> Option<jiff::Timestamp> {
        let until = self.config.get("pause_until").and_then(Value::as_str)?;
        until.parse().ok().filter(|_| self.paused)
    }

    /// A metadata entry.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.config.get("metadata")?.get(key)?.as_str()
    }

    /// Its filter subjects, one or many.
    #[must_use]
    pub fn filters(&self) -> Vec<String> {
        let one = self.config.get("filter_subject").and_then(Value::as_str).filter(|f| !f.is_empty());
        let many = self.config.get("filter_subjects").and_then(Value::as_array);
        one.map(ToOwned::to_owned)
            .into_iter()
            .chain(many.into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned))
            .collect()
    }
}

impl<W: Wire> Broker<W> {
    /// One JetStream API request.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn api(&self, verb: &str, body: &Value) -> Result<Value, ApiError> {
        let subject = format!("$JS.API.{verb}");
        let payload = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let out = Outgoing { subject: subject.clone().into(), headers: None, payload };
        let reply = match self.wire.request(out, API_TIMEOUT).await {
            Ok(reply) => reply,
            Err(cause) => return Err(ApiError::Wire { subject, cause }),
        };
        let unreadable =
            |e: serde_json::Error| ApiError::Unreadable { subject: subject.clone(), detail: e.to_string() };
        let mut value: Value = serde_json::from_slice(&reply.payload).map_err(unreadable)?;
        let Some(error) = value.get_mut("error").map(Value::take) else { return Ok(value) };
        let error: ErrorBody = serde_json::from_value(error).map_err(unreadable)?;
        if error.code == 404 {
            return Err(ApiError::NotFound { what: verb.to_owned() });
        }
        Err(ApiError::Refused { code: error.err_code, description: error.description })
    }

    async fn api_as<T: for<'de> Deserialize<'de>>(&self, verb: &str, body: &Value) -> Result<T, ApiError> {
        let value = self.api(verb, body).await?;
        serde_json::from_value(value)
            .map_err(|e| ApiError::Unreadable { subject: format!("$JS.API.{verb}"), detail: e.to_string() })
    }

    /// What is known of a stream.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn stream_info(&self, stream: &str) -> Result<StreamInfo, ApiError> {
        self.api_as(&format!("STREAM.INFO.{stream}"), &Value::Null).await
    }

    /// What is known of a consumer.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn consumer_info(&self, stream: &str, consumer: &str) -> Result<ConsumerInfo, ApiError> {
        self.api_as(&format!("CONSUMER.INFO.{stream}.{consumer}"), &Value::Null).await
    }

    /// The last message on a subject, from the stream's leader.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] where there is none.
    pub async fn last_on(&self, stream: &str, subject: &str) -> Result<StoredMessage, ApiError> {
        self.message(stream, &json!({ "last_by_subj": subject })).await
    }

    /// The message of a sequence.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] where there is none.
    pub async fn message_at(&self, stream: &str, sequence: u64) -> Result<StoredMessage, ApiError> {
        self.message(stream, &json!({ "seq": sequence })).await
    }

    /// The first message at or after a sequence whose subject matches.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] where there is none.
    pub async fn message_from(&self, stream: &str, subject: &str, from: u64) -> Result<StoredMessage, ApiError> {
        self.message(stream, &json!({ "seq": from, "next_by_subj": subject })).await
    }

    async fn message(&self, stream: &str, ask: &Value) -> Result<StoredMessage, ApiError> {
        #[derive(Deserialize)]
        struct Reply {
            message: Body,
        }
        #[derive(Deserialize)]
        struct Body {
            subject: String,
            seq: u64,
            #[serde(default)]
            hdrs: String,
            #[serde(default)]
            data: String,
            time: jiff::Timestamp,
        }
        let verb = format!("STREAM.MSG.GET.{stream}");
        let unreadable = |detail: String| ApiError::Unreadable { subject: format!("$JS.API.{verb}"), detail };
        let Reply { message } = self.api_as(&verb, ask).await?;
        let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text);
        let headers = decode(&message.hdrs).map_err(|e| unreadable(e.to_string()))?;
        let payload = decode(&message.data).map_err(|e| unreadable(e.to_string()))?;
        Ok(StoredMessage {
            subject: message.subject,
            sequence: message.seq,
            headers: parse_headers(&String::from_utf8_lossy(&headers)),
            payload: payload.into(),
            time: message.time,
        })
    }
}

/// Header lines after the `NATS/1.0` line.
pub(super) fn parse_headers(text: &str) -> Vec<(String, String)> {
    text.split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// Every header as a pair, sorted by name: the client keeps them in no order.
pub(super) fn header_pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |v| (name.to_string(), v.as_str().to_owned())))
        .collect();
    pairs.sort();
    pairs
}
