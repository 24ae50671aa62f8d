//! Rows read into plain data.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};

use super::super::rows::{
    AccountKey, AccountRow, AttemptRow, Claim, DayKey, Ended, EventKind, EventRow, PaymentRow, Rows, StartRow, State,
    Wanted,
};
use super::{Facts, HighWater, Memory, Stream};
use crate::domain::{
    Currency, EventId, Fingerprint, LaneName, Money, OrderKey, PaymentId, RailRef, Reason, References, SchemeName,
    StoreId, StreamName,
};

/// Why rows were not read or written.
#[derive(Debug)]
pub(in crate::store) enum Fault {
    /// The database said so.
    Sql(rusqlite::Error),
    /// A value is not what the schema says; names the column.
    Row(&'static str),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Columns as [`payment_of`] reads them.
macro_rules! payment_select {
    () => {
        "SELECT p.id, p.payment_id, p.fingerprint, p.state, s.name, \
     s.created_ms, p.sequence, p.scheme, p.order_key, p.lane, p.rail, p.rail_ref, p.currency, p.minor, \
     p.end_to_end_id, p.instruction_id, p.uetr, p.requested_at, p.finished_at, p.late, p.attempts, p.last_attempt, \
     p.reasons, p.claim_owner, p.claim_until, p.fence, p.deliveries, p.reserved FROM payments p JOIN streams s ON s.id = p.stream"
    };
}

/// Columns as [`event_of`] reads them.
macro_rules! event_select {
    () => {
        "SELECT s.name, s.created_ms, e.sequence, e.kind, e.payment_id, \
     e.reasons, e.scheme, e.order_key, e.lane, e.end_to_end_id, e.instruction_id, e.uetr, e.currency, e.minor, \
     e.requested_at, e.first_seen, e.attempts, e.at FROM events e JOIN streams s ON s.id = e.stream"
    };
}
pub(in crate::store) use {event_select, payment_select};

pub(super) fn load(
    connection: &Connection,
    memory: &mut Memory,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<Rows, Fault> {
    forget_if_changed(connection, memory)?;
    let mut rows = Rows {
        now,
        next_payment: next(connection, "SELECT max(id) FROM payments")?,
        next_account: next_account(connection, memory)?,
        payments: Default::default(),
        events: Default::default(),
        accounts: Default::default(),
        starts: Default::default(),
        trackers: Default::default(),
        days: Default::default(),
    };
    for lane in &wanted.trackers {
        rows.trackers.insert(lane.clone(), super::tracker::totals(connection, lane)?);
    }
    payments(connection, &wanted.payments, &mut rows)?;
    payments(connection, &owned(connection, memory, &wanted.owners)?, &mut rows)?;
    for event in &wanted.events {
        let Some(stream) = stream(connection, memory, event)? else { continue };
        // Ends are recorded together with the high-water mark: above it there are none.
        if event.sequence <= stream.high_water
            && let Some(row) = event_row(connection, stream.id, event.sequence)?
        {
            rows.events.insert(event.clone(), row);
        }
        if any_starts(connection, memory)?
            && let Some(start) = start(connection, stream.id, event.sequence)?
        {
            rows.starts.insert(event.clone(), start);
        }
    }
    for key in &wanted.accounts {
        if let Some(row) = memory.accounts.get(key) {
            rows.accounts.insert(key.clone(), row.clone());
        } else if let Some(row) = account(connection, key)? {
            rows.accounts.insert(key.clone(), row);
        }
    }
    days(connection, &wanted.days, &mut rows)?;
    Ok(rows)
}

/// The days wanted, and those that the payments have reserved on: without limits there are none.
fn days(connection: &Connection, wanted: &[DayKey], rows: &mut Rows) -> Result<(), Fault> {
    let reserved: Vec<DayKey> = rows.payments.values().filter_map(|row| row.reserved.clone()).collect();
    for key in wanted.iter().chain(&reserved) {
        let found = connection
            .prepare_cached("SELECT minor FROM spending WHERE day = ?1 AND account = ?2 AND currency = ?3")?
            .query_row((key.day.to_string(), &*key.account.key, key.account.currency), |row| row.get(0))
            .optional()?;
        rows.days.extend(found.map(|minor| (key.clone(), minor)));
    }
    Ok(())
}

/// The payments whose own events these are.
fn owned(connection: &Connection, memory: &mut Memory, events: &[EventId]) -> Result<Vec<PaymentId>, Fault> {
    let mut ids = Vec::new();
    for event in events {
        let Some(stream) = stream(connection, memory, event)? else { continue };
        let id = connection
            .prepare_cached("SELECT payment_id FROM payments WHERE stream = ?1 AND sequence = ?2")?
            .query_row((stream.id, signed(event.sequence)?), |row| row.get::<_, String>(0))
            .optional()?;
        if let Some(id) = id {
            ids.push(PaymentId::parse(&id).map_err(|_| Fault::Row("payment_id"))?);
        }
    }
    Ok(ids)
}

/// Nobody else should write; who does all the same is noticed here.
fn forget_if_changed(connection: &Connection, memory: &mut Memory) -> Result<(), Fault> {
    let version = connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get::<_, i64>(0))?;
    if memory.version != Some(version) {
        *memory = Memory { version: Some(version), ..Memory::default() };
    }
    Ok(())
}

fn next(connection: &Connection, sql: &str) -> Result<i64, Fault> {
    let last = connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, Option<i64>>(0))?;
    last.unwrap_or(0).checked_add(1).ok_or(Fault::Row("id"))
}

fn next_account(connection: &Connection, memory: &mut Memory) -> Result<i64, Fault> {
    match memory.next_account {
        Some(number) => Ok(number),
        None => {
            let number = next(connection, "SELECT max(id) FROM accounts")?;
            memory.next_account = Some(number);
            Ok(number)
        }
    }
}

pub(super) fn stream(connection: &Connection, memory: &mut Memory, event: &EventId) -> Result<Option<Stream>, Fault> {
    let key = (event.stream.clone(), event.created_ms);
    if let Some(stream) = memory.streams.get(&key) {
        return Ok(Some(*stream));
    }
    let found = connection
        .prepare_cached("SELECT id, high_water FROM streams WHERE name = ?1 AND created_ms = ?2")?
        .query_row((event.stream.as_str(), event.created_ms), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    let Some((id, high_water)) = found else { return Ok(None) };
    let stream = Stream { id, high_water: u64::try_from(high_water).map_err(|_| Fault::Row("high_water"))? };
    memory.streams.insert(key, stream);
    Ok(Some(stream))
}

fn any_starts(connection: &Connection, memory: &mut Memory) -> Result<bool, Fault> {
    if let Some(any) = memory.starts {
        return Ok(any);
    }
    let any = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM starts)")?
        .query_row([], |row| row.get::<_, bool>(0))?;
    memory.starts = Some(any);
    Ok(any)
}

fn start(connection: &Connection, stream: i64, sequence: u64) -> Result<Option<StartRow>, Fault> {
    let found = connection
        .prepare_cached("SELECT count, first_at FROM starts WHERE stream = ?1 AND sequence = ?2")?
        .query_row((stream, signed(sequence)?), |row| Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    found.map(|(count, first_at)| Ok(StartRow { count, first_at: instant(first_at)? })).transpose()
}

fn payments(connection: &Connection, ids: &[PaymentId], rows: &mut Rows) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(concat!(payment_select!(), " WHERE p.payment_id = ?1"))?;
    for id in ids {
        let mut found = statement.query([id.as_str()])?;
        let Some(row) = found.next()? else { continue };
        let mut payment = payment_of(row)?;
        if payment.last_attempt > 0 {
            payment.tries = tries(connection, payment.row, payment.last_attempt)?;
            payment.tracked = super::tracker::place(connection, payment.row)?;
        }
        rows.payments.insert(id.clone(), payment);
    }
    Ok(())
}

fn tries(connection: &Connection, payment: i64, last: u32) -> Result<Vec<AttemptRow>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT number, leg, rail, started_at, answer, answered_at, not_found, in_progress_at FROM attempts WHERE payment = ?1 \
         AND (answered_at IS NULL OR answer = 'resubmit' OR number = ?2) ORDER BY number",
    )?;
    let mut found = statement.query((payment, last))?;
    let mut tries = Vec::new();
    while let Some(row) = found.next()? {
        tries.push(attempt_of(payment, row)?);
    }
    Ok(tries)
}

