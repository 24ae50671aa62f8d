//! The model's broker on the machine's own clock, in front of a real rail and a real store: the surroundings in which
//! the conformance suite kills and stops workers at a chosen step. Nothing fails here by chance.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;

use super::backend::{Memory, Shelf};
use super::net::Net;
use super::plan::{Plan, Rates};
use super::server::Server;
use super::setting::{self, Setting};
use super::wire::SimWire;
use super::world::{Life, World, locked};
use crate::broker::{Broker, PublishError};
use crate::domain::{Code, OrderKey, PaymentId, RailKey};
use crate::intake::{Contract, Decode, Instants, Judged, Raw, Unreadable};
use crate::rails::Rail;
use crate::store::{
    Backend, Changes, DueList, DueWanted, EventKind, Order, Origin, PaymentRow, Route, Rows, Stand, State, Store,
    Trouble, Wanted,
};
use crate::worker::{Drained, StatusHandle, Worker};

/// What the surroundings are told.
#[derive(Debug, Clone, Copy)]
pub(in crate::lab) struct LiveTerms {
    /// Events that each worker holds at once.
    pub(in crate::lab) slots: u16,
    pub(in crate::lab) ack_wait: Duration,
    pub(in crate::lab) claim: Duration,
    /// When the streams were made: two surroundings over one store must differ.
    pub(in crate::lab) created: Timestamp,
}

/// Where a process dies, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lab) enum Crash {
    /// Before the intent is written.
    BeforeIntent,
    /// When it is written, before anything is sent.
    AfterIntent,
    /// When the outcome is written, before it is announced.
    AfterConclude,
}

/// Broker, and what the store has committed.
pub(in crate::lab) struct Live {
    world: Arc<World>,
    net: Arc<Net>,
    shelf: Shelf,
    setting: Setting,
    publisher: SimWire,
    crash: Arc<Mutex<Option<Crash>>>,
}

/// A worker at work.
pub(in crate::lab) struct Process {
    pub(in crate::lab) life: Arc<Life>,
    pub(in crate::lab) status: StatusHandle,
    client: u64,
    worker: JoinHandle<Drained>,
    writer: JoinHandle<()>,
}

impl Live {
    /// `None` only where a constant here is wrong.
    pub(in crate::lab) async fn new(terms: LiveTerms) -> Option<Self> {
        let plan = Plan {
            slots: terms.slots,
            ack_wait: terms.ack_wait,
            claim: terms.claim,
            rates: Rates::default(),
            // No history of the simulation: a worker that is stopped has its events delivered to others.
            quakes: 1,
            refused: 0,
            expiring: false,
            ..Plan::plain(1)
        };
        let mut setting = Setting::of(&plan)?;
        setting.lane.limits.grace = terms.claim.saturating_add(setting.lane.limits.grace);
        let world = World::since(terms.created, plan, false);
        let shelf = Shelf::default();
        let server = Server::new(Arc::clone(&world), shelf.clone(), setting.streams.payments.clone());
        let net = Net::new(Arc::clone(&world), server);
        let publisher = net.connect(Life::new("publisher".to_owned(), i64::MAX)).await;
        Some(Self { world, net, shelf, setting, publisher, crash: Arc::default() })
    }

    /// Starts a worker under a name that no other has.
    pub(in crate::lab) async fn start<R: Rail, B: Backend>(
        &self,
        name: &str,
        shared: &Shared<B>,
        rail: impl FnOnce(Arc<Life>) -> R,
    ) -> Process {
        let life = Life::new(name.to_owned(), i64::MAX);
        let wire = self.net.connect(Arc::clone(&life)).await;
        let client = wire.0.client;
        let backend = Watched {
            life: Arc::clone(&life),
            shared: shared.clone(),
            shelf: self.shelf.clone(),
            world: Arc::clone(&self.world),
            crash: Arc::clone(&self.crash),
            held: None,
        };
        let (store, writer) = Store::start_here(backend, self.setting.book.clone(), self.setting.limits, name);
        let broker = Broker::new(wire, self.setting.streams.clone());
        let worker = Worker::new(broker, store, vec![self.setting.lane.clone()]).name(name);
        let worker = worker.rail(rail(Arc::clone(&life)));
        let status = worker.status();
        let worker = tokio::spawn(async move { worker.run(std::future::pending()).await });
        Process { life, status, client, worker, writer }
    }

