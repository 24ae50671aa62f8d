//! Midnight passes while settlement is down. Clocks cannot be moved under a process, so this looks at the two places
//! where a date is read: judging, which knows the broker's timestamp, and the store, whose clock is an argument.

use std::sync::Arc;
use std::time::Duration;

use acquit::config::{Config, Sources};
use acquit::domain::{OrderKey, SchemeName};
use acquit::intake::{Contract, Decode, Instants, Judged, Raw, Rules, Scheme};
use acquit::store::{BookPolicy, Sqlite, SqliteSettings, Store, Unknown, WriterLimits};
use acquit::worker::Worker;
use jiff::{Timestamp, ToSpan};
use serde_json::Value;

use crate::load::{Expected, Load};
use crate::process::wait_until;
use crate::site::{Setup, Site};

/// A payment to be executed on `date`.
fn dated(scheme: &str, date: &str) -> String {
    format!(
        r#"{{"payment_id":"midnight","scheme":"{scheme}","amount":{{"currency":"EUR","value":"12.00"}},"debtor":{{"name":"A"}},"creditor":{{"name":"B"}},"debtor_account":{{"iban":"DE89370400440532013000"}},"creditor_account":{{"iban":"BE68539007547034"}},"requested_execution_date":"{date}"}}"#
    )
}

fn judged(scheme: &str, date: &str, requested_at: &str, now: &str) -> Judged {
    let scheme = SchemeName::parse(scheme).unwrap();
    let key = OrderKey::parse("k").unwrap();
    let body = dated(scheme.as_str(), date);
    let raw = Raw { scheme: &scheme, order_key: &key, header: &|_| None, body: body.as_bytes() };
    let decoded = Contract.decode(raw).expect("it can be read");
    let at = Instants { requested_at: requested_at.parse().unwrap(), now: now.parse().unwrap() };
    Rules::new(vec![Scheme::built_in(&scheme).unwrap()]).judge(decoded, &scheme, at)
}

#[test]
fn an_event_of_yesterday_is_judged_by_the_day_on_which_the_broker_took_it() {
    for (scheme, requested_at, now) in [
        ("book", "2026-11-23T23:59:59Z", "2026-11-24T00:10:00Z"),
        // Midnight in Brussels is 23:00 UTC in winter.
        ("sct", "2026-11-23T22:59:59Z", "2026-11-23T23:10:00Z"),
    ] {
        assert!(matches!(judged(scheme, "2026-11-23", requested_at, now), Judged::Valid(_)), "{scheme}");
        let Judged::Refused(refused) = judged(scheme, "2026-11-24", requested_at, now) else {
            panic!("{scheme}: a date after the event's own is refused, whatever the clock says by now");
        };
        assert_eq!(refused.reasons()[0].code.as_str(), "CH03");
    }
}

#[tokio::test]
async fn a_payment_settled_after_the_day_it_was_asked_for_is_marked_late() {
    let site = Site::new(Setup::default()).await;
    let file = site.store().with_file_name("acquit.toml");
    let config = Config::load(Sources { file: Some(file), env: Vec::new(), flags: Vec::new() }).unwrap();
    let tomorrow = Timestamp::now() + 24.hours();
    let settings = SqliteSettings {
        path: site.store(),
        busy_timeout: Duration::from_secs(1),
        wal_limit_bytes: config.store.wal_limit,
        create: false,
        store_id_bits: 0,
        now: Arc::new(move || tomorrow),
    };
    let book = BookPolicy { unknown: Unknown::Open { overdraft: true }, declared: Default::default() };
    let limits = WriterLimits { group: 64, claim: Duration::from_secs(60), poison_starts: 5, keep: None };
    let store = Store::start(Sqlite::open(settings).unwrap(), book, limits, "late", |_| {}).unwrap();
    let worker = Worker::new(site.broker.clone(), store.clone(), config.lanes.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(worker.run(async { drop(stopped.await) }));

    let today = Timestamp::now().strftime("%Y-%m-%d").to_string();
    let expected = Expected { published: 1, settled: 1, ..Expected::default() };
    site.publish(&Load { bodies: vec![dated("book", &today).into()], expected, ..Load::default() }).await;
    wait_until("it is told", Duration::from_secs(10), async || site.stored_in("PAYMENT_OUTCOMES").await == 1).await;
    let told = site.broker.message_at("PAYMENT_OUTCOMES", 1).await.unwrap();
    let told: Value = serde_json::from_slice(&told.payload).unwrap();
    assert_eq!((told["status"].as_str(), told["late"].as_bool()), (Some("settled"), Some(true)), "{told}");
    stop.send(()).unwrap();
    assert_eq!(running.await.unwrap().finished, 1);
    store.stop().await;
    site.balances(expected).await;
}
