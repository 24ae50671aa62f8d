//! Changes written, one prepared statement per kind of row.

use jiff::Timestamp;
use rusqlite::{Connection, Statement, params};

use super::super::Note;
use super::super::rows::{
    AccountKey, AccountRow, AttemptRow, Changes, DayKey, Ended, EventRow, PaymentRow, StartRow, TransferRow,
};
use super::load::{Fault, signed, stream};
use super::{Memory, Stream};
use crate::domain::{EventId, Fingerprint, PaymentId, Reason};

/// Notes kept per payment.
const NOTES_KEPT: u32 = 64;

/// Attempts without an effect kept per payment.
const UNSENT_KEPT: u32 = 64;

pub(super) fn save(connection: &Connection, memory: &mut Memory, changes: &Changes) -> Result<(), Fault> {
    write_payments(connection, memory, INSERT_PAYMENT, &changes.new_payments)?;
    write_payments(connection, memory, UPDATE_PAYMENT, &changes.changed_payments)?;
    for row in changes.new_payments.iter().chain(&changes.changed_payments) {
        for attempt in row.tries.iter().filter(|attempt| attempt.dirty) {
            put_attempt(connection, attempt)?;
        }
    }
    for (key, row) in &changes.new_accounts {
        insert_account(connection, key, row)?;
        memory.next_account = row.id.checked_add(1);
    }
    update_accounts(connection, &changes.changed_accounts)?;
    insert_transfers(connection, &changes.transfers)?;
    super::tracker::save(connection, &changes.tracker)?;
    put_days(connection, changes)?;
    for row in &changes.events {
        let stream = stream_id(connection, memory, &row.event)?;
        insert_event(connection, row, stream)?;
    }
    for (id, note) in &changes.notes {
        put_note(connection, id, note)?;
    }
    for (event, start) in &changes.starts {
        let stream = stream_id(connection, memory, event)?;
        put_start(connection, stream, event.sequence, *start)?;
        memory.starts = None;
    }
    for (name, created_ms, sequence) in &changes.high_water {
        let event = EventId { stream: name.clone(), created_ms: *created_ms, sequence: *sequence };
        raise_high_water(connection, memory, &event)?;
    }
    Ok(())
}

fn stream_id(connection: &Connection, memory: &mut Memory, event: &EventId) -> Result<i64, Fault> {
    if let Some(stream) = stream(connection, memory, event)? {
        return Ok(stream.id);
    }
    connection
        .prepare_cached("INSERT INTO streams (name, created_ms, high_water) VALUES (?1, ?2, 0)")?
        .execute((event.stream.as_str(), event.created_ms))?;
    let id = connection.last_insert_rowid();
    memory.streams.insert((event.stream.clone(), event.created_ms), Stream { id, high_water: 0 });
    Ok(id)
}

fn raise_high_water(connection: &Connection, memory: &mut Memory, event: &EventId) -> Result<(), Fault> {
    let id = stream_id(connection, memory, event)?;
    let key = (event.stream.clone(), event.created_ms);
    if memory.streams.get(&key).is_some_and(|stream| stream.high_water >= event.sequence) {
        return Ok(());
    }
    connection
        .prepare_cached("UPDATE streams SET high_water = ?2 WHERE id = ?1 AND high_water < ?2")?
        .execute((id, signed(event.sequence)?))?;
    memory.streams.insert(key, Stream { id, high_water: event.sequence });
    Ok(())
}

const INSERT_PAYMENT: &str = "INSERT INTO payments (id, payment_id, fingerprint, fp_version, state, stream, sequence, scheme, order_key, \
         lane, rail, rail_ref, currency, minor, end_to_end_id, instruction_id, uetr, requested_at, finished_at, late, \
         attempts, last_attempt, reasons, claim_owner, claim_until, fence, deliveries, reserved) VALUES (?1, ?2, ?3, ?4, ?5, \
         ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)";

