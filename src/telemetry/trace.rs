//! Distributed traces: one span per event that continues the publisher's trace, and children for its steps.
//!
//! Off, a [`Trace`] is nothing and each use of it is one branch. On, spans go through a bounded queue to a sender of its
//! own (`export`); what does not fit is dropped and counted, so that an endpoint that hangs costs spans and nothing else.
//! No span holds a name, an account, a remittance text or an amount.

mod export;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use url::Url;

use crate::domain::{Code, EventId, PaymentId};

use super::metrics::Finished;
use export::Exporter;

/// Where spans go, and which.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSettings {
    /// An OTLP/HTTP receiver's address; `v1/traces` is put behind its path.
    pub endpoint: Url,
    /// The part of the traces begun here that is sampled, 0 to 1. A publisher's decision goes before it.
    pub ratio: f64,
}

/// Whether and where this process sends spans. Clones share one queue.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Running>>);

struct Running {
    tracer: SdkTracer,
    exporter: Exporter,
    worker: String,
}

impl Traces {
    /// No spans are made.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Starts the sender, on the runtime that calls. `worker` is the service instance's name.
    ///
    /// # Errors
    /// When the HTTP client cannot be built; the text says why.
    pub fn start(settings: &TraceSettings, worker: &str) -> Result<Self, String> {
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", "acquit"),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", worker.to_owned()),
            ])
            .build();
        let (exporter, queue) = export::start(&settings.endpoint, &resource)?;
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.ratio))))
            .with_resource(resource)
            .build();
        Ok(Self(Some(Arc::new(Running { tracer: provider.tracer("acquit"), exporter, worker: worker.to_owned() }))))
    }

    /// Sends what is queued, for at most `within`; what is left then is dropped and counted.
    pub async fn stop(&self, within: Duration) {
        if let Some(running) = &self.0 {
            running.exporter.stop(within).await;
        }
    }

    /// The spans of one lane.
    pub(crate) fn lane(&self, lane: &str, stream: &str, consumer: &str) -> LaneTraces {
        LaneTraces(self.0.as_ref().map(|running| {
            let common = vec![
                KeyValue::new("messaging.system", "nats"),
                KeyValue::new("messaging.consumer.group.name", consumer.to_owned()),
                KeyValue::new("messaging.client.id", running.worker.clone()),
                KeyValue::new("messaging.nats.stream", stream.to_owned()),
                KeyValue::new("messaging.nats.consumer", consumer.to_owned()),
                KeyValue::new("acquit.lane", lane.to_owned()),
            ];
            Arc::new(LaneRunning { tracer: running.tracer.clone(), common })
        }))
    }
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Traces").field(&self.0.is_some()).finish()
    }
}

/// What a delivery says of itself.
pub(crate) struct Arrived<'a> {
    pub(crate) traceparent: Option<&'a str>,
    pub(crate) message_id: Option<&'a str>,
    pub(crate) subject: &'a str,
    pub(crate) sequence: u64,
    pub(crate) delivered: u64,
}

/// The destination of all payment events, without the tokens that differ from event to event.
const REQUESTED: &str = "payments.requested";

struct LaneRunning {
    tracer: SdkTracer,
    common: Vec<KeyValue>,
}

/// Begins the traces of one lane's events.
pub(crate) struct LaneTraces(Option<Arc<LaneRunning>>);

impl LaneTraces {
    /// Begins the span of one event; `arrived` is asked only where traces are on.
    pub(crate) fn process<'a>(&self, arrived: impl FnOnce() -> Arrived<'a>) -> Trace {
        let Some(lane) = &self.0 else { return Trace(None) };
        let arrived = arrived();
        let builder = SpanBuilder::from_name("process payments.requested").with_kind(SpanKind::Consumer);
        let Some(mut span) = lane.begin(builder, arrived.traceparent) else { return Trace(None) };
        span.set_attributes([
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.operation.name", "process"),
            KeyValue::new("messaging.destination.name", REQUESTED),
            KeyValue::new("messaging.nats.message.subject", arrived.subject.to_owned()),
            KeyValue::new("messaging.nats.message.stream_sequence", signed(arrived.sequence)),
            KeyValue::new("messaging.nats.message.delivery_count", signed(arrived.delivered)),
        ]);
        // A publisher may write anything into this header; only the contract's form is known to hold nothing private.
        if let Some(id) = arrived.message_id.filter(|id| is_contract_id(id)) {
            span.set_attribute(KeyValue::new("messaging.message.id", id.to_owned()));
        }
        lane.live(span)
    }

    /// Begins the span of one sweep of a tracked payment, behind the span of the delivery that brought it. No message
    /// is received: it is an internal one, and names its event.
    pub(crate) fn sweep(&self, traceparent: Option<&str>, event: &EventId) -> Trace {
        let Some(lane) = &self.0 else { return Trace(None) };
        let builder = SpanBuilder::from_name("sweep payment").with_kind(SpanKind::Internal);
        let Some(mut span) = lane.begin(builder, traceparent) else { return Trace(None) };
        span.set_attribute(KeyValue::new("messaging.nats.message.stream_sequence", signed(event.sequence)));
        lane.live(span)
    }
}

