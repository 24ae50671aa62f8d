//! Payments that have no outcome yet, over a rail in the test's own process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acquit::config::{Config, Sources};
use acquit::domain::{Code, PaymentId};
use acquit::store::{BookPolicy, Sqlite, SqliteSettings, Store, Unknown, WriterLimits};
use acquit::worker::{Drained, StatusHandle, Worker};
use acquit::{Answer, Finding, Order, Rail, RailKey, RailRef, Terms};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::process::wait_until;
use crate::site::{Role, Setup, Site};

/// Says what the test has written beside each payment id; `Unknown` where nothing is.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    inquiries: Arc<Mutex<u32>>,
}

impl Scripted {
    fn says(&self, payment: &str, answer: Answer) {
        self.answers
            .lock()
            .unwrap()
            .insert(RailKey::of(&PaymentId::parse(payment).unwrap(), 0).as_str().to_owned(), answer);
    }

    fn of(&self, key: &RailKey) -> Answer {
        self.answers.lock().unwrap().get(key.as_str()).cloned().unwrap_or(Answer::Unknown)
    }

    fn inquiries(&self) -> u32 {
        *self.inquiries.lock().unwrap()
    }
}

impl Rail for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn terms(&self) -> Terms {
        Terms {
            longest_execution: Duration::from_millis(500),
            key_retention: Duration::from_secs(24 * 3600),
            deadline: Duration::from_secs(1),
        }
    }

    async fn submit(&self, order: &Order) -> Answer {
        // It settles, and its answer does not get through.
        if order.payment().payment_id.as_str() == "SOON" { Answer::Unknown } else { self.of(order.key()) }
    }

    async fn inquire(&self, key: &RailKey) -> Finding {
        *self.inquiries.lock().unwrap() += 1;
        Finding::Answered(self.of(key))
    }
}

fn settled() -> Answer {
    Answer::Settled(RailRef::parse("R-1").unwrap())
}

/// A worker in this process.
struct Running {
    store: Store,
    status: StatusHandle,
    stop: oneshot::Sender<()>,
    worker: JoinHandle<Drained>,
}

impl Running {
    fn start(site: &Site, rail: Scripted) -> Self {
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
        let book = BookPolicy { unknown: Unknown::Refuse, declared: Default::default() };
        let limits = WriterLimits { group: 64, claim: Duration::from_secs(60), poison_starts: 5, keep: None };
        let store = Store::start(Sqlite::open(settings).unwrap(), book, limits, "held", |_| {}).unwrap();
        let worker = Worker::new(site.broker.clone(), store.clone(), config.lanes).rail(rail);
        let status = worker.status();
        let (stop, stopped) = oneshot::channel::<()>();
        Self { store, status, stop, worker: tokio::spawn(worker.run(async { drop(stopped.await) })) }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        let _drained = self.worker.await.unwrap();
        self.store.stop().await;
    }
}

async fn publish(site: &Site, id: &str) {
    let account = |iban: &str| json!({ "iban": iban });
    let body = json!({
        "payment_id": id, "scheme": "book", "amount": { "currency": "EUR", "value": "12.00" },
        "debtor": { "name": "Canary Bakery" }, "end_to_end_id": "INV-7",
        "debtor_account": account("GB29NWBK60161331926819"), "creditor_account": account("DE89370400440532013000"),
    });
    let (subject, stream) = (format!("payments.requested.book.{id}"), &site.broker.streams().payments);
    site.broker.publish_confirmed(&subject, id, &[], body.to_string().into(), stream).await.unwrap();
}

/// Waits for the payment's held event; gives its message id and body.
async fn held(site: &Site, payment: &str) -> (String, Value) {
    let (mut told, subject) = (None, format!("payments.held.book.{payment}"));
    wait_until("it is told as held", Duration::from_secs(20), async || {
        told = site.broker.last_on("PAYMENT_OUTCOMES", &subject).await.ok();
        told.is_some()
    })
    .await;
    let told = told.unwrap();
    (told.header("Nats-Msg-Id").unwrap().to_owned(), serde_json::from_slice(&told.payload).unwrap())
}

/// Lets so many more inquiries come and go.
async fn inquiries(rail: &Scripted, more: u32) {
    let until = rail.inquiries() + more;
    wait_until("it is inquired about", Duration::from_secs(30), async || rail.inquiries() >= until).await;
}

