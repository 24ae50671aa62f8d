//! A rail with a ledger in the test's own process, and a worker that settles over it through the public library.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use acquit::config::{Config, Sources};
use acquit::domain::Code;
use acquit::operate::guard::StoreGuard;
use acquit::resilience::{Backoff, BreakerSettings, RetryDelays};
use acquit::store::{PaymentRecord, Reader, TrackLimits};
use acquit::worker::{InProgress, LaneStatus, StatusHandle, TrackPolicy};
use acquit::{
    Answer, BookPolicy, BreakerPolicy, Drained, Finding, NotSent, Order, Rail, RailKey, RailRef, RetryPolicy, Sqlite,
    SqliteSettings, Store, Terms, Unknown, Worker, WriterLimits,
};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::process::wait_until;
use crate::site::Site;

/// The rail's promises. A submission that the rail does not know is lost once both are over; the first inquiry, a
/// second after the answer, comes too early.
pub(crate) const DEADLINE: Duration = Duration::from_millis(400);
pub(crate) const LONGEST: Duration = Duration::from_millis(1_600);

/// How one submission goes.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    /// Whether the payment is made, before anything is said.
    pub(crate) pays: bool,
    pub(crate) then: Then,
}

/// What the rail says to a submission.
#[derive(Debug, Clone)]
pub(crate) enum Then {
    Say(Answer),
    /// Its reference.
    Confirm,
    Panic,
    /// Nothing until the door opens; then its reference.
    Wait,
    /// Nothing until the door opens; then this.
    SayLate(Answer),
}

impl Course {
    pub(crate) fn says(answer: Answer) -> Self {
        Self { pays: false, then: Then::Say(answer) }
    }

    pub(crate) fn pays(then: Then) -> Self {
        Self { pays: true, then }
    }
}

/// How inquiries are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Desk {
    /// What the ledger has; what it does not have is not found.
    #[default]
    Honest,
    /// It cannot say.
    Silent,
    /// A person has to look at it.
    Blocks,
    /// The client's code is broken.
    Panics,
}

/// What was asked of the rail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Submit,
    Inquire,
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) asked: Asked,
    pub(crate) key: String,
    pub(crate) at: Instant,
}

#[derive(Default)]
struct Books {
    /// The payment of each key that was ever submitted.
    payments: HashMap<String, String>,
    /// The keys under which each payment was made: more than one is money paid twice.
    paid: BTreeMap<String, Vec<String>>,
    courses: HashMap<String, VecDeque<Course>>,
    calls: Vec<Call>,
    down: bool,
    desk: Desk,
}

/// The other side: what it was asked, and what it did.
pub(crate) struct Ledger {
    books: Mutex<Books>,
    door: watch::Sender<bool>,
}

