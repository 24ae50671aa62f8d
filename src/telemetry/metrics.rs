//! The metrics: every name with its help, its labels and its buckets, in one place. Handles are looked up once per
//! lane; each series starts at zero so that a rate over the first event is right.

mod checks;
mod help;
mod process;
mod rails;
mod spans;
mod tracked;
mod unknown;

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::domain::Code;

pub(crate) use checks::Checked;
pub(super) use help::describe;
pub(crate) use process::Process;
pub(super) use spans::{Dropped, Spans};
pub(crate) use tracked::{Tracked, TrackedLane};
pub(crate) use unknown::{DoubtsSeen, Unknowns};

/// Upper bounds of every duration histogram, in seconds.
pub(super) const SECONDS: [f64; 19] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
    10.0,
];
/// Upper bounds of the age histogram, in seconds: an outage makes ages of hours.
pub(super) const AGES: [f64; 12] = [0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0];
/// Upper bounds of the group-size histogram, in requests.
pub(super) const SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
/// The one histogram of ages.
pub(super) const AGE: &str = "acquit_message_age_seconds";
/// The one histogram of sizes.
pub(super) const GROUP: &str = "acquit_store_group_size";

/// How an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finished {
    Settled,
    Rejected,
    Duplicate,
    DeadLettered,
    /// Acknowledged: the tracker owns its payment.
    Tracked,
    /// Handed back with a delay.
    Retried,
    /// Dropped without an answer to the broker; it comes back after `ack_wait`.
    Abandoned,
}

impl Finished {
    /// As metrics and spans say it.
    pub(super) fn name(self) -> &'static str {
        FINISHED.iter().find(|(how, _)| *how == self).map_or("", |(_, name)| *name)
    }
}

/// Why a lane does not pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Paused {
    /// The settlement breaker.
    Settlement,
    /// Outcome events get no confirmation.
    Outcomes,
    /// Dead letters get no confirmation.
    DeadLetters,
    /// The parked budget is full.
    Parked,
    /// The tracker has reached its bound.
    Tracker,
    /// No connection, no consumer, or not verified since it changed.
    Broker,
    /// The worker's clock is off.
    Clock,
    /// An operator said so.
    Operator,
    /// Shutting down.
    Drain,
    /// The check before settlement does not answer.
    Checks,
}

impl Paused {
    pub(crate) const ALL: [Paused; 10] = [
        Self::Settlement,
        Self::Outcomes,
        Self::DeadLetters,
        Self::Parked,
        Self::Tracker,
        Self::Broker,
        Self::Clock,
        Self::Operator,
        Self::Drain,
        Self::Checks,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Settlement => "settlement",
            Self::Outcomes => "outcomes",
            Self::DeadLetters => "dead_letters",
            Self::Parked => "parked",
            Self::Tracker => "tracker",
            Self::Broker => "broker",
            Self::Clock => "clock",
            Self::Operator => "operator",
            Self::Drain => "drain",
            Self::Checks => "checks",
        }
    }
}

const FINISHED: [(Finished, &str); 7] = [
    (Finished::Settled, "settled"),
    (Finished::Rejected, "rejected"),
    (Finished::Duplicate, "duplicate"),
    (Finished::DeadLettered, "dead_lettered"),
    (Finished::Tracked, "tracked"),
    (Finished::Retried, "retried"),
    (Finished::Abandoned, "abandoned"),
];

/// The handles of one lane.
pub(crate) struct LaneMetrics {
    lane: String,
    received_first: Counter,
    received_again: Counter,
    finished: [Counter; 7],
    took: [Histogram; 7],
    age: Histogram,
    judging: Histogram,
    settling_ok: Histogram,
    settling_lost: Histogram,
    settle_ok: Counter,
    settle_lost: Counter,
    ack_ok: Counter,
    ack_unknown: Counter,
    ack_took: Histogram,
    nak_ok: Counter,
    nak_unknown: Counter,
    term_ok: Counter,
    term_unknown: Counter,
    beat_ok: Counter,
    beat_unknown: Counter,
    bury_failed: Counter,
    /// Events of this process whose rail has not said what became of them; one gauge over all lanes.
    pub(crate) unknown: Gauge,
    pub(crate) in_flight: Gauge,
    pub(crate) in_flight_limit: Gauge,
    pub(crate) pulls_outstanding: Gauge,
    pub(crate) pending: Gauge,
    pub(crate) ack_pending: Gauge,
    pub(crate) redelivered: Gauge,
    pub(crate) oldest_unacked: Gauge,
    pub(crate) scaling_pressure: Gauge,
    last_delivery: Gauge,
    last_settlement: Gauge,
}

/// What was sent about a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckKind {
    Ack,
    Nak,
    Term,
    InProgress,
}

