//! What of the server's own settings falls short of what a store of payments needs. Only an operator can change it.

use super::PostgresSettings;
use super::connect::{PostgresError, client};

/// Workers that a server should have room for at least.
const WORKERS: i64 = 8;

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// What is the case.
    pub finding: String,
    /// What to do.
    pub remedy: &'static str,
}

/// Looks at the server's settings and its standbys. `group` is how many events one worker locks at once at most.
///
/// # Errors
/// [`PostgresError`].
pub async fn shortfalls(settings: &PostgresSettings, group: u32) -> Result<Vec<Shortfall>, PostgresError> {
    let client = client(settings).await?;
    let row = client
        .query_one(
            "SELECT current_setting('fsync'), current_setting('full_page_writes'), \
             (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'), \
             (SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'async'), \
             (SELECT count(*) FROM pg_stat_replication WHERE sync_state IS NULL), \
             current_setting('max_locks_per_transaction')::bigint \
             * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)",
            &[],
        )
        .await?;
    let mut found = Vec::new();
    let mut add = |finding: String, remedy| found.push(Shortfall { finding, remedy });
    if row.try_get::<_, &str>(0)? == "off" {
        add("has fsync off: a crash of the machine loses or breaks what was settled".to_owned(), "set fsync = on");
    }
    if row.try_get::<_, &str>(1)? == "off" {
        add("has full_page_writes off: a crash may leave broken pages".to_owned(), "set full_page_writes = on");
    }
    if row.try_get::<_, Option<&str>>(2)? == Some("off") {
        let finding = "has synchronous_commit off by default: workers turn it on for themselves, other clients do not";
        add(finding.to_owned(), "set synchronous_commit = on");
    }
    let standbys: i64 = row.try_get(3)?;
    if standbys > 0 {
        let finding = format!("has {standbys} asynchronous standby: what it has not yet is lost in a failover to it");
        add(finding, "name it in synchronous_standby_names, or never fail over to it");
    }
    let hidden: i64 = row.try_get(4)?;
    if hidden > 0 {
        let finding = format!("has {hidden} standby that this user may not look at: it may be asynchronous");
        add(finding, "GRANT pg_monitor to the user that runs `acquit check`");
    }
    let (room, needed) = (row.try_get::<_, i64>(5)?, i64::from(group).saturating_mul(WORKERS));
    if room < needed {
        let finding = format!("has room for {room} locks; {WORKERS} workers may need {needed}");
        add(finding, "raise max_locks_per_transaction (or max_connections), or lower store.group");
    }
    Ok(found)
}
