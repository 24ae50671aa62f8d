//! The tracker's rows.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use super::super::Origin;
use super::super::rows::{Message, TrackerChange, TrackerTotals, Tracking};
use super::super::tracker::{Due, DueList, DueWanted};
use super::load::{Fault, instant, money, payment_of, payment_select};
use crate::domain::LaneName;
use jiff::Timestamp;

/// A payment's place in the tracker. Asked only of payments that went over a rail.
pub(in crate::store) fn place(connection: &Connection, payment: i64) -> Result<Option<Tracking>, Fault> {
    let found = connection
        .prepare_cached("SELECT since, due, sweeps FROM tracker WHERE payment = ?1")?
        .query_row([payment], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, u32>(2)?)))
        .optional()?;
    found.map(|(since, due, sweeps)| Ok(Tracking { since: instant(since)?, due: instant(due)?, sweeps })).transpose()
}

/// What a lane's tracker holds.
pub(super) fn totals(connection: &Connection, lane: &LaneName) -> Result<TrackerTotals, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT currency, count(*), sum(minor), min(since) FROM tracker WHERE lane = ?1 GROUP BY currency",
    )?;
    let mut found = statement.query([lane.as_str()])?;
    let mut totals = TrackerTotals::default();
    while let Some(row) = found.next()? {
        let sum = money(row.get_ref(0)?.as_str().map_err(|_| Fault::Row("tracker.currency"))?, row.get(2)?)?;
        let count = u64::try_from(row.get::<_, i64>(1)?).map_err(|_| Fault::Row("tracker"))?;
        totals.add(count, sum, instant(row.get(3)?)?);
    }
    Ok(totals)
}

/// What is due and free, the longest due first.
pub(super) fn due(connection: &Connection, wanted: &DueWanted, now: Timestamp) -> Result<DueList, Fault> {
    let mut list = DueList { due: Vec::new(), totals: totals(connection, &wanted.lane)? };
    if list.totals.count == 0 {
        return Ok(list);
    }
    let own = format!("{}/", wanted.owner);
    let mut statement = connection.prepare_cached(concat!(
        payment_select!(),
        " JOIN tracker t ON t.payment = p.id WHERE t.lane = ?1 AND t.due <= ?2 AND (p.claim_until IS NULL \
         OR p.claim_until <= ?2 OR substr(p.claim_owner, 1, length(?3)) = ?3) ORDER BY t.due LIMIT ?4"
    ))?;
    let mut found = statement.query((wanted.lane.as_str(), now.as_millisecond(), &own, wanted.most))?;
    let mut message = connection.prepare_cached("SELECT headers, body FROM tracker WHERE payment = ?1")?;
    while let Some(row) = found.next()? {
        let payment = payment_of(row)?;
        let (headers, body) =
            message.query_row([payment.row], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        let headers = serde_json::from_str(&headers).map_err(|_| Fault::Row("tracker.headers"))?;
        list.due.push(Due::new(
            Origin::of_tracked(payment, wanted.lane.clone()),
            Message { headers, body: Bytes::from(body) },
        ));
    }
    Ok(list)
}

pub(super) fn save(connection: &Connection, changes: &[TrackerChange]) -> Result<(), Fault> {
    for change in changes {
        match change {
            TrackerChange::New(row) => {
                let headers = serde_json::to_string(&row.message.headers).map_err(|_| Fault::Row("tracker.headers"))?;
                connection.prepare_cached("INSERT INTO tracker VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(
                    (
                        row.payment,
                        row.lane.as_str(),
                        row.amount.currency().code(),
                        row.amount.minor(),
                        row.tracking.since.as_millisecond(),
                        row.tracking.due.as_millisecond(),
                        row.tracking.sweeps,
                        headers,
                        row.message.body.as_ref(),
                    ),
                )?;
            }
            TrackerChange::Due { payment, tracking } => {
                connection.prepare_cached("UPDATE tracker SET due = ?2, sweeps = ?3 WHERE payment = ?1")?.execute((
                    payment,
                    tracking.due.as_millisecond(),
                    tracking.sweeps,
                ))?;
            }
            TrackerChange::Gone { payment } => {
                connection.prepare_cached("DELETE FROM tracker WHERE payment = ?1")?.execute([payment])?;
            }
        }
    }
    Ok(())
}
