//! Settlement over HTTP: the real binary in front of the stand-in service, whose ledger says what really happened.
//! The first test has workers killed while replies are lost; the others have the service refuse, vanish and hang.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::load::{Expected, Load};
use crate::process::{Worker, wait_until};
use crate::site::{Role, Said, Setup, Site};

/// The stand-in as a process of its own. Dropped, it is killed.
pub(crate) struct Bank {
    child: Child,
    pub(crate) address: SocketAddr,
    ledger: PathBuf,
}

impl Bank {
    /// Starts it; `None` takes a free port.
    pub(crate) async fn start(site: &Site, script: &str, address: Option<SocketAddr>) -> Self {
        Self::named(site, "bank", script, address).await
    }

    /// One of several; its ledger is kept under its name.
    pub(crate) async fn named(site: &Site, name: &str, script: &str, address: Option<SocketAddr>) -> Self {
        let folder = site.folder(name);
        let (ledger, file) = (folder.join("ledger.db"), folder.join("script.toml"));
        std::fs::write(&file, script).unwrap();
        let listen = address.map_or_else(|| "127.0.0.1:0".to_owned(), |address| address.to_string());
        let mut command = site.command(Role::Operator, &["rail", "--listen", &listen]);
        command.arg("--ledger").arg(&ledger).arg("--script").arg(&file);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = lines.next_line().await.unwrap().expect("its address");
        Self { child, address: first.parse().expect("its address is the first line"), ledger }
    }

    /// Stopped, it takes connections and never answers.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).expect("it runs");
        kill_process(pid, signal).unwrap();
    }

    /// SIGKILL; gives where it was.
    pub(crate) async fn kill(mut self) -> SocketAddr {
        self.child.kill().await.unwrap();
        self.address
    }

    /// What happened, each effect by itself: payment, currency, value, reference.
    pub(crate) fn effects(&self) -> Vec<(String, String, String, String)> {
        let ledger = Connection::open(&self.ledger).unwrap();
        let sql = "SELECT payment_id, currency, value, printf('rail-%09d', number) FROM effects";
        let mut effects = ledger.prepare(sql).unwrap();
        let effects = effects.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
        effects.map(Result::unwrap).collect()
    }

    /// Its ledger as lines of JSON.
    pub(crate) async fn exported(&self, site: &Site) -> String {
        exported(site, &self.ledger).await
    }

    /// Every payment has one effect, and the store's outcome is that effect.
    pub(crate) fn agrees_with(&self, site: &Site, settled: usize) {
        let effects = self.effects();
        let payments: BTreeSet<&str> = effects.iter().map(|(payment, ..)| payment.as_str()).collect();
        assert_eq!((effects.len(), payments.len()), (settled, settled), "effects and payments");
        let store = Connection::open(site.store()).unwrap();
        let mut outcomes = store
            .prepare("SELECT payment_id, currency, minor, rail_ref FROM payments WHERE state = 'settled'")
            .unwrap();
        let text = |row: &rusqlite::Row<'_>| {
            let (currency, minor): (String, i64) = (row.get(1)?, row.get(2)?);
            let currency = acquit::domain::Currency::parse(&currency).unwrap();
            let value = acquit::domain::Money::format(minor.into(), currency);
            Ok((row.get(0)?, currency.code().to_owned(), value, row.get(3)?))
        };
        let outcomes = outcomes.query_map([], text).unwrap().map(Result::unwrap).collect::<BTreeSet<_>>();
        assert_eq!(outcomes, effects.into_iter().collect::<BTreeSet<_>>(), "outcomes and effects");
    }
}

/// Has the lane settle over a rail at `bank`; `more` are further keys of it.
pub(crate) fn route(site: &Site, bank: SocketAddr, more: &str) {
    let file = site.store().with_file_name("acquit.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("name = \"payments\"\n", "name = \"payments\"\nroute = \"bank\"\n");
    let rail = format!(
        r#"[[rail]]
name = "bank"
url = "http://{bank}/payments"
inquiry_url = "http://{bank}/payments/{{key}}"
deadline = "1s"
connect_timeout = "500ms"
longest_execution = "1s"
reference = "/reference"
reason = "/reason/code"
not_found = ["NOT_FOUND"]
{more}"#
    );
    std::fs::write(&file, format!("{text}{rail}")).unwrap();
}

