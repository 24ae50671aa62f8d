//! A rail's own ledger beside the store: every effect it had against the payment it belongs to.
//!
//! One JSON object a line, one line an effect (money that moved). Which payment it is for is said by `payment_id`, by
//! `key` (the idempotency key it was submitted under), or by both; fields that are not known here are passed over:
//! ```json
//! {"key":"5f0c1e9e-...","payment_id":"PAY-1","currency":"EUR","value":"12.50","reference":"rail-000000001"}
//! ```

use std::path::{Path, PathBuf};
use std::pin::pin;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use rusqlite::params;
use serde::Deserialize;

use super::Progress;
use super::scratch::Scratch;
use crate::domain::{Currency, Decimal, Money, PaymentId, RailKey};
use crate::operate::Trouble;
use crate::operate::publish::open;

/// Effects in one transaction.
const PAGE: u64 = 2000;

/// Keys looked at for one payment: a leg is used up only by a refusal that allows another try, or by another rail.
const LEGS: u32 = 16;

/// The ledger of one rail, exported to a file.
#[derive(Debug, Clone)]
pub struct RailLedger {
    /// The rail, as attempts name it.
    pub rail: String,
    /// The export: JSON lines.
    pub file: PathBuf,
    /// Payments settled after this instant may be missing from it.
    pub until: Timestamp,
}

#[derive(Deserialize)]
struct Line {
    key: Option<String>,
    payment_id: Option<String>,
    currency: Option<String>,
    value: Option<String>,
    reference: Option<String>,
}

#[derive(Debug)]
struct Effect {
    key: Option<String>,
    payment_id: Option<PaymentId>,
    amount: Money,
    reference: Option<String>,
}

/// Reads the ledgers into the scratch database, in place of those of the last run.
pub(super) async fn load(
    scratch: &Scratch,
    ledgers: &[RailLedger],
    progress: &mut impl FnMut(&Progress),
) -> Result<(), Trouble> {
    scratch.db().execute_batch("DELETE FROM effects; DELETE FROM ledgers;")?;
    for ledger in ledgers {
        scratch
            .db()
            .execute("INSERT INTO ledgers VALUES (?1, ?2)", params![ledger.rail, ledger.until.as_millisecond()])?;
        read(scratch, ledger, progress).await?;
    }
    Ok(())
}

async fn read(scratch: &Scratch, ledger: &RailLedger, progress: &mut impl FnMut(&Progress)) -> Result<(), Trouble> {
    let mut lines = pin!(open(&ledger.file).await?);
    let mut report = Progress { what: format!("ledger of {}", ledger.rail), done: 0, of: 0 };
    scratch.begin()?;
    while let Some(line) = lines.try_next().await? {
        if line.body.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let effect = effect(&line.body).map_err(|what| bad(&ledger.file, line.number, what))?;
        put(scratch, &ledger.rail, &effect)?;
        report.done = report.done.saturating_add(1);
        if report.done.is_multiple_of(PAGE) {
            scratch.commit()?;
            progress(&report);
            scratch.begin()?;
        }
    }
    scratch.commit()?;
    progress(&report);
    Ok(())
}

fn bad(file: &Path, line: u64, what: &str) -> Trouble {
    Trouble::BadInput { what: format!("{} line {line}: {what}", file.display()) }
}

/// One line, or what is wrong with it and what it should be; never what it holds.
fn effect(line: &[u8]) -> Result<Effect, &'static str> {
    let line: Line =
        serde_json::from_slice(line).map_err(|_| "not a JSON object with texts; export one effect a line")?;
    let payment_id = line.payment_id.as_deref().map(PaymentId::parse).transpose();
    let payment_id = payment_id.map_err(|_| "payment_id: no payment id; leave it out and give `key`")?;
    if payment_id.is_none() && line.key.is_none() {
        return Err("payment_id, key: neither is there; one of them has to name the payment");
    }
    let currency = line.currency.as_deref().and_then(Currency::parse);
    let currency = currency.ok_or("currency: required; an active ISO 4217 code")?;
    let value = line.value.as_deref().and_then(Decimal::parse);
    let minor = value.and_then(|value| value.at_scale(currency.exponent()));
    let amount = minor.and_then(|minor| Money::new(minor, currency));
    let amount =
        amount.ok_or("value: required; a decimal text above zero with no more decimals than its currency has")?;
    Ok(Effect { key: line.key, payment_id, amount, reference: line.reference })
}

fn put(scratch: &Scratch, rail: &str, effect: &Effect) -> Result<(), Trouble> {
    scratch
        .db()
        .prepare_cached(
            "INSERT INTO effects (rail, key, payment_id, currency, minor, reference) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            rail,
            effect.key,
            effect.payment_id.as_ref().map(PaymentId::as_str),
            effect.amount.currency().code(),
            effect.amount.minor(),
            effect.reference,
        ])?;
    Ok(())
}

/// Finds the payments of effects that are known by their key only: keys are made from payment ids, and there is no way
/// back, so the keys of all payments over this rail are made anew.
pub(super) fn resolve(scratch: &Scratch) -> Result<(), Trouble> {
    let db = scratch.db();
    let unnamed: bool =
        db.query_row("SELECT EXISTS (SELECT 1 FROM effects WHERE payment_id IS NULL)", [], |row| row.get(0))?;
    if !unnamed {
        return Ok(());
    }
    let mut payments = db.prepare("SELECT payment_id, attempts FROM payments WHERE rail <> 'book'")?;
    let mut named = db.prepare("UPDATE effects SET payment_id = ?1 WHERE key = ?2 AND payment_id IS NULL")?;
    scratch.begin()?;
    let mut rows = payments.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let Ok(payment) = PaymentId::parse(&id) else { continue };
        for leg in 0..=row.get::<_, u32>(1)?.min(LEGS) {
            let Ok(leg) = u8::try_from(leg) else { break };
            named.execute((&id, RailKey::of(&payment, leg).as_str()))?;
        }
    }
    drop(rows);
    scratch.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_names_its_payment_and_its_money_or_the_line_says_what_is_missing() {
        let good = effect(br#"{"key":"k","currency":"JPY","value":"0700","booked":true}"#).expect("good");
        assert_eq!((good.amount.minor(), good.key.as_deref(), good.payment_id), (700, Some("k"), None));
        for (line, field) in [
            (r#"[1]"#, "not a JSON object"),
            (r#"{"currency":"EUR","value":"1"}"#, "payment_id, key"),
            (r#"{"payment_id":"a b","currency":"EUR","value":"1"}"#, "payment_id"),
            (r#"{"key":"k","value":"1"}"#, "currency"),
            (r#"{"key":"k","currency":"EUR"}"#, "value"),
            (r#"{"key":"k","currency":"EUR","value":"1.001"}"#, "value"),
            (r#"{"key":"k","currency":"EUR","value":"0.00"}"#, "value"),
            (r#"{"key":"k","currency":"EUR","value":1}"#, "not a JSON object"),
        ] {
            let told = effect(line.as_bytes()).expect_err(line);
            assert!(told.starts_with(field), "{line}: {told}");
        }
    }
}
