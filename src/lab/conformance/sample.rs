//! The payment that is asked for, with an identity of its own each time.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::domain::{Money, PaymentId, SchemeName};
use crate::intake::Decoded;

/// One event of contract v1 that stands for all that the suite publishes.
#[derive(Debug, Clone)]
pub struct Sample {
    content: Map<String, Value>,
}

/// Why an event cannot be the sample.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// Its form.
    #[error("not a JSON object: {0}")]
    Json(#[from] serde_json::Error),
    /// Its amount.
    #[error("its amount cannot be read in its currency")]
    Amount,
}

impl Default for Sample {
    /// One euro between two accounts that pass every check.
    fn default() -> Self {
        let content = json!({
            "scheme": "sct-inst",
            "amount": { "currency": "EUR", "value": "1.00" },
            "debtor": { "name": "Conformance Debtor" },
            "creditor": { "name": "Conformance Creditor" },
            "debtor_account": { "iban": "DE89370400440532013000" },
            "creditor_account": { "iban": "FR1420041010050500013M02606" },
            "remittance": { "unstructured": "conformance" }
        });
        Self { content: content.as_object().cloned().unwrap_or_default() }
    }
}

impl Sample {
    /// Takes an event's body; its payment id is replaced, the rest is sent as it is.
    ///
    /// # Errors
    /// [`SampleError`]; whether the rules take it shows when the suite runs.
    pub fn parse(body: &[u8]) -> Result<Self, SampleError> {
        let sample = Self { content: serde_json::from_slice(body)? };
        if sample.amount().is_none() { Err(SampleError::Amount) } else { Ok(sample) }
    }

    /// What each payment moves.
    #[must_use]
    pub fn amount(&self) -> Option<Money> {
        let id = PaymentId::parse("sample").ok()?;
        Decoded::new(id, &SchemeName::unread(), self.content.clone()).amount()
    }

    /// The event's body for a payment.
    pub(super) fn body(&self, id: &PaymentId) -> Bytes {
        let mut content = self.content.clone();
        content.insert("payment_id".to_owned(), Value::from(id.as_str()));
        Value::Object(content).to_string().into()
    }

    /// A body that asks for one minor unit more under the same identity.
    pub(super) fn other_body(&self, id: &PaymentId) -> Bytes {
        let more = self.amount().and_then(|amount| Money::new(amount.minor().saturating_add(1), amount.currency()));
        let mut other = self.clone();
        if let (Some(more), Some(Value::Object(amount))) = (more, other.content.get_mut("amount")) {
            amount.insert("value".to_owned(), Value::from(more.value()));
        }
        other.body(id)
    }
}
