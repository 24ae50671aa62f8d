//! Finished spans on their way out: a bounded queue that never waits, and one task that posts it in batches.
//!
//! Not the SDK's own batch processor and exporter: they do not say how many spans they dropped, run on a thread that
//! no deadline ends, and read settings of their own from the environment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use prost::Message as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use url::Url;

use crate::telemetry::Link;
use crate::telemetry::metrics::{Dropped, Spans};

/// Spans waiting to be sent; about a kilobyte each.
const QUEUE: usize = 8_192;
/// Spans in one post.
const BATCH: usize = 512;
/// How long a batch waits to become fuller.
const LINGER: Duration = Duration::from_millis(100);
/// How long one post may take. Meanwhile the queue fills, and then spans are dropped.
const POST: Duration = Duration::from_secs(5);

/// Where finished spans are put; full, it drops and counts.
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    counts: Spans,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.counts.dropped(Dropped::QueueFull, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// A handle on the task that sends.
pub(super) struct Exporter {
    /// Until when it may go on once it is told to stop.
    until: watch::Sender<Option<Instant>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Exporter {
    /// Has it send what is queued for at most `within`, and waits for that.
    pub(super) async fn stop(&self, within: Duration) {
        let now = Instant::now();
        self.until.send_replace(Some(now.checked_add(within).unwrap_or(now)));
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // It ends by that deadline. A panic in it has lost spans and nothing else.
            task.await.ok();
        }
    }
}

/// Starts the task on the runtime that calls.
pub(super) fn start(endpoint: &Url, resource: &Resource) -> Result<(Exporter, Queue), String> {
    let client = reqwest::Client::builder()
        // Collectors are reached in the clear; the client wants to know about TLS all the same.
        .tls_backend_preconfigured(no_tls()?)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(POST)
        .build()
        .map_err(|error| error.to_string())?;
    let (queue, spans) = mpsc::channel(QUEUE);
    let (until, told) = watch::channel(None);
    let counts = Spans::new();
    let sender = Sender {
        spans,
        client,
        url: traces_url(endpoint),
        resource: resource.into(),
        told,
        counts: counts.clone(),
        failing: false,
    };
    let task = Mutex::new(Some(tokio::spawn(sender.run())));
    Ok((Exporter { until, task }, Queue { spans: queue, counts }))
}

/// Trusts nobody.
fn no_tls() -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// `v1/traces` behind the endpoint's path, as the protocol says.
fn traces_url(endpoint: &Url) -> Url {
    let mut url = endpoint.clone();
    url.set_path(&format!("{}/v1/traces", endpoint.path().trim_end_matches('/')));
    url
}

struct Sender {
    spans: mpsc::Receiver<SpanData>,
    client: reqwest::Client,
    url: Url,
    resource: ResourceAttributesWithSchema,
    told: watch::Receiver<Option<Instant>>,
    counts: Spans,
    /// Whether the last post failed: a change is said once.
    failing: bool,
}

impl Sender {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.told.borrow_and_update().is_none() {
            tokio::select! {
                _ = self.told.changed() => break,
                taken = self.spans.recv_many(&mut batch, BATCH) => if taken == 0 { return },
            }
            if batch.len() < BATCH {
                tokio::select! { _ = self.told.changed() => {} () = sleep(LINGER) => {} }
                while batch.len() < BATCH
                    && let Ok(span) = self.spans.try_recv()
                {
                    batch.push(span);
                }
            }
            self.post(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).await;
        }
        self.spans.close();
        while self.spans.recv_many(&mut batch, BATCH).await > 0 {
            self.post(std::mem::take(&mut batch)).await;
        }
    }

    /// Sends one batch, or drops and counts it. Ends at the deadline at the latest.
    async fn post(&mut self, batch: Vec<SpanData>) {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let told = self.told.clone();
        let ended = tokio::select! {
            biased;
            () = over(told) => return self.counts.dropped(Dropped::Shutdown, spans),
            ended = send(&self.client, &self.url, &self.resource, batch) => ended,
        };
        let lost = match &ended {
            Ok(refused) => (*refused).min(spans),
            Err(_) => spans,
        };
        self.counts.sent(spans.saturating_sub(lost));
        self.counts.dropped(Dropped::NotTaken, lost);
        match ended {
            Err(what) if !self.failing => Link::SpansNotTaken { what: &what }.emit(),
            Ok(_) if self.failing => Link::SpansTaken.emit(),
            Ok(_) | Err(_) => {}
        }
        self.failing = lost == spans;
    }
}

/// Ready at the deadline, once there is one.
async fn over(mut told: watch::Receiver<Option<Instant>>) {
    loop {
        let until = *told.borrow_and_update();
        match until {
            Some(until) => return sleep_until(until).await,
            // Nobody is left to stop it: the batch takes its time.
            None if told.changed().await.is_err() => std::future::pending().await,
            None => {}
        }
    }
}

/// One post; gives how many spans the receiver refused.
async fn send(
    client: &reqwest::Client,
    url: &Url,
    resource: &ResourceAttributesWithSchema,
    batch: Vec<SpanData>,
) -> Result<u64, String> {
    let request = ExportTraceServiceRequest { resource_spans: group_spans_by_resource_and_scope(batch, resource) };
    let post = client.post(url.clone()).header("content-type", "application/x-protobuf").body(request.encode_to_vec());
    let answer = post.send().await.map_err(words)?;
    if !answer.status().is_success() {
        return Err(format!("status {}", answer.status().as_u16()));
    }
    let body = answer.bytes().await.map_err(words)?;
    let partial = ExportTraceServiceResponse::decode(body).ok().and_then(|response| response.partial_success);
    Ok(partial.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0)))
}

/// The cause at the bottom: the client's own words only say that a request failed.
fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signals_path_goes_behind_the_endpoints_own() {
        let url = |text: &str| traces_url(&Url::parse(text).unwrap()).to_string();
        assert_eq!(url("http://127.0.0.1:4318"), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(url("http://127.0.0.1:4318/otlp/"), "http://127.0.0.1:4318/otlp/v1/traces");
    }
}
