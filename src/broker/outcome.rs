//! Outcome events as they are published (`CONTRACT` 2): subject, message id and body.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use crate::domain::{Outcome, PaymentId, Reason, References, RefusedBy, Rejected, Settled};
use crate::store::{Doubt, Origin, Tracked};

#[derive(Serialize)]
pub(super) struct DeadLettered<'a> {
    pub(super) contract: u8,
    pub(super) payment_id: &'a PaymentId,
    pub(super) status: &'static str,
    pub(super) scheme: &'a str,
    pub(super) lane: &'a str,
    pub(super) reasons: &'a [Reason],
    pub(super) dead_letter: &'a str,
    pub(super) requested_at: Millis,
    pub(super) dead_lettered_at: Millis,
}

#[derive(Serialize)]
struct SettledBody<'a> {
    contract: u8,
    payment_id: &'a str,
    status: &'static str,
    scheme: &'a str,
    lane: &'a str,
    rail: &'a str,
    rail_ref: &'a str,
    amount: Amount,
    end_to_end_id: Option<&'a str>,
    instruction_id: Option<&'a str>,
    uetr: Option<&'a str>,
    requested_at: Millis,
    settled_at: Millis,
    late: bool,
    attempts: u32,
}

/// Why a payment has no outcome yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeldWhy {
    /// The rail neither credited nor returned it.
    ForPerson,
    /// The rail has not said what became of it within its longest execution time.
    LateRail,
    /// A check before settlement wants a person. Told like any other wait: nobody is to be tipped off.
    Check,
}

/// A payment that has no outcome yet.
pub(crate) struct Waiting<'a> {
    /// The event that asks.
    pub(crate) origin: &'a Origin,
    pub(crate) payment_id: &'a PaymentId,
    /// Its rail, or `book`.
    pub(crate) rail: &'a str,
    pub(crate) references: &'a References,
}

impl<'a> Waiting<'a> {
    /// One in doubt.
    pub(crate) fn of(doubt: &'a Doubt) -> Self {
        let (origin, references) = (doubt.origin(), doubt.references());
        Self { origin, payment_id: doubt.payment_id(), rail: doubt.rail(), references }
    }
}

impl HeldWhy {
    /// An ISO 20022 transaction status: what is held is not refused, so no reason code fits.
    fn reason(self) -> HeldReason {
        match self {
            Self::ForPerson => HeldReason {
                code: "BLCK",
                path: "",
                text: "neither credited nor returned: a person has to look into it",
            },
            Self::LateRail => {
                HeldReason { code: "PDNG", path: "", text: "the rail has not said in its time what became of it" }
            }
            Self::Check => HeldReason { code: "PDNG", path: "", text: "it has not been executed yet" },
        }
    }
}

#[derive(Serialize)]
struct HeldReason {
    code: &'static str,
    path: &'static str,
    text: &'static str,
}

#[derive(Serialize)]
struct HeldBody<'a> {
    contract: u8,
    payment_id: &'a str,
    status: &'static str,
    scheme: &'a str,
    lane: &'a str,
    rail: &'a str,
    reasons: [HeldReason; 1],
    end_to_end_id: Option<&'a str>,
    instruction_id: Option<&'a str>,
    uetr: Option<&'a str>,
    requested_at: Millis,
    held_at: Millis,
}

#[derive(Serialize)]
struct Amount {
    currency: &'static str,
    value: String,
}

#[derive(Serialize)]
struct RejectedBody<'a> {
    contract: u8,
    payment_id: &'a str,
    status: &'static str,
    by: RefusedBy,
    scheme: &'a str,
    lane: &'a str,
    reasons: &'a [Reason],
    end_to_end_id: Option<&'a str>,
    instruction_id: Option<&'a str>,
    uetr: Option<&'a str>,
    requested_at: Millis,
    rejected_at: Millis,
}

/// An instant in RFC 3339, UTC, three decimals.
pub(super) struct Millis(pub(super) Timestamp);

impl Serialize for Millis {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.3}", self.0))
    }
}

pub(super) fn to_json(body: &impl Serialize) -> Bytes {
    // Serializing strings and numbers into memory cannot fail; an empty body would be seen by every consumer.
    Bytes::from(serde_json::to_vec(body).unwrap_or_default())
}

