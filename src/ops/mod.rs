//! HTTP for operators: a page, `/livez`, `/readyz`, `/metrics`, `/status`, orders to a lane's breaker, and a person's
//! word on a payment in doubt. On loopback unless configured otherwise.

mod admit;
mod control;
mod page;
mod unknown;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, web};
use serde::Serialize;

use crate::domain::millis;
use crate::store::Store;
use crate::telemetry::{Exposition, Life};
use crate::worker::{ControlHandle, Hold, LaneStatus, StatusHandle};

pub use admit::Token;
pub use unknown::{Counts, CountsHandle, TrackedStatus, UnknownStatus};

/// What does not change while a worker runs.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    /// The worker's name, as in `Acquit-Worker`.
    pub worker: String,
    /// Its process.
    pub pid: u32,
    /// The program's version.
    pub version: &'static str,
    /// The store's file.
    pub store: String,
    /// The store's identity.
    pub store_id: String,
    /// What falls short of production durability, in words.
    pub durability_shortfalls: Vec<String>,
}

/// `/status`.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// What does not change.
    #[serde(flatten)]
    pub about: About,
    /// Whether every lane is ready.
    pub ready: bool,
    /// Payments in doubt in the whole store; absent before they are counted first.
    pub unknown: Option<UnknownStatus>,
    /// Tracked payments in the whole store, by lane; lanes without any are left out.
    pub tracked: BTreeMap<String, TrackedStatus>,
    /// The lanes.
    pub lanes: Vec<LaneStatus>,
}

/// What is served, and who may steer.
pub struct Served {
    /// What does not change.
    pub about: About,
    /// What the lanes do.
    pub lanes: StatusHandle,
    /// Steers the lanes.
    pub control: ControlHandle,
    /// The store, where people's words on payments in doubt are taken.
    pub store: Option<Store>,
    /// What was counted of payments in doubt and of tracked ones.
    pub counts: CountsHandle,
    /// Who holds it may steer, from anywhere; without one only this machine may.
    pub token: Option<Token>,
    /// The metrics, where they are recorded.
    pub metrics: Option<Exposition>,
}

struct Shared {
    served: Served,
    refusals: control::Refusals,
}

/// A running server.
pub struct Ops {
    address: SocketAddr,
    handle: ServerHandle,
}

impl Ops {
    /// Binds and serves until [`Ops::stop`].
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(listen: SocketAddr, served: Served) -> std::io::Result<Self> {
        let shared = web::Data::from(Arc::new(Shared { served, refusals: control::Refusals::default() }));
        let server = HttpServer::new(move || App::new().app_data(shared.clone()).configure(routes))
            .workers(1)
            .disable_signals()
            .shutdown_timeout(1)
            .bind(listen)?;
        let address = server.addrs().first().copied().unwrap_or(listen);
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Life::OpsListening { address: &address.to_string() }.emit();
        Ok(Self { address, handle })
    }

    /// Where it listens; tells the port where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops serving.
    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}

fn routes(app: &mut web::ServiceConfig) {
    app.route("/", web::get().to(page::page))
        .route("/livez", web::get().to(livez))
        .route("/readyz", web::get().to(readyz))
        .route("/metrics", web::get().to(metrics_text))
        .route("/status", web::get().to(status))
        .service(control::resource())
        .service(unknown::resource());
}

/// The event loop answers. It never depends on broker, store or rail: restarting us would mend none of them.
async fn livez() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body("ok\n")
}

/// Ready, or why not. A lane whose gate is shut by a breaker is ready: it waits, and says for what.
async fn readyz(shared: web::Data<Shared>) -> HttpResponse {
    let lanes = shared.served.lanes.lanes();
    let ready = is_ready(&lanes);
    let mut body = String::new();
    for lane in &lanes {
        body.push_str(&line(lane));
    }
    if lanes.is_empty() {
        body.push_str("no lane has started\n");
    }
    let mut response = if ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.content_type(ContentType::plaintext()).body(body)
}

fn is_ready(lanes: &[LaneStatus]) -> bool {
    !lanes.is_empty() && lanes.iter().all(|lane| lane.ready)
}

fn line(lane: &LaneStatus) -> String {
    let state = match (lane.ready, lane.gate_reason) {
        (true, None) => "ready".to_owned(),
        (true, Some(reason)) => match lane.paused_until.filter(|_| reason == "operator") {
            Some(until) => format!("ready, paused: {reason} until {}", millis(until)),
            None => format!("ready, paused: {reason}"),
        },
        (false, reason) => {
            let why = lane.trouble.as_deref().or(reason).unwrap_or("not verified yet");
            format!("not ready: {why}")
        }
    };
    let mut line = format!("lane {}: {state}\n", lane.lane);
    if let Some(hold) = &lane.breaker_forced {
        let Hold { to, who, why, since, record: _ } = hold;
        line.push_str(&format!(
            "lane {}: settlement breaker {to} by {who} since {}: {why}\n",
            lane.lane,
            millis(*since)
        ));
    }
    if lane.oldest_unacked_critical {
        let hours = lane.oldest_unacked_s / 3600.0;
        line.push_str(&format!(
            "lane {}: CRITICAL: an event is un-acknowledged for {hours:.1} h and near max_age\n",
            lane.lane
        ));
    }
    if lane.newer_contract > 0 {
        let version = lane.newer_contract;
        line.push_str(&format!("lane {}: events of contract {version} wait for a newer worker\n", lane.lane));
    }
    if lane.foreign_events > 0 {
        let (name, count) = (&lane.lane, lane.foreign_events);
        line.push_str(&format!(
            "lane {name}: CRITICAL: {count} events have numbers of lost messages and wait for an operator\n"
        ));
    }
    line
}

