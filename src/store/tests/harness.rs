use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::postgres;
use crate::domain::{
    Account, Currency, EventId, Fingerprint, LaneName, Money, OrderKey, OtherAccount, Outcome, Payment, PaymentId,
    Reason, References, SchemeName, StreamName,
};
use crate::intake::{Allowance, Judged, Refused, Valid};
use crate::lab::servers::{PostgresOptions, PostgresServer};
use crate::store::postgres::client;
use crate::store::{
    Backend, BookPolicy, Changes, Condemned, DueList, DueWanted, OpenError, Origin, Postgres, PostgresSettings, Pruned,
    Reader, Recorded, Route, Rows, Sqlite, SqliteSettings, Stand, Store, Trouble, Unknown, Wanted, WriterLimits,
    migrate,
};

pub(super) const RAIL: Route = Route::Rail { name: "swift", leg: 0 };

/// A store of its own, with a clock that only the test moves.
pub(super) struct Home {
    pub(super) place: Place,
    pub(super) clock: Arc<AtomicI64>,
    pub(super) policy: BookPolicy,
    pub(super) limits: WriterLimits,
    pub(super) wal_limit_bytes: u64,
    pub(super) busy_timeout: Duration,
}

/// Where it is.
pub(super) enum Place {
    /// A file in a folder.
    Sqlite(TempDir),
    /// A schema in the database of all tests.
    Postgres(PostgresSettings),
}

impl Home {
    pub(super) fn sqlite() -> Self {
        Self::at(Place::Sqlite(tempfile::tempdir().unwrap()))
    }

    pub(super) async fn postgres() -> Self {
        let settings = postgres::settings(server().await);
        migrate(&settings, 7).await.unwrap();
        Self::at(Place::Postgres(settings))
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            clock: Arc::new(AtomicI64::new(1_800_000_000_000)),
            policy: BookPolicy { unknown: Unknown::Open { overdraft: true }, declared: BTreeMap::new() },
            limits: WriterLimits { group: 64, claim: Duration::from_secs(30), poison_starts: 3, keep: None },
            wal_limit_bytes: 64 << 20,
            busy_timeout: Duration::from_millis(20),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        let Place::Sqlite(folder) = &self.place else { panic!("not a file") };
        folder.path()
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder().join("store.db")
    }

    pub(super) fn settings(&self) -> SqliteSettings {
        let clock = Arc::clone(&self.clock);
        SqliteSettings {
            path: self.path(),
            busy_timeout: self.busy_timeout,
            wal_limit_bytes: self.wal_limit_bytes,
            create: true,
            store_id_bits: 7,
            now: Arc::new(move || Timestamp::from_millisecond(clock.load(Ordering::SeqCst)).unwrap()),
        }
    }

    pub(super) fn open_sqlite(&self) -> Result<Sqlite, OpenError> {
        Sqlite::open(self.settings())
    }

    pub(super) async fn backend(&self) -> Either {
        match &self.place {
            Place::Sqlite(_) => Either::Sqlite(self.open_sqlite().unwrap()),
            Place::Postgres(settings) => Either::Postgres(Clocked {
                inner: Postgres::open(settings.clone()).await.unwrap(),
                clock: Arc::clone(&self.clock),
            }),
        }
    }

    pub(super) async fn store(&self) -> Store {
        self.start(self.backend().await, "worker")
    }

    pub(super) fn start(&self, backend: impl Backend, owner: &str) -> Store {
        Store::start(backend, self.policy.clone(), self.limits, owner, |_| {}).unwrap()
    }

    pub(super) fn reader(&self) -> Reader {
        match &self.place {
            Place::Sqlite(_) => Reader::open(&self.path(), Duration::from_millis(100)).unwrap(),
            Place::Postgres(settings) => Reader::connect(settings).unwrap(),
        }
    }

    /// Past every guard of ours; says whether the database let it pass.
    pub(super) async fn tamper(&self, sql: &str) -> bool {
        match &self.place {
            Place::Sqlite(_) => Connection::open(self.path()).unwrap().execute_batch(sql).is_ok(),
            Place::Postgres(settings) => client(settings).await.unwrap().batch_execute(sql).await.is_ok(),
        }
    }

