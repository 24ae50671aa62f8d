//! HTTP for operators: `/livez`, `/readyz`, `/metrics`, `/status`. Read only; on loopback unless configured otherwise.

use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, web};
use serde::Serialize;

use crate::telemetry::{Exposition, Life};
use crate::worker::{LaneStatus, StatusHandle};

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
    /// The lanes.
    pub lanes: Vec<LaneStatus>,
}

struct Shared {
    about: About,
    lanes: StatusHandle,
    metrics: Option<Exposition>,
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
    pub fn start(
        listen: SocketAddr,
        about: About,
        lanes: StatusHandle,
        metrics: Option<Exposition>,
    ) -> std::io::Result<Self> {
        let shared = web::Data::from(Arc::new(Shared { about, lanes, metrics }));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .route("/livez", web::get().to(livez))
                .route("/readyz", web::get().to(readyz))
                .route("/metrics", web::get().to(metrics_text))
                .route("/status", web::get().to(status))
        })
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

/// The event loop answers. It never depends on broker, store or rail: restarting us would mend none of them.
async fn livez() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body("ok\n")
}

/// Ready, or why not. A lane whose gate is shut by a breaker is ready: it waits, and says for what.
async fn readyz(shared: web::Data<Shared>) -> HttpResponse {
    let lanes = shared.lanes.lanes();
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
        (true, Some(reason)) => format!("ready, paused: {reason}"),
        (false, reason) => {
            let why = lane.trouble.as_deref().or(reason).unwrap_or("not verified yet");
            format!("not ready: {why}")
        }
    };
    let mut line = format!("lane {}: {state}\n", lane.lane);
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
    match &shared.metrics {
        Some(metrics) => HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(metrics.render()),
        None => HttpResponse::NotFound().finish(),
    }
}

async fn status(shared: web::Data<Shared>) -> HttpResponse {
    let lanes = shared.lanes.lanes();
    HttpResponse::Ok().json(Status { about: shared.about.clone(), ready: is_ready(&lanes), lanes })
}
