//! Subject and message id of a body, as contract v1 recommends them.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::domain::{Account, Iban, OrderKey, OtherAccount, SchemeName};
use crate::intake::{Contract, Decode, Raw};
use crate::operate::audit::hex;

/// Where a body goes and under which id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `payments.requested.<scheme>.<order-key>`.
    pub subject: String,
    /// `<payment_id>:<16 hex digits>`: a repeat is swallowed by the broker, another body under the same id is not.
    /// `unread:<16 hex digits>:<line>` where there is no payment id: only the same line of another run is a repeat,
    /// because what cannot be read cannot be told to be the same payment, and each of them must be accounted for.
    pub message_id: String,
    /// The subject's scheme.
    pub scheme: SchemeName,
}

/// Gives each body its address.
///
/// The scheme is the body's own where the stream has subjects for it. A body without a scheme, with one that is none
/// of the stream's, or that cannot be read goes where `book` goes: an event without a stream would be lost, so it is
/// published where the rules see it and reject it (FF05) or dead-letter it.
#[derive(Debug, Clone)]
pub struct Addresses {
    schemes: Vec<SchemeName>,
    fallback: SchemeName,
    unread: OrderKey,
}

impl Addresses {
    /// Addresses on the subjects of `schemes`; the fallback is `book`, or the first where there is no `book`.
    #[must_use]
    pub fn new(schemes: &[SchemeName]) -> Self {
        let book = schemes.iter().find(|scheme| scheme.as_str() == "book").or_else(|| schemes.first()).cloned();
        let fallback = book.unwrap_or_else(SchemeName::unread);
        Self { schemes: schemes.to_vec(), fallback, unread: OrderKey::unread() }
    }

    /// The address of the body in line `line`. Pure.
    #[must_use]
    pub fn of(&self, body: &[u8], line: u64) -> Address {
        let hash = first_16(body);
        let raw = Raw { scheme: &self.fallback, order_key: &self.unread, header: &|_| None, body };
        let Ok(decoded) = Contract.decode(raw) else {
            return Address {
                subject: subject(&self.fallback, &self.unread.to_string()),
                message_id: format!("unread:{hash}:{line}"),
                scheme: self.fallback.clone(),
            };
        };
        let content = decoded.content();
        let message_id = format!("{}:{hash}", decoded.payment_id());
        let scheme = match content.get("scheme") {
            None | Some(Value::Null) => Some(self.fallback.clone()),
            Some(Value::String(text)) => SchemeName::parse(text).ok(),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => None,
        };
        let (scheme, key) = match scheme {
            Some(scheme) if self.schemes.contains(&scheme) => (scheme, order_key(content)),
            Some(_) => (self.fallback.clone(), order_key(content)),
            None => (self.fallback.clone(), None),
        };
        let key = key.unwrap_or_else(|| self.unread.to_string());
        Address { subject: subject(&scheme, &key), message_id, scheme }
    }
}

fn subject(scheme: &SchemeName, key: &str) -> String {
    format!("payments.requested.{scheme}.{key}")
}

fn first_16(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    hex(digest.get(..8).unwrap_or_default())
}

/// A name for the debtor's account that does not give it away in logs of subjects. (Who knows all account numbers can
/// still find it: give an internal id where that matters.)
fn order_key(content: &Map<String, Value>) -> Option<String> {
    let account = content.get("debtor_account")?.as_object()?;
    let account = match (account.get("iban"), account.get("other")) {
        (Some(iban), None) => Account::Iban(Iban::parse(iban.as_str()?).ok()?),
        (None, Some(other)) => {
            let scheme = other.get("scheme").and_then(Value::as_str);
            Account::Other(OtherAccount::parse(other.get("id")?.as_str()?, scheme).ok()?)
        }
        (None, None) | (Some(_), Some(_)) => return None,
    };
    Some(first_16(account.key().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        let schemes = ["sct", "book", "cbpr"].map(|name| SchemeName::parse(name).expect("valid"));
        Addresses::new(&schemes)
    }

    fn of(body: &str) -> Address {
        addresses().of(body.as_bytes(), 7)
    }

    #[test]
    fn scheme_and_debtor_account_make_the_subject() {
        let body = r#"{"payment_id":"P-1","scheme":"sct","debtor_account":{"iban":"DE89370400440532013000"}}"#;
        let address = of(body);
        let key = first_16(b"iban:DE89370400440532013000");
        assert_eq!(address.subject, format!("payments.requested.sct.{key}"));
        assert_eq!(address.message_id, format!("P-1:{}", first_16(body.as_bytes())));
        assert_eq!(key.len(), 16);
        let other = of(r#"{"payment_id":"P-1","debtor_account":{"other":{"id":"ACC1","scheme":"x"}}}"#);
        assert_eq!(other.subject, format!("payments.requested.book.{}", first_16(b"other:x:ACC1")));
    }

    #[test]
    fn what_cannot_be_read_goes_to_the_unread_key_under_its_hash_and_line() {
        for body in ["", "{", "[]", r#"{"payment_id":7}"#, r#"{"scheme":"sct"}"#, r#"{"payment_id":"a b"}"#] {
            let address = of(body);
            assert_eq!(address.subject, "payments.requested.book.unread", "{body}");
            assert_eq!(address.message_id, format!("unread:{}:7", first_16(body.as_bytes())));
        }
    }

    #[test]
    fn a_scheme_that_is_no_token_is_unread_and_one_without_subjects_goes_to_the_book() {
        for scheme in [r#""a b""#, r#""""#, "7", "{}", r#""x.y""#, r#""*""#] {
            let body = format!(r#"{{"payment_id":"P","scheme":{scheme},"debtor_account":{{"other":{{"id":"A"}}}}}}"#);
            assert_eq!(of(&body).subject, "payments.requested.book.unread", "{scheme}");
        }
        let strange = of(r#"{"payment_id":"P","scheme":"sepa","debtor_account":{"other":{"id":"A"}}}"#);
        assert_eq!(strange.subject, format!("payments.requested.book.{}", first_16(b"other::A")));
        let null = of(r#"{"payment_id":"P","scheme":null,"debtor_account":{"iban":"nonsense"}}"#);
        assert_eq!(null.subject, "payments.requested.book.unread");
    }

    #[test]
    fn another_body_of_the_same_payment_has_another_message_id() {
        let (one, two) = (of(r#"{"payment_id":"P","purpose":"A"}"#), of(r#"{"payment_id":"P","purpose":"B"}"#));
        assert_ne!(one.message_id, two.message_id);
        assert_eq!(one.message_id, addresses().of(br#"{"payment_id":"P","purpose":"A"}"#, 8).message_id);
    }

    #[test]
    fn without_a_book_the_first_scheme_takes_what_has_none() {
        let only = Addresses::new(&[SchemeName::parse("cbpr").expect("valid")]);
        assert_eq!(only.of(b"{", 1).subject, "payments.requested.cbpr.unread");
    }
}
