//! Reconciliation: what was asked for (the payments stream), what was done (the store and its book), what was told
//! (outcome events) and what was taken out (dead letters), each against the others; and where a rail's own ledger is
//! given, what it says of the money that it moved.
//!
//! The order of reading makes it safe beside running workers. First the consumers' ack floors: what is acknowledged
//! then had its record, its outcome event and its dead letter Then the streams, each up to its end at that moment.
//! The store last: whatever the streams tell, the store knew before. What lies above the floors is held, not missing.

mod compare;
mod differ;
mod money;
mod questions;
mod rail;
mod read;
mod scratch;
mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use self::read::{Cut, Role};
use self::scratch::Scratch;
use super::Trouble;
use crate::broker::{Broker, ConsumerInfo, Wire};
use crate::store::{BookLine, Reader};

pub use self::differ::{Difference, Kind};
pub use self::money::Sums;
pub use self::rail::RailLedger;

/// How to reconcile.
#[derive(Debug, Clone)]
pub struct ReconcileOptions {
    /// Keeps what was read, so that the next run reads only what is new; without one, everything is read.
    pub state_file: Option<PathBuf>,
    /// The durable consumers of all lanes.
    pub consumers: Vec<String>,
    /// Ledgers of rails; without one a rail is believed.
    pub rails: Vec<RailLedger>,
    /// Differences to name; all are counted.
    pub most: usize,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// A stream's name, `store`, `compare` or `book`.
    pub what: String,
    /// Messages or rows done.
    pub done: u64,
    /// All of them; 0 where that is not known.
    pub of: u64,
}

/// Events by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Events {
    /// In the payments stream, as far as it was ever read.
    pub published: u64,
    /// Their payment moved money.
    pub settled: u64,
    /// Refused by our rules, the book or a rail.
    pub rejected: u64,
    /// Condemned.
    pub dead_lettered: u64,
    /// Found to ask again for what is final.
    pub duplicates: u64,
    /// Not at their end.
    pub held: Held,
    /// At their end for the broker, and nowhere on record.
    pub unaccounted: u64,
    /// Rejected, by the code that leads.
    pub rejected_by_code: BTreeMap<String, u64>,
    /// Condemned, by code.
    pub dead_lettered_by_code: BTreeMap<String, u64>,
    /// Payments and ended events of the store whose event had left the stream before it was ever read here.
    pub records_without_event: u64,
}

/// Events that are not at their end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Never delivered.
    pub in_stream: u64,
    /// Delivered, or given to a rail.
    pub in_flight: u64,
    /// Waiting for a person.
    pub for_person: u64,
    /// Acknowledged, and owned by the store until their rails have said what became of them.
    pub tracked: u64,
}

impl Held {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.in_stream.saturating_add(self.in_flight).saturating_add(self.for_person).saturating_add(self.tracked)
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reconciliation {
    /// When the comparison was made.
    pub at: Timestamp,
    /// Events.
    pub events: Events,
    /// Money by currency, over distinct payments (payment id and content) whose amount could be read.
    pub money: BTreeMap<String, Sums>,
    /// Every account is the sum of its transfers, debits are credits, and each settled payment has its one transfer.
    pub book_balanced: bool,
    /// Every event and all money is accounted for.
    pub conserved: bool,
    /// What does not agree, the worst first.
    pub differences: Vec<Difference>,
    /// All that were found, more than are named perhaps.
    pub differences_total: u64,
    /// The same by kind.
    pub differences_by_kind: BTreeMap<Kind, u64>,
}

impl Reconciliation {
    /// Nothing differs.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.differences_total == 0 && self.conserved && self.book_balanced
    }
}

