//! A body without its values: enough to see what kind of thing it is, nothing of whom it is about.

use serde_json::{Map, Value};

/// Fields of contract v1 whose values say nothing about a person.
const SHOWN: [&str; 4] = ["payment_id", "scheme", "currency", "charge_bearer"];

/// Other fields of contract v1: named, their values hidden.
const NAMED: [&str; 35] = [
    "instruction_id",
    "end_to_end_id",
    "uetr",
    "amount",
    "value",
    "debtor",
    "creditor",
    "name",
    "lei",
    "address",
    "street",
    "building",
    "post_code",
    "town",
    "country",
    "debtor_account",
    "creditor_account",
    "iban",
    "other",
    "id",
    "debtor_agent",
    "creditor_agent",
    "bic",
    "clearing",
    "system",
    "member",
    "requested_execution_date",
    "expires_at",
    "category_purpose",
    "purpose",
    "remittance",
    "unstructured",
    "structured",
    "reference",
    "data",
];

/// The body's shape, or `None` where it is not JSON.
pub(super) fn masked(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok().map(|value| value_of(&value, false))
}

fn value_of(value: &Value, shown: bool) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) => Value::from("(bool)"),
        Value::Number(_) => Value::from("(number)"),
        Value::String(text) if shown && text.len() <= 64 && text.bytes().all(is_token) => Value::from(text.as_str()),
        Value::String(text) => Value::from(format!("(text of {})", text.chars().count())),
        Value::Array(items) => Value::from(format!("(list of {})", items.len())),
        Value::Object(fields) => Value::Object(object(fields)),
    }
}

/// A name that the contract does not know is the publisher's text, and may be data itself.
fn object(fields: &Map<String, Value>) -> Map<String, Value> {
    let mut masked = Map::new();
    let mut unknown = 0_usize;
    for (name, value) in fields {
        let shown = SHOWN.contains(&name.as_str());
        if shown || NAMED.contains(&name.as_str()) {
            masked.insert(name.clone(), value_of(value, shown));
        } else {
            unknown = unknown.saturating_add(1);
        }
    }
    if unknown > 0 {
        masked.insert("(unknown fields)".to_owned(), Value::from(unknown));
    }
    masked
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_value_of_a_person_shows_and_the_shape_does() {
        let body = json!({
            "payment_id": "P-1", "amount": {"currency": "EUR", "value": "12.50"},
            "debtor": {"name": "Hans Maier"}, "debtor_account": {"iban": "DE89370400440532013000"},
            "Hans Maier": 1, "purpose": 7, "remittance": ["x"],
        });
        let shape = masked(body.to_string().as_bytes()).expect("JSON");
        assert_eq!(
            shape,
            json!({
                "payment_id": "P-1", "amount": {"currency": "EUR", "value": "(text of 5)"},
                "debtor": {"name": "(text of 10)"}, "debtor_account": {"iban": "(text of 22)"},
                "(unknown fields)": 1, "purpose": "(number)", "remittance": "(list of 1)",
            })
        );
        assert_eq!(masked(b"{"), None);
        assert_eq!(masked(br#"{"payment_id":"Hans Maier"}"#), Some(json!({"payment_id": "(text of 10)"})));
    }
}
