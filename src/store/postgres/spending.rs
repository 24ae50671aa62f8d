//! What debtors with a limit have spent on a day. Without limits no statement of this file is ever sent.

use futures_util::future::try_join3;
use jiff::civil::Date;

use super::super::rows::{AccountKey, Changes, DayKey, Rows};
use super::connect::{Fault, Session};
use super::save::{all, complete};
use super::sql;
use crate::domain::Currency;

/// The days wanted, and those that the payments have reserved on. Without limits there are none; with them they cost one
/// more round trip.
pub(super) async fn load(session: &Session, wanted: &[DayKey], rows: &mut Rows) -> Result<(), Fault> {
    let reserved = rows.payments.values().filter_map(|row| row.reserved.as_ref());
    let keys: Vec<&DayKey> = wanted.iter().chain(reserved).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let days: Vec<Date> = keys.iter().map(|key| key.day).collect();
    let accounts: Vec<&str> = keys.iter().map(|key| &*key.account.key).collect();
    let currencies: Vec<&str> = keys.iter().map(|key| key.account.currency).collect();
    let found = session.query(sql::DAYS, &[&days, &accounts, &currencies]).await?;
    for row in &found {
        let currency = Currency::parse(row.try_get(2)?).ok_or(Fault::Row("currency"))?;
        let key = DayKey { day: row.try_get(0)?, account: AccountKey::new(row.try_get(1)?, currency) };
        rows.days.insert(key, row.try_get(3)?);
    }
    Ok(())
}

/// Sums of days, and old ones forgotten: more than come, so that there are never more than are kept.
pub(super) async fn write(session: &Session, changes: &Changes) -> Result<(), Fault> {
    let forget = async {
        if let Some(before) = changes.forget_days_before {
            let most = changes.new_days.len().saturating_mul(2).saturating_add(16);
            session.execute(sql::OLD_DAYS, &[&before, &i64::try_from(most).unwrap_or(i64::MAX)]).await?;
        }
        Ok(())
    };
    // None is waited for before the next is sent: the commit goes out right behind them.
    try_join3(
        put(session, sql::CHANGED_DAYS, &changes.changed_days),
        put(session, sql::NEW_DAYS, &changes.new_days),
        forget,
    )
    .await?;
    Ok(())
}

async fn put(session: &Session, sql: &'static str, each: &[(DayKey, i64)]) -> Result<(), Fault> {
    if each.is_empty() {
        return Ok(());
    }
    let written = session
        .execute(
            sql,
            &[
                &all(each, |(key, _)| key.day),
                &all(each, |(key, _)| &*key.account.key),
                &all(each, |(key, _)| key.account.currency),
                &all(each, |(_, minor)| *minor),
            ],
        )
        .await?;
    complete(written, each.len(), "spending")
}