impl LaneMetrics {
    pub(crate) fn new(lane: &str, stream: &str, consumer: &str) -> Self {
        zero_lane(lane);
        let lane = lane.to_owned();
        let received = |delivery: &'static str| {
            counter!("acquit_messages_received_total", "lane" => lane.clone(), "stream" => stream.to_owned(),
                "consumer" => consumer.to_owned(), "delivery" => delivery)
        };
        let ack = |kind: &'static str, result: &'static str| counter!("acquit_acks_total", "lane" => lane.clone(), "kind" => kind, "result" => result);
        let requests = |outcome: &'static str| counter!("acquit_settlement_requests_total", "lane" => lane.clone(), "outcome" => outcome);
        let settling = |outcome: &'static str| histogram!("acquit_settlement_duration_seconds", "lane" => lane.clone(), "outcome" => outcome);
        Self {
            received_first: received("first"),
            received_again: received("redelivery"),
            finished: FINISHED
                .map(|(_, name)| counter!("acquit_messages_finished_total", "lane" => lane.clone(), "outcome" => name)),
            took: FINISHED.map(
                |(_, name)| histogram!("acquit_processing_duration_seconds", "lane" => lane.clone(), "outcome" => name),
            ),
            age: histogram!(AGE, "lane" => lane.clone()),
            judging: histogram!("acquit_validation_duration_seconds", "lane" => lane.clone()),
            settling_ok: settling("success"),
            settling_lost: settling("lost"),
            settle_ok: requests("success"),
            settle_lost: requests("lost"),
            ack_ok: ack("ack", "ok"),
            ack_unknown: ack("ack", "unknown"),
            ack_took: histogram!("acquit_ack_duration_seconds", "lane" => lane.clone(), "kind" => "ack"),
            nak_ok: ack("nak", "ok"),
            nak_unknown: ack("nak", "unknown"),
            term_ok: ack("term", "ok"),
            term_unknown: ack("term", "unknown"),
            beat_ok: ack("in_progress", "ok"),
            beat_unknown: ack("in_progress", "unknown"),
            bury_failed: counter!("acquit_dead_letter_publish_failures_total", "lane" => lane.clone()),
            unknown: gauge!("acquit_settlement_unknown"),
            in_flight: gauge!("acquit_messages_in_flight", "lane" => lane.clone()),
            in_flight_limit: gauge!("acquit_in_flight_limit", "lane" => lane.clone()),
            pulls_outstanding: gauge!("acquit_pulls_outstanding", "lane" => lane.clone()),
            pending: gauge!("acquit_consumer_pending_messages", "lane" => lane.clone()),
            ack_pending: gauge!("acquit_consumer_ack_pending_messages", "lane" => lane.clone()),
            redelivered: gauge!("acquit_consumer_redelivered_messages", "lane" => lane.clone()),
            oldest_unacked: gauge!("acquit_oldest_unacked_age_seconds", "lane" => lane.clone()),
            scaling_pressure: gauge!("acquit_scaling_pressure", "lane" => lane.clone()),
            last_delivery: gauge!("acquit_last_delivery_timestamp_seconds", "lane" => lane.clone()),
            last_settlement: gauge!("acquit_last_settlement_timestamp_seconds", "lane" => lane.clone()),
            lane,
        }
    }

    pub(crate) fn received(&self, first: bool, age: Duration, at_s: f64) {
        if first {
            self.received_first.increment(1)
        } else {
            self.received_again.increment(1)
        }
        self.age.record(age);
        self.last_delivery.set(at_s);
    }

    pub(crate) fn finished(&self, how: Finished, took: Duration, at_s: f64) {
        for ((kind, _), (count, time)) in FINISHED.iter().zip(self.finished.iter().zip(&self.took)) {
            if *kind == how {
                count.increment(1);
                time.record(took);
            }
        }
        if how == Finished::Settled {
            self.last_settlement.set(at_s);
        }
    }

    pub(crate) fn judged(&self, took: Duration) {
        self.judging.record(took);
    }

    pub(crate) fn settlement(&self, served: bool, took: Duration) {
        if served {
            self.settle_ok.increment(1);
            self.settling_ok.record(took);
        } else {
            self.settle_lost.increment(1);
            self.settling_lost.record(took);
        }
    }

    pub(crate) fn answered(&self, kind: AckKind, ok: bool, took: Duration) {
        let count = match (kind, ok) {
            (AckKind::Ack, true) => &self.ack_ok,
            (AckKind::Ack, false) => &self.ack_unknown,
            (AckKind::Nak, true) => &self.nak_ok,
            (AckKind::Nak, false) => &self.nak_unknown,
            (AckKind::Term, true) => &self.term_ok,
            (AckKind::Term, false) => &self.term_unknown,
            (AckKind::InProgress, true) => &self.beat_ok,
            (AckKind::InProgress, false) => &self.beat_unknown,
        };
        count.increment(1);
        if kind == AckKind::Ack {
            self.ack_took.record(took);
        }
    }

    pub(crate) fn validation_failed(&self, code: Code) {
        counter!("acquit_validation_failures_total", "lane" => self.lane.clone(), "reason" => code.as_str())
            .increment(1);
    }

    pub(crate) fn dead_lettered(&self, code: Code) {
        counter!("acquit_dead_letters_total", "lane" => self.lane.clone(), "reason" => code.as_str()).increment(1);
    }

    /// A tracked payment's outcome is told.
    pub(crate) fn tracked_ended(&self, outcome: &'static str) {
        counter!("acquit_tracked_ended_total", "lane" => self.lane.clone(), "outcome" => outcome).increment(1);
    }

    pub(crate) fn bury_failed(&self) {
        self.bury_failed.increment(1);
    }

    pub(crate) fn retried(&self, reason: &'static str) {
        counter!("acquit_retries_total", "lane" => self.lane.clone(), "reason" => reason).increment(1);
    }

    pub(crate) fn pull_error(&self, reason: &'static str) {
        counter!("acquit_pull_errors_total", "lane" => self.lane.clone(), "reason" => reason).increment(1);
    }

    pub(crate) fn paused(&self, why: Paused, is: bool) {
        gauge!("acquit_pulls_paused", "lane" => self.lane.clone(), "reason" => why.name()).set(f64::from(u8::from(is)));
    }

    pub(crate) fn paused_for(&self, why: Paused, seconds: u64) {
        counter!("acquit_paused_seconds_total", "lane" => self.lane.clone(), "reason" => why.name()).increment(seconds);
    }

    pub(crate) fn breaker(&self, breaker: &'static str, state: &'static str) {
        for name in BREAKER_STATES {
            gauge!("acquit_breaker_state", "lane" => self.lane.clone(), "breaker" => breaker, "state" => name)
                .set(f64::from(u8::from(name == state)));
        }
    }

    pub(crate) fn breaker_changed(&self, breaker: &'static str, from: &'static str, to: &'static str) {
        counter!("acquit_breaker_transitions_total", "lane" => self.lane.clone(), "breaker" => breaker, "from" => from,
            "to" => to)
        .increment(1);
        self.breaker(breaker, to);
    }

    pub(crate) fn breaker_call(&self, breaker: &'static str, result: &'static str) {
        counter!("acquit_breaker_calls_total", "lane" => self.lane.clone(), "breaker" => breaker, "result" => result)
            .increment(1);
    }
}

