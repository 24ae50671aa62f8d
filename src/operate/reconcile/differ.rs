//! What does not agree: one question to the scratch database for each kind of difference.

use std::collections::BTreeMap;
use std::fmt;

use rusqlite::named_params;
use serde::Serialize;

use super::scratch::Scratch;
use crate::operate::Trouble;

/// What kind of difference, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// At its end for the broker, and nowhere on record.
    Lost,
    /// Settled with two effects, or both settled and rejected.
    Doubled,
    /// A settled payment's own event was condemned.
    SettledAndCondemned,
    /// The outcome event tells another amount or reference than the store.
    OutcomeDiffers,
    /// An outcome event of which the store knows nothing.
    OutcomeWithoutRecord,
    /// The store holds other content than the event asked for.
    RecordDiffers,
    /// A dead letter's body is not that of its event.
    BodyDiffers,
    /// The book does not balance.
    BookUnbalanced,
    /// Acknowledged before the payment was final.
    AcknowledgedEarly,
    /// Settled, acknowledged, and no outcome event.
    SettledWithoutOutcome,
    /// Rejected, acknowledged, and no outcome event.
    RejectedWithoutOutcome,
    /// A dead letter of an event that the store did not condemn.
    DeadLetterWithoutRecord,
    /// Condemned, terminated, and no dead letter and no record of a discard.
    CondemnedWithoutDeadLetter,
    /// Condemned with a payment id, terminated, and no outcome event.
    CondemnedWithoutOutcome,
    /// Its scheme is served by no consumer.
    NotServed,
}

impl Kind {
    /// Every kind, the worst first.
    pub const ALL: [Self; 15] = [
        Self::Lost,
        Self::Doubled,
        Self::SettledAndCondemned,
        Self::OutcomeDiffers,
        Self::OutcomeWithoutRecord,
        Self::RecordDiffers,
        Self::BodyDiffers,
        Self::BookUnbalanced,
        Self::AcknowledgedEarly,
        Self::SettledWithoutOutcome,
        Self::RejectedWithoutOutcome,
        Self::DeadLetterWithoutRecord,
        Self::CondemnedWithoutDeadLetter,
        Self::CondemnedWithoutOutcome,
        Self::NotServed,
    ];

