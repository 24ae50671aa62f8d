//! The experiments, each over payments of its own.

use std::time::Duration;

use serde::Serialize;

use super::between::Course;
use super::report::Sums;
use super::scene::{Bench, Scene, Wake};
use super::{Breach, Kind, Ledger};
use crate::domain::{Answer, Code, PaymentId};
use crate::lab::sim::Crash;
use crate::rails::Rail;
use crate::store::Backend;

/// One experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "`shows` says what each one is, and prints it")]
pub enum Experiment {
    Plain,
    Redelivery,
    Repeat,
    Conflict,
    Found,
    NotFound,
    CrashBeforeIntent,
    CrashAfterIntent,
    CrashAfterSubmit,
    CrashAfterConclude,
    TwoHolders,
    StaleAnswer,
    StaleUnsent,
    StaleSubmission,
    ReplyLoss,
}

impl Experiment {
    /// Every one, in the order of a report. The first is made before the others.
    pub const ALL: [Self; 15] = [
        Self::Plain,
        Self::Redelivery,
        Self::Repeat,
        Self::Conflict,
        Self::Found,
        Self::NotFound,
        Self::CrashBeforeIntent,
        Self::CrashAfterIntent,
        Self::CrashAfterSubmit,
        Self::CrashAfterConclude,
        Self::TwoHolders,
        Self::StaleAnswer,
        Self::StaleUnsent,
        Self::StaleSubmission,
        Self::ReplyLoss,
    ];

    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Redelivery => "redelivery",
            Self::Repeat => "repeat",
            Self::Conflict => "conflict",
            Self::Found => "found",
            Self::NotFound => "not_found",
            Self::CrashBeforeIntent => "crash_before_intent",
            Self::CrashAfterIntent => "crash_after_intent",
            Self::CrashAfterSubmit => "crash_after_submit",
            Self::CrashAfterConclude => "crash_after_conclude",
            Self::TwoHolders => "two_holders",
            Self::StaleAnswer => "stale_answer",
            Self::StaleUnsent => "stale_unsent",
            Self::StaleSubmission => "stale_submission",
            Self::ReplyLoss => "reply_loss",
        }
    }

    /// What holds where it holds.
    #[must_use]
    pub fn shows(self) -> &'static str {
        match self {
            Self::Plain => "a payment settles once",
            Self::Redelivery => "the same key submitted twice is one effect",
            Self::Repeat => "a second event for the payment submits nothing",
            Self::Conflict => "other content under the same identity and key is refused",
            Self::Found => "a lost reply is inquired about and found",
            Self::NotFound => "what never arrived is not found, and sent again under the same key",
            Self::CrashBeforeIntent => "killed before the attempt is on record: one effect",
            Self::CrashAfterIntent => "killed before the submission: one effect",
            Self::CrashAfterSubmit => "killed with the answer in hand: one effect",
            Self::CrashAfterConclude => "killed before the outcome is announced: one effect",
            Self::TwoHolders => "two workers with the payment at once: one submission",
            Self::StaleAnswer => "a stopped holder wakes with its answer: one effect",
            Self::StaleUnsent => "a stopped holder wakes and has not sent it: one effect",
            Self::StaleSubmission => "a stopped holder wakes and sends: one effect",
            Self::ReplyLoss => "many payments, replies and requests lost: one effect each, the money conserved",
        }
    }

    /// Makes it.
    pub(super) async fn run<R: Rail, L: Ledger, B: Backend>(
        self,
        bench: &Bench<R, L, B>,
        number: u16,
        payments: u32,
    ) -> Made {
        let setting = self.setting(&bench.rail.terms().deadline);
        let slots = match self {
            Self::ReplyLoss => 16,
            Self::Plain => VOUCHERS.saturating_add(1),
            Self::Redelivery
            | Self::Repeat
            | Self::Conflict
            | Self::Found
            | Self::NotFound
            | Self::CrashBeforeIntent
            | Self::CrashAfterIntent
            | Self::CrashAfterSubmit
            | Self::CrashAfterConclude
            | Self::TwoHolders
            | Self::StaleAnswer
            | Self::StaleUnsent
            | Self::StaleSubmission => 1,
        };
        let Some(mut scene) = Scene::set(bench, self.name(), number, slots).await else { return broken(bench) };
        let count = if self == Self::ReplyLoss { payments.max(1) } else { 1 };
        let mut payments: Vec<PaymentId> = (1..=count).filter_map(|n| scene.payment(n)).collect();
        let Some(first) = payments.first().cloned() else { return broken(bench) };
        let made = self.make(&mut scene, setting, &mut payments).await;
        let mut breaches = made.err().into_iter().flatten().collect::<Vec<_>>();
        for payment in &payments {
            breaches.extend(scene.settled_once(payment).await);
        }
        let (sums, broken) = scene.strike(&first);
        breaches.extend(broken);
        Made { breaches, sums, payments: payments.len() }
    }

    /// Workers, the courses of one payment's submissions, and when who is stopped wakes.
    fn setting(self, deadline: &Duration) -> Setting {
        let plan = |workers, courses, wake| Setting { workers, courses, wake, crash: None };
        let end = Wake::AtTheEnd;
        let crash = |crash| Setting { crash: Some(crash), ..plan(1, Vec::new(), end) };
        match self {
            Self::Plain | Self::Repeat | Self::Conflict => plan(1, Vec::new(), end),
            Self::Redelivery => plan(1, vec![Course::Twice], end),
            Self::Found => plan(1, vec![Course::LoseReply], end),
            Self::NotFound => plan(1, vec![Course::Swallow], end),
            Self::CrashBeforeIntent => crash(Crash::BeforeIntent),
            Self::CrashAfterIntent => crash(Crash::AfterIntent),
            Self::CrashAfterSubmit => plan(1, vec![Course::DieAfter], end),
            Self::CrashAfterConclude => crash(Crash::AfterConclude),
            Self::TwoHolders => plan(2, vec![Course::Slow(*deadline / 2)], end),
            Self::StaleAnswer => plan(2, vec![Course::StopAfter], end),
            Self::StaleUnsent => plan(2, vec![Course::StopUnsent], Wake::WhenAsked),
            Self::StaleSubmission => plan(2, vec![Course::StopBefore], end),
            Self::ReplyLoss => plan(2, Vec::new(), end),
        }
    }

    async fn make<R: Rail, L: Ledger, B: Backend>(
        self,
        scene: &mut Scene<'_, R, L, B>,
        setting: Setting,
        payments: &mut Vec<PaymentId>,
    ) -> Result<(), Vec<Breach>> {
        for (n, payment) in payments.iter().enumerate() {
            let courses = if self == Self::ReplyLoss { lossy(n) } else { setting.courses.clone() };
            scene.script.plan(payment, &courses);
        }
        if let Some(crash) = setting.crash {
            scene.live.crash_at(crash);
        }
        for _ in 0..setting.workers {
            scene.worker().await;
        }
        for payment in payments.iter() {
            let body = scene.bench.sample.body(payment);
            scene.publish(payment, 1, body.clone()).await.map_err(|breach| vec![breach])?;
            if self == Self::TwoHolders {
                scene.publish(payment, 2, body).await.map_err(|breach| vec![breach])?;
            }
        }
        if self == Self::Plain {
            vouched(scene, payments).await.map_err(|breach| vec![breach])?;
        }
        ended(scene, setting.wake, payments).await?;
        let Some(payment) = payments.first() else { return Ok(()) };
        if scene.live.is_to_crash() {
            return Err(vec![scene.breach(payment, Kind::Broken, "the worker did not come to the crash".to_owned())]);
        }
        match self {
            Self::Repeat => {
                let (body, sent) = (scene.bench.sample.body(payment), scene.script.sent(payment));
                scene.publish(payment, 2, body).await.map_err(|breach| vec![breach])?;
                ended(scene, setting.wake, payments).await?;
                must(scene, payment, scene.script.sent(payment) == sent, "a second event was submitted to the rail")
            }
            Self::Conflict => conflict(scene, payment).await,
            Self::TwoHolders => {
                must(scene, payment, scene.script.most_at_once() == 1, "two holders submitted it at the same time")
            }
            Self::NotFound => must(scene, payment, scene.script.sent(payment) > 1, "it was not sent again"),
            Self::Plain
            | Self::Redelivery
            | Self::Found
            | Self::CrashBeforeIntent
            | Self::CrashAfterIntent
            | Self::CrashAfterSubmit
            | Self::CrashAfterConclude
            | Self::StaleAnswer
            | Self::StaleUnsent
            | Self::StaleSubmission
            | Self::ReplyLoss => Ok(()),
        }
    }
}

