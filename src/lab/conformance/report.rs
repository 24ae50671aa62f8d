//! What the suite found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::Experiment;
use crate::domain::{Currency, Money};

/// What is wrong with a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Money moved more than once.
    Doubled,
    /// On record as settled, and no money moved.
    Lost,
    /// Money moved, and it is not on record as settled.
    Unrecorded,
    /// Another amount moved.
    Amount,
    /// The rail said what its ledger, or itself, contradicts.
    Untrue,
    /// The payment was refused, so that nothing could be tried with it.
    Refused,
    /// It did not come to an end in time.
    Unfinished,
    /// The worker, the store or the suite did what must not be: no fault of the rail.
    Broken,
    /// The ledger could not be read.
    Unreadable,
}

/// One payment that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Breach {
    /// What is wrong.
    pub kind: Kind,
    /// Its payment.
    pub payment_id: String,
    /// What the rail knows it by.
    pub keys: Vec<String>,
    /// What happened, in words.
    pub what: String,
}

/// One experiment that was made.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// Which.
    pub experiment: Experiment,
    /// What it shows.
    pub shows: &'static str,
    /// Whether it held.
    pub held: bool,
    /// What an operator should know of how it went, where there is anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// Where it did not.
    pub breaches: Vec<Breach>,
}

/// Money of one currency over all experiments, as decimal strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// On record as settled.
    pub settled: String,
    /// Moved by the rail; without a value where its ledger tells no amounts.
    pub moved: Option<String>,
    /// Whether the two are the same, as far as the ledger tells.
    pub conserved: bool,
}

/// What the suite found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The rail's name.
    pub rail: String,
    /// Whether every experiment held and the money is conserved.
    pub certified: bool,
    /// Whether the ledger would have told of a second effect under one key.
    pub ledger_counts: bool,
    /// Payments that were asked for.
    pub payments: u64,
    /// Every experiment, in order.
    pub experiments: Vec<Tried>,
    /// Money by currency code.
    pub money: BTreeMap<&'static str, Sum>,
}

/// One currency: what is on record as settled, and what moved, in minor units.
#[derive(Debug, Clone, Copy)]
struct Line {
    currency: Currency,
    settled: i128,
    moved: Option<i128>,
}

/// Sums in minor units while the experiments are made.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums(BTreeMap<&'static str, Line>);

impl Sums {
    /// Adds a payment: what is on record as settled, and what moved, where the ledger says.
    pub(super) fn add(&mut self, settled: Option<Money>, moved: &[Option<Money>]) {
        for money in settled.iter() {
            let sum = &mut self.entry(*money).settled;
            *sum = sum.saturating_add(money.minor().into());
        }
        for effect in moved {
            match effect {
                Some(money) => {
                    let sum = &mut self.entry(*money).moved;
                    *sum = sum.map(|sum| sum.saturating_add(money.minor().into()));
                }
                None => {
                    if let Some(money) = settled {
                        self.entry(money).moved = None;
                    }
                }
            }
        }
    }

    /// Adds another experiment's.
    pub(super) fn merge(&mut self, other: Self) {
        for (code, line) in other.0 {
            let sum = self.0.entry(code).or_insert(Line { settled: 0, moved: Some(0), ..line });
            sum.settled = sum.settled.saturating_add(line.settled);
            sum.moved = sum.moved.zip(line.moved).map(|(one, other)| one.saturating_add(other));
        }
    }

    fn entry(&mut self, money: Money) -> &mut Line {
        let currency = money.currency();
        self.0.entry(currency.code()).or_insert(Line { currency, settled: 0, moved: Some(0) })
    }

    pub(super) fn finish(self) -> BTreeMap<&'static str, Sum> {
        let line = |(code, Line { currency, settled, moved })| {
            let sum = Sum {
                settled: Money::format(settled, currency),
                moved: moved.map(|moved| Money::format(moved, currency)),
                conserved: moved.is_none_or(|moved| moved == settled),
            };
            (code, sum)
        };
        self.0.into_iter().map(line).collect()
    }
}

impl Report {
    /// Whether every experiment held and the money is conserved.
    #[must_use]
    pub fn is_certified(&self) -> bool {
        self.certified
    }

    /// Every breach of every experiment.
    pub fn breaches(&self) -> impl Iterator<Item = &Breach> {
        self.experiments.iter().flat_map(|tried| &tried.breaches)
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "payment {} (key {}): {}", self.payment_id, self.keys.join(", "), self.what)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tried in &self.experiments {
            let mark = if tried.held { "held  " } else { "BROKEN" };
            writeln!(f, "{mark}  {:<20} {}", tried.experiment.name(), tried.shows)?;
            if let Some(said) = &tried.said {
                writeln!(f, "        {said}")?;
            }
            for breach in &tried.breaches {
                writeln!(f, "        {breach}")?;
            }
        }
        for (code, Sum { settled, moved, conserved }) in &self.money {
            let moved = moved.as_deref().unwrap_or("not told by the ledger");
            let mark = if *conserved { "held  " } else { "BROKEN" };
            writeln!(f, "{mark}  {:<20} {code} settled {settled}, moved {moved}", "money")?;
        }
        let held = self.experiments.iter().filter(|tried| tried.held).count();
        let end = if self.certified { "certified" } else { "NOT certified" };
        write!(f, "rail {} {end}: {held} of {} experiments held", self.rail, self.experiments.len())?;
        write!(f, " over {} payments", self.payments)?;
        if !self.ledger_counts {
            write!(
                f,
                "\nThe ledger was the rail's own inquiry: it shows whether a payment was made, not how often or how \
                 much. A second effect shows only where it has a reference of its own."
            )?;
        }
        Ok(())
    }
}
