//! The wire: one request, one bounded reply, and whether anything can have been sent where there is none.

use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, redirect, retry};
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use serde_json::Value;

use super::HttpSettings;
use super::files::Watched;
use super::mapping::{Heard, Reply};
use super::retry_after::retry_after;
use crate::domain::NotSent;

/// The most that is read of a reply, in bytes.
const LARGEST_REPLY: usize = 64 * 1024;
/// Shorter than what servers keep an idle connection open for: one that they close under a request leaves an unknown
/// outcome.
const IDLE: Duration = Duration::from_secs(4);

/// Why a rail cannot be set up. No secret is in the text.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetUp {
    /// A setting breaks its rule.
    #[error("{field} {rule}")]
    Setting {
        /// The key.
        field: &'static str,
        /// The rule.
        rule: &'static str,
    },
    /// The authorities' certificates cannot be used.
    #[error("the authorities' certificates (PEM) cannot be read")]
    Authorities,
    /// The client's certificate cannot be used.
    #[error("the client's certificate and key (PEM) cannot be read, or do not belong together")]
    ClientCert,
    /// The token or a header cannot be read.
    #[error("the token or a header's file cannot be read, or holds what no header may hold")]
    Header,
    /// TLS or the client itself.
    #[error("the HTTP client cannot be made")]
    Client,
}

/// Everything that a call needs.
pub(super) struct Wire {
    http: Client,
    token: Option<Watched<HeaderValue>>,
    headers: Vec<(HeaderName, Watched<HeaderValue>)>,
    cert: Option<(Watched<Arc<CertifiedKey>>, Arc<Current>)>,
}

/// The client's certificate of the moment, for the next TLS session.
#[derive(Debug, Default)]
struct Current(Mutex<Option<Arc<CertifiedKey>>>);

impl ResolvesClientCert for Current {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Wire {
    /// Reads what is in files and makes the client.
    pub(super) async fn new(settings: &HttpSettings) -> Result<Self, HttpSetUp> {
        let cert = settings.client_cert.as_ref().map(|(cert, key)| {
            (Watched::new(vec![cert.clone(), key.clone()], certified), Arc::new(Current::default()))
        });
        let roots = roots(settings).await?;
        let tls = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|_| HttpSetUp::Client)?
            .with_root_certificates(roots);
        let tls = match &cert {
            Some((_, current)) => tls.with_client_cert_resolver(Arc::<Current>::clone(current)),
            None => tls.with_no_client_auth(),
        };
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("acquit/", env!("CARGO_PKG_VERSION")))
            // A second sending is the worker's decision, and only the address that was configured is a rail.
            .retry(retry::never())
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(settings.connect_timeout)
            // An answer after the deadline still counts, where the process has not ended before.
            .timeout(settings.terms.deadline.saturating_mul(2))
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(usize::from(settings.connections.saturating_add(settings.inquiries)))
            .build()
            .map_err(|_| HttpSetUp::Client)?;
        let token = settings.token_file.clone().map(|path| Watched::new(vec![path], bearer));
        let headers = settings.headers.iter();
        let headers = headers.map(|(name, path)| (name.clone(), Watched::new(vec![path.clone()], plain))).collect();
        let wire = Self { http, token, headers, cert };
        wire.secrets(Instant::now()).await.ok_or(HttpSetUp::Header)?;
        if let Some((watched, _)) = &wire.cert {
            watched.get(Instant::now()).await.ok_or(HttpSetUp::ClientCert)?;
        }
        Ok(wire)
    }

    /// The client, for requests that go to [`Wire::call`].
    pub(super) fn http(&self) -> &Client {
        &self.http
    }

    /// The headers that come from files; `None` where one cannot be had: nothing is sent without them.
    pub(super) async fn secrets(&self, now: Instant) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.get(now).await?);
        }
        for (name, watched) in &self.headers {
            headers.insert(name, watched.get(now).await?);
        }
        if let Some((watched, current)) = &self.cert {
            let cert = watched.get(now).await;
            *current.0.lock().unwrap_or_else(PoisonError::into_inner) = cert;
        }
        Some(headers)
    }

    /// The rail has refused our secrets: the next call looks whether there are others.
    pub(super) async fn doubt_secrets(&self) {
        if let Some(token) = &self.token {
            token.doubt().await;
        }
        for (_, watched) in &self.headers {
            watched.doubt().await;
        }
    }

    /// One request, sent at most once.
    pub(super) async fn call(&self, request: RequestBuilder) -> Heard {
        match request.send().await {
            Ok(response) => Heard::Reply(read(response).await),
            Err(error) => unheard(&error),
        }
    }
}

