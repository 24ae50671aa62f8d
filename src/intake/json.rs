//! JSON with what `serde_json` leaves open decided: a key given twice is refused, nesting is bounded.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// How deep nesting is read. What lies deeper is skipped without recursion and counts as an empty container: the
/// contract allows far less, so such a body is only read to learn which payment it names.
const READ_DEPTH: usize = 100;

/// Why a text was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotRead {
    /// Not JSON in UTF-8, or a number outside the range of a double.
    NotJson,
    /// An object names a key twice.
    DuplicateKey,
}

/// Reads one JSON value and nothing behind it.
pub(super) fn read(bytes: &[u8]) -> Result<Value, NotRead> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Nested { depth: 1 }.deserialize(&mut deserializer).map_err(|error| match error.classify() {
        // The visitor below takes every kind of value: the one error of its own is the duplicate key.
        serde_json::error::Category::Data => NotRead::DuplicateKey,
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            NotRead::NotJson
        }
    })?;
    deserializer.end().map_err(|_| NotRead::NotJson)?;
    Ok(value)
}

/// A value whose containers would be at `depth`.
#[derive(Clone, Copy)]
struct Nested {
    depth: usize,
}

impl Nested {
    fn inner(self) -> Self {
        Self { depth: self.depth.saturating_add(1) }
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        if self.depth > READ_DEPTH {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Value::Array(list));
        }
        while let Some(item) = items.next_element_seed(self.inner())? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        if self.depth > READ_DEPTH {
            while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Value::Object(map));
        }
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self.inner())?;
            if map.insert(key, value).is_some() {
                return Err(de::Error::custom("duplicate key"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize, inside: &str) -> String {
        format!("{}{inside}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn a_key_given_twice_is_refused_at_any_level_and_in_any_spelling() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":{"b":1,"c":2,"b":3}}"#, r#"[[{"a":1,"\u0061":2}]]"#] {
            assert_eq!(read(text.as_bytes()), Err(NotRead::DuplicateKey), "{text}");
        }
        assert_eq!(read(nested(90, r#"{"a":1,"a":1}"#).as_bytes()), Err(NotRead::DuplicateKey));
        assert!(read(br#"{"a":{"a":{"a":1}},"A":1}"#).is_ok());
    }

    #[test]
    fn what_is_not_json_is_said_so() {
        for text in [
            &b""[..],
            b"{",
            b"{}x",
            b"{} {}",
            b"\xff",
            b"\"\xff\"",
            b"\x00\x01",
            b"[1,]",
            b"nul",
            b"1e999",
            b"\xef\xbb\xbf{}",
        ] {
            assert_eq!(read(text), Err(NotRead::NotJson), "{text:?}");
        }
        assert_eq!(read(br#""\ud800""#), Err(NotRead::NotJson));
    }

    #[test]
    fn nesting_as_deep_as_a_message_can_hold_is_read_without_recursion() {
        for levels in [1, 99, 100, 101, 127, 200, 30_000] {
            let text = nested(levels, "");
            assert!(read(text.as_bytes()).is_ok(), "{levels}");
            assert!(read(&text.as_bytes()[..text.len() - 1]).is_err(), "{levels}");
        }
        let objects = format!("{}1{}", r#"{"a":"#.repeat(9_000), "}".repeat(9_000));
        assert!(read(objects.as_bytes()).is_ok());
    }

    #[test]
    fn values_are_those_of_serde_json() {
        let text = br#" {"a":[null,true,-1,18446744073709551615,1.5e3,"x\n\u00e9"],"b":{"":{}}} "#;
        assert_eq!(read(text).ok(), serde_json::from_slice(text).ok());
    }
}
