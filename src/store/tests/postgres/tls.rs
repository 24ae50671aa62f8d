//! Who may be talked to, and how.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::config::SslMode;
use tokio_rustls::TlsAcceptor;

use super::settings;
use crate::lab::servers::{PostgresOptions, PostgresServer};
use crate::store::postgres::config;
use crate::store::{Postgres, PostgresError, PostgresSettings, migrate};

/// What a client begins with that wants TLS: its length and a number that is no version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn ca_file(folder: &Path, name: &str, authority: &Issuer) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, authority.pem()).unwrap();
    path
}

/// Ends TLS before a server, since not every PostgreSQL is built with it. Lets nobody through without.
struct Front {
    port: u16,
    handshakes: Arc<AtomicU32>,
}

impl Front {
    async fn of(server: &PostgresServer, authority: &Issuer) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let chain = vec![params.signed_by(&key, authority).unwrap().der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = Self { port: listener.local_addr().unwrap().port(), handshakes: Arc::default() };
        let (handshakes, behind) = (Arc::clone(&front.handshakes), server.port());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&handshakes), behind));
            }
        });
        front
    }

    fn handshakes(&self) -> u32 {
        self.handshakes.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut client: TcpStream,
    acceptor: TlsAcceptor,
    handshakes: Arc<AtomicU32>,
    behind: u16,
) -> std::io::Result<()> {
    let mut asked = [0; SSL_REQUEST.len()];
    client.read_exact(&mut asked).await?;
    if asked != SSL_REQUEST {
        return Ok(());
    }
    client.write_all(b"S").await?;
    let mut client = acceptor.accept(client).await?;
    handshakes.fetch_add(1, Ordering::SeqCst);
    let mut server = TcpStream::connect(("127.0.0.1", behind)).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

#[tokio::test]
async fn a_server_is_believed_by_its_authority_only_and_a_password_comes_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let access = "local all all trust\nhost all keeper 127.0.0.1/32 scram-sha-256\nhost all all all trust\n";
    let options = PostgresOptions { access: Some(access.to_owned()), ..PostgresOptions::default() };
    let server = PostgresServer::start(options).await.unwrap();
    let good = authority();
    let front = Front::of(&server, &good).await;

    let right_ca = ca_file(folder.path(), "right.pem", &good);
    let plain = settings(&server);
    let at_front = plain.url.replace(&format!(":{}/", server.port()), &format!(":{}/", front.port));
    let refused = migrate(&PostgresSettings { url: at_front.clone(), ..plain.clone() }, 1).await.unwrap_err();
    assert!(matches!(refused, PostgresError::Unreachable(_)), "{refused}");
    let trusting = |url: &str, ca: &Path| PostgresSettings {
        url: format!("{url}?sslmode=require"),
        ca_file: Some(ca.to_owned()),
        ..plain.clone()
    };
    // The server itself answers that it speaks no TLS.
    let refused = migrate(&trusting(&plain.url, &right_ca), 1).await.unwrap_err();
    assert!(matches!(&refused, PostgresError::Unreachable(why) if why == "the connection failed"), "{refused}");
    let wrong_ca = ca_file(folder.path(), "wrong.pem", &authority());
    let told = migrate(&trusting(&at_front, &wrong_ca), 1).await.unwrap_err().to_string();
    assert!(told.contains("invalid peer certificate"), "{told}");
    assert_eq!(front.handshakes(), 0);
    let right = trusting(&at_front, &right_ca);
    migrate(&right, 1).await.unwrap();
    let admin = super::client_of(&right).await;
    let so_far = front.handshakes();
    assert!(so_far >= 2, "{so_far}");

    let password = folder.path().join("password");
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
    assert!(front.handshakes() >= so_far + 2, "{}", front.handshakes());
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
