//! Who may be talked to, and how.

use std::path::Path;
use std::process::Command;

use tokio_postgres::config::SslMode;

use super::settings;
use crate::lab::servers::{PostgresOptions, PostgresServer};
use crate::store::postgres::config;
use crate::store::{Postgres, PostgresSettings, migrate};

/// An authority, and a certificate of it for the server: their files.
fn authority(folder: &Path, name: &str) -> (String, String, String) {
    let file = |what: &str| folder.join(format!("{name}-{what}")).display().to_string();
    let (ca, ca_key, request, key, cert, extra) =
        (file("ca.pem"), file("ca.key"), file("csr"), file("key"), file("pem"), file("ext"));
    std::fs::write(&extra, "subjectAltName=IP:127.0.0.1\n").unwrap();
    let openssl = |args: &[&str]| {
        let made = Command::new("openssl").args(args).output().expect("the openssl command");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let subject = format!("/CN={name}");
    openssl(&[&["req", "-x509"][..], &new_key, &["-keyout", &ca_key, "-out", &ca, "-subj", &subject]].concat());
    openssl(&[&["req"][..], &new_key, &["-keyout", &key, "-out", &request, "-subj", "/CN=server"]].concat());
    let sign = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-out", &cert];
    openssl(&[&sign[..], &["-extfile", &extra]].concat());
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    (ca, read(&cert), read(&key))
}

#[tokio::test]
async fn a_server_is_believed_by_its_authority_only_and_a_password_comes_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, certificate, key) = authority(folder.path(), "right");
    let (other_ca, ..) = authority(folder.path(), "wrong");
    let access = "local all all trust\nhostssl all keeper 127.0.0.1/32 scram-sha-256\nhostssl all all all trust\n";
    let server = PostgresServer::start(PostgresOptions {
        settings: vec![("ssl".to_owned(), "on".to_owned())],
        access: Some(access.to_owned()),
        files: vec![("server.crt".to_owned(), certificate), ("server.key".to_owned(), key)],
    })
    .await
    .unwrap();
    let plain = settings(&server);
    let told = migrate(&plain, 1).await.unwrap_err().to_string();
    assert!(told.contains("SQLSTATE 28000"), "{told}");
    let trusting = |ca: &str| PostgresSettings {
        url: format!("{}?sslmode=require", server.url()),
        ca_file: Some(ca.into()),
        ..plain.clone()
    };
    let told = migrate(&trusting(&other_ca), 1).await.unwrap_err().to_string();
    assert!(told.contains("invalid peer certificate"), "{told}");
    let right = trusting(&ca);
    migrate(&right, 1).await.unwrap();

    let password = folder.path().join("password");
    let admin = super::client_of(&right).await;
    let make = format!(
        "CREATE USER keeper PASSWORD 'canary'; GRANT USAGE ON SCHEMA {0} TO keeper; \
         GRANT ALL ON ALL TABLES IN SCHEMA {0} TO keeper; GRANT ALL ON ALL SEQUENCES IN SCHEMA {0} TO keeper",
        right.schema
    );
    admin.batch_execute(&make).await.unwrap();
    let keeper = PostgresSettings {
        url: right.url.replace("acquit@", "keeper@"),
        password_file: Some(password.clone()),
        ..right
    };
    let told = Postgres::open(keeper.clone()).await.unwrap_err().to_string();
    assert!(told.contains("password") && told.contains("No such file"), "{told}");
    std::fs::write(&password, "canary-of-old\n").unwrap();
    let told = Postgres::open(keeper.clone()).await.unwrap_err().to_string();
    assert!(told.contains("SQLSTATE 28P01") && !told.contains("canary"), "{told}");
    std::fs::write(&password, "canary\n").unwrap();
    let opened = Postgres::open(keeper).await.unwrap();
    assert!(!format!("{opened:?}").contains("keeper"));
}

#[test]
fn what_goes_over_a_network_goes_over_tls_unless_somebody_said_otherwise() {
    let mode = |url: &str, allow_plaintext| {
        let settings = PostgresSettings {
            url: url.to_owned(),
            password_file: None,
            ca_file: None,
            schema: "s".to_owned(),
            allow_plaintext,
            statement_timeout: std::time::Duration::from_secs(1),
            connect_timeout: std::time::Duration::from_secs(1),
        };
        config(&settings).unwrap().get_ssl_mode()
    };
    for far in [
        "postgres://u@db.example/d",
        "postgres://u@db.example/d?sslmode=disable",
        "postgres://u@localhost,db.example/d",
        "postgres://u@localhost/d?hostaddr=192.0.2.1",
        "postgres://u@192.0.2.1/d?sslmode=prefer",
    ] {
        assert_eq!(mode(far, false), SslMode::Require, "{far}");
    }
    assert_eq!(mode("postgres://u@db.example/d?sslmode=disable", true), SslMode::Disable);
    assert_eq!(mode("postgres://u@db.example/d", true), SslMode::Prefer);
    for near in ["postgres://u@localhost/d", "postgres://u@127.0.0.1:5433/d", "postgres://u@[::1]/d"] {
        assert_eq!(mode(near, false), SslMode::Disable, "{near}");
        assert_eq!(mode(&format!("{near}?sslmode=require"), false), SslMode::Require, "{near}");
    }
}
