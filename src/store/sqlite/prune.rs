//! Records of what ended long ago, removed a page at a time. Payments and transfers stay: the same payment sent again
//! gets the same outcome, and another content under its id is a conflict, however old it is.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;

use super::super::Pruned;
use super::load::Fault;

/// Where the next page begins. A round goes through the tables one after the other; each is in order of its key, and
/// with events and attempts that is nearly the order of time.
#[derive(Debug, Default)]
pub(super) enum Round {
    #[default]
    Begin,
    Events {
        stream: i64,
        sequence: i64,
    },
    Attempts {
        payment: i64,
        number: i64,
    },
    Notes {
        payment_id: String,
        at: i64,
        what: String,
    },
}

/// One page in a transaction of its own.
pub(super) fn prune(
    connection: &Connection,
    round: &mut Round,
    now: Timestamp,
    keep: Duration,
    most: u32,
) -> Result<Pruned, Fault> {
    let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
    let Ok(before) = now.checked_sub(keep) else { return Ok(Pruned::default()) };
    let before = before.as_millisecond();
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let (pruned, next) = match std::mem::take(round) {
        Round::Begin => events(connection, (0, 0), before, most)?,
        Round::Events { stream, sequence } => events(connection, (stream, sequence), before, most)?,
        Round::Attempts { payment, number } => attempts(connection, (payment, number), before, most)?,
        Round::Notes { payment_id, at, what } => notes(connection, (payment_id, at, what), before, most)?,
    };
    if pruned.rows() == 0 {
        connection.execute_batch("ROLLBACK")?;
    } else {
        // Whoever compares the store with what was read of the streams long ago must know that it has forgotten.
        connection
            .prepare_cached("INSERT OR REPLACE INTO meta VALUES ('pruned_before', ?1)")?
            .execute([before.to_string()])?;
        connection.execute_batch("COMMIT")?;
    }
    *round = next;
    Ok(Pruned { more: !matches!(round, Round::Begin), ..pruned })
}

type Page = Result<(Pruned, Round), Fault>;

fn events(connection: &Connection, after: (i64, i64), before: i64, most: u32) -> Page {
    let rows = connection
        .prepare_cached(
            "SELECT stream, sequence, at FROM events WHERE (stream, sequence) > (?1, ?2) \
             ORDER BY stream, sequence LIMIT ?3",
        )?
        .query_map((after.0, after.1, most), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<Vec<(i64, i64, i64)>, _>>()?;
    let mut delete = connection.prepare_cached("DELETE FROM events WHERE stream = ?1 AND sequence = ?2")?;
    let mut pruned = Pruned::default();
    for (stream, sequence, _) in rows.iter().filter(|(_, _, at)| *at < before) {
        delete.execute((stream, sequence))?;
        pruned.events = pruned.events.saturating_add(1);
    }
    // Behind a young row there are only younger ones, but for those that waited.
    let next = rows.last().filter(|(_, _, at)| *at < before && is_full(rows.len(), most));
    let next = next.map_or(Round::Attempts { payment: 0, number: 0 }, |(stream, sequence, _)| Round::Events {
        stream: *stream,
        sequence: *sequence,
    });
    Ok((pruned, next))
}

/// Of finished payments only: without its attempts a payment in doubt would be sent again.
fn attempts(connection: &Connection, after: (i64, i64), before: i64, most: u32) -> Page {
    let rows = connection
        .prepare_cached(
            "SELECT a.payment, a.number, a.started_at, \
             coalesce(p.state IN ('settled', 'rejected') AND p.finished_at < ?3, 0) \
             FROM attempts a LEFT JOIN payments p ON p.id = a.payment WHERE (a.payment, a.number) > (?1, ?2) \
             ORDER BY a.payment, a.number LIMIT ?4",
        )?
        .query_map((after.0, after.1, before, most), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<Result<Vec<(i64, i64, i64, bool)>, _>>()?;
    let mut delete = connection.prepare_cached("DELETE FROM attempts WHERE payment = ?1 AND number = ?2")?;
    let mut pruned = Pruned::default();
    for (payment, number, ..) in rows.iter().filter(|(.., over)| *over) {
        delete.execute((payment, number))?;
        pruned.attempts = pruned.attempts.saturating_add(1);
    }
    let next = rows.last().filter(|(_, _, started_at, _)| *started_at < before && is_full(rows.len(), most));
    let begin = Round::Notes { payment_id: String::new(), at: 0, what: String::new() };
    let next = next.map_or(begin, |(payment, number, ..)| Round::Attempts { payment: *payment, number: *number });
    Ok((pruned, next))
}

/// In order of payment ids, so that a round looks at all of them: there are few, only of what had to wait.
fn notes(connection: &Connection, after: (String, i64, String), before: i64, most: u32) -> Page {
    let rows = connection
        .prepare_cached(
            "SELECT payment_id, at, what FROM notes WHERE (payment_id, at, what) > (?1, ?2, ?3) \
             ORDER BY payment_id, at, what LIMIT ?4",
        )?
        .query_map((&after.0, after.1, &after.2, most), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<Vec<(String, i64, String)>, _>>()?;
    let mut delete = connection.prepare_cached("DELETE FROM notes WHERE payment_id = ?1 AND at = ?2 AND what = ?3")?;
    let mut pruned = Pruned::default();
    for (payment_id, at, what) in rows.iter().filter(|(_, at, _)| *at < before) {
        delete.execute((payment_id, at, what))?;
        pruned.notes = pruned.notes.saturating_add(1);
    }
    let full = is_full(rows.len(), most);
    let next = rows.into_iter().next_back().filter(|_| full);
    Ok((pruned, next.map_or(Round::Begin, |(payment_id, at, what)| Round::Notes { payment_id, at, what })))
}

fn is_full(rows: usize, most: u32) -> bool {
    u32::try_from(rows).is_ok_and(|rows| rows >= most)
}
