//! A request on its way through the writer. Whatever happens to it, it answers and gives its value back.

#![expect(clippy::result_large_err, reason = "values go back with the error, by design")]

use std::time::Duration;

use tokio::sync::oneshot;

use super::super::decide::{Ask, Verdict};
use super::super::{Origin, Route, StoreLost};
use super::proof::{Condemned, Doubt, Intent, Recorded};
use super::{Concluded, NotCondemned, Peek, Stand};
use crate::domain::{Answer, DeadReason, EventId, Finding, PaymentId};
use crate::intake::Judged;

pub(super) type Opened = Result<Stand, (StoreLost, Origin, Box<Judged>)>;
pub(super) type Peeked = Result<Peek, (StoreLost, Origin, Box<Judged>)>;
pub(super) type Resumed = Result<Stand, (StoreLost, Doubt)>;
pub(super) type ConcludedOr = Result<Concluded, (StoreLost, Doubt)>;

pub(super) enum Body {
    Open {
        origin: Origin,
        judged: Box<Judged>,
        route: Route,
        reply: oneshot::Sender<Opened>,
    },
    Peek {
        origin: Origin,
        judged: Box<Judged>,
        route: Route,
        reply: oneshot::Sender<Peeked>,
    },
    Conclude {
        doubt: Doubt,
        answer: Answer,
        reply: oneshot::Sender<ConcludedOr>,
    },
    Resume {
        doubt: Doubt,
        finding: Finding,
        longest: Duration,
        reply: oneshot::Sender<Resumed>,
    },
    Condemn {
        origin: Origin,
        why: DeadReason,
        payment: Option<PaymentId>,
        reply: oneshot::Sender<Result<Condemned, NotCondemned>>,
    },
    Start {
        event: EventId,
        reply: oneshot::Sender<Result<u32, StoreLost>>,
    },
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// Answers `Closed` when it is dropped unanswered, as on a panic of the writer.
pub(super) struct Request(Option<Body>);

impl Request {
    pub(super) fn new(body: Body) -> Self {
        Self(Some(body))
    }

    /// What it asks of the rows; `None` for what is not the database's business.
    pub(super) fn ask(&self) -> Option<Ask<'_>> {
        Some(match self.0.as_ref()? {
            Body::Open { origin, judged, route, .. } => Ask::Open { origin, judged, route, begin: true },
            Body::Peek { origin, judged, route, .. } => Ask::Open { origin, judged, route, begin: false },
            Body::Conclude { doubt, answer, .. } => Ask::Conclude { with: doubt.in_hand(), answer },
            Body::Resume { doubt, finding, longest, .. } => {
                Ask::Resume { with: doubt.in_hand(), finding, longest: *longest }
            }
            Body::Condemn { origin, why, payment, .. } => Ask::Condemn { origin, why, payment: payment.as_ref() },
            Body::Start { event, .. } => Ask::Start { event },
            Body::Stop { .. } => return None,
        })
    }

    /// The event it is about: groups are applied in stream order.
    pub(super) fn event(&self) -> Option<&EventId> {
        match self.0.as_ref()? {
            Body::Open { origin, .. } | Body::Peek { origin, .. } | Body::Condemn { origin, .. } => Some(&origin.event),
            Body::Conclude { doubt, .. } | Body::Resume { doubt, .. } => Some(doubt.event()),
            Body::Start { event, .. } => Some(event),
            Body::Stop { .. } => None,
        }
    }

    pub(super) fn stop(&mut self) -> Option<oneshot::Sender<()>> {
        match self.0.take() {
            Some(Body::Stop { reply }) => Some(reply),
            other => {
                self.0 = other;
                None
            }
        }
    }

