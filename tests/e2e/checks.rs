//! A check before settlement, in the test's own process. It fails closed, and what stands already goes before it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acquit::config::{Config, Sources};
use acquit::domain::{Code, Payment};
use acquit::store::{BookPolicy, Sqlite, SqliteSettings, Store, Unknown, WriterLimits};
use acquit::worker::{Drained, StatusHandle, Worker};
use acquit::{Answer, CaseRef, Check, Cleared, Finding, Order, Rail, RailKey, RailRef, Terms};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::process::wait_until;
use crate::site::{Role, Setup, Site};

/// How a check may end without saying anything.
#[derive(Debug, Clone)]
enum Says {
    This(Cleared),
    Panic,
    Nothing,
}

/// Says what the test has written beside each payment id; `Clear` where nothing is.
#[derive(Clone, Default)]
struct Screening {
    says: Arc<Mutex<HashMap<String, Says>>>,
    asked: Arc<Mutex<HashMap<String, u32>>>,
}

impl Screening {
    fn says(&self, payment: &str, says: Says) {
        self.says.lock().unwrap().insert(payment.to_owned(), says);
    }

    fn script(&self, payment: &str) -> Option<Says> {
        let says = self.says.lock().unwrap();
        says.get(payment).or_else(|| says.get("*")).cloned()
    }

    fn asked(&self, payment: &str) -> u32 {
        self.asked.lock().unwrap().get(payment).copied().unwrap_or(0)
    }

    fn asked_in_all(&self) -> u32 {
        self.asked.lock().unwrap().values().sum()
    }
}

impl Check for Screening {
    async fn check(&self, payment: &Payment) -> Cleared {
        let id = payment.payment_id.as_str();
        *self.asked.lock().unwrap().entry(id.to_owned()).or_default() += 1;
        match self.script(id) {
            None => Cleared::Clear,
            Some(Says::This(said)) => said,
            Some(Says::Panic) => panic!("a check of somebody's own"),
            Some(Says::Nothing) => std::future::pending().await,
        }
    }

    fn deadline(&self) -> Duration {
        Duration::from_millis(300)
    }
}

/// Settles what the test lets it, and answers no submission.
#[derive(Clone, Default)]
struct Mute(Arc<Mutex<bool>>);

impl Rail for Mute {
    fn name(&self) -> &'static str {
        "mute"
    }

    fn terms(&self) -> Terms {
        Terms {
            longest_execution: Duration::from_secs(60),
            key_retention: Duration::from_secs(24 * 3600),
            deadline: Duration::from_secs(1),
        }
    }

    async fn submit(&self, _order: &Order) -> Answer {
        Answer::Unknown
    }

    async fn inquire(&self, _key: &RailKey) -> Finding {
        let settled = *self.0.lock().unwrap();
        let answer = || Answer::Settled(RailRef::parse("R-1").unwrap());
        if settled { Finding::Answered(answer()) } else { Finding::CannotSay }
    }
}

/// A worker in this process.
struct Running {
    store: Store,
    status: StatusHandle,
    stop: oneshot::Sender<()>,
    worker: JoinHandle<Drained>,
}

impl Running {
    fn start(site: &Site, check: Screening, rail: Option<Mute>) -> Self {
        let file = site.store().with_file_name("acquit.toml");
        let config = Config::load(Sources { file: Some(file), env: Vec::new(), flags: Vec::new() }).unwrap();
        let settings = SqliteSettings {
            path: site.store(),
            busy_timeout: Duration::from_secs(1),
            wal_limit_bytes: config.store.wal_limit,
            create: false,
            store_id_bits: 0,
            now: Arc::new(Timestamp::now),
        };
        let book = BookPolicy { unknown: Unknown::Open { overdraft: true }, declared: Default::default() };
        let limits = WriterLimits { group: 64, claim: Duration::from_secs(60), poison_starts: 5, keep: None };
        let store = Store::start(Sqlite::open(settings).unwrap(), book, limits, "checks", |_| {}).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let worker = Worker::new(site.broker.clone(), store.clone(), config.lanes).check(check);
        let status = worker.status();
        let worker = match rail {
            None => tokio::spawn(worker.run(stopped)),
            Some(rail) => tokio::spawn(worker.rail(rail).run(stopped)),
        };
        Self { store, status, stop, worker }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        let _drained = self.worker.await.unwrap();
        self.store.stop().await;
    }
}

