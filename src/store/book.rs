//! The double-entry book: accounts with two counters that only grow, the funds check, postings. Pure.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::rows::{AccountKey, AccountRow, Mark, TransferRow};
use crate::domain::{Account, Code, Payment, Reason};

/// What becomes of an account that the book does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// It is opened.
    Open {
        /// Whether its debits may exceed its credits.
        overdraft: bool,
    },
    /// The payment is refused (AC02, AC03).
    Refuse,
}

/// The book's rules.
#[derive(Clone)]
pub struct BookPolicy {
    /// What becomes of unknown accounts.
    pub unknown: Unknown,
    /// Accounts known by configuration, by `Account::key`: whether debits may exceed credits. They are opened at
    /// first use, and an account that is open already takes the rule on at its next use.
    pub declared: BTreeMap<String, bool>,
}

impl std::fmt::Debug for BookPolicy {
    // The keys hold account numbers.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BookPolicy").field("unknown", &self.unknown).field("declared", &self.declared.len()).finish()
    }
}

/// The accounts of one group of requests, and what the group did to them.
pub(super) struct Book<'a> {
    policy: &'a BookPolicy,
    accounts: HashMap<AccountKey, Entry>,
    next_account: i64,
    transfers: Vec<TransferRow>,
}

struct Entry {
    row: AccountRow,
    mark: Mark,
}

/// What the group did to the book.
pub(super) struct Posted {
    pub(super) opened: Vec<(AccountKey, AccountRow)>,
    pub(super) changed: Vec<(AccountKey, AccountRow)>,
    pub(super) transfers: Vec<TransferRow>,
}

impl<'a> Book<'a> {
    pub(super) fn new(policy: &'a BookPolicy, accounts: HashMap<AccountKey, AccountRow>, next_account: i64) -> Self {
        let accounts = accounts.into_iter().map(|(key, row)| (key, Entry { row, mark: Mark::Stands })).collect();
        Self { policy, accounts, next_account, transfers: Vec::new() }
    }

    /// Moves the payment's money under the number `payment`, or says why not and changes nothing.
    pub(super) fn post(&mut self, payment: i64, asked: &Payment, now: Timestamp) -> Result<(), Reason> {
        let currency = asked.amount.currency();
        let minor = asked.amount.minor();
        let debtor = AccountKey::new(&asked.debtor_account.key(), currency);
        let creditor = AccountKey::new(&asked.creditor_account.key(), currency);

        let mut from =
            self.find(&debtor, now).ok_or_else(|| unknown(Code::AC02, "/debtor_account", &asked.debtor_account))?;
        let mut to = self
            .find(&creditor, now)
            .ok_or_else(|| unknown(Code::AC03, "/creditor_account", &asked.creditor_account))?;

        let debits = from.row.debits.checked_add(minor).ok_or_else(too_much)?;
        if !from.row.overdraft && debits > from.row.credits {
            return Err(Reason::new(Code::AM04, "/amount/value", "the debtor account's funds do not cover the amount"));
        }
        if debtor == creditor {
            from.row.credits = from.row.credits.checked_add(minor).ok_or_else(too_much)?;
            from.row.debits = debits;
            let account = self.keep(debtor, from);
            self.transfers.push(TransferRow {
                payment,
                debit: account,
                credit: account,
                amount: asked.amount,
                posted_at: now,
            });
            return Ok(());
        }
        to.row.credits = to.row.credits.checked_add(minor).ok_or_else(too_much)?;
        from.row.debits = debits;
        let (debit, credit) = (self.keep(debtor, from), self.keep(creditor, to));
        self.transfers.push(TransferRow { payment, debit, credit, amount: asked.amount, posted_at: now });
        Ok(())
    }

    /// The account under today's rule; a new one gets its number only when it is kept.
    fn find(&self, key: &AccountKey, now: Timestamp) -> Option<Entry> {
        let declared = self.policy.declared.get(&*key.key).copied();
        if let Some(entry) = self.accounts.get(key) {
            let overdraft = declared.unwrap_or(entry.row.overdraft);
            return Some(Entry { row: AccountRow { overdraft, ..entry.row.clone() }, mark: entry.mark });
        }
        let overdraft = match (declared, self.policy.unknown) {
            (Some(overdraft), _) | (None, Unknown::Open { overdraft }) => overdraft,
            (None, Unknown::Refuse) => return None,
        };
        let row = AccountRow { id: 0, debits: 0, credits: 0, overdraft, opened_at: now };
        Some(Entry { row, mark: Mark::New })
    }

    fn keep(&mut self, key: AccountKey, mut entry: Entry) -> i64 {
        if entry.row.id == 0 {
            entry.row.id = self.next_account;
            self.next_account = self.next_account.saturating_add(1);
        }
        if entry.mark == Mark::Stands {
            entry.mark = Mark::Changed;
        }
        let id = entry.row.id;
        self.accounts.insert(key, entry);
        id
    }

    pub(super) fn into_posted(self) -> Posted {
        let mut posted = Posted { opened: Vec::new(), changed: Vec::new(), transfers: self.transfers };
        for (key, entry) in self.accounts {
            match entry.mark {
                Mark::Stands => {}
                Mark::Changed => posted.changed.push((key, entry.row)),
                Mark::New => posted.opened.push((key, entry.row)),
            }
        }
        // One order on every run: maps of this size have none.
        posted.opened.sort_unstable_by_key(|(_, row)| row.id);
        posted.changed.sort_unstable_by_key(|(_, row)| row.id);
        posted
    }
}

fn unknown(code: Code, path: &str, account: &Account) -> Reason {
    let path = match account {
        Account::Iban(_) => format!("{path}/iban"),
        Account::Other(_) => format!("{path}/other/id"),
    };
    Reason::new(code, path, "the book does not know this account")
}

fn too_much() -> Reason {
    Reason::new(Code::AM14, "/amount/value", "the account's counter cannot take the amount")
}
