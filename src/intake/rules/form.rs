//! The whole body: depth, and fields that the contract does not know. One finding stands for all others.

use serde_json::Value;

use super::Object;
use super::findings::Findings;
use crate::domain::Code;
use crate::intake::Decoded;

/// The deepest nesting the contract allows, the body itself counted.
const DEPTH: usize = 16;

/// The fields of one object, with those of the objects inside.
struct Shape {
    fields: &'static [&'static str],
    inside: &'static [(&'static str, &'static Shape)],
}

const BODY: Shape = Shape {
    fields: &[
        "payment_id",
        "scheme",
        "instruction_id",
        "end_to_end_id",
        "uetr",
        "charge_bearer",
        "requested_execution_date",
        "expires_at",
        "category_purpose",
        "purpose",
    ],
    inside: &[
        ("amount", &AMOUNT),
        ("debtor", &PARTY),
        ("creditor", &PARTY),
        ("debtor_account", &ACCOUNT),
        ("creditor_account", &ACCOUNT),
        ("debtor_agent", &AGENT),
        ("creditor_agent", &AGENT),
        ("remittance", &REMITTANCE),
    ],
};
const AMOUNT: Shape = Shape { fields: &["currency", "value"], inside: &[] };
const PARTY: Shape = Shape { fields: &["name", "lei"], inside: &[("address", &ADDRESS)] };
const ADDRESS: Shape = Shape { fields: &["street", "building", "post_code", "town", "country"], inside: &[] };
const ACCOUNT: Shape = Shape { fields: &["iban"], inside: &[("other", &OTHER)] };
const OTHER: Shape = Shape { fields: &["id", "scheme"], inside: &[] };
const AGENT: Shape = Shape { fields: &["bic"], inside: &[("clearing", &CLEARING)] };
const CLEARING: Shape = Shape { fields: &["system", "member"], inside: &[] };
const REMITTANCE: Shape = Shape { fields: &["unstructured"], inside: &[("structured", &STRUCTURED)] };
const STRUCTURED: Shape = Shape { fields: &["reference"], inside: &[] };

/// Leaves one finding, FF01, where the body nests too deep or names a field that the contract does not know.
pub(super) fn check(decoded: &Decoded, findings: &mut Findings) {
    if decoded.depth > DEPTH {
        findings.only(Code::FF01, String::new(), "nested deeper than 16 levels");
    } else if let Some(path) = unknown_field(&decoded.content, &BODY) {
        findings.only(Code::FF01, path, "a field that the contract does not know");
    }
}

/// The pointer to the first unknown field: the object's own before those of the objects inside.
fn unknown_field(object: &Object, shape: &Shape) -> Option<String> {
    let mut known_inside = 0_usize;
    for key in object.keys() {
        if shape.inside.iter().any(|(name, _)| name == key) {
            known_inside = known_inside.saturating_add(1);
        } else if !shape.fields.contains(&key.as_str()) {
            return Some(if is_plain_name(key) { format!("/{key}") } else { String::new() });
        }
    }
    if known_inside == 0 {
        return None;
    }
    shape.inside.iter().find_map(|(name, inner)| {
        let path = unknown_field(object.get(*name).and_then(Value::as_object)?, inner)?;
        Some(format!("/{name}{path}"))
    })
}

/// Whether an unknown field's name may be told on: it is the publisher's text, and could hold an account number or a
/// name. Else the finding points at the object.
fn is_plain_name(key: &str) -> bool {
    let digits = key.bytes().filter(u8::is_ascii_digit).count();
    (1..=32).contains(&key.len())
        && digits < 4
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unknown(body: &Value) -> Option<String> {
        unknown_field(body.as_object().expect("an object"), &BODY)
    }

    #[test]
    fn the_pointer_names_the_unknown_field_at_any_level() {
        assert_eq!(unknown(&json!({"payment_id": 1, "amount": {"currency": 1, "value": {"any": 1}}})), None);
        for (body, path) in [
            (json!({"colour": 1}), "/colour"),
            (json!({"amount": {"unit": 1}}), "/amount/unit"),
            (json!({"creditor": {"address": {"planet": null}}}), "/creditor/address/planet"),
            (json!({"debtor_account": {"other": {"iban": 1}}}), "/debtor_account/other/iban"),
            (json!({"debtor_agent": {"clearing": {"bic": 1}}}), "/debtor_agent/clearing/bic"),
            (json!({"remittance": {"structured": {"type": 1}}}), "/remittance/structured/type"),
            (json!({"Payment_id": 1}), "/Payment_id"),
        ] {
            assert_eq!(unknown(&body).as_deref(), Some(path));
        }
    }

    #[test]
    fn a_field_name_that_could_be_data_is_not_repeated() {
        for key in ["DE89370400440532013000", "Hans Maier", "a/b", "", "é", "x\u{7}", &"y".repeat(33)] {
            assert_eq!(unknown(&json!({ key: 1 })).as_deref(), Some(""), "{key}");
            assert_eq!(unknown(&json!({"amount": { key: 1 }})).as_deref(), Some("/amount"), "{key}");
        }
    }
}
