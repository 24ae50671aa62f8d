//! The stand-in's HTTP: what the script says, around what the ledger does.

use std::any::Any;
use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use actix_web::dev::{Extensions, ServerHandle};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, RETRY_AFTER};
use actix_web::{App, HttpRequest, HttpResponse, HttpResponseBuilder, HttpServer, web};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Semaphore;

use super::ledger::{Ledger, Paid, Standing, Sums, Taken};
use super::script::{Behaviour, Kind, Script};

/// A hang ends by itself some day.
const HANG: Duration = Duration::from_secs(3_600);

struct Shared {
    ledger: Ledger,
    script: RwLock<Arc<Script>>,
    began: Mutex<Instant>,
    /// Where its capacity is bounded.
    desks: RwLock<Option<Arc<Semaphore>>>,
    /// POSTs and inquiries by key in this process.
    counts: Mutex<HashMap<String, [u32; 2]>>,
    inquiries: Mutex<Inquiries>,
}

/// Inquiries that have come in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inquiries {
    /// All of them.
    pub came: u64,
    /// Under way now.
    pub under_way: u32,
    /// The most that were under way at once since the script began.
    pub at_once: u32,
}

/// An inquiry that is under way.
struct Inquiring<'a>(&'a Shared);

/// A running stand-in.
pub struct ScriptedRail {
    address: SocketAddr,
    handle: ServerHandle,
    shared: Arc<Shared>,
}

/// The connection of a request, to be closed under it.
struct Line(TcpStream);

impl ScriptedRail {
    /// Listens and answers until it is stopped.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(listen: SocketAddr, script: Script, ledger: Ledger) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            ledger,
            desks: RwLock::new(desks(&script)),
            script: RwLock::new(Arc::new(script)),
            began: Mutex::new(Instant::now()),
            counts: Mutex::default(),
            inquiries: Mutex::default(),
        });
        let data = web::Data::from(Arc::clone(&shared));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/payments", web::post().to(post))
                .route("/payments/{key}", web::get().to(inquire))
                .route("/ledger", web::get().to(sums))
        })
        .on_connect(keep_line)
        .keep_alive(Duration::from_secs(30))
        .client_request_timeout(Duration::from_secs(30))
        .workers(1)
        .disable_signals()
        .shutdown_timeout(0)
        .bind(listen)?;
        let address = server.addrs().first().copied().unwrap_or(listen);
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { address, handle, shared })
    }

    /// Where it listens; tells the port where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Behaves by another script from now on, whose times begin now. Gives the one before.
    pub fn play(&self, script: Script) -> Script {
        *self.shared.desks.write().unwrap_or_else(PoisonError::into_inner) = desks(&script);
        let mut now = self.shared.script.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *now, Arc::new(script));
        *self.shared.began.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let mut inquiries = self.shared.inquiries.lock().unwrap_or_else(PoisonError::into_inner);
        inquiries.at_once = inquiries.under_way;
        Arc::unwrap_or_clone(before)
    }

    /// Every effect there is.
    ///
    /// # Errors
    /// What the database says.
    pub fn effects(&self) -> rusqlite::Result<Vec<Paid>> {
        self.shared.ledger.effects(None)
    }

    /// POSTs that have come in this process, by key.
    #[must_use]
    pub fn posts(&self) -> HashMap<String, u32> {
        let counts = self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(key, [posts, _])| (key.clone(), *posts)).filter(|(_, posts)| *posts > 0).collect()
    }

    /// Inquiries that have come in this process, by key.
    #[must_use]
    pub fn asked(&self) -> HashMap<String, u32> {
        let counts = self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(key, [_, asked])| (key.clone(), *asked)).filter(|(_, asked)| *asked > 0).collect()
    }

    /// Keys that were asked about in this process.
    #[must_use]
    pub fn asked_about(&self) -> usize {
        let counts = self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.values().filter(|[_, inquiries]| *inquiries > 0).count()
    }

    /// How many inquiries have come.
    #[must_use]
    pub fn inquiries(&self) -> Inquiries {
        *self.shared.inquiries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger in numbers.
    ///
    /// # Errors
    /// What the database says.
    pub fn sums(&self) -> rusqlite::Result<Sums> {
        self.shared.ledger.sums(Timestamp::now().as_millisecond())
    }

    /// Ends at once: what is under way gets no reply.
    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}

fn desks(script: &Script) -> Option<Arc<Semaphore>> {
    script.capacity.map(|desks| Arc::new(Semaphore::new(usize::from(desks))))
}

fn keep_line(connection: &dyn Any, data: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<tokio::net::TcpStream>()
        && let Ok(copy) = stream.as_fd().try_clone_to_owned()
    {
        data.insert(Arc::new(Line(TcpStream::from(copy))));
    }
}

impl Shared {
    fn count(&self, key: &str, which: usize) -> u32 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = counts.entry(key.to_owned()).or_default();
        let Some(count) = counts.get_mut(which) else { return 0 };
        *count = count.saturating_add(1);
        *count
    }

    fn inquiry(&self) -> Inquiring<'_> {
        let mut seen = self.inquiries.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = seen.under_way.saturating_add(1);
        *seen = Inquiries { came: seen.came.saturating_add(1), under_way, at_once: seen.at_once.max(under_way) };
        Inquiring(self)
    }

    fn script(&self) -> (Arc<Script>, Duration) {
        let since = self.began.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        (Arc::clone(&self.script.read().unwrap_or_else(PoisonError::into_inner)), since)
    }
}

impl Drop for Inquiring<'_> {
    fn drop(&mut self) {
        let mut seen = self.0.inquiries.lock().unwrap_or_else(PoisonError::into_inner);
        seen.under_way = seen.under_way.saturating_sub(1);
    }
}

