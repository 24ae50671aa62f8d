//! Rows read into plain data, under lock.

use std::borrow::Cow;

use futures_util::future::{try_join, try_join3, try_join5};
use jiff::Timestamp;
use tokio::task::yield_now;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::rows::{
    AttemptRow, Claim, DayKey, Ended, EventKind, EventRow, PaymentRow, Rows, StartRow, State, Wanted,
};
use super::accounts::Accounts;
use super::connect::{Fault, Session};
use super::instant::Instant;
use super::tracker::tracking;
use super::{Block, Memory, spending, sql};
use crate::domain::{
    Currency, EventId, Fingerprint, LaneName, Money, OrderKey, PaymentId, RailRef, Reason, References, SchemeName,
    StreamName,
};

/// Events as the database knows them.
struct Keys {
    streams: Vec<i64>,
    sequences: Vec<i64>,
    locks: Vec<i64>,
}

impl Keys {
    /// The stream, the first and the last number, where they are one stream's and so close together that what lies
    /// between them is no burden.
    fn close(&self) -> Option<(i64, i64, i64)> {
        let stream = *self.streams.first()?;
        let (first, last) = (*self.sequences.iter().min()?, *self.sequences.iter().max()?);
        let most = i64::try_from(self.sequences.len()).ok()?.saturating_mul(4);
        let one = self.streams.iter().all(|other| *other == stream);
        (one && last.saturating_sub(first) < most).then_some((stream, first, last))
    }

    /// What stands under these numbers, one by one or all `between` the first and the last.
    async fn query(&self, session: &Session, each: &'static str, between: &'static str) -> Result<Vec<Row>, Fault> {
        match self.close() {
            Some((stream, first, last)) => session.query(between, &[&stream, &first, &last]).await,
            None => session.query(each, &[&self.streams, &self.sequences]).await,
        }
    }
}

pub(super) async fn load(session: &Session, memory: &mut Memory, wanted: &Wanted) -> Result<Rows, Fault> {
    numbers(session, memory, wanted).await?;
    let keys = keys(session, memory, &wanted.events).await?;
    let ids = ids(session, memory, wanted).await?;
    // Sent in this order, and none waits for another's answer; the server works through them one after the other.
    let begun = async {
        session.client.batch_execute("BEGIN").await?;
        Ok(())
    };
    let behind = async {
        // The server is at work on the first ones while the others are put together.
        yield_now().await;
        let accounts = Accounts::of(&memory.known, &wanted.accounts);
        let tried = async { if wanted.tried { Tried::query(session, &ids).await } else { Ok(Tried::default()) } };
        let (events, starts, found, tried, now) = try_join5(
            keys.query(session, sql::EVENTS, sql::EVENTS_BETWEEN),
            keys.query(session, sql::STARTS, sql::STARTS_BETWEEN),
            accounts.query(session),
            tried,
            session.query(sql::NOW, &[]),
        )
        .await?;
        Ok((events, starts, accounts, found, tried, now))
    };
    let (((), _, payments), (events, starts, accounts, found, tried, now)) = try_join(
        try_join3(begun, session.query(sql::LOCK, &[&keys.locks]), session.query(sql::PAYMENTS, &[&ids])),
        behind,
    )
    .await?;
    let now = now.first().ok_or(Fault::Row("the clock"))?.try_get::<_, Instant>(0)?.0;
    let mut rows = Rows {
        now: super::super::rows::to_millis(now),
        next_payment: memory.payments.next,
        next_account: memory.accounts.next,
        payments: payments
            .iter()
            .map(|row| payment_of(row).map(|payment| (payment.payment_id.clone(), payment)))
            .collect::<Result<_, _>>()?,
        events: events
            .iter()
            .map(|row| event_of(row).map(|event| (event.event.clone(), event)))
            // Between the wanted numbers others may lie, which are not locked.
            .filter(|event| event.as_ref().map_or(true, |(id, _)| wanted.events.binary_search(id).is_ok()))
            .collect::<Result<_, _>>()?,
        accounts: accounts.read(&found, &mut memory.known)?,
        starts: Default::default(),
        trackers: Default::default(),
        days: Default::default(),
    };
    if wanted.tried { tried } else { Tried::of(session, &rows).await? }.read(&mut rows)?;
    // Behind the accounts and ahead of the trackers, in every process.
    spending::load(session, &wanted.days, &mut rows).await?;
    super::tracker::totals(session, &wanted.trackers, &mut rows).await?;
    for row in &starts {
        let start = StartRow { count: unsigned32(row.try_get(2)?)?, first_at: row.try_get(3)? };
        let (stream, sequence) = (row.try_get::<_, i64>(0)?, row.try_get::<_, i64>(1)?);
        for event in &wanted.events {
            let known = memory.streams.get(&(event.stream.clone(), event.created_ms)) == Some(&stream);
            if known && signed(event.sequence)? == sequence {
                rows.starts.insert(event.clone(), start);
            }
        }
    }
    Ok(rows)
}

