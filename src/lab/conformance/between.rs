//! Stands between a worker and the rail under test: loses what is on its way, sends twice, stops or kills the worker
//! beside it; and notes where the rail's words contradict each other or its ledger.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Kind, Ledger};
use crate::domain::{Answer, Finding, NotSent, PaymentId, RailKey, RailRef};
use crate::lab::sim::Life;
use crate::rails::{Rail, Terms};
use crate::store::Order;

/// How one submission goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// It reaches the rail twice.
    Twice,
    /// The rail's answer is lost.
    LoseReply,
    /// It never reaches the rail, and nobody knows.
    Swallow,
    /// It takes this long before it reaches the rail.
    Slow(Duration),
    /// The process dies with the answer in hand.
    DieAfter,
    /// The process is stopped before it is sent, and sends it when it wakes.
    StopBefore,
    /// The process is stopped with the answer in hand.
    StopAfter,
    /// The process is stopped when it knows that nothing was sent.
    StopUnsent,
}

/// What happened to the payments of one experiment.
#[derive(Default)]
pub(super) struct Script(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    courses: HashMap<PaymentId, VecDeque<Course>>,
    /// The payment of each key that was submitted.
    payments: HashMap<String, PaymentId>,
    sent: HashMap<PaymentId, u32>,
    under_way: u32,
    most_at_once: u32,
    inquiries: u32,
    /// Inquiries to which the rail did not say what became of the payment.
    unsaid: u32,
    /// The reference under which the rail itself has settled a key.
    settled: HashMap<String, RailRef>,
    untrue: Vec<(PaymentId, Kind, String)>,
}

impl Script {
    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The next submissions of a payment go like this, those after them straight.
    pub(super) fn plan(&self, payment: &PaymentId, courses: &[Course]) {
        self.seen(|seen| seen.courses.insert(payment.clone(), courses.iter().copied().collect()));
    }

    /// Submissions that a worker has begun.
    pub(super) fn sent(&self, payment: &PaymentId) -> u32 {
        self.seen(|seen| seen.sent.get(payment).copied().unwrap_or(0))
    }

    /// Submissions that have no end yet.
    pub(super) fn under_way(&self) -> u32 {
        self.seen(|seen| seen.under_way)
    }

    /// The most submissions that were under way at the same time.
    pub(super) fn most_at_once(&self) -> u32 {
        self.seen(|seen| seen.most_at_once)
    }

    /// Inquiries that were answered.
    pub(super) fn inquiries(&self) -> u32 {
        self.seen(|seen| seen.inquiries)
    }

    /// Inquiries that left the payment as much in doubt as it was.
    pub(super) fn unsaid(&self) -> u32 {
        self.seen(|seen| seen.unsaid)
    }

    /// What the rail said of a payment that is not so.
    pub(super) fn untrue(&self, payment: &PaymentId) -> Vec<(Kind, String)> {
        let of = |(other, kind, what): &(PaymentId, Kind, String)| (other == payment).then(|| (*kind, what.clone()));
        self.seen(|seen| seen.untrue.iter().filter_map(of).collect())
    }

    fn begin(&self, order: &Order) -> Option<Course> {
        let payment = &order.payment().payment_id;
        self.seen(|seen| {
            seen.payments.insert(order.key().as_str().to_owned(), payment.clone());
            let sent = seen.sent.entry(payment.clone()).or_default();
            *sent = sent.saturating_add(1);
            seen.under_way = seen.under_way.saturating_add(1);
            seen.most_at_once = seen.most_at_once.max(seen.under_way);
            seen.courses.get_mut(payment).and_then(VecDeque::pop_front)
        })
    }

    fn end(&self) {
        self.seen(|seen| seen.under_way = seen.under_way.saturating_sub(1));
    }

    /// Notes the rail's own answer to a submission.
    fn answered(&self, payment: &PaymentId, key: &RailKey, answer: &Answer) {
        self.seen(|seen| {
            let before = seen.settled.get(key.as_str()).cloned();
            match (answer, before) {
                (Answer::Settled(reference), None) => {
                    seen.settled.insert(key.as_str().to_owned(), reference.clone());
                }
                (Answer::Settled(reference), Some(first)) if first != *reference => {
                    let what = "two submissions under one key were settled under two references: it was paid twice";
                    seen.say(payment, Kind::Doubled, what.to_owned());
                }
                (Answer::Rejected { code, .. }, Some(_)) => {
                    let what = format!("the rail settled it and then refused it under the same key ({code})");
                    seen.say(payment, Kind::Untrue, what);
                }
                (Answer::Settled(_) | Answer::Rejected { .. }, _)
                | (Answer::InProgress | Answer::Blocked | Answer::NotSent(_) | Answer::Unknown, _) => {}
            }
        });
    }