fn event_row(connection: &Connection, stream: i64, sequence: u64) -> Result<Option<EventRow>, Fault> {
    let mut statement =
        connection.prepare_cached(concat!(event_select!(), " WHERE e.stream = ?1 AND e.sequence = ?2"))?;
    let mut found = statement.query((stream, signed(sequence)?))?;
    found.next()?.map(event_of).transpose()
}

fn account(connection: &Connection, key: &AccountKey) -> Result<Option<AccountRow>, Fault> {
    let found = connection
        .prepare_cached(
            "SELECT id, debits_posted, credits_posted, overdraft, opened_at FROM accounts \
             WHERE key = ?1 AND currency = ?2",
        )?
        .query_row((&*key.key, key.currency), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get::<_, i64>(4)?))
        })
        .optional()?;
    found
        .map(|(id, debits, credits, overdraft, opened_at)| {
            Ok(AccountRow { id, debits, credits, overdraft, opened_at: instant(opened_at)? })
        })
        .transpose()
}

pub(in crate::store) fn facts(connection: &Connection) -> Result<Facts, Fault> {
    let meta =
        |key: &str| connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get::<_, String>(0));
    let store_id = StoreId::parse(&meta("store_id")?).map_err(|_| Fault::Row("store_id"))?;
    let created_at = instant(meta("created_at")?.parse().map_err(|_| Fault::Row("created_at"))?)?;
    let empty = connection.query_row(
        "SELECT NOT EXISTS (SELECT 1 FROM payments) AND NOT EXISTS (SELECT 1 FROM events)",
        [],
        |row| row.get(0),
    )?;
    let mut statement = connection.prepare("SELECT name, created_ms, high_water FROM streams ORDER BY id")?;
    let mut found = statement.query([])?;
    let mut high_water = Vec::new();
    while let Some(row) = found.next()? {
        high_water.push(HighWater {
            stream: StreamName::parse(text(row, 0)?).map_err(|_| Fault::Row("name"))?,
            created_ms: row.get(1)?,
            sequence: unsigned(row.get(2)?)?,
        });
    }
    let pruned_before = meta("pruned_before").optional()?;
    let pruned_before =
        pruned_before.map(|at| instant(at.parse().map_err(|_| Fault::Row("pruned_before"))?)).transpose()?;
    Ok(Facts { store_id, created_at, empty, high_water, pruned_before })
}

