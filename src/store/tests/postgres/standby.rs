//! Whether a standby would have what was settled.

use std::time::{Duration, Instant};

use super::{client_of, settings};
use crate::lab::servers::{PostgresOptions, PostgresServer};
use crate::store::{PostgresSettings, shortfalls};

fn as_user(server: &PostgresServer, user: &str) -> PostgresSettings {
    let settings = settings(server);
    PostgresSettings { url: settings.url.replace("acquit@", &format!("{user}@")), ..settings }
}

/// What is said of standbys, as soon as the server knows as many in that state.
async fn about_standbys(server: &PostgresServer, user: &str, state: &str) -> Vec<String> {
    let all = client_of(&as_user(server, "acquit")).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let known = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = $1";
    while all.query_one(known, &[&state]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(Instant::now() < deadline, "no standby is {state}");
    }
    let found = shortfalls(&as_user(server, user), 1).await.unwrap();
    found.into_iter().map(|found| found.finding).filter(|finding| finding.contains("standby")).collect()
}

#[tokio::test]
async fn a_standby_that_lags_behind_commits_is_named_and_one_that_is_waited_for_is_not() {
    let primary = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let none = shortfalls(&as_user(&primary, "acquit"), 1).await.unwrap();
    assert_eq!(none, []);
    let _standby = primary.standby().await.unwrap();
    let said = about_standbys(&primary, "acquit", "async").await;
    assert_eq!(said, ["has 1 asynchronous standby: what it has not yet is lost in a failover to it"]);

    // Without a right to look, the server tells that there is one and nothing more.
    let all = client_of(&as_user(&primary, "acquit")).await;
    all.batch_execute("CREATE ROLE checker LOGIN").await.unwrap();
    let said = about_standbys(&primary, "checker", "async").await;
    assert_eq!(said, ["has 1 standby that this user may not look at: it may be asynchronous"]);
    all.batch_execute("GRANT pg_monitor TO checker").await.unwrap();
    assert!(about_standbys(&primary, "checker", "async").await[0].contains("1 asynchronous"));

    all.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await.unwrap();
    all.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    assert!(about_standbys(&primary, "acquit", "sync").await.is_empty());
}
