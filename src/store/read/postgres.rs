//! Reading from PostgreSQL, on a connection with a runtime of its own: whoever asks waits for the answer where it is.

mod check;
mod tracked;
mod unknown;

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::super::postgres::{
    Fault, attempt_of, client, event_columns, event_of, fault_text, money, payment_columns, payment_of, signed,
    tracking, unsigned, verify,
};
use super::super::{Facts, HighWater, PostgresError, PostgresSettings};
use super::{
    AttemptRecord, EventKey, EventRecord, NoteRecord, PaymentLine, PaymentRecord, ReadError, TransferRecord, masked,
};
use crate::domain::{EventId, PaymentId, StoreId, StreamName};
use crate::store::{EventRow, PaymentRow};

/// What a question may take beyond the server's own bound for a statement.
const GRACE: Duration = Duration::from_secs(2);

type With<'a> = &'a [&'a (dyn ToSql + Sync)];

macro_rules! payments {
    () => {
        concat!(
            "SELECT ",
            payment_columns!(),
            ", t.since, t.due, t.sweeps FROM payments p JOIN streams s ON s.id = p.stream \
             LEFT JOIN tracker t ON t.payment = p.id"
        )
    };
}

macro_rules! events {
    () => {
        concat!("SELECT ", event_columns!(), " FROM events e JOIN streams s ON s.id = e.stream")
    };
}
impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Row(what) => Self::Failed(format!("a stored row cannot be read: {what}")),
            Fault::Sql(error) => Self::Failed(fault_text(&error)),
            Fault::Stale => Self::Failed("an account is not what it was".to_owned()),
        }
    }
}

impl From<tokio_postgres::Error> for ReadError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::from(Fault::Sql(error))
    }
}

impl From<PostgresError> for ReadError {
    fn from(error: PostgresError) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(super) struct Reader {
    client: Arc<Client>,
    /// Taken when dropped.
    runtime: Option<Runtime>,
    patience: Duration,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("postgres::Reader").finish_non_exhaustive()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not waited for: a reader may be dropped where nothing may block.
            runtime.shutdown_background();
        }
    }
}

impl Reader {
    pub(super) fn connect(settings: &PostgresSettings) -> Result<Self, ReadError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("acquit-reader").enable_all().build();
        let runtime = runtime.map_err(|e| ReadError::Failed(format!("its thread cannot be started: {e}")))?;
        let patience = settings.statement_timeout.saturating_add(GRACE);
        let most = settings.connect_timeout.saturating_mul(3).saturating_add(patience);
        let settings = settings.clone();
        let opening = async move {
            let client = client(&settings).await?;
            verify(&client).await?;
            client.batch_execute("SET default_transaction_read_only = on").await?;
            Ok(client)
        };
        match wait(&runtime, most, opening) {
            Ok(client) => Ok(Self { client: Arc::new(client), runtime: Some(runtime), patience }),
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    fn ask<T, F>(&self, question: impl FnOnce(Arc<Client>) -> F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        self.ask_within(self.patience, question)
    }

    fn ask_within<T, F>(&self, within: Duration, question: impl FnOnce(Arc<Client>) -> F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        let Some(runtime) = &self.runtime else { return Err(ReadError::Failed("it is closed".to_owned())) };
        wait(runtime, within, question(Arc::clone(&self.client)))
    }

    pub(super) fn facts(&self) -> Result<Facts, ReadError> {
        self.ask(async |client| facts(&client).await)
    }

    pub(super) fn payment(&self, id: &PaymentId) -> Result<Option<PaymentRecord>, ReadError> {
        let id = id.clone();
        self.ask(async move |client| payment(&client, id.as_str()).await)
    }

    pub(super) fn event(&self, event: &EventId) -> Result<Option<EventRecord>, ReadError> {
        let event = event.clone();
        self.ask(async move |client| record(&client, &event).await)
    }

    pub(super) fn payments_after(&self, after: i64, limit: u32) -> Result<Vec<PaymentLine>, ReadError> {
        self.lines(concat!(payments!(), " WHERE p.id > $1 ORDER BY p.id LIMIT $2"), after, limit)
    }

    pub(super) fn unfinished_after(&self, after: i64, limit: u32) -> Result<Vec<PaymentLine>, ReadError> {
        let sql = concat!(payments!(), " WHERE p.state IN ('open', 'held') AND p.id > $1 ORDER BY p.id LIMIT $2");
        self.lines(sql, after, limit)
    }

    fn lines(&self, sql: &'static str, after: i64, limit: u32) -> Result<Vec<PaymentLine>, ReadError> {
        self.ask(async move |client| {
            let found = client.query(sql, &[&after, &i64::from(limit)]).await?;
            Ok(found.iter().map(|row| placed(row).map(PaymentLine::of)).collect::<Result<_, Fault>>()?)
        })
    }

    pub(super) fn events_after(&self, after: EventKey, limit: u32) -> Result<(Vec<EventRow>, EventKey), ReadError> {
        self.ask(async move |client| {
            let sql =
                concat!(events!(), " WHERE (e.stream, e.sequence) > ($1, $2) ORDER BY e.stream, e.sequence LIMIT $3");
            let rows = events(&client, sql, &[&after.stream, &after.sequence, &i64::from(limit)]).await?;
            let Some(last) = rows.last() else { return Ok((rows, after)) };
            let stream = stream(&client, &last.event).await?.unwrap_or(after.stream);
            let end = EventKey { stream, sequence: signed(last.event.sequence)? };
            Ok((rows, end))
        })
    }
}

/// Has the reader's own thread do the work, and waits here. On a runtime that has other threads, its tasks go there.
fn wait<T: Send + 'static>(
    runtime: &Runtime,
    within: Duration,
    work: impl Future<Output = Result<T, ReadError>> + Send + 'static,
) -> Result<T, ReadError> {
    let (reply, answer) = sync_channel(1);
    runtime.spawn(async move {
        let end = timeout(within, work).await;
        let late = |_| Err(ReadError::Failed("the database did not answer in time".to_owned()));
        // Who asked waits for it.
        reply.send(end.unwrap_or_else(late)).ok();
    });
    let receive = || answer.recv().unwrap_or_else(|_| Err(ReadError::Failed("its thread has ended".to_owned())));
    match Handle::try_current().map(|here| here.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(receive),
        Ok(_) | Err(_) => receive(),
    }
}

