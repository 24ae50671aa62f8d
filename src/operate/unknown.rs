//! Payments in doubt, decided by a person: who, why and the evidence go to the audit stream first, then the store
//! records it as the answer that the rail does not give. What both sides of the order to a worker say is here.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::audit::{UnknownAction, UnknownEntry, unknown_keys};
use super::{Mandate, Trouble};
use crate::broker::{Broker, Wire};
use crate::domain::{Code, PaymentId, RailRef};
use crate::store::{Ended, PaymentRecord, PaymentRow, Resolution, Resolved, Ruling, State, StoreLost, Unresolved};

/// The longest evidence, in characters.
const EVIDENCE_MAX: usize = 1024;

/// What a person found out.
#[derive(Debug, Clone)]
pub struct Word {
    /// About this payment.
    pub payment_id: PaymentId,
    /// What became of it.
    pub ruling: Ruling,
    /// What shows that: a ticket, a statement's line, a letter's number.
    pub evidence: String,
    /// In whose name, and why.
    pub mandate: Mandate,
}

/// What is to be done about a person's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// It is to be recorded: in the audit stream, unless `record` stands there already, then in the store.
    Record {
        /// What the audit stream is to hold.
        entry: Box<UnknownEntry>,
        /// The newest record about the payment, 0 for none.
        newest: u64,
        /// The record of these very words, which a run before this one has written.
        record: Option<u64>,
    },
    /// The same words were recorded before, and the store has them.
    Done {
        /// Their record in the audit stream.
        record: u64,
    },
    /// It may not be recorded.
    Refused(String),
}

/// The body of an order to a worker: what is on record in the audit stream and goes into the worker's store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The payment.
    pub payment_id: PaymentId,
    /// `settled`, `rejected` or `not-processed`.
    pub resolved_as: String,
    /// The rail's reference, where settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rail_ref: Option<String>,
    /// The code, where rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The number of the last attempt that the person knew of.
    pub last_attempt: u32,
    /// How long an attempt may take effect at the rail, in milliseconds.
    pub longest_ms: u64,
    /// The store that is meant.
    pub store_id: String,
    /// In whose name.
    pub who: String,
    /// For what reason.
    pub why: String,
    /// Sequence of its record in the audit stream, which was written before.
    pub record: u64,
}

/// What a worker answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The worker's name.
    pub worker: String,
    /// Whether it stood before.
    pub stood: bool,
}

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotResolved {
    /// What stands in its way: another run does not help.
    #[error("{0}")]
    Refused(String),
    /// Whether it was recorded is not known: another run is safe.
    #[error("{0}")]
    Lost(StoreLost),
}

impl From<Unresolved> for NotResolved {
    fn from(error: Unresolved) -> Self {
        match error {
            Unresolved::Refused(refusal) => Self::Refused(refusal.to_string()),
            Unresolved::Lost(lost) => Self::Lost(lost),
        }
    }
}

impl Word {
    /// # Errors
    /// [`Trouble::BadInput`] where the evidence is empty, longer than 1,024 characters, or not on one line.
    pub fn new(payment_id: PaymentId, ruling: Ruling, evidence: &str, mandate: Mandate) -> Result<Self, Trouble> {
        let evidence = evidence.trim();
        let usable =
            !evidence.is_empty() && evidence.chars().count() <= EVIDENCE_MAX && !evidence.chars().any(char::is_control);
        if !usable {
            return Err(Trouble::BadInput { what: "evidence must be 1 to 1024 characters on one line".to_owned() });
        }
        Ok(Self { payment_id, ruling, evidence: evidence.to_owned(), mandate })
    }

    fn entry(&self, row: &PaymentRow, record: &PaymentRecord, store_id: &str, now: Timestamp) -> UnknownEntry {
        let open = || record.attempts.iter().filter(|attempt| attempt.ended.is_none());
        let (rail_ref, code) = parts(&self.ruling);
        UnknownEntry {
            contract: 1,
            action: UnknownAction::UnknownResolve,
            who: self.mandate.who().to_owned(),
            why: self.mandate.why().to_owned(),
            evidence: self.evidence.clone(),
            at: now,
            payment_id: self.payment_id.to_string(),
            resolved_as: self.ruling.word().to_owned(),
            rail_ref: rail_ref.map(|reference| reference.as_str().to_owned()),
            code: code.map(|code| code.as_str().to_owned()),
            lane: row.lane.to_string(),
            rail: open().next().map_or_else(|| row.rail.as_ref().to_owned(), |attempt| attempt.rail.clone()),
            keys: unknown_keys(&self.payment_id, open().map(|attempt| attempt.leg)),
            last_attempt: row.last_attempt,
            store_id: store_id.to_owned(),
        }
    }
}

