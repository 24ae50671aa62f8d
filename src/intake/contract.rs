//! Contract v1 on the wire: version header, size, CloudEvents, JSON, and `payment_id` before anything else.

use serde_json::{Map, Value};

use super::json::{self, NotRead};
use super::{Decode, Decoded, Raw, Unreadable};
use crate::domain::{Code, PaymentId, Reason};

/// The version of the contract that this worker judges by.
const VERSION: u32 = 1;

/// The longest body, in bytes.
const LONGEST_BODY: usize = 64 * 1024;

/// Contract v1: a JSON body, bare or as the data of a CloudEvents 1.0 event.
///
/// Structured CloudEvents are told by `Content-Type: application/cloudevents+json`; of their attributes only
/// `specversion` and `data` are looked at. In binary mode the body is the data.
#[derive(Debug, Clone, Copy, Default)]
pub struct Contract;

impl Decode for Contract {
    fn decode(&self, raw: Raw<'_>) -> Result<Decoded, Unreadable> {
        version(raw)?;
        if raw.body.len() > LONGEST_BODY {
            return Err(malformed("larger than 64 KiB"));
        }
        let body = json::read(raw.body).map_err(|not_read| match not_read {
            NotRead::NotJson => malformed("not JSON"),
            NotRead::DuplicateKey => malformed("an object names a key twice"),
        })?;
        let Value::Object(mut content) = body else { return Err(malformed("not a JSON object")) };
        if is_structured(raw)? {
            content = data_of(content)?;
        } else if (raw.header)("ce-specversion").is_some_and(|version| version.trim() != "1.0") {
            return Err(malformed("a CloudEvents version other than 1.0"));
        }
        let payment_id = payment_id(&content)?;
        Ok(Decoded::new(payment_id, raw.scheme, content))
    }
}

fn malformed(text: &str) -> Unreadable {
    Unreadable::Malformed(Reason::new(Code::FF01, "", text))
}

/// Lets version 1 pass, said or unsaid.
fn version(raw: Raw<'_>) -> Result<(), Unreadable> {
    let Some(text) = (raw.header)("Acquit-Contract").map(str::trim) else { return Ok(()) };
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed("the Acquit-Contract header is not a version"));
    }
    // Digits only: what does not parse is too large, and so newer than anything.
    match text.parse().unwrap_or(u32::MAX) {
        0 => Err(malformed("the Acquit-Contract header is not a version")),
        VERSION => Ok(()),
        version => Err(Unreadable::NewerContract { version }),
    }
}

/// Whether the body is a CloudEvents envelope. Batches and envelopes in other formats are refused.
fn is_structured(raw: Raw<'_>) -> Result<bool, Unreadable> {
    let Some(content_type) = (raw.header)("Content-Type").or_else(|| (raw.header)("content-type")) else {
        return Ok(false);
    };
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let prefix = media_type.get(.."application/cloudevents".len());
    if !prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case("application/cloudevents")) {
        return Ok(false);
    }
    if media_type.eq_ignore_ascii_case("application/cloudevents+json") {
        return Ok(true);
    }
    Err(malformed("a CloudEvents format other than JSON"))
}

fn data_of(mut envelope: Map<String, Value>) -> Result<Map<String, Value>, Unreadable> {
    if envelope.get("specversion").and_then(Value::as_str) != Some("1.0") {
        return Err(malformed("a CloudEvents version other than 1.0"));
    }
    match envelope.remove("data") {
        Some(Value::Object(data)) => Ok(data),
        Some(_) | None => Err(malformed("the CloudEvents event has no JSON object as data")),
    }
}