impl Ledger {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { books: Mutex::default(), door: watch::Sender::new(false) })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    /// The next submissions of a payment go like this; those after them pay and confirm.
    pub(crate) fn plan(&self, payment: &str, courses: impl IntoIterator<Item = Course>) {
        self.books().courses.entry(payment.to_owned()).or_default().extend(courses);
    }

    /// A rail that is down takes no connection.
    pub(crate) fn set_down(&self, down: bool) {
        self.books().down = down;
    }

    pub(crate) fn set_desk(&self, desk: Desk) {
        self.books().desk = desk;
    }

    /// Lets the submissions go on that wait.
    pub(crate) fn open_door(&self) {
        self.door.send_replace(true);
    }

    async fn door_opens(&self) {
        self.door.subscribe().wait_for(|open| *open).await.unwrap();
    }

    /// The calls about one payment, in their order.
    pub(crate) fn calls(&self, payment: &str) -> Vec<Call> {
        let books = self.books();
        let of = |call: &&Call| books.payments.get(&call.key).is_some_and(|p| p == payment);
        books.calls.iter().filter(of).cloned().collect()
    }

    pub(crate) fn count(&self, payment: &str, asked: Asked) -> usize {
        self.calls(payment).iter().filter(|call| call.asked == asked).count()
    }

    /// Whether it was asked about while it had not been settled: ahead of its last submission. One that is settled may be
    /// asked about whenever the rail is probed.
    pub(crate) fn doubted(&self, payment: &str) -> bool {
        let calls = self.calls(payment);
        let last = calls.iter().rposition(|call| call.asked == Asked::Submit).unwrap_or(calls.len());
        calls.iter().take(last).any(|call| call.asked == Asked::Inquire)
    }

    /// The keys under which it was submitted, in their order.
    pub(crate) fn submitted(&self, payment: &str) -> Vec<String> {
        self.calls(payment).into_iter().filter(|call| call.asked == Asked::Submit).map(|call| call.key).collect()
    }

    /// The payments of all submissions, in their order.
    pub(crate) fn submissions(&self) -> Vec<String> {
        let books = self.books();
        let submitted = books.calls.iter().filter(|call| call.asked == Asked::Submit);
        submitted.filter_map(|call| books.payments.get(&call.key).cloned()).collect()
    }

    /// Calls so far.
    pub(crate) fn total(&self) -> usize {
        self.books().calls.len()
    }

    /// Payments made. None was made twice.
    pub(crate) fn payments_made(&self) -> usize {
        let books = self.books();
        let twice: Vec<_> = books.paid.iter().filter(|(_, keys)| keys.len() != 1).collect();
        assert!(twice.is_empty(), "paid twice: {twice:?}");
        books.paid.len()
    }

    fn submit(&self, order: &Order) -> Course {
        let (key, payment) = (order.key().as_str().to_owned(), order.payment().payment_id.to_string());
        let mut books = self.books();
        books.calls.push(Call { asked: Asked::Submit, key: key.clone(), at: Instant::now() });
        books.payments.insert(key.clone(), payment.clone());
        if books.down {
            return Course::says(Answer::NotSent(NotSent::Connect));
        }
        let course = books.courses.get_mut(&payment).and_then(VecDeque::pop_front);
        let course = course.unwrap_or(Course::pays(Then::Confirm));
        let keys = books.paid.entry(payment).or_default();
        if course.pays && !keys.contains(&key) {
            keys.push(key);
        }
        books.paid.retain(|_, keys| !keys.is_empty());
        course
    }

    fn inquire(&self, key: &str) -> Finding {
        let mut books = self.books();
        books.calls.push(Call { asked: Asked::Inquire, key: key.to_owned(), at: Instant::now() });
        let desk = books.desk;
        let paid = books.paid.values().flatten().any(|own| own == key);
        drop(books);
        match desk {
            Desk::Honest if paid => Finding::Answered(confirmed(key)),
            Desk::Honest => Finding::NotFound,
            Desk::Silent => Finding::CannotSay,
            Desk::Blocks => Finding::Answered(Answer::Blocked),
            Desk::Panics => panic!("the rail's client is broken"),
        }
    }
}

/// The reference is the same whenever it is asked for.
fn confirmed(key: &str) -> Answer {
    Answer::Settled(RailRef::parse(&format!("ref-{}", &key[..key.len().min(20)])).unwrap())
}

/// The worker's client of the rail.
pub(crate) struct Client {
    name: &'static str,
    deadline: Duration,
    ledger: Arc<Ledger>,
}

impl Rail for Client {
    fn name(&self) -> &'static str {
        self.name
    }

    fn terms(&self) -> Terms {
        Terms { longest_execution: LONGEST, key_retention: Duration::from_secs(24 * 3600), deadline: self.deadline }
    }

    async fn submit(&self, order: &Order) -> Answer {
        let Course { pays: _, then } = self.ledger.submit(order);
        match then {
            Then::Say(answer) => answer,
            Then::Confirm => confirmed(order.key().as_str()),
            Then::Panic => panic!("the rail's client is broken"),
            Then::Wait => {
                self.ledger.door_opens().await;
                confirmed(order.key().as_str())
            }
            Then::SayLate(answer) => {
                self.ledger.door_opens().await;
                answer
            }
        }
    }

    async fn inquire(&self, key: &RailKey) -> Finding {
        self.ledger.inquire(key.as_str())
    }
}

/// What differs from test to test.
#[derive(Debug, Clone)]
pub(crate) struct Terminal {
    pub(crate) rail: &'static str,
    pub(crate) slots: u16,
    /// Charged attempts of an event.
    pub(crate) attempts: u32,
    pub(crate) claim: Duration,
    /// How far the database's clock is behind.
    pub(crate) behind: SignedDuration,
    /// How long the breaker stays open.
    pub(crate) open: Duration,
    /// How long the rail's answer is waited for.
    pub(crate) deadline: Duration,
    /// The store takes on what the rail takes long for.
    pub(crate) track: bool,
}

impl Default for Terminal {
    fn default() -> Self {
        Self {
            rail: "ledger",
            slots: 16,
            attempts: 10,
            claim: Duration::from_secs(60),
            behind: SignedDuration::ZERO,
            open: Duration::from_millis(400),
            deadline: DEADLINE,
            track: false,
        }
    }
}

/// A worker in this process, with a store of its own.
pub(crate) struct Running {
    store: Store,
    status: StatusHandle,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Drained>,
}