/// The breaker's states as metric labels.
pub(crate) const BREAKER_STATES: [&str; 6] = ["closed", "open", "half_open", "ramping", "forced_open", "forced_closed"];
/// The breakers of a lane as metric labels.
pub(crate) const BREAKERS: [&str; 5] = ["settlement", "outcomes", "dead_letters", "inquiries", "checks"];

/// Why a pull may end in an error, as metric labels.
const PULL_ERRORS: [&str; 10] = [
    "send",
    "silent",
    "consumer_deleted",
    "leadership_change",
    "server_shutdown",
    "limit",
    "terminated",
    "pinned",
    "no_responders",
    "unknown_status",
];

/// The changes a breaker makes by itself, from and to.
const CHANGES: [(&str, &str); 7] = [
    ("closed", "open"),
    ("open", "half_open"),
    ("half_open", "open"),
    ("half_open", "ramping"),
    ("half_open", "closed"),
    ("ramping", "open"),
    ("ramping", "closed"),
];

fn zero_lane(lane: &str) {
    for reason in PULL_ERRORS {
        counter!("acquit_pull_errors_total", "lane" => lane.to_owned(), "reason" => reason).increment(0);
    }
    for code in Code::ALL {
        for name in ["acquit_validation_failures_total", "acquit_dead_letters_total"] {
            counter!(name, "lane" => lane.to_owned(), "reason" => code.as_str()).increment(0);
        }
    }
    for outcome in ["settled", "rejected"] {
        counter!("acquit_tracked_ended_total", "lane" => lane.to_owned(), "outcome" => outcome).increment(0);
    }
    for why in Paused::ALL {
        gauge!("acquit_pulls_paused", "lane" => lane.to_owned(), "reason" => why.name()).set(0.0);
        counter!("acquit_paused_seconds_total", "lane" => lane.to_owned(), "reason" => why.name()).increment(0);
    }
    checks::zero(lane);
    for breaker in BREAKERS {
        zero_breaker(lane, breaker);
    }
}

fn zero_breaker(lane: &str, breaker: &'static str) {
    for (from, to) in CHANGES {
        counter!("acquit_breaker_transitions_total", "lane" => lane.to_owned(), "breaker" => breaker,
            "from" => from, "to" => to)
        .increment(0);
    }
    for result in ["ok", "fail"] {
        counter!("acquit_breaker_calls_total", "lane" => lane.to_owned(), "breaker" => breaker, "result" => result)
            .increment(0);
    }
}
