//! The tracker's rows.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::try_join3;
use jiff::Timestamp;
use tokio_postgres::Row;

use super::super::Origin;
use super::super::rows::{Message, Rows, TrackerChange, TrackerRow, TrackerTotals, Tracking};
use super::super::tracker::{Due, DueList, DueWanted};
use super::connect::{Fault, Session};
use super::load::{money, payment_of};
use super::sql;
use crate::domain::LaneName;

/// Reads `since, due, sweeps`.
pub(in crate::store) fn tracking(row: &Row, first: usize) -> Result<Tracking, Fault> {
    let sweeps = row.try_get::<_, i32>(first.saturating_add(2))?;
    Ok(Tracking {
        since: row.try_get(first)?,
        due: row.try_get(first.saturating_add(1))?,
        sweeps: u32::try_from(sweeps).map_err(|_| Fault::Row("tracker.sweeps"))?,
    })
}

/// What the wanted trackers hold, once nobody else can add to them. The lock is the last that a group takes.
pub(super) async fn totals(session: &Session, lanes: &[LaneName], rows: &mut Rows) -> Result<(), Fault> {
    if lanes.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = lanes.iter().map(LaneName::as_str).collect();
    session.query(sql::LOCK_TRACKERS, &[&names]).await?;
    rows.trackers = lanes.iter().map(|lane| (lane.clone(), TrackerTotals::default())).collect();
    for row in &session.query(sql::TRACKERS, &[&names]).await? {
        let (lane, count, sum, since) = sums(row)?;
        rows.trackers.entry(lane).or_default().add(count, sum, since);
    }
    Ok(())
}

type Sums = (LaneName, u64, crate::domain::Money, Timestamp);

fn sums(row: &Row) -> Result<Sums, Fault> {
    let lane = LaneName::parse(row.try_get(0)?).map_err(|_| Fault::Row("tracker.lane"))?;
    let count = u64::try_from(row.try_get::<_, i64>(2)?).map_err(|_| Fault::Row("tracker"))?;
    Ok((lane, count, money(row.try_get(1)?, row.try_get(3)?)?, row.try_get(4)?))
}

/// What is due and free, the longest due first.
pub(super) async fn due(session: &Session, wanted: &DueWanted) -> Result<DueList, Fault> {
    let lane = wanted.lane.as_str();
    let mut list = DueList::default();
    for row in &session.query(sql::TRACKERS, &[&vec![lane]]).await? {
        let (_, count, sum, since) = sums(row)?;
        list.totals.add(count, sum, since);
    }
    if list.totals.count == 0 {
        return Ok(list);
    }
    let own = format!("{}/", wanted.owner);
    for row in &session.query(sql::DUE, &[&lane, &own, &i64::from(wanted.most), &wanted.at]).await? {
        let headers = serde_json::from_str(row.try_get("headers")?).map_err(|_| Fault::Row("tracker.headers"))?;
        let body = Bytes::copy_from_slice(row.try_get::<_, &[u8]>("body")?);
        let origin = Origin::of_tracked(payment_of(row)?, wanted.lane.clone());
        list.due.push(Due::new(origin, Message { headers, body }));
    }
    Ok(list)
}

/// Changes of the tracker: what one group does to a row one after the other, as its result.
pub(super) struct Tracker<'a> {
    new: Vec<(&'a TrackerRow, String)>,
    due: Vec<(i64, Tracking)>,
    gone: Vec<i64>,
}

impl<'a> Tracker<'a> {
    pub(super) fn of(changes: &'a [TrackerChange]) -> Result<Self, Fault> {
        let (mut new, mut due, mut gone) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for change in changes {
            match change {
                TrackerChange::New(row) => {
                    new.insert(row.payment, row);
                }
                TrackerChange::Due { payment, tracking } => {
                    due.insert(*payment, *tracking);
                }
                TrackerChange::Gone { payment } => gone.push(*payment),
            }
        }
        gone.sort_unstable();
        due.retain(|payment, _| !gone.contains(payment));
        let new = new.into_values().map(|row| {
            let headers = serde_json::to_string(&row.message.headers).map_err(|_| Fault::Row("tracker.headers"))?;
            Ok((row, headers))
        });
        Ok(Self { new: new.collect::<Result<_, Fault>>()?, due: due.into_iter().collect(), gone })
    }

    pub(super) async fn write(&self, session: &Session) -> Result<(), Fault> {
        try_join3(self.add(session), self.set(session), self.remove(session)).await.map(drop)
    }

    async fn add(&self, session: &Session) -> Result<(), Fault> {
        if self.new.is_empty() {
            return Ok(());
        }
        let each = &self.new;
        let sweeps = sweeps(each.iter().map(|(row, _)| row.tracking))?;
        let (since, due): (Vec<_>, Vec<_>) = each.iter().map(|(row, _)| (row.tracking.since, row.tracking.due)).unzip();
        session
            .execute(
                sql::NEW_TRACKED,
                &[
                    &each.iter().map(|(row, _)| row.payment).collect::<Vec<_>>(),
                    &each.iter().map(|(row, _)| row.lane.as_str()).collect::<Vec<_>>(),
                    &each.iter().map(|(row, _)| row.amount.currency().code()).collect::<Vec<_>>(),
                    &each.iter().map(|(row, _)| row.amount.minor()).collect::<Vec<_>>(),
                    &since,
                    &due,
                    &sweeps,
                    &each.iter().map(|(_, headers)| headers.as_str()).collect::<Vec<_>>(),
                    &each.iter().map(|(row, _)| row.message.body.as_ref()).collect::<Vec<_>>(),
                ],
            )
            .await
            .map(drop)
    }

    async fn set(&self, session: &Session) -> Result<(), Fault> {
        if self.due.is_empty() {
            return Ok(());
        }
        let (payments, tracking): (Vec<i64>, Vec<Tracking>) = self.due.iter().copied().unzip();
        let due: Vec<Timestamp> = tracking.iter().map(|tracking| tracking.due).collect();
        session.execute(sql::DUE_TRACKED, &[&payments, &due, &sweeps(tracking.into_iter())?]).await.map(drop)
    }

    async fn remove(&self, session: &Session) -> Result<(), Fault> {
        if self.gone.is_empty() {
            return Ok(());
        }
        session.execute(sql::GONE_TRACKED, &[&self.gone]).await.map(drop)
    }
}

fn sweeps(of: impl Iterator<Item = Tracking>) -> Result<Vec<i32>, Fault> {
    of.map(|tracking| i32::try_from(tracking.sweeps).map_err(|_| Fault::Row("tracker.sweeps"))).collect()
}