async fn publish(site: &Site, id: &str, message: &str) {
    let account = |iban: &str| json!({ "iban": iban });
    let body = json!({
        "payment_id": id, "scheme": "book", "amount": { "currency": "EUR", "value": "12.00" },
        "debtor": { "name": "Canary Bakery" }, "end_to_end_id": "INV-7",
        "debtor_account": account("GB29NWBK60161331926819"), "creditor_account": account("DE89370400440532013000"),
    });
    let (subject, stream) = (format!("payments.requested.book.{id}"), &site.broker.streams().payments);
    site.broker.publish_confirmed(&subject, message, &[], body.to_string().into(), stream).await.unwrap();
}

/// Waits for an outcome event of the payment; gives its message id and body.
async fn told(site: &Site, what: &str, payment: &str) -> (String, Value) {
    let (mut told, subject) = (None, format!("payments.{what}.book.{payment}"));
    wait_until(&format!("{payment} is told as {what}"), Duration::from_secs(60), async || {
        told = site.broker.last_on("PAYMENT_OUTCOMES", &subject).await.ok();
        told.is_some()
    })
    .await;
    let told = told.unwrap();
    (told.header("Nats-Msg-Id").unwrap().to_owned(), serde_json::from_slice(&told.payload).unwrap())
}

#[tokio::test]
async fn only_what_a_check_has_cleared_is_settled_and_nothing_is_lost() {
    let (site, check) = (Site::new(Setup::default()).await, Screening::default());
    check.says("HELD", Says::This(Cleared::Hold(CaseRef::new("SCR-2026.7"))));
    check.says("BAD", Says::This(Cleared::Refuse(Code::RR04)));
    check.says("DOWN", Says::This(Cleared::Unavailable));
    check.says("PANIC", Says::Panic);
    check.says("SLOW", Says::Nothing);
    let running = Running::start(&site, check.clone(), None);
    for id in ["HELD", "BAD", "DOWN", "PANIC", "SLOW", "FINE"] {
        publish(&site, id, id).await;
    }
    assert_eq!(told(&site, "settled", "FINE").await.1["rail"], "book");
    let (id, refused) = told(&site, "rejected", "BAD").await;
    assert!(id.starts_with("BAD:rejected:"), "{id}");
    let reason = json!([{ "code": "RR04", "path": "", "text": "regulatory reason" }]);
    assert_eq!(
        (&refused["by"], &refused["reasons"], &refused["end_to_end_id"]),
        (&json!("rules"), &reason, &json!("INV-7"))
    );
    let (id, held) = told(&site, "held", "HELD").await;
    let reason = json!([{ "code": "PDNG", "path": "", "text": "it has not been executed yet" }]);
    assert_eq!((id.as_str(), &held["reasons"], &held["rail"]), ("HELD:held", &reason, &json!("book")));

    // A repeat of what is settled is answered by the store, however the check is by now.
    check.says("FINE", Says::This(Cleared::Refuse(Code::RR04)));
    publish(&site, "FINE", "FINE-again").await;
    wait_until("all four were asked about", Duration::from_secs(60), async || {
        ["HELD", "DOWN", "PANIC", "SLOW"].iter().all(|id| check.asked(id) >= 1)
            && site.broker.last_on("PAYMENT_OUTCOMES", "payments.held.book.HELD").await.is_ok()
    })
    .await;
    wait_until("the repeat is known", Duration::from_secs(60), async || site.reconciled().await.duplicates == 1).await;
    let events = site.reconciled().await;
    assert_eq!((events.settled, events.rejected, events.duplicates, events.held()), (1, 1, 1, 4), "{events:?}");
    assert_eq!(events.rejected_by_code["RR04"], 1);
    assert_eq!((check.asked("FINE"), check.asked("BAD")), (1, 1));

    // What waited goes on as soon as the check says so.
    for id in ["DOWN", "PANIC", "SLOW"] {
        check.says(id, Says::This(Cleared::Clear));
    }
    for id in ["DOWN", "PANIC", "SLOW"] {
        told(&site, "settled", id).await;
    }
    let asked = check.asked("HELD");
    wait_until("it is asked about again", Duration::from_secs(60), async || check.asked("HELD") >= asked + 2).await;
    // Told once; and the reference of the case is for those who may look.
    assert_eq!(site.stored_in("PAYMENT_OUTCOMES").await, 6, "settled, rejected, held: once each");
    let life: Value = site.acquit(Role::Operator, &["explain", "HELD", "--json"]).await.json();
    assert!(life["notes"].to_string().contains("case SCR-2026.7"), "{life}");
    check.says("HELD", Says::This(Cleared::Clear));
    told(&site, "settled", "HELD").await;
    wait_until("every event has its end", Duration::from_secs(60), async || site.has_ended().await).await;
    running.stop().await;
    let events = site.reconciled().await;
    assert_eq!((events.settled, events.rejected, events.held(), events.dead_lettered), (5, 1, 0, 0), "{events:?}");
    assert_eq!(site.stored_in("PAYMENT_DEAD_LETTERS").await, 0);
}

