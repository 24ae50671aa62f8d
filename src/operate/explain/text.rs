//! A payment's life in words.

use std::fmt;

use super::{AttemptPart, DeadLetterPart, EventPart, Explanation, Standing};
use crate::domain::millis;
use crate::operate::audit::LaneEntry;

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unseen => "never seen",
            Self::EventsOnly => "not claimed; its events ended otherwise",
            Self::Open => "open",
            Self::InDoubt => "in doubt: an attempt has no conclusive answer",
            Self::Held => "held for a person",
            Self::Freed => "not paid; the id is free again",
            Self::Settled => "settled",
            Self::Rejected => "rejected",
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "payment {}: {}", self.payment_id, self.standing)?;
        if let Some(payment) = &self.payment {
            writeln!(f, "  scheme {}, lane {}, rail {}", payment.scheme, payment.lane, payment.rail)?;
            writeln!(f, "  asked for  {}", millis(payment.requested_at))?;
            if let (Some(at), Some(took)) = (payment.finished_at, payment.took_ms) {
                writeln!(f, "  final      {} ({took} ms later)", millis(at))?;
            }
            if payment.late {
                writeln!(f, "  late: executed after the requested date")?;
            }
            writeln!(
                f,
                "  deliveries {}, attempts that may have reached a rail {}",
                payment.deliveries, payment.attempts
            )?;
            if let Some(since) = payment.tracked_since {
                writeln!(f, "  tracked since {}", millis(since))?;
            }
            if let Some((owner, until)) = &payment.claim {
                writeln!(f, "  claimed by {owner} until {}", millis(*until))?;
            }
            lines(f, "  reason     ", &payment.reasons)?;
        }
        if let Some(ledger) = &self.ledger {
            writeln!(
                f,
                "  ledger     {}: {} to {}, {} {}, {}",
                ledger.transfer,
                ledger.debit,
                ledger.credit,
                ledger.currency,
                ledger.value,
                millis(ledger.posted_at)
            )?;
        }
        section(f, "events", &self.events, event)?;
        section(f, "attempts", &self.attempts, attempt)?;
        section(f, "life", &self.notes, |f, note| {
            // What a person did has no breaker.
            let breaker = if note.breaker == "-" { String::new() } else { format!(" (breaker {})", note.breaker) };
            writeln!(f, "  {} {}{breaker}", millis(note.at), note.what)
        })?;
        section(f, "outcome events", &self.outcomes, |f, outcome| {
            writeln!(
                f,
                "  {} at {} on {} ({})",
                outcome.sequence,
                millis(outcome.stored_at),
                outcome.subject,
                outcome.message_id
            )
        })?;
        if let Some(LaneEntry { action, who, why, at, lane, until, .. }) = &self.steered {
            write!(f, "lane {lane}: last {} {} by {who}", action.token(), millis(*at))?;
            if let Some(until) = until {
                write!(f, ", until {}", millis(*until))?;
            }
            writeln!(f, ": {why}")?;
        }
        writeln!(f, "next: {}", self.next)
    }
}

fn section<T>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    items: &[T],
    mut each: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    if !items.is_empty() {
        writeln!(f, "{name}")?;
    }
    items.iter().try_for_each(|item| each(f, item))
}

fn lines(f: &mut fmt::Formatter<'_>, head: &str, texts: &[String]) -> fmt::Result {
    texts.iter().try_for_each(|text| writeln!(f, "{head}{text}"))
}

fn attempt(f: &mut fmt::Formatter<'_>, attempt: &AttemptPart) -> fmt::Result {
    let (number, leg, rail) = (attempt.number, attempt.leg, &attempt.rail);
    write!(f, "  {number} (leg {leg}, {rail}) {}: {}", millis(attempt.started_at), attempt.answer)?;
    if let Some(at) = attempt.answered_at {
        write!(f, " {}", millis(at))?;
    }
    if let Some(at) = attempt.in_progress_at.filter(|_| attempt.answered_at.is_none()) {
        write!(f, ", in progress as the rail said {}", millis(at))?;
    }
    if attempt.not_found > 0 {
        write!(f, ", not found by {} inquiries", attempt.not_found)?;
    }
    writeln!(f)
}

