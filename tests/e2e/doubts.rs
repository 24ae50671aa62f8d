//! Payments in doubt in numbers, before a rail whose word is worth nothing, and in the tracker: none is sent a second
//! time, and none keeps the others from settling.

use std::collections::BTreeSet;
use std::time::Duration;

use acquit::lab::rail::ScriptedRail;
use acquit::lab::rail::script::Script;
use rusqlite::Connection;
use serde_json::Value;

use crate::http_rail::{exported, reconciled_with, route};
use crate::lanes::bank;
use crate::load::{Expected, Load};
use crate::process::{Worker, wait_until};
use crate::rail::told;
use crate::site::{Setup, Site};
use crate::tracking::track;
use crate::unknown::{listed, record, resolve};

const PATIENCE: Duration = Duration::from_secs(60);

/// Pays at each POST, and answers.
const HONEST: &str = "idempotent = false\n";

fn plays(rail: &ScriptedRail, behaviours: &str) {
    rail.play(Script::parse(&format!("{HONEST}{behaviours}")).unwrap());
}

/// Further keys of the lane and of its breakers: what is looked at here is not their work.
fn configure(site: &Site, lane: &str) {
    let file = site.store().with_file_name("acquit.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replacen("parked = 256\n", lane, 1);
    let patient = "[lane.breaker]\nsliding_window_size = 10000\nminimum_number_of_calls = 10000\n";
    std::fs::write(&file, text.replacen("[lane.breaker]\n", patient, 1)).unwrap();
}

/// Effects, and the payments that have some.
fn paid(rail: &ScriptedRail) -> (usize, usize) {
    let effects = rail.effects().unwrap();
    (effects.len(), effects.iter().map(|paid| &paid.payment_id).collect::<BTreeSet<_>>().len())
}

/// The keys whose first POST a script's first behaviour spoils.
fn spoilt(rail: &ScriptedRail, behaviours: &str) -> Vec<String> {
    let script = Script::parse(&format!("{HONEST}{behaviours}")).unwrap();
    let keys = rail.posts().into_keys();
    keys.filter(|key| script.behaviour(key, 1, false, Duration::ZERO).is_some()).collect()
}

/// Payments of the store in a state.
fn stored(site: &Site, state: &str) -> usize {
    let store = Connection::open(site.store()).unwrap();
    let sql = "SELECT count(*) FROM payments WHERE state = ?1";
    usize::try_from(store.query_row(sql, [state], |row| row.get::<_, i64>(0)).unwrap()).unwrap()
}

/// Everything has its end: one effect each, and reconciliation with the rail's ledger finds nothing.
async fn ends_well(site: &Site, rail: &ScriptedRail, worker: Worker, expected: Expected) {
    site.drained(&worker).await;
    worker.stop().await;
    let settled = usize::try_from(expected.settled).unwrap();
    assert_eq!(paid(rail), (settled, settled), "effects and payments");
    site.balances(expected).await;
    let ledger = site.folder("banks").join("bank");
    let said = reconciled_with(site, &exported(site, &ledger).await).await;
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[tokio::test]
async fn a_rail_that_says_not_found_of_what_it_settled_gets_nothing_a_second_time() {
    const PAYMENTS: usize = 60;
    const LIES: &str = "[[behaviour]]\nkind = \"lose_reply\"\nshare = 0.3\n[[behaviour]]\nkind = \"lie\"\n";
    let site = Site::new(Setup::default()).await;
    let rail = bank(&site, "bank", HONEST, "127.0.0.1:0");
    plays(&rail, LIES);
    route(&site, rail.address(), "");
    configure(&site, "parked = 256\n");
    let load = Load::plain(91, 60);
    site.publish(&load).await;
    let worker = site.worker().await;
    wait_until("all are paid", PATIENCE, async || paid(&rail).1 == PAYMENTS).await;
    let lost = spoilt(&rail, LIES);
    assert!(lost.len() > 5, "{lost:?}");
    // "Not found" counts past the longest execution, and two that count would be enough: the second and the third.
    wait_until("each is asked about again and again", PATIENCE, async || {
        let asked = rail.asked();
        lost.iter().all(|key| asked.get(key).is_some_and(|times| *times >= 4))
    })
    .await;
    let lost = lost.len();
    assert!(rail.posts().values().all(|posts| *posts == 1), "{:?}", rail.posts());
    assert_eq!(paid(&rail), (PAYMENTS, PAYMENTS), "effects and payments");
    let lane = worker.lane().await.unwrap();
    assert_eq!((lane.gate.as_str(), lane.dead_lettered), ("open", 0), "{lane:?}");
    assert_eq!((stored(&site, "settled"), stored(&site, "open")), (PAYMENTS - lost, lost));
    assert_eq!(site.reconciled().await.held(), u64::try_from(lost).unwrap(), "they wait");
    // Told as held: whoever waits for them knows.
    wait_until("they are told", PATIENCE, async || {
        site.stored_in("PAYMENT_OUTCOMES").await == u64::try_from(PAYMENTS).unwrap()
    })
    .await;
    plays(&rail, "");
    ends_well(&site, &rail, worker, load.expected).await;
}

#[tokio::test]
async fn a_thousand_payments_in_doubt_at_once_let_the_others_through_and_are_all_found() {
    const SLOTS: u16 = 512;
    const FIRST: usize = 1_050;
    const OTHERS: usize = 100;
    // Nothing can be learnt about those whose reply is lost.
    const SILENT: &str = "[[behaviour]]\nkind = \"inquiry_error\"\n";
    const LOSES: &str = "[[behaviour]]\nkind = \"lose_reply\"\n";
    let site = Site::new(Setup { slots: SLOTS, ..Setup::default() }).await;
    let rail = bank(&site, "bank", HONEST, "127.0.0.1:0");
    plays(&rail, &format!("{LOSES}{SILENT}"));
    route(&site, rail.address(), "");
    configure(&site, "parked = 1500\nlimit.least = 32\n");
    site.provision(&[]).await;
    let (first, others) = (Load::plain(92, 1_050), Load::plain(93, 100));
    site.publish(&first).await;
    let worker = site.worker().await;
    wait_until("all have been sent", 2 * PATIENCE, async || stored(&site, "open") == FIRST).await;

    plays(&rail, SILENT);
    site.publish(&others).await;
    let mut most = 0;
    worker
        .within(PATIENCE, "the others settle", |lane| {
            most = most.max(lane.in_flight);
            assert_eq!(lane.gate, "open", "{lane:?}");
            // The last of the first may have been on their way to the rail when its replies were no longer lost.
            stored(&site, "settled") >= OTHERS
        })
        .await;
    assert!(stored(&site, "open") >= 1_000, "while {} wait", stored(&site, "open"));
    let held = site.consumer().await.unwrap().num_ack_pending;
    assert!(most <= u32::from(SLOTS) && held <= u64::from(SLOTS) + 1_500, "{most} in hand, {held} not acknowledged");

    plays(&rail, "");
    ends_well(&site, &rail, worker, first.expected.plus(others.expected)).await;
}

#[tokio::test]
async fn more_in_doubt_than_may_be_parked_shut_the_gate_which_says_so() {
    const SLOTS: u16 = 16;
    const PARKED: u64 = 40;
    let site = Site::new(Setup { slots: SLOTS, ..Setup::default() }).await;
    let rail = bank(&site, "bank", HONEST, "127.0.0.1:0");
    plays(&rail, "[[behaviour]]\nkind = \"lose_reply\"\n[[behaviour]]\nkind = \"inquiry_error\"\n");
    route(&site, rail.address(), "");
    configure(&site, "parked = 40\n");
    let load = Load::plain(94, 150);
    site.publish(&load).await;
    let worker = site.worker().await;
    let lane = worker.within(PATIENCE, "the gate shuts", |lane| lane.is_shut_by("parked")).await;
    assert_eq!((lane.settled, lane.dead_lettered), (0, 0), "{lane:?}");
    let held = site.consumer().await.unwrap().num_ack_pending;
    // What was in hand when the gate shut is handed back as well.
    assert!((PARKED..=PARKED + 2 * u64::from(SLOTS)).contains(&held), "{held} not acknowledged");
    assert!(rail.posts().len() < 150, "the rest stays in the stream");
    plays(&rail, "");
    ends_well(&site, &rail, worker, load.expected).await;
}

/// A doubt that has grown old is the tracker's, and then a person decides: each of the three ways, once each.
#[tokio::test]
async fn tracked_payments_in_doubt_that_a_person_resolves_have_one_outcome() {
    let site = Site::new(Setup::default()).await;
    let rail = bank(&site, "bank", HONEST, "127.0.0.1:0");
    track(&site, rail.address(), "track_after = \"2s\"\n");
    let silent = "[[behaviour]]\nkind = \"inquiry_error\"\n";
    let worker = site.worker().await;
    let mut expected = Expected::default();
    let mut payments = Vec::new();
    for (seed, post) in [(95, "hang_after"), (96, "hang"), (97, "hang")] {
        plays(&rail, &format!("{silent}[[behaviour]]\nkind = \"{post}\"\n"));
        let load = Load::plain(seed, 1);
        site.publish(&load).await;
        expected += load.expected;
        let body: Value = serde_json::from_slice(&load.bodies[0]).unwrap();
        payments.push(body["payment_id"].as_str().unwrap().to_owned());
        let tracked = u64::try_from(payments.len()).unwrap();
        worker.within(PATIENCE, "it is tracked", |lane| lane.tracker == tracked).await;
    }
    site.drained(&worker).await;
    assert_eq!((paid(&rail), site.reconciled().await.held["tracked"]), ((1, 1), 3), "acknowledged, and in doubt");
    wait_until("no call may still take effect", PATIENCE, async || listed(&site, "3s").await.len() == 3).await;

    plays(&rail, silent);
    let [settled, unsent, refused] = payments.try_into().unwrap();
    let reference = rail.effects().unwrap().remove(0).reference;
    let word = ["settled", "--rail-ref", &reference];
    record(&resolve(&site, &settled, &word, Some(&worker)).await);
    record(&resolve(&site, &unsent, &["not-processed"], Some(&worker)).await);
    record(&resolve(&site, &refused, &["rejected", "--code", "AC04"], Some(&worker)).await);
    // Said once more while the sweeps are at it, and after them: nothing more comes of it.
    record(&resolve(&site, &settled, &word, Some(&worker)).await);
    worker.within(Duration::from_secs(120), "the sweeps tell all", |lane| lane.tracker == 0).await;
    record(&resolve(&site, &settled, &word, Some(&worker)).await);

    for (payment, end) in [(&settled, "settled"), (&unsent, "settled"), (&refused, "rejected")] {
        let told = told(&site, payment).await;
        let ends: Vec<&str> = told.iter().map(|outcome| outcome["status"].as_str().unwrap()).collect();
        assert_eq!(ends, ["held", end], "{payment}");
    }
    assert_eq!(rail.posts().into_values().collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]), "one was sent again");
    worker.stop().await;
    assert_eq!(paid(&rail), (2, 2), "effects and payments");
    (expected.settled, expected.rejected) = (2, 1);
    site.balances(expected).await;
    let ledger = site.folder("banks").join("bank");
    let said = reconciled_with(&site, &exported(&site, &ledger).await).await;
    assert_eq!(said.code, Some(0), "{said:?}");
}