fn parts(ruling: &Ruling) -> (Option<&RailRef>, Option<Code>) {
    match ruling {
        Ruling::Settled(reference) => (Some(reference), None),
        Ruling::Rejected(code) => (None, Some(*code)),
        Ruling::NotProcessed => (None, None),
    }
}

/// Says what is to be done. Pure: `record` is what the store holds, `newest` the newest record about the payment;
/// `longest` is how long an attempt may take effect at its rail.
#[must_use]
pub fn plan(
    word: &Word,
    record: Option<&PaymentRecord>,
    newest: Option<(u64, UnknownEntry)>,
    store_id: &str,
    longest: Duration,
    now: Timestamp,
) -> Plan {
    let Some((record, row)) = record.and_then(|record| Some((record, record.payment.as_ref()?))) else {
        return Plan::Refused("the store has no such payment, or none that was given to a rail".to_owned());
    };
    let entry = word.entry(row, record, store_id, now);
    let same = newest.as_ref().filter(|(_, before)| before.says_the_same(&entry));
    if let Some((sequence, before)) = same
        && is_carried_out(before, row, record)
    {
        let in_doubt = matches!(row.state, State::Open | State::Held) && row.last_attempt > before.last_attempt;
        if in_doubt && record.attempts.iter().any(|attempt| attempt.ended.is_none()) {
            return Plan::Refused(format!(
                "these words were recorded for attempt {} (record {sequence}); attempt {} is another one: give evidence \
                 of its own",
                before.last_attempt, row.last_attempt,
            ));
        }
        return Plan::Done { record: *sequence };
    }
    let asked = Resolution {
        payment_id: word.payment_id.clone(),
        ruling: word.ruling.clone(),
        last_attempt: row.last_attempt,
        longest,
        record: 0,
    };
    match asked.look(record, now) {
        Ok(Resolved::Recorded) => Plan::Record {
            record: same.filter(|(_, before)| before.last_attempt == entry.last_attempt).map(|(sequence, _)| *sequence),
            newest: newest.as_ref().map_or(0, |(sequence, _)| *sequence),
            entry: Box::new(entry),
        },
        Ok(Resolved::Stood) => Plan::Refused(match row.state {
            State::Settled | State::Rejected => format!("the payment is final: it is {}", row.state.word()),
            State::Open | State::Held | State::Freed => {
                "the payment is not in doubt: every attempt has a conclusive answer".to_owned()
            }
        }),
        Err(refusal) => Plan::Refused(refusal.to_string()),
    }
}

/// Whether the store has what a record says: the attempts that it is about have that answer.
fn is_carried_out(entry: &UnknownEntry, row: &PaymentRow, record: &PaymentRecord) -> bool {
    let meant = || record.attempts.iter().filter(|attempt| attempt.number <= entry.last_attempt);
    match entry.resolved_as.as_str() {
        "settled" => {
            row.state == State::Settled && row.rail_ref.as_ref().map(RailRef::as_str) == entry.rail_ref.as_deref()
        }
        "rejected" => {
            let code = row.reasons.first().map(|reason| reason.code.as_str());
            row.state == State::Rejected && code == entry.code.as_deref()
        }
        // Nothing else ends an attempt that a person was asked about as not sent, but for the attempt's own process;
        // then the two agree.
        _ => {
            meant().all(|attempt| attempt.ended.is_some())
                && meant().next_back().is_some_and(|attempt| attempt.ended == Some(Ended::NotSent))
        }
    }
}

/// Writes the record of a planned resolution, unless it stands; what a store may be told comes back.
///
/// # Errors
/// [`Trouble`]: nothing may be done then.
pub async fn on_record<W: Wire>(
    broker: &Broker<W>,
    word: &Word,
    entry: &UnknownEntry,
    newest: u64,
    record: Option<u64>,
    longest: Duration,
) -> Result<Order, Trouble> {
    let record = match record {
        Some(record) => record,
        None => entry.write(broker, &word.payment_id, newest).await?,
    };
    let (rail_ref, code) = parts(&word.ruling);
    Ok(Order {
        payment_id: word.payment_id.clone(),
        resolved_as: word.ruling.word().to_owned(),
        rail_ref: rail_ref.map(|reference| reference.as_str().to_owned()),
        code,
        last_attempt: entry.last_attempt,
        longest_ms: u64::try_from(longest.as_millis()).unwrap_or(u64::MAX),
        store_id: entry.store_id.clone(),
        who: entry.who.clone(),
        why: entry.why.clone(),
        record,
    })
}

