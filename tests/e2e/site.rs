//! Everything a worker needs, in a temporary folder: a server, streams, a configuration, a store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use acquit::broker::{Broker, BrokerSettings, ConsumerInfo, Credentials, Nats, Streams, Tls};
use acquit::domain::StreamName;
use acquit::lab::servers::{NatsOptions, NatsServer};
use acquit::operate::publish::{Addresses, PublishOptions};
use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::Connection;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use crate::load::{Expected, Load};
use crate::process::{Worker, program, wait_until};

/// Most of a test is waiting: two cores bear more of them than there are cores. Beyond this a loaded machine would
/// keep workers from telling the broker within an `ack_wait` of one second that they are at work.
const AT_ONCE: u32 = 5;
/// What a test takes that counts deliveries: two others run beside it.
const QUIET: u32 = 3;
static SERVERS: Semaphore = Semaphore::const_new(AT_ONCE as usize);

/// The broker's patience with an event in hand.
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(1);
/// How long a pull stays open.
pub(crate) const EXPIRES: Duration = Duration::from_secs(1);
const CONSUMER: &str = "acquit-payments";

/// What differs from test to test.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) slots: u16,
    /// How long a write waits for a lock. Longer than an outage: slow settlement. Shorter: settlement is down.
    pub(crate) busy_timeout: &'static str,
    pub(crate) wal_limit: &'static str,
    /// How long the settlement breaker stays open, each time.
    pub(crate) breaker_wait: &'static str,
    /// `nats/accounts.conf`, or a change of it; nobody needs to log in without one.
    pub(crate) accounts: Option<String>,
    /// The database of a fleet, in place of a file.
    pub(crate) database: Option<String>,
    /// Little else runs beside it: it counts deliveries, and a worker that gets no processor for most of an
    /// `ack_wait` is delivered its events again.
    pub(crate) quiet: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            slots: 64,
            busy_timeout: "100ms",
            wal_limit: "256MiB",
            breaker_wait: "300ms",
            accounts: None,
            database: None,
            quiet: false,
        }
    }
}

/// Who asks, where the server wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Worker,
    Publisher,
    Operator,
    Provisioner,
}

impl Role {
    const ALL: [Self; 4] = [Self::Worker, Self::Publisher, Self::Operator, Self::Provisioner];

    fn user(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Publisher => "publisher",
            Self::Operator => "operator",
            Self::Provisioner => "provisioner",
        }
    }

    fn inbox(self) -> &'static str {
        match self {
            Self::Worker => "_INBOX_acquit",
            Self::Publisher => "_INBOX_acquit_publisher",
            Self::Operator => "_INBOX_acquit_operator",
            Self::Provisioner => "_INBOX_acquit_provisioner",
        }
    }
}

/// What a verb said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn of(output: std::io::Result<Output>) -> Self {
        let output = output.expect("the program starts");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The one JSON object it printed.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// What `acquit publish --json` says.
#[derive(Debug, Deserialize)]
struct Published {
    published: u64,
    duplicates: u64,
}

/// What `acquit reconcile --json` says.
#[derive(Debug, Deserialize)]
pub(crate) struct Reconciled {
    pub(crate) clean: bool,
    pub(crate) conserved: bool,
    pub(crate) book_balanced: bool,
    pub(crate) differences: Vec<Value>,
    pub(crate) events: Events,
}

/// Its events.
#[derive(Debug, Deserialize)]
pub(crate) struct Events {
    pub(crate) published: u64,
    pub(crate) settled: u64,
    pub(crate) rejected: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) duplicates: u64,
    pub(crate) held: BTreeMap<String, u64>,
    pub(crate) rejected_by_code: BTreeMap<String, u64>,
    pub(crate) dead_lettered_by_code: BTreeMap<String, u64>,
    pub(crate) records_without_event: u64,
}

impl Events {
    pub(crate) fn held(&self) -> u64 {
        self.held.values().sum()
    }
}

/// Every line has its PubAck.
fn confirmed(said: Said, expected: Expected) {
    assert_eq!(said.code, Some(0), "{said:?}");
    let Published { published, duplicates } = said.json();
    assert_eq!((published, duplicates), (expected.published, expected.swallowed));
}

/// A server, provisioned, with a configuration and a store beside it.
pub(crate) struct Site {
    pub(crate) server: NatsServer,
    /// With every right, for what no role may do.
    pub(crate) broker: Broker<Nats>,
    secured: bool,
    dir: TempDir,
    _turn: SemaphorePermit<'static>,
}

