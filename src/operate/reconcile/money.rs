//! Money per currency, over distinct payments. A payment is a payment id *and* what was asked for under it: a conflict
//! asks for another payment and ends as a dead letter, with its own amount on both sides.

use std::collections::BTreeMap;

use serde::Serialize;

use super::scratch::Scratch;
use crate::domain::{Currency, Money};
use crate::operate::Trouble;

/// One currency, as decimal strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Asked for.
    pub published: String,
    /// Moved, as the store has it.
    pub settled: String,
    /// Refused.
    pub rejected: String,
    /// Condemned, conflicts among them.
    pub dead_lettered: String,
    /// Not at its end.
    pub held: String,
    /// At its end for the broker, and nowhere on record.
    pub unaccounted: String,
}

#[derive(Default, Clone, Copy)]
struct Minor {
    published: i128,
    settled: i128,
    rejected: i128,
    dead_lettered: i128,
    held: i128,
    unaccounted: i128,
}

/// Where the same payment was asked for by several events, the one that got furthest counts. Payments of which only
/// duplicates were ever seen here are left out: their first event had left the stream before.
const PAIRS: &str = "
SELECT currency, minor, min(CASE class WHEN 'settled' THEN 0 WHEN 'for_person' THEN 1
    WHEN 'tracked' THEN 1 WHEN 'in_flight' THEN 2
    WHEN 'in_stream' THEN 3 WHEN 'lost' THEN 4 WHEN 'rejected' THEN 5 WHEN 'dead_lettered' THEN 6 ELSE 7 END) AS rank
FROM events WHERE payment_id IS NOT NULL AND minor IS NOT NULL GROUP BY payment_id, fp HAVING rank < 7";

/// What was settled, as the store has it, of events that were seen here.
const SETTLED: &str = "
SELECT p.currency, p.minor FROM payments p JOIN events e ON e.stream = p.stream AND e.seq = p.seq
WHERE p.state = 'settled'";

/// The sums, and whether in every currency nothing is missing and nothing is too much.
pub(super) fn sums(scratch: &Scratch) -> Result<(BTreeMap<String, Sums>, bool), Trouble> {
    let mut all: BTreeMap<String, Minor> = BTreeMap::new();
    let mut statement = scratch.db().prepare(PAIRS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let minor = i128::from(row.get::<_, i64>(1)?);
        let of = all.entry(row.get(0)?).or_default();
        // Summed here: a sum of 64 bits would overflow in the database.
        let add = |sum: &mut i128| *sum = sum.saturating_add(minor);
        add(&mut of.published);
        match row.get::<_, i64>(2)? {
            0 => {}
            1..=3 => add(&mut of.held),
            4 => add(&mut of.unaccounted),
            5 => add(&mut of.rejected),
            _ => add(&mut of.dead_lettered),
        }
    }
    let mut statement = scratch.db().prepare(SETTLED)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let minor = i128::from(row.get::<_, i64>(1)?);
        let of = all.entry(row.get(0)?).or_default();
        of.settled = of.settled.saturating_add(minor);
    }
    let conserved = all.values().all(|of| {
        let ends = [of.settled, of.rejected, of.dead_lettered, of.held];
        of.published == ends.iter().fold(0_i128, |sum, part| sum.saturating_add(*part))
    });
    let told = |(code, of): (String, Minor)| {
        let currency = Currency::parse(&code)?;
        let text = |minor| Money::format(minor, currency);
        let sums = Sums {
            published: text(of.published),
            settled: text(of.settled),
            rejected: text(of.rejected),
            dead_lettered: text(of.dead_lettered),
            held: text(of.held),
            unaccounted: text(of.unaccounted),
        };
        Some((code, sums))
    };
    Ok((all.into_iter().filter_map(told).collect(), conserved))
}