fn payment_id(content: &Map<String, Value>) -> Result<PaymentId, Unreadable> {
    let broken = |code, text: &str| Unreadable::Malformed(Reason::new(code, "/payment_id", text));
    match content.get("payment_id") {
        None | Some(Value::Null) => Err(broken(Code::CH21, "required")),
        Some(Value::String(text)) => PaymentId::parse(text)
            .map_err(|_| broken(Code::CH16, "must be 1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'")),
        Some(_) => Err(broken(Code::CH16, "must be a text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{OrderKey, SchemeName};

    fn decode(headers: &[(&str, &str)], body: &[u8]) -> Result<Decoded, Unreadable> {
        let scheme = SchemeName::parse("book").expect("valid");
        let order_key = OrderKey::parse("k").expect("valid");
        let header = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        Contract.decode(Raw { scheme: &scheme, order_key: &order_key, header: &header, body })
    }

    fn refusal(headers: &[(&str, &str)], body: &[u8]) -> Reason {
        match decode(headers, body).expect_err("refused") {
            Unreadable::Malformed(reason) => reason,
            Unreadable::NewerContract { version } => panic!("newer contract {version}"),
        }
    }

    const STRUCTURED: (&str, &str) = ("Content-Type", "application/cloudevents+json; charset=utf-8");

    #[test]
    fn a_version_above_ours_is_handed_back_and_an_unreadable_one_refused() {
        for (text, version) in [("2", 2), ("99999999999999", u32::MAX)] {
            let answer = decode(&[("Acquit-Contract", text)], b"not read at all").expect_err("newer");
            assert_eq!(answer, Unreadable::NewerContract { version });
        }
        assert!(decode(&[("Acquit-Contract", "1")], br#"{"payment_id":"a"}"#).is_ok());
        for text in ["", "0", "-1", "1.0", "v1", "+1"] {
            assert_eq!(refusal(&[("Acquit-Contract", text)], br#"{"payment_id":"a"}"#).code, Code::FF01, "{text}");
        }
    }

    #[test]
    fn sixty_four_kibibytes_are_read_and_one_byte_more_is_not() {
        let body = |length: usize| {
            let shell = r#"{"payment_id":"a","x":""}"#.len();
            format!(r#"{{"payment_id":"a","x":"{}"}}"#, "y".repeat(length - shell)).into_bytes()
        };
        assert!(decode(&[], &body(64 * 1024)).is_ok());
        assert_eq!(refusal(&[], &body(64 * 1024 + 1)).code, Code::FF01);
    }

    #[test]
    fn without_a_well_formed_payment_id_an_event_is_unreadable() {
        for (body, code) in [
            (&br#"{"payment_id":null}"#[..], Code::CH21),
            (b"{}", Code::CH21),
            (br#"{"payment_id":""}"#, Code::CH16),
            (br#"{"payment_id":7}"#, Code::CH16),
            (br#"{"payment_id":"a b"}"#, Code::CH16),
            (br#"{"payment_id":{"a":1}}"#, Code::CH16),
        ] {
            let reason = refusal(&[], body);
            assert_eq!((reason.code, reason.path.as_str()), (code, "/payment_id"));
        }
        for body in [&b"[]"[..], b"7", b"null", b"", b"{", br#"{"payment_id":"a","payment_id":"b"}"#] {
            assert_eq!(refusal(&[], body).code, Code::FF01);
        }
    }

    #[test]
    fn data_of_a_structured_cloud_event_is_the_same_as_the_bare_body() {
        let bare = decode(&[], br#"{"payment_id":"a","purpose":"SALA"}"#).expect("read");
        let envelope = br#"{"specversion":"1.0","id":"z","source":"/s","type":"t","traceparent":"00-1","colour":1,
            "data":{"purpose":"SALA","payment_id":"a"}}"#;
        for header in [STRUCTURED, ("content-type", "Application/CloudEvents+JSON")] {
            let inside = decode(&[header], envelope).expect("read");
            assert_eq!(inside.payment_id().as_str(), "a");
            assert_eq!(inside.fingerprint(), bare.fingerprint());
        }
        let binary = [("ce-specversion", "1.0"), ("ce-id", "z"), ("Content-Type", "application/json")];
        let binary = decode(&binary, br#"{"payment_id":"a","purpose":"SALA"}"#).expect("read");
        assert_eq!(binary.fingerprint(), bare.fingerprint());
    }

    #[test]
    fn an_envelope_of_another_kind_is_refused() {
        for body in [
            &br#"{"specversion":"0.3","data":{"payment_id":"a"}}"#[..],
            br#"{"data":{"payment_id":"a"}}"#,
            br#"{"specversion":"1.0"}"#,
            br#"{"specversion":"1.0","data":"{}"}"#,
            br#"{"specversion":"1.0","data_base64":"e30="}"#,
            br#"{"specversion":"1.0","id":"a","id":"b","data":{"payment_id":"a"}}"#,
        ] {
            assert_eq!(refusal(&[STRUCTURED], body).code, Code::FF01);
        }
        let batch = ("Content-Type", "application/cloudevents-batch+json");
        assert_eq!(refusal(&[batch], br#"{"payment_id":"a"}"#).code, Code::FF01);
        assert_eq!(refusal(&[("ce-specversion", "0.3")], br#"{"payment_id":"a"}"#).code, Code::FF01);
    }
}
