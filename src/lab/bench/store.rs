//! `acquit bench --store postgres`: the store alone on a real PostgreSQL, beside what plain SQL reaches there with
//! groups of the same size, in the same run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::NoTls;

use crate::cli::{Exit, Failure, Global, print_json};
use crate::domain::{EventId, LaneName, OrderKey, SchemeName, StreamName};
use crate::intake::{Contract, Decode, Instants, Judged, Raw, Rules, Scheme};
use crate::lab::load::{Generator, GeneratorSettings};
use crate::lab::print;
use crate::lab::servers::{PostgresOptions, PostgresServer};
use crate::store::{
    BookPolicy, GroupDone, Origin, Postgres, PostgresSettings, Route, Store, Unknown, WriterLimits, migrate,
};

/// The least part of plain SQL's speed that the store should reach.
const BAR: f64 = 0.6;

/// One statement that does what a group of payments does to the tables.
const PLAIN: &str = "WITH w AS MATERIALIZED (SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], \
     $5::bigint[]) AS w (id, payment_id, debit, credit, minor)), \
     locked AS MATERIALIZED (SELECT id FROM accounts WHERE id IN (SELECT debit FROM w UNION SELECT credit FROM w) \
     ORDER BY id FOR NO KEY UPDATE), \
     paid AS (INSERT INTO payments (id, payment_id, fingerprint, fp_version, state, stream, sequence, scheme, order_key, \
     lane, rail, rail_ref, currency, minor, end_to_end_id, requested_at, finished_at, late, attempts, last_attempt, \
     fence, deliveries) SELECT id, payment_id, sha256(payment_id::bytea), 1, 'settled', 1, id, 'book', 'bench', 'bench', \
     'book', 'tr_' || id, 'EUR', minor, 'INV-2026-004711', now(), now(), false, 1, 0, 0, 1 FROM w), \
     moved AS (INSERT INTO transfers (payment, debit_account, credit_account, currency, minor, posted_at) \
     SELECT id, debit, credit, 'EUR', minor, now() FROM w) \
     UPDATE accounts a SET debits_posted = a.debits_posted + s.debits, credits_posted = a.credits_posted + s.credits \
     FROM (SELECT account, sum(debit)::bigint AS debits, sum(credit)::bigint AS credits FROM \
     (SELECT debit AS account, minor AS debit, 0 AS credit FROM w UNION ALL SELECT credit, 0, minor FROM w) AS sides \
     GROUP BY account) AS s JOIN locked ON locked.id = s.account WHERE a.id = s.account";

/// What was measured.
#[derive(Debug, Serialize)]
struct Measured {
    payments: u64,
    group: u16,
    groups: usize,
    payments_per_group: f64,
    store_groups_per_s: f64,
    store_payments_per_s: f64,
    plain_groups_per_s: f64,
    plain_payments_per_s: f64,
    ratio: f64,
}

pub(super) async fn run(global: &Global, payments: u64, group: u16) -> Result<Exit, Failure> {
    let server = PostgresServer::start(PostgresOptions::default()).await?;
    let settings = |schema: &str| PostgresSettings {
        url: server.url(),
        password_file: None,
        ca_file: None,
        schema: schema.to_owned(),
        allow_plaintext: false,
        statement_timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(5),
    };
    let (ours, theirs) = (settings("store"), settings("plain"));
    migrate(&ours, rand::random()).await?;
    migrate(&theirs, rand::random()).await?;
    print::log("plain SQL");
    let plain = plain(&server.url(), payments, group).await.map_err(unavailable)?;
    print::log("the store");
    let (took, groups) = stored(&ours, payments, group).await?;
    let (count, seconds) = (number(payments), took.as_secs_f64());
    let each = count / number(groups.len());
    let measured = Measured {
        payments,
        group,
        groups: groups.len(),
        payments_per_group: each,
        store_groups_per_s: number(groups.len()) / seconds,
        store_payments_per_s: count / seconds,
        plain_groups_per_s: plain / f64::from(group),
        plain_payments_per_s: plain,
        ratio: count / seconds / plain,
    };
    if global.json {
        print_json(&measured);
    } else {
        let text = format!(
            "{payments} payments, at most {group} at once, {:.0} in a group\n  plain SQL, payments a second  {plain:>10.0}\n  \
             the store, payments a second  {:>10.0}\n  part of plain SQL's speed     {:>10.2}  (bar {BAR})\n",
            each, measured.store_payments_per_s, measured.ratio
        );
        print::data(&text).map_err(|e| Failure::new(Exit::Unavailable, format!("stdout: {e}")))?;
    }
    Ok(if measured.ratio >= BAR { Exit::Done } else { Exit::Found })
}