/// Reads a row of [`PAYMENT_SELECT`]; its attempts are read apart.
pub(in crate::store) fn payment_of(row: &Row<'_>) -> Result<PaymentRow, Fault> {
    let claim = match (row.get::<_, Option<Arc<str>>>(23)?, row.get::<_, Option<i64>>(24)?) {
        (Some(owner), Some(until)) => Some(Claim { owner, until: instant(until)? }),
        _ => None,
    };
    let fingerprint = <[u8; 32]>::try_from(row.get_ref(2)?.as_blob().map_err(|_| Fault::Row("fingerprint"))?)
        .map_err(|_| Fault::Row("fingerprint"))?;
    Ok(PaymentRow {
        row: row.get(0)?,
        payment_id: PaymentId::parse(text(row, 1)?).map_err(|_| Fault::Row("payment_id"))?,
        fingerprint: Fingerprint(fingerprint),
        state: State::of_word(text(row, 3)?).ok_or(Fault::Row("state"))?,
        event: event_id(row, 4)?,
        scheme: SchemeName::parse(text(row, 7)?).map_err(|_| Fault::Row("scheme"))?,
        order_key: OrderKey::parse(text(row, 8)?).map_err(|_| Fault::Row("order_key"))?,
        lane: LaneName::parse(text(row, 9)?).map_err(|_| Fault::Row("lane"))?,
        rail: row.get(10)?,
        rail_ref: row
            .get::<_, Option<String>>(11)?
            .map(|reference| RailRef::parse(&reference).map_err(|_| Fault::Row("rail_ref")))
            .transpose()?,
        amount: money(text(row, 12)?, row.get(13)?)?,
        references: references(row, 14)?,
        requested_at: instant(row.get(17)?)?,
        finished_at: row.get::<_, Option<i64>>(18)?.map(instant).transpose()?,
        late: row.get(19)?,
        attempts: row.get(20)?,
        last_attempt: row.get(21)?,
        reasons: reasons(row.get(22)?)?,
        claim,
        fence: row.get(25)?,
        deliveries: row.get(26)?,
        tracked: None,
        reserved: reserved(row)?,
        tries: Vec::new(),
        renewed: false,
    })
}

