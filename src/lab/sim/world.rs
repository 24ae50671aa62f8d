//! What a history takes place in: a clock that only waiting moves, chance from the seed, a journal, and the first
//! breach of an invariant.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::plan::Plan;
use crate::broker::Teller;
use crate::lab::load::random::Random;
use crate::worker::Source;

/// The wall clock at the beginning of every history, in milliseconds since the Unix epoch: 2026-03-02, a Monday.
const EPOCH_MS: i64 = 1_772_445_600_000;

/// Locks; a panic elsewhere has been noted already.
pub(super) fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In place of an event: a pull, of which there are too many to read.
pub(super) const PULL: u64 = u64::MAX;

/// One thing that happened.
#[derive(Debug, Clone)]
pub(super) struct Line {
    at: Duration,
    /// The event it is about; 0 for all.
    event: u64,
    text: String,
}

/// What happened, as a digest, and as text where somebody will read it.
struct Journal {
    digest: u64,
    kept: Option<Vec<Line>>,
}

/// FNV-1a: enough to tell two histories apart.
impl fmt::Write for Journal {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

/// The first breach of an invariant.
#[derive(Debug, Clone)]
pub(super) struct Breach {
    pub(super) what: String,
    pub(super) event: u64,
}

/// One history's world.
pub(super) struct World {
    pub(super) plan: Plan,
    epoch: Timestamp,
    zero: Instant,
    dice: Mutex<Random>,
    chance: Mutex<Random>,
    journal: Mutex<Journal>,
    breach: Mutex<Option<Breach>>,
    healed: AtomicBool,
    /// Woken by a breach.
    pub(super) broken: Notify,
}

impl World {
    pub(super) fn new(plan: Plan, keep: bool) -> Arc<Self> {
        Self::since(Timestamp::from_millisecond(EPOCH_MS).unwrap_or_default(), plan, keep)
    }

    /// A world whose clock shows `epoch` now.
    pub(super) fn since(epoch: Timestamp, plan: Plan, keep: bool) -> Arc<Self> {
        let (seed, kept) = (plan.seed, keep.then(Vec::new));
        Arc::new(Self {
            plan,
            epoch,
            zero: Instant::now(),
            dice: Mutex::new(Random::new(seed ^ 0x0d1c_e5ee_d000_0001)),
            chance: Mutex::new(Random::new(seed ^ 0xc4a2_ce00_0000_0002)),
            journal: Mutex::new(Journal { digest: 0xcbf2_9ce4_8422_2325, kept }),
            breach: Mutex::new(None),
            healed: AtomicBool::new(false),
            broken: Notify::new(),
        })
    }

    /// Since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        Instant::now().duration_since(self.zero)
    }

    /// The wall clock.
    pub(super) fn now(&self) -> Timestamp {
        let since = SignedDuration::try_from(self.elapsed()).unwrap_or_default();
        self.epoch.saturating_add(since).unwrap_or(self.epoch)
    }

    /// A number below `bound`.
    pub(super) fn below(&self, bound: u64) -> u64 {
        locked(&self.dice).below(bound)
    }

    /// True in `percent` of 100 cases, and never once the faults have healed.
    pub(super) fn fault(&self, percent: u64) -> bool {
        !self.is_healed() && locked(&self.dice).chance(percent)
    }

    /// True in `percent` of 100 cases.
    pub(super) fn odds(&self, percent: u64) -> bool {
        locked(&self.dice).chance(percent)
    }