/// What belongs to payments that a rail was given: statements of their own behind the lock of the payments, because one
/// that waited for a lock sees other tables as they were before.
#[derive(Default)]
struct Tried {
    attempts: Vec<Row>,
    places: Vec<Row>,
}

impl Tried {
    async fn query(session: &Session, ids: &[impl ToSql + Sync]) -> Result<Self, Fault> {
        let (attempts, places) =
            try_join(session.query(sql::TRIES, &[&ids]), session.query(sql::TRACKED, &[&ids])).await?;
        Ok(Self { attempts, places })
    }

    /// Those of a group that did not expect any: the book has none, and what stands already costs one more round trip.
    async fn of(session: &Session, rows: &Rows) -> Result<Self, Fault> {
        let tried = rows.payments.values().filter(|row| row.last_attempt > 0);
        let tried: Vec<&str> = tried.map(|row| row.payment_id.as_str()).collect();
        if tried.is_empty() { Ok(Self::default()) } else { Self::query(session, &tried).await }
    }

    fn read(self, rows: &mut Rows) -> Result<(), Fault> {
        for row in &self.attempts {
            let attempt = attempt_of(row, 1)?;
            payment_named(row, rows)?.tries.push(attempt);
        }
        for row in &self.places {
            payment_named(row, rows)?.tracked = Some(tracking(row, 1)?);
        }
        Ok(())
    }
}

/// The payment whose id is the row's first column.
fn payment_named<'a>(row: &Row, rows: &'a mut Rows) -> Result<&'a mut PaymentRow, Fault> {
    let id = PaymentId::parse(row.try_get(0)?).map_err(|_| Fault::Row("payment_id"))?;
    rows.payments.get_mut(&id).ok_or(Fault::Row("a payment that was not read"))
}

/// Takes new blocks of row numbers where the ones in hand may not be enough. Outside the transaction: what is not used
/// leaves a gap.
async fn numbers(session: &Session, memory: &mut Memory, wanted: &Wanted) -> Result<(), Fault> {
    for (sql, count) in [(sql::PAYMENT_BLOCK, wanted.payments.len()), (sql::ACCOUNT_BLOCK, wanted.accounts.len())] {
        let block = if sql == sql::PAYMENT_BLOCK { &mut memory.payments } else { &mut memory.accounts };
        if !block.holds(count) {
            let taken = session.query(sql, &[]).await?;
            *block = Block::of(taken.first().ok_or(Fault::Row("a block of numbers"))?.try_get(0)?);
        }
    }
    Ok(())
}

async fn keys(session: &Session, memory: &mut Memory, events: &[EventId]) -> Result<Keys, Fault> {
    let mut keys = Keys { streams: Vec::new(), sequences: Vec::new(), locks: Vec::new() };
    for event in events {
        let (stream, sequence) = (stream(session, memory, event).await?, signed(event.sequence)?);
        keys.streams.push(stream);
        keys.sequences.push(sequence);
        // Two events under one lock only wait for each other.
        keys.locks.push(stream.wrapping_shl(44) ^ sequence);
    }
    keys.locks.sort_unstable();
    keys.locks.dedup();
    Ok(keys)
}

