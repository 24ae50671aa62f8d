//! The stand-in service of `demo --rail http`: how it misbehaves, and its ledger against the outcomes.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::cli::{Exit, Failure};
use crate::domain::{Currency, Money};
use crate::lab::rail::ScriptedRail;
use crate::lab::rail::ledger::Paid;
use crate::lab::rail::script::Script;
use crate::lab::report::RailReport;

/// Of a hundred payments: three lose their reply, one its request, two are told to come again, one gets an error that
/// is repeated for ever although it was settled, one is refused.
const SCRIPT: &str = r#"
latency = ["1ms", "5ms"]
[[behaviour]]
kind = "lose_reply"
share = 0.03
times = 1
[[behaviour]]
kind = "reset"
share = 0.01
times = 1
[[behaviour]]
kind = "too_many"
share = 0.02
times = 1
[[behaviour]]
kind = "stored_error"
share = 0.01
[[behaviour]]
kind = "reject"
share = 0.01
"#;

/// Differences that are told.
const MOST: usize = 20;

/// The faults.
pub(super) fn script() -> Result<Script, Failure> {
    Script::parse(SCRIPT).map_err(|e| Failure::new(Exit::Bug, format!("the demo's own script: {e}")))
}

/// Compares the service's ledger with the settled payments of the store.
pub(super) fn compare(bank: &ScriptedRail, store: &Path) -> Result<RailReport, Failure> {
    let unreadable = |e: rusqlite::Error| Failure::new(Exit::Unavailable, format!("the ledgers cannot be read: {e}"));
    let (effects, settled) = (bank.effects().map_err(unreadable)?, settled(store).map_err(unreadable)?);
    let submissions = bank.posts().values().fold(0_u64, |sum, posts| sum.saturating_add(u64::from(*posts)));
    let differences = differences(&effects, settled);
    Ok(RailReport {
        effects: u64::try_from(effects.len()).unwrap_or(u64::MAX),
        submissions,
        agrees: differences.is_empty(),
        differences: differences.into_iter().take(MOST).collect(),
    })
}

type Settled = BTreeMap<String, (Option<Money>, String)>;

fn differences(effects: &[Paid], settled: Settled) -> Vec<String> {
    let mut paid: BTreeMap<&str, Vec<&Paid>> = BTreeMap::new();
    for effect in effects {
        paid.entry(&effect.payment_id).or_default().push(effect);
    }
    let mut differences = Vec::new();
    for (payment, (amount, reference)) in &settled {
        let what = match paid.remove(payment.as_str()).as_deref() {
            Some([one]) if one.amount == *amount && amount.is_some() && one.reference == *reference => continue,
            Some([one]) => format!("payment {payment} (key {}) has another amount or reference at the rail", one.key),
            None | Some([]) => format!("payment {payment} is settled and LOST: the rail never paid it"),
            Some(several @ [first, ..]) => {
                format!("payment {payment} (key {}) was paid {} times", first.key, several.len())
            }
        };
        differences.push(what);
    }
    for (payment, effects) in paid {
        let keys: Vec<&str> = effects.iter().map(|effect| effect.key.as_str()).collect();
        differences.push(format!("payment {payment} (key {}) was paid and is not settled", keys.join(", ")));
    }
    differences
}

fn settled(store: &Path) -> rusqlite::Result<Settled> {
    let connection = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut rows =
        connection.prepare("SELECT payment_id, currency, minor, rail_ref FROM payments WHERE state = 'settled'")?;
    let rows = rows.query_map([], |row| {
        let (currency, minor): (String, i64) = (row.get(1)?, row.get(2)?);
        let amount = Currency::parse(&currency).and_then(|currency| Money::new(minor, currency));
        Ok((row.get(0)?, (amount, row.get::<_, Option<String>>(3)?.unwrap_or_default())))
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paid(payment: &str, minor: i64) -> Paid {
        let amount = Money::new(minor, Currency::parse("EUR").unwrap());
        Paid { key: format!("key-{payment}"), payment_id: payment.to_owned(), amount, reference: "R".to_owned() }
    }

    fn told(effects: &[Paid], settled: &[(&str, i64)]) -> Vec<String> {
        let eur = Currency::parse("EUR").unwrap();
        let line = |(id, minor): &(&str, i64)| ((*id).to_owned(), (Money::new(*minor, eur), "R".to_owned()));
        differences(effects, settled.iter().map(line).collect())
    }

    #[test]
    fn a_payment_that_is_paid_twice_never_or_otherwise_is_named() {
        assert!(told(&[paid("A", 1), paid("B", 2)], &[("A", 1), ("B", 2)]).is_empty());
        let twice = told(&[paid("A", 1), paid("A", 1)], &[("A", 1)]);
        assert_eq!(twice, ["payment A (key key-A) was paid 2 times"]);
        assert_eq!(told(&[], &[("A", 1)]), ["payment A is settled and LOST: the rail never paid it"]);
        assert_eq!(told(&[paid("A", 1)], &[]), ["payment A (key key-A) was paid and is not settled"]);
        let other = told(&[paid("A", 2)], &[("A", 1)]);
        assert_eq!(other, ["payment A (key key-A) has another amount or reference at the rail"]);
    }
}