    /// A span between two, in milliseconds.
    pub(super) fn span(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from.saturating_add(self.below(to.saturating_sub(from).saturating_add(1))))
    }

    /// Waits for a span between two, in milliseconds.
    pub(super) async fn pause(&self, from: u64, to: u64) {
        sleep(self.span(from, to)).await;
    }

    /// From here on nothing fails any more.
    pub(super) fn heal(&self) {
        self.healed.store(true, Ordering::Release);
        self.note(0, format_args!("faults heal"));
    }

    pub(super) fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Acquire)
    }

    /// Notes what happened to an event, or (0) to all.
    pub(super) fn note(&self, event: u64, what: fmt::Arguments<'_>) {
        let at = self.elapsed();
        let mut journal = locked(&self.journal);
        // The journal's own writer cannot fail.
        write!(journal, "{} {event} {what}", at.as_micros()).ok();
        if let Some(kept) = &mut journal.kept {
            kept.push(Line { at, event, text: what.to_string() });
        }
    }

    /// Notes a breach of an invariant; the first one counts.
    pub(super) fn breach(&self, event: u64, what: String) {
        self.note(event, format_args!("BREACH {what}"));
        locked(&self.breach).get_or_insert(Breach { what, event });
        self.broken.notify_one();
    }

    pub(super) fn breached(&self) -> Option<Breach> {
        locked(&self.breach).clone()
    }

    pub(super) fn digest(&self) -> u64 {
        locked(&self.journal).digest
    }

    /// The last `most` lines that are about the event, or about all.
    pub(super) fn trace(&self, event: u64, most: usize) -> Vec<String> {
        let journal = locked(&self.journal);
        let lines = journal.kept.iter().flatten().filter(|line| event == 0 || line.event == event || line.event == 0);
        let lines: Vec<String> = lines.map(Line::to_string).collect();
        if lines.len() <= most {
            return lines;
        }
        // The beginning says what it is, the end what it came to.
        let (head, tail) = (most / 2, lines.len().saturating_sub(most / 2));
        let left_out = format!("          ... {} lines ...", tail.saturating_sub(head));
        let (head, tail) = (lines.get(..head).unwrap_or_default(), lines.get(tail..).unwrap_or_default());
        [head, &[left_out], tail].concat()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = if self.event == 0 || self.event == PULL { "-".to_owned() } else { format!("#{}", self.event) };
        write!(f, "{:>9.3} s {event:>5}  {}", self.at.as_secs_f64(), self.text)
    }
}

/// What the worker takes from outside, from the seed.
impl Source for World {
    fn now(&self) -> Timestamp {
        World::now(self)
    }

    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn chance(&self) -> f64 {
        (locked(&self.chance).next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// One incarnation of a worker's process. Each of its effects passes here, so that it can end between any two.
pub(in crate::lab) struct Life {
    /// As the journal names it, and the owner of its claims.
    pub(super) name: String,
    dead: AtomicBool,
    left: AtomicI64,
    /// While true it is stopped, as by SIGSTOP.
    frozen: Teller<bool>,
    /// Woken when its last effect was used up.
    pub(super) ended: Notify,
}

impl Life {
    /// A life of so many effects.
    pub(super) fn new(name: String, effects: i64) -> Arc<Self> {
        let (dead, left) = (AtomicBool::new(false), AtomicI64::new(effects));
        Arc::new(Self { name, dead, left, frozen: Teller::new(false), ended: Notify::new() })
    }

    pub(in crate::lab) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Nothing that this process was about to do happens any more.
    pub(super) fn end(&self) {
        self.dead.store(true, Ordering::Release);
    }

    /// Passed before and after each effect; for ever pending for the dead.
    pub(in crate::lab) async fn pass(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 0 {
            self.end();
            self.ended.notify_one();
        }
        if *self.frozen.borrow() {
            self.frozen.subscribe().wait_for(|frozen| !*frozen).await;
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends here and now: whoever calls it never goes on.
    pub(in crate::lab) async fn die(&self) {
        self.end();
        self.ended.notify_one();
        std::future::pending::<()>().await;
    }

    /// Stops where it passes next, or goes on.
    pub(in crate::lab) fn freeze(&self, frozen: bool) {
        self.frozen.send_modify(|now| *now = frozen);
    }

    pub(in crate::lab) fn is_frozen(&self) -> bool {
        *self.frozen.borrow()
    }
}