const UPDATE_PAYMENT: &str = "UPDATE payments SET payment_id = ?2, fingerprint = ?3, fp_version = ?4, state = ?5, stream = ?6, \
         sequence = ?7, scheme = ?8, order_key = ?9, lane = ?10, rail = ?11, rail_ref = ?12, currency = ?13, \
         minor = ?14, end_to_end_id = ?15, instruction_id = ?16, uetr = ?17, requested_at = ?18, finished_at = ?19, \
         late = ?20, attempts = ?21, last_attempt = ?22, reasons = ?23, claim_owner = ?24, claim_until = ?25, \
         fence = ?26, deliveries = ?27, reserved = ?28 WHERE id = ?1";

fn write_payments(connection: &Connection, memory: &mut Memory, sql: &str, rows: &[PaymentRow]) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(sql)?;
    for row in rows {
        let stream = stream_id(connection, memory, &row.event)?;
        write_payment(&mut statement, row, stream)?;
    }
    Ok(())
}

fn write_payment(statement: &mut Statement<'_>, row: &PaymentRow, stream: i64) -> Result<(), Fault> {
    let changed = statement.execute(params![
        row.row,
        row.payment_id.as_str(),
        row.fingerprint.0,
        Fingerprint::VERSION,
        row.state.word(),
        stream,
        signed(row.event.sequence)?,
        row.scheme.as_str(),
        row.order_key.as_str(),
        row.lane.as_str(),
        &*row.rail,
        row.rail_ref.as_ref().map(|reference| reference.as_str()),
        row.amount.currency().code(),
        row.amount.minor(),
        row.references.end_to_end_id.as_deref(),
        row.references.instruction_id.as_deref(),
        row.references.uetr.as_deref(),
        row.requested_at.as_millisecond(),
        row.finished_at.map(Timestamp::as_millisecond),
        row.late,
        row.attempts,
        row.last_attempt,
        reasons_json(&row.reasons)?,
        row.claim.as_ref().map(|claim| &*claim.owner),
        row.claim.as_ref().map(|claim| claim.until.as_millisecond()),
        row.fence,
        row.deliveries,
        row.reserved.as_ref().map(DayKey::to_text),
    ])?;
    if changed == 1 { Ok(()) } else { Err(Fault::Row("payments")) }
}

fn put_attempt(connection: &Connection, row: &AttemptRow) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO attempts (payment, number, leg, rail, started_at, answer, answered_at, not_found, \
             in_progress_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (payment, number) DO UPDATE \
             SET answer = excluded.answer, answered_at = excluded.answered_at, not_found = excluded.not_found, \
             in_progress_at = excluded.in_progress_at",
        )?
        .execute(params![
            row.payment,
            row.number,
            row.leg,
            &*row.rail,
            row.started_at.as_millisecond(),
            row.ended.map(Ended::word),
            row.ended_at.map(Timestamp::as_millisecond),
            row.not_found,
            row.in_progress_at.map(Timestamp::as_millisecond),
        ])?;
    if row.number > UNSENT_KEPT {
        connection
            .prepare_cached("DELETE FROM attempts WHERE payment = ?1 AND answer = 'not_sent' AND number <= ?2")?
            .execute((row.payment, row.number.saturating_sub(UNSENT_KEPT)))?;
    }
    Ok(())
}

fn insert_account(connection: &Connection, key: &AccountKey, row: &AccountRow) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO accounts (id, key, currency, debits_posted, credits_posted, overdraft, opened_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            row.id,
            &*key.key,
            key.currency,
            row.debits,
            row.credits,
            row.overdraft,
            row.opened_at.as_millisecond(),
        ))?;
    Ok(())
}

fn update_accounts(connection: &Connection, rows: &[(AccountKey, AccountRow)]) -> Result<(), Fault> {
    let mut statement = connection
        .prepare_cached("UPDATE accounts SET debits_posted = ?2, credits_posted = ?3, overdraft = ?4 WHERE id = ?1")?;
    for (_, row) in rows {
        if statement.execute((row.id, row.debits, row.credits, row.overdraft))? != 1 {
            return Err(Fault::Row("accounts"));
        }
    }
    Ok(())
}

