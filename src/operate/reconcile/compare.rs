//! Loads the store's facts beside the streams', and says of every event what became of it.

use std::collections::BTreeMap;

use rusqlite::params;

use super::scratch::{Scratch, signed};
use super::{Events, Held, Progress, serves};
use crate::broker::ConsumerInfo;
use crate::domain::EventId;
use crate::operate::Trouble;
use crate::store::{EventKey, EventKind, EventRow, PaymentLine, Reader, State};

const PAGE: u32 = 2000;

/// Copies what the store knows; the copies of the last run are dropped.
pub(super) fn load(scratch: &mut Scratch, store: &Reader, progress: &mut impl FnMut(&Progress)) -> Result<(), Trouble> {
    scratch.db().execute_batch("DELETE FROM payments; DELETE FROM ends;")?;
    let mut report = Progress { what: "store".to_owned(), done: 0, of: 0 };
    let mut after = 0;
    loop {
        let page = store.payments_after(after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = last.row;
        scratch.begin()?;
        for line in &page {
            scratch.put_payment(line)?;
        }
        scratch.commit()?;
        report.done = report.done.saturating_add(u64::try_from(page.len()).unwrap_or(0));
        progress(&report);
    }
    let mut after = EventKey::default();
    loop {
        let (page, next) = store.events_after(after, PAGE)?;
        if page.is_empty() {
            return Ok(());
        }
        after = next;
        scratch.begin()?;
        for row in &page {
            scratch.put_end(row)?;
        }
        scratch.commit()?;
        report.done = report.done.saturating_add(u64::try_from(page.len()).unwrap_or(0));
        progress(&report);
    }
}

impl Scratch {
    pub(super) fn put_payment(&mut self, line: &PaymentLine) -> Result<(), Trouble> {
        let stream = self.stream(&line.event.stream, line.event.created_ms)?;
        let state = match line.state {
            State::Open => "open",
            State::Held => "held",
            State::Freed => "freed",
            State::Settled => "settled",
            State::Rejected => "rejected",
        };
        self.db()
            .prepare_cached(
                "INSERT OR REPLACE INTO payments VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
            .execute(params![
                line.row,
                line.payment_id.as_str(),
                line.fingerprint.0.as_slice(),
                state,
                stream,
                signed(line.event.sequence),
                line.amount.currency().code(),
                line.amount.minor(),
                line.rail,
                line.code.map(|code| code.as_str()),
                line.finished_at.map(|at| at.as_millisecond()),
                line.requested_at.as_millisecond(),
                line.attempts,
                line.tracked.is_some(),
            ])?;
        Ok(())
    }

    pub(super) fn put_end(&mut self, row: &EventRow) -> Result<(), Trouble> {
        let stream = self.stream(&row.event.stream, row.event.created_ms)?;
        let kind = match row.kind {
            EventKind::Rejected => "rejected",
            EventKind::Duplicate => "duplicate",
            EventKind::Condemned => "condemned",
        };
        self.db().prepare_cached("INSERT OR REPLACE INTO ends VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(
            params![
                stream,
                signed(row.event.sequence),
                kind,
                row.payment_id.as_ref().map(|id| id.as_str()),
                row.code().map(|code| code.as_str()),
                row.at.as_millisecond(),
                row.requested_at.as_millisecond(),
            ],
        )?;
        Ok(())
    }

    /// An event that was looked for again and found: it had not been at its end when the store was read.
    pub(super) fn found_after_all(&self, event: &EventId) -> Result<(), Trouble> {
        self.db().execute(
            "UPDATE events SET class = 'in_flight' WHERE seq = ?3 AND class = 'lost' AND stream = \
             (SELECT id FROM streams WHERE name = ?1 AND created_ms = ?2)",
            params![event.stream.as_str(), event.created_ms, signed(event.sequence)],
        )?;
        Ok(())
    }
}

/// Says of every event what became of it, and whether the broker will deliver it again. In a stream that was deleted
/// nothing is delivered any more.
pub(super) fn classify(scratch: &Scratch, live: i64, consumers: &[ConsumerInfo]) -> Result<(), Trouble> {
    let db = scratch.db();
    db.execute_batch("DELETE FROM cover")?;
    let schemes: Vec<String> = db
        .prepare("SELECT DISTINCT scheme FROM events WHERE stream = ?1")?
        .query_map([live], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for scheme in schemes {
        // Without a consumer an event is never delivered: it stays in the stream until it ages out.
        let consumer = consumers.iter().find(|consumer| serves(consumer, &scheme));
        let (floor, delivered) = consumer.map_or((0, 0), |c| (c.ack_floor.stream_seq, c.delivered.stream_seq));
        db.execute(
            "INSERT INTO cover VALUES (?1, ?2, ?3, ?4, ?5)",
            params![live, scheme, signed(floor), signed(delivered), consumer.is_some()],
        )?;
    }
    db.execute_batch(
        "UPDATE events SET acked = coalesce((SELECT events.seq <= c.floor FROM cover c \
             WHERE c.stream = events.stream AND c.scheme = events.scheme), 1);
         UPDATE events SET class = coalesce(
             (SELECT CASE n.kind WHEN 'condemned' THEN 'dead_lettered' ELSE n.kind END FROM ends n \
                 WHERE n.stream = events.stream AND n.seq = events.seq AND n.requested_ms = events.at_ms),
             (SELECT CASE WHEN p.state IN ('open', 'held') AND p.tracked THEN 'tracked' WHEN p.state = 'open' \
                 THEN 'in_flight' WHEN p.state = 'held' THEN 'for_person' ELSE p.state END \
                 FROM payments p WHERE p.stream = events.stream AND p.seq = events.seq \
                 AND p.requested_ms = events.at_ms AND p.state <> 'freed'),
             CASE WHEN acked THEN 'lost' END,
             (SELECT CASE WHEN events.seq > c.delivered THEN 'in_stream' ELSE 'in_flight' END FROM cover c \
                 WHERE c.stream = events.stream AND c.scheme = events.scheme),
             'lost');",
    )?;
    Ok(())
}

/// Counts events by what became of them.
pub(super) fn counts(scratch: &Scratch) -> Result<Events, Trouble> {
    let db = scratch.db();
    let mut by_class: BTreeMap<String, u64> = BTreeMap::new();
    let mut statement = db.prepare("SELECT class, count(*) FROM events GROUP BY class")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        by_class.insert(row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0));
    }
    let of = |class: &str| by_class.get(class).copied().unwrap_or(0);
    let by_code = |class: &str| -> Result<BTreeMap<String, u64>, Trouble> {
        let mut statement = db.prepare(
            "SELECT coalesce(n.code, p.code, ''), count(*) FROM events e \
             LEFT JOIN ends n ON n.stream = e.stream AND n.seq = e.seq \
             LEFT JOIN payments p ON p.stream = e.stream AND p.seq = e.seq WHERE e.class = ?1 GROUP BY 1",
        )?;
        let pairs = statement.query_map([class], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
        pairs.map(|pair| pair.map(|(code, n)| (code, u64::try_from(n).unwrap_or(0))).map_err(Trouble::from)).collect()
    };
    let records_without_event: i64 = db.query_row(
        "SELECT (SELECT count(*) FROM payments p JOIN streams s ON s.id = p.stream \
             WHERE (NOT s.live OR p.seq < s.first_seq) \
             AND NOT EXISTS (SELECT 1 FROM events e WHERE e.stream = p.stream AND e.seq = p.seq)) \
         + (SELECT count(*) FROM ends n JOIN streams s ON s.id = n.stream WHERE (NOT s.live OR n.seq < s.first_seq) \
             AND NOT EXISTS (SELECT 1 FROM events e WHERE e.stream = n.stream AND e.seq = n.seq))",
        [],
        |row| row.get(0),
    )?;
    Ok(Events {
        published: by_class.values().fold(0, |sum, n| sum.saturating_add(*n)),
        settled: of("settled"),
        rejected: of("rejected"),
        dead_lettered: of("dead_lettered"),
        duplicates: of("duplicate"),
        held: Held {
            in_stream: of("in_stream"),
            in_flight: of("in_flight"),
            for_person: of("for_person"),
            tracked: of("tracked"),
        },
        unaccounted: of("lost"),
        rejected_by_code: by_code("rejected")?,
        dead_lettered_by_code: by_code("dead_lettered")?,
        records_without_event: u64::try_from(records_without_event).unwrap_or(0),
    })
}
