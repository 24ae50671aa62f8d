//! The closed list of what Acquit logs. Each line reads alone; ids are fields as well; a failure is logged once,
//! where it is handled. No value of an event appears: no name, no account, no remittance, no amount.

use std::time::Duration;

use tracing::{error, info, warn};

/// The process and its lanes begin and end.
#[derive(Debug)]
pub(crate) enum Life<'a> {
    WorkerStarted { lanes: usize, worker: &'a str },
    WorkerStopped { finished: u64, handed_back: u64, abandoned: u64 },
    LaneStarted { lane: &'a str, stream: &'a str, consumer: &'a str, slots: u16 },
    Draining { lane: &'a str, held: u32, grace: Duration },
    Shortfall { what: &'a str },
    UnknownsUnread { what: &'a str },
    Stranded { what: &'a str },
    OpsListening { address: &'a str },
}

impl Life<'_> {
    pub(crate) fn emit(&self) {
        match *self {
            Self::WorkerStarted { lanes, worker } => info!(lanes, worker, "worker started"),
            Self::WorkerStopped { finished, handed_back, abandoned } => {
                info!(finished, handed_back, abandoned, "worker stopped");
            }
            Self::LaneStarted { lane, stream, consumer, slots } => {
                info!(lane, stream, consumer, slots, "lane pulls");
            }
            Self::Draining { lane, held, grace } => {
                info!(lane, held, grace_s = grace.as_secs(), "lane drains: no new pulls, what is held is finished");
            }
            Self::Shortfall { what } => warn!(what, "set-up falls short of production durability"),
            Self::UnknownsUnread { what } => {
                warn!(what, "payments in doubt and tracked ones cannot be counted; their metrics stand still")
            }
            Self::Stranded { what } => error!(what, "payments wait for a rail that their lane has no more"),
            Self::OpsListening { address } => info!(address, "operations HTTP listens"),
        }
    }
}

/// The connection, the consumer, the pulls.
#[derive(Debug)]
pub(crate) enum Link<'a> {
    Connected { epoch: u64 },
    Disconnected,
    LameDuck,
    ConnectionTrouble { what: &'a str },
    Denied { what: &'a str },
    SlowConsumer,
    PullEnded { lane: &'a str, reason: &'static str, detail: &'a str, again_in: Duration },
    Stalled { lane: &'a str, pending: u64, remedy: &'static str },
    ConsumerChanged { lane: &'a str, what: &'static str, dropped: u32 },
    ConsumerMissing { lane: &'a str, detail: &'a str },
    ConsumerVerified { lane: &'a str },
    ClockOff { lane: &'a str, skew_ms: i64 },
    ClockRight { lane: &'a str },
    SpansNotTaken { what: &'a str },
    SpansTaken,
}

impl Link<'_> {
    pub(crate) fn emit(&self) {
        match *self {
            Self::Connected { epoch } => info!(epoch, "connected to NATS"),
            Self::Disconnected => warn!("connection to NATS lost; nothing is sent until it is back"),
            Self::LameDuck => warn!("the NATS server goes into lame duck mode; the client moves to another one"),
            Self::ConnectionTrouble { what } => warn!(what, "trouble on the NATS connection"),
            Self::Denied { what } => error!(what, "the broker denies a permission that this worker needs"),
            Self::SlowConsumer => error!("the client dropped messages; they come back after ack_wait"),
            Self::PullEnded { lane, reason, detail, again_in } => {
                warn!(lane, reason, detail, again_in_ms = millis(again_in), "pull ended early");
            }
            Self::Stalled { lane, pending, remedy } => {
                warn!(lane, pending, remedy, "events are pending and none is delivered");
            }
            Self::ConsumerChanged { lane, what, dropped } => {
                error!(
                    lane,
                    what, dropped, "stream or consumer was recreated: held events are dropped without an answer"
                );
            }
            Self::ConsumerMissing { lane, detail } => error!(lane, detail, "the consumer cannot be verified; no pulls"),
            Self::ConsumerVerified { lane } => info!(lane, "consumer verified"),
            Self::ClockOff { lane, skew_ms } => {
                error!(lane, skew_ms, "this machine's clock is more than 2 s from the broker's; no pulls");
            }
            Self::ClockRight { lane } => info!(lane, "clock agrees with the broker's again"),
            Self::SpansNotTaken { what } => warn!(what, "the OTLP endpoint takes no spans; they are dropped"),
            Self::SpansTaken => info!("the OTLP endpoint takes spans again"),
        }
    }
}

/// What becomes of events, and the gate.
#[derive(Debug)]
pub(crate) enum Flow<'a> {
    BreakerChanged { lane: &'a str, breaker: &'static str, from: &'static str, to: &'static str, why: &'a str },
    BreakerForced { lane: &'a str, from: &'static str, to: &'static str, who: &'a str, why: &'a str, record: u64 },
    ControlRefused { peer: &'a str, why: &'a str },
    GateShut { lane: &'a str, reason: &'static str },
    GateOpen { lane: &'a str, reason: &'static str },
    StoreLost { lane: &'a str, detail: &'a str },
    OutcomeNotConfirmed { lane: &'a str, event: &'a str, detail: &'a str },
    DeadLetterNotConfirmed { lane: &'a str, event: &'a str, detail: &'a str },
    DeadLettered { lane: &'a str, event: &'a str, code: &'static str, reason: &'a str },
    HandedBack { lane: &'a str, event: &'a str, why: &'a str, delay: Duration },
    NewerContract { lane: &'a str, version: u32 },
    ForeignEvent { lane: &'a str, event: &'a str },
    HandlerCrashed { lane: &'a str, event: &'a str, starts: u32 },
    HandlerPanicked { lane: &'a str, event: &'a str, starts: u32 },
    AckUnknown { lane: &'a str, event: &'a str, detail: &'a str },
    OldEvent { lane: &'a str, age: Duration, max_age: Duration },
}

impl Flow<'_> {
    pub(crate) fn emit(&self) {
        match *self {
            Self::BreakerChanged { lane, breaker, from, to, why } => {
                warn!(lane, breaker, from, to, why, "breaker changed");
            }
            Self::BreakerForced { lane, from, to, who, why, record } => {
                warn!(lane, from, to, who, why, record, "an operator took the settlement breaker in hand");
            }
            Self::ControlRefused { peer, why } => warn!(peer, why, "refused to let somebody steer this worker"),
            Self::GateShut { lane, reason } => warn!(lane, reason, "gate shut: no pulls"),
            Self::GateOpen { lane, reason } => info!(lane, reason, "gate open again"),
            Self::StoreLost { lane, detail } => warn!(lane, detail, "the store did not serve"),
            Self::OutcomeNotConfirmed { lane, event, detail } => {
                warn!(lane, event, detail, "outcome event got no confirmation; the event stays un-acknowledged");
            }
            Self::DeadLetterNotConfirmed { lane, event, detail } => {
                error!(lane, event, detail, "dead letter got no confirmation; the original stays in the stream");
            }
            Self::DeadLettered { lane, event, code, reason } => warn!(lane, event, code, reason, "dead-lettered"),
            Self::HandedBack { lane, event, why, delay } => {
                info!(lane, event, why, delay_ms = millis(delay), "handed back");
            }
            Self::NewerContract { lane, version } => {
                error!(lane, version, "an event names a newer contract than this worker reads; start a newer worker");
            }
            Self::ForeignEvent { lane, event } => {
                error!(
                    lane,
                    event,
                    "this event's number is on record as another message's: the server lost the end of its stream; \
                     publish the event again and acknowledge this one by hand"
                );
            }
            Self::HandlerCrashed { lane, event, starts } => {
                error!(lane, event, starts, "the last process ended while it read this event alone");
            }
            Self::HandlerPanicked { lane, event, starts } => {
                error!(lane, event, starts, "handling this event panicked; please report it as a bug of Acquit");
            }
            Self::AckUnknown { lane, event, detail } => {
                info!(
                    lane,
                    event, detail, "acknowledgement not confirmed; the event may come again and is found settled"
                );
            }
            Self::OldEvent { lane, age, max_age } => {
                error!(
                    lane,
                    age_s = age.as_secs(),
                    max_age_s = max_age.as_secs(),
                    "an un-acknowledged event is older than a quarter of the stream's max_age: it will be deleted"
                );
            }
        }
    }
}

/// What payments wait for that do not go on by themselves, and what was said about them.
#[derive(Debug)]
pub(crate) enum Waits<'a> {
    Unknown { lane: &'a str, payment: &'a str },
    TrackedUnreadable { lane: &'a str, event: &'a str },
    HeldForPerson { lane: &'a str, payment: &'a str },
    Contradicted { lane: &'a str, payment: &'a str },
    Resolved { payment: &'a str, as_what: &'a str, who: &'a str, why: &'a str, record: u64 },
    HeldByCheck { lane: &'a str, payment: &'a str, case: Option<&'a str> },
    CheckUnavailable { lane: &'a str, event: &'a str, why: &'static str },
    HeldNotTold { lane: &'a str, payment: &'a str, detail: &'a str },
}

impl Waits<'_> {
    pub(crate) fn emit(&self) {
        match *self {
            Self::Unknown { lane, payment } => {
                error!(lane, payment, "the rail has not said what became of this payment")
            }
            Self::Contradicted { lane, payment } => {
                error!(lane, payment, "the rail says it settled what ended as rejected: a person must look");
            }
            Self::Resolved { payment, as_what, who, why, record } => {
                warn!(payment, as_what, who, why, record, "a payment in doubt was resolved by hand");
            }
            Self::TrackedUnreadable { lane, event } => {
                error!(lane, event, "the tracker holds an event that this worker's decoder does not read");
            }
            Self::HeldForPerson { lane, payment } => error!(lane, payment, "held for a person"),
            Self::HeldByCheck { lane, payment, case } => {
                warn!(lane, payment, case, "the check before settlement holds this payment for a person");
            }
            Self::CheckUnavailable { lane, event, why } => {
                warn!(lane, event, why, "the check before settlement did not answer; the payment waits");
            }
            Self::HeldNotTold { lane, payment, detail } => {
                warn!(lane, payment, detail, "the event that tells of a held payment got no confirmation");
            }
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
