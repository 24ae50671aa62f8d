//! The one writer: whatever is waiting goes into one transaction, each request gets its own answer.
//!
//! It is the only mint of proofs. A commit whose answer is not seen is unknown: the backend starts anew and the
//! same requests are decided again over the rows, which then say what stands.

mod group;
mod proof;
mod pruning;
mod request;
mod shown;
mod tracked;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::decide::Terms;
use super::tracker::{Confirmed, Due, DueList, DueWanted, Message, TrackLimits};
use super::{Backend, BookPolicy, Origin, Resolution, Resolved, Route, StoreLost, Unresolved, WriterLimits};
use crate::domain::{Answer, DeadReason, EventId, Finding, LaneName, Money, PaymentId};
use crate::intake::Judged;

pub use group::GroupDone;
pub use proof::{Condemned, Doubt, Intent, Order, Recorded};
use request::{Body, Request};
pub use tracked::Tracked;

/// What stands for an event.
#[derive(Debug)]
#[must_use]
pub enum Stand {
    /// It has its end.
    Final(Recorded),
    /// An attempt is on record and may be sent.
    Go(Intent),
    /// An attempt may have reached its rail.
    Doubt(Doubt),
    /// It leaves as a dead letter.
    Condemned(Condemned),
    /// The tracker owns the payment, and this is the event that it stands for.
    Tracked(Tracked),
    /// Another worker, or this one for another event, holds the payment.
    Elsewhere {
        /// The end of that claim, by the database's clock.
        until: Timestamp,
    },
}

/// What stands for an event that nothing may be begun for yet.
#[derive(Debug)]
#[must_use]
pub(crate) enum Peek {
    /// This.
    Stands(Box<Stand>),
    /// Nothing that moved money or may move it: the judgement comes back.
    Nothing(Box<Judged>),
}

/// What became of an attempt.
#[derive(Debug)]
#[must_use]
pub enum Concluded {
    /// The payment has its end.
    Final(Recorded),
    /// Nothing was processed and the claim is free: the event may be opened again, now or later.
    Released,
    /// Still not known.
    Doubt(Doubt),
    /// Waits for a person; inquiries may go on.
    Held(Doubt),
    /// The claim ran out and another holds the payment; what was conclusive about the own attempt is recorded.
    Elsewhere {
        /// The end of that claim, by the database's clock.
        until: Timestamp,
    },
}

/// Whether the tracker took a payment on.
#[derive(Debug)]
#[must_use]
pub enum Handed {
    /// It owns the payment from now on.
    Tracked(Tracked),
    /// The payment has its end.
    Final(Recorded),
    /// The lane's tracker has no room for so much.
    Full(Doubt, Money),
    /// It is for its event to go on: another event's, or more or other money than the tracker ever takes.
    Kept(Doubt),
    /// The claim ran out and another holds the payment.
    Elsewhere {
        /// The end of that claim, by the database's clock.
        until: Timestamp,
    },
}

/// Why an event was not condemned.
#[derive(Debug, thiserror::Error)]
pub enum NotCondemned {
    /// Nothing is known.
    #[error("{0}")]
    Lost(StoreLost, Origin),
    /// The payment has an attempt without a conclusive answer: it may only be inquired about.
    #[error("the payment has an attempt whose answer is not known")]
    InDoubt(Origin),
    /// The event has another end: open it again to get that.
    #[error("the event has ended already")]
    Ended(Origin),
}

/// The durable record. Clones share the one writer.
#[derive(Clone)]
pub struct Store {
    requests: mpsc::Sender<Request>,
    limits: WriterLimits,
    owner: Arc<str>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Store {
    /// Starts the writer on a thread of its own, where the backend may block. `owner` names this process unlike any
    /// other that ever worked on the store; `seen` hears of every group.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be started.
    pub fn start(
        backend: impl Backend,
        policy: BookPolicy,
        limits: WriterLimits,
        owner: &str,
        seen: impl Fn(&GroupDone) + Send + 'static,
    ) -> std::io::Result<Self> {
        let group = usize::from(limits.group.max(1));
        let (requests, queue) = mpsc::channel(group.saturating_mul(2));
        let terms = Terms { policy, owner: owner.into(), claim: limits.claim };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("acquit-store".to_owned()).spawn(move || {
            runtime.block_on(group::run(backend, queue, group, terms, limits.keep, seen));
        })?;
        Ok(Self { requests, limits, owner: owner.into() })
    }

    /// Starts the writer as a task of the caller's own runtime: the simulation has one thread and its own clock.
    /// Aborting the task is the writer's crash.
    #[cfg(feature = "lab")]
    pub(crate) fn start_here(
        backend: impl Backend,
        policy: BookPolicy,
        limits: WriterLimits,
        owner: &str,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let group = usize::from(limits.group.max(1));
        let (requests, queue) = mpsc::channel(group.saturating_mul(2));
        let terms = Terms { policy, owner: owner.into(), claim: limits.claim };
        let writer = tokio::spawn(group::run(backend, queue, group, terms, None, |_| {}));
        (Self { requests, limits, owner: owner.into() }, writer)
    }

    /// Its bounds.
    #[must_use]
    pub fn limits(&self) -> WriterLimits {
        self.limits
    }

    /// Requests waiting for the writer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.requests.max_capacity().saturating_sub(self.requests.capacity())
    }

