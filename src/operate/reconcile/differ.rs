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
    /// The rail's ledger has more than one effect for it.
    RailDoubled,
    /// The rail's ledger has an effect for what the store has not settled and does not wait for.
    RailWithoutRecord,
    /// Settled over a rail whose ledger has no effect for it.
    SettledWithoutRail,
    /// The rail's ledger has other money, another reference or is another rail's than the store says.
    RailDiffers,
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
    pub const ALL: [Self; 19] = [
        Self::Lost,
        Self::Doubled,
        Self::RailDoubled,
        Self::RailWithoutRecord,
        Self::SettledWithoutRail,
        Self::RailDiffers,
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
            Self::RailDoubled => "the rail moved money for it more than once",
            Self::RailWithoutRecord => "the rail moved money, and the store has it neither as settled nor as in doubt",
            Self::SettledWithoutRail => "settled, and the rail's ledger has no effect for it",
            Self::RailDiffers => "the rail's ledger has other money, another reference or another rail than the store",
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

    /// The question to the scratch database; none where something else answers.
    fn sql(self) -> Option<&'static str> {
        use super::questions as q;
        match self {
            Self::Lost => Some(q::LOST),
            Self::Doubled => Some(q::DOUBLED),
            Self::RailDoubled => Some(q::RAIL_DOUBLED),
            Self::RailWithoutRecord => Some(q::RAIL_WITHOUT_RECORD),
            Self::SettledWithoutRail => Some(q::SETTLED_WITHOUT_RAIL),
            Self::RailDiffers => Some(q::RAIL_DIFFERS),
            Self::SettledAndCondemned => Some(q::SETTLED_AND_CONDEMNED),
            Self::OutcomeDiffers => Some(q::OUTCOME_DIFFERS),
            Self::OutcomeWithoutRecord => Some(q::OUTCOME_WITHOUT_RECORD),
            Self::RecordDiffers => Some(q::RECORD_DIFFERS),
            Self::BodyDiffers => Some(q::BODY_DIFFERS),
            Self::BookUnbalanced => None,
            Self::AcknowledgedEarly => Some(q::ACKNOWLEDGED_EARLY),
            Self::SettledWithoutOutcome => Some(q::SETTLED_WITHOUT_OUTCOME),
            Self::RejectedWithoutOutcome => Some(q::REJECTED_WITHOUT_OUTCOME),
            Self::DeadLetterWithoutRecord => Some(q::DEAD_LETTER_WITHOUT_RECORD),
            Self::CondemnedWithoutDeadLetter => Some(q::CONDEMNED_WITHOUT_DEAD_LETTER),
            Self::CondemnedWithoutOutcome => Some(q::CONDEMNED_WITHOUT_OUTCOME),
            Self::NotServed => Some(q::NOT_SERVED),
        }
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
        let named: Vec<_> = values.iter().filter(|(name, _)| sql.contains(*name)).copied().collect();
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