/// What became of an experiment.
pub(super) struct Made {
    pub(super) breaches: Vec<Breach>,
    pub(super) sums: Sums,
    /// Payments that it asked for.
    pub(super) payments: usize,
}

/// Payments at most that are to vouch for a "not found".
const VOUCHERS: u16 = 4;

/// A rail may lose the very first request that it gets, and its "not found" counts only beside a payment that it is
/// known to have settled: where it leaves the first in doubt, further payments are made until one is settled.
async fn vouched<R: Rail, L: Ledger, B: Backend>(
    scene: &Scene<'_, R, L, B>,
    payments: &mut Vec<PaymentId>,
) -> Result<(), Breach> {
    let mut unsaid = 0;
    while payments.len() <= usize::from(VOUCHERS) && scene.in_doubt(payments, unsaid).await {
        unsaid = scene.script.unsaid();
        let next = u32::try_from(payments.len()).unwrap_or(u32::MAX).saturating_add(1);
        let Some(payment) = scene.payment(next) else { return Ok(()) };
        payments.push(payment.clone());
        scene.publish(&payment, 1, scene.bench.sample.body(&payment)).await?;
    }
    Ok(())
}

struct Setting {
    workers: u32,
    courses: Vec<Course>,
    wake: Wake,
    crash: Option<Crash>,
}

