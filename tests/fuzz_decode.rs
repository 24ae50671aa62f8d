//! Ten seconds (or `ACQUIT_FUZZ_SECONDS`) of damaged events through decode and judge: whatever comes, no panic.
//!
//! The seed is printed; `ACQUIT_FUZZ_SEED` runs the same inputs again.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test stops where its own inputs are wrong, and tells its seed"
)]

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use acquit::domain::{OrderKey, SchemeName};
use acquit::intake::{Contract, Decode, Instants, Judged, Raw, Rules, Scheme};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

const EVENTS: &str = include_str!("data/payments-sample.jsonl");

/// Pieces that are likely to reach an edge.
const PIECES: [&str; 22] = [
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "1e308",
    "-0",
    "\\ud83d\\ude00",
    "\u{1d11e}",
    "\u{e9}",
    "\u{0}",
    "//",
    "RF",
    "DE89370400440532013000",
    "2026-11-23",
    "9999-12-31",
    "T00:00:00Z",
    "999999999999999999.99",
];

const HEADERS: [(&str, &str); 6] = [
    ("Content-Type", "application/cloudevents+json"),
    ("Content-Type", "application/cloudevents\u{e9}"),
    ("Content-Type", "application/json"),
    ("ce-specversion", "1.0"),
    ("Acquit-Contract", "1"),
    ("Acquit-Contract", "2"),
];

/// The names of all fields in the sample, which has every one of the contract and some that are none of it.
fn fields(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, inner)| {
            names.insert(name.clone());
            fields(inner, names);
        }),
        Value::Array(items) => items.iter().for_each(|item| fields(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

static FIELDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut names = BTreeSet::new();
    EVENTS.lines().filter_map(|line| serde_json::from_str(line).ok()).for_each(|body| fields(&body, &mut names));
    names.into_iter().collect()
});

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}

fn text(rng: &mut StdRng) -> String {
    let mut text = String::new();
    for _ in 0..rng.random_range(0..4) {
        match rng.random_range(0..3) {
            0 => text.push_str(PIECES.choose(rng).expect("not empty")),
            1 => text.push(rng.random()),
            _ => (0..rng.random_range(0..150)).for_each(|_| text.push(char::from(rng.random_range(b' '..=b'~')))),
        }
    }
    text
}

fn value(rng: &mut StdRng, depth: usize) -> Value {
    match rng.random_range(0..if depth > 20 { 5 } else { 8 }) {
        0 => Value::Null,
        1 => json!(rng.random::<i64>()),
        2 => json!(f64::from_bits(rng.random())),
        3 => json!(rng.random::<bool>()),
        4 => json!(text(rng)),
        5 => (0..rng.random_range(0..4)).map(|_| value(rng, depth + 1)).collect(),
        _ => Value::Object(object(rng, depth + 1)),
    }
}

fn object(rng: &mut StdRng, depth: usize) -> Map<String, Value> {
    let mut map = Map::new();
    for _ in 0..rng.random_range(0..6) {
        let key = if rng.random_bool(0.9) { FIELDS.choose(rng).expect("not empty").clone() } else { text(rng) };
        map.insert(key, value(rng, depth));
    }
    map
}

/// Damages bytes: what JSON no longer is, or a text no longer holds.
fn damage(rng: &mut StdRng, body: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=body.len());
        match rng.random_range(0..6) {
            0 if at < body.len() => body[at] = rng.random(),
            1 if at < body.len() => body[at] ^= 1 << rng.random_range(0..8),
            2 => body.truncate(at),
            3 => {
                let piece = PIECES.choose(rng).expect("not empty").as_bytes();
                body.splice(at..at, piece.iter().copied());
            }
            4 => {
                let end = rng.random_range(at..=body.len());
                let copied = body[at..end].to_vec();
                body.splice(at..at, copied);
            }
            _ => {
                let end = rng.random_range(at..=body.len());
                body.drain(at..end);
            }
        }
        body.truncate(80 * 1024);
    }
}

/// Changes the meaning and keeps the form: a field gets another value.
fn change(rng: &mut StdRng, body: &mut Value) {
    let Some(map) = body.as_object_mut().filter(|map| !map.is_empty()) else { return };
    let at = rng.random_range(0..map.len());
    let Some((key, inner)) = map.iter_mut().nth(at) else { return };
    if inner.is_object() && rng.random_bool(0.7) {
        change(rng, inner);
    } else if rng.random_bool(0.2) {
        let key = key.clone();
        map.remove(&key);
    } else {
        *inner = if rng.random_bool(0.5) { json!(text(rng)) } else { value(rng, 0) };
    }
}

fn input(rng: &mut StdRng, lines: &[&str]) -> Vec<u8> {
    let line = lines.choose(rng).expect("a sample line");
    let mut body = match rng.random_range(0..4) {
        0 => line.as_bytes().to_vec(),
        1 => {
            let mut random = object(rng, 0);
            random.insert("payment_id".to_owned(), json!("PAY-1"));
            Value::Object(random).to_string().into_bytes()
        }
        2 => format!("{}{line}{}", r#"{"specversion":"1.0","data":"#, "}").into_bytes(),
        _ => {
            let mut body = serde_json::from_str(line).unwrap_or_else(|_| json!({"payment_id": "PAY-1"}));
            (0..rng.random_range(1..5)).for_each(|_| change(rng, &mut body));
            body.to_string().into_bytes()
        }
    };
    if rng.random_bool(0.4) {
        damage(rng, &mut body);
    }
    body
}

#[test]
fn no_event_makes_decode_or_judge_panic() {
    let seconds = setting("ACQUIT_FUZZ_SECONDS").unwrap_or(10);
    let seed = setting("ACQUIT_FUZZ_SEED").unwrap_or_else(|| rand::rng().random());
    println!("ACQUIT_FUZZ_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let lines: Vec<&str> = EVENTS.lines().collect();
    let name = |text: &str| SchemeName::parse(text).expect("valid");
    let names: Vec<SchemeName> = Scheme::BUILT_IN.iter().map(|text| name(text)).chain([name("unknown")]).collect();
    let rules = Rules::new(names.iter().filter_map(Scheme::built_in).collect()).with_horizon(u16::MAX);
    let order_key = OrderKey::parse("k").expect("valid");
    let at = "2026-11-23T10:00:00Z".parse().expect("valid");

    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut unreadable, mut refused, mut valid) = (0_u64, 0_u64, 0_u64);
    while Instant::now() < end {
        let body = input(&mut rng, &lines);
        let scheme = names.choose(&mut rng).expect("not empty");
        let headers: Vec<_> = HEADERS.iter().filter(|_| rng.random_bool(0.15)).collect();
        let header = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        let raw = Raw { scheme, order_key: &order_key, header: &header, body: &body };
        match Contract.decode(raw) {
            Err(_) => unreadable += 1,
            Ok(decoded) => {
                let again = Contract.decode(raw).expect("the same bytes give the same answer");
                assert_eq!(decoded.fingerprint(), again.fingerprint());
                match rules.judge(decoded, scheme, Instants { requested_at: at, now: at }) {
                    Judged::Valid(_) => valid += 1,
                    Judged::Refused(it) => {
                        assert!(!it.reasons().is_empty());
                        refused += 1;
                    }
                }
            }
        }
    }
    println!("{unreadable} unreadable, {refused} refused, {valid} valid");
    assert!(seconds == 0 || (unreadable > 0 && refused > 0 && valid > 0), "the inputs miss one of the three answers");
}