    /// Keeps the writer from its rows until the result is released.
    pub(super) async fn block(&self) -> Block {
        match &self.place {
            Place::Sqlite(_) => {
                let connection = Connection::open(self.path()).unwrap();
                connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                Block::Sqlite(connection)
            }
            Place::Postgres(settings) => {
                let client = client(settings).await.unwrap();
                client.batch_execute("BEGIN; LOCK TABLE payments IN ACCESS EXCLUSIVE MODE").await.unwrap();
                Block::Postgres(client)
            }
        }
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

/// The one server of all tests of this process. It goes with the process.
pub(super) async fn server() -> &'static PostgresServer {
    static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();
    let started = SERVER.get_or_init(|| async { PostgresServer::start(PostgresOptions::default()).await.unwrap() });
    started.await
}

pub(super) enum Block {
    Sqlite(Connection),
    Postgres(tokio_postgres::Client),
}

impl Block {
    pub(super) async fn release(self) {
        match self {
            Self::Sqlite(connection) => connection.execute_batch("ROLLBACK").unwrap(),
            Self::Postgres(client) => client.batch_execute("ROLLBACK").await.unwrap(),
        }
    }
}

/// Whichever backend the test is about.
pub(super) enum Either {
    Sqlite(Sqlite),
    Postgres(Clocked),
}

/// PostgreSQL, with the test's clock in place of the database's.
pub(super) struct Clocked {
    inner: Postgres,
    clock: Arc<AtomicI64>,
}

impl Backend for Either {
    async fn begin(&mut self, wanted: &Wanted) -> Result<Rows, Trouble> {
        match self {
            Self::Sqlite(inner) => inner.begin(wanted).await,
            Self::Postgres(Clocked { inner, clock }) => {
                let rows = inner.begin(wanted).await?;
                Ok(Rows { now: Timestamp::from_millisecond(clock.load(Ordering::SeqCst)).unwrap(), ..rows })
            }
        }
    }

    async fn commit(&mut self, changes: Changes) -> Result<(), Trouble> {
        match self {
            Self::Sqlite(inner) => inner.commit(changes).await,
            Self::Postgres(Clocked { inner, .. }) => inner.commit(changes).await,
        }
    }

    async fn due(&mut self, wanted: &DueWanted) -> Result<DueList, Trouble> {
        match self {
            Self::Sqlite(inner) => inner.due(wanted).await,
            Self::Postgres(Clocked { inner, clock }) => {
                let at = Timestamp::from_millisecond(clock.load(Ordering::SeqCst)).unwrap();
                inner.due(&DueWanted { at: Some(at), ..wanted.clone() }).await
            }
        }
    }

    async fn reset(&mut self) -> Result<(), Trouble> {
        match self {
            Self::Sqlite(inner) => inner.reset().await,
            Self::Postgres(Clocked { inner, .. }) => inner.reset().await,
        }
    }

    async fn prune(&mut self, keep: Duration, most: u32) -> Result<Pruned, Trouble> {
        match self {
            Self::Sqlite(inner) => inner.prune(keep, most).await,
            Self::Postgres(Clocked { inner, clock }) => {
                let now = Timestamp::from_millisecond(clock.load(Ordering::SeqCst)).unwrap();
                inner.prune_before(now - SignedDuration::try_from(keep).unwrap(), most).await
            }
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
    pub(super) allowance: Option<Allowance>,
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
            allowance: None,
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
        Judged::Valid(Valid::for_test(payment, self.fingerprint()).with_allowance(self.allowance))
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

/// Each of these over each database.
macro_rules! both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Home::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Home::postgres().await).await;
            })*
        }
    };
}
pub(super) use both;

pub(super) async fn open(store: &Store, sequence: u64, judged: Judged, route: Route) -> Stand {
    store.open(origin(sequence), judged, route).await.map_err(|(lost, _, _)| lost).unwrap()
}

pub(super) fn leading_code(recorded: &Recorded) -> Option<&'static str> {
    match recorded.outcome() {
        Outcome::Settled(_) => None,
        Outcome::Rejected(rejected) => rejected.reasons.first().map(|reason| reason.code.as_str()),
    }
}