#[tokio::test]
async fn a_payment_that_waits_is_told_as_held_once_and_keeps_its_event() {
    let (site, rail) = (Site::new(Setup::default()).await, Scripted::default());
    rail.says("BLOCKED", Answer::Blocked);
    // Else the server swallows repeats for two minutes, and this looks at what it is sent.
    site.set("PAYMENT_OUTCOMES", "duplicate_window", json!(100_000_000)).await;
    let running = Running::start(&site, rail.clone());
    rail.says("SOON", settled());
    for id in ["BLOCKED", "LATE", "SOON"] {
        publish(&site, id).await;
    }
    for (payment, code) in [("BLOCKED", "BLCK"), ("LATE", "PDNG")] {
        let (id, body) = held(&site, payment).await;
        assert_eq!(id, format!("{payment}:held"));
        let reason = &body["reasons"][0];
        assert!(reason["code"] == code && !reason["text"].as_str().unwrap().is_empty(), "{body}");
        let told = json!({
            "contract": 1, "payment_id": payment, "status": "held", "scheme": "book", "lane": "payments",
            "rail": "scripted", "reasons": [reason], "end_to_end_id": "INV-7", "instruction_id": null, "uetr": null,
            "requested_at": body["requested_at"], "held_at": body["held_at"],
        });
        assert_eq!(body, told);
    }
    inquiries(&rail, 4).await;
    assert_eq!(site.stored_in("PAYMENT_OUTCOMES").await, 3, "told once each, and what the first inquiry settles never");
    assert_eq!(site.consumer().await.unwrap().ack_floor.stream_seq, 0, "nothing is acknowledged");
    let events = site.reconciled().await;
    assert_eq!((events.held["for_person"], events.held["in_flight"], events.settled), (1, 1, 1), "{events:?}");

    for payment in ["BLOCKED", "LATE"] {
        let said = site.acquit(Role::Operator, &["explain", payment, "--json"]).await;
        let life: Value = said.json();
        assert_eq!(life["outcomes"][0]["message_id"], format!("{payment}:held"), "{said:?}");
    }

    rail.says("LATE", settled());
    rail.says("BLOCKED", Answer::Rejected { code: Code::AC03, resubmit: false });
    wait_until("both have their end", Duration::from_secs(60), async || {
        site.consumer().await.is_some_and(|info| info.num_pending == 0 && info.num_ack_pending == 0)
    })
    .await;
    running.stop().await;
    let events = site.reconciled().await;
    assert_eq!((events.settled, events.rejected, events.held()), (2, 1, 0), "{events:?}");
    assert_eq!(site.stored_in("PAYMENT_OUTCOMES").await, 5);
}

#[tokio::test]
async fn a_held_event_that_cannot_be_published_stops_nothing_and_is_told_later() {
    let (site, rail) = (Site::new(Setup::default()).await, Scripted::default());
    let subjects = site.broker.stream_info("PAYMENT_OUTCOMES").await.unwrap().config["subjects"].clone();
    let without: Vec<_> = subjects.as_array().unwrap().iter().filter(|s| **s != "payments.held.*.*").cloned().collect();
    site.set("PAYMENT_OUTCOMES", "subjects", without.into()).await;
    let running = Running::start(&site, rail.clone());
    publish(&site, "LATE").await;
    inquiries(&rail, 3).await;
    for n in 0..20 {
        rail.says(&format!("FINE-{n}"), settled());
        publish(&site, &format!("FINE-{n}")).await;
    }
    wait_until("the others settle", Duration::from_secs(20), async || site.stored_in("PAYMENT_OUTCOMES").await == 20)
        .await;
    let lanes = running.status.lanes();
    assert!(lanes.iter().all(|lane| lane.gate != "shut"), "{lanes:?}");

    site.set("PAYMENT_OUTCOMES", "subjects", subjects).await;
    assert_eq!(held(&site, "LATE").await.0, "LATE:held");
    rail.says("LATE", settled());
    wait_until("it settles", Duration::from_secs(60), async || site.stored_in("PAYMENT_OUTCOMES").await == 22).await;
    running.stop().await;
    assert_eq!(site.reconciled().await.settled, 21);
}