/// Compares everything. Memory stays flat: what is read goes to the scratch database on disk.
///
/// # Errors
/// [`Trouble`]; with a state file the next run goes on where this one stopped.
pub async fn reconcile<W: Wire>(
    broker: &Broker<W>,
    store: &Reader,
    options: &ReconcileOptions,
    mut progress: impl FnMut(&Progress),
) -> Result<Reconciliation, Trouble> {
    if options.consumers.is_empty() {
        return Err(Trouble::BadInput { what: "no consumer is named: nothing says what is acknowledged".to_owned() });
    }
    let facts = store.facts()?;
    let mut scratch = Scratch::open(options.state_file.as_deref(), &facts.store_id.to_string())?;
    let streams = broker.streams().clone();
    let mut floors = Vec::new();
    for consumer in &options.consumers {
        let info = broker.consumer_info(streams.payments.as_str(), consumer).await;
        floors.push(info.map_err(|e| Trouble::of_api(broker, e).naming(|| format!("consumer {consumer}")))?);
    }
    let mut cuts = Vec::new();
    for (role, name) in [
        (Role::Payments, &streams.payments),
        (Role::Outcomes, &streams.outcomes),
        (Role::DeadLetters, &streams.dead_letters),
        (Role::Audit, &streams.audit),
    ] {
        let cut = Cut::of(broker, &mut scratch, role, name).await?;
        read::read(broker, &mut scratch, &cut, &mut progress).await?;
        cuts.push(cut);
    }
    rail::load(&scratch, &options.rails, &mut progress).await?;
    compare::load(&mut scratch, store, &mut progress)?;
    rail::resolve(&scratch)?;
    if facts.pruned_before.is_some() || store.facts()?.pruned_before.is_some() {
        scratch.forget_gone()?;
    }
    progress(&Progress { what: "compare".to_owned(), done: 0, of: 0 });
    let now = Timestamp::now();
    let horizon = |role| cuts.iter().find(|cut| cut.role == role).map_or(0, |cut| cut.horizon_ms(now.as_millisecond()));
    if let Some(payments) = cuts.iter().find(|cut| cut.role == Role::Payments) {
        compare::classify(&scratch, payments.id, &floors)?;
    }
    let horizons = differ::Horizons { outcomes: horizon(Role::Outcomes), dead_letters: horizon(Role::DeadLetters) };
    let mut found = differ::differences(&scratch, horizons, options.most)?;
    recheck(&scratch, store, &mut found)?;
    progress(&Progress { what: "book".to_owned(), done: 0, of: 0 });
    let book_balanced = balanced(store, &mut found)?;
    finish(&scratch, now, found, book_balanced)
}

fn finish(
    scratch: &Scratch,
    at: Timestamp,
    found: differ::Found,
    book_balanced: bool,
) -> Result<Reconciliation, Trouble> {
    let events = compare::counts(scratch)?;
    let (money, money_conserved) = money::sums(scratch)?;
    let ends = [events.settled, events.rejected, events.dead_lettered, events.duplicates, events.held.total()];
    let accounted = ends.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
    Ok(Reconciliation {
        at,
        conserved: money_conserved && events.unaccounted == 0 && accounted == events.published,
        events,
        money,
        book_balanced,
        differences: found.named,
        differences_total: found.by_kind.values().fold(0, |sum, n| sum.saturating_add(*n)),
        differences_by_kind: found.by_kind,
    })
}

/// An event that looks lost is looked for in the store once more, by itself, before anybody is woken.
fn recheck(scratch: &Scratch, store: &Reader, found: &mut differ::Found) -> Result<(), Trouble> {
    let mut kept = Vec::with_capacity(found.named.len());
    for difference in std::mem::take(&mut found.named) {
        let event = difference.event.as_deref().filter(|_| difference.kind == Kind::Lost);
        let event = event.and_then(|token| super::dlq::event_of(&format!("payments.dead.{token}")));
        match event {
            Some(event) if store.event(&event)?.is_some() => {
                scratch.found_after_all(&event)?;
                found.forget(Kind::Lost);
            }
            Some(_) | None => kept.push(difference),
        }
    }
    found.named = kept;
    Ok(())
}

/// The book, counted anew; a second time where it does not balance, because a worker may be writing.
fn balanced(store: &Reader, found: &mut differ::Found) -> Result<bool, Trouble> {
    let mut lines = store.book_check()?;
    if !lines.iter().all(BookLine::balances) {
        lines = store.book_check()?;
    }
    for line in lines.iter().filter(|line| !line.balances()) {
        found.add(Difference {
            kind: Kind::BookUnbalanced,
            payment_id: None,
            event: None,
            detail: format!(
                "{}: {} accounts differ from their transfers, {} settled payments without one, {} transfers of none",
                line.currency, line.accounts_differing, line.settled_without_transfer, line.transfers_without_settled
            ),
        });
    }
    Ok(lines.iter().all(BookLine::balances))
}

/// Whether a consumer serves the events of a scheme.
pub(super) fn serves(consumer: &ConsumerInfo, scheme: &str) -> bool {
    let subject = format!("payments.requested.{scheme}.k");
    let filters = consumer.filters();
    filters.is_empty() || filters.iter().any(|filter| matches_subject(filter, &subject))
}

fn matches_subject(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(f), Some(s)) if f == s => {}
            (Some(_), _) | (None, Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests;
