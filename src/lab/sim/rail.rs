//! A rail in another company: it keeps its own ledger by key, and the way to it loses, delays and repeats.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::backend::Shelf;
use super::ledgers::{Ledgers, Parcel};
use super::outage::Outages;
use super::plan::Lie;
use super::world::{Life, World, locked};
use crate::domain::{Answer, Finding, NotSent, RailKey};
use crate::rails::{Rail, Terms};
use crate::store::Order;

/// The rails' names, the lane's first one first.
pub(super) const NAMES: [&str; 2] = ["sim", "other"];

/// What a rail promises.
const TERMS: Terms = Terms {
    longest_execution: Duration::from_secs(6),
    key_retention: Duration::from_secs(86_400),
    deadline: Duration::from_secs(2),
};

/// The way of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Straight,
    /// Nothing leaves this process.
    Unsent,
    /// The rail says that it did not process it.
    Busy,
    Lost,
    /// It arrives when the caller has long given up.
    Late,
    ReplyLost,
    /// The answer comes after the deadline.
    Slow,
    InProgress,
    Blocked,
}

/// One process's way to a rail.
pub(super) struct SimRail {
    name: &'static str,
    world: Arc<World>,
    life: Arc<Life>,
    ledgers: Arc<Ledgers>,
    shelf: Shelf,
    /// Where the lane has two rails, each is away for a while.
    outages: Option<Outages>,
}

impl SimRail {
    pub(super) fn new(
        name: &'static str,
        world: Arc<World>,
        life: Arc<Life>,
        ledgers: Arc<Ledgers>,
        shelf: Shelf,
    ) -> Self {
        let number = u64::from(name != NAMES[0]).saturating_add(1);
        let outages = world.plan.second.then(|| Outages::of(&world.plan, number));
        Self { name, world, life, ledgers, shelf, outages }
    }

    fn is_away(&self) -> bool {
        self.outages.as_ref().is_some_and(|outages| outages.now(&self.world))
    }

    fn way(&self) -> Way {
        const WAYS: [Way; 8] =
            [Way::Unsent, Way::Busy, Way::Lost, Way::Late, Way::ReplyLost, Way::Slow, Way::InProgress, Way::Blocked];
        if self.is_away() {
            // Most callers are told at once that nobody is there; some wait.
            return match self.world.below(10) {
                0..7 => Way::Unsent,
                7..9 => Way::Busy,
                _ => Way::Lost,
            };
        }
        if !self.world.fault(self.world.plan.rates.rail) {
            return Way::Straight;
        }
        let at = usize::try_from(self.world.below(8)).unwrap_or_default();
        WAYS.get(at).copied().unwrap_or(Way::Straight)
    }

    /// I14 and I4 by what is on record: what leaves was cleared, and no attempt at another rail is without its answer.
    fn inspect(&self, parcel: &Parcel) {
        let payment = &parcel.payment;
        if !locked(&self.shelf.facts).is_cleared(payment) {
            self.world.breach(0, format!("I14: {payment} is given to {}, and the check never cleared it", self.name));
        }
        if locked(&self.shelf.db).may_be_at_another(payment, self.name) {
            let what = format!("I4: {payment} is given to {}, and an attempt elsewhere has no answer", self.name);
            self.world.breach(0, what);
        }
    }
}

impl Rail for SimRail {
    fn name(&self) -> &'static str {
        self.name
    }

    fn terms(&self) -> Terms {
        TERMS
    }

    async fn submit(&self, order: &Order) -> Answer {
        self.life.pass().await;
        let (payment, way) = (order.payment(), self.way());
        let parcel = Parcel {
            rail: self.name,
            key: order.key().clone(),
            payment: payment.payment_id.clone(),
            amount: payment.amount,
            sent: Instant::now(),
        };
        let id = &parcel.payment;
        self.world.note(0, format_args!("{} submits {id} to {} {way:?}", self.life.name, self.name));
        self.inspect(&parcel);
        let call = self.ledgers.leaves(&self.world, &parcel);
        self.world.pause(1, 5).await;
        self.life.pass().await;
        let (world, ledgers) = (Arc::clone(&self.world), Arc::clone(&self.ledgers));
        let answer = match way {
            Way::Unsent => Answer::NotSent(NotSent::Connect),
            Way::Busy => Answer::NotSent(NotSent::SaidNotProcessed { retry_after: None }),
            Way::Lost => {
                sleep(TERMS.deadline.saturating_mul(2)).await;
                Answer::Unknown
            }
            Way::Late => {
                let late = world.span(500, 5_900);
                let parcel = parcel.clone();
                tokio::spawn(async move {
                    sleep(late).await;
                    ledgers.take(&world, &parcel, way);
                });
                Answer::Unknown
            }
            Way::ReplyLost => {
                ledgers.take(&world, &parcel, way);
                Answer::Unknown
            }
            Way::Slow => {
                let answer = ledgers.take(&world, &parcel, way);
                self.world.pause(2_000, 6_000).await;
                answer
            }
            Way::Straight | Way::InProgress | Way::Blocked => ledgers.take(&world, &parcel, way),
        };
        self.life.pass().await;
        self.world.pause(1, 5).await;
        self.life.pass().await;
        self.ledgers.heard(&parcel, call, &answer);
        answer
    }

    async fn inquire(&self, key: &RailKey) -> Finding {
        self.life.pass().await;
        self.world.pause(1, 10).await;
        let fault = self.is_away() || self.world.fault(self.world.plan.rates.rail);
        let found = self.ledgers.find(self.name, key);
        self.life.pass().await;
        match found {
            Finding::Answered(_) if self.world.plan.lie == Some(Lie::Keys) => Finding::NotFound,
            _ if fault && self.world.odds(50) => Finding::CannotSay,
            _ if fault => {
                self.world.pause(1_000, 5_000).await;
                Finding::CannotSay
            }
            Finding::Answered(Answer::Rejected { .. }) => {
                self.ledgers.refused(self.name, key);
                found
            }
            Finding::Answered(_) | Finding::NotFound | Finding::CannotSay => found,
        }
    }
}
