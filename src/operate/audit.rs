//! Who did what, and why: records in the audit stream, each written before the deed it tells of. An [`Entry`] is
//! about a dead letter, a [`LaneEntry`] about a lane, an [`UnknownEntry`] about a payment in doubt.

mod lane;
mod unknown;

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Trouble;
use crate::broker::{ApiError, Broker, PublishError, Wire};

pub use lane::{LaneAction, LaneEntry};
pub(super) use unknown::keys as unknown_keys;
pub use unknown::{UnknownAction, UnknownEntry};

/// JetStream's error for a wrong expected sequence: the subject holds a record already.
const WRONG_LAST_SEQUENCE: u64 = 10_071;

/// In whose name, and for what reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mandate {
    who: String,
    why: String,
}

/// What is done to a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// About to be published again.
    Redrive,
    /// Published again.
    Redriven,
    /// About to be deleted.
    Discard,
}

/// One record of the audit stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The form of the record.
    pub contract: u8,
    /// What was done.
    pub action: Action,
    /// In whose name.
    pub who: String,
    /// For what reason.
    pub why: String,
    /// When, by this machine's clock.
    pub at: Timestamp,
    /// The dead letter's subject.
    pub dead_letter: String,
    /// Its sequence in the dead-letter stream.
    pub dead_letter_sequence: u64,
    /// The code it left under.
    pub code: String,
    /// Its payment, where that can be read.
    pub payment_id: Option<String>,
    /// SHA-256 of its body, in hex: what was sent again or deleted.
    pub body_sha256: String,
    /// Redrives of this dead letter, this one included; 0 for other actions.
    pub round: u32,
    /// The message id of the event that is published.
    pub message_id: Option<String>,
    /// Where it was published.
    pub subject: Option<String>,
    /// When the stream it goes to was created, in milliseconds since the Unix epoch.
    pub stream_created_ms: Option<i64>,
    /// That stream's last sequence before: the event is looked for behind it.
    pub stream_last: Option<u64>,
    /// The published event's sequence.
    pub published_sequence: Option<u64>,
}

/// Whether a record was written now or stood before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    Now,
    Before(Box<Entry>),
}

impl Action {
    fn token(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Redriven => "redriven",
            Self::Discard => "discard",
        }
    }

    /// The subject of the record: one per deed, so that the broker keeps a second one out.
    pub(super) fn subject(self, token: &str, round: &str) -> String {
        match self {
            Self::Redrive | Self::Redriven => format!("payments.audit.{}.{token}.{round}", self.token()),
            Self::Discard => format!("payments.audit.discard.{token}"),
        }
    }
}

impl Mandate {
    /// Takes a name of 1 to 128 characters and a reason of 1 to 512, without control characters.
    ///
    /// # Errors
    /// [`Trouble::BadInput`].
    pub fn new(who: &str, why: &str) -> Result<Self, Trouble> {
        let usable = |text: &str, most: usize| {
            !text.trim().is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control)
        };
        if !usable(who, 128) {
            return Err(Trouble::BadInput { what: "who must be 1 to 128 characters on one line".to_owned() });
        }
        if !usable(why, 512) {
            return Err(Trouble::BadInput { what: "why must be 1 to 512 characters on one line".to_owned() });
        }
        Ok(Self { who: who.trim().to_owned(), why: why.trim().to_owned() })
    }

    /// In whose name.
    #[must_use]
    pub fn who(&self) -> &str {
        &self.who
    }

    /// For what reason.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }
}

/// SHA-256 in hex.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a record under its own subject, once: a subject that holds one already is left as it is.
pub(super) async fn write_once<W: Wire>(broker: &Broker<W>, subject: &str, entry: &Entry) -> Result<Written, Trouble> {
    let body = serde_json::to_vec(entry).map_err(|e| Trouble::Local { what: format!("audit record: {e}") })?;
    let once = [("Nats-Expected-Last-Subject-Sequence".to_owned(), "0".to_owned())];
    let stream = &broker.streams().audit;
    match broker.publish_confirmed(subject, subject, &once, Bytes::from(body), stream).await {
        Ok((_, false)) => Ok(Written::Now),
        Ok((_, true)) | Err(PublishError::Refused { code: WRONG_LAST_SEQUENCE, .. }) => {
            match read_last(broker, subject).await? {
                Some(entry) => Ok(Written::Before(Box::new(entry))),
                None => Err(Trouble::Refused {
                    what: format!("{subject}: the broker knows this record and does not give it"),
                }),
            }
        }
        Err(error) => Err(Trouble::of_publish(broker, subject, &error)),
    }
}

/// The newest record on a subject, which may hold wildcards.
pub(super) async fn read_last<W: Wire, E: DeserializeOwned>(
    broker: &Broker<W>,
    subject: &str,
) -> Result<Option<E>, Trouble> {
    match broker.last_on(broker.streams().audit.as_str(), subject).await {
        Ok(stored) => serde_json::from_slice(&stored.payload)
            .map(Some)
            .map_err(|e| Trouble::Refused { what: format!("{}: not an audit record: {e}", stored.subject) }),
        Err(ApiError::NotFound { .. }) => Ok(None),
        Err(error) => Err(Trouble::of_api(broker, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mandate_names_somebody_and_a_reason_on_one_line() {
        let mandate = Mandate::new(" ops-1 ", "INC-7: rail fixed").expect("good");
        assert_eq!((mandate.who(), mandate.why()), ("ops-1", "INC-7: rail fixed"));
        for (who, why) in [("", "x"), ("x", " "), ("a\nb", "x"), ("x", "a\u{7}b"), (&*"y".repeat(129), "x")] {
            assert!(Mandate::new(who, why).is_err(), "{who:?} {why:?}");
        }
    }

    #[test]
    fn each_deed_has_a_subject_of_its_own() {
        assert_eq!(Action::Redrive.subject("PAYMENTS.7.9", "1"), "payments.audit.redrive.PAYMENTS.7.9.1");
        assert_eq!(Action::Redriven.subject("PAYMENTS.7.9", "2"), "payments.audit.redriven.PAYMENTS.7.9.2");
        assert_eq!(Action::Discard.subject("PAYMENTS.7.9", "1"), "payments.audit.discard.PAYMENTS.7.9");
    }
}