impl Running {
    pub(crate) fn start(site: &Site, ledger: &Arc<Ledger>, terminal: &Terminal) -> Self {
        let file = site.store().with_file_name("acquit.toml");
        let config = Config::load(Sources { file: Some(file), env: Vec::new(), flags: Vec::new() }).unwrap();
        let behind = terminal.behind;
        let settings = SqliteSettings {
            path: site.store(),
            busy_timeout: config.store.busy_timeout,
            wal_limit_bytes: config.store.wal_limit,
            create: false,
            store_id_bits: 0,
            now: Arc::new(move || Timestamp::now() - behind),
        };
        let sqlite = Sqlite::open(settings).unwrap();
        let path = site.store();
        let facts = move || Reader::open(&path, Duration::from_secs(1))?.facts();
        let guard = StoreGuard::new(facts, sqlite.store_id(), "PAYMENTS".to_owned());
        let book = BookPolicy { unknown: Unknown::Refuse, declared: BTreeMap::new() };
        let limits = WriterLimits { group: 64, claim: terminal.claim, poison_starts: 5, keep: None };
        let owner = uuid::Uuid::new_v4().to_string();
        let store = Store::start(sqlite, book, limits, &owner, |_| {}).unwrap();
        let mut lanes = config.lanes;
        for lane in &mut lanes {
            let wait = Backoff::new(Duration::from_millis(50), Duration::from_millis(200)).unwrap();
            let delays =
                RetryDelays { not_sent: wait, store_lost: wait, elsewhere: wait, interrupted: wait, doubt: wait };
            lane.retry = RetryPolicy::new(terminal.attempts, Duration::from_secs(3600), delays).unwrap();
            lane.limits.slots = terminal.slots;
            if terminal.track {
                let limits = TrackLimits { count: 1_000, minor: BTreeMap::new() };
                lane.in_progress = InProgress::Track(TrackPolicy { after: Duration::from_secs(3600), limits });
            }
            lane.breaker = BreakerPolicy::new(BreakerSettings {
                sliding_window_size: 10,
                minimum_number_of_calls: 8,
                wait_duration_in_open_state: terminal.open,
                exponential_max_wait_duration_in_open_state: terminal.open,
                randomized_wait_factor: 0.0,
                permitted_number_of_calls_in_half_open_state: 2,
                ..BreakerSettings::default()
            })
            .unwrap();
        }
        let client = Client { name: terminal.rail, deadline: terminal.deadline, ledger: Arc::clone(ledger) };
        let worker = Worker::new(site.broker.clone(), store.clone(), lanes).guard(guard).rail(client);
        let status = worker.status();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = tokio::spawn(worker.run(async { drop(stopped.await) }));
        Self { store, status, stop, run }
    }

    pub(crate) fn lane(&self) -> Option<LaneStatus> {
        self.status.lanes().into_iter().next()
    }

    /// For looking at it while it stops.
    pub(crate) fn watcher(&self) -> StatusHandle {
        self.status.clone()
    }

    /// Waits until its lane is so.
    pub(crate) async fn until(&self, what: &str, mut check: impl FnMut(&LaneStatus) -> bool) {
        wait_until(what, Duration::from_secs(30), async || self.lane().is_some_and(|lane| check(&lane))).await;
    }

    /// Stops it in order.
    pub(crate) async fn stop(self) -> Drained {
        self.stop.send(()).unwrap();
        let drained = self.run.await.unwrap();
        self.store.stop().await;
        drained
    }

    /// Drops it where it is.
    pub(crate) async fn abandon(self) {
        self.run.abort();
        assert!(self.run.await.unwrap_err().is_cancelled());
        drop(self.status);
        self.store.stop().await;
    }
}

/// What the store knows of a payment.
pub(crate) fn record(site: &Site, payment: &str) -> PaymentRecord {
    let reader = Reader::open(&site.store(), Duration::from_secs(5)).unwrap();
    reader.payment(&acquit::domain::PaymentId::parse(payment).unwrap()).unwrap().unwrap()
}

/// How many outcomes were told of a payment, by their status; repeats of a message id are the broker's to swallow.
pub(crate) async fn told(site: &Site, payment: &str) -> Vec<serde_json::Value> {
    let all = site.stored_in("PAYMENT_OUTCOMES").await;
    let mut told = Vec::new();
    for sequence in 1..=all {
        let message = site.broker.message_at("PAYMENT_OUTCOMES", sequence).await.unwrap();
        let outcome: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        if outcome["payment_id"] == payment {
            told.push(outcome);
        }
    }
    told
}

/// A refusal for good.
pub(crate) fn refused() -> Answer {
    Answer::Rejected { code: Code::AC03, resubmit: false }
}
