//! Traces as a receiver sees them, and a receiver that is of no use.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::http_rail::Bank;
use crate::load::Load;
use crate::process::{Worker, wait_until};
use crate::site::{Role, Setup, Site};
use crate::tracking::track;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PUBLISHER: &str = "00f067aa0ba902b7";
/// What no span may hold: names, accounts, texts, amounts, and what a publisher writes into other headers.
const CANARIES: [&str; 6] =
    ["Canary Bakery", "GB29NWBK60161331926819", "DE89370400440532013000", "canary invoice", "31337.42", "canary-state"];

/// How a receiver treats a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Takes,
    NeverAnswers,
}

/// A receiver of OTLP over HTTP: what it was sent, and where.
struct Receiver {
    endpoint: String,
    posts: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Receiver {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let posts: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = Arc::clone(&posts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(receive(stream, manner, Arc::clone(&kept)));
            }
        });
        Self { endpoint, posts }
    }

    fn posts(&self) -> Vec<Vec<u8>> {
        self.posts.lock().unwrap().clone()
    }

    /// Every span with the attributes of its resource.
    fn spans(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        for post in self.posts() {
            let request = ExportTraceServiceRequest::decode(post.as_slice()).expect("a request of the protocol");
            for resource in request.resource_spans {
                let service = texts(&resource.resource.unwrap().attributes);
                for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                    seen.push(Seen { attributes: texts(&span.attributes), service: service.clone(), span });
                }
            }
        }
        seen
    }
}