fn event(f: &mut fmt::Formatter<'_>, event: &EventPart) -> fmt::Result {
    write!(f, "  {} published {}: {}", event.event, millis(event.requested_at), event.ended)?;
    if let Some(at) = event.ended_at {
        write!(f, " {}", millis(at))?;
    }
    match event.in_stream {
        Some(true) => write!(f, ", still in the stream")?,
        Some(false) => write!(f, ", no longer in the stream")?,
        None => {}
    }
    if let Some(acknowledged) = event.acknowledged {
        write!(f, ", {}", if acknowledged { "acknowledged" } else { "above the consumer's ack floor" })?;
    }
    writeln!(f)?;
    lines(f, "    ", &event.reasons)?;
    event.dead_letter.as_ref().map_or(Ok(()), |letter| dead_letter(f, letter))
}

fn dead_letter(f: &mut fmt::Formatter<'_>, letter: &DeadLetterPart) -> fmt::Result {
    match (letter.sequence, &letter.discard) {
        (Some(sequence), _) => writeln!(f, "    dead letter {sequence} ({})", letter.subject)?,
        (None, Some(by)) => writeln!(f, "    dead letter discarded {} by {}: {}", millis(by.at), by.who, by.why)?,
        (None, None) => writeln!(f, "    its dead letter is not there")?,
    }
    match &letter.redrive {
        Some(by) => match by.published_sequence {
            Some(sequence) => {
                writeln!(f, "    redriven {} by {} as event {sequence}: {}", millis(by.at), by.who, by.why)
            }
            None => writeln!(f, "    redrive begun {} by {} and not finished: {}", millis(by.at), by.who, by.why),
        },
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use crate::operate::audit::LaneAction;

    use super::super::{LedgerPart, NotePart, PaymentPart};
    use super::*;

    #[test]
    fn a_settled_life_reads_from_top_to_bottom() {
        let at = Timestamp::UNIX_EPOCH;
        let life = Explanation {
            payment_id: "P-1".into(),
            standing: Standing::Settled,
            next: Standing::Settled.next().into(),
            payment: Some(PaymentPart {
                scheme: "sct".into(),
                lane: "payments".into(),
                rail: "book".into(),
                rail_ref: Some("tr_000000000007".into()),
                requested_at: at,
                finished_at: Some(at),
                took_ms: Some(18),
                late: false,
                attempts: 1,
                deliveries: 2,
                tracked_since: None,
                reasons: vec![],
                claim: None,
            }),
            events: vec![EventPart {
                event: "PAYMENTS.7.9".into(),
                ended: "own",
                requested_at: at,
                ended_at: Some(at),
                reasons: vec![],
                in_stream: Some(true),
                acknowledged: Some(true),
                dead_letter: None,
            }],
            attempts: vec![],
            ledger: Some(LedgerPart {
                transfer: "tr_000000000007".into(),
                debit: "DE..3000".into(),
                credit: "..0847".into(),
                currency: "EUR".into(),
                value: "12.50".into(),
                posted_at: at,
            }),
            notes: vec![NotePart { at, what: "handed back: gate shut".into(), breaker: "open".into() }],
            outcomes: vec![],
            steered: Some(LaneEntry {
                contract: 1,
                action: LaneAction::Pause,
                who: "ops-1".into(),
                why: "INC-7".into(),
                at,
                lane: "payments".into(),
                stream: "PAYMENTS".into(),
                consumer: "acquit-payments".into(),
                until: Some(at),
                workers: vec![],
            }),
        };
        assert_eq!(
            life.to_string(),
            "payment P-1: settled\n  scheme sct, lane payments, rail book\n  asked for  1970-01-01T00:00:00.000Z\n\
             \x20 final      1970-01-01T00:00:00.000Z (18 ms later)\n\
             \x20 deliveries 2, attempts that may have reached a rail 1\n\
             \x20 ledger     tr_000000000007: DE..3000 to ..0847, EUR 12.50, 1970-01-01T00:00:00.000Z\n\
             events\n  PAYMENTS.7.9 published 1970-01-01T00:00:00.000Z: own 1970-01-01T00:00:00.000Z, \
             still in the stream, acknowledged\n\
             life\n  1970-01-01T00:00:00.000Z handed back: gate shut (breaker open)\n\
             lane payments: last pause 1970-01-01T00:00:00.000Z by ops-1, until 1970-01-01T00:00:00.000Z: INC-7\n\
             next: Nothing: it is final; further events with the same content are answered as duplicates.\n"
        );
    }
}
