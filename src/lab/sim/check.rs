//! What must hold when nothing is left to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::backend::is_refused;
use super::db::{Db, End};
use super::history::Stage;
use super::screen::REFUSED;
use super::server::Server;
use super::world::locked;
use crate::domain::{Answer, Code, EventId, PaymentId};
use crate::lab::load::Expect;
use crate::store::{EventKind, PaymentRow, State};

/// Checks all of it; breaches go to the world.
pub(super) fn end(stage: &Stage) {
    let (server, db) = (locked(&stage.net.server), locked(&stage.shelf.db));
    let breach = |event: u64, what: String| stage.world.breach(event, what);
    for sequence in 1..=server.payments.last() {
        if let Err(what) = event(stage, &server, &db, sequence) {
            breach(sequence, format!("{what} (event {sequence})"));
        }
    }
    let money = [strangers(&server, &db), book(&db), rails(stage, &db)];
    let told = [tracker(stage, &db), screened(stage, &db), dead_letters(&server, &db), outcomes(&server)];
    for end in money.into_iter().chain(told) {
        if let Err((event, what)) = end {
            breach(event, what);
        }
    }
}

/// I1: the event has the end that it must have, and it was told.
fn event(stage: &Stage, server: &Server, db: &Db, sequence: u64) -> Result<(), String> {
    let (id, stored) = (server.event(sequence), server.payments.get(sequence).ok_or("not in the stream")?);
    let own = db.payments.values().any(|row| row.event == id && row.state != State::Freed);
    if own && db.events.contains_key(&id) {
        return Err("I1: it has an end of its own and its payment's".to_owned());
    }
    let Some(end) = db.end_of(&id) else {
        let payment = stored.id().split(':').next().unwrap_or_default();
        let waits = stage.world.plan.expiring && db.is_for_person(payment, stage.world.now());
        return if waits { Ok(()) } else { Err("I1: it has no end".to_owned()) };
    };
    let code = db.events.get(&id).and_then(crate::store::EventRow::code);
    match &end {
        End::Condemned => {
            let subject = format!("payments.dead.{}", id.token());
            let letters = server.dead.messages.iter().filter(|stored| stored.subject == subject).count();
            if letters != 1 {
                return Err(format!("I5: {letters} dead letters"));
            }
        }
        End::Outcome(name) => {
            if !server.outcomes.messages.iter().any(|stored| stored.id() == name) {
                return Err(format!("I1: its outcome event {name} was never published"));
            }
        }
    }
    let generated = stage.load.get(stored.id()).ok_or("it was never published")?;
    let Some(payment) = &generated.payment_id else {
        let expected = matches!(generated.expect, Expect::DeadLettered(expected) if code == Some(expected));
        return if expected { Ok(()) } else { Err(format!("{:?} ended as {end:?} {code:?}", generated.expect)) };
    };
    // Which of several events with one id comes first is not said; a single one has one end only.
    let single = stage.load.values().filter(|other| other.payment_id.as_ref() == Some(payment)).count() == 1;
    let poison = code == Some(Code::FF10) && (stage.world.plan.rail || refused(stage, payment));
    let expired = stage.world.plan.expiring
        && code == Some(Code::AB11)
        && generated.body.windows(12).any(|at| at == b"\"expires_at\"");
    let plan = &stage.world.plan;
    let unchecked = plan.screened && code == Some(REFUSED) && locked(&stage.shelf.facts).refused.contains(payment);
    let limited = plan.daily > 0 && code == Some(Code::AM14);
    let right = match generated.expect {
        Expect::Settled | Expect::Rejected(_) if expired => true,
        Expect::Settled if unchecked || limited => true,
        Expect::Settled if stage.world.plan.rail => matches!(end, End::Outcome(_)) || poison,
        Expect::Settled => end == End::Outcome(format!("{payment}:settled")) || poison,
        Expect::Rejected(expected) => code == Some(expected) || poison,
        Expect::DeadLettered(expected) => code == Some(expected),
        Expect::Duplicate { .. } | Expect::Conflict => true,
    };
    if right || !single { Ok(()) } else { Err(format!("{:?} ended as {end:?} {code:?}", generated.expect)) }
}

fn refused(stage: &Stage, payment: &PaymentId) -> bool {
    is_refused(payment.as_str(), stage.world.plan.refused)
}

type Checked = Result<(), (u64, String)>;

/// I2: nothing is on record that nobody asked for, and each event stands for one payment at most.
fn strangers(server: &Server, db: &Db) -> Checked {
    let mut owners: BTreeMap<&EventId, &PaymentId> = BTreeMap::new();
    for row in db.payments.values() {
        let sequence = row.event.sequence;
        let stored = server.payments.get(sequence);
        let asked = stored.is_some_and(|stored| stored.id().starts_with(&format!("{}:", row.payment_id)));
        if !asked {
            return Err((
                sequence,
                format!("I2: payment {} is on record, event {sequence} asks for another", row.payment_id),
            ));
        }
        if let Some(other) = owners.insert(&row.event, &row.payment_id) {
            return Err((sequence, format!("I2: event {sequence} stands for {other} and for {}", row.payment_id)));
        }
    }
    Ok(())
}

