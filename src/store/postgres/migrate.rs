//! The schema and its versions. `provision` applies what is missing, in order, each in a transaction of its own; a
//! worker only verifies.

use jiff::Timestamp;
use tokio_postgres::{Client, GenericClient};

use super::PostgresSettings;
use super::connect::{PostgresError, client};
use crate::domain::StoreId;

/// Each version's statements, from 1 on. A version that was released is never edited.
const MIGRATIONS: [&str; 2] = [include_str!("schema.sql"), include_str!("in_progress.sql")];

/// Marks the schema as a store of ours.
const MARK: &str = "acquit store";

/// Held while a schema is changed: two provisioners at once would do it twice.
const LOCK: i64 = 0x4143_5154;

/// What provisioning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provisioned {
    /// The store's identity.
    pub store_id: StoreId,
    /// The version it had; 0 where there was none.
    pub from: i32,
    /// The version it has.
    pub to: i32,
}

/// Makes the store or brings it to this version. Running it again changes nothing.
///
/// # Errors
/// [`PostgresError`]; a version that failed left nothing behind.
pub async fn migrate(settings: &PostgresSettings, store_id_bits: u128) -> Result<Provisioned, PostgresError> {
    let mut client = client(settings).await?;
    let schema = &settings.schema;
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    match found(&transaction, schema).await? {
        // Whoever may use a schema need not have the right to make one.
        Found::Nothing => transaction.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await?,
        Found::Empty | Found::Store => {}
        Found::Other => return Err(PostgresError::NotAStore { schema: schema.clone() }),
    }
    transaction
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS migrations (version integer PRIMARY KEY, applied_at timestamptz NOT NULL)",
        )
        .await?;
    let from = transaction.query_one("SELECT coalesce(max(version), 0) FROM migrations", &[]).await?.try_get(0)?;
    let known = known();
    if from > known {
        return Err(PostgresError::SchemaTooNew { found: from, known });
    }
    for (version, sql) in (1_i32..).zip(MIGRATIONS).filter(|(version, _)| *version > from) {
        transaction.batch_execute(sql).await?;
        transaction.execute("INSERT INTO migrations VALUES ($1, clock_timestamp())", &[&version]).await?;
    }
    if from == 0 {
        let (id, made) =
            (StoreId::from_random(store_id_bits).to_string(), Timestamp::now().as_millisecond().to_string());
        transaction.execute("INSERT INTO meta VALUES ('store_id', $1), ('created_at', $2)", &[&id, &made]).await?;
        transaction.batch_execute(&format!("COMMENT ON SCHEMA \"{schema}\" IS '{MARK}'")).await?;
    }
    transaction.commit().await?;
    let store_id = verify(&client).await?;
    Ok(Provisioned { store_id, from, to: known })
}

/// What there is under the schema's name.
enum Found {
    Nothing,
    Empty,
    Store,
    Other,
}

async fn found(client: &impl GenericClient, schema: &str) -> Result<Found, PostgresError> {
    let row = client
        .query_opt(
            "SELECT obj_description(n.oid, 'pg_namespace'), EXISTS (SELECT 1 FROM pg_class c WHERE c.relnamespace = n.oid) \
             FROM pg_namespace n WHERE n.nspname = $1",
            &[&schema],
        )
        .await?;
    let Some(row) = row else { return Ok(Found::Nothing) };
    match (row.try_get::<_, Option<&str>>(0)?, row.try_get(1)?) {
        (Some(MARK), true) => Ok(Found::Store),
        (_, false) => Ok(Found::Empty),
        (_, true) => Ok(Found::Other),
    }
}

/// Sees that the schema is a store of ours and of this version; gives its identity.
pub(in crate::store) async fn verify(client: &Client) -> Result<StoreId, PostgresError> {
    let schema: String = client.query_one("SELECT current_setting('search_path')", &[]).await?.try_get(0)?;
    let schema = schema.trim_matches('"').to_owned();
    match found(client, &schema).await? {
        Found::Nothing | Found::Empty => return Err(PostgresError::Missing { schema }),
        Found::Other => return Err(PostgresError::NotAStore { schema }),
        Found::Store => {}
    }
    let found = client.query_one("SELECT coalesce(max(version), 0) FROM migrations", &[]).await?.try_get(0)?;
    let known = known();
    if found < known {
        return Err(PostgresError::SchemaTooOld { found, known });
    }
    if found > known {
        return Err(PostgresError::SchemaTooNew { found, known });
    }
    let id = client.query_one("SELECT value FROM meta WHERE key = 'store_id'", &[]).await?;
    StoreId::parse(id.try_get(0)?).map_err(|_| PostgresError::NotAStore { schema })
}

fn known() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}