/// The stream's number.
pub(super) async fn stream(session: &Session, memory: &mut Memory, event: &EventId) -> Result<i64, Fault> {
    let key = (event.stream.clone(), event.created_ms);
    if let Some(stream) = memory.streams.get(&key) {
        return Ok(*stream);
    }
    let found = session.query(sql::STREAM, &[&event.stream.as_str(), &event.created_ms]).await?;
    let stream = found.first().ok_or(Fault::Row("streams.id"))?.try_get(0)?;
    memory.streams.insert(key, stream);
    Ok(stream)
}

/// The payments wanted by id, and those whose own events are wanted; sorted as they are locked.
async fn ids<'a>(session: &Session, memory: &mut Memory, wanted: &'a Wanted) -> Result<Vec<Cow<'a, str>>, Fault> {
    let mut ids: Vec<Cow<'a, str>> = wanted.payments.iter().map(|id| id.as_str().into()).collect();
    if !wanted.owners.is_empty() {
        let owners = keys(session, memory, &wanted.owners).await?;
        for row in session.query(sql::OWNED, &[&owners.streams, &owners.sequences]).await? {
            ids.push(row.try_get::<_, String>(0)?.into());
        }
        ids.sort_unstable();
        ids.dedup();
    }
    Ok(ids)
}

/// Reads a row of `payment_columns`; its attempts are read apart.
pub(in crate::store) fn payment_of(row: &Row) -> Result<PaymentRow, Fault> {
    let claim = match (row.try_get::<_, Option<&str>>(23)?, row.try_get::<_, Option<Instant>>(24)?) {
        (Some(owner), Some(Instant(until))) => Some(Claim { owner: owner.into(), until }),
        _ => None,
    };
    let print = <[u8; 32]>::try_from(row.try_get::<_, &[u8]>(2)?).map_err(|_| Fault::Row("fingerprint"))?;
    Ok(PaymentRow {
        row: row.try_get(0)?,
        payment_id: PaymentId::parse(row.try_get(1)?).map_err(|_| Fault::Row("payment_id"))?,
        fingerprint: Fingerprint(print),
        state: State::of_word(row.try_get(3)?).ok_or(Fault::Row("state"))?,
        event: event_id(row, 4)?,
        scheme: SchemeName::parse(row.try_get(7)?).map_err(|_| Fault::Row("scheme"))?,
        order_key: OrderKey::parse(row.try_get(8)?).map_err(|_| Fault::Row("order_key"))?,
        lane: LaneName::parse(row.try_get(9)?).map_err(|_| Fault::Row("lane"))?,
        rail: row.try_get::<_, &str>(10)?.into(),
        rail_ref: row
            .try_get::<_, Option<&str>>(11)?
            .map(|reference| RailRef::parse(reference).map_err(|_| Fault::Row("rail_ref")))
            .transpose()?,
        amount: money(row.try_get(12)?, row.try_get(13)?)?,
        references: references(row, 14)?,
        requested_at: row.try_get::<_, Instant>(17)?.0,
        finished_at: instant(row, 18)?,
        late: row.try_get(19)?,
        attempts: unsigned32(row.try_get(20)?)?,
        last_attempt: unsigned32(row.try_get(21)?)?,
        reasons: reasons(row.try_get(22)?)?,
        claim,
        fence: row.try_get(25)?,
        deliveries: unsigned32(row.try_get(26)?)?,
        tracked: None,
        reserved: reserved(row)?,
        tries: Vec::new(),
        renewed: false,
    })
}