impl LaneRunning {
    /// `None` where it is not sampled.
    fn begin(&self, builder: SpanBuilder, traceparent: Option<&str>) -> Option<opentelemetry_sdk::trace::Span> {
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Incoming(traceparent));
        let mut span = self.tracer.build_with_context(builder, &parent);
        if !span.is_recording() {
            return None;
        }
        span.set_attributes(self.common.iter().cloned());
        Some(span)
    }

    fn live(self: &Arc<Self>, span: opentelemetry_sdk::trace::Span) -> Trace {
        Trace(Some(Arc::new(Live { lane: Arc::clone(self), context: Context::new().with_span(span) })))
    }
}

struct Incoming<'a>(Option<&'a str>);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        // What else a publisher may send along (`tracestate`) is free text and goes no further.
        if key == "traceparent" { self.0 } else { None }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// `<payment_id>:<16 hex digits>`.
fn is_contract_id(id: &str) -> bool {
    id.rsplit_once(':').is_some_and(|(payment, hash)| {
        PaymentId::parse(payment).is_ok() && hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

struct Live {
    lane: Arc<LaneRunning>,
    context: Context,
}

/// An event's span; nothing where traces are off or this one is not sampled. Clones are of the same span.
#[derive(Clone, Default)]
pub(crate) struct Trace(Option<Arc<Live>>);

/// A step of an event's way.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    /// Reading and judging.
    Validate,
    /// Asking the store what stands, and claiming the payment, on a lane with a rail.
    Claim,
    /// Asking the check before settlement.
    Check,
    /// Posting in the book, or one submission to a rail.
    Attempt { rail: &'a str },
    /// Asking a rail what became of a payment.
    Inquire { rail: &'a str },
    /// An outcome event, or a dead letter.
    Publish { name: &'static str, destination: &'static str },
    /// The answer to the broker: `ack`, `nak` or `term`.
    Answer(Answering),
}

/// How a delivery is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answering {
    Ack,
    Nak,
    Term,
}

impl Answering {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Ack => ("ack payments.requested", "ack"),
            Self::Nak => ("nak payments.requested", "nak"),
            Self::Term => ("term payments.requested", "term"),
        }
    }
}

impl Part<'_> {
    /// The outcome event of a settled payment.
    pub(crate) const PUBLISH_SETTLED: Self =
        Self::Publish { name: "publish payments.settled", destination: "payments.settled" };
    /// The outcome event of a rejected one.
    pub(crate) const PUBLISH_REJECTED: Self =
        Self::Publish { name: "publish payments.rejected", destination: "payments.rejected" };

    fn builder(self) -> SpanBuilder {
        let operation = |kind: &'static str, name: &'static str, destination: &'static str| {
            vec![
                KeyValue::new("messaging.system", "nats"),
                KeyValue::new("messaging.operation.type", kind),
                KeyValue::new("messaging.operation.name", name),
                KeyValue::new("messaging.destination.name", destination),
            ]
        };
        let (name, kind, attributes) = match self {
            Self::Validate => ("validate payment", SpanKind::Internal, Vec::new()),
            Self::Claim => ("claim payment", SpanKind::Internal, Vec::new()),
            Self::Check => ("check payment", SpanKind::Internal, Vec::new()),
            Self::Attempt { rail } => {
                let kind = if rail == "book" { SpanKind::Internal } else { SpanKind::Client };
                ("settle-payment attempt", kind, vec![KeyValue::new("acquit.rail", rail.to_owned())])
            }
            Self::Inquire { rail } => {
                ("inquire payment", SpanKind::Client, vec![KeyValue::new("acquit.rail", rail.to_owned())])
            }
            Self::Publish { name, destination } => {
                (name, SpanKind::Producer, operation("send", "publish", destination))
            }
            Self::Answer(answering) => {
                let (name, word) = answering.names();
                (name, SpanKind::Client, operation("settle", word, REQUESTED))
            }
        };
        SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes)
    }
}

