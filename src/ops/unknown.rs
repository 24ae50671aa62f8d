//! `POST /unknown/resolve`: a person's word on a payment in doubt, written by the worker whose store it is. And what
//! `/status` says of payments in doubt and of tracked ones.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, Resource, web};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::Shared;
use super::control::{BODY_MAX, mandated, refuse};
use crate::domain::LaneName;
use crate::operate::Mandate;
use crate::operate::unknown::{Answer, NotResolved, Order};
use crate::store::{DoubtSums, Resolved, TrackedSums};
use crate::telemetry::Waits;

/// Payments in doubt in the whole store, as last counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnknownStatus {
    /// How many of which nobody knows what became.
    pub count: u64,
    /// Since when nothing was heard of the oldest of them.
    pub oldest: Option<Timestamp>,
    /// How many beside them of which their rail says that it works on them.
    pub in_progress: u64,
    /// Since when the oldest of those is in doubt.
    pub in_progress_oldest: Option<Timestamp>,
    /// When that was counted.
    pub counted_at: Timestamp,
}

/// What a lane's tracker holds, as last counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrackedStatus {
    /// How many payments.
    pub count: u64,
    /// Since when the oldest is tracked.
    pub oldest: Timestamp,
    /// When the next sweep of any was due, or will be.
    pub due: Timestamp,
}

/// What was counted of the whole store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Payments in doubt; `None` before the first count.
    pub unknown: Option<UnknownStatus>,
    /// Tracked payments by lane; lanes without any are left out.
    pub tracked: BTreeMap<String, TrackedStatus>,
}

/// What was counted last.
#[derive(Debug, Clone, Default)]
pub struct CountsHandle(Arc<RwLock<Counts>>);

impl CountsHandle {
    /// Tells what was counted at `now`.
    pub fn set(&self, doubts: &DoubtSums, tracked: &BTreeMap<LaneName, TrackedSums>, now: Timestamp) {
        let status = |sums: &TrackedSums| TrackedStatus { count: sums.count, oldest: sums.oldest, due: sums.due };
        let DoubtSums { unknown, in_progress } = doubts;
        let counts = Counts {
            unknown: Some(UnknownStatus {
                count: unknown.count,
                oldest: unknown.oldest,
                in_progress: in_progress.count,
                in_progress_oldest: in_progress.oldest,
                counted_at: now,
            }),
            tracked: tracked.iter().map(|(lane, sums)| (lane.to_string(), status(sums))).collect(),
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    /// What was counted last.
    #[must_use]
    pub fn get(&self) -> Counts {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) fn resource() -> Resource {
    web::resource("/unknown/resolve").app_data(web::PayloadConfig::new(BODY_MAX)).route(web::post().to(resolve))
}

async fn resolve(request: HttpRequest, body: web::Bytes, shared: web::Data<Shared>) -> HttpResponse {
    let refused = |status, logged: &str, why: &str| refuse(&request, &shared, status, logged, why);
    let by = |order: &Order| Mandate::new(&order.who, &order.why);
    let (order, mandate) = match mandated(&request, &body, &shared, by) {
        Ok(order) => order,
        Err(response) => return *response,
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
