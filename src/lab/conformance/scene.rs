//! One experiment's surroundings: workers that are started again when they die and woken when it is time, and the
//! comparison of what stands with what the rail's ledger has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};

use super::between::{Between, Script};
use super::report::Sums;
use super::{Breach, Kind, Ledger, Sample};
use crate::domain::{Money, PaymentId};
use crate::lab::sim::{Live, LiveTerms, Process, Shared};
use crate::rails::{Rail, Terms};
use crate::store::{Backend, State};

/// How often the suite looks.
const LOOK: Duration = Duration::from_millis(20);

/// What all experiments share.
pub(super) struct Bench<R, L, B> {
    pub(super) rail: Arc<R>,
    pub(super) ledger: Arc<L>,
    pub(super) shared: Shared<B>,
    pub(super) sample: Sample,
    /// Tells the payments of this run from those of any other.
    pub(super) run: String,
    /// When this group of experiments began; no two of them have the same.
    pub(super) began: Timestamp,
}

/// When a stopped worker wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// When everything has come to its end without it.
    AtTheEnd,
    /// When another has asked the rail.
    WhenAsked,
}

/// One experiment's surroundings.
pub(super) struct Scene<'a, R, L, B> {
    pub(super) bench: &'a Bench<R, L, B>,
    pub(super) live: Live,
    pub(super) script: Arc<Script>,
    name: &'static str,
    processes: Vec<Process>,
    started: u32,
    paid: Sums,
}

/// How long a claim lasts: no call outlives it by default.
fn claim(terms: &Terms) -> Duration {
    terms.deadline.saturating_mul(2).saturating_add(Duration::from_secs(2))
}

/// How long an experiment may take: a lost claim, two findings that count, and their schedule.
fn patience(terms: &Terms) -> Duration {
    let unknown = terms.longest_execution.saturating_add(terms.deadline).saturating_mul(8);
    claim(terms).saturating_mul(3).saturating_add(unknown).saturating_add(Duration::from_secs(30))
}

