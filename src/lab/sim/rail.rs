//! A rail in another company: it keeps its own ledger by key, and the way to it loses, delays and repeats. Its ledger
//! is the judge of how often a payment had an effect.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::plan::Lie;
use super::world::{Life, World, locked};
use crate::domain::{Answer, Code, Finding, NotSent, PaymentId, RailKey, RailRef};
use crate::rails::{Rail, Terms};
use crate::store::Order;

/// What the rail promises.
const TERMS: Terms = Terms {
    longest_execution: Duration::from_secs(6),
    key_retention: Duration::from_secs(86_400),
    deadline: Duration::from_secs(2),
};

/// What the rail made of one key.
#[derive(Debug, Clone)]
struct Entry {
    payment: PaymentId,
    fate: Answer,
    /// What it says before it is ready.
    until: (Instant, Answer),
}

/// The rail's ledger.
#[derive(Default)]
pub(super) struct Ledger(Mutex<BTreeMap<String, Entry>>);

impl Ledger {
    /// How often money moved, by payment.
    pub(super) fn effects(&self) -> BTreeMap<PaymentId, u32> {
        let mut effects = BTreeMap::new();
        for entry in locked(&self.0).values() {
            let moved: &mut u32 = effects.entry(entry.payment.clone()).or_default();
            *moved = moved.saturating_add(u32::from(matches!(entry.fate, Answer::Settled(_))));
        }
        effects
    }
}

/// The way of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
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

/// One process's way to the rail.
pub(super) struct SimRail {
    world: Arc<World>,
    life: Arc<Life>,
    ledger: Arc<Ledger>,
}

impl SimRail {
    pub(super) fn new(world: Arc<World>, life: Arc<Life>, ledger: Arc<Ledger>) -> Self {
        Self { world, life, ledger }
    }

    fn way(&self) -> Way {
        const WAYS: [Way; 8] =
            [Way::Unsent, Way::Busy, Way::Lost, Way::Late, Way::ReplyLost, Way::Slow, Way::InProgress, Way::Blocked];
        if !self.world.fault(self.world.plan.rates.rail) {
            return Way::Straight;
        }
        let at = usize::try_from(self.world.below(8)).unwrap_or_default();
        WAYS.get(at).copied().unwrap_or(Way::Straight)
    }
}

/// The order arrives. The same key again is the same payment: it gets the same fate.
fn take(world: &World, ledger: &Ledger, key: &RailKey, payment: &PaymentId, way: Way) -> Answer {
    let mut entries = locked(&ledger.0);
    let known = entries.len();
    let now = Instant::now();
    let new = || {
        let fate = match world.below(20) {
            0 => Answer::Rejected { code: Code::RR04, resubmit: false },
            1 => Answer::Rejected { code: Code::AM14, resubmit: true },
            _ => RailRef::parse(&format!("rail-{}", key.as_str())).map_or(Answer::Unknown, Answer::Settled),
        };
        let ready = now.checked_add(world.span(500, 5_000)).unwrap_or(now);
        let until = match way {
            Way::InProgress => (ready, Answer::InProgress),
            Way::Blocked => (ready, Answer::Blocked),
            Way::Straight | Way::Unsent | Way::Busy | Way::Lost | Way::Late | Way::ReplyLost | Way::Slow => {
                (now, Answer::InProgress)
            }
        };
        Entry { payment: payment.clone(), fate, until }
    };
    let name = key.as_str().to_owned();
    let name =
        if world.plan.lie == Some(Lie::Keys) && entries.contains_key(&name) { format!("{name} {known}") } else { name };
    let entry = entries.entry(name).or_insert_with(new);
    world.note(0, format_args!("rail has {payment} {way:?}: {:?}", entry.fate));
    if now < entry.until.0 { entry.until.1.clone() } else { entry.fate.clone() }
}

impl Rail for SimRail {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn terms(&self) -> Terms {
        TERMS
    }

    async fn submit(&self, order: &Order) -> Answer {
        self.life.pass().await;
        let (key, payment, way) = (order.key().clone(), order.payment().payment_id.clone(), self.way());
        self.world.note(0, format_args!("{} submits {payment} {way:?}", self.life.name));
        self.world.pause(1, 5).await;
        self.life.pass().await;
        let (world, ledger) = (Arc::clone(&self.world), Arc::clone(&self.ledger));
        let answer = match way {
            Way::Unsent => Answer::NotSent(NotSent::Connect),
            Way::Busy => Answer::NotSent(NotSent::SaidNotProcessed { retry_after: None }),
            Way::Lost => {
                sleep(TERMS.deadline.saturating_mul(2)).await;
                Answer::Unknown
            }
            Way::Late => {
                let late = world.span(500, 5_900);
                tokio::spawn(async move {
                    sleep(late).await;
                    take(&world, &ledger, &key, &payment, way);
                });
                Answer::Unknown
            }
            Way::ReplyLost => {
                take(&world, &ledger, &key, &payment, way);
                Answer::Unknown
            }
            Way::Slow => {
                let answer = take(&world, &ledger, &key, &payment, way);
                self.world.pause(2_000, 6_000).await;
                answer
            }
            Way::Straight | Way::InProgress | Way::Blocked => take(&world, &ledger, &key, &payment, way),
        };
        self.life.pass().await;
        self.world.pause(1, 5).await;
        self.life.pass().await;
        answer
    }

    async fn inquire(&self, key: &RailKey) -> Finding {
        self.life.pass().await;
        self.world.pause(1, 10).await;
        let fault = self.world.fault(self.world.plan.rates.rail);
        let found = {
            let entries = locked(&self.ledger.0);
            entries.get(key.as_str()).map(|entry| {
                let ready = Instant::now() >= entry.until.0;
                if ready { entry.fate.clone() } else { entry.until.1.clone() }
            })
        };
        self.life.pass().await;
        match found {
            Some(_) if self.world.plan.lie == Some(Lie::Keys) => Finding::NotFound,
            _ if fault && self.world.odds(50) => Finding::CannotSay,
            _ if fault => {
                self.world.pause(1_000, 5_000).await;
                Finding::CannotSay
            }
            Some(answer) => Finding::Answered(answer),
            None => Finding::NotFound,
        }
    }
}
