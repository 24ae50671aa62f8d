//! Payments in doubt, from the index of unfinished payments.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::super::{DoubtSums, ReadError, UnknownFilter, UnknownKey, UnknownLine};
use super::{Fault, Reader, money, unsigned};
use crate::domain::{LaneName, PaymentId};
use crate::store::State;

macro_rules! in_doubt {
    () => {
        " FROM payments p JOIN attempts a ON a.payment = p.id AND a.answer IS NULL WHERE p.state IN ('open', 'held')"
    };
}

const PAGE: &str = concat!(
    "SELECT p.id, p.payment_id, p.state, p.lane, max(a.rail), max(a.leg), p.attempts, max(a.not_found), \
     min(a.started_at), p.currency, p.minor, p.claim_until, max(a.in_progress_at)",
    in_doubt!(),
    " AND ($1::text IS NULL OR p.lane = $1) GROUP BY p.id \
     HAVING min(a.started_at) <= $2 AND (min(a.started_at), p.id) > ($3, $4) ORDER BY min(a.started_at), p.id LIMIT $5"
);

const SUMS: &str = concat!(
    "SELECT currency, working, count(*), sum(minor)::text, \
     min(CASE WHEN working THEN since ELSE greatest(since, said) END) FROM (\
     SELECT p.currency, p.minor, min(a.started_at) AS since, max(a.in_progress_at) AS said, \
     p.state = 'open' AND coalesce(max(a.in_progress_at) >= $2, false) AS working",
    in_doubt!(),
    " GROUP BY p.id HAVING min(a.started_at) <= $1 OR p.state = 'held') AS u GROUP BY currency, working"
);

impl Reader {
    pub(in super::super) fn unknown_after(
        &self,
        filter: &UnknownFilter,
        after: UnknownKey,
        limit: u32,
    ) -> Result<Vec<UnknownLine>, ReadError> {
        let UnknownFilter { lane, before } = filter.clone();
        self.ask(async move |client| {
            let lane = lane.as_ref().map(LaneName::as_str);
            let found = client.query(PAGE, &[&lane, &before, &after.since, &after.row, &i64::from(limit)]).await?;
            found.iter().map(line_of).collect()
        })
    }

    pub(in super::super) fn unknown_sums(&self, before: Timestamp, heard: Timestamp) -> Result<DoubtSums, ReadError> {
        self.ask(async move |client| {
            let mut sums = DoubtSums::default();
            for row in client.query(SUMS, &[&before, &heard]).await? {
                let minor: i128 = row.try_get::<_, &str>(3)?.parse().map_err(|_| Fault::Row("a sum"))?;
                let of = sums.of(row.try_get(1)?);
                of.add(row.try_get(0)?, unsigned(row.try_get(2)?)?, minor, row.try_get(4)?)?;
            }
            Ok(sums)
        })
    }
}

fn line_of(row: &Row) -> Result<UnknownLine, ReadError> {
    let count = |column: usize| -> Result<u32, ReadError> {
        Ok(u32::try_from(row.try_get::<_, i32>(column)?).map_err(|_| Fault::Row("a count"))?)
    };
    Ok(UnknownLine {
        row: row.try_get(0)?,
        payment_id: PaymentId::parse(row.try_get(1)?).map_err(|_| Fault::Row("payment_id"))?,
        state: State::of_word(row.try_get(2)?).ok_or(Fault::Row("state"))?,
        lane: LaneName::parse(row.try_get(3)?).map_err(|_| Fault::Row("lane"))?,
        rail: row.try_get(4)?,
        leg: u8::try_from(row.try_get::<_, i16>(5)?).map_err(|_| Fault::Row("leg"))?,
        attempts: count(6)?,
        not_found: count(7)?,
        since: row.try_get(8)?,
        amount: money(row.try_get(9)?, row.try_get(10)?)?,
        claimed_until: row.try_get(11)?,
        in_progress_at: row.try_get(12)?,
    })
}
