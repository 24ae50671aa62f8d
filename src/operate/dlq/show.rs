//! Shows one dead letter. Its body holds personal data: the shape is shown, the bytes only where they are asked for.

use base64::Engine as _;
use serde::Serialize;
use serde_json::Value;

use super::Letter;
use super::mask::masked;
use crate::broker::{Broker, StoredMessage, Wire};
use crate::operate::Trouble;
use crate::operate::audit::{Action, Entry, read_last, sha256_hex};

/// How a dead letter is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By its sequence in the dead-letter stream.
    Sequence(u64),
    /// By its subject, or the subject's tail `<stream>.<created ms>.<sequence>`.
    Subject(String),
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// What it is.
    pub letter: Letter,
    /// All its headers, by name.
    pub headers: Vec<(String, String)>,
    /// SHA-256 of its body, in hex.
    pub body_sha256: String,
    /// Its body.
    pub body: BodyView,
    /// The newest redrive on record.
    pub redrive: Option<Entry>,
    /// Whether that redrive came to its end.
    pub redriven: Option<Entry>,
}

/// A body, as far as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyView {
    /// Its shape, without values.
    Masked(Value),
    /// Not JSON: nothing of it is shown.
    Opaque,
    /// All of it, as text.
    Text(String),
    /// All of it, in base64, because it is not UTF-8.
    Base64(String),
}

impl Which {
    /// A sequence where the text is a number, else a subject or its tail.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.parse() {
            Ok(sequence) => Self::Sequence(sequence),
            Err(_) => Self::Subject(text.to_owned()),
        }
    }
}

/// Shows one dead letter; with `reveal` its body as well.
///
/// # Errors
/// [`Trouble`].
pub async fn show<W: Wire>(broker: &Broker<W>, which: &Which, reveal: bool) -> Result<Shown, Trouble> {
    let message = fetch(broker, which).await?;
    let letter = letter(&message)?;
    let redrive: Option<Entry> = read_last(broker, &Action::Redrive.subject(letter.token(), "*")).await?;
    let redriven: Option<Entry> = read_last(broker, &Action::Redriven.subject(letter.token(), "*")).await?;
    // The client keeps headers in no order.
    let mut headers = message.headers.clone();
    headers.sort();
    Ok(Shown {
        headers,
        body_sha256: sha256_hex(&message.payload),
        body: view(&message.payload, reveal),
        letter,
        redrive,
        redriven,
    })
}

pub(super) async fn fetch<W: Wire>(broker: &Broker<W>, which: &Which) -> Result<StoredMessage, Trouble> {
    let stream = broker.streams().dead_letters.as_str();
    let found = match which {
        Which::Sequence(sequence) => broker.message_at(stream, *sequence).await,
        Which::Subject(text) if text.starts_with("payments.dead.") => broker.last_on(stream, text).await,
        Which::Subject(tail) => broker.last_on(stream, &format!("payments.dead.{tail}")).await,
    };
    found.map_err(|error| {
        Trouble::of_api(broker, error).naming(|| match which {
            Which::Sequence(sequence) => format!("dead letter {sequence}"),
            Which::Subject(subject) => format!("dead letter {subject}"),
        })
    })
}

pub(super) fn letter(message: &StoredMessage) -> Result<Letter, Trouble> {
    Letter::of(message)
        .ok_or_else(|| Trouble::Refused { what: format!("{} is no dead letter of Acquit", message.subject) })
}

fn view(body: &[u8], reveal: bool) -> BodyView {
    match (reveal, std::str::from_utf8(body)) {
        (true, Ok(text)) => BodyView::Text(text.to_owned()),
        (true, Err(_)) => BodyView::Base64(base64::engine::general_purpose::STANDARD.encode(body)),
        (false, _) => masked(body).map_or(BodyView::Opaque, BodyView::Masked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_only_where_it_is_asked_for() {
        assert_eq!(view(b"{", false), BodyView::Opaque);
        assert_eq!(view(b"{", true), BodyView::Text("{".into()));
        assert_eq!(view(b"\xff", true), BodyView::Base64("/w==".into()));
        assert!(matches!(view(br#"{"payment_id":"P"}"#, false), BodyView::Masked(_)));
    }

    #[test]
    fn a_dead_letter_is_named_by_number_or_subject() {
        assert_eq!(Which::parse("17"), Which::Sequence(17));
        assert_eq!(Which::parse("PAYMENTS.1.2"), Which::Subject("PAYMENTS.1.2".into()));
    }
}