async fn facts(client: &Client) -> Result<Facts, ReadError> {
    let meta = client
        .query_one(
            "SELECT (SELECT value FROM meta WHERE key = 'store_id'), (SELECT value FROM meta WHERE key = 'created_at'), \
             NOT EXISTS (SELECT 1 FROM payments) AND NOT EXISTS (SELECT 1 FROM events), \
             (SELECT value FROM meta WHERE key = 'pruned_before')",
            &[],
        )
        .await?;
    let store_id = StoreId::parse(meta.try_get(0)?).map_err(|_| Fault::Row("store_id"))?;
    let created_ms: i64 = meta.try_get::<_, &str>(1)?.parse().map_err(|_| Fault::Row("created_at"))?;
    let created_at = Timestamp::from_millisecond(created_ms).map_err(|_| Fault::Row("created_at"))?;
    // Both from the end of an index. Unfinished payments at its end are passed by; a rail has few of them.
    // What is tracked is acknowledged, and so counts like an end.
    let found = client
        .query(
            "SELECT s.name, s.created_ms, greatest(coalesce((SELECT max(sequence) FROM events e WHERE e.stream = s.id), 0), \
             coalesce((SELECT p.sequence FROM payments p WHERE p.stream = s.id AND p.finished_at IS NOT NULL \
             ORDER BY p.sequence DESC LIMIT 1), 0), coalesce((SELECT max(p.sequence) FROM tracker t \
             JOIN payments p ON p.id = t.payment WHERE p.stream = s.id), 0)) FROM streams s ORDER BY s.id",
            &[],
        )
        .await?;
    let mut high_water = Vec::with_capacity(found.len());
    for row in &found {
        let sequence = unsigned(row.try_get(2)?)?;
        // A stream is known from its first event on, whether that one has ended or not.
        if sequence > 0 {
            let stream = StreamName::parse(row.try_get(0)?).map_err(|_| Fault::Row("name"))?;
            high_water.push(HighWater { stream, created_ms: row.try_get(1)?, sequence });
        }
    }
    let pruned_ms =
        meta.try_get::<_, Option<&str>>(3)?.map(str::parse).transpose().map_err(|_| Fault::Row("pruned_before"))?;
    let pruned_before =
        pruned_ms.map(Timestamp::from_millisecond).transpose().map_err(|_| Fault::Row("pruned_before"))?;
    Ok(Facts { store_id, created_at, empty: meta.try_get(2)?, high_water, pruned_before })
}

