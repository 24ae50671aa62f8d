//! A check in another company: it clears, holds and refuses, changes its mind, and is away for a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::backend::Shelf;
use super::outage::Outages;
use super::world::{Life, World, locked};
use crate::domain::{Code, Payment, PaymentId};
use crate::rails::{CaseRef, Check, Cleared};

/// What it refuses under: no rule and no rail of a history gives this code.
pub(super) const REFUSED: Code = Code::AG01;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Clear,
    Hold,
    Refuse,
}

/// What it says to one payment, until when, and from then on.
#[derive(Debug, Clone)]
struct Case {
    until: Vec<(Instant, Word)>,
    at_last: Word,
}

impl Case {
    fn open(world: &World) -> Self {
        let (soon, late) = (world.span(200, 4_000), world.span(4_000, 30_000));
        let from_now = |span: Duration| Instant::now().checked_add(span).unwrap_or_else(Instant::now);
        let (until, at_last) = match world.below(10) {
            0 => (vec![(from_now(late), Word::Hold)], Word::Clear),
            1 => (vec![(from_now(late), Word::Hold)], Word::Refuse),
            2 => (Vec::new(), Word::Refuse),
            3 => (vec![(from_now(soon), Word::Clear), (from_now(late), Word::Hold)], Word::Refuse),
            _ => (Vec::new(), Word::Clear),
        };
        Self { until, at_last }
    }

    fn word(&self) -> Word {
        let now = Instant::now();
        self.until.iter().find(|(until, _)| now < *until).map_or(self.at_last, |(_, word)| *word)
    }
}

/// The checking system, which all processes ask.
pub(super) struct Screen {
    cases: Mutex<BTreeMap<PaymentId, Case>>,
    outages: Outages,
}

impl Screen {
    pub(super) fn new(world: &World) -> Self {
        Self { cases: Mutex::default(), outages: Outages::of(&world.plan, 3) }
    }
}

/// One process's way to it.
pub(super) struct SimCheck {
    world: Arc<World>,
    life: Arc<Life>,
    screen: Arc<Screen>,
    shelf: Shelf,
}

impl SimCheck {
    pub(super) fn new(world: Arc<World>, life: Arc<Life>, screen: Arc<Screen>, shelf: Shelf) -> Self {
        Self { world, life, screen, shelf }
    }
}

impl Check for SimCheck {
    async fn check(&self, payment: &Payment) -> Cleared {
        self.life.pass().await;
        self.world.pause(1, 20).await;
        let id = &payment.payment_id;
        let away = self.screen.outages.now(&self.world) || self.world.fault(self.world.plan.rates.rail / 4);
        if away {
            if self.world.odds(30) {
                // Longer than it is waited for.
                sleep(self.deadline().saturating_mul(2)).await;
            }
            return Cleared::Unavailable;
        }
        let word = locked(&self.screen.cases).entry(id.clone()).or_insert_with(|| Case::open(&self.world)).word();
        self.world.note(0, format_args!("{} is told {word:?} of {id}", self.life.name));
        self.life.pass().await;
        let mut facts = locked(&self.shelf.facts);
        match word {
            Word::Clear => {
                facts.clear(&self.life.name, id);
                Cleared::Clear
            }
            Word::Hold => {
                facts.held.insert(id.clone());
                Cleared::Hold(CaseRef::new("CASE-1"))
            }
            Word::Refuse => {
                facts.refused.insert(id.clone());
                Cleared::Refuse(REFUSED)
            }
        }
    }
}
