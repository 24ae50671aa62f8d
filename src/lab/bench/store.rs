//! `acquit bench --store postgres`: the store alone on a real PostgreSQL, beside what plain SQL reaches there with
//! groups of the same size, in the same run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{Client, NoTls, Statement};

use crate::cli::{Exit, Failure, Global, print_json};
use crate::domain::{Account, EventId, LaneName, OrderKey, SchemeName, StreamName};
use crate::intake::{Contract, Decode, Instants, Judged, Raw, Rules, Scheme};
use crate::lab::load::{Generator, GeneratorSettings};
use crate::lab::print;
use crate::lab::servers::{PostgresOptions, PostgresServer};
use crate::store::{
    AccountKey, BookPolicy, GroupDone, Origin, Postgres, PostgresSettings, Route, Store, Unknown, WriterLimits, migrate,
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

/// Both get the same payments between the same accounts, all of which are open before, a round each in turn: what else
/// the machine does then weighs on both.
const ROUNDS: usize = 8;

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
    let asks = judged(payments)?;
    let mut plain = Plain::open(&server.url(), &asks).await.map_err(unavailable)?;
    let mut stored = Stored::open(&ours, group).await?;
    let round = asks.len().div_ceil(ROUNDS).max(1);
    let mut asks = asks.into_iter();
    let mut done = 1;
    loop {
        let part: Vec<(Origin, Judged)> = asks.by_ref().take(round).collect();
        if part.is_empty() {
            break;
        }
        print::log(&format!("round {done} of {ROUNDS}: plain SQL, the store"));
        done += 1;
        plain.pay(&part, group).await.map_err(unavailable)?;
        stored.pay(part).await?;
    }
    let (took, groups) = stored.close().await;
    let (count, seconds, plain) = (number(payments), took.as_secs_f64(), number(payments) / plain.spent.as_secs_f64());
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

/// What moves: from, to, how much. Only payments that our rules take reach the book.
fn movement(judged: &Judged) -> Option<(AccountKey, AccountKey, i64)> {
    let Judged::Valid(valid) = judged else { return None };
    let (payment, currency) = (valid.payment(), valid.payment().amount.currency());
    let key = |account: &Account| AccountKey::new(&account.key(), currency);
    Some((key(&payment.debtor_account), key(&payment.creditor_account), payment.amount.minor()))
}

/// A client that sends one ready statement after the other.
struct Plain {
    client: Client,
    statement: Statement,
    accounts: HashMap<AccountKey, i64>,
    next: i64,
    spent: Duration,
}

impl Plain {
    /// Opens the accounts in both schemas.
    async fn open(url: &str, asks: &[(Origin, Judged)]) -> Result<Self, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        let mut accounts = HashMap::new();
        for (from, to, _) in asks.iter().filter_map(|(_, judged)| movement(judged)) {
            for key in [from, to] {
                let next = i64::try_from(accounts.len()).unwrap_or(i64::MAX).saturating_add(1);
                accounts.entry(key).or_insert(next);
            }
        }
        let (ids, keys): (Vec<i64>, Vec<&str>) = accounts.iter().map(|(key, id)| (*id, &*key.key)).unzip();
        let currencies: Vec<&str> = accounts.keys().map(|key| key.currency).collect();
        for schema in ["store", "plain"] {
            let open = format!(
                "INSERT INTO {schema}.accounts SELECT id, key, currency, 0, 0, true, now() \
                 FROM unnest($1::bigint[], $2::text[], $3::text[]) AS w (id, key, currency) ORDER BY id"
            );
            client.execute(&open, &[&ids, &keys, &currencies]).await?;
            let prepare = format!(
                "SELECT nextval('{schema}.account_blocks') FROM generate_series(0, {} / 4096); ANALYZE {schema}.accounts",
                ids.len()
            );
            client.batch_execute(&prepare).await?;
        }
        client
            .batch_execute("SET search_path = plain; INSERT INTO streams (name, created_ms) VALUES ('BENCH', 1)")
            .await?;
        let statement = client.prepare(PLAIN).await?;
        Ok(Self { client, statement, accounts, next: 1, spent: Duration::ZERO })
    }

    async fn pay(&mut self, part: &[(Origin, Judged)], group: u16) -> Result<(), tokio_postgres::Error> {
        for group in part.chunks(usize::from(group)) {
            let (mut names, mut minors) = (Vec::<&str>::new(), Vec::<i64>::new());
            let (mut debits, mut credits) = (Vec::<i64>::new(), Vec::<i64>::new());
            for (_, judged) in group {
                let Some((from, to, minor)) = movement(judged) else { continue };
                names.push(judged.payment_id().as_str());
                debits.extend(self.accounts.get(&from));
                credits.extend(self.accounts.get(&to));
                minors.push(minor);
            }
            let end = self.next.saturating_add(i64::try_from(names.len()).unwrap_or(i64::MAX));
            let ids: Vec<i64> = (self.next..end).collect();
            let begun = Instant::now();
            self.client.execute(&self.statement, &[&ids, &names, &debits, &credits, &minors]).await?;
            self.spent = self.spent.saturating_add(begun.elapsed());
            self.next = end;
        }
        Ok(())
    }
}

/// The store, and how long it took. Reading and judging is done before.
struct Stored {
    store: Store,
    at_once: usize,
    groups: Arc<Mutex<Vec<GroupDone>>>,
    spent: Duration,
}

impl Stored {
    async fn open(settings: &PostgresSettings, group: u16) -> Result<Self, Failure> {
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
        let at_once = usize::from(group).saturating_mul(2);
        Ok(Self { store, at_once, groups, spent: Duration::ZERO })
    }

    async fn pay(&mut self, part: Vec<(Origin, Judged)>) -> Result<(), Failure> {
        let begun = Instant::now();
        let lost = stream::iter(part)
            .map(|(origin, judged)| self.store.open(origin, judged, Route::Book))
            .buffer_unordered(self.at_once)
            .filter(|stand| std::future::ready(stand.is_err()))
            .count()
            .await;
        self.spent = self.spent.saturating_add(begun.elapsed());
        if lost > 0 {
            return Err(Failure::new(Exit::Unavailable, format!("the store lost {lost} payments")));
        }
        Ok(())
    }

    async fn close(self) -> (Duration, Vec<GroupDone>) {
        self.store.stop().await;
        (self.spent, std::mem::take(&mut *self.groups.lock().unwrap_or_else(PoisonError::into_inner)))
    }
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
