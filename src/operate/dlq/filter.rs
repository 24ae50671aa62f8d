//! Which dead letters are meant.

use jiff::Timestamp;

use super::Letter;
use crate::domain::{Code, PaymentId, StreamName};

/// Every condition that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these codes; empty for any.
    pub codes: Vec<Code>,
    /// Stored before this instant.
    pub before: Option<Timestamp>,
    /// Stored at or after this instant.
    pub since: Option<Timestamp>,
    /// The event came from this stream.
    pub stream: Option<StreamName>,
    /// The event asked for this payment.
    pub payment_id: Option<PaymentId>,
}

/// The dead letters to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These sequences of the dead-letter stream.
    Sequences(Vec<u64>),
    /// All that match.
    Matching(Filter),
}

impl Filter {
    /// Whether `letter` is meant.
    #[must_use]
    pub fn matches(&self, letter: &Letter) -> bool {
        (self.codes.is_empty() || self.codes.iter().any(|code| code.as_str() == letter.code))
            && self.before.is_none_or(|before| letter.stored_at < before)
            && self.since.is_none_or(|since| letter.stored_at >= since)
            && self.stream.as_ref().is_none_or(|stream| stream.as_str() == letter.stream)
            && self.payment_id.as_ref().is_none_or(|id| Some(id.as_str()) == letter.payment_id.as_deref())
    }

    /// Whether a letter stored at `at`, and so every later one, is too young.
    pub(super) fn is_past(&self, at: Timestamp) -> bool {
        self.before.is_some_and(|before| at >= before)
    }
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::stored;
    use super::*;

    #[test]
    fn every_condition_given_must_hold() {
        let letter = Letter::of(&stored(1, "AM05", 1000, r#"{"payment_id":"P-1"}"#)).expect("a letter");
        let second = |s| Timestamp::from_second(s).ok();
        let fits = Filter {
            codes: vec![Code::FF01, Code::AM05],
            before: second(1001),
            since: second(1000),
            stream: StreamName::parse("PAYMENTS").ok(),
            payment_id: PaymentId::parse("P-1").ok(),
        };
        assert!(fits.matches(&letter));
        assert!(Filter::default().matches(&letter));
        for other in [
            Filter { codes: vec![Code::FF01], ..fits.clone() },
            Filter { before: second(1000), ..fits.clone() },
            Filter { since: second(1001), ..fits.clone() },
            Filter { stream: StreamName::parse("OTHER").ok(), ..fits.clone() },
            Filter { payment_id: PaymentId::parse("P-2").ok(), ..fits.clone() },
        ] {
            assert!(!other.matches(&letter), "{other:?}");
        }
        assert!(Filter { before: second(1000), ..Filter::default() }.is_past(letter.stored_at));
    }
}
