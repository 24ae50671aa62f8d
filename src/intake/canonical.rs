//! The canonical form (RFC 8785) of what was asked for, and its digest: fingerprint version 1.

use serde_json::{Map, Value};

use crate::domain::{Decimal, Fingerprint, SchemeName};

/// The digest of `content` as sent, with two liberties: `scheme` is filled in where it is missing, and `amount.value`
/// loses superfluous zeros where it is a decimal. Also tells how deep `content` nests, itself counted.
pub(super) fn fingerprint(content: &Map<String, Value>, scheme: &SchemeName) -> (Fingerprint, usize) {
    let mut writer = Writer { bytes: Vec::with_capacity(1024), depth: 1, deepest: 1 };
    writer.body(content, scheme);
    (Fingerprint::of(&writer.bytes), writer.deepest)
}

struct Writer {
    bytes: Vec<u8>,
    depth: usize,
    deepest: usize,
}

impl Writer {
    fn body(&mut self, content: &Map<String, Value>, scheme: &SchemeName) {
        let scheme = Value::String(scheme.as_str().to_owned());
        let given = content.get("scheme").is_some_and(|value| !value.is_null());
        let amount = content.get("amount").and_then(spelt_canonically);
        let entries = content.iter().filter(|(key, _)| given || key.as_str() != "scheme");
        let entries = entries.map(|(key, value)| match &amount {
            Some(amount) if key == "amount" => (key.as_str(), amount),
            Some(_) | None => (key.as_str(), value),
        });
        let filled = (!given).then_some(("scheme", &scheme));
        self.object(entries.chain(filled).collect());
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes.extend_from_slice(b"null"),
            Value::Bool(true) => self.bytes.extend_from_slice(b"true"),
            Value::Bool(false) => self.bytes.extend_from_slice(b"false"),
            Value::Number(_) => self.delegate(value),
            Value::String(text) => self.string(text),
            Value::Array(items) => self.nested(|writer| writer.array(items)),
            Value::Object(map) => {
                self.nested(|writer| writer.object(map.iter().map(|(key, value)| (key.as_str(), value)).collect()));
            }
        }
    }

    fn nested(&mut self, write: impl FnOnce(&mut Self)) {
        self.depth = self.depth.saturating_add(1);
        self.deepest = self.deepest.max(self.depth);
        write(self);
        self.depth = self.depth.saturating_sub(1);
    }

    fn array(&mut self, items: &[Value]) {
        self.bytes.push(b'[');
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.bytes.push(b',');
            }
            self.value(item);
        }
        self.bytes.push(b']');
    }

    /// RFC 8785 sorts keys by their UTF-16 units, which differs from the order of UTF-8 bytes above U+FFFF.
    fn object(&mut self, mut entries: Vec<(&str, &Value)>) {
        if entries.iter().all(|(key, _)| key.is_ascii()) {
            entries.sort_unstable_by_key(|(key, _)| *key);
        } else {
            entries.sort_unstable_by(|(left, _), (right, _)| left.encode_utf16().cmp(right.encode_utf16()));
        }
        self.bytes.push(b'{');
        for (at, (key, value)) in entries.into_iter().enumerate() {
            if at > 0 {
                self.bytes.push(b',');
            }
            self.string(key);
            self.bytes.push(b':');
            self.value(value);
        }
        self.bytes.push(b'}');
    }

    fn string(&mut self, text: &str) {
        if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
            self.bytes.push(b'"');
            self.bytes.extend_from_slice(text.as_bytes());
            self.bytes.push(b'"');
        } else {
            self.delegate(&Value::String(text.to_owned()));
        }
    }

    /// The rare values: numbers, which no field of the contract takes, and texts that need escapes. Writing them to
    /// memory cannot fail; were it to, the digest would lack one value and a conflict might pass as a duplicate of an
    /// event that breaks the rules as well.
    fn delegate(&mut self, value: &Value) {
        if let Ok(text) = serde_json_canonicalizer::to_vec(value) {
            self.bytes.extend_from_slice(&text);
        }
    }
}

