//! Collects what is wrong, and reads fields so that `null` is missing and a wrong type is told apart.

use serde_json::Value;

use super::Object;
use crate::domain::{Code, Reason};

/// The findings of one event, in the order of the table.
#[derive(Default)]
pub(super) struct Findings {
    reasons: Vec<Reason>,
}

/// Says that a finding was added: only [`Findings`] makes one, so that a refusal without a reason cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken(());

/// The field holds JSON of another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrongType;

impl Findings {
    /// Adds a finding. Callers give one per path, the first that applies.
    pub(super) fn add(&mut self, code: Code, path: impl Into<String>, text: &'static str) -> Broken {
        self.reasons.push(Reason::new(code, path, text));
        Broken(())
    }

    /// Drops all other findings for this one.
    pub(super) fn only(&mut self, code: Code, path: String, text: &'static str) {
        self.reasons.clear();
        self.reasons.push(Reason::new(code, path, text));
    }

    /// Whether nothing was found.
    pub(super) fn none(&self) -> Result<(), Broken> {
        if self.reasons.is_empty() { Ok(()) } else { Err(Broken(())) }
    }

    pub(super) fn into_reasons(self) -> Vec<Reason> {
        self.reasons
    }
}

fn present<'a>(object: &'a Object, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

/// A field that takes a text.
pub(super) fn text<'a>(object: &'a Object, key: &str) -> Result<Option<&'a str>, WrongType> {
    present(object, key).map(|value| value.as_str().ok_or(WrongType)).transpose()
}

/// A field that takes an object.
pub(super) fn object<'a>(object: &'a Object, key: &str) -> Result<Option<&'a Object>, WrongType> {
    present(object, key).map(|value| value.as_object().ok_or(WrongType)).transpose()
}

/// Whether `text` has 1 to `most` characters.
pub(super) fn has_length(text: &str, most: usize) -> bool {
    !text.is_empty() && !is_longer(text, most)
}

/// Whether `text` has more than `most` characters.
pub(super) fn is_longer(text: &str, most: usize) -> bool {
    // No character takes less than a byte: most texts need no count.
    text.len() > most && text.chars().nth(most).is_some()
}

/// Whether `text` keeps to the SWIFT X set (line breaks left out: no field here has lines).
pub(super) fn is_swift_x(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-?:().,'+ ".contains(&b))
}

/// The debtor's or the creditor's half of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Debtor,
    Creditor,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Debtor, Self::Creditor];

    /// Picks by side.
    pub(super) fn pick<T>(self, debtor: T, creditor: T) -> T {
        match self {
            Self::Debtor => debtor,
            Self::Creditor => creditor,
        }
    }
}