    /// In words.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Lost => "acknowledged, and nowhere on record",
            Self::Doubled => "told as settled in two ways, or as settled and rejected",
            Self::SettledAndCondemned => "settled, and condemned as well",
            Self::OutcomeDiffers => "the outcome event tells other money or another reference than the store",
            Self::OutcomeWithoutRecord => "an outcome event of which the store knows nothing",
            Self::RecordDiffers => "the store holds other content than the event asked for",
            Self::BodyDiffers => "the dead letter's body is not that of its event",
            Self::BookUnbalanced => "the book does not balance",
            Self::AcknowledgedEarly => "acknowledged before its payment was final",
            Self::SettledWithoutOutcome => "settled and acknowledged without an outcome event",
            Self::RejectedWithoutOutcome => "rejected and acknowledged without an outcome event",
            Self::DeadLetterWithoutRecord => "a dead letter of an event that the store did not condemn",
            Self::CondemnedWithoutDeadLetter => "condemned and terminated, and no dead letter nor a discard on record",
            Self::CondemnedWithoutOutcome => "condemned and terminated without an outcome event",
            Self::NotServed => "no consumer serves its scheme",
        }
    }

    /// Gives payment id (or null), stream and sequence of each case. What lies before the first reading of a stream is
    /// taken as acknowledged, what lies behind its cut as not.
    fn sql(self) -> Option<&'static str> {
        Some(match self {
            Self::Lost => "SELECT payment_id, stream, seq FROM events WHERE class = 'lost'",
            Self::Doubled => {
                "SELECT payment_id, NULL, NULL FROM outcomes WHERE kind = 'settled' \
                 GROUP BY payment_id HAVING count(DISTINCT effect) > 1 \
                 UNION SELECT o.payment_id, NULL, NULL FROM outcomes o \
                 WHERE o.kind = 'rejected' AND o.origin IS NULL AND EXISTS \
                 (SELECT 1 FROM outcomes s WHERE s.payment_id = o.payment_id AND s.kind = 'settled')"
            }
            Self::SettledAndCondemned => {
                "SELECT p.payment_id, p.stream, p.seq FROM payments p JOIN ends n ON n.stream = p.stream AND n.seq = p.seq \
                 WHERE p.state = 'settled' AND n.kind = 'condemned'"
            }
            Self::OutcomeDiffers => {
                "SELECT DISTINCT o.payment_id, p.stream, p.seq FROM outcomes o JOIN payments p ON p.payment_id = o.payment_id \
                 WHERE o.kind = 'settled' AND p.state = 'settled' AND (o.minor IS NOT p.minor OR o.currency IS NOT p.currency \
                 OR (p.rail = 'book' AND o.rail_ref IS NOT printf('tr_%012d', p.row)))"
            }
            Self::OutcomeWithoutRecord => {
                "SELECT DISTINCT o.payment_id, NULL, NULL FROM outcomes o WHERE o.kind <> 'held' AND NOT CASE \
                 WHEN o.origin IS NULL THEN EXISTS (SELECT 1 FROM payments p WHERE p.payment_id = o.payment_id \
                     AND p.state = o.kind) \
                 ELSE EXISTS (SELECT 1 FROM ends n JOIN streams s ON s.id = n.stream WHERE n.payment_id = o.payment_id \
                     AND n.kind = CASE o.kind WHEN 'dead-lettered' THEN 'condemned' ELSE o.kind END \
                     AND o.origin = s.created_ms || '.' || n.seq) END"
            }
            Self::RecordDiffers => {
                "SELECT p.payment_id, p.stream, p.seq FROM payments p JOIN events e ON e.stream = p.stream AND e.seq = p.seq \
                 WHERE p.state <> 'freed' AND (e.payment_id IS NOT p.payment_id OR e.fp IS NOT p.fp \
                 OR e.minor IS NOT p.minor OR e.currency IS NOT p.currency)"
            }
            Self::BodyDiffers => {
                "SELECT e.payment_id, e.stream, e.seq FROM letters l JOIN events e ON e.stream = l.e_stream AND e.seq = l.e_seq \
                 WHERE e.sha <> l.sha"
            }
            Self::BookUnbalanced => return None,
            Self::AcknowledgedEarly => {
                "SELECT payment_id, stream, seq FROM events WHERE acked AND class IN ('in_flight', 'for_person')"
            }
            Self::SettledWithoutOutcome => {
                "SELECT p.payment_id, p.stream, p.seq FROM payments p JOIN streams s ON s.id = p.stream \
                 LEFT JOIN events e ON e.stream = p.stream AND e.seq = p.seq \
                 WHERE p.state = 'settled' AND p.finished_ms >= :outcomes \
                 AND coalesce(e.acked, NOT s.live OR p.seq < s.first_seq) \
                 AND NOT EXISTS (SELECT 1 FROM outcomes o WHERE o.payment_id = p.payment_id AND o.kind = 'settled')"
            }
            Self::RejectedWithoutOutcome => {
                "SELECT p.payment_id, p.stream, p.seq FROM payments p JOIN streams s ON s.id = p.stream \
                 LEFT JOIN events e ON e.stream = p.stream AND e.seq = p.seq \
                 WHERE p.state = 'rejected' AND p.finished_ms >= :outcomes \
                 AND coalesce(e.acked, NOT s.live OR p.seq < s.first_seq) AND NOT EXISTS (SELECT 1 FROM outcomes o \
                     WHERE o.payment_id = p.payment_id AND o.kind = 'rejected' AND o.origin IS NULL) \
                 UNION ALL SELECT n.payment_id, n.stream, n.seq FROM ends n JOIN streams s ON s.id = n.stream \
                 LEFT JOIN events e ON e.stream = n.stream AND e.seq = n.seq \
                 WHERE n.kind = 'rejected' AND n.at_ms >= :outcomes \
                 AND coalesce(e.acked, NOT s.live OR n.seq < s.first_seq) AND NOT EXISTS (SELECT 1 FROM outcomes o \
                     WHERE o.payment_id = n.payment_id AND o.kind = 'rejected' AND o.origin = s.created_ms || '.' || n.seq)"
            }
            Self::DeadLetterWithoutRecord => {
                "SELECT e.payment_id, l.e_stream, l.e_seq FROM letters l \
                 LEFT JOIN events e ON e.stream = l.e_stream AND e.seq = l.e_seq \
                 WHERE NOT EXISTS (SELECT 1 FROM ends n WHERE n.stream = l.e_stream AND n.seq = l.e_seq AND n.kind = 'condemned')"
            }
            Self::CondemnedWithoutDeadLetter => {
                "SELECT n.payment_id, n.stream, n.seq FROM ends n JOIN streams s ON s.id = n.stream \
                 LEFT JOIN events e ON e.stream = n.stream AND e.seq = n.seq \
                 WHERE n.kind = 'condemned' AND n.at_ms >= :dead_letters \
                 AND coalesce(e.acked, NOT s.live OR n.seq < s.first_seq) \
                 AND NOT EXISTS (SELECT 1 FROM letters l WHERE l.e_stream = n.stream AND l.e_seq = n.seq) \
                 AND NOT EXISTS (SELECT 1 FROM discards d WHERE d.stream = n.stream AND d.seq = n.seq)"
            }
            Self::CondemnedWithoutOutcome => {
                "SELECT n.payment_id, n.stream, n.seq FROM ends n JOIN streams s ON s.id = n.stream \
                 LEFT JOIN events e ON e.stream = n.stream AND e.seq = n.seq \
                 WHERE n.kind = 'condemned' AND n.payment_id IS NOT NULL AND n.at_ms >= :outcomes \
                 AND coalesce(e.acked, NOT s.live OR n.seq < s.first_seq) AND NOT EXISTS (SELECT 1 FROM outcomes o \
                     WHERE o.payment_id = n.payment_id AND o.kind = 'dead-lettered' \
                     AND o.origin = s.created_ms || '.' || n.seq)"
            }
            Self::NotServed => {
                "SELECT e.payment_id, e.stream, e.seq FROM events e JOIN cover c ON c.stream = e.stream AND c.scheme = e.scheme \
                 WHERE c.served = 0 AND e.class = 'in_stream'"
            }
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.meaning())
    }
}

