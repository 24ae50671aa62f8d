//! A lane with two rails over HTTP, each with a ledger of its own: what the first cannot have goes to the second, and
//! what may have reached one never goes to the other. Neither rail forgives a payment that is sent twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use acquit::lab::rail::ScriptedRail;
use acquit::lab::rail::ledger::Ledger;
use acquit::lab::rail::script::Script;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::lanes::{bank, configure, settings};
use crate::load::Load;
use crate::process::{Worker, wait_until};
use crate::site::{Role, Said, Setup, Site};

const HONEST: &str = "idempotent = false\nlatency = [\"5ms\", \"15ms\"]\n";
/// Pays, and one reply in five gets lost; and nobody learns what became of a payment.
const LOSING: &str = "idempotent = false\nlatency = [\"5ms\", \"15ms\"]\n\
                      [[behaviour]]\nkind = \"lose_reply\"\nshare = 0.2\ntimes = 1\n\
                      [[behaviour]]\nkind = \"inquiry_error\"\n";

/// Two rails, `a` and behind it `b`; the lane has both.
async fn two_rails(site: &Site, of_a: &str) -> (ScriptedRail, ScriptedRail) {
    let (a, b) = (bank(site, "a", of_a, "127.0.0.1:0"), bank(site, "b", HONEST, "127.0.0.1:0"));
    let lane = "name = \"payments\"\nroute = \"a\"\nfallback = \"b\"\n";
    let rails = settings("a", a.address(), "1s") + &settings("b", b.address(), "1s");
    configure(site, |text| text.replace("name = \"payments\"\n", lane), &rails);
    let said = site.acquit(Role::Worker, &["check", "--print-config"]).await;
    let printed = said.out.lines().find(|line| line.starts_with("lane.payments.fallback ")).expect("the key");
    assert_eq!(printed.split_whitespace().nth(1), Some("b"), "{printed}");
    (a, b)
}

fn paid(rail: &ScriptedRail) -> Vec<String> {
    rail.effects().unwrap().into_iter().map(|effect| effect.payment_id).collect()
}

/// Settled payments of the store with their rails, and those that have no end.
fn stored(site: &Site) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let store = Connection::open(site.store()).unwrap();
    let mut rows = store.prepare("SELECT payment_id, rail, state FROM payments").unwrap();
    let text =
        |row: &rusqlite::Row<'_>| -> rusqlite::Result<[String; 3]> { Ok([row.get(0)?, row.get(1)?, row.get(2)?]) };
    let rows: Vec<_> = rows.query_map([], text).unwrap().map(Result::unwrap).collect();
    let (settled, open): (Vec<_>, Vec<_>) = rows.into_iter().partition(|[.., state]| state == "settled");
    (settled.into_iter().map(|[id, rail, _]| (id, rail)).collect(), open.into_iter().map(|[id, ..]| id).collect())
}