fn insert_transfers(connection: &Connection, rows: &[TransferRow]) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO transfers (payment, debit_account, credit_account, currency, minor, posted_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for row in rows {
        statement.execute((
            row.payment,
            row.debit,
            row.credit,
            row.amount.currency().code(),
            row.amount.minor(),
            row.posted_at.as_millisecond(),
        ))?;
    }
    Ok(())
}

/// Sums of days, and old ones forgotten: more than come, so that there are never more than are kept.
fn put_days(connection: &Connection, changes: &Changes) -> Result<(), Fault> {
    for (sql, rows) in [
        ("INSERT INTO spending (day, account, currency, minor) VALUES (?1, ?2, ?3, ?4)", &changes.new_days),
        ("UPDATE spending SET minor = ?4 WHERE day = ?1 AND account = ?2 AND currency = ?3", &changes.changed_days),
    ] {
        for (key, minor) in rows {
            let named = (key.day.to_string(), &*key.account.key, key.account.currency, minor);
            if connection.prepare_cached(sql)?.execute(named)? != 1 {
                return Err(Fault::Row("spending"));
            }
        }
    }
    if let Some(before) = changes.forget_days_before {
        let most = changes.new_days.len().saturating_mul(2).saturating_add(16);
        connection
            .prepare_cached(
                "DELETE FROM spending WHERE (day, account, currency) IN \
                 (SELECT day, account, currency FROM spending WHERE day < ?1 ORDER BY day LIMIT ?2)",
            )?
            .execute((before.to_string(), i64::try_from(most).unwrap_or(i64::MAX)))?;
    }
    Ok(())
}

fn insert_event(connection: &Connection, row: &EventRow, stream: i64) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO events (stream, sequence, kind, payment_id, code, reasons, scheme, order_key, lane, \
             end_to_end_id, instruction_id, uetr, currency, minor, requested_at, first_seen, attempts, at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        )?
        .execute(params![
            stream,
            signed(row.event.sequence)?,
            row.kind.word(),
            row.payment_id.as_ref().map(PaymentId::as_str),
            row.code().map(|code| code.as_str()),
            reasons_json(&row.reasons)?,
            row.scheme.as_str(),
            row.order_key.as_str(),
            row.lane.as_str(),
            row.references.end_to_end_id.as_deref(),
            row.references.instruction_id.as_deref(),
            row.references.uetr.as_deref(),
            row.amount.map(|amount| amount.currency().code()),
            row.amount.map(|amount| amount.minor()),
            row.requested_at.as_millisecond(),
            row.first_seen.as_millisecond(),
            row.attempts,
            row.at.as_millisecond(),
        ])?;
    Ok(())
}

fn put_note(connection: &Connection, id: &PaymentId, note: &Note) -> Result<(), Fault> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO notes (payment_id, at, what, breaker) VALUES (?1, ?2, ?3, ?4)")?
        .execute((id.as_str(), note.at.as_millisecond(), &note.what, note.breaker))?;
    connection
        .prepare_cached(
            "DELETE FROM notes WHERE payment_id = ?1 AND at < (SELECT at FROM notes WHERE payment_id = ?1 \
             ORDER BY at DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute((id.as_str(), NOTES_KEPT.saturating_sub(1)))?;
    Ok(())
}

fn put_start(connection: &Connection, stream: i64, sequence: u64, start: Option<StartRow>) -> Result<(), Fault> {
    match start {
        Some(start) => connection
            .prepare_cached(
                "INSERT OR REPLACE INTO starts (stream, sequence, count, first_at) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((stream, signed(sequence)?, start.count, start.first_at.as_millisecond()))?,
        None => connection
            .prepare_cached("DELETE FROM starts WHERE stream = ?1 AND sequence = ?2")?
            .execute((stream, signed(sequence)?))?,
    };
    Ok(())
}

fn reasons_json(reasons: &[Reason]) -> Result<Option<String>, Fault> {
    if reasons.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(reasons).map(Some).map_err(|_| Fault::Row("reasons"))
}
