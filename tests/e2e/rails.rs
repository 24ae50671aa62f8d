//! Payments settled over a rail: whatever it answers, or fails to answer, money moves once.

use std::sync::Arc;
use std::time::Duration;

use acquit::domain::Code;
use acquit::store::{Ended, State};
use acquit::{Answer, NotSent};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::load::{Expected, Load};
use crate::process::wait_until;
use crate::rail::{Asked, Course, DEADLINE, Desk, LONGEST, Ledger, Running, Terminal, Then, record, refused, told};
use crate::site::{Setup, Site};

fn body(payment: &str, more: &str) -> Bytes {
    format!(
        r#"{{"payment_id":"{payment}","amount":{{"currency":"EUR","value":"12.00"}},"debtor_account":{{"other":{{"id":"a"}}}},"creditor_account":{{"other":{{"id":"b"}}}}{more}}}"#
    )
    .into()
}

/// A load of such payments, of which `rejected` are not to settle.
pub(crate) fn load(payments: &[&str], rejected: u64) -> Load {
    let published = u64::try_from(payments.len()).unwrap();
    let expected = Expected { published, settled: published - rejected, rejected, ..Expected::default() };
    Load { bodies: payments.iter().map(|payment| body(payment, "")).collect(), expected, ..Load::default() }
}

async fn ended(site: &Site) {
    wait_until("every event has its end", Duration::from_secs(60), async || site.has_ended().await).await;
}

/// Stops the worker; nothing is lost, doubled or different, and the rail made each settled payment once.
async fn balances(site: &Site, running: Running, ledger: &Ledger, expected: Expected) {
    assert_eq!(running.stop().await.abandoned, 0);
    site.balances(expected).await;
    assert_eq!(u64::try_from(ledger.payments_made()).unwrap(), expected.settled);
}

