//! Payments in doubt, from the index of unfinished payments.

use jiff::Timestamp;

use super::super::{DoubtSums, ReadError, UnknownFilter, UnknownKey, UnknownLine};
use super::{Fault, Reader, instant};
use crate::domain::{Currency, LaneName, Money, PaymentId};
use crate::store::State;

/// The order of the join is fixed: without it the attempts of finished payments would be read as well.
macro_rules! in_doubt {
    () => {
        " FROM payments p CROSS JOIN attempts a ON a.payment = p.id AND a.answer IS NULL \
         WHERE p.state IN ('open', 'held')"
    };
}

const PAGE: &str = concat!(
    "SELECT p.id, p.payment_id, p.state, p.lane, max(a.rail), max(a.leg), p.attempts, max(a.not_found), \
     min(a.started_at) AS since, p.currency, p.minor, p.claim_until, max(a.in_progress_at)",
    in_doubt!(),
    " AND (?1 IS NULL OR p.lane = ?1) GROUP BY p.id HAVING since <= ?2 AND (since, p.id) > (?3, ?4) \
     ORDER BY since, p.id LIMIT ?5"
);

const EACH: &str = concat!(
    "SELECT p.currency, p.minor, p.state, min(a.started_at) AS since, max(a.in_progress_at)",
    in_doubt!(),
    " GROUP BY p.id HAVING since <= ?1 OR p.state = 'held'"
);

impl Reader {
    pub(in super::super) fn unknown_after(
        &self,
        filter: &UnknownFilter,
        after: UnknownKey,
        limit: u32,
    ) -> Result<Vec<UnknownLine>, ReadError> {
        let mut statement = self.connection.prepare_cached(PAGE)?;
        let (lane, before) = (filter.lane.as_ref().map(LaneName::as_str), filter.before.as_millisecond());
        let mut found = statement.query((lane, before, after.since.as_millisecond(), after.row, limit))?;
        let mut lines = Vec::new();
        while let Some(row) = found.next()? {
            lines.push(line_of(row)?);
        }
        Ok(lines)
    }

    pub(in super::super) fn unknown_sums(&self, before: Timestamp, heard: Timestamp) -> Result<DoubtSums, ReadError> {
        let mut statement = self.connection.prepare_cached(EACH)?;
        let mut found = statement.query([before.as_millisecond()])?;
        let mut sums = DoubtSums::default();
        while let Some(row) = found.next()? {
            let currency = row.get_ref(0)?.as_str().map_err(|_| Fault::Row("currency"))?;
            let open = row.get_ref(2)?.as_str().map_err(|_| Fault::Row("state"))? == State::Open.word();
            let (since, said) = (instant(row.get(3)?)?, row.get::<_, Option<i64>>(4)?.map(instant).transpose()?);
            let in_progress = open && said.is_some_and(|said| said >= heard);
            let oldest = if in_progress { since } else { said.map_or(since, |said| said.max(since)) };
            sums.of(in_progress).add(currency, 1, row.get::<_, i64>(1)?.into(), oldest)?;
        }
        Ok(sums)
    }
}

fn line_of(row: &rusqlite::Row<'_>) -> Result<UnknownLine, ReadError> {
    let text = |column: usize| row.get_ref(column)?.as_str().map_err(|_| Fault::Row("a text"));
    let (currency, minor) = (text(9)?, row.get(10)?);
    let amount = Currency::parse(currency).and_then(|currency| Money::new(minor, currency));
    Ok(UnknownLine {
        row: row.get(0)?,
        payment_id: PaymentId::parse(text(1)?).map_err(|_| Fault::Row("payment_id"))?,
        state: State::of_word(text(2)?).ok_or(Fault::Row("state"))?,
        lane: LaneName::parse(text(3)?).map_err(|_| Fault::Row("lane"))?,
        rail: row.get(4)?,
        leg: row.get(5)?,
        attempts: row.get(6)?,
        not_found: row.get(7)?,
        since: instant(row.get(8)?)?,
        amount: amount.ok_or(Fault::Row("minor"))?,
        claimed_until: row.get::<_, Option<i64>>(11)?.map(instant).transpose()?,
        in_progress_at: row.get::<_, Option<i64>>(12)?.map(instant).transpose()?,
    })
}
