//! `POST /lanes/{lane}/breaker`: an order to a lane's settlement breaker.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, ORIGIN, WWW_AUTHENTICATE};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, Resource, web};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Shared;
use super::admit::{Caller, Refusal, admit};
use crate::operate::control::breaker::{Answer, Order};
use crate::operate::{Mandate, Trouble};
use crate::telemetry::Flow;
use crate::worker::BreakerOrder;

/// The largest body of an order, in bytes: a name, a reason, and room for escapes.
pub(super) const BODY_MAX: usize = 8 * 1024;

/// When a refusal was last logged: whoever knocks again and again must not fill the log.
#[derive(Default)]
pub(super) struct Refusals(Mutex<Option<Instant>>);

impl Refusals {
    fn tell(&self, peer: &str, why: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
            *last = Some(Instant::now());
            Flow::ControlRefused { peer, why }.emit();
        }
    }
}

pub(super) fn resource() -> Resource {
    web::resource("/lanes/{lane}/breaker").app_data(web::PayloadConfig::new(BODY_MAX)).route(web::post().to(breaker))
}

async fn breaker(
    request: HttpRequest,
    lane: web::Path<String>,
    body: web::Bytes,
    shared: web::Data<Shared>,
) -> HttpResponse {
    let by = |order: &Order| Mandate::new(&order.who, &order.why);
    let (order, mandate) = match mandated(&request, &body, &shared, by) {
        Ok(order) => order,
        Err(response) => return *response,
    };
    let told =
        BreakerOrder { forced: order.action.forced(), who: mandate.who(), why: mandate.why(), record: order.record };
    match shared.served.control.force(&lane, told) {
        Some(done) => HttpResponse::Ok().json(Answer {
            worker: shared.served.about.worker.clone(),
            lane: lane.into_inner(),
            was: done.was.to_owned(),
            is: done.is.to_owned(),
            note: order.action.note().to_owned(),
        }),
        None => {
            let why = "this worker has no such lane, or has not started yet";
            refuse(&request, &shared, StatusCode::NOT_FOUND, "no such lane", why)
        }
    }
}

/// Reads an order of somebody who may give one, and who gives it and why; else the answer that turns it away.
pub(super) fn mandated<T: DeserializeOwned>(
    request: &HttpRequest,
    body: &[u8],
    shared: &Shared,
    by: impl FnOnce(&T) -> Result<Mandate, Trouble>,
) -> Result<(T, Mandate), Box<HttpResponse>> {
    if let Some(response) = turned_away(request, shared) {
        return Err(Box::new(response));
    }
    let bad = |logged: &str, why: String| Box::new(refuse(request, shared, StatusCode::BAD_REQUEST, logged, &why));
    let order: T =
        serde_json::from_slice(body).map_err(|error| bad("no order", format!("this is no order: {error}")))?;
    let mandate = by(&order).map_err(|trouble| bad("no mandate", trouble.to_string()))?;
    Ok((order, mandate))
}

/// Refuses, and says so in the log. What is logged holds nothing of what was sent.
pub(super) fn refuse(
    request: &HttpRequest,
    shared: &Shared,
    status: StatusCode,
    logged: &str,
    why: &str,
) -> HttpResponse {
    let peer = request.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
    shared.refusals.tell(&peer, logged);
    HttpResponse::build(status).json(json!({ "error": why }))
}

/// The answer to whoever may not steer; `None` where the caller may.
fn turned_away(request: &HttpRequest, shared: &Shared) -> Option<HttpResponse> {
    let refusal = admit(caller(request), shared.served.token.as_ref()).err()?;
    let why = refusal.to_string();
    let mut response = refuse(request, shared, status_of(refusal), &why, &why);
    if refusal == Refusal::Token {
        let challenge = actix_web::http::header::HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    Some(response)
}

fn caller(request: &HttpRequest) -> Caller<'_> {
    // Whatever a proxy is known to add.
    let of_a_proxy = |name: &str| {
        ["forwarded", "via", "x-real-ip"].contains(&name)
            || name.starts_with("x-forwarded-")
            || name.starts_with("x-envoy-")
    };
    let bearer = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    Caller {
        peer: request.peer_addr().map(|peer| peer.ip()),
        of_a_page: request.headers().contains_key(ORIGIN),
        forwarded: request.headers().keys().any(|name| of_a_proxy(name.as_str())),
        json: request.content_type().eq_ignore_ascii_case("application/json"),
        bearer: bearer.and_then(|value| value.strip_prefix("Bearer ")),
    }
}

fn status_of(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::OfAPage | Refusal::NotThisMachine => StatusCode::FORBIDDEN,
        Refusal::Token => StatusCode::UNAUTHORIZED,
        Refusal::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
    }
}