    fn found(&self, key: &RailKey, finding: &Finding) {
        self.seen(|seen| {
            seen.inquiries = seen.inquiries.saturating_add(1);
            if matches!(finding, Finding::NotFound | Finding::CannotSay) {
                seen.unsaid = seen.unsaid.saturating_add(1);
            }
            if *finding == Finding::NotFound
                && seen.settled.contains_key(key.as_str())
                && let Some(payment) = seen.payments.get(key.as_str()).cloned()
            {
                let what = "the inquiry did not find it although the rail had settled it: a rail that no longer knows \
                            the key would pay it twice";
                seen.say(&payment, Kind::Untrue, what.to_owned());
            }
        });
    }
}

impl Seen {
    /// Once is enough.
    fn say(&mut self, payment: &PaymentId, kind: Kind, what: String) {
        let line = (payment.clone(), kind, what);
        if !self.untrue.contains(&line) {
            self.untrue.push(line);
        }
    }
}

/// One process's way to the rail.
pub(super) struct Between<R, L> {
    pub(super) rail: Arc<R>,
    pub(super) ledger: Arc<L>,
    pub(super) script: Arc<Script>,
    pub(super) life: Arc<Life>,
}

/// Ends with the submission, however that ends.
struct UnderWay(Arc<Script>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<R: Rail, L: Ledger> Between<R, L> {
    async fn forward(&self, order: &Order) -> Answer {
        let (payment, key) = (&order.payment().payment_id, order.key());
        let answer = self.rail.submit(order).await;
        self.script.answered(payment, key, &answer);
        if let Answer::NotSent(why) = &answer
            && self.script.sent(payment) == 1
            && self.ledger.effects(key).await.is_ok_and(|effects| !effects.is_empty())
        {
            let what = format!("the rail said that it was not sent ({why:?}) although it had paid");
            self.script.seen(|seen| seen.say(payment, Kind::Untrue, what));
        }
        answer
    }

    async fn stop(&self) {
        self.life.freeze(true);
        self.life.pass().await;
    }
}

impl<R: Rail, L: Ledger> Rail for Between<R, L> {
    fn name(&self) -> &'static str {
        self.rail.name()
    }

    fn terms(&self) -> Terms {
        self.rail.terms()
    }

    async fn submit(&self, order: &Order) -> Answer {
        self.life.pass().await;
        let course = self.script.begin(order);
        let under_way = UnderWay(Arc::clone(&self.script));
        match course {
            None => self.forward(order).await,
            Some(Course::Twice) => {
                let first = self.forward(order).await;
                let second = self.forward(order).await;
                if matches!(first, Answer::Settled(_)) { first } else { second }
            }
            Some(Course::LoseReply) => {
                self.forward(order).await;
                Answer::Unknown
            }
            Some(Course::Swallow) => Answer::Unknown,
            Some(Course::Slow(span)) => {
                tokio::time::sleep(span).await;
                self.forward(order).await
            }
            Some(Course::DieAfter) => {
                self.forward(order).await;
                // The dead are never heard of again.
                drop(under_way);
                self.life.die().await;
                Answer::Unknown
            }
            Some(Course::StopBefore) => {
                self.stop().await;
                self.forward(order).await
            }
            // The worker goes on to record the answer, and stops where it first needs the store.
            Some(Course::StopAfter) => {
                let answer = self.forward(order).await;
                self.life.freeze(true);
                answer
            }
            Some(Course::StopUnsent) => {
                self.life.freeze(true);
                Answer::NotSent(NotSent::Connect)
            }
        }
    }

    async fn inquire(&self, key: &RailKey) -> Finding {
        self.life.pass().await;
        let finding = self.rail.inquire(key).await;
        self.script.found(key, &finding);
        self.life.pass().await;
        finding
    }
}
