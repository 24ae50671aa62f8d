use std::time::{Duration, Instant};

use super::super::{Http, HttpSetUp};
use super::harness::{Act, DEADLINE, Orders, Raw, SETTLED, json, payment, rail, reply, settings, settled};
use crate::domain::{Answer, Finding, NotSent, RailKey};
use crate::rails::Rail;

/// What a rail says to one submission, where its server does `act`; and that it was asked once.
async fn said(act: Act) -> Answer {
    let server = Raw::start(act).await;
    let rail = rail(&server.base()).await;
    let answer = rail.submit(&Orders::new().order("P-1").await).await;
    assert_eq!(server.requests(), 1, "sent once, whatever came of it");
    answer
}

async fn found(act: Act) -> Finding {
    let server = Raw::start(act).await;
    let rail = rail(&server.base()).await;
    rail.inquire(&RailKey::of(&payment("P-1").payment_id, 0)).await
}

#[tokio::test]
async fn a_connection_lost_after_the_request_is_unknown() {
    assert_eq!(said(Act::Reset).await, Answer::Unknown);
    assert_eq!(said(Act::Say(Vec::new())).await, Answer::Unknown, "closed without a word");
    assert_eq!(said(Act::Say(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec())).await, Answer::Unknown, "half a head");
    assert_eq!(found(Act::Reset).await, Finding::CannotSay);
}

#[tokio::test]
async fn half_a_body_is_unknown_whatever_its_status_line_says() {
    let whole = json(200, SETTLED);
    let half = whole[..whole.len() - 5].to_vec();
    assert_eq!(said(Act::Say(half.clone())).await, Answer::Unknown);
    assert_eq!(found(Act::Say(half)).await, Finding::CannotSay);
}

#[tokio::test]
async fn a_rail_that_never_answers_or_drips_is_given_up_after_twice_the_deadline_and_unknown() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 90000\r\n\r\n{".to_vec();
    for act in [Act::Hang, Act::Drip(head)] {
        let began = Instant::now();
        assert_eq!(said(act).await, Answer::Unknown);
        assert!((DEADLINE..DEADLINE * 20).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_or_not_json_is_unknown() {
    let huge = format!(r#"{{"status":"ACSC","reference":"R-1","x":"{}"}}"#, "x".repeat(70_000));
    assert_eq!(said(Act::Say(json(200, &huge))).await, Answer::Unknown);
    let html = reply(200, "content-type: text/html\r\n", SETTLED);
    assert_eq!(said(Act::Say(html)).await, Answer::Unknown, "another kind of content");
    assert_eq!(said(Act::Say(json(200, "<html>"))).await, Answer::Unknown);
    let problem = reply(200, "content-type: application/vnd.bank+json; charset=utf-8\r\n", SETTLED);
    assert_eq!(said(Act::Say(problem)).await, settled());
    assert_eq!(said(Act::Say(reply(200, "", SETTLED))).await, settled(), "a reply without a kind is tried");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_unknown() {
    let elsewhere = Raw::start(Act::Say(json(200, SETTLED))).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {}/payments\r\n", elsewhere.base());
        assert_eq!(said(Act::Say(reply(status, &location, ""))).await, Answer::Unknown, "{status}");
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn what_the_rail_calls_unprocessed_is_not_sent_with_the_wait_that_it_asks_for() {
    let wait = |seconds: Option<u64>| {
        Answer::NotSent(NotSent::SaidNotProcessed { retry_after: seconds.map(Duration::from_secs) })
    };
    assert_eq!(said(Act::Say(reply(429, "retry-after: 7\r\n", ""))).await, wait(Some(7)));
    assert_eq!(said(Act::Say(reply(503, "retry-after: soon\r\n", ""))).await, wait(None));
    assert_eq!(said(Act::Say(reply(429, "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n", ""))).await, wait(Some(0)));
    assert_eq!(said(Act::Say(reply(502, "retry-after: 7\r\n", ""))).await, Answer::Unknown);
}

#[tokio::test]
async fn a_rail_that_cannot_be_reached_was_sent_nothing() {
    let orders = Orders::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let answer = rail(&closed).await.submit(&orders.order("P-1").await).await;
    assert_eq!(answer, Answer::NotSent(NotSent::Connect));
    let answer = rail("http://no-such-host.invalid").await.submit(&orders.order("P-2").await).await;
    // A machine without name service may take longer to say so than a connection may take.
    assert!(matches!(answer, Answer::NotSent(NotSent::Resolve | NotSent::Connect)), "{answer:?}");
    // Not routed anywhere: nobody answers the first packet.
    let answer = rail("http://192.0.2.1:9").await.submit(&orders.order("P-3").await).await;
    assert_eq!(answer, Answer::NotSent(NotSent::Connect));
}

#[tokio::test]
async fn no_more_is_under_way_than_the_bound_and_what_finds_no_connection_was_not_sent() {
    let server = Raw::start(Act::Hang).await;
    let mut bounded = settings(&server.base());
    bounded.connections = 2;
    let rail = Http::new(bounded).await.unwrap();
    let orders = Orders::new();
    let (a, b, c) = (orders.order("P-1").await, orders.order("P-2").await, orders.order("P-3").await);
    let (a, b, c) = tokio::join!(rail.submit(&a), rail.submit(&b), rail.submit(&c));
    assert_eq!([a, b, c], [Answer::Unknown, Answer::Unknown, Answer::NotSent(NotSent::Pool)]);
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn an_order_past_its_deadline_is_not_sent() {
    let server = Raw::start(Act::Say(json(200, SETTLED))).await;
    let expired = crate::domain::Payment { expires_at: Some(jiff::Timestamp::now()), ..payment("P-1") };
    let orders = Orders::new();
    let late = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(150);
    let order = orders.order_of(crate::domain::Payment { expires_at: Some(late), ..expired }).await;
    while jiff::Timestamp::now() < late {
        tokio::task::yield_now().await;
    }
    assert_eq!(rail(&server.base()).await.submit(&order).await, Answer::NotSent(NotSent::Pool));
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn secrets_go_with_each_request_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings(&format!("http://{}", listener.local_addr().unwrap()));
    settings.token_file = Some(file("token", "CANARYTOKEN\n"));
    settings.headers = vec![("x-tenant".parse().unwrap(), file("tenant", " CANARYTENANT "))];
    let rail = Http::new(settings.clone()).await.unwrap();
    let order = Orders::new().order("P-1").await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = super::harness::read_request(&mut stream).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &json(200, SETTLED)).await.unwrap();
        request
    };
    let (answer, request) = tokio::join!(rail.submit(&order), server);
    assert_eq!(answer, settled());
    for line in [
        "POST /payments HTTP/1.1".to_owned(),
        "authorization: Bearer CANARYTOKEN".to_owned(),
        "x-tenant: CANARYTENANT".to_owned(),
        "content-type: application/json".to_owned(),
        format!("idempotency-key: {}", order.key().as_str()),
    ] {
        assert!(request.lines().any(|had| had == line), "{line} in {request}");
    }
    let shown = format!("{rail:?} {settings:?} {answer:?}");
    assert!(!shown.contains("CANARY"), "{shown}");

    std::fs::remove_file(folder.path().join("token")).unwrap();
    let error = Http::new(settings).await.unwrap_err();
    assert!(matches!(error, HttpSetUp::Header) && !error.to_string().contains("token\""), "{error}");
}