impl Site {
    /// A provisioned site.
    pub(crate) async fn new(setup: Setup) -> Self {
        let turn = if setup.quiet { SERVERS.acquire_many(QUIET).await.unwrap() } else { turn().await };
        let dir = tempfile::tempdir().unwrap();
        let mut options = NatsOptions::new(dir.path().join("nats"));
        let secured = setup.accounts.is_some();
        if let Some(accounts) = &setup.accounts {
            options.env = secrets();
            options.extra = accounts.clone();
        }
        let server = NatsServer::start(options).await.unwrap();
        std::fs::write(dir.path().join("acquit.toml"), configuration(&server, dir.path(), &setup)).unwrap();
        for role in Role::ALL {
            std::fs::write(dir.path().join(role.user()), format!("secret-{}", role.user())).unwrap();
        }
        let broker = connect(vec![server.url()], secured).await;
        let site = Self { server, broker, secured, dir, _turn: turn };
        site.provision(&[]).await;
        site
    }

    /// The store's file.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("acquit.db")
    }

    /// The write-ahead log's size, in bytes.
    pub(crate) fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.dir.path().join("acquit.db-wal")).map_or(0, |meta| meta.len())
    }

    /// A folder for what a test puts aside.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// A verb, not started yet.
    pub(crate) fn command(&self, role: Role, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--config").arg(self.dir.path().join("acquit.toml")).args(arguments).current_dir(self.dir.path());
        // The worker refuses variables of its prefix that it does not know, and the tests have some.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ACQUIT_")) {
            command.env_remove(name);
        }
        if self.secured {
            command.env("ACQUIT_BROKER_USER", role.user());
            command.env("ACQUIT_BROKER_PASSWORD_FILE", self.dir.path().join(role.user()));
            command.env("ACQUIT_BROKER_INBOX_PREFIX", role.inbox());
        }
        command.kill_on_drop(true);
        command
    }

    /// Runs a verb to its end.
    pub(crate) async fn acquit(&self, role: Role, arguments: &[&str]) -> Said {
        Said::of(self.command(role, arguments).output().await)
    }

    /// Provisions, once more perhaps; what is there stays.
    pub(crate) async fn provision(&self, more: &[&str]) {
        let arguments = [["provision", "--replicas", "1", "--ack-wait", "1s"].as_slice(), more].concat();
        let said = self.acquit(Role::Provisioner, &arguments).await;
        assert_eq!(said.code, Some(0), "{said:?}");
    }

    /// A worker, its operations HTTP listening.
    pub(crate) async fn worker(&self) -> Worker {
        Worker::start(self.command(Role::Worker, &["run"])).await
    }

    /// Has the killed server forget what it has delivered, as an R1 consumer may in a crash.
    pub(crate) fn forget_deliveries(&self) {
        assert_eq!(self.server.pid(), None, "a server that runs would write it anew");
        std::fs::remove_file(self.consumer_state()).unwrap();
    }

    /// Deliveries that the consumer's state on the server's disk knows of; it is written now and then only.
    pub(crate) fn kept_deliveries(&self) -> u64 {
        let state = std::fs::read(self.consumer_state()).unwrap_or_default();
        // Two bytes of header, then numbers: the acknowledgement floor's pair, and what is delivered.
        let mut numbers = state.get(2..).unwrap_or_default().split_inclusive(|byte| byte & 0x80 == 0);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| (sum << 7) | u64::from(byte & 0x7f));
        numbers.nth(2).map_or(0, number)
    }

    fn consumer_state(&self) -> PathBuf {
        self.server.dir().join("jetstream/jetstream/$G/streams/PAYMENTS/obs").join(CONSUMER).join("o.dat")
    }

    /// The killed server's streams and consumers, as they are, go to `to`.
    pub(crate) fn keep_streams(&self, to: &Path) {
        assert_eq!(self.server.pid(), None, "a server that runs writes to them");
        copy_all(&self.server.dir().join("jetstream"), to);
    }

    /// Has the killed server come back with streams as they were before.
    pub(crate) fn bring_back_streams(&self, from: &Path) {
        assert_eq!(self.server.pid(), None, "a server that runs writes to them");
        let streams = self.server.dir().join("jetstream");
        std::fs::remove_dir_all(&streams).unwrap();
        copy_all(from, &streams);
    }

    /// The server's clock, and the pulls that wait at the lane's consumer.
    pub(crate) async fn clock_and_pulls(&self) -> (Timestamp, u64) {
        let info = self.broker.api(&format!("CONSUMER.INFO.PAYMENTS.{CONSUMER}"), &Value::Null).await.unwrap();
        (info["ts"].as_str().unwrap().parse().unwrap(), info["num_waiting"].as_u64().unwrap())
    }

    /// Changes one key of the consumer's configuration by hand.
    pub(crate) async fn set_consumer(&self, key: &str, value: Value) {
        let mut config = self.consumer().await.expect("the consumer").config;
        config[key] = value;
        let body = json!({ "stream_name": "PAYMENTS", "config": config, "action": "update" });
        self.broker.api(&format!("CONSUMER.CREATE.PAYMENTS.{CONSUMER}"), &body).await.unwrap();
    }

    /// Publishes, and every event has its PubAck.
    pub(crate) async fn publish(&self, load: &Load) {
        confirmed(self.publishing(load).await.unwrap(), load.expected);
    }

    /// Publishes beside the test, with the verb's patience for a broker that is away.
    pub(crate) fn publishing(&self, load: &Load) -> JoinHandle<Said> {
        let file = self.dir.path().join(format!("{}.jsonl", uuid::Uuid::new_v4()));
        let mut lines = load.bodies.join(&b'\n');
        lines.push(b'\n');
        std::fs::write(&file, lines).unwrap();
        let mut command = self.command(Role::Publisher, &["publish", "--json"]);
        tokio::spawn(async move { Said::of(command.arg(file).output().await) })
    }

    /// Publishes one body under a message id of one's own.
    pub(crate) async fn publish_as(&self, id: &str, body: &Bytes) {
        let stream = &self.broker.streams().payments;
        let subject = Addresses::new(&PublishOptions::built_in().unwrap().schemes).of(body, 1).subject;
        let (_, duplicate) = self.broker.publish_confirmed(&subject, id, &[], body.clone(), stream).await.unwrap();
        assert!(!duplicate, "{id}");
    }

    /// The lane's consumer, where the server answers.
    pub(crate) async fn consumer(&self) -> Option<ConsumerInfo> {
        self.broker.consumer_info("PAYMENTS", CONSUMER).await.ok()
    }

    /// Deletes the lane's consumer.
    pub(crate) async fn remove_consumer(&self) {
        self.broker.api(&format!("CONSUMER.DELETE.PAYMENTS.{CONSUMER}"), &Value::Null).await.unwrap();
    }

    /// Deliveries so far, repeated ones included.
    pub(crate) async fn deliveries(&self) -> u64 {
        self.consumer().await.expect("the consumer").delivered.consumer_seq
    }

    /// Whether every event has been delivered and answered.
    pub(crate) async fn has_ended(&self) -> bool {
        self.consumer().await.is_some_and(|info| info.num_pending == 0 && info.num_ack_pending == 0)
    }

    /// Waits until every event has been delivered and answered.
    pub(crate) async fn drained(&self, worker: &Worker) {
        let mut last = None;
        let begun = std::time::Instant::now();
        wait_until("every event has its end", Duration::from_secs(90), async || {
            last = self.consumer().await;
            if begun.elapsed() > Duration::from_secs(85) {
                panic!("{last:?}\n{:?}\n{}", worker.lane().await, worker.log_end());
            }
            last.as_ref().is_some_and(|info| info.num_pending == 0 && info.num_ack_pending == 0)
        })
        .await;
    }

    /// Reconciles: nothing is lost, doubled or different, and the book balances.
    pub(crate) async fn reconciled(&self) -> Events {
        let said = self.acquit(Role::Operator, &["reconcile", "--json"]).await;
        let found: Reconciled = said.json();
        let Reconciled { clean, conserved, book_balanced, differences, events } = &found;
        assert!(said.code == Some(0) && *clean && *conserved && *book_balanced && differences.is_empty(), "{found:#?}");
        assert!(events.published > 0 || events.records_without_event > 0, "it looked at nothing");
        found.events
    }

    /// Reconciles, and every event has the end that it should have.
    pub(crate) async fn balances(&self, expected: Expected) {
        let found = self.reconciled().await;
        let counts = Expected {
            published: found.published,
            settled: found.settled,
            rejected: found.rejected,
            dead_lettered: found.dead_lettered,
            duplicates: found.duplicates,
            swallowed: expected.swallowed,
        };
        assert_eq!((counts, found.held()), (expected, 0), "{found:#?}");
    }

    /// One message count of a stream.
    pub(crate) async fn stored_in(&self, stream: &str) -> u64 {
        self.broker.stream_info(stream).await.unwrap().state.messages
    }

    /// Changes one key of a stream's configuration.
    pub(crate) async fn set(&self, stream: &str, key: &str, value: Value) {
        let mut config = self.broker.stream_info(stream).await.unwrap().config;
        config[key] = value;
        self.broker.api(&format!("STREAM.UPDATE.{stream}"), &config).await.unwrap();
    }

    /// Takes the store's write lock; settlement is down, or slow, until it is dropped.
    pub(crate) fn lock(&self) -> Lock {
        let connection = Connection::open(self.store()).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Lock { _connection: connection }
    }

    /// Reads the store and does not let go; the write-ahead log cannot be reset until it is dropped.
    pub(crate) fn pin(&self) -> Lock {
        let connection = Connection::open(self.store()).unwrap();
        connection.execute_batch("BEGIN").unwrap();
        let _rows: i64 = connection.query_row("SELECT count(*) FROM payments", [], |row| row.get(0)).unwrap();
        Lock { _connection: connection }
    }

    /// Another text in place of the server's, taken up without a restart.
    pub(crate) fn reload(&self, from: &str, to: &str) {
        let path = self.server.dir().join("nats-server.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let pid = self.server.pid().and_then(|pid| i32::try_from(pid).ok()).expect("it runs");
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    }
}

