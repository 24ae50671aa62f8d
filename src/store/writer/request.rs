//! A request on its way through the writer. Whatever happens to it, it answers and gives its value back.

#![expect(clippy::result_large_err, reason = "values go back with the error, by design")]

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::decide::{Ask, Verdict};
use super::super::tracker::{Due, DueList, DueWanted, Message, TrackLimits};
use super::super::{Origin, Resolution, Resolved, Route, StoreLost, Unresolved};
use super::proof::{Condemned, Doubt, Intent, Recorded};
use super::tracked::Tracked;
use super::{Concluded, Handed, NotCondemned, Peek, Stand};
use crate::domain::{Answer, DeadReason, EventId, Finding, PaymentId};
use crate::intake::Judged;

pub(super) type Opened = Result<Stand, (StoreLost, Origin, Box<Judged>)>;
pub(super) type Peeked = Result<Peek, (StoreLost, Origin, Box<Judged>)>;
pub(super) type Resumed = Result<Stand, (StoreLost, Doubt)>;
pub(super) type ConcludedOr = Result<Concluded, (StoreLost, Doubt)>;

pub(super) type HandedOr = Result<Handed, (StoreLost, Doubt)>;
pub(super) type Swept = Result<Option<Stand>, StoreLost>;

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
        asked: Instant,
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
    Resolve {
        resolution: Box<Resolution>,
        reply: oneshot::Sender<Result<Resolved, Unresolved>>,
    },
    Track {
        doubt: Doubt,
        message: Message,
        limits: TrackLimits,
        reply: oneshot::Sender<HandedOr>,
    },
    Sweep {
        due: Due,
        judged: Option<Box<Judged>>,
        route: Route,
        reply: oneshot::Sender<Swept>,
    },
    Told {
        event: EventId,
        reply: oneshot::Sender<Result<(), StoreLost>>,
    },
    Due {
        wanted: DueWanted,
        reply: oneshot::Sender<Result<DueList, StoreLost>>,
    },
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// A request for what is due, taken out of its wrapper.
pub(super) type DueRequest = (DueWanted, oneshot::Sender<Result<DueList, StoreLost>>);

/// A request that is not decided with others.
pub(super) enum Plain {
    /// What is due.
    Due(DueRequest),
    /// The end.
    Stop(oneshot::Sender<()>),
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
            Body::Resume { doubt, finding, asked, longest, .. } => {
                Ask::Resume { with: doubt.in_hand(), finding, asked: *asked, longest: *longest }
            }
            Body::Condemn { origin, why, payment, .. } => Ask::Condemn { origin, why, payment: payment.as_ref() },
            Body::Start { event, .. } => Ask::Start { event },
            Body::Resolve { resolution, .. } => Ask::Resolve { resolution },
            Body::Track { doubt, message, limits, .. } => Ask::Track { with: doubt.in_hand(), message, limits },
            Body::Sweep { due, judged, route, .. } => Ask::Sweep { due, judged: judged.as_deref(), route },
            Body::Told { event, .. } => Ask::Told { event },
            Body::Due { .. } | Body::Stop { .. } => return None,
        })
    }

    /// The event it is about: groups are applied in stream order.
    pub(super) fn event(&self) -> Option<&EventId> {
        match self.0.as_ref()? {
            Body::Open { origin, .. } | Body::Peek { origin, .. } | Body::Condemn { origin, .. } => Some(&origin.event),
            Body::Conclude { doubt, .. } | Body::Resume { doubt, .. } | Body::Track { doubt, .. } => {
                Some(doubt.event())
            }
            Body::Sweep { due, .. } => Some(&due.origin().event),
            Body::Start { event, .. } | Body::Told { event, .. } => Some(event),
            Body::Resolve { .. } | Body::Due { .. } | Body::Stop { .. } => None,
        }
    }

    /// Takes out what is not decided with others.
    pub(super) fn plain(&mut self) -> Option<Plain> {
        if !matches!(self.0, Some(Body::Due { .. } | Body::Stop { .. })) {
            return None;
        }
        match self.0.take() {
            Some(Body::Stop { reply }) => Some(Plain::Stop(reply)),
            Some(Body::Due { wanted, reply }) => Some(Plain::Due((wanted, reply))),
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
        Body::Resolve { reply, .. } => drop(reply.send(resolved(end))),
        Body::Track { doubt, reply, .. } => drop(reply.send(handed(doubt, end))),
        Body::Sweep { due, judged, reply, .. } => drop(reply.send(swept(due.origin().clone(), judged, end))),
        Body::Told { reply, .. } => drop(reply.send(
            end.and_then(|verdict| if matches!(verdict, Verdict::Told) { Ok(()) } else { Err(unfit(&verdict)) }),
        )),
        Body::Due { reply, .. } => drop(reply.send(Err(end.err().unwrap_or(StoreLost::Closed)))),
        Body::Stop { reply } => drop(reply.send(())),
    }
}

fn handed(doubt: Doubt, end: Result<Verdict, StoreLost>) -> HandedOr {
    match end {
        Err(lost) => Err((lost, doubt)),
        Ok(Verdict::Tracked(row)) => Ok(Handed::Tracked(Tracked::mint(doubt.origin(), row))),
        Ok(Verdict::Final { outcome, duplicate }) => {
            Ok(Handed::Final(Recorded::mint(doubt.origin(), outcome, duplicate)))
        }
        Ok(Verdict::Full { amount }) => Ok(Handed::Full(doubt, amount)),
        Ok(Verdict::Untracked) => Ok(Handed::Kept(doubt)),
        Ok(Verdict::Elsewhere { until }) => Ok(Handed::Elsewhere { until }),
        Ok(other) => Err((unfit(&other), doubt)),
    }
}

fn swept(origin: Origin, judged: Option<Box<Judged>>, end: Result<Verdict, StoreLost>) -> Swept {
    match (end, judged) {
        (Ok(Verdict::Gone | Verdict::Untracked), _) => Ok(None),
        (Ok(Verdict::Final { outcome, duplicate }), None) => {
            Ok(Some(Stand::Final(Recorded::mint(&origin, outcome, duplicate))))
        }
        (Ok(other), None) => Err(unfit(&other)),
        (Err(lost), None) => Err(lost),
        (end, Some(judged)) => opened(origin, judged, end).map(Some).map_err(|(lost, ..)| lost),
    }
}

fn opened(origin: Origin, judged: Box<Judged>, end: Result<Verdict, StoreLost>) -> Opened {
    match end {
        Err(lost) => Err((lost, origin, judged)),
        Ok(Verdict::Final { outcome, duplicate }) => Ok(Stand::Final(Recorded::mint(&origin, outcome, duplicate))),
        Ok(Verdict::Condemned(row)) => Ok(Stand::Condemned(Condemned::mint(row))),
        Ok(Verdict::Tracked(row)) => Ok(Stand::Tracked(Tracked::mint(&origin, row))),
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

fn resolved(end: Result<Verdict, StoreLost>) -> Result<Resolved, Unresolved> {
    match end {
        Ok(Verdict::Resolved(end)) => end.map_err(Unresolved::Refused),
        Ok(other) => Err(Unresolved::Lost(unfit(&other))),
        Err(lost) => Err(Unresolved::Lost(lost)),
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