fn unavailable(error: tokio_postgres::Error) -> Failure {
    Failure::new(Exit::Unavailable, format!("the bench's own statements: {error}"))
}

/// Payments a second of a client that sends one ready statement after the other.
async fn plain(url: &str, payments: u64, group: u16) -> Result<f64, tokio_postgres::Error> {
    const ACCOUNTS: i64 = 1_000;
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    let prepare = format!(
        "SET search_path = plain; INSERT INTO streams (name, created_ms) VALUES ('BENCH', 1); INSERT INTO accounts \
         SELECT n, 'other::' || n, 'EUR', 0, 0, true, now() FROM generate_series(1, {ACCOUNTS}) AS n"
    );
    client.batch_execute(&prepare).await?;
    let statement = client.prepare(PLAIN).await?;
    let (mut next, mut spent) = (1_i64, Duration::ZERO);
    let last = i64::try_from(payments).unwrap_or(i64::MAX);
    while next <= last {
        let end = next.saturating_add(group.into()).saturating_sub(1).min(last);
        let ids: Vec<i64> = (next..=end).collect();
        let names: Vec<String> = ids.iter().map(|_| uuid::Uuid::new_v4().to_string()).collect();
        let account = || rand::random_range(1..=ACCOUNTS);
        let debits: Vec<i64> = ids.iter().map(|_| account()).collect();
        let credits: Vec<i64> = ids.iter().map(|_| account()).collect();
        let minor: Vec<i64> = ids.iter().map(|_| rand::random_range(1..=100_000)).collect();
        let begun = Instant::now();
        client.execute(&statement, &[&ids, &names, &debits, &credits, &minor]).await?;
        spent = spent.saturating_add(begun.elapsed());
        next = end.saturating_add(1);
    }
    Ok(number(payments) / spent.as_secs_f64())
}

/// How long the store took for all of them, and its groups. Reading and judging is done before.
async fn stored(settings: &PostgresSettings, payments: u64, group: u16) -> Result<(Duration, Vec<GroupDone>), Failure> {
    let asks = judged(payments)?;
    let groups: Arc<Mutex<Vec<GroupDone>>> = Arc::default();
    let seen = {
        let groups = Arc::clone(&groups);
        move |done: &GroupDone| groups.lock().unwrap_or_else(PoisonError::into_inner).push(done.clone())
    };
    let policy = BookPolicy { unknown: Unknown::Open { overdraft: true }, declared: Default::default() };
    let limits = WriterLimits { group, claim: Duration::from_secs(60), poison_starts: 5, keep: None };
    let backend = Postgres::open(settings.clone()).await?;
    let store = Store::start(backend, policy, limits, "bench", seen)
        .map_err(|e| Failure::new(Exit::Unavailable, format!("the store's thread cannot be started: {e}")))?;
    let begun = Instant::now();
    let lost = stream::iter(asks)
        .map(|(origin, judged)| store.open(origin, judged, Route::Book))
        .buffer_unordered(usize::from(group).saturating_mul(2))
        .filter(|stand| std::future::ready(stand.is_err()))
        .count()
        .await;
    let took = begun.elapsed();
    store.stop().await;
    if lost > 0 {
        return Err(Failure::new(Exit::Unavailable, format!("the store lost {lost} payments")));
    }
    let groups = std::mem::take(&mut *groups.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((took, groups))
}

fn judged(payments: u64) -> Result<Vec<(Origin, Judged)>, Failure> {
    let bug = |what: &str| Failure::new(Exit::Bug, format!("the bench's own {what} cannot be used"));
    let lane = LaneName::parse("bench").map_err(|_| bug("lane"))?;
    let name = StreamName::parse("BENCH").map_err(|_| bug("stream"))?;
    let schemes = ["book", "sct", "sct-inst", "cbpr"].map(|name| SchemeName::parse(name).ok());
    let rules = Rules::new(schemes.iter().flatten().filter_map(Scheme::built_in).collect());
    let at = Timestamp::now();
    let mut asks = Vec::new();
    for (sequence, event) in (1..).zip(Generator::new(GeneratorSettings::uniform(payments))) {
        let (scheme, order_key): (SchemeName, OrderKey) = (event.scheme, event.order_key);
        let raw = Raw { scheme: &scheme, order_key: &order_key, header: &|_| None, body: &event.body };
        let decoded = Contract.decode(raw).map_err(|_| bug("events"))?;
        let judged = rules.judge(decoded, &scheme, Instants { requested_at: at, now: at });
        let event = EventId { stream: name.clone(), created_ms: 1, sequence };
        let (lane, history) = (lane.clone(), Vec::new());
        asks.push((Origin { event, scheme, order_key, lane, requested_at: at, delivery: 1, history }, judged));
    }
    Ok(asks)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn number(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(0) as f64
}
