//! `kill -9` of the worker between any two effects, again and again, the next one starting while the broker still
//! waits for the acknowledgements of the one before. `KILLS_SEED` repeats the counts of an earlier run.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rusqlite::Connection;
use tokio::time::timeout;

use crate::load::Load;
use crate::process::wait_until;
use crate::site::{Role, Setup, Site};

const KILLS: u64 = 20;

/// How often an event comes to a step before the kill, at most.
const EVENTS: u64 = 200;

/// The same for groups, of which there are fewer: one has at most as many events as there are slots.
const GROUPS: u64 = 8;

const SLOTS: u16 = 32;

#[tokio::test]
async fn workers_killed_with_a_delivery_in_hand_lose_and_double_nothing() {
    kills("after-pull", EVENTS, mix()).await;
}

#[tokio::test]
async fn workers_killed_before_a_commit_lose_and_double_nothing() {
    kills("before-commit", GROUPS, mix()).await;
}

#[tokio::test]
async fn workers_killed_after_a_commit_lose_and_double_nothing() {
    kills("after-commit", GROUPS, mix()).await;
}

#[tokio::test]
async fn workers_killed_before_an_outcome_event_lose_and_double_nothing() {
    kills("before-outcome", EVENTS, mix()).await;
}

#[tokio::test]
async fn workers_killed_before_an_acknowledgement_lose_and_double_nothing() {
    kills("before-ack", EVENTS, mix()).await;
}

#[tokio::test]
async fn workers_killed_between_a_dead_letter_and_the_end_of_its_original_lose_and_double_nothing() {
    kills("before-term", EVENTS, Load::mixed(12, 750, 40).among(Load::unreadable("term", 2_250))).await;
}

/// Of everything: repeats, conflicts and dead letters are part of the broken ones.
fn mix() -> Load {
    Load::mixed(11, 3_000, 40)
}

#[expect(clippy::print_stderr, reason = "what a failed run is repeated with")]
async fn kills(step: &str, most: u64, load: Load) {
    let seed = std::env::var("KILLS_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    let counts = counts(seed, most);
    eprintln!("{step}: seed {seed}, killed at {counts:?}");
    let site = Site::new(Setup { slots: SLOTS, ..Setup::default() }).await;
    site.publish(&load).await;
    let mut waited_for = Vec::new();
    for count in counts {
        if !run_until_killed(&site, step, count).await {
            break;
        }
        waited_for.push(site.consumer().await.unwrap().num_ack_pending);
    }
    let worker = site.worker().await;
    site.drained(&worker).await;
    let deliveries = site.deliveries().await;
    worker.stop().await;
    let found = site.reconciled().await;
    assert_eq!(found.rejected_by_code, load.rejected_by_code);
    assert_eq!(found.dead_lettered_by_code, load.dead_lettered_by_code);
    site.balances(load.expected).await;
    paid_once(&site, load.expected.settled);
    assert_eq!(u64::try_from(waited_for.len()), Ok(KILLS), "the load was done before the last kill");
    assert!(waited_for.iter().all(|events| *events > 0), "each kill leaves its event behind: {waited_for:?}");
    assert!(deliveries >= load.expected.published + KILLS, "{deliveries}");
}

/// Random counts up to `most`, in pairs that add up: together they are always the same part of the load.
fn counts(seed: u64, most: u64) -> Vec<u64> {
    let mut random = StdRng::seed_from_u64(seed);
    let half = (0..KILLS / 2).map(|_| random.random_range(1..=most)).collect::<Vec<_>>();
    let mut counts = half.iter().flat_map(|n| [*n, most + 1 - n]).collect::<Vec<_>>();
    counts.shuffle(&mut random);
    counts
}

/// False where every event had its end before.
async fn run_until_killed(site: &Site, step: &str, count: u64) -> bool {
    let log = site.folder("log").join("killed");
    let mut command = site.command(Role::Worker, &["run"]);
    command.env("ACQUIT_LAB_KILL", format!("{step}:{count}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let mut child = command.spawn().expect("the program starts");
    let done = wait_until("it is killed", Duration::from_secs(60), async || {
        site.consumer().await.is_some_and(|info| info.num_pending == 0 && info.num_ack_pending == 0)
    });
    let said = || std::fs::read_to_string(&log).unwrap();
    let end = async {
        tokio::select! {
            ended = child.wait() => Some(ended.unwrap()),
            () = done => None,
        }
    };
    let end = timeout(Duration::from_secs(20), end).await;
    match end.unwrap_or_else(|_| panic!("neither killed nor done, {step}:{count}: {}", last(&said()))) {
        Some(status) => {
            assert_eq!(status.signal(), Some(9), "{step}:{count}: {status}\n{}", said());
            true
        }
        None => {
            child.kill().await.unwrap();
            false
        }
    }
}

/// The last line of a log first, then all of it.
fn last(log: &str) -> String {
    format!("{}\n{log}", log.lines().last().unwrap_or_default())
}

/// What the book says, asked without any code of ours: one transfer for each payment and each event, and no other.
fn paid_once(site: &Site, settled: u64) {
    let settled = i64::try_from(settled).unwrap();
    let store = Connection::open(site.store()).unwrap();
    let number = |sql: &str| store.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(number("SELECT count(*) FROM transfers"), settled, "transfers");
    let payments = "FROM transfers t JOIN payments p ON p.id = t.payment AND p.state = 'settled' \
                    AND p.minor = t.minor AND p.currency = t.currency";
    assert_eq!(number(&format!("SELECT count(DISTINCT p.payment_id) {payments}")), settled, "payments");
    assert_eq!(number(&format!("SELECT count(DISTINCT p.stream || '.' || p.sequence) {payments}")), settled, "events");
    let unbalanced = "SELECT count(*) FROM (SELECT currency, sum(debits_posted) d, sum(credits_posted) c FROM accounts \
                      GROUP BY currency) a WHERE d <> c OR d <> (SELECT sum(minor) FROM transfers t WHERE t.currency = a.currency)";
    assert_eq!(number(unbalanced), 0, "currencies that do not balance");
}