/// One thing that does not agree. Holds no amount and no account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What kind.
    pub kind: Kind,
    /// The payment, where it is known.
    pub payment_id: Option<String>,
    /// The event, as `<stream>.<created ms>.<sequence>`.
    pub event: Option<String>,
    /// In words.
    pub detail: String,
}

/// What is older than these instants may have aged out of its stream; in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Horizons {
    pub(super) outcomes: i64,
    pub(super) dead_letters: i64,
}

/// All differences, the first of them by name.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) named: Vec<Difference>,
    pub(super) by_kind: BTreeMap<Kind, u64>,
    most: usize,
}

impl Found {
    pub(super) fn add(&mut self, difference: Difference) {
        let count = self.by_kind.entry(difference.kind).or_default();
        *count = count.saturating_add(1);
        if self.named.len() < self.most {
            self.named.push(difference);
        }
    }

    /// Takes one back.
    pub(super) fn forget(&mut self, kind: Kind) {
        if let Some(count) = self.by_kind.get_mut(&kind) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_kind.remove(&kind);
            }
        }
    }
}

/// Asks for every kind.
pub(super) fn differences(scratch: &Scratch, horizons: Horizons, most: usize) -> Result<Found, Trouble> {
    let mut found = Found { most, ..Found::default() };
    for kind in Kind::ALL {
        let Some(sql) = kind.sql() else { continue };
        let mut statement = scratch.db().prepare(sql)?;
        let values = named_params! { ":outcomes": horizons.outcomes, ":dead_letters": horizons.dead_letters };
        let named: Vec<_> = values.into_iter().filter(|(name, _)| sql.contains(*name)).copied().collect();
        let mut rows = statement.query(named.as_slice())?;
        while let Some(row) = rows.next()? {
            let event = match (row.get::<_, Option<i64>>(1)?, row.get::<_, Option<i64>>(2)?) {
                (Some(stream), Some(seq)) => Some(scratch.token(stream, seq)?),
                (Some(_) | None, Some(_) | None) => None,
            };
            found.add(Difference { kind, payment_id: row.get(0)?, event, detail: kind.meaning().to_owned() });
        }
    }
    Ok(found)
}
