//! Migrations, and what is not a store of this version.

use super::super::harness::server;
use super::{client_of, settings};
use crate::domain::StoreId;
use crate::store::{Postgres, PostgresError, PostgresSettings, Provisioned, ReadError, Reader, migrate};

async fn refused(settings: &PostgresSettings) -> PostgresError {
    let opened = Postgres::open(settings.clone()).await.unwrap_err();
    let ReadError::Failed(read) = Reader::connect(settings).unwrap_err() else { panic!("another error") };
    assert_eq!(opened.to_string(), read);
    opened
}

#[tokio::test]
async fn a_schema_is_made_once_however_often_and_by_however_many_at_once() {
    let settings = settings(server().await);
    let missing = refused(&settings).await;
    assert!(matches!(missing, PostgresError::Missing { .. }), "{missing}");
    assert!(missing.to_string().contains("run `acquit provision`"));

    let (a, b, c) = tokio::join!(migrate(&settings, 1), migrate(&settings, 2), migrate(&settings, 3));
    let made = [a.unwrap(), b.unwrap(), c.unwrap()];
    assert_eq!(made.iter().filter(|one| one.from == 0).count(), 1);
    assert!(made.iter().all(|one| one.store_id == made[0].store_id && one.to == 2));
    let store_id = made[0].store_id;
    assert!([1, 2, 3].map(StoreId::from_random).contains(&store_id));
    assert_eq!(migrate(&settings, 4).await.unwrap(), Provisioned { store_id, from: 2, to: 2 });
    assert_eq!(Postgres::open(settings.clone()).await.unwrap().store_id(), store_id);
    assert_eq!(Reader::connect(&settings).unwrap().facts().unwrap().store_id, store_id);
}

#[tokio::test]
async fn other_versions_and_other_schemas_are_refused_by_name_and_left_alone() {
    let ours = settings(server().await);
    migrate(&ours, 1).await.unwrap();
    let client = client_of(&ours).await;
    client.batch_execute("INSERT INTO migrations VALUES (99, now())").await.unwrap();
    let newer = refused(&ours).await;
    assert!(matches!(newer, PostgresError::SchemaTooNew { found: 99, known: 2 }), "{newer}");
    assert!(matches!(migrate(&ours, 1).await, Err(PostgresError::SchemaTooNew { .. })));
    client.batch_execute("DELETE FROM migrations").await.unwrap();
    let older = refused(&ours).await;
    assert!(matches!(older, PostgresError::SchemaTooOld { found: 0, known: 2 }), "{older}");

    let theirs = settings(server().await);
    let client = client_of(&theirs).await;
    let make = format!("CREATE SCHEMA {0}; CREATE TABLE {0}.migrations (name text)", theirs.schema);
    client.batch_execute(&make).await.unwrap();
    let foreign = refused(&theirs).await;
    assert!(matches!(foreign, PostgresError::NotAStore { .. }), "{foreign}");
    assert!(matches!(migrate(&theirs, 1).await, Err(PostgresError::NotAStore { .. })));
    let sql = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = $1::text::regnamespace";
    assert_eq!(client.query_one(sql, &[&theirs.schema]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_schema_that_is_there_and_empty_becomes_the_store() {
    let ours = settings(server().await);
    client_of(&ours).await.batch_execute(&format!("CREATE SCHEMA {}", ours.schema)).await.unwrap();
    assert_eq!(migrate(&ours, 1).await.unwrap().from, 0);
}