fn is_let_in(script: &Script, request: &HttpRequest) -> bool {
    let Some(path) = &script.token_file else { return true };
    let Ok(token) = std::fs::read_to_string(path) else { return false };
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    given == Some(format!("Bearer {}", token.trim()).as_str())
}

async fn post(shared: web::Data<Shared>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let (script, since) = shared.script();
    if !is_let_in(&script, &request) {
        return HttpResponse::Unauthorized().json(json!({ "error": "token" }));
    }
    let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok()).filter(|key| !key.is_empty());
    let Some(key) = key else { return HttpResponse::BadRequest().json(json!({ "error": "no Idempotency-Key" })) };
    let nth = shared.count(key, 0);
    let desks = shared.desks.read().unwrap_or_else(PoisonError::into_inner).clone();
    let _desk = match desks {
        Some(desks) => desks.acquire_owned().await.ok(),
        None => None,
    };
    tokio::time::sleep(script.latency(key, nth, since)).await;
    let behaviour = script.behaviour(key, nth, false, since);
    if let Some(reply) = before(behaviour, &request).await {
        return reply;
    }
    let now = Timestamp::now().as_millisecond();
    let reply = match shared.ledger.take(key, &body, &taken(behaviour, now), script.idempotent, now) {
        Ok(Some(Standing { stored_status: Some(status), .. })) => refusal(status),
        Ok(Some(standing)) => say(key, &standing),
        Ok(None) => HttpResponse::UnprocessableEntity().json(json!({ "error": "key used with another body" })),
        Err(_) => HttpResponse::ServiceUnavailable().json(json!({ "error": "the ledger did not take it" })),
    };
    let done = |kind| behaviour.is_some_and(|behaviour| behaviour.kind == kind);
    if done(Kind::HangAfter) {
        return hang().await;
    }
    if done(Kind::LoseReply) {
        return close(&request);
    }
    if done(Kind::WrongBody) { HttpResponse::Ok().json(json!({ "ok": true })) } else { reply }
}

/// What ends a POST before anything is processed.
async fn before(behaviour: Option<&Behaviour>, request: &HttpRequest) -> Option<HttpResponse> {
    let behaviour = behaviour?;
    match behaviour.kind {
        Kind::Error => Some(refusal(behaviour.status)),
        Kind::TooMany => {
            let mut reply = HttpResponse::TooManyRequests();
            Some(reply.insert_header((RETRY_AFTER, behaviour.retry_after.to_string())).finish())
        }
        Kind::Deny => Some(HttpResponse::Unauthorized().json(json!({ "error": "token" }))),
        Kind::Hang => Some(hang().await),
        Kind::Reset => Some(close(request)),
        Kind::StoredError
        | Kind::HangAfter
        | Kind::LoseReply
        | Kind::WrongBody
        | Kind::InProgress
        | Kind::Reject
        | Kind::Lie
        | Kind::InquiryError => None,
    }
}

fn taken(behaviour: Option<&Behaviour>, now: i64) -> Taken {
    match behaviour {
        Some(behaviour) if behaviour.kind == Kind::InProgress => {
            let after = i64::try_from(behaviour.after.as_millis()).unwrap_or(i64::MAX);
            Taken::Later { at: now.saturating_add(after) }
        }
        Some(behaviour) if behaviour.kind == Kind::Reject => Taken::Rejected { code: behaviour.code.clone() },
        Some(behaviour) if behaviour.kind == Kind::StoredError => Taken::Settled { status: Some(behaviour.status) },
        Some(_) | None => Taken::Settled { status: None },
    }
}

async fn inquire(shared: web::Data<Shared>, request: HttpRequest, key: web::Path<String>) -> HttpResponse {
    let (script, since) = shared.script();
    if !is_let_in(&script, &request) {
        return HttpResponse::Unauthorized().json(json!({ "error": "token" }));
    }
    let nth = shared.count(&key, 1);
    let _under_way = shared.inquiry();
    tokio::time::sleep(script.latency(&key, nth, since)).await;
    let unknown = || HttpResponse::NotFound().json(json!({ "status": "NOT_FOUND" }));
    match script.behaviour(&key, nth, true, since) {
        Some(behaviour) if behaviour.kind == Kind::InquiryError => return refusal(behaviour.status),
        Some(_) => return unknown(),
        None => {}
    }
    match shared.ledger.look(&key, Timestamp::now().as_millisecond()) {
        Ok(Some(standing)) => say(&key, &standing),
        Ok(None) => unknown(),
        Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}

async fn sums(shared: web::Data<Shared>) -> HttpResponse {
    match shared.ledger.sums(Timestamp::now().as_millisecond()) {
        Ok(sums) => HttpResponse::Ok().json(sums),
        Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}

fn say(key: &str, standing: &Standing) -> HttpResponse {
    let status = match standing.state.as_str() {
        "settled" => "ACSC",
        "rejected" => "RJCT",
        _ => "ACSP",
    };
    HttpResponse::Ok().json(json!({
        "id": key, "status": status, "reference": standing.reference, "reason": { "code": standing.code },
    }))
}

fn refusal(status: u16) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponseBuilder::new(status).json(json!({ "error": status.as_u16() }))
}

async fn hang() -> HttpResponse {
    tokio::time::sleep(HANG).await;
    HttpResponse::GatewayTimeout().finish()
}

/// Closes the connection: the reply finds nobody.
fn close(request: &HttpRequest) -> HttpResponse {
    if let Some(line) = request.conn_data::<Arc<Line>>() {
        line.0.shutdown(Shutdown::Both).ok();
    }
    HttpResponse::Ok().finish()
}
