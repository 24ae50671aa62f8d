//! A rail over HTTP: `POST` with an idempotency key, `GET` to ask what became of it. What is sent and how a reply is
//! read is configuration; what it means for money is one table in `mapping`.

mod client;
mod fields;
mod files;
mod mapping;
mod retry_after;
mod settings;
mod template;
#[cfg(test)]
pub(crate) mod tests;
mod witness;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Rail, Terms};
use crate::domain::{Answer, Finding, NotSent, RailKey};
use crate::store::Order;
use client::Wire;
use fields::Source;
use mapping::Heard;
use witness::{Witness, Worth};

pub use client::{HttpSetUp, plain_client};
pub use mapping::{Mapping, MappingParts, Meaning};
pub use settings::{HttpSettings, InquiryUrl};
pub use template::{Template, TemplateError};

/// A payment service over HTTP.
///
/// It sends a request at most once: no retries, no redirects, no proxy. Only what cannot have been sent, and what the
/// rail's contract calls unprocessed, is [`Answer::NotSent`]; only a status word of the mapping is more than
/// [`Answer::Unknown`].
///
/// An inquiry's "not found" counts only once an inquiry of this process has found a settled payment: a status call
/// that looks in the wrong place would otherwise have every payment sent again. Where none has, the first payment
/// that this process saw settled is asked about as a witness; where there is none, the payment in doubt waits.
pub struct Http {
    name: &'static str,
    settings: HttpSettings,
    wire: Wire,
    /// Submissions under way.
    calls: Semaphore,
    /// Inquiries under way: a rail that hangs on submissions must not keep them from being asked about.
    asks: Semaphore,
    witness: Mutex<Witness>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Http({}, ..)", self.name)
    }
}

impl Http {
    /// Reads certificates and secrets and makes the client. Nothing is sent.
    ///
    /// # Errors
    /// What is wrong, without any secret.
    pub async fn new(settings: HttpSettings) -> Result<Self, HttpSetUp> {
        if let Some(bad) = settings.check().into_iter().next() {
            return Err(HttpSetUp::Setting { field: bad.field, rule: bad.rule });
        }
        Ok(Self {
            // A rail lives as long as its process; the trait asks for a constant name.
            name: Box::leak(settings.name.clone().into_boxed_str()),
            wire: Wire::new(&settings).await?,
            calls: Semaphore::new(usize::from(settings.connections)),
            asks: Semaphore::new(usize::from(settings.inquiries)),
            witness: Mutex::default(),
            settings,
        })
    }

    async fn post(&self, order: &Order) -> Heard {
        let (key, terms) = (order.key(), self.settings.terms);
        // With the connect timeout it leaves a quarter of the deadline: what is sent is sent within it.
        let patience = terms.deadline.checked_div(4).unwrap_or_default();
        let Ok(Ok(_permit)) = timeout(patience, self.calls.acquire()).await else {
            return Heard::Unreached(NotSent::Pool);
        };
        let Some(secrets) = self.wire.secrets(Instant::now()).await else {
            return Heard::Unreached(NotSent::OurFault);
        };
        if Timestamp::now() >= order.deadline() {
            return Heard::Unreached(NotSent::Pool);
        }
        let body = self.settings.body.render(Source { payment: order.payment(), key });
        let request = self.wire.http().post(self.settings.url.clone()).headers(secrets);
        let request = request.header(self.settings.key_header.clone(), key.as_str());
        let request = request.header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json");
        self.wire.call(request.body(body)).await
    }

    /// What the rail says of a key right now, for a person to weigh: unlike [`Rail::inquire`] it also tells a
    /// "not found" that no settled payment vouches for.
    pub async fn look(&self, key: &RailKey) -> Finding {
        self.ask(key).await
    }

    async fn ask(&self, key: &RailKey) -> Finding {
        let Some(url) = self.settings.inquiry.as_ref().and_then(|inquiry| inquiry.of(key)) else {
            return Finding::CannotSay;
        };
        // The worker waits no longer than the deadline for the whole.
        let Ok(Ok(_permit)) = timeout(self.settings.terms.deadline, self.asks.acquire()).await else {
            return Finding::CannotSay;
        };
        let Some(secrets) = self.wire.secrets(Instant::now()).await else { return Finding::CannotSay };
        let request = self.wire.http().get(url).headers(secrets).header(ACCEPT, "application/json");
        let heard = self.wire.call(request.timeout(self.settings.terms.deadline)).await;
        self.saw(&heard).await;
        let finding = self.settings.mapping.finding(&heard, key);
        if matches!(finding, Finding::Answered(Answer::Settled(_))) {
            self.witness().found();
        }
        finding
    }

    /// Whether it counts that a key was not found; a witness is asked about first where that is not known.
    async fn not_found_counts(&self, asked: &RailKey) -> bool {
        let worth = self.witness().worth(asked);
        match worth {
            Worth::Counts => true,
            Worth::Nothing => false,
            Worth::IfFound(settled) => {
                drop(self.ask(&settled).await);
                self.witness().worth(asked) == Worth::Counts
            }
        }
    }

    fn witness(&self) -> MutexGuard<'_, Witness> {
        self.witness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn saw(&self, heard: &Heard) {
        if let Heard::Reply(reply) = heard
            && matches!(reply.status, 401 | 403)
        {
            self.wire.doubt_secrets().await;
        }
    }
}

impl Rail for Http {
    fn name(&self) -> &'static str {
        self.name
    }

    fn terms(&self) -> Terms {
        self.settings.terms
    }

    async fn submit(&self, order: &Order) -> Answer {
        let heard = self.post(order).await;
        self.saw(&heard).await;
        let answer = self.settings.mapping.answer(&heard, order.key());
        if matches!(answer, Answer::Settled(_)) {
            self.witness().settled(order.key(), Instant::now(), self.settings.terms.key_retention);
        }
        answer
    }

    fn answers_inquiries(&self) -> bool {
        self.settings.inquiry.is_some()
    }

    async fn inquire(&self, key: &RailKey) -> Finding {
        let finding = self.ask(key).await;
        if finding == Finding::NotFound && !self.not_found_counts(key).await {
            return Finding::CannotSay;
        }
        finding
    }
}

impl HttpSettings {
    /// How long a claim on a payment has to last so that no call outlives it by default: the wait for a connection,
    /// the call, and the time to record its answer.
    #[must_use]
    pub fn claim(&self) -> Duration {
        self.terms.deadline.saturating_mul(3).saturating_add(Duration::from_secs(5))
    }
}
