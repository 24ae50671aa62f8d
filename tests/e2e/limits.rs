//! A debtor's limit for the day, through the real binary and over kills of it.

use std::process::Stdio;
use std::time::Duration;

use acquit::lab::servers::{PostgresOptions, PostgresServer};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::process::{Worker, wait_until};
use crate::site::{Role, Setup, Site};

/// Payments of 10.00 each.
const EACH: u64 = 40;

fn limited(site: &Site) -> Command {
    let mut command = site.command(Role::Worker, &["run"]);
    command.env("ACQUIT_LANE_PAYMENTS_DEBTOR_DAILY_LIMITS", "EUR=200.00,JPY=50");
    command
}

async fn publish(site: &Site, id: &str, message: &str, debtor: &str, currency: &str) {
    let body = json!({
        "payment_id": id, "scheme": "book", "amount": { "currency": currency, "value": "10.00" },
        "debtor_account": { "other": { "id": debtor } }, "creditor_account": { "other": { "id": "shop" } },
    });
    let (subject, stream) = (format!("payments.requested.book.{debtor}"), &site.broker.streams().payments);
    site.broker.publish_confirmed(&subject, message, &[], body.to_string().into(), stream).await.unwrap();
}

/// Everything that one debtor and another ask for, some of it twice.
async fn ask(site: &Site) {
    for n in 0..EACH {
        for debtor in ["alice", "bob"] {
            let id = format!("{debtor}-{n}");
            publish(site, &id, &id, debtor, "EUR").await;
            if n % 4 == 0 {
                publish(site, &id, &format!("{id}-again"), debtor, "EUR").await;
            }
        }
        publish(site, &format!("usd-{n}"), &format!("usd-{n}"), "alice", "USD").await;
    }
}

/// Runs a worker until it has killed itself at a step; whether it came to it before every event had its end.
async fn killed(site: &Site, step: &str) -> bool {
    let mut command = limited(site);
    command.env("ACQUIT_LAB_KILL", step).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let mut ended = None;
    wait_until(step, Duration::from_secs(60), async || {
        ended = child.try_wait().unwrap();
        ended.is_some() || site.has_ended().await
    })
    .await;
    if ended.is_none() {
        child.kill().await.unwrap();
    }
    ended.is_some()
}

async fn a_day_is_spent_once(site: &Site) {
    ask(site).await;
    let mut kills = 0;
    for step in ["before-commit:1", "after-commit:1", "before-outcome:9", "after-commit:2", "before-ack:7"] {
        kills += u32::from(killed(site, step).await);
    }
    assert!(kills >= 3, "{kills}");
    let worker = Worker::start(limited(site)).await;
    site.drained(&worker).await;
    worker.stop().await;
    // 20 of each debtor fit. What is asked for twice is settled once, or refused twice.
    let events = site.reconciled().await;
    let (fit, refused) = (2 * 20 + EACH, 2 * (EACH - 20));
    assert_eq!(events.settled, fit, "{events:?}");
    let again = events.duplicates + events.rejected_by_code["AM14"] - refused;
    assert_eq!((again, events.dead_lettered, events.held()), (2 * EACH / 4, 0, 0), "{events:?}");
    assert_eq!(events.rejected, events.rejected_by_code["AM14"]);

    // The day goes on where it stood, and the reason is told without the amount.
    let worker = Worker::start(limited(site)).await;
    publish(site, "late", "late", "bob", "EUR").await;
    site.drained(&worker).await;
    worker.stop().await;
    let told = site.broker.last_on("PAYMENT_OUTCOMES", "payments.rejected.book.bob").await.unwrap();
    let body: Value = serde_json::from_slice(&told.payload).unwrap();
    let text = "the debtor account's limit for the day does not cover the amount";
    let reasons = json!([{ "code": "AM14", "path": "/amount/value", "text": text }]);
    assert_eq!((&body["payment_id"], &body["by"], &body["reasons"]), (&json!("late"), &json!("rules"), &reasons));
    assert_eq!(site.reconciled().await.settled, fit);
}

#[tokio::test]
async fn a_debtors_limit_holds_over_kills_of_the_worker() {
    a_day_is_spent_once(&Site::new(Setup::default()).await).await;
}

#[tokio::test]
async fn a_debtors_limit_holds_over_kills_of_a_worker_of_a_fleet() {
    let database = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let site = Site::new(Setup { database: Some(database.url()), ..Setup::default() }).await;
    a_day_is_spent_once(&site).await;
}