/// Subject, message id and body of an outcome event (`CONTRACT` 2).
pub(super) fn describe(outcome: &Outcome) -> (String, String, Bytes) {
    match outcome {
        Outcome::Settled(settled) => (
            format!("payments.settled.{}.{}", settled.scheme, settled.order_key),
            format!("{}:settled", settled.payment_id),
            to_json(&settled_body(settled)),
        ),
        Outcome::Rejected(rejected) => {
            let id = match rejected.by {
                RefusedBy::Rail => format!("{}:rejected", rejected.payment_id),
                RefusedBy::Rules => {
                    let event = &rejected.event;
                    format!("{}:rejected:{}.{}", rejected.payment_id, event.created_ms, event.sequence)
                }
            };
            let subject = format!("payments.rejected.{}.{}", rejected.scheme, rejected.order_key);
            (subject, id, to_json(&rejected_body(rejected)))
        }
    }
}

/// The same of a payment that has no outcome yet; one message id, whatever it is held for.
pub(super) fn held(waiting: &Waiting<'_>, why: HeldWhy, now: Timestamp) -> (String, String, Bytes) {
    let Waiting { origin, payment_id, rail, references } = *waiting;
    let body = HeldBody {
        contract: 1,
        payment_id: payment_id.as_str(),
        status: "held",
        scheme: origin.scheme.as_str(),
        lane: origin.lane.as_str(),
        rail,
        reasons: [why.reason()],
        end_to_end_id: references.end_to_end_id.as_deref(),
        instruction_id: references.instruction_id.as_deref(),
        uetr: references.uetr.as_deref(),
        requested_at: Millis(origin.requested_at),
        held_at: Millis(now),
    };
    let subject = format!("payments.held.{}.{}", origin.scheme, origin.order_key);
    (subject, format!("{payment_id}:held"), to_json(&body))
}

/// The same where the tracker owns the payment: nobody needs to know who waits for the rail, so the message id is one.
pub(super) fn tracked(proof: &Tracked, now: Timestamp) -> (String, String, Bytes) {
    let (references, why) = (proof.references(), if proof.is_held() { HeldWhy::ForPerson } else { HeldWhy::LateRail });
    let body = HeldBody {
        contract: 1,
        payment_id: proof.payment_id().as_str(),
        status: "held",
        scheme: proof.scheme().as_str(),
        lane: proof.lane().as_str(),
        rail: proof.rail(),
        reasons: [why.reason()],
        end_to_end_id: references.end_to_end_id.as_deref(),
        instruction_id: references.instruction_id.as_deref(),
        uetr: references.uetr.as_deref(),
        requested_at: Millis(proof.requested_at()),
        held_at: Millis(now),
    };
    let subject = format!("payments.held.{}.{}", proof.scheme(), proof.order_key());
    (subject, format!("{}:held", proof.payment_id()), to_json(&body))
}

fn settled_body(settled: &Settled) -> SettledBody<'_> {
    SettledBody {
        contract: 1,
        payment_id: settled.payment_id.as_str(),
        status: "settled",
        scheme: settled.scheme.as_str(),
        lane: settled.lane.as_str(),
        rail: &settled.rail,
        rail_ref: settled.rail_ref.as_str(),
        amount: Amount { currency: settled.amount.currency().code(), value: settled.amount.value() },
        end_to_end_id: settled.references.end_to_end_id.as_deref(),
        instruction_id: settled.references.instruction_id.as_deref(),
        uetr: settled.references.uetr.as_deref(),
        requested_at: Millis(settled.requested_at),
        settled_at: Millis(settled.settled_at),
        late: settled.late,
        attempts: settled.attempts,
    }
}

fn rejected_body(rejected: &Rejected) -> RejectedBody<'_> {
    RejectedBody {
        contract: 1,
        payment_id: rejected.payment_id.as_str(),
        status: "rejected",
        by: rejected.by,
        scheme: rejected.scheme.as_str(),
        lane: rejected.lane.as_str(),
        reasons: &rejected.reasons,
        end_to_end_id: rejected.references.end_to_end_id.as_deref(),
        instruction_id: rejected.references.instruction_id.as_deref(),
        uetr: rejected.references.uetr.as_deref(),
        requested_at: Millis(rejected.requested_at),
        rejected_at: Millis(rejected.rejected_at),
    }
}