/// Of ten payments two lose their reply, one its request, and one is sent twice.
fn lossy(n: usize) -> Vec<Course> {
    match n % 10 {
        0 | 5 => vec![Course::LoseReply],
        2 => vec![Course::Swallow],
        7 => vec![Course::Twice],
        _ => Vec::new(),
    }
}

fn broken<R, L, B>(bench: &Bench<R, L, B>) -> Made {
    let what = "the suite's own settings are wrong".to_owned();
    let breach = Breach { kind: Kind::Broken, payment_id: bench.run.clone(), keys: Vec::new(), what };
    Made { breaches: vec![breach], sums: Sums::default(), payments: 0 }
}

async fn ended<R: Rail, L: Ledger, B: Backend>(
    scene: &mut Scene<'_, R, L, B>,
    wake: Wake,
    payments: &[PaymentId],
) -> Result<(), Vec<Breach>> {
    if scene.drained(wake).await {
        return Ok(());
    }
    // Which of the payments it is, the comparison says; where all have settled it is their events.
    let open = payments.iter().any(|id| scene.live.payment(id).is_none_or(|row| row.finished_at.is_none()));
    let about = payments.first().filter(|_| !open);
    let what = "settled, and its event was not acknowledged in time".to_owned();
    Err(about.map(|id| scene.breach(id, Kind::Unfinished, what)).into_iter().collect())
}

fn must<R: Rail, L: Ledger, B: Backend>(
    scene: &Scene<'_, R, L, B>,
    payment: &PaymentId,
    holds: bool,
    otherwise: &str,
) -> Result<(), Vec<Breach>> {
    if holds { Ok(()) } else { Err(vec![scene.breach(payment, Kind::Broken, otherwise.to_owned())]) }
}

/// Another content under the same identity: our store condemns the event, and the rail refuses the key.
async fn conflict<R: Rail, L: Ledger, B: Backend>(
    scene: &mut Scene<'_, R, L, B>,
    payment: &PaymentId,
) -> Result<(), Vec<Breach>> {
    let (other, sent) = (scene.bench.sample.other_body(payment), scene.script.sent(payment));
    scene.publish(payment, 2, other.clone()).await.map_err(|breach| vec![breach])?;
    ended(scene, Wake::AtTheEnd, std::slice::from_ref(payment)).await?;
    let unsent = scene.script.sent(payment) == sent;
    let mut breaches =
        must(scene, payment, unsent, "an event in conflict was submitted to the rail").err().unwrap_or_default();
    if scene.live.dead_letters(payment) != [Code::AM05] {
        let what = "an event with other content under the same identity did not leave as AM05".to_owned();
        breaches.push(scene.breach(payment, Kind::Broken, what));
    }
    let Some(order) = scene.live.order(&other, scene.bench.rail.name()).await else {
        breaches.push(scene.breach(payment, Kind::Broken, "no order with other content could be made".to_owned()));
        return Err(breaches);
    };
    match scene.bench.rail.submit(&order).await {
        Answer::Settled(_) | Answer::InProgress => {
            let what = "the rail took another content under a key that it knew".to_owned();
            breaches.push(scene.breach(payment, Kind::Untrue, what));
        }
        Answer::Rejected { .. } | Answer::Blocked | Answer::NotSent(_) | Answer::Unknown => {}
    }
    if breaches.is_empty() { Ok(()) } else { Err(breaches) }
}