    /// SIGKILL.
    pub(in crate::lab) fn kill(&self, process: Process) {
        process.life.end();
        process.life.freeze(false);
        process.worker.abort();
        process.writer.abort();
        self.net.bury(process.client);
    }

    /// The next process dies there.
    pub(in crate::lab) fn crash_at(&self, crash: Crash) {
        *locked(&self.crash) = Some(crash);
    }

    /// Whether a crash was asked for and has not come.
    pub(in crate::lab) fn is_to_crash(&self) -> bool {
        locked(&self.crash).is_some()
    }

    /// Publishes an event: the `nth` that asks for the payment.
    ///
    /// # Errors
    /// Where the model does not take it.
    pub(in crate::lab) async fn publish(&self, payment: &PaymentId, nth: u32, body: Bytes) -> Result<(), PublishError> {
        let broker = Broker::new(self.publisher.clone(), self.setting.streams.clone());
        let subject = setting::addresses().of(&body, 1).subject;
        let id = format!("{payment}:{nth}");
        broker.publish_confirmed(&subject, &id, &[], body, &self.setting.streams.payments).await.map(drop)
    }

    /// Whether every event has come to its end.
    pub(in crate::lab) fn is_drained(&self) -> bool {
        locked(&self.net.server).is_drained()
    }

    /// An order as the worker would give it to the rail for this body, from a store that is thrown away.
    pub(in crate::lab) async fn order(&self, body: &[u8], rail: &'static str) -> Option<Order> {
        let judged = self.judge(body).ok()?;
        let life = Life::new("scratch".to_owned(), i64::MAX);
        let memory = Memory::new(Arc::clone(&self.world), life, Shelf::default());
        let (store, _writer) = Store::start_here(memory, self.setting.book.clone(), self.setting.limits, "scratch");
        let origin = Origin {
            event: locked(&self.net.server).event(1),
            scheme: setting::addresses().of(body, 1).scheme,
            order_key: OrderKey::unread(),
            lane: self.setting.lane.name.clone(),
            requested_at: self.world.now(),
            delivery: 1,
            history: Vec::new(),
        };
        match store.open(origin, judged, Route::Rail { name: rail, leg: 0 }).await {
            Ok(Stand::Go(intent)) => Some(intent.dispatch().0),
            Ok(
                Stand::Final(_) | Stand::Doubt(_) | Stand::Condemned(_) | Stand::Tracked(_) | Stand::Elsewhere { .. },
            )
            | Err(_) => None,
        }
    }

    /// What the rules say of a body.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(in crate::lab) fn judge(&self, body: &[u8]) -> Result<Judged, Unreadable> {
        let scheme = setting::addresses().of(body, 1).scheme;
        let raw = Raw { scheme: &scheme, order_key: &OrderKey::unread(), header: &|_| None, body };
        let now = self.world.now();
        Ok(self.setting.lane.rules.judge(Contract.decode(raw)?, &scheme, Instants { requested_at: now, now }))
    }

    /// What is on record of the payment.
    pub(in crate::lab) fn payment(&self, id: &PaymentId) -> Option<PaymentRow> {
        locked(&self.shelf.db).payments.get(id).cloned()
    }

    /// Every key that an attempt of the payment was recorded under.
    pub(in crate::lab) fn keys(&self, id: &PaymentId) -> Vec<RailKey> {
        let db = locked(&self.shelf.db);
        let Some(row) = db.payments.get(id) else { return vec![RailKey::of(id, 0)] };
        let legs = db.attempts.range((row.row, 0)..=(row.row, u32::MAX)).map(|(_, attempt)| attempt.leg);
        (0..=legs.max().unwrap_or(0)).map(|leg| RailKey::of(id, leg)).collect()
    }

    /// Codes under which events of the payment left as dead letters.
    pub(in crate::lab) fn dead_letters(&self, id: &PaymentId) -> Vec<Code> {
        let db = locked(&self.shelf.db);
        let condemned = db.events.values().filter(|row| row.kind == EventKind::Condemned);
        condemned.filter(|row| row.payment_id.as_ref() == Some(id)).filter_map(|row| row.code()).collect()
    }

    /// The first breach of an invariant between worker, store and broker.
    pub(in crate::lab) fn breached(&self) -> Option<String> {
        self.world.breached().map(|breach| breach.what)
    }
}