async fn metrics_text(shared: web::Data<Shared>) -> HttpResponse {
    match &shared.served.metrics {
        Some(metrics) => HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(metrics.render()),
        None => HttpResponse::NotFound().finish(),
    }
}

async fn status(shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(shared.status())
}

impl Shared {
    fn status(&self) -> Status {
        let lanes = self.served.lanes.lanes();
        let Counts { unknown, tracked } = self.served.counts.get();
        Status { about: self.served.about.clone(), ready: is_ready(&lanes), unknown, tracked, lanes }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use actix_web::test::{TestRequest, call_service, init_service};
    use jiff::Timestamp;
    use secrecy::SecretString;
    use serde_json::{Value, json};

    use super::*;
    use crate::worker::Breakers;

    /// A worker whose one lane is paused by an operator and whose breaker is held open.
    pub(super) fn status() -> Status {
        let at = Timestamp::UNIX_EPOCH;
        let hold = Hold { to: "forced_open", who: "ops-1".into(), why: "INC-7".into(), record: 12, since: at };
        let lane = LaneStatus {
            lane: "payments".into(),
            stream: "PAYMENTS".into(),
            rail: "book",
            fallback: None,
            consumer: "acquit-payments".into(),
            ready: true,
            trouble: None,
            gate: "shut",
            gate_reason: Some("operator"),
            paused_until: Some(at),
            breakers: Breakers {
                settlement: "forced_open",
                outcomes: "closed",
                dead_letters: "closed",
                inquiries: "closed",
                checks: "closed",
            },
            breaker_forced: Some(hold),
            breaker_opened: 0,
            breaker_probes: 0,
            pulls_while_open: 0,
            pulls_outstanding: 0,
            in_flight: 1,
            slots: 64,
            in_flight_limit: 64,
            parked: 0,
            parked_limit: 256,
            pending: 5,
            ack_pending: 1,
            oldest_unacked_s: 1.5,
            oldest_unacked_critical: false,
            foreign_events: 0,
            newer_contract: 0,
            received: 8,
            settled: 7,
            rejected: 0,
            duplicates: 0,
            dead_lettered: 0,
            tracked: 0,
            tracker: 0,
            tracker_limit: 0,
            in_doubt: 0,
            next_inquiry_ms: None,
            handed_back: 0,
            abandoned: 0,
            up_ms: 1,
            first_pull_ms: None,
        };
        Status { about: about(), ready: true, unknown: None, tracked: BTreeMap::new(), lanes: vec![lane] }
    }

    fn about() -> About {
        About {
            worker: "acquit-1".into(),
            pid: 1,
            version: "0",
            store: "acquit.db".into(),
            store_id: "s".into(),
            durability_shortfalls: vec![],
        }
    }

    #[test]
    fn readiness_names_the_end_of_a_pause_and_who_holds_a_breaker() {
        let lanes = status().lanes;
        let text: String = lanes.iter().map(line).collect();
        assert_eq!(
            text,
            "lane payments: ready, paused: operator until 1970-01-01T00:00:00.000Z\n\
             lane payments: settlement breaker forced_open by ops-1 since 1970-01-01T00:00:00.000Z: INC-7\n"
        );
    }

    /// Sends one order to a worker that has no lane yet; gives the status and the answer.
    async fn ordered(token: Option<&str>, shape: impl Fn(TestRequest) -> TestRequest) -> (u16, Value) {
        let token = token.map(|text| Token::new(&SecretString::from(text)).expect("long enough"));
        let app = init_service(App::new().app_data(shared(token)).configure(routes)).await;
        let here: SocketAddr = "127.0.0.1:7".parse().expect("an address");
        let request = TestRequest::post().uri("/lanes/payments/breaker").peer_addr(here).set_json(good());
        let response = call_service(&app, shape(request).to_request()).await;
        let status = response.status().as_u16();
        let body = actix_web::test::read_body(response).await;
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    fn shared(token: Option<Token>) -> web::Data<Shared> {
        let (lanes, control) = (StatusHandle::default(), ControlHandle::default());
        let counts = CountsHandle::default();
        let served = Served { about: about(), lanes, control, store: None, counts, token, metrics: None };
        web::Data::new(Shared { served, refusals: control::Refusals::default() })
    }

    #[actix_web::test]
    async fn the_page_tells_the_browser_to_run_and_load_nothing() {
        let app = init_service(App::new().app_data(shared(None)).configure(routes)).await;
        let response = call_service(&app, TestRequest::get().uri("/").to_request()).await;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let policy = header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert_eq!(header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!((header("x-content-type-options"), header("cache-control")), (Some("nosniff"), Some("no-store")));
    }

    fn good() -> Value {
        json!({ "action": "open", "who": "ops-1", "why": "INC-7", "record": 12 })
    }

    #[actix_web::test]
    async fn an_order_that_passes_every_guard_gets_as_far_as_the_lanes() {
        assert_eq!(ordered(None, |request| request).await.0, 404, "there is no lane yet");
        let token = "correct-horse-battery";
        let bearer = |request: TestRequest| request.insert_header(("Authorization", format!("Bearer {token}")));
        let other: SocketAddr = "10.0.0.7:7".parse().expect("an address");
        assert_eq!(ordered(Some(token), |request| bearer(request).peer_addr(other)).await.0, 404);
    }

    #[actix_web::test]
    async fn an_order_from_elsewhere_or_from_a_page_or_through_a_proxy_is_refused() {
        let other: SocketAddr = "10.0.0.7:7".parse().expect("an address");
        assert_eq!(ordered(None, |request| request.peer_addr(other)).await.0, 403);
        for header in [
            ("Origin", "http://127.0.0.1:9464"),
            ("Origin", "null"),
            ("X-Forwarded-For", "10.0.0.7"),
            ("Forwarded", "for=10.0.0.7"),
            ("Via", "1.1 proxy"),
            ("X-Envoy-Peer-Metadata-Id", "sidecar"),
        ] {
            assert_eq!(ordered(None, |request| request.insert_header(header)).await.0, 403, "{header:?}");
        }
    }

    #[actix_web::test]
    async fn a_persons_word_passes_the_same_guards_and_names_the_store_that_it_is_for() {
        let word = json!({ "payment_id": "P-1", "resolved_as": "not-processed", "last_attempt": 1, "longest_ms": 1,
            "store_id": "s", "who": "ops-1", "why": "INC-7", "record": 12 });
        let to = |request: TestRequest| request.uri("/unknown/resolve").set_json(&word);
        assert_eq!(ordered(None, to).await.0, 404, "nobody's store is here");
        let other: SocketAddr = "10.0.0.7:7".parse().expect("an address");
        assert_eq!(ordered(None, |request| to(request).peer_addr(other)).await.0, 403);
        assert_eq!(ordered(None, |request| to(request).insert_header(("Origin", "null"))).await.0, 403);
        assert_eq!(ordered(Some("correct-horse-battery"), to).await.0, 401);
        for (key, value) in [
            ("who", json!("")),
            ("record", Value::Null),
            ("resolved_as", json!("lost")),
            ("payment_id", json!("a.b")),
            ("code", json!("AC04")),
            ("surprise", json!(1)),
        ] {
            let mut bad = word.clone();
            bad[key] = value.clone();
            let answer = ordered(None, |request| request.uri("/unknown/resolve").set_json(&bad)).await;
            assert_eq!(answer.0, 400, "{key} {value}");
        }
    }

    #[actix_web::test]
    async fn an_order_without_the_token_is_refused_also_on_this_machine() {
        let token = Some("correct-horse-battery");
        assert_eq!(ordered(token, |request| request).await.0, 401);
        for wrong in ["Bearer correct-horse-batterx", "Basic correct-horse-battery", "correct-horse-battery"] {
            let (status, _) = ordered(token, |request| request.insert_header(("Authorization", wrong))).await;
            assert_eq!(status, 401, "{wrong}");
        }
    }

    #[actix_web::test]
    async fn an_order_is_json_of_a_bounded_size_with_a_name_and_a_reason() {
        let text = |request: TestRequest| request.insert_header(("Content-Type", "text/plain"));
        assert_eq!(ordered(None, text).await.0, 415);
        let form = |request: TestRequest| request.insert_header(("Content-Type", "application/x-www-form-urlencoded"));
        assert_eq!(ordered(None, form).await.0, 415);
        let large = json!({ "action": "open", "who": "ops-1", "why": "x".repeat(10_000), "record": 12 });
        assert_eq!(ordered(None, |request| request.set_json(&large)).await.0, 413);
        for (key, value) in [
            ("who", json!("")),
            ("who", Value::Null),
            ("why", json!(" ")),
            ("why", json!("a\nb")),
            ("record", Value::Null),
            ("record", json!("12")),
            ("action", json!("toggle")),
            ("surprise", json!(1)),
        ] {
            let mut bad = good();
            bad[key] = value.clone();
            assert_eq!(ordered(None, |request| request.set_json(&bad)).await.0, 400, "{key} {value}");
        }
        assert_eq!(ordered(None, |request| request.method(actix_web::http::Method::GET)).await.0, 405);
    }
}
