//! What is asked of the store, and what it answers before that is durable.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::book::BookPolicy;
use super::super::resolution::{Refusal, Resolution, Resolved};
use super::super::rows::{EventRow, PaymentRow};
use super::super::tracker::{Due, Message, TrackLimits};
use super::super::{Note, Origin, Route};
use crate::domain::{Answer, DeadReason, EventId, Finding, Money, Outcome, Payment, PaymentId};
use crate::intake::{Judged, Refused};

/// What does not change from group to group.
#[derive(Debug, Clone)]
pub(in crate::store) struct Terms {
    pub(in crate::store) policy: BookPolicy,
    /// This process, unlike any other that ever held a claim in this store.
    pub(in crate::store) owner: Box<str>,
    pub(in crate::store) claim: Duration,
}

/// A judgement without its wrapper.
#[derive(Clone, Copy)]
pub(in crate::store) enum Asked<'a> {
    Valid(&'a Payment),
    Refused(&'a Refused),
}

impl<'a> Asked<'a> {
    pub(in crate::store) fn of(judged: &'a Judged) -> Self {
        match judged {
            Judged::Valid(valid) => Self::Valid(valid.payment()),
            Judged::Refused(refused) => Self::Refused(refused),
        }
    }
}

/// One attempt in hand: which, under which fence.
#[derive(Debug, Clone)]
pub(in crate::store) struct Ticket {
    pub(in crate::store) row: i64,
    pub(in crate::store) payment_id: PaymentId,
    pub(in crate::store) rail: Arc<str>,
    pub(in crate::store) leg: u8,
    pub(in crate::store) attempt: u32,
    pub(in crate::store) fence: i64,
    pub(in crate::store) started_at: Timestamp,
    pub(in crate::store) until: Timestamp,
    pub(in crate::store) not_found: u32,
    pub(in crate::store) held: bool,
}

/// What is asked of the store.
pub(in crate::store) enum Ask<'a> {
    /// `begin`: where nothing stands, the payment is claimed or posted.
    Open {
        origin: &'a Origin,
        judged: &'a Judged,
        route: &'a Route,
        begin: bool,
    },
    Conclude {
        with: InHand<'a>,
        answer: &'a Answer,
    },
    Resume {
        with: InHand<'a>,
        finding: &'a Finding,
        /// When the inquiry was sent, by this process's own clock.
        asked: Instant,
        longest: Duration,
    },
    Condemn {
        origin: &'a Origin,
        why: &'a DeadReason,
        payment: Option<&'a PaymentId>,
    },
    Start {
        event: &'a EventId,
    },
    Resolve {
        resolution: &'a Resolution,
    },
    Track {
        with: InHand<'a>,
        message: &'a Message,
        limits: &'a TrackLimits,
    },
    Sweep {
        due: &'a Due,
        judged: Option<&'a Judged>,
        route: &'a Route,
    },
    Told {
        event: &'a EventId,
    },
}

/// What the holder of an attempt knows.
#[derive(Clone, Copy)]
pub(in crate::store) struct InHand<'a> {
    pub(in crate::store) origin: &'a Origin,
    pub(in crate::store) asked: Asked<'a>,
    pub(in crate::store) ticket: &'a Ticket,
    pub(in crate::store) notes: &'a [Note],
}

/// What is answered, before it is durable. The writer makes proofs of it once it is.
#[derive(Debug)]
pub(in crate::store) enum Verdict {
    Final {
        outcome: Box<Outcome>,
        duplicate: bool,
    },
    /// Nothing stands, and nothing was to be begun.
    Nothing,
    Go(Ticket),
    Doubt(Ticket),
    Held(Ticket),
    Released,
    Elsewhere {
        until: Timestamp,
    },
    Condemned(Box<EventRow>),
    /// Not condemned: an attempt has no conclusive answer.
    InDoubt,
    /// Not condemned: the event has another end already.
    Ended,
    Starts(u32),
    Resolved(Result<Resolved, Refusal>),
    /// The tracker owns the payment, and the event is the one that it stands for.
    Tracked(Box<PaymentRow>),
    /// Not tracked: the tracker has no room for so much.
    Full {
        amount: Money,
    },
    /// Not tracked: it is for its event to go on.
    Untracked,
    /// The tracker holds the payment no more.
    Gone,
    /// The tracker knows that the outcome is told.
    Told,
    /// The rows contradict the request: the store is not the one that the request came from.
    Foreign,
}