/// Every event settles; the ledgers agree and reconciliation finds nothing.
async fn all_settle(site: &Site, bank: &Bank, worker: Worker, expected: Expected) {
    site.drained(&worker).await;
    worker.stop().await;
    bank.agrees_with(site, usize::try_from(expected.settled).unwrap());
    site.balances(expected).await;
    let said = reconciled_with(site, &bank.exported(site).await).await;
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// A stand-in's ledger as lines of JSON.
pub(crate) async fn exported(site: &Site, ledger: &Path) -> String {
    let said = site.acquit(Role::Operator, &["rail", "--export", "--ledger", ledger.to_str().unwrap()]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    said.out
}

/// Reconciles with the service's ledger as it was exported.
pub(crate) async fn reconciled_with(site: &Site, ledger: &str) -> Said {
    let file = site.folder("bank").join("bank.jsonl");
    std::fs::write(&file, ledger).unwrap();
    let ledger = format!("bank={}", file.display());
    site.acquit(Role::Operator, &["reconcile", "--json", "--rail-ledger", &ledger]).await
}

/// As many as CI has time for, or as the environment asks for.
fn sized(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |asked| asked.parse().expect("a number"))
}

#[tokio::test]
async fn replies_lost_and_workers_killed_leave_one_effect_for_each_payment() {
    let site = Site::new(Setup::default()).await;
    // A rail that pays at each POST: what may have arrived must never be sent a second time.
    let script = "idempotent = false\nlatency = [\"20ms\", \"80ms\"]\n\
                  [[behaviour]]\nkind = \"lose_reply\"\nshare = 0.05\ntimes = 1\n";
    let bank = Bank::start(&site, script, None).await;
    route(&site, bank.address, "");
    let load = Load::plain(31, sized("ACQUIT_RAIL_PAYMENTS", 2_000));
    site.publish(&load).await;
    for kill in 1..=sized("ACQUIT_RAIL_KILLS", 10) {
        let worker = site.worker().await;
        let before = bank.effects().len();
        wait_until("payments settle", Duration::from_secs(30), async || bank.effects().len() >= before + 60).await;
        worker.kill().await;
        assert!(bank.effects().len() < load.bodies.len(), "all was settled before kill {kill}");
    }
    let worker = site.worker().await;
    let within = Duration::from_secs(90 + load.expected.published / 50);
    wait_until("every event has its end", within, async || site.has_ended().await).await;
    all_settle(&site, &bank, worker, load.expected).await;
    let store = Connection::open(site.store()).unwrap();
    let number = |sql: &str| store.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(
        number("SELECT count(*) FROM attempts WHERE number > 1") > 0,
        "what a kill kept from the rail was sent again"
    );
    assert_eq!(number("SELECT count(*) FROM attempts WHERE leg > 0"), 0, "under its first key");

    // Had it paid one twice and one not at all, reconciliation would name both.
    let ledger = bank.exported(&site).await;
    let lines: Vec<&str> = ledger.lines().collect();
    let said = reconciled_with(&site, &[&lines[1..], &lines[1..2]].concat().join("\n")).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let found: Value = said.json();
    let named = |kind: &str| {
        let differences = found["differences"].as_array().unwrap();
        let payments = differences.iter().filter(|one| one["kind"] == kind).map(|one| one["payment_id"].clone());
        payments.collect::<Vec<_>>()
    };
    let payment = |line: &str| serde_json::from_str::<Value>(line).unwrap()["payment_id"].clone();
    assert_eq!(
        (named("rail_doubled"), named("settled_without_rail")),
        (vec![payment(lines[1])], vec![payment(lines[0])])
    );
    assert_eq!(found["differences_total"], 2, "{found:#}");
}

#[tokio::test]
async fn a_token_is_exchanged_under_load() {
    let site = Site::new(Setup { breaker_wait: "200ms", ..Setup::default() }).await;
    let (theirs, ours) = (site.folder("bank").join("token"), site.folder("secrets").join("token"));
    let exchange = |token: &str| [&theirs, &ours].map(|file| std::fs::write(file, token).unwrap());
    exchange("one");
    let script = format!("latency = [\"10ms\", \"30ms\"]\ntoken_file = {:?}\n", theirs.display().to_string());
    let bank = Bank::start(&site, &script, None).await;
    route(&site, bank.address, &format!("token_file = {:?}\n", ours.display().to_string()));
    let load = Load::plain(32, 3_000);
    site.publish(&load).await;
    let worker = site.worker().await;
    for (settled, token) in [(300, "two"), (1_000, "three"), (2_000, "four")] {
        worker.until("it settles", |lane| lane.settled >= settled).await;
        exchange(token);
    }
    let lane = worker.until("all is settled", |lane| lane.settled == 3_000).await;
    assert_eq!(lane.dead_lettered, 0);
    assert!(!worker.log_end().contains("three"));
    all_settle(&site, &bank, worker, load.expected).await;
}

#[tokio::test]
async fn a_refused_token_opens_the_breaker_and_rejects_nobody() {
    let site = Site::new(Setup { breaker_wait: "500ms", ..Setup::default() }).await;
    let (theirs, ours) = (site.folder("bank").join("token"), site.folder("secrets").join("token"));
    std::fs::write(&theirs, "good").unwrap();
    std::fs::write(&ours, "run out").unwrap();
    let bank = Bank::start(&site, &format!("token_file = {:?}\n", theirs.display().to_string()), None).await;
    route(&site, bank.address, &format!("token_file = {:?}\n", ours.display().to_string()));
    let load = Load::plain(33, 500);
    site.publish(&load).await;
    let worker = site.worker().await;
    worker.until("the breaker opens", |lane| lane.is_shut_by("settlement")).await;
    let seen = worker.watch(Duration::from_secs(3)).await;
    let (_, last) = seen.last().unwrap();
    assert_eq!((last.settled, last.dead_lettered), (0, 0), "{last:?}");
    assert!(bank.effects().is_empty());
    std::fs::write(&ours, "good").unwrap();
    let lane = worker.within(Duration::from_secs(120), "all settle", |lane| lane.settled == 500).await;
    assert_eq!(lane.pulls_while_open, 0);
    all_settle(&site, &bank, worker, load.expected).await;
}

#[tokio::test]
async fn a_rail_that_is_killed_stops_the_pulls_and_then_everything_settles_once() {
    let site = Site::new(Setup { breaker_wait: "500ms", ..Setup::default() }).await;
    let script = "latency = [\"10ms\", \"30ms\"]\n";
    let bank = Bank::start(&site, script, None).await;
    route(&site, bank.address, "");
    let load = Load::plain(34, 2_000);
    site.publish(&load).await;
    let worker = site.worker().await;
    worker.until("it settles", |lane| lane.settled >= 300).await;
    let address = bank.kill().await;
    worker.until("the gate shuts", |lane| lane.is_shut_by("settlement")).await;
    let seen = worker.watch(Duration::from_secs(4)).await;
    let stood: BTreeSet<u64> = seen.iter().skip(seen.len() / 2).map(|(_, lane)| lane.settled).collect();
    assert_eq!(stood.len(), 1, "nothing settles meanwhile: {stood:?}");
    let bank = Bank::start(&site, script, Some(address)).await;
    let lane = worker.within(Duration::from_secs(120), "all settle", |lane| lane.settled == 2_000).await;
    assert_eq!((lane.pulls_while_open, lane.dead_lettered), (0, 0));
    all_settle(&site, &bank, worker, load.expected).await;
}

#[tokio::test]
async fn stored_errors_slow_settlements_and_refusals_have_their_ends() {
    let site = Site::new(Setup::default()).await;
    let script = r#"
[[behaviour]]
kind = "stored_error"
share = 0.05
[[behaviour]]
kind = "in_progress"
share = 0.05
after = "700ms"
[[behaviour]]
kind = "wrong_body"
share = 0.05
[[behaviour]]
kind = "too_many"
share = 0.1
times = 1
retry_after = 1
[[behaviour]]
kind = "reject"
share = 0.1
code = "AC04"
"#;
    let bank = Bank::start(&site, script, None).await;
    route(&site, bank.address, "");
    let load = Load::plain(35, 400);
    site.publish(&load).await;
    let worker = site.worker().await;
    site.drained(&worker).await;
    worker.stop().await;
    let found = site.reconciled().await;
    assert_eq!((found.settled + found.rejected, found.dead_lettered, found.held()), (400, 0, 0), "{found:?}");
    let refused = found.rejected_by_code.get("AC04").copied().unwrap_or(0);
    assert!(refused > 10 && refused == found.rejected, "{found:?}");
    bank.agrees_with(&site, usize::try_from(found.settled).unwrap());
}

#[tokio::test]
async fn what_the_rail_may_have_forgotten_is_not_sent_again() {
    let site = Site::new(Setup::default()).await;
    let script = "[[behaviour]]\nkind = \"hang\"\nshare = 0.5\ntimes = 1\n";
    let bank = Bank::start(&site, script, None).await;
    route(&site, bank.address, "key_retention = \"6s\"\n");
    site.publish(&Load::plain(36, 40)).await;
    let worker = site.worker().await;
    // Two findings that count need more than half of the retention, so they never come.
    worker.watch(Duration::from_secs(15)).await;
    worker.kill().await;
    let store = Connection::open(site.store()).unwrap();
    let number = |sql: &str| store.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let (settled, open) = ("state = 'settled'", "state = 'open' AND attempts = 1");
    let [settled, open] = [settled, open].map(|of| number(&format!("SELECT count(*) FROM payments WHERE {of}")));
    assert!(settled > 5 && open > 5 && settled + open == 40, "{settled} settled, {open} in doubt");
    assert_eq!(i64::try_from(bank.effects().len()), Ok(settled));
}
