//! Holders of payments that are stopped as processes (SIGSTOP) at a named step, and continued once another worker has
//! taken their payment over: a fleet on one PostgreSQL database in front of the stand-in service, whose ledger says
//! what really happened. The service pays at each POST: whatever is sent a second time is money paid twice.

use std::time::Duration;

use acquit::lab::rail::ScriptedRail;
use acquit::lab::rail::script::Script;
use acquit::lab::servers::{PostgresOptions, PostgresServer};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use tokio_postgres::NoTls;

use crate::http_rail::{exported, reconciled_with, route};
use crate::lanes::bank;
use crate::load::{Expected, Load};
use crate::process::{Worker, wait_until};
use crate::rail::told;
use crate::site::{Role, Setup, Site};

const PATIENCE: Duration = Duration::from_secs(60);
const PLAIN: &str = "idempotent = false\n";
/// Nothing that is sent arrives.
const DEAF: &str = "idempotent = false\n[[behaviour]]\nkind = \"hang\"\n";
/// Pays, and says of no payment what became of it.
const MUTE: &str = "idempotent = false\n[[behaviour]]\nkind = \"inquiry_error\"\n";

/// Streams, a database, a rail.
struct Fleet {
    database: PostgresServer,
    site: Site,
    bank: ScriptedRail,
    published: Expected,
}

impl Fleet {
    async fn new() -> Self {
        let database = PostgresServer::start(PostgresOptions::default()).await.unwrap();
        let site = Site::new(Setup { database: Some(database.url()), ..Setup::default() }).await;
        let bank = bank(&site, "bank", PLAIN, "127.0.0.1:0");
        route(&site, bank.address(), "");
        Self { database, site, bank, published: Expected::default() }
    }

    /// A worker that stops itself the `step`'s n-th time.
    async fn stopping(&self, step: &str) -> Worker {
        let mut command = self.site.command(Role::Worker, &["run"]);
        command.env("ACQUIT_LAB_STOP", step);
        Worker::start(command).await
    }

    /// Publishes one payment; gives its id.
    async fn publish(&mut self, seed: u64) -> String {
        let load = Load::plain(seed, 1);
        self.site.publish(&load).await;
        self.published += load.expected;
        let body: serde_json::Value = serde_json::from_slice(&load.bodies[0]).unwrap();
        body["payment_id"].as_str().unwrap().to_owned()
    }

    /// Publishes one payment and waits until it is settled: whoever settles it can ask the rail about it, and so knows
    /// what its "not found" is worth.
    async fn settle(&mut self, seed: u64) {
        let payment = self.publish(seed).await;
        let settled =
            format!("SELECT count(*) FROM acquit.payments WHERE payment_id = '{payment}' AND state = 'settled'");
        wait_until("it settles", PATIENCE, async || self.number(&settled).await == 1).await;
    }

    /// The effects that a payment has.
    fn effects(&self, payment: &str) -> usize {
        self.bank.effects().unwrap().iter().filter(|paid| paid.payment_id == payment).count()
    }

    async fn number(&self, sql: &str) -> i64 {
        let (client, connection) = tokio_postgres::connect(&self.database.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Attempts on record of a payment; all of them are under its first key.
    async fn attempts(&self, payment: &str) -> i64 {
        let of =
            format!("FROM acquit.attempts a JOIN acquit.payments p ON p.id = a.payment AND p.payment_id = '{payment}'");
        assert_eq!(self.number(&format!("SELECT coalesce(max(leg)::bigint, 0) {of}")).await, 0, "under its first key");
        self.number(&format!("SELECT count(*) {of}")).await
    }

    /// Each payment has one effect and one outcome event, and nothing differs from the rail's ledger.
    async fn ends_settled_once(self, payment: &str, workers: Vec<Worker>) {
        wait_until("every event has its end", PATIENCE, async || self.site.has_ended().await).await;
        for worker in workers {
            worker.within(PATIENCE, "nothing is in hand", |lane| lane.in_flight == 0).await;
            worker.stop().await;
        }
        assert_eq!(self.effects(payment), 1, "effects of the payment");
        assert_eq!(u64::try_from(self.bank.effects().unwrap().len()), Ok(self.published.settled), "effects of all");
        let settled = told(&self.site, payment).await.into_iter().filter(|outcome| outcome["status"] == "settled");
        assert_eq!(settled.count(), 1, "outcome events");
        self.site.balances(self.published).await;
        let ledger = self.site.folder("banks").join("bank");
        let said = reconciled_with(&self.site, &exported(&self.site, &ledger).await).await;
        assert_eq!(said.code, Some(0), "{said:?}");
    }
}

/// Waits until the process has stopped itself.
async fn stopped(worker: &Worker) {
    let pid = i32::try_from(worker.pid()).ok().and_then(Pid::from_raw).unwrap();
    wait_until("it stops", PATIENCE, async || {
        let looked = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), looked).unwrap().is_some_and(|status| status.stopped())
    })
    .await;
}