/// A transaction that is open until this is dropped.
pub(crate) struct Lock {
    _connection: Connection,
}

/// `nats/accounts.conf` with one user more, who may do everything.
pub(crate) fn accounts() -> String {
    let admin = "users: [\n      { user: admin, password: \"secret-admin\" }";
    include_str!("../../nats/accounts.conf").replacen("users: [", admin, 1)
}

fn secrets() -> Vec<(String, String)> {
    let users = Role::ALL.map(Role::user).into_iter().chain(["sys"]);
    users.map(|u| (format!("NATS_{}_PASSWORD", u.to_uppercase()), format!("secret-{u}"))).collect()
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Waits for a place among the servers that may run at once.
pub(crate) async fn turn() -> SemaphorePermit<'static> {
    SERVERS.acquire().await.unwrap()
}

/// A connection to servers where nobody needs to log in.
pub(crate) async fn connect_to(servers: Vec<String>) -> Broker<Nats> {
    connect(servers, false).await
}

async fn connect(servers: Vec<String>, secured: bool) -> Broker<Nats> {
    let credentials = if secured {
        Credentials::Password { user: "admin".to_owned(), password: "secret-admin".into() }
    } else {
        Credentials::None
    };
    let settings = BrokerSettings {
        servers,
        name: "e2e".to_owned(),
        credentials,
        tls: Tls::default(),
        inbox_prefix: "_INBOX_e2e".to_owned(),
        ping_interval: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(10),
    };
    let name = |name| StreamName::parse(name).unwrap();
    let streams = Streams {
        payments: name("PAYMENTS"),
        outcomes: name("PAYMENT_OUTCOMES"),
        dead_letters: name("PAYMENT_DEAD_LETTERS"),
        audit: name("PAYMENT_AUDIT"),
    };
    Broker::new(Nats::connect(&settings).await.unwrap(), streams)
}

fn configuration(server: &NatsServer, dir: &Path, setup: &Setup) -> String {
    let Setup { slots, busy_timeout, wal_limit, breaker_wait, accounts: _, database, quiet: _ } = setup;
    let mut text = String::new();
    let place = match database {
        Some(url) => format!("url = \"{url}\"\nstatement_timeout = \"2s\""),
        None => format!("path = \"{}\"", dir.join("acquit.db").display()),
    };
    write!(
        text,
        r#"[broker]
servers = ["{url}"]
[store]
{place}
busy_timeout = "{busy_timeout}"
wal_limit = "{wal_limit}"
[book]
overdraft = "allow"
[ops]
listen = "127.0.0.1:0"
[log]
format = "json"
[[lane]]
name = "payments"
slots = {slots}
parked = 256
grace = "8s"
expires = "{expires}s"
[lane.retry]
store_lost_max = "1s"
interrupted_max = "1s"
[lane.breaker]
wait_duration_in_open_state = "{breaker_wait}"
exponential_max_wait_duration_in_open_state = "{breaker_wait}"
randomized_wait_factor = 0.0
"#,
        url = server.url(),
        expires = EXPIRES.as_secs(),
    )
    .unwrap();
    text
}
