//! One group: begin, decide, commit, answer; halved where its content is refused.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::super::decide::{Ask, Terms, Verdict, decide};
use super::super::rows::{AccountKey, DayKey, Wanted};
use super::super::{Backend, Pruned, Route, StoreLost, Trouble};
use super::pruning::Pruning;
use super::request::{Plain, Request};
use crate::intake::{Judged, Valid};
use crate::telemetry::step::{Step, at};

/// What one group took, for measurements.
#[derive(Debug, Clone)]
pub struct GroupDone {
    /// Requests in it.
    pub requests: usize,
    /// Whether it changed anything.
    pub changed: bool,
    /// From the begin to the answered commit.
    pub took: Duration,
    /// Times that another process was in the way and it was decided again.
    pub again: u32,
    /// Why it was lost.
    pub lost: Option<StoreLost>,
    /// Records removed between groups; such a report has no requests.
    pub pruned: Pruned,
}

/// Serves until every handle is gone or one says stop.
pub(super) async fn run<B: Backend>(
    mut backend: B,
    mut queue: mpsc::Receiver<Request>,
    group: usize,
    terms: Terms,
    keep: Option<Duration>,
    seen: impl Fn(&GroupDone),
) {
    let mut stops = Vec::new();
    let mut waiting = Vec::with_capacity(group);
    let mut pruning = Pruning::new(keep);
    loop {
        let taken = tokio::select! {
            // Before the requests: under load there is always one.
            biased;
            () = pruning.due() => {
                let begun = Instant::now();
                let pruned = pruning.page(&mut backend).await;
                let (changed, took) = (pruned.rows() > 0, begun.elapsed());
                seen(&GroupDone { requests: 0, changed, took, again: 0, lost: None, pruned });
                continue;
            }
            taken = queue.recv_many(&mut waiting, group) => taken,
        };
        if taken == 0 {
            break;
        }
        let mut requests = Vec::with_capacity(waiting.len());
        let mut listings = Vec::new();
        for mut request in waiting.drain(..) {
            match request.plain() {
                Some(Plain::Stop(stop)) => {
                    queue.close();
                    stops.push(stop);
                }
                Some(Plain::Due(listing)) => listings.push(listing),
                None => requests.push(request),
            }
        }
        serve(&mut backend, requests, &terms, &seen).await;
        for (wanted, reply) in listings {
            let end = backend.due(&wanted).await.map_err(|trouble| match trouble {
                Trouble::Lost(lost) => lost,
                Trouble::Content(why) => StoreLost::Refused(why),
                Trouble::Again(why) => StoreLost::Failed(why),
            });
            // Who asked may be gone.
            drop(reply.send(end));
        }
    }
    drop(backend);
    for stop in stops {
        // Who asked may be gone.
        stop.send(()).ok();
    }
}

async fn serve<B: Backend>(backend: &mut B, mut requests: Vec<Request>, terms: &Terms, seen: &impl Fn(&GroupDone)) {
    // Stream order; stable, so that requests about one event keep theirs.
    requests.sort_by(|a, b| a.event().cmp(&b.event()));
    let mut groups = VecDeque::from([requests]);
    while let Some(mut group) = groups.pop_front() {
        if group.is_empty() {
            continue;
        }
        let begun = Instant::now();
        let mut again = 0;
        let end = apply(backend, &group, terms, &mut again).await;
        let (changed, lost) = match &end {
            Ok((_, changed)) => (*changed, None),
            Err(Trouble::Lost(lost)) => (false, Some(lost.clone())),
            Err(Trouble::Content(why)) => (false, Some(StoreLost::Refused(why.clone()))),
            Err(Trouble::Again(why)) => (false, Some(StoreLost::Failed(why.clone()))),
        };
        let (requests, took) = (group.len(), begun.elapsed());
        seen(&GroupDone { requests, changed, took, again, lost, pruned: Pruned::default() });
        match end {
            Ok((verdicts, _)) => {
                for (request, verdict) in group.into_iter().zip(verdicts) {
                    request.answer(Ok(verdict));
                }
            }
            Err(Trouble::Content(_)) if group.len() > 1 => {
                let rest = group.split_off(group.len() / 2);
                groups.push_front(rest);
                groups.push_front(group);
            }
            Err(Trouble::Content(why)) => lose(group, &StoreLost::Refused(why)),
            Err(Trouble::Again(why)) => lose(group, &StoreLost::Failed(why)),
            Err(Trouble::Lost(lost)) => lose(group, &lost),
        }
    }
}

fn lose(group: Vec<Request>, lost: &StoreLost) {
    for request in group {
        request.answer(Err(lost.clone()));
    }
}