impl Trace {
    /// Begins the span of a step.
    pub(crate) fn part(&self, part: Part<'_>) -> Span {
        Span(self.0.as_ref().map(|live| Box::new(live.lane.tracer.build_with_context(part.builder(), &live.context))))
    }

    /// What goes on as `traceparent` with what this event leads to: this span where there is one, else what came.
    pub(crate) fn onward<'a>(&self, incoming: Option<&'a str>) -> Option<Cow<'a, str>> {
        let Some(live) = &self.0 else { return incoming.map(Cow::Borrowed) };
        let span = live.context.span();
        let context = span.span_context();
        Some(Cow::Owned(format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags())))
    }

    /// Names the payment, once it is read.
    pub(crate) fn payment(&self, id: &PaymentId) {
        if let Some(live) = &self.0 {
            live.context.span().set_attribute(KeyValue::new("acquit.payment_id", id.as_str().to_owned()));
        }
    }

    /// The code under which the event leaves as a dead letter.
    pub(crate) fn condemned(&self, code: Code) {
        if let Some(live) = &self.0 {
            live.context.span().set_attribute(KeyValue::new("error.type", code.as_str()));
        }
    }

    /// Ends the span of a sweep: `settled` or `rejected` where that is told, else what it waits for.
    pub(crate) fn swept(&self, outcome: &'static str) {
        let Some(live) = &self.0 else { return };
        let span = live.context.span();
        span.set_attribute(KeyValue::new("acquit.outcome", outcome));
        span.end();
    }

    /// Ends the span of an event.
    pub(crate) fn finish(&self, how: Finished) {
        let Some(live) = &self.0 else { return };
        let span = live.context.span();
        span.set_attribute(KeyValue::new("acquit.outcome", how.name()));
        match how {
            Finished::Settled | Finished::Rejected | Finished::Duplicate | Finished::Tracked | Finished::Retried => {}
            Finished::DeadLettered | Finished::Abandoned => span.set_status(Status::error(how.name())),
        }
        span.end();
    }
}

/// The span of a step; dropped, it ends without an outcome.
#[must_use]
pub(crate) struct Span(Option<Box<opentelemetry_sdk::trace::Span>>);

impl Span {
    /// Ends with what became of the step.
    pub(crate) fn end(self, outcome: &'static str) {
        if let Some(mut span) = self.0 {
            span.set_attribute(KeyValue::new("acquit.outcome", outcome));
            span.end();
        }
    }

    /// Ends in a failure of a kind that has a name.
    pub(crate) fn fail(self, kind: &'static str) {
        if let Some(mut span) = self.0 {
            span.set_attribute(KeyValue::new("error.type", kind));
            span.set_status(Status::error(kind));
            span.end();
        }
    }

    /// Ends with whether the broker has confirmed it.
    pub(crate) fn confirmed(self, is: bool) {
        if is { self.end("confirmed") } else { self.fail("not_confirmed") }
    }

    /// Ends with a refusal of the event: no failure of ours.
    pub(crate) fn refuse(self, code: Code) {
        if let Some(mut span) = self.0 {
            span.set_attribute(KeyValue::new("acquit.outcome", "refused"));
            span.set_attribute(KeyValue::new("error.type", code.as_str()));
            span.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_nothing_is_asked_and_the_publishers_trace_goes_on() {
        let lane = Traces::off().lane("payments", "PAYMENTS", "acquit-payments");
        let trace = lane.process(|| panic!("an event was asked about itself"));
        assert_eq!(trace.onward(Some("00-a-b-01")).as_deref(), Some("00-a-b-01"));
        assert_eq!(trace.onward(None), None);
        assert!(trace.part(Part::Validate).0.is_none());
    }

    #[test]
    fn only_a_message_id_of_the_contracts_form_is_an_attribute() {
        assert!(is_contract_id("PAY-1:0123456789abcdef"));
        for other in ["PAY-1", "PAY-1:0123", "Jane Doe:0123456789abcdef", "PAY-1:0123456789abcdeg", ":0123456789abcdef"]
        {
            assert!(!is_contract_id(other), "{other}");
        }
    }
}
