//! What a history's workers are told: the same types as configuration makes, with bounds that fit seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::plan::{Bound, Plan};
use crate::broker::Streams;
use crate::domain::{Currency, LaneName, Money, OrderKey, PaymentId, SchemeName, StreamName};
use crate::intake::{Contract, Decode, Instants, Judged, Raw, Rules, Scheme};
use crate::operate::publish::Addresses;
use crate::resilience::{Backoff, BreakerPolicy, BreakerSettings, LimitPolicy, RetryDelays, RetryPolicy};
use crate::store::{BookPolicy, TrackLimits, Unknown, WriterLimits};
use crate::worker::{InProgress, Lane, Limits, TrackPolicy};

/// Panicking starts, and refusals by the database, after which an event leaves.
pub(super) const POISON_STARTS: u32 = 5;

/// All that a worker is told.
pub(super) struct Setting {
    pub(super) streams: Streams,
    pub(super) lane: Lane,
    pub(super) limits: WriterLimits,
    pub(super) book: BookPolicy,
}

fn schemes() -> Vec<SchemeName> {
    Scheme::BUILT_IN.iter().filter_map(|name| SchemeName::parse(name).ok()).collect()
}

/// The currencies that have bounds; the load has others as well.
const CURRENCIES: [&str; 3] = ["EUR", "USD", "JPY"];

fn daily(minor: i64) -> Vec<Money> {
    let currencies = CURRENCIES.iter().filter_map(|code| Currency::parse(code));
    currencies.filter_map(|currency| Money::new(minor, currency)).collect()
}

fn track(bound: Bound) -> InProgress {
    let bounded = CURRENCIES.iter().filter(|_| bound.minor > 0).map(|code| (*code, bound.minor));
    let limits = TrackLimits { count: bound.payments, minor: bounded.collect() };
    InProgress::Track(TrackPolicy { after: bound.after, limits })
}

/// Subjects and message ids of the load.
pub(super) fn addresses() -> Addresses {
    Addresses::new(&schemes())
}

impl Setting {
    /// The payment that a body asks for and its debtor's account, where the rules take it.
    pub(super) fn debtor(&self, body: &[u8], now: Timestamp) -> Option<(PaymentId, String)> {
        let (scheme, order_key) = (addresses().of(body, 1).scheme, OrderKey::unread());
        let raw = Raw { scheme: &scheme, order_key: &order_key, header: &|_| None, body };
        let at = Instants { requested_at: now, now };
        match self.lane.rules.judge(Contract.decode(raw).ok()?, &scheme, at) {
            Judged::Valid(valid) => {
                let payment = valid.payment();
                Some((payment.payment_id.clone(), payment.debtor_account.key()))
            }
            Judged::Refused(_) => None,
        }
    }

    /// `None` only where a constant here is wrong.
    pub(super) fn of(plan: &Plan) -> Option<Self> {
        let stream = |name| StreamName::parse(name).ok();
        let backoff = |from, to| Backoff::new(Duration::from_millis(from), Duration::from_millis(to)).ok();
        let delays = RetryDelays {
            not_sent: backoff(200, 5_000)?,
            store_lost: backoff(100, 2_000)?,
            elsewhere: backoff(500, 5_000)?,
            interrupted: backoff(100, 3_000)?,
            doubt: backoff(1_000, 10_000)?,
        };
        let breaker = BreakerSettings {
            sliding_window_size: 20,
            minimum_number_of_calls: 5,
            slow_call_duration_threshold: Duration::from_secs(3),
            wait_duration_in_open_state: Duration::from_millis(500),
            exponential_max_wait_duration_in_open_state: Duration::from_secs(8),
            ..BreakerSettings::default()
        };
        let limits = Limits {
            slots: plan.slots,
            parked: 64,
            payload_bytes: 8 << 20,
            grace: Duration::from_secs(12),
            expires: Duration::from_secs(1),
        };
        Some(Self {
            streams: Streams {
                payments: stream("PAYMENTS")?,
                outcomes: stream("OUTCOMES")?,
                dead_letters: stream("DEAD")?,
                audit: stream("AUDIT")?,
            },
            lane: Lane {
                name: LaneName::parse("lane").ok()?,
                consumer: "lane".to_owned(),
                rules: Rules::new(schemes().iter().filter_map(Scheme::built_in).collect())
                    .with_debtor_daily_limits(daily(plan.daily)),
                limits,
                retry: RetryPolicy::new(10, Duration::from_secs(86_400), delays).ok()?,
                breaker: BreakerPolicy::new(breaker).ok()?,
                limit: Some(LimitPolicy::default()),
                in_progress: plan.track.map_or(InProgress::Hold, track),
            },
            limits: WriterLimits { group: 16, claim: plan.claim, poison_starts: POISON_STARTS, keep: None },
            book: BookPolicy { unknown: Unknown::Open { overdraft: true }, declared: BTreeMap::new() },
        })
    }
}
