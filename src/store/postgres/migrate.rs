//! The schema and its versions. `provision` applies what is missing, in order, each in a transaction of its own; a
//! worker only verifies.

use jiff::Timestamp;
use tokio_postgres::Client;

use super::PostgresSettings;
use super::connect::{PostgresError, client};
use crate::domain::StoreId;

/// Each version's statements, from 1 on. A version that was released is never edited.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

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
    transaction.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"")).await?;
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

/// Sees that the schema is a store of ours and of this version; gives its identity.
pub(in crate::store) async fn verify(client: &Client) -> Result<StoreId, PostgresError> {
    let row = client
        .query_one(
            "SELECT current_setting('search_path'), obj_description(to_regnamespace(current_setting('search_path'))::oid, \
             'pg_namespace'), to_regclass('migrations') IS NOT NULL",
            &[],
        )
        .await?;
    let schema = row.try_get::<_, String>(0)?.trim_matches('"').to_owned();
    if !row.try_get::<_, bool>(2)? {
        return Err(PostgresError::Missing { schema });
    }
    if row.try_get::<_, Option<&str>>(1)? != Some(MARK) {
        return Err(PostgresError::NotAStore { schema });
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
