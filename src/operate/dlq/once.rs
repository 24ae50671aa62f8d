//! A dead letter is redriven once: an intent is written before the event is published and a second record after it,
//! so that a crash between the two is seen and finished under the same message id. Pure.

use crate::operate::audit::Entry;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing is on record: write the intent of this round, publish, write the end.
    Fresh { round: u32 },
    /// The intent of this round stands without its end: look whether the event was published, publish it if not, and
    /// write the end.
    Finish { intent: Box<Entry> },
    /// It was redriven.
    Done { round: u32 },
}

/// From the newest intent and the newest end on record. `again` starts another round where one has ended; one that
/// has not ended is finished first in any case.
pub(super) fn plan(intent: Option<Entry>, end: Option<&Entry>, again: bool) -> Plan {
    let Some(intent) = intent else { return Plan::Fresh { round: 1 } };
    if end.is_none_or(|end| end.round < intent.round) {
        return Plan::Finish { intent: Box::new(intent) };
    }
    if again { Plan::Fresh { round: intent.round.saturating_add(1) } } else { Plan::Done { round: intent.round } }
}

/// The event's message id: the same for every try of a round, and another one for each round, because the broker
/// would swallow an id that it knows.
pub(super) fn message_id(token: &str, round: u32) -> String {
    if round == 1 { format!("redrive:{token}") } else { format!("redrive:{token}:{round}") }
}

/// The headers of the redriven event: the original's own. What `Nats-` headers said was meant for the broker and for
/// that one publication (id, expectations, batches, schedules), so none of them is said again.
pub(super) fn headers(stored: &[(String, String)], dead_letter: &str) -> Vec<(String, String)> {
    let is_ours = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.starts_with("nats-") || (name.starts_with("acquit-") && name != "acquit-contract")
    };
    let mut headers: Vec<_> = stored.iter().filter(|(name, _)| !is_ours(name)).cloned().collect();
    headers.push((REDRIVE_OF.to_owned(), dead_letter.to_owned()));
    headers
}

/// Names, on a redriven event, the dead letter it came from.
pub(super) const REDRIVE_OF: &str = "Acquit-Redrive-Of";

#[cfg(test)]
pub(super) mod tests {
    use jiff::Timestamp;

    use super::super::letter::tests::stored;
    use super::*;
    use crate::operate::audit::Action;

    pub(in crate::operate::dlq) fn entry(action: Action, round: u32) -> Entry {
        Entry {
            contract: 1,
            action,
            who: "ops-1".into(),
            why: "INC-7".into(),
            at: Timestamp::UNIX_EPOCH,
            dead_letter: "payments.dead.PAYMENTS.7.9".into(),
            dead_letter_sequence: 3,
            code: "FF01".into(),
            payment_id: None,
            body_sha256: String::new(),
            round,
            message_id: Some(message_id("PAYMENTS.7.9", round)),
            subject: Some("payments.requested.book.k1".into()),
            stream_created_ms: Some(7),
            stream_last: Some(40),
            published_sequence: None,
        }
    }

    #[test]
    fn a_crash_at_any_point_is_finished_in_its_own_round() {
        let intent = |round| Some(entry(Action::Redrive, round));
        let end = |round| entry(Action::Redriven, round);
        assert_eq!(plan(None, None, false), Plan::Fresh { round: 1 });
        let finish = Plan::Finish { intent: Box::new(entry(Action::Redrive, 1)) };
        assert_eq!(plan(intent(1), None, false), finish);
        assert_eq!(plan(intent(1), None, true), finish, "what is open is finished before anything is begun");
        assert_eq!(plan(intent(1), Some(&end(1)), false), Plan::Done { round: 1 });
        assert_eq!(plan(intent(1), Some(&end(1)), true), Plan::Fresh { round: 2 });
        let second = Plan::Finish { intent: Box::new(entry(Action::Redrive, 2)) };
        assert_eq!(plan(intent(2), Some(&end(1)), false), second);
        assert_eq!(plan(intent(2), Some(&end(2)), true), Plan::Fresh { round: 3 });
    }

    #[test]
    fn each_round_has_one_message_id() {
        assert_eq!(message_id("PAYMENTS.7.9", 1), "redrive:PAYMENTS.7.9");
        assert_eq!(message_id("PAYMENTS.7.9", 2), "redrive:PAYMENTS.7.9:2");
    }

    #[test]
    fn a_redriven_event_carries_its_own_headers_and_no_order_to_the_broker() {
        let mut message = stored(1, "FF01", 0, "{");
        message.headers.push(("Acquit-Contract".into(), "1".into()));
        let headers = headers(&message.headers, &message.subject);
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["traceparent", "Acquit-Contract", REDRIVE_OF]);
    }
}
