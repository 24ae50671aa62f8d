//! `POST /unknown/resolve`: a person's word on a payment in doubt, written by the worker whose store it is. And what
//! `/status` says of payments in doubt.

use std::sync::{Arc, PoisonError, RwLock};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, Resource, web};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::Shared;
use super::control::{BODY_MAX, refuse, turned_away};
use crate::operate::Mandate;
use crate::operate::unknown::{Answer, NotResolved, Order};
use crate::store::{Resolved, UnknownSums};
use crate::telemetry::Waits;

/// Payments in doubt in the whole store, as last counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnknownStatus {
    /// How many.
    pub count: u64,
    /// Since when the oldest is in doubt.
    pub oldest: Option<Timestamp>,
    /// When that was counted.
    pub counted_at: Timestamp,
}

/// What was counted last; empty before the first count.
#[derive(Debug, Clone, Default)]
pub struct UnknownHandle(Arc<RwLock<Option<UnknownStatus>>>);

impl UnknownHandle {
    /// Tells what was counted at `now`.
    pub fn set(&self, sums: &UnknownSums, now: Timestamp) {
        let status = UnknownStatus { count: sums.count, oldest: sums.oldest, counted_at: now };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    /// What was counted last.
    #[must_use]
    pub fn get(&self) -> Option<UnknownStatus> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) fn resource() -> Resource {
    web::resource("/unknown/resolve").app_data(web::PayloadConfig::new(BODY_MAX)).route(web::post().to(resolve))
}

async fn resolve(request: HttpRequest, body: web::Bytes, shared: web::Data<Shared>) -> HttpResponse {
    let refused = |status, logged: &str, why: &str| refuse(&request, &shared, status, logged, why);
    if let Some(response) = turned_away(&request, &shared) {
        return response;
    }
    let order: Order = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => return refused(StatusCode::BAD_REQUEST, "no order", &format!("this is no order: {error}")),
    };
    let mandate = match Mandate::new(&order.who, &order.why) {
        Ok(mandate) => mandate,
        Err(trouble) => return refused(StatusCode::BAD_REQUEST, "no mandate", &trouble.to_string()),
    };
    let resolution = match order.resolution() {
        Ok(resolution) => resolution,
        Err(why) => return refused(StatusCode::BAD_REQUEST, "no order", why),
    };
    let Some(store) = shared.served.store.as_ref().filter(|_| order.store_id == shared.served.about.store_id) else {
        return refused(StatusCode::NOT_FOUND, "another store", "this worker has another store");
    };
    match store.resolve(resolution).await {
        Ok(resolved) => {
            Waits::Resolved {
                payment: order.payment_id.as_str(),
                as_what: &order.resolved_as,
                who: mandate.who(),
                why: mandate.why(),
                record: order.record,
            }
            .emit();
            let worker = shared.served.about.worker.clone();
            HttpResponse::Ok().json(Answer { worker, stood: resolved == Resolved::Stood })
        }
        Err(error) => match NotResolved::from(error) {
            NotResolved::Refused(why) => HttpResponse::Conflict().json(json!({ "error": why })),
            NotResolved::Lost(lost) => HttpResponse::ServiceUnavailable().json(json!({ "error": lost.to_string() })),
        },
    }
}
