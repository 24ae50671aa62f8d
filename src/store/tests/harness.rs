use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;

use crate::domain::{
    Account, Currency, EventId, Fingerprint, LaneName, Money, OrderKey, OtherAccount, Outcome, Payment, PaymentId,
    Reason, References, SchemeName, StreamName,
};
use crate::intake::{Judged, Refused, Valid};
use crate::store::{
    Backend, BookPolicy, Condemned, OpenError, Origin, Reader, Recorded, Route, Sqlite, SqliteSettings, Stand, Store,
    Unknown, WriterLimits,
};

pub(super) const RAIL: Route = Route::Rail { name: "swift", leg: 0 };

/// A store in a folder of its own, with a clock that only the test moves.
pub(super) struct Home {
    pub(super) folder: TempDir,
    pub(super) clock: Arc<AtomicI64>,
    pub(super) policy: BookPolicy,
    pub(super) limits: WriterLimits,
    pub(super) wal_limit_bytes: u64,
}

impl Home {
    pub(super) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(AtomicI64::new(1_800_000_000_000)),
            policy: BookPolicy { unknown: Unknown::Open { overdraft: true }, declared: BTreeMap::new() },
            limits: WriterLimits { group: 64, claim: Duration::from_secs(30), poison_starts: 3, keep: None },
            wal_limit_bytes: 64 << 20,
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    pub(super) fn settings(&self) -> SqliteSettings {
        let clock = Arc::clone(&self.clock);
        SqliteSettings {
            path: self.path(),
            busy_timeout: Duration::from_millis(20),
            wal_limit_bytes: self.wal_limit_bytes,
            create: true,
            store_id_bits: 7,
            now: Arc::new(move || Timestamp::from_millisecond(clock.load(Ordering::SeqCst)).unwrap()),
        }
    }

    pub(super) fn sqlite(&self) -> Result<Sqlite, OpenError> {
        Sqlite::open(self.settings())
    }

    pub(super) fn store(&self) -> Store {
        self.start(self.sqlite().unwrap(), "worker")
    }

    pub(super) fn start(&self, backend: impl Backend, owner: &str) -> Store {
        Store::start(backend, self.policy.clone(), self.limits, owner, |_| {}).unwrap()
    }

    pub(super) fn reader(&self) -> Reader {
        Reader::open(&self.path(), Duration::from_millis(100)).unwrap()
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.clock.load(Ordering::SeqCst)).unwrap()
    }

    pub(super) fn pass(&self, time: Duration) {
        self.clock.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(super) fn assert_balanced(&self) {
        for line in self.reader().book_check().unwrap() {
            assert!(line.balances(), "{line:?}");
        }
    }
}

pub(super) fn id(text: &str) -> PaymentId {
    PaymentId::parse(text).unwrap()
}

pub(super) fn event(sequence: u64) -> EventId {
    EventId { stream: StreamName::parse("PAYMENTS").unwrap(), created_ms: 1_700_000_000_000, sequence }
}

pub(super) fn origin(sequence: u64) -> Origin {
    Origin {
        event: event(sequence),
        scheme: SchemeName::parse("book").unwrap(),
        order_key: OrderKey::parse("acct-1").unwrap(),
        lane: LaneName::parse("main").unwrap(),
        requested_at: Timestamp::from_millisecond(1_799_999_999_123).unwrap(),
        delivery: 1,
        history: Vec::new(),
    }
}

pub(super) fn account(text: &str) -> Account {
    Account::Other(OtherAccount::parse(text, None).unwrap())
}

/// What a test asks for: from one account to another.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) id: PaymentId,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) minor: i64,
    pub(super) currency: &'static str,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) late_from: Option<Timestamp>,
}

impl Wish {
    pub(super) fn new(payment: &str, minor: i64) -> Self {
        Self {
            id: id(payment),
            from: "alice".to_owned(),
            to: "bob".to_owned(),
            minor,
            currency: "EUR",
            expires_at: None,
            late_from: None,
        }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let Self { id, from, to, minor, currency, .. } = self;
        Fingerprint::of(format!("{id} {from} {to} {minor} {currency}").as_bytes())
    }

    pub(super) fn amount(&self) -> Money {
        Money::new(self.minor, Currency::parse(self.currency).unwrap()).unwrap()
    }

    pub(super) fn valid(&self) -> Judged {
        let payment = Payment {
            payment_id: self.id.clone(),
            scheme: SchemeName::parse("book").unwrap(),
            references: References { end_to_end_id: Some("E2E-1".into()), ..References::default() },
            amount: self.amount(),
            debtor: None,
            creditor: None,
            debtor_account: account(&self.from),
            creditor_account: account(&self.to),
            debtor_agent: None,
            creditor_agent: None,
            charge_bearer: None,
            execution_date: None,
            late_from: self.late_from,
            expires_at: self.expires_at,
            category_purpose: None,
            purpose: None,
            remittance: None,
        };
        Judged::Valid(Valid::for_test(payment, self.fingerprint()))
    }

    pub(super) fn refused(&self, reasons: Vec<Reason>) -> Judged {
        Judged::Refused(Refused::for_test(self.id.clone(), self.fingerprint(), reasons))
    }
}

pub(super) trait Expect {
    fn recorded(self) -> Recorded;
    fn condemned(self) -> Condemned;
}

impl Expect for Stand {
    fn recorded(self) -> Recorded {
        let Self::Final(recorded) = self else { panic!("not final: {self:?}") };
        recorded
    }

    fn condemned(self) -> Condemned {
        let Self::Condemned(condemned) = self else { panic!("not condemned: {self:?}") };
        condemned
    }
}

pub(super) async fn open(store: &Store, sequence: u64, judged: Judged, route: Route) -> Stand {
    store.open(origin(sequence), judged, route).await.map_err(|(lost, _, _)| lost).unwrap()
}

pub(super) fn leading_code(recorded: &Recorded) -> Option<&'static str> {
    match recorded.outcome() {
        Outcome::Settled(_) => None,
        Outcome::Rejected(rejected) => rejected.reasons.first().map(|reason| reason.code.as_str()),
    }
}