/// Reads a row of `event_columns`.
pub(in crate::store) fn event_of(row: &Row) -> Result<EventRow, Fault> {
    let amount = match (row.try_get::<_, Option<&str>>(12)?, row.try_get::<_, Option<i64>>(13)?) {
        (Some(currency), Some(minor)) => Some(money(currency, minor)?),
        _ => None,
    };
    Ok(EventRow {
        event: event_id(row, 0)?,
        kind: EventKind::of_word(row.try_get(3)?).ok_or(Fault::Row("kind"))?,
        payment_id: row
            .try_get::<_, Option<&str>>(4)?
            .map(|id| PaymentId::parse(id).map_err(|_| Fault::Row("payment_id")))
            .transpose()?,
        reasons: reasons(row.try_get(5)?)?,
        scheme: SchemeName::parse(row.try_get(6)?).map_err(|_| Fault::Row("scheme"))?,
        order_key: OrderKey::parse(row.try_get(7)?).map_err(|_| Fault::Row("order_key"))?,
        lane: LaneName::parse(row.try_get(8)?).map_err(|_| Fault::Row("lane"))?,
        references: references(row, 9)?,
        amount,
        requested_at: row.try_get(14)?,
        first_seen: row.try_get(15)?,
        attempts: unsigned32(row.try_get(16)?)?,
        at: row.try_get(17)?,
    })
}

/// Reads `payment, number, leg, rail, started_at, answer, answered_at, not_found, in_progress_at` from column `first` on.
pub(in crate::store) fn attempt_of(row: &Row, first: usize) -> Result<AttemptRow, Fault> {
    let at = |offset: usize| first.saturating_add(offset);
    Ok(AttemptRow {
        payment: row.try_get(at(0))?,
        number: unsigned32(row.try_get(at(1))?)?,
        leg: u8::try_from(row.try_get::<_, i16>(at(2))?).map_err(|_| Fault::Row("leg"))?,
        rail: row.try_get::<_, &str>(at(3))?.into(),
        started_at: row.try_get::<_, Instant>(at(4))?.0,
        ended: row
            .try_get::<_, Option<&str>>(at(5))?
            .map(|answer| Ended::of_word(answer).ok_or(Fault::Row("answer")))
            .transpose()?,
        ended_at: instant(row, at(6))?,
        not_found: unsigned32(row.try_get(at(7))?)?,
        in_progress_at: instant(row, at(8))?,
        dirty: false,
    })
}

fn event_id(row: &Row, first: usize) -> Result<EventId, Fault> {
    Ok(EventId {
        stream: StreamName::parse(row.try_get(first)?).map_err(|_| Fault::Row("stream"))?,
        created_ms: row.try_get(first.saturating_add(1))?,
        sequence: unsigned(row.try_get(first.saturating_add(2))?)?,
    })
}

fn instant(row: &Row, column: usize) -> Result<Option<Timestamp>, Fault> {
    Ok(row.try_get::<_, Option<Instant>>(column)?.map(|Instant(at)| at))
}

fn references(row: &Row, first: usize) -> Result<References, Fault> {
    Ok(References {
        end_to_end_id: row.try_get(first)?,
        instruction_id: row.try_get(first.saturating_add(1))?,
        uetr: row.try_get(first.saturating_add(2))?,
    })
}

fn reserved(row: &Row) -> Result<Option<DayKey>, Fault> {
    let Some(named) = row.try_get::<_, Option<&str>>(27)? else { return Ok(None) };
    let currency = Currency::parse(row.try_get(12)?).ok_or(Fault::Row("currency"))?;
    DayKey::of_text(named, currency).map(Some).ok_or(Fault::Row("reserved"))
}

fn reasons(json: Option<&str>) -> Result<Vec<Reason>, Fault> {
    json.map_or(Ok(Vec::new()), |json| serde_json::from_str(json).map_err(|_| Fault::Row("reasons")))
}

pub(in crate::store) fn money(currency: &str, minor: i64) -> Result<Money, Fault> {
    Currency::parse(currency).and_then(|currency| Money::new(minor, currency)).ok_or(Fault::Row("minor"))
}

pub(in crate::store) fn signed(sequence: u64) -> Result<i64, Fault> {
    i64::try_from(sequence).map_err(|_| Fault::Row("sequence"))
}

pub(in crate::store) fn unsigned(sequence: i64) -> Result<u64, Fault> {
    u64::try_from(sequence).map_err(|_| Fault::Row("sequence"))
}

fn unsigned32(count: i32) -> Result<u32, Fault> {
    u32::try_from(count).map_err(|_| Fault::Row("a count"))
}
