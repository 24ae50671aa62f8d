//! What the demo found out: the object of `demo --json`, and the same for a reader.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::domain::{Code, Currency, Money};
use crate::store::BookLine;

/// The object of `demo --json` (contract v1, 3): these fields and no others.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// PubAcks that were not duplicates.
    pub published: u64,
    /// Swallowed by the broker as repeats of a message id.
    pub publisher_duplicates: u64,
    /// Payments settled.
    pub settled: u64,
    /// Events rejected, by the rules or the book.
    pub rejected: u64,
    /// The same by leading code.
    pub rejected_by_code: BTreeMap<Code, u64>,
    /// Events dead-lettered.
    pub dead_lettered: u64,
    /// The same by code.
    pub dead_lettered_by_code: BTreeMap<Code, u64>,
    /// Events that the store found to be repeats.
    pub duplicates: u64,
    /// Events that have no end yet.
    pub held: Held,
    /// Published and in none of the counts above; below zero where more came out than went in.
    pub unaccounted: i64,
    /// Whether every event and every amount is accounted for.
    pub conserved: bool,
    /// By currency.
    pub money: BTreeMap<&'static str, MoneyLine>,
    /// What the breaker did.
    pub breaker: BreakerReport,
    /// From the first publish to the last acknowledgement, in seconds.
    pub elapsed_s: f64,
    /// Over the time in which the gate was open and backlog was there.
    pub settled_per_s: f64,
    /// What the service that settled has in its own ledger, where it was not the book. Not part of the object: that
    /// they agree is part of `conserved`.
    #[serde(skip)]
    pub rail: Option<RailReport>,
    /// The book counted anew from its transfers; empty where that was not done. Not part of the object.
    #[serde(skip)]
    pub book: Vec<BookLine>,
}

/// The ledger of the service against the outcomes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RailReport {
    /// Times that money moved.
    pub effects: u64,
    /// Submissions that it was sent.
    pub submissions: u64,
    /// Whether each settled payment has one effect, of its amount and reference, and there is no other.
    pub agrees: bool,
    /// Payments for which that is not so, in words; at most 20.
    pub differences: Vec<String>,
}

/// Where events are that have no end yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Held {
    /// Not delivered.
    pub in_stream: u64,
    /// Being worked on.
    pub in_flight: u64,
    /// Handed back to come again later.
    pub parked: u64,
    /// Waiting for a person.
    pub for_person: u64,
}

/// What the breaker did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct BreakerReport {
    /// How often it opened.
    pub opened: u64,
    /// Probes let through.
    pub probes: u64,
    /// Pull requests sent while it was open.
    pub pulls_while_open: u64,
}

/// The money of one currency, over distinct payments whose amount could be read. Sums are minor units; they are
/// written as decimal strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoneyLine {
    /// The currency, which is the line's key and not written again.
    pub currency: Currency,
    /// Asked for.
    pub published: i128,
    /// Moved.
    pub settled: i128,
    /// Refused.
    pub rejected: i128,
    /// In dead letters, conflicts included.
    pub dead_lettered: i128,
    /// Without an end yet.
    pub held: i128,
}

impl Held {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.in_stream.saturating_add(self.in_flight).saturating_add(self.parked).saturating_add(self.for_person)
    }
}

impl MoneyLine {
    /// Nothing yet.
    #[must_use]
    pub fn new(currency: Currency) -> Self {
        Self { currency, published: 0, settled: 0, rejected: 0, dead_lettered: 0, held: 0 }
    }

    /// Whether what was asked for equals what became of it.
    #[must_use]
    pub fn balances(&self) -> bool {
        let ends = [self.settled, self.rejected, self.dead_lettered, self.held];
        ends.into_iter().fold(0_i128, i128::saturating_add) == self.published
    }

    fn sums(&self) -> [(&'static str, i128); 5] {
        [
            ("published", self.published),
            ("settled", self.settled),
            ("rejected", self.rejected),
            ("dead_lettered", self.dead_lettered),
            ("held", self.held),
        ]
    }
}

impl Serialize for MoneyLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_struct("MoneyLine", 5)?;
        for (name, minor) in self.sums() {
            line.serialize_field(name, &Money::format(minor, self.currency))?;
        }
        line.end()
    }
}