async fn payment(client: &Client, id: &str) -> Result<Option<PaymentRecord>, ReadError> {
    let payment = client.query_opt(concat!(payments!(), " WHERE p.payment_id = $1"), &[&id]).await?;
    let payment = payment.as_ref().map(placed).transpose()?;
    let (attempts, transfer) = match &payment {
        Some(payment) => (attempts(client, payment.row).await?, transfer(client, payment.row).await?),
        None => (Vec::new(), None),
    };
    let named = concat!(events!(), " WHERE e.payment_id = $1 ORDER BY e.stream, e.sequence LIMIT 256");
    let events = events(client, named, &[&id]).await?;
    let notes = client.query("SELECT at, what, breaker FROM notes WHERE payment_id = $1 ORDER BY at", &[&id]).await?;
    let notes = notes
        .iter()
        .map(|row| Ok(NoteRecord { at: row.try_get(0)?, what: row.try_get(1)?, breaker: row.try_get(2)? }))
        .collect::<Result<_, tokio_postgres::Error>>()?;
    Ok(PaymentRecord { payment, attempts, transfer, events, notes }.known())
}

async fn attempts(client: &Client, payment: i64) -> Result<Vec<AttemptRecord>, ReadError> {
    let found = client
        .query(
            "SELECT payment, number, leg, rail, started_at, answer, answered_at, not_found, in_progress_at FROM attempts \
             WHERE payment = $1 ORDER BY number",
            &[&payment],
        )
        .await?;
    Ok(found.iter().map(|row| attempt_of(row, 0).map(AttemptRecord::of)).collect::<Result<_, Fault>>()?)
}

async fn transfer(client: &Client, payment: i64) -> Result<Option<TransferRecord>, ReadError> {
    let found = client
        .query_opt(
            "SELECT d.key, c.key, t.currency, t.minor, t.posted_at FROM transfers t JOIN accounts d ON d.id = t.debit_account \
             JOIN accounts c ON c.id = t.credit_account WHERE t.payment = $1",
            &[&payment],
        )
        .await?;
    let Some(row) = found else { return Ok(None) };
    Ok(Some(TransferRecord {
        number: payment,
        debit: masked(row.try_get(0)?),
        credit: masked(row.try_get(1)?),
        amount: money(row.try_get(2)?, row.try_get(3)?)?,
        posted_at: row.try_get(4)?,
    }))
}

async fn record(client: &Client, event: &EventId) -> Result<Option<EventRecord>, ReadError> {
    let Some(stream) = stream(client, event).await? else { return Ok(None) };
    let sequence = signed(event.sequence)?;
    let own = concat!(events!(), " WHERE e.stream = $1 AND e.sequence = $2");
    if let Some(row) = events(client, own, &[&stream, &sequence]).await?.pop() {
        return Ok(Some(EventRecord::of(row)));
    }
    let payment = concat!(payments!(), " WHERE p.stream = $1 AND p.sequence = $2");
    let found = client.query_opt(payment, &[&stream, &sequence]).await?;
    Ok(found.as_ref().map(placed).transpose()?.map(|row| EventRecord::Payment(PaymentLine::of(row))))
}

/// A row of `payments!`: the payment with its place in the tracker.
fn placed(row: &tokio_postgres::Row) -> Result<PaymentRow, Fault> {
    let mut payment = payment_of(row)?;
    if row.try_get::<_, Option<Timestamp>>(28)?.is_some() {
        payment.tracked = Some(tracking(row, 28)?);
    }
    Ok(payment)
}

async fn events(client: &Client, sql: &str, with: With<'_>) -> Result<Vec<EventRow>, ReadError> {
    let found = client.query(sql, with).await?;
    Ok(found.iter().map(event_of).collect::<Result<_, Fault>>()?)
}

async fn stream(client: &Client, event: &EventId) -> Result<Option<i64>, ReadError> {
    let sql = "SELECT id FROM streams WHERE name = $1 AND created_ms = $2";
    let found = client.query_opt(sql, &[&event.stream.as_str(), &event.created_ms]).await?;
    Ok(found.map(|row| row.try_get(0)).transpose()?)
}
