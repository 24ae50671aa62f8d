//! Records about payments in doubt: what a person found out, with evidence. The newest one on a payment's subject is
//! the guard that keeps the same words from being recorded twice, and from being taken for a later attempt.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::broker::{ApiError, Broker, PublishError, Wire};
use crate::domain::{PaymentId, RailKey};
use crate::operate::Trouble;

/// What is done to a payment in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownAction {
    /// A person's word is about to be recorded as its rail's answer.
    UnknownResolve,
}

/// One record about a payment in doubt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownEntry {
    /// The form of the record.
    pub contract: u8,
    /// What was done.
    pub action: UnknownAction,
    /// In whose name.
    pub who: String,
    /// For what reason.
    pub why: String,
    /// What shows that it is so.
    pub evidence: String,
    /// When, by this machine's clock.
    pub at: Timestamp,
    /// The payment.
    pub payment_id: String,
    /// `settled`, `rejected` or `not-processed`.
    pub resolved_as: String,
    /// The rail's reference, where settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rail_ref: Option<String>,
    /// The code, where rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The lane that held it.
    pub lane: String,
    /// The rail of the attempts without an answer.
    pub rail: String,
    /// The keys that the rail knows them by.
    pub keys: Vec<String>,
    /// The number of the last attempt: what is said holds for none after it.
    pub last_attempt: u32,
    /// The store's identity.
    pub store_id: String,
}

/// Where records about this payment are.
#[must_use]
pub(in crate::operate) fn subject(payment: &PaymentId) -> String {
    format!("payments.audit.unknown.{payment}")
}

impl UnknownEntry {
    /// Whether the other says the same about the payment, in the same name and with the same evidence.
    pub(in crate::operate) fn says_the_same(&self, other: &Self) -> bool {
        (&self.resolved_as, &self.rail_ref, &self.code) == (&other.resolved_as, &other.rail_ref, &other.code)
            && (&self.who, &self.why, &self.evidence) == (&other.who, &other.why, &other.evidence)
    }

    /// Writes it behind `newest`, the sequence of the record before it (0 for none); gives its own.
    ///
    /// # Errors
    /// [`Trouble`]: nothing may be done then.
    pub(in crate::operate) async fn write<W: Wire>(
        &self,
        broker: &Broker<W>,
        payment: &PaymentId,
        newest: u64,
    ) -> Result<u64, Trouble> {
        let body = serde_json::to_vec(self).map_err(|e| Trouble::Local { what: format!("audit record: {e}") })?;
        let subject = subject(payment);
        let id = format!("{subject}:{}", uuid::Uuid::new_v4());
        let behind = [("Nats-Expected-Last-Subject-Sequence".to_owned(), newest.to_string())];
        match broker.publish_confirmed(&subject, &id, &behind, Bytes::from(body), &broker.streams().audit).await {
            Ok((sequence, _)) => Ok(sequence),
            Err(PublishError::Refused { code: super::WRONG_LAST_SEQUENCE, .. }) => Err(Trouble::Refused {
                what: format!("{subject}: somebody else has just written a record about this payment; look again"),
            }),
            Err(error) => Err(Trouble::of_publish(broker, &subject, &error)),
        }
    }

    /// The newest record about a payment, with its sequence.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn newest<W: Wire>(broker: &Broker<W>, payment: &PaymentId) -> Result<Option<(u64, Self)>, Trouble> {
        match broker.last_on(broker.streams().audit.as_str(), &subject(payment)).await {
            Ok(stored) => match serde_json::from_slice(&stored.payload) {
                Ok(entry) => Ok(Some((stored.sequence, entry))),
                Err(e) => Err(Trouble::Refused { what: format!("{}: not an audit record: {e}", stored.subject) }),
            },
            Err(ApiError::NotFound { .. }) => Ok(None),
            Err(error) => Err(Trouble::of_api(broker, error)),
        }
    }
}

/// The keys of these legs, each once.
pub(in crate::operate) fn keys(payment: &PaymentId, legs: impl Iterator<Item = u8>) -> Vec<String> {
    let legs: std::collections::BTreeSet<u8> = legs.collect();
    legs.into_iter().map(|leg| RailKey::of(payment, leg).as_str().to_owned()).collect()
}