/// Whether an error proves that nothing was sent. The error itself goes no further: it may name the address.
fn unheard(error: &reqwest::Error) -> Heard {
    if error.is_builder() {
        return Heard::Unreached(NotSent::OurFault);
    }
    if !error.is_connect() {
        return Heard::Nothing;
    }
    if error.is_dns() {
        return Heard::Unreached(NotSent::Resolve);
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return Heard::Unreached(NotSent::Tls);
        }
        cause = within(error);
    }
    Heard::Unreached(NotSent::Connect)
}

/// The next error of a chain. What an `io::Error` wraps is not its source: that is one further on.
fn within<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

async fn read(response: Response) -> Reply {
    let status = response.status().as_u16();
    let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let retry_after = header(RETRY_AFTER).and_then(|text| retry_after(text, Timestamp::now()));
    let is_json = header(CONTENT_TYPE).is_none_or(is_json);
    let body = if is_json { whole(response).await.and_then(|bytes| serde_json::from_slice(&bytes).ok()) } else { None };
    Reply { status, retry_after, body: body.filter(Value::is_object) }
}

/// `application/json`, `application/problem+json; charset=utf-8`.
fn is_json(text: &str) -> bool {
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

/// The body, if it comes whole and is not too large.
async fn whole(mut response: Response) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if bytes.len().saturating_add(chunk.len()) > LARGEST_REPLY {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    Some(bytes)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

async fn roots(settings: &HttpSettings) -> Result<RootCertStore, HttpSetUp> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &settings.ca_file else {
        if settings.url.scheme() == "https" {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        return Ok(roots);
    };
    let pem = tokio::fs::read(path).await.map_err(|_| HttpSetUp::Authorities)?;
    for cert in CertificateDer::pem_slice_iter(&pem) {
        let cert = cert.map_err(|_| HttpSetUp::Authorities)?;
        roots.add(cert).map_err(|_| HttpSetUp::Authorities)?;
    }
    if roots.is_empty() { Err(HttpSetUp::Authorities) } else { Ok(roots) }
}

fn certified(contents: &[Vec<u8>]) -> Option<Arc<CertifiedKey>> {
    let [cert, key] = contents else { return None };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(cert).collect::<Result<_, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_slice(key).ok()?;
    CertifiedKey::from_der(chain, key, &provider()).ok().map(Arc::new)
}

fn bearer(contents: &[Vec<u8>]) -> Option<HeaderValue> {
    let token = trimmed(contents)?;
    sensitive(HeaderValue::from_str(&format!("Bearer {token}")).ok()?)
}

fn plain(contents: &[Vec<u8>]) -> Option<HeaderValue> {
    sensitive(HeaderValue::from_str(trimmed(contents)?).ok()?)
}

fn trimmed(contents: &[Vec<u8>]) -> Option<&str> {
    Some(std::str::from_utf8(contents.first()?).ok()?.trim()).filter(|text| !text.is_empty())
}

/// Its `Debug` form shows nothing.
fn sensitive(mut value: HeaderValue) -> Option<HeaderValue> {
    value.set_sensitive(true);
    Some(value)
}

/// A client for plain HTTP between one's own processes, which follows no redirect: `/status`, a scripted rail. One
/// that is built without settings for TLS would panic: this crate chooses its cryptography itself.
///
/// # Errors
/// When the client cannot be made.
pub fn plain_client(timeout: Duration) -> Result<Client, HttpSetUp> {
    let tls = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|_| HttpSetUp::Client)?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let client = Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(timeout);
    client.redirect(redirect::Policy::none()).build().map_err(|_| HttpSetUp::Client)
}