/// I2 and I4 of the book: one transfer for each settled payment and no other, debits equal credits.
fn book(db: &Db) -> Checked {
    let settled = |row: &&crate::store::PaymentRow| row.state == State::Settled && &*row.rail == "book";
    let by_row: BTreeMap<i64, _> = db.payments.values().filter(settled).map(|row| (row.row, row)).collect();
    let moved: BTreeSet<i64> = db.transfers.keys().copied().collect();
    let paid: BTreeSet<i64> = by_row.keys().copied().collect();
    if moved != paid {
        return Err((0, format!("I2: transfers {moved:?}, settled payments {paid:?}")));
    }
    let mut sums: BTreeMap<&str, [i64; 4]> = BTreeMap::new();
    for (row, transfer) in &db.transfers {
        let amount = by_row.get(row).map(|payment| payment.amount);
        if amount != Some(transfer.amount) {
            return Err((0, format!("I4: the transfer of payment row {row} moves another amount")));
        }
        let [_, _, transferred, settled] = sums.entry(transfer.amount.currency().code()).or_default();
        *transferred = transferred.saturating_add(transfer.amount.minor());
        *settled = settled.saturating_add(amount.map_or(0, |money| money.minor()));
    }
    for (key, row) in &db.accounts {
        let [debits, credits, ..] = sums.entry(key.currency).or_default();
        *debits = debits.saturating_add(row.debits);
        *credits = credits.saturating_add(row.credits);
    }
    let uneven = sums.iter().find(|(_, [debits, credits, transferred, settled])| {
        debits != credits || debits != transferred || transferred != settled
    });
    uneven.map_or(Ok(()), |(currency, sums)| Err((0, format!("I4: {currency} does not balance: {sums:?}"))))
}

/// I2 and I4 over all rails: what their ledgers say moved is what is on record as settled there, once each, with the
/// same amount and reference; so the sums are the same in each currency.
fn rails(stage: &Stage, db: &Db) -> Checked {
    let moved = stage.ledgers.moved();
    for (payment, moved) in &moved {
        let row = db.payments.get(payment);
        let sequence = row.map_or(0, |row| row.event.sequence);
        let right = match (row, moved.as_slice()) {
            (Some(row), [once]) if row.state == State::Settled => {
                let told = row.rail_ref.clone().map(Answer::Settled);
                once.rail == &*row.rail && once.amount == row.amount && told.as_ref() == Some(&once.reference)
            }
            (Some(row), []) => row.state != State::Settled,
            (None, []) => true,
            _ => false,
        };
        if !right {
            let state = row.map(|row| (row.state, Arc::clone(&row.rail), row.amount));
            return Err((sequence, format!("I2: {payment} moved as {moved:?}, on record it is {state:?}")));
        }
    }
    let unmoved = db.payments.values().find(|row| {
        let settled = row.state == State::Settled && &*row.rail != "book";
        settled && moved.get(&row.payment_id).is_none_or(Vec::is_empty)
    });
    unmoved.map_or(Ok(()), |row| Err((row.event.sequence, format!("I2: {} never moved at a rail", row.payment_id))))
}

/// I1 of the tracker: nothing is left in it but what waits for a person.
fn tracker(stage: &Stage, db: &Db) -> Checked {
    let now = stage.world.now();
    let waits = |row: &&PaymentRow| stage.world.plan.expiring && db.is_for_person(row.payment_id.as_str(), now);
    let tracked = db.payments.values().filter(|row| db.tracker.contains_key(&row.row));
    let left = tracked.filter(|row| !waits(row)).map(|row| (row.event.sequence, &row.payment_id)).next();
    left.map_or(Ok(()), |(sequence, id)| Err((sequence, format!("I1: {id} is tracked for ever"))))
}

/// I14 at the end: what the check never cleared is not settled anywhere.
fn screened(stage: &Stage, db: &Db) -> Checked {
    let facts = locked(&stage.shelf.facts);
    let paid = db.payments.values().filter(|row| row.state == State::Settled);
    let unchecked = paid.map(|row| (row.event.sequence, &row.payment_id)).find(|(_, id)| !facts.is_cleared(id));
    unchecked.map_or(Ok(()), |(sequence, id)| Err((sequence, format!("I14: {id} is settled and was never cleared"))))
}

/// I5: each letter is of a condemned event, with its body, and under its own name.
fn dead_letters(server: &Server, db: &Db) -> Checked {
    for letter in &server.dead.messages {
        let sequence = letter.header("Acquit-Sequence").and_then(|text| text.parse().ok()).unwrap_or(0);
        let event = server.event(sequence);
        let original = server.payments.get(sequence);
        let bodies = original.map(|stored| &stored.payload) == Some(&letter.payload);
        let named = letter.subject == format!("payments.dead.{}", event.token());
        let known = letter.header("Acquit-Orig-Nats-Msg-Id") == original.map(|stored| stored.id());
        let condemned = db.events.get(&event).is_some_and(|row| row.kind == EventKind::Condemned);
        if !(bodies && named && known && condemned) {
            let what = format!(
                "I5: dead letter of event {sequence}: body {bodies}, subject {named}, id {known}, condemned {condemned}"
            );
            return Err((sequence, what));
        }
    }
    Ok(())
}

/// An outcome reads the same each time it is told, and no payment is both settled and refused by its rail.
fn outcomes(server: &Server) -> Checked {
    let mut bodies = BTreeMap::new();
    // A payment may be held for another reason later: that is no end, and its repeats are dropped by their id.
    for stored in server.outcomes.messages.iter().filter(|stored| !stored.id().ends_with(":held")) {
        if bodies.insert(stored.id(), &stored.payload).is_some_and(|before| before != &stored.payload) {
            return Err((0, format!("the outcome event {} was told in two ways", stored.id())));
        }
    }
    let both = bodies.keys().filter_map(|id| id.strip_suffix(":settled")).find(|payment| {
        let other = format!("{payment}:rejected");
        bodies.contains_key(other.as_str())
    });
    both.map_or(Ok(()), |payment| Err((0, format!("{payment} is settled and rejected"))))
}
