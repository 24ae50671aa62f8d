//! Whether the book balances, counted from the transfers up.

use std::collections::HashMap;

use rusqlite::Connection;

use super::super::book::{BookLine, Lines};
use super::{Fault, ReadError, Reader};

/// Transfers or payments in one page.
const PAGE: i64 = 20_000;

/// Accounts whose counters are held in memory at once.
const WINDOW: i64 = 50_000;

struct Counters {
    currency: String,
    debits: i128,
    credits: i128,
}

impl Reader {
    /// Each window of accounts is read in one instant together with the last transfer of that instant.
    pub(in super::super) fn book_check(&self) -> Result<Vec<BookLine>, ReadError> {
        let mut lines = Lines::default();
        let top = totals(&self.connection, &mut lines)?;
        self.transfers(top, |currency, _, _, minor| {
            let line = lines.of(currency)?;
            line.transferred = line.transferred.saturating_add(minor);
            Ok(())
        })?;
        let mut after = 0;
        while let Some(next) = self.window(after, &mut lines)? {
            after = next;
        }
        self.without(
            "SELECT p.currency, count(*) FROM payments p LEFT JOIN transfers t ON t.payment = p.id \
             WHERE p.id > ?1 AND p.id <= ?2 AND p.state = 'settled' AND p.rail = 'book' AND t.payment IS NULL GROUP BY 1",
            |currency, count| {
                let line = lines.of(currency)?;
                line.settled_without_transfer = line.settled_without_transfer.saturating_add(count);
                Ok(())
            },
        )?;
        self.without(
            "SELECT t.currency, count(*) FROM transfers t LEFT JOIN payments p ON p.id = t.payment \
             AND p.state = 'settled' AND p.rail = 'book' AND p.currency = t.currency AND p.minor = t.minor \
             WHERE t.payment > ?1 AND t.payment <= ?2 AND p.id IS NULL GROUP BY 1",
            |currency, count| {
                let line = lines.of(currency)?;
                line.transfers_without_settled = line.transfers_without_settled.saturating_add(count);
                Ok(())
            },
        )?;
        Ok(lines.into_all())
    }

    /// Compares one window of accounts with the transfers; gives the last account's number, `None` past the end.
    fn window(&self, after: i64, lines: &mut Lines) -> Result<Option<i64>, ReadError> {
        let mut window = HashMap::new();
        let mut last = None;
        let snapshot = self.connection.unchecked_transaction()?;
        {
            let mut statement = snapshot.prepare_cached(
                "SELECT id, currency, debits_posted, credits_posted FROM accounts WHERE id > ?1 ORDER BY id LIMIT ?2",
            )?;
            let mut found = statement.query((after, WINDOW))?;
            while let Some(row) = found.next()? {
                let id = row.get::<_, i64>(0)?;
                let (debits, credits) = (row.get::<_, i64>(2)?.into(), row.get::<_, i64>(3)?.into());
                window.insert(id, Counters { currency: row.get(1)?, debits, credits });
                last = Some(id);
            }
        }
        let top = last_transfer(&snapshot)?;
        drop(snapshot);
        if last.is_none() {
            return Ok(None);
        }
        self.transfers(top, |currency, debit, credit, minor| {
            for (id, debited, credited) in [(debit, minor, 0), (credit, 0, minor)] {
                if let Some(account) = window.get_mut(&id) {
                    account.debits = account.debits.saturating_sub(debited);
                    account.credits = account.credits.saturating_sub(credited);
                    if account.currency != currency {
                        account.debits = i128::MAX;
                    }
                }
            }
            Ok(())
        })?;
        for account in window.into_values().filter(|account| (account.debits, account.credits) != (0, 0)) {
            let line = lines.of(&account.currency)?;
            line.accounts_differing = line.accounts_differing.saturating_add(1);
        }
        Ok(last)
    }

    /// Every transfer up to `top`: currency, debit account, credit account, amount.
    fn transfers(
        &self,
        top: i64,
        mut each: impl FnMut(&str, i64, i64, i128) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut after = 0_i64;
        loop {
            let mut statement = self.connection.prepare_cached(
                "SELECT payment, currency, debit_account, credit_account, minor FROM transfers \
                 WHERE payment > ?1 AND payment <= ?2 ORDER BY payment LIMIT ?3",
            )?;
            let mut found = statement.query((after, top, PAGE))?;
            let mut rows = 0_i64;
            while let Some(row) = found.next()? {
                after = row.get(0)?;
                let currency = row.get_ref(1)?.as_str().map_err(|_| Fault::Row("currency"))?;
                each(currency, row.get(2)?, row.get(3)?, row.get::<_, i64>(4)?.into())?;
                rows = rows.saturating_add(1);
            }
            if rows < PAGE {
                return Ok(());
            }
        }
    }

    fn without(&self, sql: &str, mut each: impl FnMut(&str, u64) -> Result<(), ReadError>) -> Result<(), ReadError> {
        let top = self.connection.query_row(
            "SELECT max(coalesce((SELECT max(id) FROM payments), 0), coalesce((SELECT max(payment) FROM transfers), 0))",
            [],
            |row| row.get::<_, i64>(0),
        )?;
        let mut after = 0_i64;
        while after < top {
            let end = after.saturating_add(PAGE);
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut found = statement.query((after, end))?;
            while let Some(row) = found.next()? {
                let count = super::unsigned(row.get(1)?)?;
                each(row.get_ref(0)?.as_str().map_err(|_| Fault::Row("currency"))?, count)?;
            }
            after = end;
        }
        Ok(())
    }
}

/// Sums the counters; gives the last transfer of the same instant.
fn totals(connection: &Connection, lines: &mut Lines) -> Result<i64, ReadError> {
    let snapshot = connection.unchecked_transaction()?;
    {
        let mut statement = snapshot.prepare_cached("SELECT currency, debits_posted, credits_posted FROM accounts")?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let line = lines.of(row.get_ref(0)?.as_str().map_err(|_| Fault::Row("currency"))?)?;
            line.debits = line.debits.saturating_add(row.get::<_, i64>(1)?.into());
            line.credits = line.credits.saturating_add(row.get::<_, i64>(2)?.into());
            line.accounts = line.accounts.saturating_add(1);
        }
    }
    last_transfer(&snapshot)
}

fn last_transfer(connection: &Connection) -> Result<i64, ReadError> {
    Ok(connection.query_row("SELECT coalesce(max(payment), 0) FROM transfers", [], |row| row.get(0))?)
}