/// Reads a row of [`EVENT_SELECT`].
pub(in crate::store) fn event_of(row: &Row<'_>) -> Result<EventRow, Fault> {
    let amount = match (row.get::<_, Option<String>>(12)?, row.get::<_, Option<i64>>(13)?) {
        (Some(currency), Some(minor)) => Some(money(&currency, minor)?),
        _ => None,
    };
    Ok(EventRow {
        event: event_id(row, 0)?,
        kind: EventKind::of_word(text(row, 3)?).ok_or(Fault::Row("kind"))?,
        payment_id: row
            .get::<_, Option<String>>(4)?
            .map(|id| PaymentId::parse(&id).map_err(|_| Fault::Row("payment_id")))
            .transpose()?,
        reasons: reasons(row.get(5)?)?,
        scheme: SchemeName::parse(text(row, 6)?).map_err(|_| Fault::Row("scheme"))?,
        order_key: OrderKey::parse(text(row, 7)?).map_err(|_| Fault::Row("order_key"))?,
        lane: LaneName::parse(text(row, 8)?).map_err(|_| Fault::Row("lane"))?,
        references: references(row, 9)?,
        amount,
        requested_at: instant(row.get(14)?)?,
        first_seen: instant(row.get(15)?)?,
        attempts: row.get(16)?,
        at: instant(row.get(17)?)?,
    })
}

/// Reads `number, leg, rail, started_at, answer, answered_at, not_found, in_progress_at`.
pub(in crate::store) fn attempt_of(payment: i64, row: &Row<'_>) -> Result<AttemptRow, Fault> {
    Ok(AttemptRow {
        payment,
        number: row.get(0)?,
        leg: row.get(1)?,
        rail: row.get(2)?,
        started_at: instant(row.get(3)?)?,
        ended: row
            .get::<_, Option<String>>(4)?
            .map(|answer| Ended::of_word(&answer).ok_or(Fault::Row("answer")))
            .transpose()?,
        ended_at: row.get::<_, Option<i64>>(5)?.map(instant).transpose()?,
        not_found: row.get(6)?,
        in_progress_at: row.get::<_, Option<i64>>(7)?.map(instant).transpose()?,
        dirty: false,
    })
}

fn event_id(row: &Row<'_>, first: usize) -> Result<EventId, Fault> {
    Ok(EventId {
        stream: StreamName::parse(text(row, first)?).map_err(|_| Fault::Row("stream"))?,
        created_ms: row.get(first.saturating_add(1))?,
        sequence: unsigned(row.get(first.saturating_add(2))?)?,
    })
}

fn references(row: &Row<'_>, first: usize) -> Result<References, Fault> {
    Ok(References {
        end_to_end_id: row.get(first)?,
        instruction_id: row.get(first.saturating_add(1))?,
        uetr: row.get(first.saturating_add(2))?,
    })
}

fn reserved(row: &Row<'_>) -> Result<Option<DayKey>, Fault> {
    let Some(named) = row.get::<_, Option<String>>(27)? else { return Ok(None) };
    let currency = Currency::parse(text(row, 12)?).ok_or(Fault::Row("currency"))?;
    DayKey::of_text(&named, currency).map(Some).ok_or(Fault::Row("reserved"))
}

fn reasons(json: Option<String>) -> Result<Vec<Reason>, Fault> {
    json.map_or(Ok(Vec::new()), |json| serde_json::from_str(&json).map_err(|_| Fault::Row("reasons")))
}

pub(super) fn money(currency: &str, minor: i64) -> Result<Money, Fault> {
    Currency::parse(currency).and_then(|currency| Money::new(minor, currency)).ok_or(Fault::Row("minor"))
}

pub(in crate::store) fn instant(millis: i64) -> Result<Timestamp, Fault> {
    Timestamp::from_millisecond(millis).map_err(|_| Fault::Row("an instant"))
}

pub(in crate::store) fn signed(sequence: u64) -> Result<i64, Fault> {
    i64::try_from(sequence).map_err(|_| Fault::Row("sequence"))
}

pub(in crate::store) fn unsigned(sequence: i64) -> Result<u64, Fault> {
    u64::try_from(sequence).map_err(|_| Fault::Row("sequence"))
}

fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, Fault> {
    row.get_ref(column)?.as_str().map_err(|_| Fault::Row("a text"))
}
