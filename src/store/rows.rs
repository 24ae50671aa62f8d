//! Plain data between the decision and a database: what is wanted, what stands, what is to be written.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;

use super::Note;
pub(super) use super::tracker::{Message, TrackerChange, TrackerRow, TrackerTotals, Tracking};
use crate::domain::{
    Code, Currency, EventId, Fingerprint, LaneName, Money, OrderKey, Payment, PaymentId, RailRef, Reason, References,
    SchemeName, StreamName,
};

/// What a group of requests must see; sorted and without repeats, so that rows are locked in one order everywhere.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Payments by id.
    pub payments: Vec<PaymentId>,
    /// Events whose own payment is wanted though its id is not known: what is condemned unread may be in doubt.
    pub owners: Vec<EventId>,
    /// Events that ended without a payment of their own, and their starts.
    pub events: Vec<EventId>,
    /// Accounts of the book.
    pub accounts: Vec<AccountKey>,
    /// Lanes whose tracker is to take something on. Where several processes write, no other may add to it until this
    /// transaction has ended: its bound would be passed.
    pub trackers: Vec<LaneName>,
    /// Whether a payment among them was given to a rail: its attempts and its place in the tracker are looked at then.
    pub tried: bool,
    /// Days of debtors with a limit. Those that the payments themselves name are wanted as well.
    pub days: Vec<DayKey>,
}

/// An account's name in the book: one account per key and currency.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountKey {
    /// `Account::key`: holds an account number, so it is never printed.
    pub key: Arc<str>,
    /// The currency's code.
    pub currency: &'static str,
}

impl AccountKey {
    /// The account `key` in `currency`.
    #[must_use]
    pub fn new(key: &str, currency: Currency) -> Self {
        Self { key: key.into(), currency: currency.code() }
    }
}

/// One day of a debtor's account in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DayKey {
    /// In the zone of the scheme.
    pub day: Date,
    /// The account, which need not be one of the book.
    pub account: AccountKey,
}

impl DayKey {
    /// The day of a payment's debtor.
    pub(super) fn of(payment: &Payment, day: Date) -> Self {
        Self { day, account: AccountKey::new(&payment.debtor_account.key(), payment.amount.currency()) }
    }

    /// `YYYY-MM-DD` and the account's key, as a payment's row names what it has reserved.
    pub(super) fn to_text(&self) -> String {
        format!("{} {}", self.day, self.account.key)
    }

    /// Reads [`DayKey::to_text`]; the currency is the payment's.
    pub(super) fn of_text(text: &str, currency: Currency) -> Option<Self> {
        let (day, key) = text.split_once(' ')?;
        Some(Self { day: day.parse().ok()?, account: AccountKey::new(key, currency) })
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountKey(.., {})", self.currency)
    }
}

/// What stands.
#[derive(Debug)]
pub struct Rows {
    /// The database's clock.
    pub now: Timestamp,
    /// First of a block of free payment row numbers, long enough for the payments wanted.
    pub next_payment: i64,
    /// First of a block of free account numbers, long enough for the accounts wanted.
    pub next_account: i64,
    /// By id.
    pub payments: HashMap<PaymentId, PaymentRow>,
    /// Ends that are not a payment's own.
    pub events: HashMap<EventId, EventRow>,
    /// By key and currency.
    pub accounts: HashMap<AccountKey, AccountRow>,
    /// Starts without an end.
    pub starts: HashMap<EventId, StartRow>,
    /// What the trackers that are wanted hold.
    pub trackers: HashMap<LaneName, TrackerTotals>,
    /// What debtors with a limit have spent, in minor units: those wanted, and those that the payments name.
    pub days: HashMap<DayKey, i64>,
}

/// What a group of requests did to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Stands,
    Changed,
    New,
}

/// How far a payment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Given or about to be given to a rail; not final.
    Open,
    /// The rail neither credited nor returned it: waits for a person. Not final.
    Held,
    /// Nothing of it reached a rail and its event has ended otherwise: the id may be taken by a corrected event.
    Freed,
    /// Money moved. Final.
    Settled,
    /// The rail or the book refused it. Final.
    Rejected,
}

/// Who works on a payment, until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Process and event.
    pub owner: Arc<str>,
    /// By the database's clock.
    pub until: Timestamp,
}

/// One payment.
#[derive(Debug, Clone)]
pub struct PaymentRow {
    /// Its number; a transfer's number as well.
    pub row: i64,
    /// Its identity.
    pub payment_id: PaymentId,
    /// What was asked for.
    pub fingerprint: Fingerprint,
    /// How far it is.
    pub state: State,
    /// The event that it stands for.
    pub event: EventId,
    /// Subject token.
    pub scheme: SchemeName,
    /// Subject token.
    pub order_key: OrderKey,
    /// The lane that holds or ended it.
    pub lane: LaneName,
    /// `book`, or the rail of the last attempt.
    pub rail: Arc<str>,
    /// The rail's reference; only where settled.
    pub rail_ref: Option<RailRef>,
    /// What is to move.
    pub amount: Money,
    /// The publisher's references.
    pub references: References,
    /// The event's broker timestamp.
    pub requested_at: Timestamp,
    /// When its end became durable.
    pub finished_at: Option<Timestamp>,
    /// Executed after the requested date.
    pub late: bool,
    /// Attempts that may have reached a rail.
    pub attempts: u32,
    /// Number of the last attempt, 0 where there is none.
    pub last_attempt: u32,
    /// Why it was rejected.
    pub reasons: Vec<Reason>,
    /// Who works on it.
    pub claim: Option<Claim>,
    /// Grows at each takeover.
    pub fence: i64,
    /// How often an event asked for it.
    pub deliveries: u32,
    /// Its place in the tracker, where the tracker owns it.
    pub tracked: Option<Tracking>,
    /// What it has reserved of its debtor's limit; only where it is open or held.
    pub reserved: Option<DayKey>,
    /// Attempts that matter for a decision: all without a conclusive answer, those that allow a new leg, the last.
    pub tries: Vec<AttemptRow>,
    /// Taken over in this group by a corrected event: what it asks for changed, too.
    pub renewed: bool,
}

