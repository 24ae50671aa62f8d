//! Looks at the worker ten times a second: shows it, starts and ends the outage, sees when everything is done.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use tokio::task::JoinHandle;

use crate::cli::{Exit, Failure};
use crate::domain::{Currency, Money};
use crate::lab::outage::Outage;
use crate::lab::rail::ScriptedRail;
use crate::lab::view::{Frame, View};
use crate::operate::publish::Published;
use crate::worker::{LaneStatus, StatusHandle};

const TICK: Duration = Duration::from_millis(50);
/// Over how long the shown rate is taken.
const RATE_OVER: Duration = Duration::from_secs(1);

/// What is known of the run so far.
pub(super) struct Watcher {
    status: StatusHandle,
    store: PathBuf,
    bank: Option<Arc<ScriptedRail>>,
    total: u64,
    slots: u64,
    began: Instant,
    /// Time with an open gate and a backlog, and what was settled in it.
    busy: Duration,
    settled_busy: u64,
    last: Option<(Instant, u64)>,
    rates: Vec<(Instant, u64)>,
    money: Vec<(String, String)>,
    money_at: Option<Instant>,
}

impl Watcher {
    pub(super) fn new(status: StatusHandle, store: PathBuf, total: u64, slots: u64) -> Self {
        Self {
            status,
            store,
            bank: None,
            total,
            slots,
            began: Instant::now(),
            busy: Duration::ZERO,
            settled_busy: 0,
            last: None,
            rates: Vec::new(),
            money: Vec::new(),
            money_at: None,
        }
    }

    /// The service that settles in place of the book, if any.
    pub(super) fn settled_by(&mut self, bank: Option<Arc<ScriptedRail>>) {
        self.bank = bank;
    }

    /// Follows the run until everything published has ended, or nothing has happened for `patience`.
    pub(super) async fn follow(
        &mut self,
        view: &mut View,
        publisher: JoinHandle<Result<Published, Failure>>,
        outage: Duration,
        patience: Duration,
    ) -> Result<Published, Failure> {
        let mut publisher = publisher;
        let mut published: Option<Published> = None;
        let (mut down, mut was_down): (Option<(Outage, Instant)>, bool) = (None, outage.is_zero());
        let mut progress = (0_u64, Instant::now());
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                ended = &mut publisher, if published.is_none() => {
                    let ended = ended.map_err(|e| Failure::new(Exit::Bug, format!("the publisher ended early: {e}")))?;
                    published = Some(ended?);
                }
            }
            let Some(lane) = self.status.lanes().into_iter().next() else { continue };
            let done = done(&lane);
            if done != progress.0 || down.is_some() {
                progress = (done, Instant::now());
            }
            if !was_down && done.saturating_mul(5) >= self.total.saturating_mul(2) {
                was_down = true;
                let begun = match &self.bank {
                    Some(bank) => Outage::of_service(bank)?,
                    None => Outage::of_store(self.store.clone()).await?,
                };
                down = Some((begun, Instant::now()));
            }
            if let Some((outage_now, since)) = down.take() {
                if since.elapsed() >= outage {
                    outage_now.end().await;
                } else {
                    down = Some((outage_now, since));
                }
            }
            let phase = self.phase(&lane, down.is_some(), published.as_ref());
            self.sample(&lane);
            self.show(view, &lane, phase, published.as_ref());
            if let Some(all) = &published
                && down.is_none()
                && (done >= all.published || progress.1.elapsed() >= patience)
            {
                return Ok(all.clone());
            }
        }
    }

    /// Settled a second while the gate was open and there was backlog.
    pub(super) fn settled_per_s(&self) -> f64 {
        per_second(self.settled_busy, self.busy)
    }

    fn phase(&self, lane: &LaneStatus, down: bool, published: Option<&Published>) -> &'static str {
        let left = published.map(|all| all.published.saturating_sub(done(lane)));
        match (down, left) {
            (true, _) => "settlement is down",
            (false, None) => "publishing and settling",
            (false, Some(left))
                if lane.in_doubt > 0 && usize::try_from(left).is_ok_and(|left| left <= lane.in_doubt) =>
            {
                "asking the rail what became of the last ones"
            }
            (false, Some(_)) => "settling",
        }
    }

    fn sample(&mut self, lane: &LaneStatus) {
        let now = Instant::now();
        if let Some((at, settled)) = self.last.replace((now, lane.settled))
            && lane.gate == "open"
            && lane.in_flight > 0
        {
            self.busy = self.busy.saturating_add(now.duration_since(at));
            self.settled_busy = self.settled_busy.saturating_add(lane.settled.saturating_sub(settled));
        }
        self.rates.push((now, lane.settled));
        self.rates.retain(|(at, _)| now.duration_since(*at) <= RATE_OVER);
        if self.money_at.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            self.money_at = Some(now);
            // Only shown: a store that is locked just now is read the next time.
            if let Ok(money) = money(&self.store, self.bank.is_some()) {
                self.money = money;
            }
        }
    }

    fn show(&self, view: &mut View, lane: &LaneStatus, phase: &str, published: Option<&Published>) {
        let rate = match (self.rates.first(), self.rates.last()) {
            (Some((from, before)), Some((to, now))) => {
                per_second(now.saturating_sub(*before), to.duration_since(*from))
            }
            _ => 0.0,
        };
        let seen = lane.received.saturating_add(lane.pending);
        view.show(&Frame {
            elapsed: self.began.elapsed(),
            phase,
            published: published.map_or(seen, |p| p.published),
            settled: lane.settled,
            rejected: lane.rejected,
            dead_lettered: lane.dead_lettered,
            duplicates: lane.duplicates,
            settled_per_s: rate,
            backlog: published.map_or(lane.pending, |p| p.published.saturating_sub(done(lane))),
            in_flight: u64::from(lane.in_flight),
            slots: self.slots,
            breaker: lane.breakers.settlement,
            gate: lane.gate_reason.map_or_else(|| lane.gate.to_owned(), |why| format!("{} ({why})", lane.gate)),
            pulls_outstanding: u64::from(lane.pulls_outstanding),
            money: self.money.clone(),
            in_doubt: u64::try_from(lane.in_doubt).unwrap_or(u64::MAX),
            next_inquiry: lane.next_inquiry_ms.map(Duration::from_millis),
        });
    }
}

fn done(lane: &LaneStatus) -> u64 {
    [lane.rejected, lane.dead_lettered, lane.duplicates].into_iter().fold(lane.settled, u64::saturating_add)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn per_second(count: u64, over: Duration) -> f64 {
    if over.is_zero() { 0.0 } else { count as f64 / over.as_secs_f64() }
}

/// What has moved so far, in the book or over the rail, in the four currencies with the most payments.
fn money(store: &std::path::Path, over_rail: bool) -> rusqlite::Result<Vec<(String, String)>> {
    let connection = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut sums = connection.prepare(if over_rail {
        "SELECT currency, sum(CAST(minor AS REAL)), count(*) FROM payments WHERE state = 'settled' \
         GROUP BY 1 ORDER BY 3 DESC LIMIT 4"
    } else {
        "SELECT currency, sum(CAST(debits_posted AS REAL)), count(*) FROM accounts GROUP BY 1 ORDER BY 3 DESC LIMIT 4"
    })?;
    let rows = sums.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, f64>(1)?)))?;
    let mut shown = Vec::new();
    for row in rows {
        let (code, sum) = row?;
        if let Some(currency) = Currency::parse(&code) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a rounded figure for the eye; the report counts exactly"
            )]
            let minor = sum as i128;
            shown.push((code, Money::format(minor, currency)));
        }
    }
    Ok(shown)
}
