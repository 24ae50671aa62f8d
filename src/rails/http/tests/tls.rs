use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::{Http, HttpSetUp};
use super::harness::{Orders, SETTLED, json, read_request, settings, settled};
use crate::domain::{Answer, NotSent};
use crate::rails::Rail;

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// Authorities, files and a server that asks for a client certificate where it is told to.
struct Site {
    folder: TempDir,
    authority: Issuer,
}

impl Site {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), authority: authority() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A certificate for this machine and its key, PEM.
    fn issue(&self, until: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    /// Serves settlements over TLS; gives its address.
    async fn serve(&self, until: i32, wants_client: bool) -> String {
        use rustls::pki_types::pem::PemObject;
        let (cert, key) = self.issue(until);
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let config = if wants_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.authority.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            config.unwrap().with_client_cert_verifier(verifier)
        } else {
            config.unwrap().with_no_client_auth()
        };
        let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    if read_request(&mut stream).await.is_some() {
                        stream.write_all(&json(200, SETTLED)).await.ok();
                        stream.shutdown().await.ok();
                    }
                });
            }
        });
        format!("https://{address}")
    }
}

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

async fn said(settings: super::super::HttpSettings) -> Answer {
    let rail = Http::new(settings).await.unwrap();
    rail.submit(&Orders::new().order("P-1").await).await
}

#[tokio::test]
async fn only_a_server_that_the_right_authority_vouches_for_today_is_sent_anything() {
    let site = Site::new();
    let mut good = settings(&site.serve(2096, false).await);
    good.ca_file = Some(site.file("ca.pem", &site.authority.pem()));
    assert_eq!(said(good.clone()).await, settled());

    let mut foreign = good.clone();
    foreign.ca_file = Some(site.file("other.pem", &authority().pem()));
    assert_eq!(said(foreign).await, Answer::NotSent(NotSent::Tls), "another authority");
    let mut systems = good.clone();
    systems.ca_file = None;
    assert_eq!(said(systems).await, Answer::NotSent(NotSent::Tls), "the system's authorities");
    let mut expired = settings(&site.serve(2021, false).await);
    expired.ca_file = good.ca_file.clone();
    assert_eq!(said(expired).await, Answer::NotSent(NotSent::Tls), "expired");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_sent_nothing() {
    let server = super::harness::Raw::start(super::harness::Act::Say(b"HTTP/1.1 400 Bad\r\n\r\n".to_vec())).await;
    let answer = said(settings(&format!("https://{}", server.address))).await;
    assert!(matches!(answer, Answer::NotSent(NotSent::Tls | NotSent::Connect)), "{answer:?}");
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_asked_for_and_read_again_when_exchanged() {
    let site = Site::new();
    let mut settings = settings(&site.serve(2096, true).await);
    settings.ca_file = Some(site.file("ca.pem", &site.authority.pem()));
    assert!(!matches!(said(settings.clone()).await, Answer::Settled(_)), "without one");

    let foreign = Site::new().issue(2096);
    let (cert, key) = (site.file("cert.pem", &foreign.0), site.file("key.pem", &foreign.1));
    settings.client_cert = Some((cert, key));
    let rail = Http::new(settings.clone()).await.unwrap();
    let orders = Orders::new();
    assert!(!matches!(rail.submit(&orders.order("P-1").await).await, Answer::Settled(_)), "of another authority");
    let good = site.issue(2096);
    site.file("cert.pem", &good.0);
    site.file("key.pem", &good.1);
    // Looked at again within a second.
    let began = std::time::Instant::now();
    for sequence in 2.. {
        if rail.submit(&orders.order(&format!("P-{sequence}")).await).await == settled() {
            break;
        }
        assert!(began.elapsed().as_secs() < 30, "the exchanged certificate was not taken up");
    }

    let mixed = site.issue(2096);
    site.file("key.pem", &mixed.1);
    assert!(matches!(Http::new(settings).await, Err(HttpSetUp::ClientCert)), "a key of another certificate");
}
