//! Identifiers, each with one checked constructor that serde uses as well.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a text is not the identifier it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct Invalid {
    /// The identifier's name, as an operator knows it.
    pub what: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// `[A-Za-z0-9_-]{1,64}`: safe as a NATS subject token and in a log line.
const TOKEN_RULE: &str = "1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'";

fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is.
            ///
            /// # Errors
            /// When the text is not 1 to 64 characters of `[A-Za-z0-9_-]`.
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                if is_token(text) { Ok(Self(text.into())) } else { Err(Invalid { what: $what, rule: TOKEN_RULE }) }
            }

            /// The identifier's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

token!(
    /// The business object's identity, chosen by the publisher.
    PaymentId, "payment_id"
);
token!(
    /// A payment scheme: the third token of the subject.
    SchemeName, "scheme"
);
token!(
    /// The fourth token of the subject: an opaque name for the account whose payments belong together.
    OrderKey, "order key"
);
token!(
    /// A lane's name in configuration, metrics and outcome events.
    LaneName, "lane name"
);
token!(
    /// A JetStream stream's name.
    StreamName, "stream name"
);

/// One message asking for a payment: a recreated stream counts from 1 again, so the stream's creation time is part
/// of the identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    /// The stream that holds the message.
    pub stream: StreamName,
    /// When that stream was created, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// The message's sequence in it.
    pub sequence: u64,
}

impl EventId {
    /// `<stream>.<created ms>.<sequence>`, the tail of the event's dead-letter subject.
    #[must_use]
    pub fn token(&self) -> String {
        format!("{}.{}.{}", self.stream, self.created_ms, self.sequence)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.stream, self.created_ms, self.sequence)
    }
}

/// SHA-256 over the canonical form of what was asked for (version 1, `DESIGN` 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The version of the rule that made it, stored beside it.
    pub const VERSION: u8 = 1;

    /// The digest of `canonical`.
    #[must_use]
    pub fn of(canonical: &[u8]) -> Self {
        Self(Sha256::digest(canonical).into())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Fingerprint({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// A store's random identity, written into the consumer's metadata by `provision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(uuid::Uuid);

impl StoreId {
    /// Takes random bits (the caller draws them) as an identity.
    #[must_use]
    pub fn from_random(bits: u128) -> Self {
        Self(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid())
    }

    /// # Errors
    /// When the text is not a UUID.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        uuid::Uuid::parse_str(text).map(Self).map_err(|_| Invalid { what: "store id", rule: "a UUID" })
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a rail knows one leg of a payment by: a pure function of the two, never of attempt, delivery or process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RailKey(String);

impl RailKey {
    /// The key of `leg` (0 for the first rail) of `payment`.
    #[must_use]
    pub fn of(payment: &PaymentId, leg: u8) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"acquit rail key v1\0");
        digest.update(payment.as_str().as_bytes());
        digest.update([0, leg]);
        let bytes: [u8; 32] = digest.finalize().into();
        let mut first = [0_u8; 16];
        first.copy_from_slice(&bytes[..16]);
        Self(uuid::Builder::from_custom_bytes(first).into_uuid().to_string())
    }

    /// The key as it goes into an `Idempotency-Key` header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The rail's own reference of a payment: 1 to 128 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct RailRef(String);

impl RailRef {
    /// # Errors
    /// When the text is empty, longer than 128 or not printable ASCII.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid { what: "rail reference", rule: "1 to 128 printable ASCII characters" })
        }
    }

    /// The reference of a transfer in our own book.
    #[must_use]
    pub fn of_transfer(number: i64) -> Self {
        Self(format!("tr_{number:012}"))
    }

    /// The reference's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SchemeName {
    /// Stands for the scheme of an event whose subject has none that is well formed.
    #[must_use]
    pub fn unread() -> Self {
        Self("unread".into())
    }
}

impl OrderKey {
    /// Stands for the order key of an event whose subject has none that is well formed.
    #[must_use]
    pub fn unread() -> Self {
        Self("unread".into())
    }
}