    /// Says what stands for the event, and claims or settles the payment where nothing does.
    ///
    /// # Errors
    /// [`StoreLost`] with the values; nothing is known then.
    pub(crate) async fn open(
        &self,
        origin: Origin,
        judged: Judged,
        route: Route,
    ) -> Result<Stand, (StoreLost, Origin, Box<Judged>)> {
        self.ask(|reply| Body::Open { origin, judged: Box::new(judged), route, reply }).await
    }

    /// Says what stands for the event, and begins nothing. What has its end or may have reached a rail answers as it
    /// does in [`Store::open`]; so does a deadline that has passed.
    ///
    /// # Errors
    /// [`StoreLost`] with the values; nothing is known then.
    pub(crate) async fn peek(
        &self,
        origin: Origin,
        judged: Judged,
        route: Route,
    ) -> Result<Peek, (StoreLost, Origin, Box<Judged>)> {
        self.ask(|reply| Body::Peek { origin, judged: Box::new(judged), route, reply }).await
    }

    /// Records what the rail said to an attempt.
    ///
    /// # Errors
    /// [`StoreLost`] with the doubt; what the rail said must then be told again.
    pub(crate) async fn conclude(&self, doubt: Doubt, answer: Answer) -> Result<Concluded, (StoreLost, Doubt)> {
        self.ask(|reply| Body::Conclude { doubt, answer, reply }).await
    }

    /// Records what an inquiry found that was sent at `asked` or later. A rail's `NotFound` counts only when the attempt
    /// was older than `longest` then, its longest execution time plus grace; the second that counts lets the order be sent again under the same key.
    ///
    /// # Errors
    /// [`StoreLost`] with the doubt.
    pub(crate) async fn resume(
        &self,
        doubt: Doubt,
        finding: Finding,
        asked: Instant,
        longest: Duration,
    ) -> Result<Stand, (StoreLost, Doubt)> {
        self.ask(|reply| Body::Resume { doubt, finding, asked, longest, reply }).await
    }

    /// Gives the payment to the tracker, which keeps the event's message in its stead.
    ///
    /// # Errors
    /// [`StoreLost`] with the doubt.
    pub(crate) async fn track(
        &self,
        doubt: Doubt,
        message: Message,
        limits: TrackLimits,
    ) -> Result<Handed, (StoreLost, Doubt)> {
        self.ask(|reply| Body::Track { doubt, message, limits, reply }).await
    }

    /// Tracked payments of a lane that are due, and what its tracker holds. It claims nothing.
    ///
    /// # Errors
    /// [`StoreLost`].
    pub(crate) async fn due(&self, lane: LaneName, most: u16) -> Result<DueList, StoreLost> {
        let wanted = DueWanted { lane, owner: self.owner.to_string(), most, at: None };
        self.ask(|reply| Body::Due { wanted, reply }).await
    }

    /// Says what stands for a tracked payment that is due, and claims it, as [`Store::open`] does for an event. Without
    /// a judgement (nobody here can read the message any more) only an end is told. `None` where there is nothing to
    /// do: the tracker has let go of it, or nobody knows what it asks for.
    ///
    /// # Errors
    /// [`StoreLost`].
    pub(crate) async fn sweep(
        &self,
        due: Due,
        judged: Option<Judged>,
        route: Route,
    ) -> Result<Option<Stand>, StoreLost> {
        self.ask(|reply| Body::Sweep { due, judged: judged.map(Box::new), route, reply }).await
    }

    /// Ends the tracking of the payment that this event stands for: its outcome event is confirmed.
    ///
    /// # Errors
    /// [`StoreLost`]; the outcome is then told again.
    pub(crate) async fn told(&self, confirmed: &impl Confirmed) -> Result<(), StoreLost> {
        let event = confirmed.event().clone();
        self.ask(|reply| Body::Told { event, reply }).await
    }

    /// Condemns an event to leave as a dead letter.
    ///
    /// # Errors
    /// [`NotCondemned`] with the origin.
    pub(crate) async fn condemn(
        &self,
        origin: Origin,
        why: DeadReason,
        payment: Option<PaymentId>,
    ) -> Result<Condemned, NotCondemned> {
        self.ask(|reply| Body::Condemn { origin, why, payment, reply }).await
    }

    /// Counts one more start of the event's handling; the count stays until an end of the event is recorded.
    ///
    /// # Errors
    /// [`StoreLost`].
    pub(crate) async fn start_of(&self, event: EventId) -> Result<u32, StoreLost> {
        self.ask(|reply| Body::Start { event, reply }).await
    }

    /// Records a person's word on a payment in doubt. The same again does nothing more.
    ///
    /// # Errors
    /// [`Unresolved`].
    pub(crate) async fn resolve(&self, resolution: Resolution) -> Result<Resolved, Unresolved> {
        self.ask(|reply| Body::Resolve { resolution: Box::new(resolution), reply }).await
    }

    /// Ends the writer after what is queued; returns when the backend is closed.
    pub async fn stop(self) {
        let (reply, stopped) = oneshot::channel();
        if self.requests.send(Request::new(Body::Stop { reply })).await.is_ok() {
            // An error means that it had ended before.
            stopped.await.ok();
        }
    }

    async fn ask<T>(&self, body: impl FnOnce(oneshot::Sender<T>) -> Body) -> T {
        let (reply, answer) = oneshot::channel();
        // A request that cannot be sent is dropped, and answers.
        drop(self.requests.send(Request::new(body(reply))).await);
        match answer.await {
            Ok(answer) => answer,
            // Cannot be: a request answers even when the writer unwinds. Waiting is what a lost answer means.
            Err(_) => std::future::pending().await,
        }
    }
}
