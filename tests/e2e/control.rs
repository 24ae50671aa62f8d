//! Lanes that are paused and breakers that are taken in hand.

use std::time::Duration;

use serde_json::{Value, json};

use crate::load::Load;
use crate::process::{Lane, Worker};
use crate::site::{Role, Said, Setup, Site, accounts};

const WHY: &str = "INC-7: rail maintenance";
const BY: [&str; 4] = ["--who", "ops-1", "--why", WHY];
const JSON: (&str, &str) = ("Content-Type", "application/json");
const STALLED: &str = "events are pending and none is delivered";

async fn steer(site: &Site, role: Role, words: &[&str]) -> Said {
    site.acquit(role, &[words, &BY].concat()).await
}

/// The newest record of one kind, which names who and why.
async fn record(site: &Site, kind: &str) -> Value {
    let subject = format!("payments.audit.lane.payments.{kind}");
    let stored = site.broker.last_on("PAYMENT_AUDIT", &subject).await.expect("a record");
    let record: Value = serde_json::from_slice(&stored.payload).unwrap();
    assert_eq!((&record["who"], &record["why"]), (&json!("ops-1"), &json!(WHY)));
    assert_eq!((&record["lane"], &record["consumer"]), (&json!("payments"), &json!("acquit-payments")));
    record
}

fn is_paused(lane: &Lane) -> bool {
    lane.ready && lane.is_shut_by("operator") && lane.pulls_outstanding == 0 && lane.in_flight == 0
}

