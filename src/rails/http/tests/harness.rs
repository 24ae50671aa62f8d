//! A payment with every field, orders from a real store, raw servers, rails that point at them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use reqwest::header::HeaderName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::{Http, HttpSettings, InquiryUrl, Mapping, MappingParts, Template};
use crate::domain::*;
use crate::intake::{Judged, Valid};
use crate::rails::Terms;
use crate::store::{BookPolicy, Order, Origin, Route, Sqlite, SqliteSettings, Stand, Store, Unknown, WriterLimits};

pub(crate) const DEADLINE: Duration = Duration::from_millis(400);

/// With values that must turn up nowhere but in a body.
pub(crate) fn payment(id: &str) -> Payment {
    let party = |name: &str| Party {
        name: Some(name.into()),
        lei: None,
        address: Some(PostalAddress { town: Some("CANARYTOWN".into()), ..PostalAddress::default() }),
    };
    Payment {
        payment_id: PaymentId::parse(id).unwrap(),
        scheme: SchemeName::parse("sct").unwrap(),
        references: References { end_to_end_id: Some("E2E-1".into()), ..References::default() },
        amount: Money::new(123_456, Currency::parse("EUR").unwrap()).unwrap(),
        debtor: Some(party("CANARYDEBTOR")),
        creditor: None,
        debtor_account: Account::Iban(Iban::parse("DE89370400440532013000").unwrap()),
        creditor_account: Account::Other(OtherAccount::parse("CANARYACCOUNT", None).unwrap()),
        debtor_agent: Some(Agent::Bic(Bic::parse("DEUTDEFF").unwrap())),
        creditor_agent: None,
        charge_bearer: Some(ChargeBearer::Slev),
        execution_date: Some(jiff::civil::date(2026, 11, 23)),
        late_from: None,
        expires_at: None,
        category_purpose: None,
        purpose: None,
        remittance: Some(Remittance::Unstructured("CANARYREMITTANCE".into())),
    }
}

/// Makes orders: only a store can.
pub(crate) struct Orders {
    store: Store,
    sequence: AtomicUsize,
    _folder: TempDir,
}

impl Orders {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = SqliteSettings {
            path: folder.path().join("store.db"),
            busy_timeout: Duration::from_secs(1),
            wal_limit_bytes: 64 << 20,
            create: true,
            store_id_bits: 7,
            now: Arc::new(Timestamp::now),
        };
        let book = BookPolicy { unknown: Unknown::Refuse, declared: BTreeMap::new() };
        let limits = WriterLimits { group: 64, claim: Duration::from_secs(60), poison_starts: 3, keep: None };
        let store = Store::start(Sqlite::open(settings).unwrap(), book, limits, "test", |_| {}).unwrap();
        Self { store, sequence: AtomicUsize::new(1), _folder: folder }
    }

    pub(crate) async fn order(&self, id: &str) -> Order {
        self.order_of(payment(id)).await
    }

    pub(crate) async fn order_of(&self, payment: Payment) -> Order {
        let sequence = u64::try_from(self.sequence.fetch_add(1, Ordering::SeqCst)).unwrap();
        let origin = Origin {
            event: EventId { stream: StreamName::parse("PAYMENTS").unwrap(), created_ms: 1, sequence },
            scheme: payment.scheme.clone(),
            order_key: OrderKey::parse("acct").unwrap(),
            lane: LaneName::parse("main").unwrap(),
            requested_at: Timestamp::now(),
            delivery: 1,
            history: Vec::new(),
        };
        let fingerprint = Fingerprint::of(payment.payment_id.as_str().as_bytes());
        let judged = Judged::Valid(Valid::for_test(payment, fingerprint));
        let route = Route::Rail { name: "bank", leg: 0 };
        match self.store.open(origin, judged, route).await {
            Ok(Stand::Go(intent)) => intent.dispatch().0,
            Ok(stand) => panic!("{stand:?}"),
            Err((lost, _, _)) => panic!("{lost}"),
        }
    }
}

pub(crate) fn parts() -> MappingParts {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    MappingParts {
        status: "/status".to_owned(),
        reference: Some("/reference".to_owned()),
        reason: Some("/reason/code".to_owned()),
        settled: texts(&["ACSC"]),
        in_progress: texts(&["ACSP"]),
        rejected: texts(&["RJCT"]),
        resubmit: texts(&["AGAIN"]),
        blocked: texts(&["BLCK"]),
        not_found: texts(&["NOT_FOUND"]),
        resubmit_reasons: texts(&["AB05"]),
        codes: texts(&["no_funds=AM04"]),
        default_code: "MS03".to_owned(),
        not_processed: texts(&["503", "400"]),
    }
}

/// Settings of a rail at `base`, such as `http://127.0.0.1:80`.
pub(crate) fn settings(base: &str) -> HttpSettings {
    HttpSettings {
        name: "bank".to_owned(),
        url: Url::parse(&format!("{base}/payments")).unwrap(),
        inquiry: InquiryUrl::parse(&format!("{base}/payments/{{key}}")),
        body: Template::built_in().unwrap(),
        mapping: Mapping::new(parts()).unwrap(),
        key_header: HeaderName::from_static("idempotency-key"),
        token_file: None,
        headers: Vec::new(),
        ca_file: None,
        client_cert: None,
        terms: Terms {
            longest_execution: Duration::from_secs(1),
            key_retention: Duration::from_secs(3_600),
            deadline: DEADLINE,
        },
        connect_timeout: DEADLINE / 2,
        connections: 4,
        inquiries: 2,
    }
}

pub(crate) async fn rail(base: &str) -> Http {
    Http::new(settings(base)).await.unwrap()
}

/// What a raw server does with a connection, once a whole request is there.
#[derive(Clone)]
pub(crate) enum Act {
    /// Writes this and closes.
    Say(Vec<u8>),
    /// Resets the connection.
    Reset,
    /// Keeps it open and silent.
    Hang,
    /// Writes this, then a byte at a time for ever.
    Drip(Vec<u8>),
}

/// A server that does the same to each connection.
pub(crate) struct Raw {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Raw {
    pub(crate) async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, act.clone(), Arc::clone(&seen)));
            }
        });
        Self { address, requests }
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whole requests that have come.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, act: Act, seen: Arc<AtomicUsize>) {
    if read_request(&mut stream).await.is_none() {
        return;
    }
    seen.fetch_add(1, Ordering::SeqCst);
    match act {
        Act::Say(bytes) => {
            stream.write_all(&bytes).await.ok();
            stream.shutdown().await.ok();
        }
        Act::Reset => stream.set_zero_linger().unwrap(),
        Act::Hang => drop(stream.read(&mut [0; 1]).await),
        Act::Drip(bytes) => {
            stream.write_all(&bytes).await.ok();
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while stream.write_all(b" ").await.is_ok() {
                ticks.tick().await;
            }
        }
    }
}

/// Reads head and body; `None` where the client went away before.
pub(crate) async fn read_request(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        let mut chunk = [0; 4_096];
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
}

/// A whole reply.
pub(crate) fn reply(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes()
}

pub(crate) fn json(status: u16, body: &str) -> Vec<u8> {
    reply(status, "content-type: application/json\r\n", body)
}

pub(crate) const SETTLED: &str = r#"{"status":"ACSC","reference":"R-1"}"#;

pub(crate) fn settled() -> Answer {
    Answer::Settled(RailRef::parse("R-1").unwrap())
}