/// Payments with an attempt at `a` that has no answer.
fn in_doubt_at_a(site: &Site) -> BTreeSet<String> {
    let store = Connection::open(site.store()).unwrap();
    let sql = "SELECT p.payment_id FROM payments p JOIN attempts a ON a.payment = p.id WHERE a.rail = 'a' AND a.answer IS NULL";
    let mut rows = store.prepare(sql).unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// What `a` has paid, also while it is down.
fn ledger_of_a(site: &Site) -> BTreeSet<String> {
    let ledger = Ledger::beside(&site.folder("banks").join("a")).unwrap();
    ledger.effects(None).unwrap().into_iter().map(|effect| effect.payment_id).collect()
}

/// One effect for each payment over both ledgers, and at the rail that the store names.
fn one_effect_each(site: &Site, a: &ScriptedRail, b: &ScriptedRail, count: u64) {
    let of = |rail, name: &str| paid(rail).into_iter().map(|id| (id, name.to_owned())).collect::<Vec<_>>();
    let effects = [of(a, "a"), of(b, "b")].concat();
    let payments: BTreeMap<String, String> = effects.iter().cloned().collect();
    let twice: Vec<_> = effects.iter().filter(|(id, rail)| payments[id] != *rail).collect();
    assert!(twice.is_empty(), "paid at both rails: {twice:?}");
    assert_eq!((effects.len() as u64, payments.len() as u64), (count, count), "effects and payments");
    assert_eq!(stored(site).0, payments, "the store and the ledgers");
}

/// Reconciles with both ledgers; `more` are further effects of `a`.
async fn reconciled(site: &Site, rails: [(&str, &ScriptedRail); 2], more: &[Value]) -> Said {
    let mut arguments = vec!["reconcile".to_owned(), "--json".to_owned()];
    for (name, rail) in rails {
        let effects = rail.effects().unwrap().into_iter().map(|effect| {
            let amount = effect.amount.unwrap();
            let (currency, value) = (amount.currency().code(), amount.value());
            json!({ "key": effect.key, "currency": currency, "value": value, "reference": effect.reference })
        });
        let more = if name == "a" { more } else { &[] };
        let lines: Vec<String> = effects.chain(more.iter().cloned()).map(|line| line.to_string()).collect();
        let file = site.folder("ledgers").join(name);
        std::fs::write(&file, lines.join("\n")).unwrap();
        arguments.extend(["--rail-ledger".to_owned(), format!("{name}={}", file.display())]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    site.acquit(Role::Operator, &arguments).await
}

async fn lane(worker: &Worker) -> Value {
    let (_, text) = worker.page("/status").await;
    serde_json::from_str::<Value>(&text).unwrap()["lanes"][0].clone()
}

async fn publish(site: &Site, seed: u64, count: u64) {
    site.publish(&Load::plain(seed, count)).await;
}

/// Publishes a few at a time until the breaker of the first rail, which is up, has closed and all is settled; gives how
/// many those were.
async fn serves_again(site: &Site, worker: &Worker, seed: u64) -> u64 {
    let mut times = 0;
    wait_until("the first rail serves", Duration::from_secs(60), async || {
        times += 1;
        publish(site, seed + times, 5).await;
        lane(worker).await["breakers"]["settlement"] == "closed"
    })
    .await;
    site.drained(worker).await;
    5 * times
}

#[tokio::test]
async fn with_the_first_rail_down_everything_settles_at_the_second_and_says_so() {
    let site = Site::new(Setup::default()).await;
    let (a, b) = two_rails(&site, HONEST).await;
    let address = a.address();
    a.stop().await;
    publish(&site, 61, 400).await;
    let worker = site.worker().await;
    site.drained(&worker).await;
    let shown = lane(&worker).await;
    assert_eq!((shown["settled"].as_u64(), shown["gate"].as_str()), (Some(400), Some("open")), "{shown:#}");
    assert_eq!((shown["rail"].as_str(), shown["fallback"]["rail"].as_str()), (Some("a"), Some("b")), "{shown:#}");
    let (_, metrics) = worker.page("/metrics").await;
    let value = |rail: &str, answer: &str| {
        let labels = [format!("rail=\"{rail}\""), format!("answer=\"{answer}\"")];
        let mut lines = metrics.lines().filter(|line| line.starts_with("acquit_rail_calls_total{"));
        let line = lines.find(|line| labels.iter().all(|label| line.contains(label))).expect("a series");
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    // On a loaded machine a reply may come past the deadline: that one is found by an inquiry.
    assert_eq!((value("b", "settled") + value("b", "unknown"), value("a", "settled")), (400.0, 0.0));
    assert!(value("a", "not_sent") >= 1.0);

    // Back again, it has what is new.
    let a = bank(&site, "a", HONEST, &address.to_string());
    let probes = serves_again(&site, &worker, 6_100).await;
    let before = (paid(&a).len(), paid(&b).len());
    publish(&site, 62, 100).await;
    site.drained(&worker).await;
    assert_eq!((paid(&a).len(), paid(&b).len()), (before.0 + 100, before.1));
    worker.stop().await;
    one_effect_each(&site, &a, &b, 500 + probes);
    let said = reconciled(&site, [("a", &a), ("b", &b)], &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");

    // One that had its effect at both would be named, by its key at either.
    let twice = b.effects().unwrap().swap_remove(0);
    let amount = twice.amount.unwrap();
    let more = json!({ "key": twice.key, "currency": amount.currency().code(), "value": amount.value() });
    let said = reconciled(&site, [("a", &a), ("b", &b)], &[more]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let found: Value = said.json();
    let named = found["differences"].as_array().unwrap().iter();
    let doubled: Vec<_> = named.filter(|one| one["kind"] == "rail_doubled").map(|one| &one["payment_id"]).collect();
    assert_eq!(doubled, [&json!(twice.payment_id)]);
    let life = site.acquit(Role::Operator, &["explain", &twice.payment_id]).await;
    assert!(life.out.contains(", b)") && life.out.contains("given to b, the lane's second rail"), "{}", life.out);
}

#[tokio::test]
async fn what_may_have_reached_the_first_rail_waits_for_it_and_the_rest_goes_to_the_second() {
    let site = Site::new(Setup::default()).await;
    let (a, b) = two_rails(&site, LOSING).await;
    publish(&site, 63, 300).await;
    let worker = site.worker().await;
    // All have been to the first rail, most are settled, the replies of the others are lost.
    wait_until("the first rail has paid all", Duration::from_secs(60), async || paid(&a).len() == 300).await;
    let address = a.address();
    a.stop().await;
    publish(&site, 64, 200).await;
    wait_until("the second rail has the rest", Duration::from_secs(60), async || {
        let (settled, open) = stored(&site);
        settled.len() + open.len() == 500 && open.is_subset(&in_doubt_at_a(&site))
    })
    .await;
    // Long enough for each of them to be handed back and to come again, more than once.
    let of_a: BTreeSet<String> = ledger_of_a(&site);
    let waiting = || &of_a & &stored(&site).1;
    let before = waiting();
    assert!(before.len() >= 20, "{}", before.len());
    worker.watch(Duration::from_secs(7)).await;
    let elsewhere: Vec<_> = paid(&b).into_iter().filter(|id| of_a.contains(id)).collect();
    assert!(elsewhere.is_empty(), "what the first rail has paid went to the second: {elsewhere:?}");
    assert_eq!(waiting(), before, "they wait");
    assert!(paid(&b).len() >= 200, "the rest does not");

    let a = bank(&site, "a", HONEST, &address.to_string());
    wait_until("those in doubt are found", Duration::from_secs(150), async || stored(&site).1.is_empty()).await;
    let probes = serves_again(&site, &worker, 6_300).await;
    let at_b = paid(&b).len();
    publish(&site, 65, 100).await;
    site.drained(&worker).await;
    worker.stop().await;
    assert_eq!(paid(&b).len(), at_b, "what is new goes to the first rail");
    one_effect_each(&site, &a, &b, 600 + probes);
    let said = reconciled(&site, [("a", &a), ("b", &b)], &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// Payments that may have reached a rail wait for it when it leaves the configuration. Whoever changed that is told
/// before and at the worker's start, and the payments say what they wait for; put back, the rail ends them.
#[tokio::test]
async fn what_may_have_reached_a_rail_that_left_the_configuration_is_named_and_waits_for_it() {
    const LOST: &str = "idempotent = false\n[[behaviour]]\nkind = \"lose_reply\"\ntimes = 1\n\
                        [[behaviour]]\nkind = \"inquiry_error\"\n";
    let site = Site::new(Setup::default()).await;
    let (a, b) = two_rails(&site, LOST).await;
    publish(&site, 66, 3).await;
    let worker = site.worker().await;
    wait_until("they are in doubt", Duration::from_secs(60), async || {
        paid(&a).len() == 3 && in_doubt_at_a(&site).len() == 3
    })
    .await;
    let named = async || site.acquit(Role::Operator, &["check"]).await.out.contains("which it has no more");
    assert!(!named().await, "its rail is there");
    worker.terminate().await;

    let both = "route = \"a\"\nfallback = \"b\"\n";
    let change = |from: &'static str, to: &'static str| configure(&site, |text| text.replace(from, to), "");
    change(both, "route = \"b\"\n");
    let said = site.acquit(Role::Operator, &["check"]).await;
    let problem = "PROBLEM lane payments: 3 of its payments may have reached rail a, which it has no more";
    assert!(said.code == Some(1) && said.out.contains(problem) && said.out.contains("unknown resolve"), "{said:?}");
    let worker = site.worker().await;
    let logged = worker.said("payments wait for a rail that their lane has no more").expect("it says so at its start");
    assert!(logged["what"].as_str().unwrap().contains("3 of its payments may have reached rail a"), "{logged}");
    worker.until("they come and are handed back", |lane| lane.handed_back >= 6).await;
    let waits = |text: &str| text.contains("its rail, which its lane has no more");
    let said = site.acquit(Role::Operator, &["unknown", "list"]).await;
    assert_eq!(said.out.lines().filter(|line| waits(line)).count(), 3, "{said:?}");
    let one = in_doubt_at_a(&site).pop_first().unwrap();
    let life = site.acquit(Role::Operator, &["explain", &one]).await;
    assert!(waits(&life.out), "{}", life.out);
    assert!(paid(&b).is_empty());
    worker.terminate().await;

    change("route = \"b\"\n", both);
    assert!(!named().await, "its rail is back");
    a.play(Script::parse(HONEST).unwrap());
    let worker = site.worker().await;
    site.drained(&worker).await;
    worker.stop().await;
    one_effect_each(&site, &a, &b, 3);
}