/// `number` with a comma between each three digits; a part behind a point stays as it is.
#[must_use]
pub fn grouped(number: impl fmt::Display) -> String {
    let text = number.to_string();
    let (sign, rest) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let (whole, fraction) = rest.find('.').map_or((rest, ""), |at| rest.split_at(at));
    let mut grouped = String::with_capacity(text.len().saturating_mul(2));
    grouped.push_str(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && whole.len().saturating_sub(at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped.push_str(fraction);
    grouped
}

/// The report for a reader: plain text, no escape codes, a line end after each line.
#[must_use]
pub fn report(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    write(&mut text, report).ok();
    text
}

fn write(out: &mut String, report: &Report) -> fmt::Result {
    events(out, report)?;
    codes(out, "Rejected", &report.rejected_by_code)?;
    codes(out, "Dead-lettered", &report.dead_lettered_by_code)?;
    money(out, &report.money)?;
    verdict(out, report)
}

fn events(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out, "Events")?;
    let mut line = |name: &str, count: u64, note: &str| -> fmt::Result {
        let note = if note.is_empty() { String::new() } else { format!("  {note}") };
        writeln!(out, "  {name:<14} {:>12}{note}", grouped(count))
    };
    let swallowed = match report.publisher_duplicates {
        0 => String::new(),
        count => format!("and {} repeats that the broker swallowed", grouped(count)),
    };
    line("published", report.published, &swallowed)?;
    line("settled", report.settled, "")?;
    line("rejected", report.rejected, "")?;
    line("dead-lettered", report.dead_lettered, "")?;
    line("duplicates", report.duplicates, "found by the store")?;
    let Held { in_stream, in_flight, parked, for_person } = report.held;
    let where_held = match report.held.total() {
        0 => String::new(),
        _ => format!("{in_stream} in the stream, {in_flight} in flight, {parked} parked, {for_person} for a person"),
    };
    line("held", report.held.total(), &where_held)?;
    if report.unaccounted != 0 {
        writeln!(out, "  {:<14} {:>12}", "UNACCOUNTED", grouped(report.unaccounted))?;
    }
    Ok(())
}

fn codes(out: &mut String, title: &str, counts: &BTreeMap<Code, u64>) -> fmt::Result {
    if counts.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}, by code")?;
    for (code, count) in counts {
        writeln!(out, "  {:<5} {:>9}  {}", code.as_str(), grouped(count), code.meaning())?;
    }
    Ok(())
}

fn money(out: &mut String, lines: &BTreeMap<&'static str, MoneyLine>) -> fmt::Result {
    const LEAST: usize = "dead-lettered".len();
    if lines.is_empty() {
        return Ok(());
    }
    let rows: Vec<[String; 5]> =
        lines.values().map(|line| line.sums().map(|(_, minor)| grouped(Money::format(minor, line.currency)))).collect();
    let width = rows.iter().flatten().map(String::len).chain([LEAST]).max().unwrap_or(LEAST);
    writeln!(out, "\nMoney")?;
    write!(out, "      ")?;
    for (name, _) in lines.values().next().map(MoneyLine::sums).into_iter().flatten() {
        write!(out, " {:>width$}", name.replace('_', "-"))?;
    }
    writeln!(out)?;
    for ((code, line), row) in lines.iter().zip(&rows) {
        write!(out, "  {code:<4}")?;
        for cell in row {
            write!(out, " {cell:>width$}")?;
        }
        writeln!(out, "{}", if line.balances() { "" } else { "  DIFFERS" })?;
    }
    Ok(())
}

fn verdict(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out)?;
    let all = |yes: bool, good: &str, bad: &str| if yes { good.to_owned() } else { bad.to_owned() };
    let ends = all(
        report.conserved,
        "everything published is accounted for",
        "NOT everything published is accounted for, or some money differs",
    );
    writeln!(out, "  {:<10} {ends}", "events")?;
    match &report.rail {
        Some(told) => rail(out, told)?,
        None => writeln!(out, "  {:<10} {}", "book", book(&report.book))?,
    }
    let BreakerReport { opened, probes, pulls_while_open } = report.breaker;
    let breaker = match opened {
        0 => "never opened".to_owned(),
        _ => format!(
            "opened {}, {}, {} while open",
            times(opened),
            counted(probes, "probe"),
            counted(pulls_while_open, "pull request")
        ),
    };
    writeln!(out, "  {:<10} {breaker}", "breaker")?;
    let rate = grouped(format!("{:.0}", report.settled_per_s));
    writeln!(out, "  {:<10} {rate} settled a second, {:.1} s in all", "speed", report.elapsed_s)
}

fn rail(out: &mut String, rail: &RailReport) -> fmt::Result {
    let end = if rail.agrees { "one for each settled payment" } else { "they DIFFER from the settled payments" };
    let (effects, sent) = (counted(rail.effects, "effect"), counted(rail.submissions, "submission"));
    writeln!(out, "  {:<10} {effects} of {sent} in its ledger: {end}", "rail")?;
    rail.differences.iter().try_for_each(|line| writeln!(out, "  {:<10} {line}", ""))
}

fn book(lines: &[BookLine]) -> String {
    let differing: Vec<&str> = lines.iter().filter(|l| !l.balances()).map(|l| l.currency.code()).collect();
    if !differing.is_empty() {
        return format!("DOES NOT BALANCE in {}", differing.join(", "));
    }
    let accounts = lines.iter().fold(0_u64, |sum, line| sum.saturating_add(line.accounts));
    match lines.len() {
        0 => "not counted".to_owned(),
        1 => format!("balances: {} in 1 currency", counted(accounts, "account")),
        many => format!("balances: {} in {many} currencies", counted(accounts, "account")),
    }
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{} times", grouped(count)) }
}

fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
