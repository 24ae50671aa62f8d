//! Dead letters in words.

use crate::cli::out;
use crate::domain::millis;
use crate::operate::audit::Entry;
use crate::operate::dlq::{BodyView, Discarded, Forecast, Letter, Listing, RedriveResult, Redriven, Shown, Step};

pub(super) fn show_listing(listing: &Listing) {
    for letter in &listing.letters {
        out(&line(letter));
    }
    let by_code: Vec<String> = listing.by_code.iter().map(|(code, count)| format!("{code} {count}")).collect();
    match listing.matched {
        0 => out("no dead letter"),
        1 => out(&format!("1 dead letter: {}", by_code.join(", "))),
        matched => out(&format!("{matched} dead letters: {}", by_code.join(", "))),
    }
    if let Some(next) = listing.next {
        out(&format!("the next page: --from {next}"));
    }
}

fn line(letter: &Letter) -> String {
    let payment = letter.payment_id.as_deref().unwrap_or("-");
    let Letter { sequence, code, reason, .. } = letter;
    format!("{sequence:>8}  {}  {code}  {payment:<36}  {reason}", millis(letter.stored_at))
}

pub(super) fn show_letter(shown: &Shown) {
    let letter = &shown.letter;
    out(&format!("dead letter {}: {} {}", letter.sequence, letter.code, letter.reason));
    out(&format!("  payment      {}", letter.payment_id.as_deref().unwrap_or("cannot be read")));
    out(&format!("  event        {}.{}.{}", letter.stream, letter.stream_created_ms, letter.event_sequence));
    out(&format!("  published on {}", letter.original_subject));
    out(&format!("  stored       {} by {}", millis(letter.stored_at), letter.worker.as_deref().unwrap_or("-")));
    if let Some(first_seen) = &letter.first_seen {
        out(&format!("  first seen   {first_seen}"));
    }
    if let Some(attempts) = letter.attempts {
        out(&format!("  attempts     {attempts}"));
    }
    match (&shown.redriven, &shown.redrive) {
        (Some(end), intent) if intent.as_ref().is_none_or(|intent| intent.round <= end.round) => redriven(end),
        (Some(_) | None, Some(by)) => {
            out(&format!("  redrive begun {} by {} and not finished: {}", millis(by.at), by.who, by.why));
        }
        (Some(_) | None, None) => {}
    }
    out("headers");
    for (name, value) in &shown.headers {
        out(&format!("  {name}: {value}"));
    }
    out(&format!("body, {} bytes, SHA-256 {}", letter.body_bytes, shown.body_sha256));
    match &shown.body {
        BodyView::Masked(shape) => {
            out(&serde_json::to_string_pretty(shape).unwrap_or_default());
            out("values are masked; --reveal shows them");
        }
        BodyView::Opaque => out("not JSON; --reveal shows it"),
        BodyView::Text(text) => out(text),
        BodyView::Base64(text) => out(&format!("base64: {text}")),
    }
}

fn redriven(by: &Entry) {
    let event = by.published_sequence.map_or_else(|| "-".to_owned(), |sequence| sequence.to_string());
    out(&format!("  redriven     {} by {} as event {event}: {}", millis(by.at), by.who, by.why));
}

pub(super) fn show_redriven(result: &RedriveResult) {
    for letter in &result.letters {
        out(&redriven_line(letter));
    }
    let done = if result.dry_run { "would be redriven" } else { "redriven" };
    out(&format!(
        "{} {done}, {} redriven before and left alone (--again sends them), {} refused",
        result.redriven, result.already, result.refused
    ));
    if result.limited {
        out("more may match: run it again, or raise --limit");
    }
}

fn redriven_line(line: &Redriven) -> String {
    let Redriven { sequence, code, .. } = line;
    let payment = line.payment_id.as_deref().unwrap_or("-");
    let step = match line.step {
        Step::WouldRedrive => "would be redriven",
        Step::WouldFinish => "was cut off, would be finished",
        Step::Redriven => "redriven",
        Step::Finished => "was cut off, finished",
        Step::Refused => "REFUSED",
    };
    if let Some(detail) = &line.detail {
        return format!("{sequence:>8}  {code:<4}  {payment:<36}  {step}: {detail}");
    }
    let event = line.published_sequence.map_or_else(String::new, |sequence| format!(" as event {sequence}"));
    format!("{sequence:>8}  {code:<4}  {payment:<36}  {step}{event}; {}", forecast(line.forecast))
}

fn forecast(forecast: Forecast) -> &'static str {
    match forecast {
        Forecast::Judged => "nothing final stands: it is judged anew",
        Forecast::Duplicate => "its payment is final: a duplicate, the same outcome again",
        Forecast::Conflict => "its payment stands with other content: a dead letter again (AM05)",
        Forecast::Unreadable => "it cannot be read: a dead letter again",
        Forecast::Unknown => "no store was asked what becomes of it",
    }
}

pub(super) fn show_discarded(result: &Discarded) {
    for letter in &result.letters {
        out(&line(letter));
    }
    let done = if result.dry_run { "would be discarded" } else { "discarded" };
    out(&format!("{} {done}, {} not there", result.discarded, result.missing));
    if result.limited {
        out("more may match: run it again, or raise --limit");
    }
}