impl Order {
    /// What the store is told.
    ///
    /// # Errors
    /// What does not fit together, in words.
    pub fn resolution(&self) -> Result<Resolution, &'static str> {
        let ruling = match (self.resolved_as.as_str(), &self.rail_ref, self.code) {
            ("settled", Some(reference), None) => {
                Ruling::Settled(RailRef::parse(reference).map_err(|_| "rail_ref: 1 to 128 printable ASCII characters")?)
            }
            ("rejected", None, Some(code)) => Ruling::Rejected(code),
            ("not-processed", None, None) => Ruling::NotProcessed,
            _ => return Err("settled takes a rail_ref, rejected a code, not-processed neither"),
        };
        Ok(Resolution {
            payment_id: self.payment_id.clone(),
            ruling,
            last_attempt: self.last_attempt,
            longest: Duration::from_millis(self.longest_ms),
            record: self.record,
        })
    }
}

/// What a payment in doubt waits for, in words.
#[must_use]
pub fn waits_for(state: State, claimed: bool, forgotten: bool, in_progress: bool) -> &'static str {
    match (state, claimed, forgotten) {
        (State::Held, _, _) => "a person: its rail neither credited nor returned it",
        _ if in_progress => "its rail, which says that it works on it",
        (_, _, true) => {
            "its rail's answer or a person: \"not found\" counts no more, the rail may have forgotten the key"
        }
        (_, true, false) => "its rail: a worker asks it, or its call is under way",
        (_, false, false) => "its event's next delivery, then its rail is asked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        Currency, EventId, Fingerprint, LaneName, Money, OrderKey, Reason, References, SchemeName, StreamName,
    };
    use crate::store::AttemptRecord;

    const LONGEST: Duration = Duration::from_secs(10);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn id() -> PaymentId {
        PaymentId::parse("PAY-1").expect("an id")
    }

    fn word(ruling: Ruling, evidence: &str) -> Word {
        Word::new(id(), ruling, evidence, Mandate::new("ops-1", "INC-7").expect("good")).expect("good")
    }

    fn settled() -> Ruling {
        Ruling::Settled(RailRef::parse("R-1").expect("a reference"))
    }

    /// A payment whose attempts, all at second 0, have these answers.
    fn record(state: State, answers: &[Option<Ended>]) -> PaymentRecord {
        let last_attempt = u32::try_from(answers.len()).expect("few");
        let attempt = |(number, ended): (u32, &Option<Ended>)| AttemptRecord {
            number,
            leg: 0,
            rail: "bank".into(),
            started_at: at(0),
            ended: *ended,
            ended_at: None,
            not_found: 0,
            in_progress_at: None,
        };
        let row = PaymentRow {
            row: 1,
            payment_id: id(),
            fingerprint: Fingerprint::of(b"x"),
            state,
            event: EventId { stream: StreamName::parse("PAYMENTS").expect("a name"), created_ms: 7, sequence: 9 },
            scheme: SchemeName::parse("book").expect("a name"),
            order_key: OrderKey::parse("k1").expect("a key"),
            lane: LaneName::parse("payments").expect("a name"),
            rail: "bank".into(),
            rail_ref: (state == State::Settled).then(|| RailRef::parse("R-1").expect("a reference")),
            amount: Currency::parse("EUR").and_then(|eur| Money::new(7, eur)).expect("money"),
            references: References::default(),
            requested_at: at(0),
            finished_at: None,
            late: false,
            attempts: last_attempt,
            last_attempt,
            reasons: (state == State::Rejected).then(|| Reason::new(Code::AC04, "", "")).into_iter().collect(),
            claim: None,
            fence: 1,
            deliveries: 1,
            tries: Vec::new(),
            renewed: false,
            tracked: None,
            reserved: None,
        };
        let attempts = (1..).zip(answers).map(attempt).collect();
        PaymentRecord { payment: Some(row), attempts, transfer: None, events: Vec::new(), notes: Vec::new() }
    }

    fn planned(word: &Word, record: &PaymentRecord, newest: Option<(u64, UnknownEntry)>) -> Plan {
        plan(word, Some(record), newest, "store", LONGEST, at(60))
    }

    /// The record that a person's word about this payment leaves.
    fn written(word: &Word, record: &PaymentRecord) -> UnknownEntry {
        let Plan::Record { entry, .. } = planned(word, record, None) else { panic!("not to be recorded") };
        *entry
    }

    #[test]
    fn what_a_killed_run_left_is_finished_under_its_own_record() {
        let doubt = record(State::Open, &[Some(Ended::Resubmit), None]);
        let word = word(settled(), "T-1");
        let entry = written(&word, &doubt);
        assert_eq!((entry.last_attempt, entry.keys.len(), entry.rail.as_str()), (2, 1, "bank"));
        let again = planned(&word, &doubt, Some((17, entry.clone())));
        assert!(matches!(&again, Plan::Record { record: Some(17), newest: 17, .. }), "{again:?}");
        // It was killed after the store had it.
        let done = record(State::Settled, &[Some(Ended::Resubmit), Some(Ended::Settled)]);
        assert_eq!(planned(&word, &done, Some((17, entry))), Plan::Done { record: 17 });
    }

    #[test]
    fn another_persons_word_gets_a_record_of_its_own() {
        let doubt = record(State::Open, &[None]);
        let before = written(&word(settled(), "T-1"), &doubt);
        let other = planned(&word(Ruling::NotProcessed, "T-2"), &doubt, Some((17, before)));
        assert!(matches!(&other, Plan::Record { record: None, newest: 17, .. }), "{other:?}");
    }

    #[test]
    fn words_about_one_attempt_are_not_taken_for_a_later_one() {
        let word = word(Ruling::NotProcessed, "T-1");
        let entry = written(&word, &record(State::Open, &[None]));
        let freed = record(State::Open, &[Some(Ended::NotSent)]);
        assert_eq!(planned(&word, &freed, Some((17, entry.clone()))), Plan::Done { record: 17 });
        let again = record(State::Open, &[Some(Ended::NotSent), None]);
        let refused = planned(&word, &again, Some((17, entry.clone())));
        assert!(matches!(&refused, Plan::Refused(why) if why.contains("attempt 2 is another one")), "{refused:?}");
        let ended = record(State::Settled, &[Some(Ended::NotSent), Some(Ended::Settled)]);
        assert_eq!(planned(&word, &ended, Some((17, entry))), Plan::Done { record: 17 });
    }

    #[test]
    fn what_the_rail_ended_is_refused_even_where_a_person_says_the_same() {
        let done = record(State::Settled, &[Some(Ended::Settled)]);
        for ruling in [settled(), Ruling::Rejected(Code::AC04), Ruling::NotProcessed] {
            let plan = planned(&word(ruling, "T-1"), &done, None);
            assert!(matches!(&plan, Plan::Refused(why) if why == "the payment is final: it is settled"), "{plan:?}");
        }
        let released = record(State::Open, &[Some(Ended::NotSent)]);
        let plan = planned(&word(Ruling::NotProcessed, "T-1"), &released, None);
        assert!(matches!(&plan, Plan::Refused(why) if why.contains("not in doubt")), "{plan:?}");
        assert!(matches!(plan_of_nothing(), Plan::Refused(_)));
    }

    fn plan_of_nothing() -> Plan {
        plan(&word(settled(), "T-1"), None, None, "store", LONGEST, at(60))
    }

    #[test]
    fn a_young_attempt_waits_before_it_is_said_not_to_count() {
        let doubt = record(State::Held, &[None]);
        let early = |ruling| plan(&word(ruling, "T-1"), Some(&doubt), None, "store", LONGEST, at(4));
        for ruling in [Ruling::NotProcessed, Ruling::Rejected(Code::AC04)] {
            let plan = early(ruling);
            assert!(matches!(&plan, Plan::Refused(why) if why.contains("may still take effect")), "{plan:?}");
        }
        assert!(matches!(early(settled()), Plan::Record { .. }));
    }

    #[test]
    fn an_order_reads_back_as_what_was_meant() {
        let order = |became: &str, rail_ref: Option<&str>, code| Order {
            payment_id: id(),
            resolved_as: became.into(),
            rail_ref: rail_ref.map(str::to_owned),
            code,
            last_attempt: 2,
            longest_ms: 10_000,
            store_id: "store".into(),
            who: "ops-1".into(),
            why: "INC-7".into(),
            record: 17,
        };
        assert_eq!(order("settled", Some("R-1"), None).resolution().map(|it| it.ruling), Ok(settled()));
        let rejected = order("rejected", None, Some(Code::AC04));
        assert_eq!(rejected.resolution().map(|it| it.ruling), Ok(Ruling::Rejected(Code::AC04)));
        assert_eq!(order("not-processed", None, None).resolution().map(|it| it.longest), Ok(LONGEST));
        for bad in [
            order("settled", None, None),
            order("settled", Some("not ascii \u{e9}"), None),
            order("rejected", Some("R-1"), Some(Code::AC04)),
            order("not-processed", None, Some(Code::AC04)),
            order("lost", None, None),
        ] {
            assert!(bad.resolution().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn evidence_is_one_line_of_a_bounded_length() {
        let mandate = Mandate::new("ops-1", "INC-7").expect("good");
        for bad in ["", "  ", "a\nb", &"x".repeat(1_025)] {
            assert!(Word::new(id(), Ruling::NotProcessed, bad, mandate.clone()).is_err(), "{bad:?}");
        }
    }
}
