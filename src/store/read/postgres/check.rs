//! Whether the book balances, counted by the database from the transfers up, all in one instant.

use std::time::Duration;

use tokio_postgres::Client;

use super::super::book::{BookLine, Lines};
use super::{Fault, ReadError, Reader, unsigned};

/// How long counting a large book may take.
const LONGEST: Duration = Duration::from_mins(30);

const ACCOUNTS: &str = "SELECT currency, sum(debits_posted)::text, sum(credits_posted)::text, count(*) FROM accounts \
     GROUP BY 1";

const TRANSFERS: &str = "SELECT currency, sum(minor)::text FROM transfers GROUP BY 1";

const DIFFERING: &str = "SELECT a.currency, count(*) FROM accounts a LEFT JOIN (\
         SELECT account, min(currency) AS first, max(currency) AS last, sum(debit) AS debits, sum(credit) AS credits \
         FROM (SELECT debit_account AS account, currency, minor AS debit, 0 AS credit FROM transfers \
         UNION ALL SELECT credit_account, currency, 0, minor FROM transfers) AS sides GROUP BY account\
     ) AS t ON t.account = a.id \
     WHERE a.debits_posted <> coalesce(t.debits, 0) OR a.credits_posted <> coalesce(t.credits, 0) \
     OR coalesce(t.first, a.currency) <> a.currency OR coalesce(t.last, a.currency) <> a.currency GROUP BY 1";

const SETTLED_WITHOUT: &str = "SELECT p.currency, count(*) FROM payments p LEFT JOIN transfers t ON t.payment = p.id \
     WHERE p.state = 'settled' AND p.rail = 'book' AND t.payment IS NULL GROUP BY 1";

const WITHOUT_SETTLED: &str = "SELECT t.currency, count(*) FROM transfers t LEFT JOIN payments p ON p.id = t.payment \
     AND p.state = 'settled' AND p.rail = 'book' AND p.currency = t.currency AND p.minor = t.minor \
     WHERE p.id IS NULL GROUP BY 1";

impl Reader {
    pub(in super::super) fn book_check(&self) -> Result<Vec<BookLine>, ReadError> {
        self.ask_within(LONGEST, async |client| {
            let longest = LONGEST.as_millis();
            client
                .batch_execute(&format!(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {longest}"
                ))
                .await?;
            let counted = count(&client).await;
            client.batch_execute("ROLLBACK").await?;
            counted
        })
    }
}

async fn count(client: &Client) -> Result<Vec<BookLine>, ReadError> {
    let mut lines = Lines::default();
    for row in client.query(ACCOUNTS, &[]).await? {
        let line = lines.of(row.try_get(0)?)?;
        (line.debits, line.credits) = (whole(row.try_get(1)?)?, whole(row.try_get(2)?)?);
        line.accounts = unsigned(row.try_get(3)?)?;
    }
    for row in client.query(TRANSFERS, &[]).await? {
        lines.of(row.try_get(0)?)?.transferred = whole(row.try_get(1)?)?;
    }
    for row in client.query(DIFFERING, &[]).await? {
        lines.of(row.try_get(0)?)?.accounts_differing = unsigned(row.try_get(1)?)?;
    }
    for row in client.query(SETTLED_WITHOUT, &[]).await? {
        lines.of(row.try_get(0)?)?.settled_without_transfer = unsigned(row.try_get(1)?)?;
    }
    for row in client.query(WITHOUT_SETTLED, &[]).await? {
        lines.of(row.try_get(0)?)?.transfers_without_settled = unsigned(row.try_get(1)?)?;
    }
    Ok(lines.into_all())
}

/// A sum may be above what 64 bits hold.
fn whole(digits: &str) -> Result<i128, ReadError> {
    digits.parse().map_err(|_| ReadError::from(Fault::Row("a sum")))
}