    pub(super) fn answer(mut self, end: Result<Verdict, StoreLost>) {
        if let Some(body) = self.0.take() {
            reply(body, end);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(body) = self.0.take() {
            reply(body, Err(StoreLost::Closed));
        }
    }
}

// An answer that nobody waits for any more is dropped: the event comes back and the rows say what stands.
fn reply(body: Body, end: Result<Verdict, StoreLost>) {
    match body {
        Body::Open { origin, judged, reply, .. } => drop(reply.send(opened(origin, judged, end))),
        Body::Peek { origin, judged, reply, .. } => drop(reply.send(peeked(origin, judged, end))),
        Body::Conclude { doubt, reply, .. } => drop(reply.send(concluded(doubt, end))),
        Body::Resume { doubt, reply, .. } => drop(reply.send(resumed(doubt, end))),
        Body::Condemn { origin, reply, .. } => drop(reply.send(condemned(origin, end))),
        Body::Start { reply, .. } => {
            drop(reply.send(end.and_then(|verdict| {
                if let Verdict::Starts(count) = verdict { Ok(count) } else { Err(unfit(&verdict)) }
            })))
        }
        Body::Stop { reply } => drop(reply.send(())),
    }
}

fn opened(origin: Origin, judged: Box<Judged>, end: Result<Verdict, StoreLost>) -> Opened {
    match end {
        Err(lost) => Err((lost, origin, judged)),
        Ok(Verdict::Final { outcome, duplicate }) => Ok(Stand::Final(Recorded::mint(&origin, outcome, duplicate))),
        Ok(Verdict::Condemned(row)) => Ok(Stand::Condemned(Condemned::mint(row))),
        Ok(Verdict::Elsewhere { until }) => Ok(Stand::Elsewhere { until }),
        Ok(Verdict::Doubt(ticket) | Verdict::Held(ticket)) => Ok(Stand::Doubt(Doubt::mint(origin, *judged, ticket))),
        Ok(Verdict::Go(ticket)) => match *judged {
            Judged::Valid(valid) => Ok(Stand::Go(Intent::mint(origin, valid, ticket))),
            Judged::Refused(_) => Err((unfit(&Verdict::Go(ticket)), origin, judged)),
        },
        Ok(other) => Err((unfit(&other), origin, judged)),
    }
}

fn peeked(origin: Origin, judged: Box<Judged>, end: Result<Verdict, StoreLost>) -> Peeked {
    match end {
        Ok(Verdict::Nothing) => Ok(Peek::Nothing(judged)),
        end => opened(origin, judged, end).map(|stand| Peek::Stands(Box::new(stand))),
    }
}

fn concluded(doubt: Doubt, end: Result<Verdict, StoreLost>) -> ConcludedOr {
    match end {
        Err(lost) => Err((lost, doubt)),
        Ok(Verdict::Final { outcome, duplicate }) => {
            Ok(Concluded::Final(Recorded::mint(doubt.origin(), outcome, duplicate)))
        }
        Ok(Verdict::Released) => Ok(Concluded::Released),
        Ok(Verdict::Elsewhere { until }) => Ok(Concluded::Elsewhere { until }),
        Ok(Verdict::Doubt(ticket)) => Ok(Concluded::Doubt(doubt.renewed(ticket))),
        Ok(Verdict::Held(ticket)) => Ok(Concluded::Held(doubt.renewed(ticket))),
        Ok(other) => Err((unfit(&other), doubt)),
    }
}

fn resumed(doubt: Doubt, end: Result<Verdict, StoreLost>) -> Resumed {
    match end {
        Err(lost) => Err((lost, doubt)),
        Ok(Verdict::Final { outcome, duplicate }) => {
            Ok(Stand::Final(Recorded::mint(doubt.origin(), outcome, duplicate)))
        }
        Ok(Verdict::Elsewhere { until }) => Ok(Stand::Elsewhere { until }),
        Ok(Verdict::Doubt(ticket) | Verdict::Held(ticket)) => Ok(Stand::Doubt(doubt.renewed(ticket))),
        Ok(Verdict::Go(ticket)) => match doubt.renewed(ticket).into_intent() {
            Ok(intent) => Ok(Stand::Go(intent)),
            Err(doubt) => Err((StoreLost::Failed("an attempt was allowed for a refused payment".to_owned()), doubt)),
        },
        Ok(other) => Err((unfit(&other), doubt)),
    }
}

fn condemned(origin: Origin, end: Result<Verdict, StoreLost>) -> Result<Condemned, NotCondemned> {
    match end {
        Err(lost) => Err(NotCondemned::Lost(lost, origin)),
        Ok(Verdict::Condemned(row)) => Ok(Condemned::mint(row)),
        Ok(Verdict::InDoubt) => Err(NotCondemned::InDoubt(origin)),
        Ok(Verdict::Ended) => Err(NotCondemned::Ended(origin)),
        Ok(other) => Err(NotCondemned::Lost(unfit(&other), origin)),
    }
}

/// An answer that the request cannot have: the rows are not those it came from, or a bug of ours.
fn unfit(verdict: &Verdict) -> StoreLost {
    if matches!(verdict, Verdict::Foreign) {
        StoreLost::Foreign
    } else {
        StoreLost::Failed("the decision does not fit".to_owned())
    }
}