/// A metric of the settlement breaker.
async fn breaker_is(worker: &Worker, state: &str) -> bool {
    let (_, metrics) = worker.page("/metrics").await;
    let shows = |state: &str, value: u8| {
        let labels = format!(r#"{{lane="payments",breaker="settlement",state="{state}"}} {value}"#);
        metrics.lines().any(|line| line == format!("acquit_breaker_state{labels}"))
    };
    let states = ["closed", "open", "half_open", "ramping", "forced_open", "forced_closed"];
    states.into_iter().all(|one| shows(one, u8::from(one == state)))
}

#[tokio::test]
async fn a_paused_lane_is_given_nothing_over_restarts_and_goes_on_when_resumed() {
    let mut site = Site::new(Setup { accounts: Some(accounts()), ..Setup::default() }).await;
    let before = Load::plain(41, 200);
    let worker = site.worker().await;
    site.publish(&before).await;
    worker.until("they settle", |lane| lane.settled == 200 && lane.gate == "open").await;

    let said = steer(&site, Role::Operator, &["pause", "--for", "10m", "--json"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let paused = said.json::<Value>();
    let until = paused["lanes"][0]["paused_until"].as_str().unwrap().to_owned();
    assert_eq!(record(&site, "pause").await["until"], json!(until));
    let waiting = Load::plain(42, 300);
    site.publish(&waiting).await;
    let lane = worker.within(Duration::from_secs(7), "it sees the pause", is_paused).await;
    assert_eq!((lane.settled, lane.paused_until), (200, Some(until.clone())));
    // Longer than twice a pull's time, after which a lane whose gate is open would be taken for stalled.
    let seen = worker.watch(Duration::from_secs(4)).await;
    assert!(seen.iter().all(|(_, lane)| is_paused(lane) && lane.received == 200));
    assert_eq!(worker.said(STALLED), None);
    let (code, ready) = worker.page("/readyz").await;
    assert!(code == 200 && ready.starts_with("lane payments: ready, paused: operator until 20"), "{ready}");
    let (code, page) = worker.page("/").await;
    assert!(code == 200 && page.contains("shut: operator") && page.contains("until 20"), "{page}");
    worker.stop().await;

    site.server.kill9().unwrap();
    site.server.restart().await.unwrap();
    // An update of the consumer's configuration.
    let said = site.acquit(Role::Provisioner, &["provision", "--replicas", "1", "--ack-wait", "2s"]).await;
    assert!(said.code == Some(0) && site.consumer().await.unwrap().ack_wait() == Duration::from_secs(2), "{said:?}");
    let worker = site.worker().await;
    worker.until("the next worker sees the pause", is_paused).await;
    assert_eq!(site.deliveries().await, 200, "a pause is the broker's, and provisioning does not end it");

    let said = steer(&site, Role::Operator, &["resume", "--json"]).await;
    let resumed = said.json::<Value>();
    assert_eq!((said.code, &resumed["lanes"][0]["was_paused_until"]), (Some(0), &json!(until)));
    record(&site, "resume").await;
    worker.within(Duration::from_secs(4), "it goes on", |lane| lane.settled > 0 && lane.gate == "open").await;
    site.drained(&worker).await;
    assert_eq!(site.deliveries().await, 500, "each event was delivered once");
    let again = steer(&site, Role::Operator, &["resume"]).await;
    assert!(again.code == Some(0) && again.out.contains("was not paused"), "{again:?}");
    worker.stop().await;
    site.balances(before.then(waiting).expected).await;
}

#[tokio::test]
async fn a_pause_under_load_redelivers_nothing_and_ends_by_itself() {
    let site = Site::new(Setup { quiet: true, ..Setup::default() }).await;
    let load = Load::mixed(43, 6_000, 10);
    site.publish(&load).await;
    let worker = site.worker().await;
    worker.until("it settles", |lane| lane.settled > 300).await;
    let said = steer(&site, Role::Operator, &["pause", "--all", "--for", "8s"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let lane = worker.within(Duration::from_secs(7), "what is in hand is finished", is_paused).await;
    let held = site.consumer().await.unwrap();
    assert!(held.paused && held.num_ack_pending == 0 && held.num_pending > 0, "{held:?}");
    worker.within(Duration::from_secs(15), "it goes on by itself", |now| now.settled > lane.settled).await;
    site.drained(&worker).await;
    assert_eq!(site.deliveries().await, load.expected.published, "each event was delivered once");
    worker.stop().await;
    site.balances(load.expected).await;
}

#[tokio::test]
async fn a_breaker_held_open_pulls_nothing_and_one_held_closed_does_not_open() {
    let site = Site::new(Setup { accounts: Some(accounts()), ..Setup::default() }).await;
    let worker = site.worker().await;
    let url = worker.address().to_owned();
    let breaker = async |wish: &str| {
        let said = steer(&site, Role::Operator, &["breaker", wish, "--url", &url]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(record(&site, &format!("breaker_{wish}")).await["workers"], json!([format!("http://{url}")]));
        said
    };
    worker.until("it pulls", |lane| lane.gate == "open" && lane.pulls_outstanding > 0).await;
    assert!(breaker_is(&worker, "closed").await);
    let said = breaker("open").await;
    assert!(said.out.contains("forced_open, was closed") && said.out.contains("a restart forgets it"), "{said:?}");
    let shut = |lane: &Lane| lane.ready && lane.is_shut_by("settlement") && lane.pulls_outstanding == 0;
    worker.within(Duration::from_secs(3), "no pull is out", shut).await;
    let log = worker.said("an operator took the settlement breaker in hand").expect("a line");
    assert_eq!((&log["who"], &log["why"], &log["to"]), (&json!("ops-1"), &json!(WHY), &json!("forced_open")));
    let load = Load::plain(44, 300);
    site.publish(&load).await;
    let seen = worker.watch(Duration::from_secs(2)).await;
    assert!(seen.iter().all(|(_, lane)| shut(lane) && lane.received == 0 && lane.pulls_while_open == 0));
    assert!(seen.iter().all(|(_, lane)| lane.breakers.settlement == "forced_open"));
    assert!(breaker_is(&worker, "forced_open").await);
    assert_eq!(site.deliveries().await, 0, "no delivery was burnt");
    assert!(worker.page("/readyz").await.1.contains("settlement breaker forced_open by ops-1 since 20"));
    let status = site.acquit(Role::Operator, &["breaker", "status", "--url", &url]).await;
    assert!(status.code == Some(0) && status.out.contains("held forced_open by ops-1"), "{status:?}");

    breaker("auto").await;
    worker.until("it settles", |lane| lane.settled == 300 && lane.breakers.settlement == "closed").await;
    assert!(breaker_is(&worker, "closed").await);

    breaker("close").await;
    let lock = site.lock();
    let more = Load::plain(45, 300);
    site.publish(&more).await;
    worker.until("settlement is down", |lane| lane.in_flight > 0).await;
    let seen = worker.watch(Duration::from_secs(2)).await;
    assert!(seen.iter().all(|(_, lane)| lane.breakers.settlement == "forced_closed" && lane.breaker_opened == 0));
    breaker("auto").await;
    worker.until("it judges for itself", |lane| lane.is_shut_by("settlement") && lane.breaker_opened > 0).await;
    drop(lock);
    site.drained(&worker).await;
    worker.stop().await;
    site.balances(load.then(more).expected).await;
}

#[tokio::test]
async fn an_order_that_may_not_be_given_changes_nothing() {
    let site = Site::new(Setup::default()).await;
    let token = site.folder("secrets").join("control");
    std::fs::write(&token, "correct-horse-battery\n").unwrap();
    let set = format!("ops.control_token_file={}", token.display());
    let worker = Worker::start(site.command(Role::Worker, &["run", "--set", &set])).await;
    worker.until("it is ready", |lane| lane.ready).await;
    let path = "/lanes/payments/breaker";
    let order = json!({ "action": "open", "who": "ops-1", "why": WHY, "record": 1 });
    let right = ("Authorization", "Bearer correct-horse-battery");
    let nobody = json!({ "action": "open", "why": WHY, "record": 1 });
    let no_reason = json!({ "action": "open", "who": "ops-1", "why": "", "record": 1 });
    for (headers, body, expected) in [
        (vec![JSON], &order, 401),
        (vec![JSON, ("Authorization", "Bearer correct-horse-batterx")], &order, 401),
        (vec![JSON, right, ("Origin", "http://127.0.0.1")], &order, 403),
        (vec![("Content-Type", "text/plain"), right], &order, 415),
        (vec![JSON, right], &nobody, 400),
        (vec![JSON, right], &no_reason, 400),
    ] {
        let (code, text) = worker.post(path, &headers, body).await;
        assert_eq!(code, expected, "{headers:?} {body}: {text}");
    }
    assert_eq!(worker.post("/lanes/other/breaker", &[JSON, right], &order).await.0, 404);
    let said = steer(&site, Role::Operator, &["breaker", "open", "--url", worker.address()]).await;
    assert_eq!(said.code, Some(77), "{said:?}");
    let lane = worker.lane().await.unwrap();
    assert_eq!((lane.breakers.settlement.as_str(), lane.gate.as_str()), ("closed", "open"));
    assert!(worker.said("refused to let somebody steer this worker").is_some());

    let said = steer(&site, Role::Operator, &["breaker", "open", "--url", worker.address(), "--set", &set]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    worker.until("the token opens it", |lane| lane.breakers.settlement == "forced_open").await;
    worker.stop().await;
}

#[tokio::test]
async fn nothing_is_done_without_its_record() {
    let mute = accounts().replace("\"payments.audit.>\"", "");
    let site = Site::new(Setup { accounts: Some(mute), ..Setup::default() }).await;
    let worker = site.worker().await;
    worker.until("it is ready", |lane| lane.ready && lane.gate == "open").await;
    for words in [["pause", "--for", "10m"].as_slice(), &["breaker", "open", "--url", worker.address()]] {
        let said = steer(&site, Role::Operator, words).await;
        assert_eq!(said.code, Some(77), "{words:?}: {said:?}");
    }
    assert!(!site.consumer().await.unwrap().paused);
    assert_eq!(worker.lane().await.unwrap().breakers.settlement, "closed");
    assert_eq!(site.stored_in("PAYMENT_AUDIT").await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn a_pause_that_is_denied_or_too_long_is_told_with_its_remedy() {
    let right = "\"$JS.API.CONSUMER.PAUSE.PAYMENTS.acquit-payments\"";
    let less = accounts().replace(right, "");
    assert_ne!(less, accounts(), "the operator's right to pause");
    let site = Site::new(Setup { accounts: Some(less), ..Setup::default() }).await;
    for (span, words) in [("48h", "a quarter of the stream's max_age"), ("200h", "1s to 168h"), ("500ms", "1s to 168h")]
    {
        let said = steer(&site, Role::Operator, &["pause", "--for", span]).await;
        assert!(said.code == Some(2) && said.err.contains(words), "{said:?}");
    }
    let said = steer(&site, Role::Operator, &["pause", "--lane", "other", "--for", "1m"]).await;
    assert!(said.code == Some(2) && said.err.contains("the configuration has payments"), "{said:?}");
    assert_eq!(site.stored_in("PAYMENT_AUDIT").await, 0, "nothing was going to be done");
    let said = steer(&site, Role::Operator, &["pause", "--for", "1m"]).await;
    assert!(said.code == Some(77) && said.err.contains("record 1 stands, nothing was done"), "{said:?}");
    assert!(record(&site, "pause").await["until"].is_string() && !site.consumer().await.unwrap().paused);
    site.remove_consumer().await;
    let said = steer(&site, Role::Operator, &["pause", "--for", "1m"]).await;
    assert!(said.code == Some(69) && said.err.contains("run `acquit provision`"), "{said:?}");
}
