use std::time::Duration;

use super::super::mapping::{Heard, Mapping, MappingParts, Reply};
use super::harness::{SETTLED, parts, settled};
use crate::domain::{Answer, Code, Finding, NotSent, PaymentId, RailKey};

const AFTER: Option<Duration> = Some(Duration::from_secs(7));
const NOT_PROCESSED: NotSent = NotSent::SaidNotProcessed { retry_after: AFTER };

fn key() -> RailKey {
    RailKey::of(&PaymentId::parse("P-1").unwrap(), 0)
}

fn heard(status: u16, body: &str) -> Heard {
    Heard::Reply(Reply { status, retry_after: AFTER, body: serde_json::from_str(body).ok() })
}

fn answer(status: u16, body: &str) -> Answer {
    Mapping::new(parts()).unwrap().answer(&heard(status, body), &key())
}

fn finding(status: u16, body: &str) -> Finding {
    Mapping::new(parts()).unwrap().finding(&heard(status, body), &key())
}

fn rejected(code: Code, resubmit: bool) -> Answer {
    Answer::Rejected { code, resubmit }
}

#[test]
fn what_cannot_have_been_sent_is_not_sent_and_what_got_no_reply_is_unknown() {
    let mapping = Mapping::new(parts()).unwrap();
    for why in [NotSent::Resolve, NotSent::Connect, NotSent::Tls, NotSent::Pool, NotSent::OurFault] {
        assert_eq!(mapping.answer(&Heard::Unreached(why.clone()), &key()), Answer::NotSent(why.clone()));
        assert_eq!(mapping.finding(&Heard::Unreached(why), &key()), Finding::CannotSay);
    }
    assert_eq!(mapping.answer(&Heard::Nothing, &key()), Answer::Unknown);
    assert_eq!(mapping.finding(&Heard::Nothing, &key()), Finding::CannotSay);
}

#[test]
fn every_status_without_a_word_of_the_mapping_means_what_the_table_says() {
    for status in 200..600_u16 {
        let expected = match status {
            401 | 403 | 404 => Answer::NotSent(NotSent::OurFault),
            429 | 400 | 503 => Answer::NotSent(NOT_PROCESSED),
            422 => Answer::Blocked,
            _ => Answer::Unknown,
        };
        for body in ["", "<html>", "{}", r#"{"status":null}"#, r#"{"status":"odd"}"#, r#"{"state":"ACSC"}"#, "[]"] {
            assert_eq!(answer(status, body), expected, "{status} {body}");
            assert_eq!(finding(status, body), Finding::CannotSay, "{status} {body}");
        }
    }
}

#[test]
fn a_status_word_counts_in_a_reply_that_is_about_the_payment_and_in_no_other() {
    for status in 200..600_u16 {
        let expected = match status {
            401 | 403 | 404 => Answer::NotSent(NotSent::OurFault),
            429 | 503 => Answer::NotSent(NOT_PROCESSED),
            200..=299 | 400..=407 | 409..=499 => settled(),
            _ => Answer::Unknown,
        };
        assert_eq!(answer(status, SETTLED), expected, "{status}");
        let found = if status < 300 { Finding::Answered(settled()) } else { Finding::CannotSay };
        assert_eq!(finding(status, SETTLED), found, "{status}");
    }
}

#[test]
fn not_found_is_only_what_the_mapping_names_in_a_body() {
    let named = r#"{"status":"NOT_FOUND"}"#;
    for status in 200..600_u16 {
        let expected = if matches!(status, 200..=299 | 404 | 410) { Finding::NotFound } else { Finding::CannotSay };
        assert_eq!(finding(status, named), expected, "{status}");
    }
    assert_eq!(answer(200, named), Answer::Unknown, "a submission that is not found says nothing");
    let silent = Mapping::new(MappingParts { not_found: Vec::new(), ..parts() }).unwrap();
    assert_eq!(silent.finding(&heard(404, named), &key()), Finding::CannotSay);
}

#[test]
fn words_and_reasons_mean_what_the_mapping_says() {
    let cases = [
        (r#"{"status":"ACSP"}"#, Answer::InProgress),
        (r#"{"status":"BLCK"}"#, Answer::Blocked),
        (r#"{"status":"RJCT"}"#, rejected(Code::MS03, false)),
        (r#"{"status":"RJCT","reason":{"code":"odd"}}"#, rejected(Code::MS03, false)),
        (r#"{"status":"RJCT","reason":{"code":"AC04"}}"#, rejected(Code::AC04, false)),
        (r#"{"status":"RJCT","reason":{"code":"no_funds"}}"#, rejected(Code::AM04, false)),
        (r#"{"status":"RJCT","reason":{"code":"AB05"}}"#, rejected(Code::MS03, true)),
        (r#"{"status":"AGAIN","reason":{"code":"no_funds"}}"#, rejected(Code::AM04, true)),
    ];
    for (body, expected) in cases {
        assert_eq!(answer(200, body), expected, "{body}");
        assert_eq!(finding(200, body), Finding::Answered(expected), "{body}");
    }
}

#[test]
fn a_settlement_without_the_reference_that_the_mapping_asks_for_is_unknown() {
    for body in
        [r#"{"status":"ACSC"}"#, r#"{"status":"ACSC","reference":""}"#, r#"{"status":"ACSC","reference":"a b"}"#]
    {
        assert_eq!(answer(200, body), Answer::Unknown, "{body}");
        assert_eq!(finding(200, body), Finding::CannotSay, "{body}");
    }
    let by_key = Mapping::new(MappingParts { reference: None, ..parts() }).unwrap();
    let Answer::Settled(reference) = by_key.answer(&heard(200, r#"{"status":"ACSC"}"#), &key()) else {
        panic!("not settled")
    };
    assert_eq!(reference.as_str(), key().as_str());
    let number = Mapping::new(parts()).unwrap().answer(&heard(201, r#"{"status":"ACSC","reference":77}"#), &key());
    assert!(matches!(number, Answer::Settled(reference) if reference.as_str() == "77"));
}

#[test]
fn a_mapping_that_could_be_misread_is_refused_with_every_rule_it_breaks() {
    let text = |text: &str| text.to_owned();
    let bad = MappingParts {
        status: text("status"),
        reference: Some(text("/a~2b")),
        settled: vec![text("OK")],
        rejected: vec![text("OK")],
        codes: vec![text("x=ZZ99")],
        default_code: text("nope"),
        not_processed: vec![text("500")],
        ..MappingParts::default()
    };
    let fields: Vec<&str> = Mapping::new(bad).unwrap_err().iter().map(|bad| bad.field).collect();
    assert_eq!(fields, ["status", "reference", "rejected", "codes", "default_code", "not_processed"]);
    for status in ["200", "302", "401", "403", "404", "408", "409", "422", "429", "500", "502", "504", "600", "x"] {
        let parts = MappingParts { not_processed: vec![text(status)], ..parts() };
        assert!(Mapping::new(parts).is_err(), "{status} proves nothing");
    }
}
