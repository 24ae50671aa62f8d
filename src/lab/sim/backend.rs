//! The simulation's database connection: one transaction at a time, and an answer that may be late or lost.

use std::sync::{Arc, Mutex};

use tokio::sync::OwnedMutexGuard;
use tokio::time::sleep;

use super::db::Db;
use super::facts::Facts;
use super::plan::Lie;
use super::world::{Life, World, locked};
use crate::store::{AttemptRow, Backend, Changes, DueList, DueWanted, PaymentRow, Rows, StoreLost, Trouble, Wanted};

/// The database that all workers of a history share, and the right to write to it.
#[derive(Clone, Default)]
pub(super) struct Shelf {
    pub(super) db: Arc<Mutex<Db>>,
    pub(super) facts: Arc<Mutex<Facts>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// One process's connection to it.
pub(super) struct Memory {
    world: Arc<World>,
    life: Arc<Life>,
    shelf: Shelf,
    transaction: Option<OwnedMutexGuard<()>>,
}

fn lost(why: &str) -> Trouble {
    Trouble::Lost(StoreLost::Failed(why.to_owned()))
}

impl Memory {
    pub(super) fn new(world: Arc<World>, life: Arc<Life>, shelf: Shelf) -> Self {
        Self { world, life, shelf, transaction: None }
    }

    /// As long as the database takes, which may be long.
    async fn work(&self) {
        let span = if self.world.fault(self.world.plan.rates.store_slow) {
            self.world.span(200, 4_000)
        } else {
            self.world.span(0, 2)
        };
        sleep(span).await;
    }

    /// Writes it all, and looks at what stands then.
    fn write(&self, changes: Changes) -> Result<(), &'static str> {
        let mut db = locked(&self.shelf.db);
        let named = changes.changed_payments.iter().filter_map(|row| db.payments.get(&row.payment_id));
        let before: Vec<_> = named.cloned().collect();
        db.apply(changes.clone())?;
        if let Some(what) = locked(&self.shelf.facts).judge(&self.life.name, &changes, &before, &db) {
            self.world.breach(0, what);
        }
        Ok(())
    }

    fn refuses(&self, changes: &Changes) -> bool {
        let one_in = self.world.plan.refused;
        one_in > 0 && changes.new_payments.iter().any(|row| is_refused(row.payment_id.as_str(), one_in))
    }
}

/// A row as the journal has it.
fn shown(row: &PaymentRow) -> String {
    let tries = row.tries.iter().map(|attempt| {
        let AttemptRow { number, rail, leg, ended, not_found, .. } = attempt;
        format!("{number} at {rail}/{leg} {ended:?} not found {not_found}")
    });
    let (tries, claim) = (tries.collect::<Vec<_>>(), row.claim.as_ref().map(|claim| &*claim.owner));
    let sweeps = row.tracked.map(|tracked| tracked.sweeps);
    let (id, state, fence) = (&row.payment_id, row.state, row.fence);
    format!("{id} {state:?}, tries {tries:?}, fence {fence}, {claim:?}, swept {sweeps:?}")
}

/// Whether the database can never take this payment.
pub(super) fn is_refused(payment: &str, one_in: u64) -> bool {
    let sum = payment.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    one_in > 0 && sum.is_multiple_of(one_in)
}

impl Backend for Memory {
    async fn begin(&mut self, wanted: &Wanted) -> Result<Rows, Trouble> {
        self.life.pass().await;
        self.transaction = None;
        self.transaction = Some(Arc::clone(&self.shelf.turn).lock_owned().await);
        if self.world.fault(self.world.plan.rates.store_lost) {
            self.transaction = None;
            return Err(lost("begin is not answered"));
        }
        Ok(locked(&self.shelf.db).rows(wanted, self.world.now()))
    }

    async fn commit(&mut self, changes: Changes) -> Result<(), Trouble> {
        self.life.pass().await;
        self.work().await;
        let (rate, world) = (self.world.plan.rates.store_lost, Arc::clone(&self.world));
        let kept = self.transaction.take();
        if kept.is_none() || world.fault(rate) {
            world.note(0, format_args!("{}: commit lost before it was written", self.life.name));
            return Err(lost("commit is not answered"));
        }
        if self.refuses(&changes) {
            return Err(Trouble::Content("a check of the schema".to_owned()));
        }
        self.life.pass().await;
        for row in changes.new_payments.iter().chain(&changes.changed_payments) {
            world.note(row.event.sequence, format_args!("{}: {}", self.life.name, shown(row)));
        }
        let lied = world.plan.lie == Some(Lie::Commits) && world.odds(5);
        let applied = if lied { Ok(()) } else { self.write(changes) };
        drop(kept);
        if let Err(why) = applied {
            world.breach(0, format!("I2: the store was asked to write {why}"));
            return Err(Trouble::Content(why.to_owned()));
        }
        // Written, and the process may end before it knows.
        self.life.pass().await;
        if world.fault(rate) {
            world.note(0, format_args!("{}: the answer to a commit is lost", self.life.name));
            return Err(lost("commit is not answered"));
        }
        Ok(())
    }

    async fn due(&mut self, wanted: &DueWanted) -> Result<DueList, Trouble> {
        self.life.pass().await;
        Ok(locked(&self.shelf.db).due(wanted, self.world.now()))
    }

    async fn reset(&mut self) -> Result<(), Trouble> {
        self.life.pass().await;
        self.transaction = None;
        if self.world.fault(self.world.plan.rates.store_lost) { Err(lost("no connection")) } else { Ok(()) }
    }
}