/// One database under several workers, a transaction at a time. A worker that dies within its transaction leaves it to
/// the next one to be undone.
pub(in crate::lab) struct Shared<B>(Arc<tokio::sync::Mutex<Turn<B>>>);

struct Turn<B> {
    backend: B,
    /// Begun, and neither committed nor refused.
    open: bool,
}

impl<B> Clone for Shared<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Backend> Shared<B> {
    pub(in crate::lab) fn new(backend: B) -> Self {
        Self(Arc::new(tokio::sync::Mutex::new(Turn { backend, open: false })))
    }

    /// What the database itself has of a payment.
    ///
    /// # Errors
    /// What it says.
    pub(in crate::lab) async fn read(&self, id: &PaymentId) -> Result<Option<State>, Trouble> {
        let mut turn = self.0.lock().await;
        let rows = turn.begin(&Wanted { payments: vec![id.clone()], ..Wanted::default() }).await?;
        turn.commit(Changes::default()).await?;
        Ok(rows.payments.get(id).map(|row| row.state))
    }
}

impl<B: Backend> Turn<B> {
    async fn begin(&mut self, wanted: &Wanted) -> Result<Rows, Trouble> {
        if std::mem::replace(&mut self.open, true) {
            self.backend.reset().await?;
        }
        let rows = self.backend.begin(wanted).await;
        self.open = rows.is_ok();
        rows
    }

    async fn due(&mut self, wanted: &DueWanted) -> Result<DueList, Trouble> {
        if std::mem::take(&mut self.open) {
            self.backend.reset().await?;
        }
        self.backend.due(wanted).await
    }

    async fn commit(&mut self, changes: Changes) -> Result<(), Trouble> {
        let committed = self.backend.commit(changes).await;
        self.open = false;
        committed
    }
}

/// One process's way to the database: what is committed is noted for the checks, and the process may die beside it.
struct Watched<B> {
    life: Arc<Life>,
    shared: Shared<B>,
    shelf: Shelf,
    world: Arc<World>,
    crash: Arc<Mutex<Option<Crash>>>,
    held: Option<OwnedMutexGuard<Turn<B>>>,
}

impl<B> Watched<B> {
    fn is_to_die(&self, at: Crash) -> bool {
        locked(&self.crash).take_if(|crash| *crash == at).is_some()
    }
}

impl<B: Backend> Backend for Watched<B> {
    async fn begin(&mut self, wanted: &Wanted) -> Result<Rows, Trouble> {
        self.life.pass().await;
        self.held = None;
        let mut turn = Arc::clone(&self.shared.0).lock_owned().await;
        let rows = turn.begin(wanted).await?;
        self.held = Some(turn);
        Ok(rows)
    }

    async fn commit(&mut self, changes: Changes) -> Result<(), Trouble> {
        let Some(mut turn) = self.held.take() else { return Err(Trouble::Again("no transaction".to_owned())) };
        let rows = || changes.new_payments.iter().chain(&changes.changed_payments);
        let intent = rows().any(|row| row.tries.iter().any(|attempt| attempt.dirty && attempt.ended.is_none()));
        let settles = rows().any(|row| row.state == State::Settled);
        if intent && self.is_to_die(Crash::BeforeIntent) {
            drop(turn);
            self.life.die().await;
            return Ok(());
        }
        turn.commit(changes.clone()).await?;
        if let Err(why) = locked(&self.shelf.db).apply(changes) {
            self.world.breach(0, format!("I2: the store was asked to write {why}"));
        }
        drop(turn);
        if (intent && self.is_to_die(Crash::AfterIntent)) || (settles && self.is_to_die(Crash::AfterConclude)) {
            self.life.die().await;
        }
        Ok(())
    }

    async fn due(&mut self, wanted: &DueWanted) -> Result<DueList, Trouble> {
        self.life.pass().await;
        self.held = None;
        self.shared.0.lock().await.due(wanted).await
    }

    async fn reset(&mut self) -> Result<(), Trouble> {
        self.life.pass().await;
        self.held = None;
        self.shared.0.lock().await.backend.reset().await
    }
}