/// Continues a stopped process and waits until its late word is out.
async fn wakes(worker: &Worker) {
    worker.signal(Signal::CONT);
    worker.within(PATIENCE, "its late word is out", |lane| lane.in_flight == 0).await;
}

#[tokio::test]
async fn a_holder_stopped_with_the_answer_in_hand_changes_nothing_when_it_wakes() {
    let mut fleet = Fleet::new().await;
    let first = fleet.stopping("after-answer:1").await;
    let payment = fleet.publish(81).await;
    stopped(&first).await;
    assert_eq!(fleet.effects(&payment), 1, "the rail has settled it");

    let second = fleet.site.worker().await;
    wait_until("another finishes it", PATIENCE, async || fleet.site.has_ended().await).await;
    assert_eq!((fleet.attempts(&payment).await, fleet.effects(&payment)), (1, 1), "it was inquired about, not sent");
    wakes(&first).await;
    assert_eq!(fleet.attempts(&payment).await, 1);
    fleet.ends_settled_once(&payment, vec![first, second]).await;
}

#[tokio::test]
async fn a_holder_stopped_with_the_right_to_send_does_not_send_when_it_wakes() {
    let mut fleet = Fleet::new().await;
    let first = fleet.stopping("after-commit:1").await;
    let payment = fleet.publish(82).await;
    stopped(&first).await;
    assert_eq!((fleet.attempts(&payment).await, fleet.effects(&payment)), (1, 0), "it is on record and not sent");

    let second = fleet.site.worker().await;
    fleet.settle(83).await;
    // Twice not found, past the longest time that a call of the first may take: sent once more, under the same key.
    wait_until("another finishes it", PATIENCE, async || fleet.site.has_ended().await).await;
    assert_eq!((fleet.attempts(&payment).await, fleet.effects(&payment)), (2, 1));
    wakes(&first).await;
    fleet.ends_settled_once(&payment, vec![first, second]).await;
}

/// The first POST never arrives. Two holders in turn ask, hear that the rail does not know the payment, and are stopped
/// with that in hand; the third hears it twice, sends again, and is stopped with the answer in hand. What the two then
/// have to say is older than the second sending: believed of that, it would allow a third.
#[tokio::test]
async fn what_stopped_holders_heard_before_another_took_over_sends_nothing_when_they_wake() {
    let mut fleet = Fleet::new().await;
    let first = fleet.stopping("after-not-found:1").await;
    fleet.settle(84).await;
    fleet.bank.play(Script::parse(DEAF).unwrap());
    let payment = fleet.publish(85).await;
    stopped(&first).await;
    fleet.bank.play(Script::parse(PLAIN).unwrap());
    let second = fleet.stopping("after-not-found:1").await;
    fleet.settle(86).await;
    stopped(&second).await;
    let third = fleet.stopping("after-answer:2").await;
    fleet.settle(87).await;
    stopped(&third).await;
    assert_eq!((fleet.attempts(&payment).await, fleet.effects(&payment)), (2, 1), "it was sent again");

    // Past the longest time that the second sending may take: a finding of now would count.
    let past = format!(
        "SELECT count(*) FROM acquit.attempts a JOIN acquit.payments p ON p.id = a.payment \
         AND p.payment_id = '{payment}' AND a.number = 2 AND a.started_at < now() - interval '2500 ms'"
    );
    wait_until("it is old", PATIENCE, async || fleet.number(&past).await == 1).await;
    // It takes the words of both to allow a sending. Whoever wakes first must not learn from the rail meanwhile that it
    // has paid: the payment would have its end before the other says anything.
    fleet.bank.play(Script::parse(MUTE).unwrap());
    wakes(&first).await;
    wakes(&second).await;
    assert_eq!(
        (fleet.attempts(&payment).await, fleet.effects(&payment)),
        (2, 1),
        "nothing was sent for what they said"
    );
    fleet.bank.play(Script::parse(PLAIN).unwrap());
    wakes(&third).await;
    fleet.ends_settled_once(&payment, vec![first, second, third]).await;
}
