//! Takes each key's value from where it is said last: flags over variables over the file over defaults.

use std::path::PathBuf;
use std::time::Duration;

use super::forms::{Form, Given, Value};
use super::keys::{Key, Section};
use super::problem::{Origin, Problem};
use super::raw::{Instance, Outside, Written};

/// A value with where it came from, for printing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrintedValue {
    /// The full key: `store.path`, `lane.<name>.slots`.
    pub key: String,
    /// The value as it was written; `(hidden)` for a secret, empty for one that is not set.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// One section's values, each in its own form.
///
/// A value that breaks its rule is a problem and reads as nothing: whoever builds settings from a table with problems
/// throws them away in the end.
pub(super) struct Table {
    /// The full key's beginning, with its point.
    pub(super) prefix: String,
    /// Where the table stands.
    origin: Origin,
    values: Vec<(&'static str, Value, Origin)>,
    broken: Vec<&'static str>,
}

/// Reads the keys of `section` as `instance` says, then as the outside says.
pub(super) fn table(
    section: &'static Section,
    prefix: String,
    instance: Option<&Instance>,
    outside: &mut Outside,
    problems: &mut Vec<Problem>,
    printed: &mut Vec<PrintedValue>,
) -> Table {
    let origin = instance.map_or(Origin::Default, |instance| instance.origin.clone());
    let mut table = Table { prefix, origin, values: Vec::with_capacity(section.keys.len()), broken: Vec::new() };
    for key in section.keys {
        let full = format!("{}{}", table.prefix, key.name);
        let in_file = || instance.and_then(|instance| instance.values.get(key.name).cloned());
        let written = outside
            .take(&full)
            .or_else(in_file)
            .unwrap_or_else(|| Written { given: Given::Word(key.default.to_owned()), origin: Origin::Default });
        printed.push(PrintedValue {
            key: full.clone(),
            value: shown(key, &written.given),
            origin: written.origin.clone(),
        });
        match key.form.read(&written.given) {
            Some(value) => table.values.push((key.name, value, written.origin)),
            None => {
                problems.push(broken(full, written.origin, key.form));
                table.broken.push(key.name);
            }
        }
    }
    table
}

fn shown(key: &Key, given: &Given) -> String {
    let shown = given.shown();
    if key.secret && !shown.is_empty() { "(hidden)".to_owned() } else { shown }
}

fn broken(key: String, origin: Origin, form: Form) -> Problem {
    Problem { key, origin, rule: form.rule(), remedy: form.remedy() }
}

impl Table {
    fn value(&self, name: &str) -> &Value {
        self.values.iter().find(|(key, _, _)| *key == name).map_or(&Value::Absent, |(_, value, _)| value)
    }

    /// Where the key's value came from; the table itself where there is none.
    fn origin_of(&self, name: &str) -> Origin {
        let said = |(key, value, _): &&(&str, Value, Origin)| *key == name && *value != Value::Absent;
        self.values.iter().find(said).map_or(&self.origin, |(_, _, origin)| origin).clone()
    }

    /// The problem of a key whose form is right and whose meaning is not.
    pub(super) fn problem(&self, name: &str, rule: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem {
            key: format!("{}{name}", self.prefix),
            origin: self.origin_of(name),
            rule: rule.into(),
            remedy: remedy.into(),
        }
    }

    /// Whether somebody gave the key a value.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.values
            .iter()
            .any(|(key, value, origin)| *key == name && *value != Value::Absent && *origin != Origin::Default)
    }

    /// Whether a key of the nested table `prefix` (empty for the table's own keys) broke its form.
    pub(super) fn is_incomplete(&self, prefix: &str) -> bool {
        let nested = |name: &str| name.split_once('.').map_or(0, |(table, _)| table.len().saturating_add(1));
        self.broken.iter().any(|name| name.starts_with(prefix) && nested(name) == prefix.len())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        if let Value::Text(text) = self.value(name) { Some(text) } else { None }
    }

    pub(super) fn texts(&self, name: &str) -> &[String] {
        if let Value::Texts(texts) = self.value(name) { texts } else { &[] }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Value::Flag(true))
    }

    /// A whole number or a size; its form's bounds fit into `T`.
    pub(super) fn whole<T: TryFrom<u64> + Default>(&self, name: &str) -> T {
        if let Value::Whole(number) = self.value(name) {
            T::try_from(*number).unwrap_or_default()
        } else {
            T::default()
        }
    }

    pub(super) fn factor(&self, name: &str) -> f64 {
        if let Value::Factor(number) = self.value(name) { *number } else { 0.0 }
    }

    pub(super) fn span(&self, name: &str) -> Duration {
        if let Value::Span(span) = self.value(name) { *span } else { Duration::ZERO }
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        if let Value::Path(path) = self.value(name) { Some(path.clone()) } else { None }
    }
}