#[tokio::test]
async fn a_rail_settles_or_refuses_and_is_asked_once() {
    let (site, ledger) = (Site::new(Setup::default()).await, Ledger::new());
    let names: Vec<String> = (0..200).map(|n| format!("P{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for refusal in &names[..20] {
        ledger.plan(refusal, [Course::says(refused())]);
    }
    let load = load(&names, 20);
    let running = Running::start(&site, &ledger, &Terminal::default());
    site.publish(&load).await;
    ended(&site).await;
    assert_eq!(ledger.total(), 200, "one submission each, no inquiry");
    let [rejected] = told(&site, "P0").await.try_into().unwrap();
    assert_eq!((rejected["by"].as_str(), rejected["reasons"][0]["code"].as_str()), (Some("rail"), Some("AC03")));
    let [settled] = told(&site, "P20").await.try_into().unwrap();
    assert_eq!((settled["rail"].as_str(), settled["attempts"].as_u64()), (Some("ledger"), Some(1)));
    balances(&site, running, &ledger, load.expected).await;
}

#[tokio::test]
async fn a_refusal_that_allows_it_is_followed_by_a_submission_under_another_key() {
    let (site, ledger) = (Site::new(Setup::default()).await, Ledger::new());
    let again = Course::says(Answer::Rejected { code: Code::FF10, resubmit: true });
    ledger.plan("P1", [again.clone()]);
    ledger.plan("P2", [again, Course::says(refused())]);
    let load = load(&["P1", "P2"], 1);
    let running = Running::start(&site, &ledger, &Terminal::default());
    site.publish(&load).await;
    ended(&site).await;
    for payment in ["P1", "P2"] {
        let [first, second] = ledger.submitted(payment).try_into().unwrap();
        assert_ne!(first, second);
        assert_eq!(ledger.count(payment, Asked::Inquire), 0);
    }
    balances(&site, running, &ledger, load.expected).await;
}

#[tokio::test]
async fn what_was_not_sent_is_sent_again_under_the_same_key() {
    let (site, ledger) = (Site::new(Setup::default()).await, Ledger::new());
    let said = NotSent::SaidNotProcessed { retry_after: Some(Duration::from_millis(300)) };
    ledger.plan("P1", [NotSent::Connect, NotSent::Tls, said].map(|why| Course::says(Answer::NotSent(why))));
    let load = load(&["P1"], 0);
    let running = Running::start(&site, &ledger, &Terminal::default());
    site.publish(&load).await;
    ended(&site).await;
    let keys = ledger.submitted("P1");
    assert!(keys.len() == 4 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(ledger.count("P1", Asked::Inquire), 0, "it is known not to have been sent");
    let [settled] = told(&site, "P1").await.try_into().unwrap();
    assert_eq!(settled["attempts"], 1, "those that may have reached the rail");
    balances(&site, running, &ledger, load.expected).await;
}

#[tokio::test]
async fn a_blocked_payment_stays_held_until_the_rail_says_more() {
    let (site, ledger) = (Site::new(Setup::default()).await, Ledger::new());
    ledger.set_desk(Desk::Blocks);
    ledger.plan("P1", [Course::pays(Then::Say(Answer::Blocked))]);
    let load = load(&["P1"], 0);
    let running = Running::start(&site, &ledger, &Terminal::default());
    site.publish(&load).await;
    running.until("it comes back", |lane| lane.handed_back >= 2).await;
    wait_until("it is asked about", Duration::from_secs(10), async || ledger.count("P1", Asked::Inquire) >= 1).await;
    let held = site.reconciled().await.held;
    assert_eq!(held.get("for_person"), Some(&1), "{held:?}");
    assert_eq!(site.stored_in("PAYMENT_DEAD_LETTERS").await, 0);
    ledger.set_desk(Desk::Honest);
    ended(&site).await;
    assert_eq!(ledger.submitted("P1").len(), 1);
    balances(&site, running, &ledger, load.expected).await;
}

#[tokio::test]
async fn a_payment_whose_answer_is_lost_is_found_and_not_sent_again() {
    let (site, ledger) = (Site::new(Setup::default()).await, Ledger::new());
    let names = ["unknown", "running", "panic", "deadline"];
    ledger.plan("unknown", [Course::pays(Then::Say(Answer::Unknown))]);
    ledger.plan("running", [Course::pays(Then::Say(Answer::InProgress))]);
    ledger.plan("panic", [Course::pays(Then::Panic)]);
    ledger.plan("deadline", [Course::pays(Then::Wait)]);
    let load = load(&names, 0);
    let running = Running::start(&site, &ledger, &Terminal::default());
    site.publish(&load).await;
    ended(&site).await;
    for payment in names {
        assert_eq!(ledger.submitted(payment).len(), 1, "{payment}");
        assert!(ledger.count(payment, Asked::Inquire) >= 1, "{payment}");
        assert_eq!(told(&site, payment).await.len(), 1, "{payment}");
    }
    ledger.open_door();
    balances(&site, running, &ledger, load.expected).await;
}

#[tokio::test]
async fn what_the_rail_twice_does_not_know_past_its_longest_execution_is_sent_again_under_the_same_key() {
    let (site, ledger) = (Site::new(Setup::default()).await, Ledger::new());
    let names = ["unknown", "panic"];
    ledger.plan("unknown", [Course::says(Answer::Unknown)]);
    ledger.plan("panic", [Course { pays: false, then: Then::Panic }]);
    let load = load(&names, 0);
    let running = Running::start(&site, &ledger, &Terminal::default());
    site.publish(&load).await;
    ended(&site).await;
    for payment in names {
        let calls = ledger.calls(payment);
        let [first, second] = ledger.submitted(payment).try_into().unwrap();
        assert_eq!(first, second);
        let submitted = calls[0].at;
        let counts = |call: &&crate::rail::Call| {
            call.asked == Asked::Inquire && call.at.duration_since(submitted) > LONGEST + DEADLINE
        };
        let again = calls.iter().rposition(|call| call.asked == Asked::Submit).unwrap();
        assert_eq!(calls[..again].iter().filter(counts).count(), 2, "{calls:?}");
    }
    balances(&site, running, &ledger, load.expected).await;
}

/// A payment that was made and whose rail neither answers nor can be asked; its event is in hand.
async fn silent() -> (Site, Arc<Ledger>, Running, Expected) {
    let (site, ledger) = (Site::new(Setup::default()).await, Ledger::new());
    ledger.set_desk(Desk::Silent);
    ledger.plan("P1", [Course::pays(Then::Wait)]);
    let load = load(&["P1"], 0);
    let running = Running::start(&site, &ledger, &Terminal::default());
    site.publish(&load).await;
    in_doubt(&ledger).await;
    (site, ledger, running, load.expected)
}

/// Waits until the rail is asked about the payment.
async fn in_doubt(ledger: &Ledger) {
    wait_until("it is in doubt", Duration::from_secs(10), async || ledger.count("P1", Asked::Inquire) >= 1).await;
}

#[tokio::test]
async fn an_answer_past_its_deadline_is_recorded_although_nobody_can_be_asked() {
    let (site, ledger, running, expected) = silent().await;
    ledger.open_door();
    ended(&site).await;
    assert_eq!(ledger.submitted("P1").len(), 1);
    balances(&site, running, &ledger, expected).await;
}

#[tokio::test]
async fn an_answer_past_the_time_its_event_may_be_held_is_recorded_at_the_next_delivery() {
    let (site, ledger, running, expected) = silent().await;
    running.until("it is handed back", |lane| lane.handed_back >= 1).await;
    ledger.open_door();
    ended(&site).await;
    assert_eq!(ledger.submitted("P1").len(), 1);
    balances(&site, running, &ledger, expected).await;
}

#[tokio::test]
async fn an_answer_that_comes_while_the_worker_stops_is_recorded() {
    let (site, ledger, running, expected) = silent().await;
    let watching = running.watcher();
    let stopping = tokio::spawn(running.stop());
    wait_until("it drains", Duration::from_secs(10), async || {
        watching.lanes().first().is_some_and(|lane| lane.gate_reason == Some("drain"))
    })
    .await;
    ledger.open_door();
    let drained = stopping.await.unwrap();
    assert_eq!((drained.finished, drained.handed_back), (1, 0), "{drained:?}");
    site.balances(expected).await;
    assert_eq!(ledger.payments_made(), 1);
}

#[tokio::test]
async fn an_inquiry_that_panics_again_and_again_leaves_the_payment_in_doubt() {
    let (site, ledger) = (Site::new(Setup::default()).await, Ledger::new());
    ledger.set_desk(Desk::Panics);
    ledger.plan("P1", [Course::pays(Then::Say(Answer::Unknown))]);
    let load = load(&["P1"], 0);
    let running = Running::start(&site, &ledger, &Terminal::default());
    site.publish(&load).await;
    // Five starts without an end make any other event a dead letter.
    wait_until("it is asked about", Duration::from_secs(30), async || ledger.count("P1", Asked::Inquire) >= 6).await;
    assert_eq!(site.stored_in("PAYMENT_DEAD_LETTERS").await, 0);
    ledger.set_desk(Desk::Honest);
    ended(&site).await;
    assert_eq!(ledger.submitted("P1").len(), 1);
    let _drained = running.stop().await;
    site.balances(load.expected).await;
    assert_eq!(ledger.payments_made(), 1);
}

#[tokio::test]
async fn a_rail_that_is_down_gets_probes_only_and_costs_no_payment_its_end() {
    let (site, ledger) = (Site::new(Setup::default()).await, Ledger::new());
    let names: Vec<String> = (0..60).map(|n| format!("P{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let load = load(&names, 0);
    ledger.set_down(true);
    let running = Running::start(&site, &ledger, &Terminal { slots: 8, attempts: 4, ..Terminal::default() });
    site.publish(&load).await;
    running.until("the gate shuts", |lane| lane.breakers.settlement == "open").await;
    let before = (ledger.total(), running.lane().unwrap().breaker_probes);
    running.until("it has probed", |lane| lane.breaker_opened >= 12).await;
    wait_until("nothing is under way", Duration::from_secs(5), async || {
        running.lane().is_some_and(|lane| lane.breakers.settlement == "open")
    })
    .await;
    let lane = running.lane().unwrap();
    let (calls, probes) = (ledger.total() - before.0, lane.breaker_probes - before.1);
    // Two a time, and one more time than it was seen to open.
    assert!((11..=24).contains(&calls), "{calls} calls");
    assert_eq!(probes, u64::try_from(calls).unwrap(), "each probe is a call");
    let tried = ledger.submissions().split_off(before.0);
    assert!(tried.windows(2).all(|pair| pair[0] != pair[1]), "twice running: {tried:?}");
    assert_eq!((lane.pulls_while_open, lane.dead_lettered), (0, 0));
    ledger.set_down(false);
    ended(&site).await;
    let lane = running.lane().unwrap();
    assert_eq!((lane.settled, lane.dead_lettered, lane.pulls_while_open), (60, 0, 0));
    assert!(names.iter().all(|name| !ledger.doubted(name)), "none was ever sent before");
    balances(&site, running, &ledger, load.expected).await;
}

#[tokio::test]
async fn events_that_never_reach_a_rail_say_nothing_about_it() {
    let (site, ledger) = (Site::new(Setup::default()).await, Ledger::new());
    let names: Vec<String> = (0..8).map(|n| format!("P{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // Away for longer than the others take.
    let later = Answer::NotSent(NotSent::SaidNotProcessed { retry_after: Some(Duration::from_secs(6)) });
    for name in &names {
        ledger.plan(name, [Course::says(later.clone())]);
    }
    let running = Running::start(&site, &ledger, &Terminal::default());
    let (payments, letters) = (load(&names, 0), Load::unreadable("letter", 60));
    site.publish(&payments).await;
    running.until("the gate shuts", |lane| lane.breakers.settlement == "open").await;
    site.publish(&letters).await;
    let mut states = std::collections::BTreeSet::new();
    running
        .until("they are buried", |lane| {
            states.insert(lane.breakers.settlement);
            lane.dead_lettered == 60
        })
        .await;
    assert!(!states.contains("ramping") && !states.contains("closed"), "{states:?}");
    assert_eq!(ledger.total(), 8, "the rail was not tried meanwhile");
    ended(&site).await;
    assert_eq!(running.stop().await.abandoned, 0);
    site.balances(payments.expected.plus(letters.expected)).await;
    assert_eq!(ledger.payments_made(), 8);
}

#[tokio::test]
async fn an_attempt_that_the_shut_gate_kept_from_its_rail_is_not_left_in_doubt() {
    let (site, ledger) = (Site::new(Setup { busy_timeout: "10s", ..Setup::default() }).await, Ledger::new());
    let names: Vec<String> = (0..16).map(|n| format!("P{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (first, second) = names.split_at(8);
    let load = load(&names, 0);
    for name in first {
        ledger.plan(name, [Course { pays: false, then: Then::SayLate(Answer::NotSent(NotSent::Connect)) }]);
    }
    let terminal = Terminal { open: Duration::from_secs(5), deadline: Duration::from_secs(20), ..Terminal::default() };
    let running = Running::start(&site, &ledger, &terminal);
    site.publish(&Load { bodies: load.bodies[..8].to_vec(), expected: half(), ..Load::default() }).await;
    wait_until("they are with the rail", Duration::from_secs(10), async || ledger.total() == 8).await;
    // The others pass the open gate and then wait for the store while the rail goes down.
    let lock = site.lock();
    site.publish(&Load { bodies: load.bodies[8..].to_vec(), expected: half(), ..Load::default() }).await;
    running.until("all are in hand", |lane| lane.in_flight == 16).await;
    ledger.open_door();
    running.until("the gate shuts", |lane| lane.breakers.settlement == "open").await;
    drop(lock);
    // Their attempts are on record, and nothing was sent.
    running.until("they are handed back", |lane| lane.handed_back >= 16).await;
    assert_eq!(ledger.total(), 8);
    for name in second {
        let attempts = record(&site, name).attempts;
        assert_eq!(attempts.iter().map(|attempt| attempt.ended).collect::<Vec<_>>(), [Some(Ended::NotSent)], "{name}");
    }
    ended(&site).await;
    assert!(names.iter().all(|name| !ledger.doubted(name)), "nothing was ever in doubt");
    balances(&site, running, &ledger, load.expected).await;
}

/// Eight that settle.
fn half() -> Expected {
    Expected { published: 8, settled: 8, ..Expected::default() }
}

#[tokio::test]
async fn a_deadline_that_passes_on_the_way_to_the_rail_keeps_the_payment_from_it() {
    let (site, ledger) = (Site::new(Setup { busy_timeout: "10s", ..Setup::default() }).await, Ledger::new());
    // The store believes that there is time left.
    let terminal = Terminal { behind: SignedDuration::from_secs(30), ..Terminal::default() };
    let running = Running::start(&site, &ledger, &terminal);
    running.until("it is ready", |lane| lane.ready).await;
    let lock = site.lock();
    let expires = Timestamp::now() + 1500.milliseconds();
    let expected = Expected { published: 1, rejected: 1, ..Expected::default() };
    let bodies = vec![body("P1", &format!(r#","expires_at":"{expires}""#))];
    site.publish(&Load { bodies, expected, ..Load::default() }).await;
    running.until("it is judged", |lane| lane.in_flight == 1).await;
    wait_until("its deadline passes", Duration::from_secs(5), async || Timestamp::now() > expires).await;
    drop(lock);
    ended(&site).await;
    assert_eq!(ledger.total(), 0, "the rail was never called");
    let attempts = record(&site, "P1").attempts;
    assert_eq!(attempts.iter().map(|attempt| attempt.ended).collect::<Vec<_>>(), [Some(Ended::NotSent)]);
    let [rejected] = told(&site, "P1").await.try_into().unwrap();
    assert_eq!(rejected["reasons"][0]["code"], "AB11");
    balances(&site, running, &ledger, expected).await;
}

#[tokio::test]
async fn a_payment_in_hand_is_not_submitted_for_another_event_that_asks_for_it() {
    let (site, ledger) = (Site::new(Setup::default()).await, Ledger::new());
    ledger.plan("P1", [Course::pays(Then::Wait)]);
    ledger.set_desk(Desk::Silent);
    let terminal = Terminal { claim: Duration::from_secs(4), ..Terminal::default() };
    let running = Running::start(&site, &ledger, &terminal);
    for id in ["once", "twice"] {
        site.publish_as(id, &body("P1", "")).await;
    }
    running.until("the other is sent away", |lane| lane.handed_back >= 1).await;
    assert_eq!(record(&site, "P1").payment.unwrap().fence, 1, "it was not taken over");
    ledger.open_door();
    ended(&site).await;
    assert_eq!(ledger.submitted("P1").len(), 1);
    let expected = Expected { published: 2, settled: 1, duplicates: 1, ..Expected::default() };
    balances(&site, running, &ledger, expected).await;
}

#[tokio::test]
async fn a_worker_dropped_with_a_payment_at_its_rail_does_nothing_more_and_the_next_one_finds_it() {
    let (site, ledger) = (Site::new(Setup::default()).await, Ledger::new());
    ledger.plan("P1", [Course::pays(Then::Wait)]);
    let load = load(&["P1"], 0);
    let terminal = Terminal { deadline: Duration::from_secs(20), ..Terminal::default() };
    let dropped = Running::start(&site, &ledger, &terminal);
    site.publish(&load).await;
    wait_until("it is with the rail", Duration::from_secs(10), async || ledger.total() == 1).await;
    let fence = record(&site, "P1").payment.unwrap().fence;
    dropped.abandon().await;
    // The rail's own task is the last to hold the client: it is never dropped half way.
    ledger.open_door();
    wait_until("all its tasks have ended", Duration::from_secs(10), async || Arc::strong_count(&ledger) == 1).await;
    let row = record(&site, "P1").payment.unwrap();
    assert_eq!((row.state, site.stored_in("PAYMENT_OUTCOMES").await), (State::Open, 0), "nobody recorded its answer");

    let next = Running::start(&site, &ledger, &Terminal::default());
    ended(&site).await;
    assert!(record(&site, "P1").payment.unwrap().fence > fence, "it was taken over");
    assert_eq!(ledger.submitted("P1").len(), 1);
    balances(&site, next, &ledger, load.expected).await;
}

#[tokio::test]
async fn another_rail_is_never_asked_about_an_attempt() {
    let (site, ledger, other) = (Site::new(Setup::default()).await, Ledger::new(), Ledger::new());
    ledger.set_desk(Desk::Silent);
    ledger.plan("P1", [Course::pays(Then::Say(Answer::Unknown))]);
    let load = load(&["P1"], 0);
    let first = Running::start(&site, &ledger, &Terminal::default());
    site.publish(&load).await;
    in_doubt(&ledger).await;
    let _drained = first.stop().await;

    let second = Running::start(&site, &other, &Terminal { rail: "other", ..Terminal::default() });
    second.until("it is handed back", |lane| lane.handed_back >= 3).await;
    let _drained = second.stop().await;
    assert_eq!(other.total(), 0, "neither sent nor asked about");
    assert_eq!(site.reconciled().await.held(), 1);

    ledger.set_desk(Desk::Honest);
    let third = Running::start(&site, &ledger, &Terminal::default());
    ended(&site).await;
    assert_eq!(ledger.submitted("P1").len(), 1);
    balances(&site, third, &ledger, load.expected).await;
}