/// Times a group that another process stood in the way of is decided again before it counts as lost.
const AGAIN: u32 = 32;

/// One transaction, or two where the first one's commit was not answered; more where another process was in the way.
async fn apply<B: Backend>(
    backend: &mut B,
    group: &[Request],
    terms: &Terms,
    again: &mut u32,
) -> Result<(Vec<Verdict>, bool), Trouble> {
    let asks = group.iter().filter_map(Request::ask).collect::<Vec<_>>();
    let wanted = wanted(&asks);
    let mut unknown = false;
    loop {
        let rows = match backend.begin(&wanted).await {
            Ok(rows) => rows,
            Err(Trouble::Again(_)) if *again < AGAIN => {
                *again = again.saturating_add(1);
                step_aside(*again).await;
                continue;
            }
            Err(trouble) => return Err(trouble),
        };
        let (changes, verdicts) = decide(rows, &asks, terms, tokio::time::Instant::now());
        let changed = !changes.is_empty();
        if changed {
            at(Step::BeforeCommit);
        }
        match backend.commit(changes).await {
            Ok(()) => {
                if changed {
                    at(Step::AfterCommit);
                }
                return Ok((verdicts, changed));
            }
            Err(Trouble::Lost(_)) if !unknown => {
                // It may have been written. The rows say so, once they can be read again.
                unknown = true;
                backend.reset().await?;
            }
            Err(Trouble::Again(_)) if *again < AGAIN => {
                *again = again.saturating_add(1);
                step_aside(*again).await;
            }
            Err(trouble) => return Err(trouble),
        }
    }
}

/// Lets the other process end its transaction; by chance, so that two do not meet again at once.
async fn step_aside(again: u32) {
    let most = 2_u64.saturating_mul(u64::from(again));
    tokio::time::sleep(Duration::from_millis(rand::random_range(0..=most))).await;
}

fn wanted(asks: &[Ask<'_>]) -> Wanted {
    let mut wanted = Wanted::default();
    for ask in asks {
        match ask {
            Ask::Open { origin, judged, route, begin: _ } => {
                wanted.payments.push(judged.payment_id().clone());
                wanted.events.push(origin.event.clone());
                if let Judged::Valid(valid) = judged {
                    wanted.days.extend(day(valid));
                }
                if let (Judged::Valid(valid), Route::Book) = (judged, route) {
                    let (payment, currency) = (valid.payment(), valid.payment().amount.currency());
                    wanted.accounts.push(AccountKey::new(&payment.debtor_account.key(), currency));
                    wanted.accounts.push(AccountKey::new(&payment.creditor_account.key(), currency));
                }
            }
            Ask::Conclude { with, .. } | Ask::Resume { with, .. } => {
                wanted.tried = true;
                wanted.payments.push(with.ticket.payment_id.clone());
                wanted.events.push(with.origin.event.clone());
            }
            Ask::Condemn { origin, payment, .. } => {
                wanted.payments.extend(payment.cloned());
                if payment.is_none() {
                    wanted.owners.push(origin.event.clone());
                }
                wanted.events.push(origin.event.clone());
            }
            Ask::Start { event } => wanted.events.push((*event).clone()),
            Ask::Resolve { resolution } => {
                wanted.tried = true;
                wanted.payments.push(resolution.payment_id.clone());
            }
            Ask::Track { with, .. } => {
                wanted.tried = true;
                wanted.payments.push(with.ticket.payment_id.clone());
                wanted.events.push(with.origin.event.clone());
                wanted.trackers.push(with.origin.lane.clone());
            }
            Ask::Sweep { due, judged, .. } => {
                wanted.tried = true;
                match judged {
                    Some(judged) => wanted.payments.push(judged.payment_id().clone()),
                    None => wanted.owners.push(due.origin().event.clone()),
                }
                wanted.events.push(due.origin().event.clone());
            }
            Ask::Told { event } => wanted.owners.push((*event).clone()),
        }
    }
    wanted.payments.sort_unstable();
    wanted.payments.dedup();
    wanted.owners.sort_unstable();
    wanted.owners.dedup();
    wanted.events.sort_unstable();
    wanted.events.dedup();
    wanted.accounts.sort_unstable();
    wanted.accounts.dedup();
    wanted.trackers.sort_unstable();
    wanted.trackers.dedup();
    wanted.days.sort_unstable();
    wanted.days.dedup();
    wanted
}

/// The debtor's day that a payment counts on, where there is a limit.
fn day(valid: &Valid) -> Option<DayKey> {
    Some(DayKey::of(valid.payment(), valid.allowance()?.day))
}