#[tokio::test]
async fn while_the_check_is_down_nothing_is_pulled_or_settled_and_then_everything_is() {
    let (site, check) = (Site::new(Setup::default()).await, Screening::default());
    check.says("*", Says::This(Cleared::Unavailable));
    let running = Running::start(&site, check.clone(), None);
    wait_until("the lane pulls", Duration::from_secs(20), async || running.status.lanes()[0].ready).await;
    for n in 0..60 {
        publish(&site, &format!("PAY-{n}"), &format!("PAY-{n}")).await;
    }
    wait_until("its breaker shuts the gate", Duration::from_secs(20), async || {
        let lane = &running.status.lanes()[0];
        lane.gate_reason == Some("checks") && lane.breakers.checks == "open" && lane.breakers.settlement == "closed"
    })
    .await;
    // Probes only: one at a time, and their events are not charged. Each event is asked about at most once before.
    let asked = check.asked_in_all();
    wait_until("it is probed", Duration::from_secs(30), async || check.asked_in_all() >= asked + 2).await;
    let lane = &running.status.lanes()[0];
    assert_eq!((lane.settled, lane.dead_lettered, site.stored_in("PAYMENT_OUTCOMES").await), (0, 0, 0));
    check.says("*", Says::This(Cleared::Clear));
    wait_until("every event has its end", Duration::from_secs(60), async || {
        site.stored_in("PAYMENT_OUTCOMES").await == 60 && site.has_ended().await
    })
    .await;
    running.stop().await;
    assert_eq!(site.reconciled().await.settled, 60);
}

#[tokio::test]
async fn what_may_have_reached_a_rail_is_no_business_of_a_check_any_more() {
    let (site, check, rail) = (Site::new(Setup::default()).await, Screening::default(), Mute::default());
    let running = Running::start(&site, check.clone(), Some(rail.clone()));
    publish(&site, "PAY-1", "PAY-1").await;
    wait_until("it is claimed", Duration::from_secs(20), async || {
        let life: Value = site.acquit(Role::Operator, &["explain", "PAY-1", "--json"]).await.json();
        life["attempts"].as_array().is_some_and(|attempts| attempts.len() == 1)
    })
    .await;
    // The next worker's check would refuse it, and the one after has no check that answers.
    running.stop().await;
    for says in [Says::This(Cleared::Refuse(Code::RR04)), Says::Nothing] {
        check.says("PAY-1", says);
        let deliveries = site.deliveries().await;
        let running = Running::start(&site, check.clone(), Some(rail.clone()));
        wait_until("it is delivered", Duration::from_secs(30), async || site.deliveries().await > deliveries).await;
        running.stop().await;
    }
    *rail.0.lock().unwrap() = true;
    let running = Running::start(&site, check.clone(), Some(rail));
    assert_eq!(told(&site, "settled", "PAY-1").await.1["rail"], "mute");
    wait_until("it has its end", Duration::from_secs(30), async || site.has_ended().await).await;
    running.stop().await;
    assert_eq!(check.asked("PAY-1"), 1);
    let events = site.reconciled().await;
    assert_eq!((events.settled, events.rejected), (1, 0), "{events:?}");
}