/// The amount with its value in the one spelling, where that differs from the given one.
fn spelt_canonically(amount: &Value) -> Option<Value> {
    let given = amount.get("value")?.as_str()?;
    let spelt = Decimal::parse(given)?.canonical();
    if spelt == given {
        return None;
    }
    let mut amount = amount.clone();
    *amount.get_mut("value")? = Value::String(spelt);
    Some(amount)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn scheme() -> SchemeName {
        SchemeName::parse("book").expect("valid")
    }

    fn digest(content: &Value) -> Fingerprint {
        fingerprint(content.as_object().expect("an object"), &scheme()).0
    }

    /// Any JSON without the two fields that the fingerprint treats apart.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            prop::num::f64::NORMAL.prop_map(Value::from),
            "\\PC{0,8}|[\\x00-\\x1f\"\\\\/\u{7f}\u{2028}\u{e000}\u{10000}]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-z\u{e9}\u{ffff}\u{10000}\"\n]{0,3}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The same value in another spelling: keys turned round, white space between tokens, all text escaped.
    fn respelt(value: &Value, out: &mut String) {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
            Value::String(text) => escaped(text, out),
            Value::Array(items) => {
                out.push_str("[ ");
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { "\n,\t" } else { "" });
                    respelt(item, out);
                }
                out.push_str(" ]");
            }
            Value::Object(map) => {
                out.push_str("{\r\n");
                for (at, (key, value)) in map.iter().rev().enumerate() {
                    out.push_str(if at > 0 { " , " } else { "" });
                    escaped(key, out);
                    out.push_str(" : ");
                    respelt(value, out);
                }
                out.push('}');
            }
        }
    }

    fn escaped(text: &str, out: &mut String) {
        out.push('"');
        for unit in text.encode_utf16() {
            out.push_str(&format!("\\u{unit:04X}"));
        }
        out.push('"');
    }

    #[test]
    fn a_missing_scheme_is_the_subjects() {
        let said = digest(&json!({"payment_id": "a", "scheme": "book"}));
        assert_eq!(said, digest(&json!({"payment_id": "a"})));
        assert_eq!(said, digest(&json!({"payment_id": "a", "scheme": null})));
        assert_ne!(said, digest(&json!({"payment_id": "a", "scheme": "sct"})));
        assert_eq!(said, Fingerprint::of(br#"{"payment_id":"a","scheme":"book"}"#));
    }

    #[test]
    fn superfluous_zeros_of_the_amount_do_not_count_and_nothing_else_is_touched() {
        let with = |value: Value| digest(&json!({"amount": {"currency": "EUR", "value": value}}));
        assert_eq!(with(json!("1")), with(json!("001.00")));
        assert_ne!(with(json!("1")), with(json!("1.01")));
        assert_ne!(with(json!("1")), with(json!("10")));
        assert_ne!(with(json!("1.0")), with(json!(1)));
        assert_ne!(with(json!(" 1")), with(json!("1")));
        assert_ne!(digest(&json!({"purpose": "1"})), digest(&json!({"purpose": "1.0"})));
        assert_ne!(digest(&json!({"purpose": null})), digest(&json!({})));
    }

    #[test]
    fn depth_counts_the_body_and_every_container() {
        let depth = |content: &Value| fingerprint(content.as_object().expect("an object"), &scheme()).1;
        assert_eq!(depth(&json!({})), 1);
        assert_eq!(depth(&json!({"a": 1, "b": [{"c": []}], "d": {}})), 4);
    }

    proptest! {
        #[test]
        fn our_writer_and_the_canonicalizer_agree(value in any_json()) {
            let mut writer = Writer { bytes: Vec::new(), depth: 0, deepest: 0 };
            writer.value(&value);
            let theirs = serde_json_canonicalizer::to_vec(&value).expect("finite numbers");
            prop_assert_eq!(String::from_utf8(writer.bytes), String::from_utf8(theirs));
        }

        #[test]
        fn another_spelling_has_the_same_fingerprint(value in any_json()) {
            let body = json!({"payment_id": "a", "any": value});
            let mut text = String::new();
            respelt(&body, &mut text);
            let again = crate::intake::json::read(text.as_bytes()).expect("JSON");
            prop_assert_eq!(digest(&body), digest(&again));
        }

        #[test]
        fn another_value_has_another_fingerprint(one in any_json(), other in any_json()) {
            let same = serde_json_canonicalizer::to_vec(&one).ok() == serde_json_canonicalizer::to_vec(&other).ok();
            let (left, right) = (json!({"any": one}), json!({"any": other}));
            prop_assert_eq!(same, digest(&left) == digest(&right));
        }
    }
}