/// What an attempt's own process knows of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The rail settled it.
    Settled,
    /// The rail refused it for good.
    Rejected,
    /// The rail refused it and allows a new one under a new key.
    Resubmit,
    /// Proof that nothing was processed.
    NotSent,
}

/// One attempt, written before a byte leaves.
#[derive(Debug, Clone)]
pub struct AttemptRow {
    /// Its payment.
    pub payment: i64,
    /// Counts up over all legs, from 1.
    pub number: u32,
    /// Counts the rails (and keys) it was given to.
    pub leg: u8,
    /// The rail's name.
    pub rail: Arc<str>,
    /// When the intent was recorded.
    pub started_at: Timestamp,
    /// Its conclusive answer.
    pub ended: Option<Ended>,
    /// When that was recorded; `None` with an answer where a person said that it was not processed.
    pub ended_at: Option<Timestamp>,
    /// How often an inquiry after the rail's longest execution time did not find it.
    pub not_found: u32,
    /// When the rail said last that it works on it. No decision rests on it.
    pub in_progress_at: Option<Timestamp>,
    /// Written in this group: new or changed.
    pub dirty: bool,
}

/// How an event ended that is not the one its payment stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Refused by our rules.
    Rejected,
    /// The publisher sent a payment again.
    Duplicate,
    /// Leaves as a dead letter.
    Condemned,
}

/// One ended event.
#[derive(Debug, Clone)]
pub struct EventRow {
    /// The event.
    pub event: EventId,
    /// How it ended.
    pub kind: EventKind,
    /// Its payment, where it could be read.
    pub payment_id: Option<PaymentId>,
    /// Why: at least one where rejected, exactly one where condemned.
    pub reasons: Vec<Reason>,
    /// Subject token.
    pub scheme: SchemeName,
    /// Subject token.
    pub order_key: OrderKey,
    /// The lane.
    pub lane: LaneName,
    /// Where they could be read.
    pub references: References,
    /// Where it could be read.
    pub amount: Option<Money>,
    /// The event's broker timestamp.
    pub requested_at: Timestamp,
    /// When the store saw it first.
    pub first_seen: Timestamp,
    /// Starts, charged attempts or deliveries, whichever the reason counts.
    pub attempts: u32,
    /// When its end became durable.
    pub at: Timestamp,
}

impl EventRow {
    /// The code that leads.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.reasons.first().map(|reason| reason.code)
    }
}

/// One account: counters only grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// Its number.
    pub id: i64,
    /// Sum of all debits, in minor units.
    pub debits: i64,
    /// Sum of all credits, in minor units.
    pub credits: i64,
    /// Whether debits may exceed credits.
    pub overdraft: bool,
    /// When it was opened.
    pub opened_at: Timestamp,
}

/// Money that moved, once and for ever.
#[derive(Debug, Clone)]
pub struct TransferRow {
    /// The payment's row number.
    pub payment: i64,
    /// Account number.
    pub debit: i64,
    /// Account number.
    pub credit: i64,
    /// What moved.
    pub amount: Money,
    /// When.
    pub posted_at: Timestamp,
}

/// Starts of an event's handling that have no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartRow {
    /// How many.
    pub count: u32,
    /// The first of them.
    pub first_at: Timestamp,
}

/// What is to be written, all or nothing.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Payments not there yet.
    pub new_payments: Vec<PaymentRow>,
    /// Payments that stand and changed.
    pub changed_payments: Vec<PaymentRow>,
    /// Accounts not there yet.
    pub new_accounts: Vec<(AccountKey, AccountRow)>,
    /// Accounts whose counters or rule changed.
    pub changed_accounts: Vec<(AccountKey, AccountRow)>,
    /// Transfers, all new.
    pub transfers: Vec<TransferRow>,
    /// Ended events, all new.
    pub events: Vec<EventRow>,
    /// Life lines.
    pub notes: Vec<(PaymentId, Note)>,
    /// Starts to be stored; `None` where the event has ended.
    pub starts: Vec<(EventId, Option<StartRow>)>,
    /// The highest sequence with a recorded end, per stream.
    pub high_water: Vec<(StreamName, i64, u64)>,
    /// What happens to the tracker, in this order.
    pub tracker: Vec<TrackerChange>,
    /// Sums of days not there yet.
    pub new_days: Vec<(DayKey, i64)>,
    /// Sums of days that stand and changed.
    pub changed_days: Vec<(DayKey, i64)>,
    /// Days before this one are to be forgotten, a bounded number at a time.
    pub forget_days_before: Option<Date>,
}

impl Changes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.new_payments.is_empty()
            && self.changed_payments.is_empty()
            && self.new_accounts.is_empty()
            && self.changed_accounts.is_empty()
            && self.transfers.is_empty()
            && self.events.is_empty()
            && self.notes.is_empty()
            && self.starts.is_empty()
            && self.high_water.is_empty()
            && self.tracker.is_empty()
            && self.new_days.is_empty()
            && self.changed_days.is_empty()
    }
}

/// Cuts to the milliseconds that the store keeps, so that an outcome reads the same each time it is told.
#[must_use]
pub(super) fn to_millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}
