//! The sample events, line by line: decoded, judged and compared with what must become of them.

#![expect(clippy::expect_used, reason = "a test stops where its own files are wrong")]

use std::collections::HashMap;

use acquit::domain::{Fingerprint, OrderKey, SchemeName};
use acquit::intake::{Contract, Decode, Instants, Judged, Raw, Rules, Scheme, Unreadable};
use serde::Deserialize;

const EVENTS: &str = include_str!("data/payments-sample.jsonl");
const EXPECTED: &str = include_str!("data/payments-sample.expected.jsonl");

#[derive(Deserialize)]
struct Expected {
    line: usize,
    payment_id: Option<String>,
    outcome: String,
    code: Option<String>,
}

fn scheme_of(body: &str) -> SchemeName {
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let name = value.get("scheme").and_then(|scheme| scheme.as_str()).unwrap_or("book");
    SchemeName::parse(name).expect("a scheme of the sample")
}

#[test]
fn every_line_of_the_sample_becomes_what_the_expected_file_says() {
    let built_in =
        |name: &str| SchemeName::parse(name).ok().and_then(|name| Scheme::built_in(&name)).expect("built in");
    let rules = Rules::new(Scheme::BUILT_IN.iter().map(|name| built_in(name)).collect());
    let at = "2026-11-23T10:00:00Z".parse().expect("valid");
    let order_key = OrderKey::parse("unread").expect("valid");
    let mut settled: HashMap<String, Fingerprint> = HashMap::new();

    let expected: Vec<Expected> =
        EXPECTED.lines().map(|line| serde_json::from_str(line).expect("the expected file")).collect();
    assert_eq!(EVENTS.lines().count(), expected.len());
    for (body, expected) in EVENTS.lines().zip(&expected) {
        let scheme = scheme_of(body);
        let raw = Raw { scheme: &scheme, order_key: &order_key, header: &|_| None, body: body.as_bytes() };
        let (payment_id, outcome, code) = match Contract.decode(raw) {
            Err(Unreadable::NewerContract { .. }) => panic!("line {}: no header was given", expected.line),
            Err(Unreadable::Malformed(reason)) => (None, "dead-lettered", Some(reason.code.to_string())),
            Ok(decoded) => {
                let judged = rules.judge(decoded, &scheme, Instants { requested_at: at, now: at });
                let id = judged.payment_id().to_string();
                // What the store would say: it answers before the judgement counts.
                let (outcome, code) = match (settled.get(&id), &judged) {
                    (Some(earlier), _) if *earlier == judged.fingerprint() => ("duplicate", None),
                    (Some(_), _) => ("dead-lettered", Some("AM05".to_owned())),
                    (None, Judged::Refused(refused)) => {
                        ("rejected", refused.reasons().first().map(|reason| reason.code.to_string()))
                    }
                    (None, Judged::Valid(_)) => {
                        settled.insert(id.clone(), judged.fingerprint());
                        ("settled", None)
                    }
                };
                (Some(id), outcome, code)
            }
        };
        assert_eq!((outcome, code), (expected.outcome.as_str(), expected.code.clone()), "line {}", expected.line);
        if expected.payment_id.is_some() {
            assert_eq!(payment_id, expected.payment_id, "line {}", expected.line);
        }
    }
}

#[test]
fn each_rejected_line_of_the_sample_has_one_defect() {
    let built_in =
        |name: &str| SchemeName::parse(name).ok().and_then(|name| Scheme::built_in(&name)).expect("built in");
    let rules = Rules::new(Scheme::BUILT_IN.iter().map(|name| built_in(name)).collect());
    let at = "2026-11-23T10:00:00Z".parse().expect("valid");
    let order_key = OrderKey::parse("unread").expect("valid");
    for (number, body) in EVENTS.lines().enumerate() {
        let scheme = scheme_of(body);
        let raw = Raw { scheme: &scheme, order_key: &order_key, header: &|_| None, body: body.as_bytes() };
        let Ok(decoded) = Contract.decode(raw) else { continue };
        if let Judged::Refused(refused) = rules.judge(decoded, &scheme, Instants { requested_at: at, now: at }) {
            // A missing amount lacks two required fields.
            let missing_amount = refused.reasons().iter().all(|reason| reason.path.starts_with("/amount/"));
            assert!(refused.reasons().len() == 1 || missing_amount, "line {}: {refused:?}", number + 1);
        }
    }
}