impl<'a, R: Rail, L: Ledger, B: Backend> Scene<'a, R, L, B> {
    /// Surroundings of the experiment with this number; `None` only where a constant of the suite is wrong.
    pub(super) async fn set(
        bench: &'a Bench<R, L, B>,
        name: &'static str,
        number: u16,
        slots: u16,
    ) -> Option<Scene<'a, R, L, B>> {
        let terms = bench.rail.terms();
        // The store knows an event by its stream's creation time, in milliseconds.
        let created = bench.began.saturating_add(SignedDuration::from_millis(number.into())).ok()?;
        let ack_wait = (terms.longest_execution / 4).clamp(Duration::from_secs(2), Duration::from_secs(15));
        let live = Live::new(LiveTerms { slots, ack_wait, claim: claim(&terms), created }).await?;
        let script = Arc::default();
        Some(Self { bench, live, script, name, processes: Vec::new(), started: 0, paid: Sums::default() })
    }

    /// The experiment's `n`th payment.
    pub(super) fn payment(&self, n: u32) -> Option<PaymentId> {
        PaymentId::parse(&format!("{}-{}-{n}", self.bench.run, self.name)).ok()
    }

    /// Starts a worker.
    pub(super) async fn worker(&mut self) {
        self.started = self.started.saturating_add(1);
        let name = format!("{}-{}-w{}", self.bench.run, self.name, self.started);
        let (rail, ledger, script) = (&self.bench.rail, &self.bench.ledger, &self.script);
        let (rail, ledger, script) = (Arc::clone(rail), Arc::clone(ledger), Arc::clone(script));
        let between = |life| Between { rail, ledger, script, life };
        let process = self.live.start(&name, &self.bench.shared, between).await;
        self.processes.push(process);
    }

    /// Publishes the `nth` event of a payment.
    pub(super) async fn publish(&self, payment: &PaymentId, nth: u32, body: Bytes) -> Result<(), Breach> {
        let published = self.live.publish(payment, nth, body).await;
        published.map_err(|error| self.breach(payment, Kind::Broken, format!("the event was not published: {error}")))
    }

    /// Waits until every event has its end and nobody has anything in hand. False where that takes too long.
    pub(super) async fn drained(&mut self, wake: Wake) -> bool {
        let began = Instant::now();
        let patience = patience(&self.bench.rail.terms());
        while began.elapsed() < patience {
            sleep(LOOK).await;
            let (dead, living) = std::mem::take(&mut self.processes).into_iter().partition(|p| p.life.is_dead());
            self.processes = living;
            let dead: Vec<Process> = dead;
            for process in dead {
                self.live.kill(process);
                self.worker().await;
            }
            let drained = self.live.is_drained();
            let awake = match wake {
                Wake::AtTheEnd => drained,
                Wake::WhenAsked => self.script.inquiries() > 0,
            };
            for process in self.processes.iter().filter(|process| awake && process.life.is_frozen()) {
                process.life.freeze(false);
            }
            let at_rest = |process: &Process| process.status.lanes().iter().all(|lane| lane.in_flight == 0);
            if drained && self.script.under_way() == 0 && self.processes.iter().all(at_rest) {
                return true;
            }
        }
        false
    }

    /// Whether every one of the payments was asked about once more than `unsaid` times together without an answer, and
    /// none has its end: waits until that is known, at most for the experiment's time.
    pub(super) async fn in_doubt(&self, payments: &[PaymentId], unsaid: u32) -> bool {
        let (began, patience) = (Instant::now(), patience(&self.bench.rail.terms()));
        while began.elapsed() < patience {
            sleep(LOOK).await;
            if payments.iter().any(|id| self.live.payment(id).is_some_and(|row| row.finished_at.is_some())) {
                return false;
            }
            let sent = payments.iter().all(|id| self.script.sent(id) > 0);
            if sent && self.script.under_way() == 0 && self.script.unsaid() > unsaid {
                return true;
            }
        }
        false
    }

    /// Compares what is on record of a payment that had to settle with what really happened.
    pub(super) async fn settled_once(&mut self, payment: &PaymentId) -> Vec<Breach> {
        let mut breaches: Vec<Breach> =
            self.script.untrue(payment).into_iter().map(|(kind, what)| self.breach(payment, kind, what)).collect();
        let row = self.live.payment(payment);
        let state = row.as_ref().map(|row| row.state);
        let asked = row.as_ref().map(|row| row.amount);
        let mut moved: Vec<Option<Money>> = Vec::new();
        for key in self.live.keys(payment) {
            match self.bench.ledger.effects(&key).await {
                Ok(effects) => moved.extend(effects.into_iter().map(|effect| effect.amount)),
                Err(why) => {
                    let what = format!("the ledger cannot be read under key {}: {why}", key.as_str());
                    breaches.push(self.breach(payment, Kind::Unreadable, what));
                    return breaches;
                }
            }
        }
        self.paid.add(asked.filter(|_| state == Some(State::Settled)), &moved);
        let codes = || self.live.dead_letters(payment).iter().map(|code| code.as_str()).collect::<Vec<_>>().join(", ");
        let wrong = match (state, moved.len()) {
            (Some(State::Settled), 1) => None,
            (Some(State::Settled), 0) => Some((Kind::Lost, "on record as settled, and no money moved".to_owned())),
            (_, 2..) => Some((Kind::Doubled, format!("money moved {} times", moved.len()))),
            (Some(State::Rejected), 0) => {
                let codes: Vec<&str> =
                    row.iter().flat_map(|row| &row.reasons).map(|reason| reason.code.as_str()).collect();
                Some((Kind::Refused, format!("the rail refused it ({}); use another sample", codes.join(", "))))
            }
            (Some(State::Open | State::Held | State::Freed) | None, 0) => {
                Some((Kind::Unfinished, format!("not settled ({})", standing(state, &codes()))))
            }
            (Some(State::Rejected | State::Open | State::Held | State::Freed) | None, 1) => {
                Some((Kind::Unrecorded, format!("money moved, and it is not settled ({})", standing(state, &codes()))))
            }
        };
        breaches.extend(wrong.map(|(kind, what)| self.breach(payment, kind, what)));
        if moved.iter().flatten().any(|amount| Some(*amount) != asked) {
            breaches.push(self.breach(payment, Kind::Amount, "another amount moved than was asked for".to_owned()));
        }
        match self.bench.shared.read(payment).await {
            Ok(read) if read == state => {}
            Ok(read) => {
                let what = format!("the database has {read:?} where {state:?} was committed");
                breaches.push(self.breach(payment, Kind::Broken, what));
            }
            Err(trouble) => breaches.push(self.breach(payment, Kind::Broken, format!("{trouble:?}"))),
        }
        breaches
    }

    /// Ends the workers. Gives the sums, and what else must not have been.
    pub(super) fn strike(mut self, about: &PaymentId) -> (Sums, Option<Breach>) {
        for process in std::mem::take(&mut self.processes) {
            self.live.kill(process);
        }
        let broken = self.live.breached().map(|what| self.breach(about, Kind::Broken, what));
        (self.paid, broken)
    }

    /// A breach about a payment, with its keys.
    pub(super) fn breach(&self, payment: &PaymentId, kind: Kind, what: String) -> Breach {
        let keys = self.live.keys(payment).iter().map(|key| key.as_str().to_owned()).collect();
        Breach { kind, payment_id: payment.as_str().to_owned(), keys, what }
    }
}

fn standing(state: Option<State>, codes: &str) -> String {
    let stands = match state {
        None => "never claimed",
        Some(State::Open) => "in doubt: the rail has not said what became of it",
        Some(State::Held) => "held for a person",
        Some(State::Freed) => "given up",
        Some(State::Settled) => "settled",
        Some(State::Rejected) => "rejected",
    };
    if codes.is_empty() { stands.to_owned() } else { format!("{stands}; its event left as a dead letter, {codes}") }
}
