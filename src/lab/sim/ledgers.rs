//! The ledgers of a history's rails, in one hand: they are the judge of how often a payment had an effect, and of which
//! rail it was given to while another may have had it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::plan::Lie;
use super::rail::Way;
use super::world::{World, locked};
use crate::domain::{Answer, Code, Finding, Money, PaymentId, RailKey, RailRef};

/// What a rail made of one key.
#[derive(Debug, Clone)]
struct Entry {
    payment: PaymentId,
    amount: Money,
    fate: Answer,
    /// What it says before it is ready.
    until: (Instant, Answer),
    /// Its status call does not know the key before.
    shown: Instant,
}

impl Entry {
    fn says(&self) -> Answer {
        if Instant::now() < self.until.0 { self.until.1.clone() } else { self.fate.clone() }
    }
}

/// One submission.
struct Call {
    rail: &'static str,
    key: String,
    /// The rail has said, and a living process has heard, that this one had no effect and never will.
    void: bool,
}

/// How a payment stands at the rails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) rail: &'static str,
    pub(super) reference: Answer,
    pub(super) amount: Money,
}

/// An order on its way.
#[derive(Clone)]
pub(super) struct Parcel {
    pub(super) rail: &'static str,
    pub(super) key: RailKey,
    pub(super) payment: PaymentId,
    pub(super) amount: Money,
    pub(super) sent: Instant,
}

/// All ledgers.
#[derive(Default)]
pub(super) struct Ledgers {
    /// By rail and key.
    entries: Mutex<BTreeMap<(&'static str, String), Entry>>,
    calls: Mutex<BTreeMap<PaymentId, Vec<Call>>>,
}

impl Ledgers {
    /// What moved, by payment.
    pub(super) fn moved(&self) -> BTreeMap<PaymentId, Vec<Moved>> {
        let mut all: BTreeMap<PaymentId, Vec<Moved>> = BTreeMap::new();
        for ((rail, _), entry) in locked(&self.entries).iter() {
            let moved = all.entry(entry.payment.clone()).or_default();
            if let Answer::Settled(_) = entry.fate {
                moved.push(Moved { rail, reference: entry.fate.clone(), amount: entry.amount });
            }
        }
        all
    }

    /// I17, as an order leaves: no rail is given what another one may have. Gives the number of the call.
    pub(super) fn leaves(&self, world: &World, parcel: &Parcel) -> usize {
        let mut all = locked(&self.calls);
        let calls = all.entry(parcel.payment.clone()).or_default();
        if let Some(other) = calls.iter().find(|call| call.rail != parcel.rail && !call.void) {
            let what = format!(
                "I17: {} is given to {} while {} may have it under {}",
                parcel.payment, parcel.rail, other.rail, other.key
            );
            world.breach(0, what);
        }
        calls.push(Call { rail: parcel.rail, key: parcel.key.as_str().to_owned(), void: false });
        calls.len().saturating_sub(1)
    }

    /// A living process hears what a rail said to this call. A refusal is of the key, a proof of not sending of the call.
    pub(super) fn heard(&self, parcel: &Parcel, call: usize, answer: &Answer) {
        match answer {
            Answer::NotSent(_) => {
                if let Some(call) = locked(&self.calls).get_mut(&parcel.payment).and_then(|calls| calls.get_mut(call)) {
                    call.void = true;
                }
            }
            Answer::Rejected { .. } => self.refused(parcel.rail, &parcel.key),
            Answer::Settled(_) | Answer::InProgress | Answer::Blocked | Answer::Unknown => {}
        }
    }

    /// A living process hears that the rail has refused a key.
    pub(super) fn refused(&self, rail: &str, key: &RailKey) {
        for call in locked(&self.calls).values_mut().flatten() {
            call.void |= call.rail == rail && call.key == key.as_str();
        }
    }

    /// The order arrives. The same key again is the same payment: it gets the same fate.
    ///
    /// I2, as money moves: once for a payment, over all keys and all rails.
    pub(super) fn take(&self, world: &World, parcel: &Parcel, way: Way) -> Answer {
        let mut entries = locked(&self.entries);
        let lied = world.plan.lie == Some(Lie::Keys);
        let mut name = (parcel.rail, parcel.key.as_str().to_owned());
        if lied && entries.contains_key(&name) {
            name.1 = format!("{} {}", name.1, entries.len());
        }
        if let Some(known) = entries.get(&name) {
            world.note(0, format_args!("{} has {} already: {:?}", parcel.rail, parcel.payment, known.fate));
            return known.says();
        }
        let entry = new(world, parcel, way);
        world.note(0, format_args!("{} has {} {way:?}: {:?}", parcel.rail, parcel.payment, entry.fate));
        let settled = |entry: &Entry| matches!(entry.fate, Answer::Settled(_));
        let before = entries.iter().find(|(_, other)| other.payment == parcel.payment && settled(other));
        if let Some(((rail, key), _)) = before.filter(|_| settled(&entry)) {
            let what =
                format!("I2: {} has an effect at {} beside the one at {rail} under {key}", parcel.payment, parcel.rail);
            world.breach(0, what);
        }
        let says = entry.says();
        entries.insert(name, entry);
        says
    }

    /// What the rail's status call finds.
    pub(super) fn find(&self, rail: &'static str, key: &RailKey) -> Finding {
        let entries = locked(&self.entries);
        let known = entries.get(&(rail, key.as_str().to_owned())).filter(|entry| Instant::now() >= entry.shown);
        known.map_or(Finding::NotFound, |entry| Finding::Answered(entry.says()))
    }
}

fn new(world: &World, parcel: &Parcel, way: Way) -> Entry {
    let fate = match world.below(20) {
        0 => Answer::Rejected { code: Code::RR04, resubmit: false },
        1 => Answer::Rejected { code: Code::AM14, resubmit: true },
        2 if world.plan.second => Answer::Rejected { code: Code::AM14, resubmit: true },
        _ => {
            let name = format!("{}-{}", parcel.rail, parcel.key.as_str());
            RailRef::parse(&name).map_or(Answer::Unknown, Answer::Settled)
        }
    };
    let now = Instant::now();
    let longest = if world.plan.track.is_some() { 60_000 } else { 5_000 };
    let ready = now.checked_add(world.span(500, longest)).unwrap_or(now);
    let until = match way {
        Way::InProgress => (ready, Answer::InProgress),
        Way::Blocked => (ready, Answer::Blocked),
        Way::Straight | Way::Unsent | Way::Busy | Way::Lost | Way::Late | Way::ReplyLost | Way::Slow => {
            (now, Answer::InProgress)
        }
    };
    // A status call may lag behind, as long as the rail's longest execution time covers it.
    let mut shown = now;
    if world.plan.second || world.plan.track.is_some() {
        let last = parcel.sent.checked_add(Duration::from_millis(5_900)).unwrap_or(now);
        shown = now.checked_add(world.span(0, 3_000)).unwrap_or(now).min(last).max(now);
    }
    Entry { payment: parcel.payment.clone(), amount: parcel.amount, fate, until, shown }
}
