//! Accounts found by their numbers, which this process remembers: a number is a cheaper key than a name.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::super::rows::{AccountKey, AccountRow};
use super::connect::{Fault, Session};
use super::instant::Instant;
use super::sql;

/// Numbers remembered at most; a full memory starts anew. About 100 bytes each.
const MOST: usize = 32_768;

/// Numbers of accounts that were read from the database or written by a commit that it has confirmed. Accounts are never
/// removed and keep their names; what was read is compared all the same.
#[derive(Default)]
pub(super) struct Known {
    numbers: HashMap<AccountKey, i64>,
}

impl Known {
    pub(super) fn learn<'a>(&mut self, accounts: impl IntoIterator<Item = (&'a AccountKey, &'a AccountRow)>) {
        for (key, row) in accounts {
            if self.numbers.len() >= MOST {
                self.numbers.clear();
            }
            self.numbers.insert(key.clone(), row.id);
        }
    }
}

/// Accounts as they are asked for: by number where it is known, by name otherwise.
pub(super) struct Accounts<'a> {
    /// By number.
    known: Vec<(i64, &'a AccountKey)>,
    /// By name.
    unknown: Vec<&'a AccountKey>,
}

impl<'a> Accounts<'a> {
    /// `wanted` is sorted.
    pub(super) fn of(known: &Known, wanted: &'a [AccountKey]) -> Self {
        let mut asked = Self { known: Vec::with_capacity(wanted.len()), unknown: Vec::new() };
        for key in wanted {
            match known.numbers.get(key) {
                Some(number) => asked.known.push((*number, key)),
                None => asked.unknown.push(key),
            }
        }
        asked.known.sort_unstable_by_key(|(number, _)| *number);
        asked
    }

    /// Locks and reads them: all in one statement, so that they are locked in the order of their numbers.
    pub(super) async fn query(&self, session: &Session) -> Result<Vec<Row>, Fault> {
        if self.known.is_empty() && self.unknown.is_empty() {
            return Ok(Vec::new());
        }
        let numbers: Vec<i64> = self.known.iter().map(|(number, _)| *number).collect();
        let keys: Vec<&str> = self.unknown.iter().map(|key| &*key.key).collect();
        let currencies: Vec<&str> = self.unknown.iter().map(|key| key.currency).collect();
        session.query(sql::ACCOUNTS, &[&numbers, &keys, &currencies]).await
    }

    /// Reads the answer to [`Self::query`]. A number that has become another account's, or nobody's, is a database that
    /// was changed by hand: nothing that is remembered counts then, and the group asks again by name.
    pub(super) fn read(&self, rows: &[Row], memory: &mut Known) -> Result<HashMap<AccountKey, AccountRow>, Fault> {
        let (mut found, mut new) = (HashMap::with_capacity(rows.len()), Vec::new());
        for row in rows {
            let (id, name): (i64, (&str, &str)) = (row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?));
            let remembered = self.known.binary_search_by_key(&id, |(number, _)| *number).ok();
            let remembered = remembered.and_then(|at| self.known.get(at)).map(|(_, key)| *key);
            let key = remembered.or_else(|| {
                let at = self.unknown.binary_search_by(|key| (&*key.key, key.currency).cmp(&name)).ok();
                let key = at.and_then(|at| self.unknown.get(at)).copied();
                new.extend(key);
                key
            });
            let Some(key) = key.filter(|key| (&*key.key, key.currency) == name) else { return Err(stale(memory)) };
            let (debits, credits) = (row.try_get(3)?, row.try_get(4)?);
            let (overdraft, Instant(opened_at)) = (row.try_get(5)?, row.try_get(6)?);
            found.insert(key.clone(), AccountRow { id, debits, credits, overdraft, opened_at });
        }
        if found.len() != self.known.len().saturating_add(new.len()) {
            return Err(stale(memory));
        }
        memory.learn(new.iter().filter_map(|key| found.get_key_value(*key)));
        Ok(found)
    }
}

fn stale(memory: &mut Known) -> Fault {
    *memory = Known::default();
    Fault::Stale
}