/// Reads posts from one connection until it ends.
async fn receive(mut stream: TcpStream, manner: Manner, posts: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut read = Vec::new();
    loop {
        let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") else {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
        assert!(
            head.starts_with("post /v1/traces ") && head.contains("content-type: application/x-protobuf"),
            "{head}"
        );
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        let mut body = read.split_off(end + 4);
        while body.len() < length {
            if stream.read_buf(&mut body).await.unwrap_or(0) == 0 {
                return;
            }
        }
        read = body.split_off(length);
        posts.lock().unwrap().push(body);
        if manner == Manner::NeverAnswers {
            std::future::pending::<()>().await;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    }
}

/// A span as it arrived.
#[derive(Debug, Clone)]
struct Seen {
    span: Span,
    attributes: BTreeMap<String, String>,
    service: BTreeMap<String, String>,
}

impl Seen {
    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

fn texts(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Any| {
        if let Any::StringValue(text) = value {
            return text.clone();
        }
        if let Any::IntValue(number) = value { number.to_string() } else { panic!("{value:?}") }
    };
    let value = |pair: &opentelemetry_proto::tonic::common::v1::KeyValue| pair.value.clone()?.value;
    attributes.iter().filter_map(|pair| Some((pair.key.clone(), text(&value(pair)?)))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn worker(site: &Site, endpoint: &str) -> Worker {
    let mut command = site.command(Role::Worker, &["run"]);
    command.env("ACQUIT_TELEMETRY_OTLP_ENDPOINT", endpoint);
    Worker::start(command).await
}

/// A payment full of canaries.
fn payment(id: &str, scheme: &str) -> Bytes {
    let account = |iban: &str| json!({ "iban": iban });
    json!({
        "payment_id": id, "scheme": scheme, "amount": { "currency": "EUR", "value": "31337.42" },
        "debtor": { "name": "Canary Bakery" }, "creditor": { "name": "Canary Bakery" },
        "debtor_account": account("GB29NWBK60161331926819"), "creditor_account": account("DE89370400440532013000"),
        "remittance": { "unstructured": "canary invoice" },
    })
    .to_string()
    .into()
}

/// Publishes one body the way a tracing publisher does.
async fn publish(site: &Site, key: &str, id: &str, body: Bytes, parent: &str) {
    let headers =
        [("traceparent".to_owned(), parent.to_owned()), ("tracestate".to_owned(), "vendor=canary-state".to_owned())];
    let (subject, stream) = (format!("payments.requested.book.{key}"), &site.broker.streams().payments);
    site.broker.publish_confirmed(&subject, id, &headers, body, stream).await.unwrap();
}

fn parent_of_publisher() -> String {
    format!("00-{TRACE}-{PUBLISHER}-01")
}

/// One series of `/metrics`.
async fn metric(worker: &Worker, series: &str) -> u64 {
    let (_, text) = worker.page("/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("{series}: {text}"));
    line.trim().parse().unwrap()
}

/// Of the settled event, in the publisher's trace.
fn is_the_process_span(process: &Seen, id: &str) {
    assert_eq!(process.span.name, "process payments.requested");
    assert_eq!((hex(&process.span.trace_id), hex(&process.span.parent_span_id)), (TRACE.into(), PUBLISHER.into()));
    let expected = [
        ("messaging.system", "nats"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "payments.requested"),
        ("messaging.consumer.group.name", "acquit-payments"),
        ("messaging.message.id", id),
        ("messaging.nats.stream", "PAYMENTS"),
        ("messaging.nats.consumer", "acquit-payments"),
        ("messaging.nats.message.subject", "payments.requested.book.k1"),
        ("messaging.nats.message.stream_sequence", "1"),
        ("messaging.nats.message.delivery_count", "1"),
        ("acquit.lane", "payments"),
        ("acquit.payment_id", "PAY-TRACED"),
    ];
    for (name, value) in expected {
        assert_eq!(process.get(name), Some(value), "{name}");
    }
    assert_eq!(process.service["service.name"], "acquit");
}

fn has_its_steps(process: &Seen, spans: &[Seen]) {
    let mut children: Vec<_> = spans.iter().filter(|s| s.span.parent_span_id == process.span.span_id).collect();
    children.sort_by_key(|seen| seen.span.start_time_unix_nano);
    let named: Vec<_> =
        children.iter().map(|seen| (seen.span.name.as_str(), seen.get("acquit.outcome").unwrap())).collect();
    let steps = [
        ("validate payment", "valid"),
        ("settle-payment attempt", "final"),
        ("publish payments.settled", "confirmed"),
        ("ack payments.requested", "confirmed"),
    ];
    assert_eq!(named, steps);
    assert_eq!(children[2].span.kind(), SpanKind::Producer);
    assert_eq!(children[3].get("messaging.operation.type"), Some("settle"));
}

#[tokio::test]
async fn an_events_span_continues_the_publishers_trace_and_holds_no_value_of_the_event() {
    let site = Site::new(Setup::default()).await;
    let receiver = Receiver::start(Manner::Takes).await;
    let worker = worker(&site, &receiver.endpoint).await;
    let settled = payment("PAY-TRACED", "book");
    let id = format!("PAY-TRACED:{}", "0123456789abcdef");
    publish(&site, "k1", &id, settled, &parent_of_publisher()).await;
    publish(&site, "k2", "Canary Bakery", payment("PAY-REFUSED", "sct"), &parent_of_publisher()).await;
    publish(&site, "k3", "canary invoice", "Canary Bakery sends no payment".into(), &parent_of_publisher()).await;
    publish(&site, "k4", "not-sampled", payment("PAY-QUIET", "book"), &format!("00-{TRACE}-{PUBLISHER}-00")).await;
    site.drained(&worker).await;
    let ended = |outcome: &str| {
        let processed =
            |seen: &Seen| seen.span.kind() == SpanKind::Consumer && seen.get("acquit.outcome") == Some(outcome);
        receiver.spans().into_iter().find(processed)
    };
    wait_until("three spans arrive", Duration::from_secs(10), async || {
        ["settled", "rejected", "dead_lettered"].iter().all(|outcome| ended(outcome).is_some())
    })
    .await;
    assert_eq!(metric(&worker, "acquit_spans_dropped_total{reason=\"queue_full\"}").await, 0);
    worker.stop().await;
    let spans = receiver.spans();

    let process = ended("settled").unwrap();
    is_the_process_span(&process, &id);
    has_its_steps(&process, &spans);
    let dead = ended("dead_lettered").unwrap();
    assert_eq!(dead.get("error.type"), Some("FF01"));
    let refused = ended("rejected").unwrap();
    assert_eq!((refused.get("messaging.message.id"), refused.get("acquit.payment_id")), (None, Some("PAY-REFUSED")));
    assert!(spans.iter().all(|seen| seen.get("acquit.payment_id") != Some("PAY-QUIET")), "it is not sampled");

    // What comes out goes on from the event's span; unsampled, from the publisher's.
    let onward = async |stream: &str, subject: &str| {
        let stored = site.broker.last_on(stream, subject).await.unwrap();
        stored.header("traceparent").map(str::to_owned).unwrap()
    };
    let from = |seen: &Seen| format!("00-{TRACE}-{}-01", hex(&seen.span.span_id));
    assert_eq!(onward("PAYMENT_OUTCOMES", "payments.settled.book.k1").await, from(&process));
    assert_eq!(onward("PAYMENT_OUTCOMES", "payments.rejected.book.k2").await, from(&refused));
    assert_eq!(onward("PAYMENT_DEAD_LETTERS", "payments.dead.>").await, from(&dead));
    let quiet = format!("00-{TRACE}-{PUBLISHER}-00");
    assert_eq!(onward("PAYMENT_OUTCOMES", "payments.settled.book.k4").await, quiet);

    for canary in CANARIES {
        let held = |post: &Vec<u8>| post.windows(canary.len()).any(|window| window == canary.as_bytes());
        assert!(!receiver.posts().iter().any(held), "{canary} is in a span");
    }
    site.reconciled().await;
}

#[tokio::test]
async fn a_sweeps_span_goes_on_behind_that_of_the_event_it_stands_for() {
    let site = Site::new(Setup::default()).await;
    let receiver = Receiver::start(Manner::Takes).await;
    let late = "idempotent = false\n[[behaviour]]\nkind = \"in_progress\"\nafter = \"2s\"\n";
    let bank = Bank::start(&site, late, None).await;
    track(&site, bank.address, "");
    let worker = worker(&site, &receiver.endpoint).await;
    let id = format!("PAY-SWEPT:{}", "0123456789abcdef");
    publish(&site, "k1", &id, payment("PAY-SWEPT", "book"), &parent_of_publisher()).await;
    let sweeps = || receiver.spans().into_iter().filter(|seen| seen.span.name == "sweep payment");
    wait_until("the last sweep arrives", Duration::from_secs(60), async || {
        sweeps().any(|seen| seen.get("acquit.outcome") == Some("settled"))
    })
    .await;
    worker.stop().await;
    let spans = receiver.spans();
    let process = spans.iter().find(|seen| seen.span.kind() == SpanKind::Consumer).unwrap();
    assert_eq!(process.get("acquit.outcome"), Some("tracked"));
    for seen in sweeps() {
        assert_eq!((hex(&seen.span.trace_id), &seen.span.parent_span_id), (TRACE.into(), &process.span.span_id));
        assert_eq!((seen.span.kind(), seen.get("acquit.payment_id")), (SpanKind::Internal, Some("PAY-SWEPT")));
        assert_eq!(seen.get("messaging.nats.message.stream_sequence"), Some("1"));
    }
    let steps = |of: &Seen| {
        let mut steps: Vec<_> = spans.iter().filter(|seen| seen.span.parent_span_id == of.span.span_id).collect();
        steps.sort_by_key(|seen| seen.span.start_time_unix_nano);
        steps.into_iter().map(|seen| (seen.span.name.clone(), seen.get("acquit.outcome").unwrap().to_owned())).collect()
    };
    let last = sweeps().find(|seen| seen.get("acquit.outcome") == Some("settled")).unwrap();
    let asked: Vec<(String, String)> = sweeps().flat_map(|seen| -> Vec<_> { steps(&seen) }).collect();
    assert!(asked.contains(&("inquire payment".to_owned(), "settled".to_owned())), "{asked:?}");
    let published = ("publish payments.settled".to_owned(), "confirmed".to_owned());
    let of_last: Vec<(String, String)> = steps(&last);
    assert_eq!(
        (of_last.first().map(|(name, _)| name.as_str()), of_last.last()),
        (Some("claim payment"), Some(&published))
    );
    let stored = site.broker.last_on("PAYMENT_OUTCOMES", "payments.settled.book.k1").await.unwrap();
    assert_eq!(stored.header("traceparent"), Some(format!("00-{TRACE}-{}-01", hex(&last.span.span_id)).as_str()));
    for canary in CANARIES {
        let held = |post: &Vec<u8>| post.windows(canary.len()).any(|window| window == canary.as_bytes());
        assert!(!receiver.posts().iter().any(held), "{canary} is in a span");
    }
}

#[tokio::test]
async fn a_receiver_that_never_answers_costs_spans_and_nothing_else() {
    let site = Site::new(Setup::default()).await;
    let receiver = Receiver::start(Manner::NeverAnswers).await;
    let worker = worker(&site, &receiver.endpoint).await;
    // More spans than the queue holds, with what one post takes along.
    let load = Load::plain(21, 3_000);
    site.publish(&load).await;
    site.drained(&worker).await;
    assert!(metric(&worker, "acquit_spans_dropped_total{reason=\"queue_full\"}").await > 0);
    assert_eq!(metric(&worker, "acquit_spans_sent_total").await, 0);
    assert!(!receiver.posts().is_empty(), "it was asked");
    let begun = Instant::now();
    worker.stop().await;
    // A pull's second, two seconds for the last spans, and what a busy machine adds.
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    site.balances(load.expected).await;
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_said_once_and_spans_are_counted() {
    let site = Site::new(Setup::default()).await;
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let worker = worker(&site, &format!("http://127.0.0.1:{port}")).await;
    for seed in 22..25 {
        site.publish(&Load::plain(seed, 10)).await;
        site.drained(&worker).await;
    }
    wait_until("spans are dropped", Duration::from_secs(10), async || {
        metric(&worker, "acquit_spans_dropped_total{reason=\"not_taken\"}").await >= 150
    })
    .await;
    assert_eq!(worker.times_said("the OTLP endpoint takes no spans; they are dropped"), 1);
    worker.stop().await;
    assert_eq!(site.reconciled().await.settled, 30);
}
