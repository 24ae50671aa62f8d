//! The sample file: line by line through a worker, and as a whole through the demo.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use serde_json::Value;

use crate::process::program;
use crate::site::{Role, Setup, Site, turn};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn lines(name: &str) -> Vec<Vec<u8>> {
    let text = std::fs::read(data(name)).unwrap();
    text.strip_suffix(b"\n").unwrap_or(&text).split(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
}

/// Outcome and code of each line, as the expected file has them.
fn expected() -> Vec<(String, Option<String>)> {
    let parse = |line: Vec<u8>| {
        let value: Value = serde_json::from_slice(&line).unwrap();
        (value["outcome"].as_str().unwrap().to_owned(), value["code"].as_str().map(str::to_owned))
    };
    lines("payments-sample.expected.jsonl").into_iter().map(parse).collect()
}

/// What the store says became of the event of a sequence.
fn became(store: &Connection, sequence: u64) -> Option<(String, Option<String>)> {
    let sequence = i64::try_from(sequence).unwrap();
    let payment = store
        .query_row("SELECT state FROM payments WHERE sequence = ?1", [sequence], |row| row.get::<_, String>(0))
        .optional()
        .unwrap();
    let event = store
        .query_row("SELECT kind, code FROM events WHERE sequence = ?1", [sequence], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
        })
        .optional()
        .unwrap();
    match (payment, event) {
        (Some(state), None) => Some((state, None)),
        (None, Some((kind, code))) => Some(match kind.as_str() {
            "condemned" => ("dead-lettered".to_owned(), code),
            "duplicate" => (kind, None),
            _ => (kind, code),
        }),
        other => panic!("sequence {sequence}: {other:?}"),
    }
}

#[tokio::test]
async fn every_line_of_the_sample_becomes_what_the_expected_file_says() {
    // One slot: worked on one by one, so that it is certain which of two conflicting lines settles.
    let site = Site::new(Setup { slots: 1, ..Setup::default() }).await;
    let sample = data("payments-sample.jsonl");
    let published = site.acquit(Role::Publisher, &["publish", "--window", "1", sample.to_str().unwrap()]).await;
    assert_eq!(published.code, Some(0), "{published:?}");
    let worker = site.worker().await;
    site.drained(&worker).await;
    worker.stop().await;
    let store = Connection::open_with_flags(site.store(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let (mut seen, mut sequence) = (HashSet::new(), 0);
    for (number, (line, expected)) in lines("payments-sample.jsonl").into_iter().zip(expected()).enumerate() {
        let number = number + 1;
        // The broker has swallowed an exact repeat of a payment; what cannot be read is stored each time.
        if !seen.insert(line) && expected.0 == "duplicate" {
            continue;
        }
        sequence += 1;
        assert_eq!(became(&store, sequence), Some(expected), "line {number}");
    }
    site.reconciled().await;
}

#[tokio::test]
async fn the_demo_gives_the_sample_back_as_the_expected_file_says() {
    let _turn = turn().await;
    let output = tokio::process::Command::new(program())
        .args(["demo", "--outage", "0", "--json", "--file"])
        .arg(data("payments-sample.jsonl"))
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut rejected: BTreeMap<String, u64> = BTreeMap::new();
    for (outcome, code) in expected() {
        if outcome == "rejected" {
            *rejected.entry(code.unwrap()).or_default() += 1;
        }
        *counts.entry(outcome).or_default() += 1;
    }
    assert_eq!(report["settled"], counts["settled"]);
    assert_eq!(report["rejected"], counts["rejected"]);
    assert_eq!(report["dead_lettered"], counts["dead-lettered"]);
    assert_eq!(report["rejected_by_code"], serde_json::to_value(rejected).unwrap());
    let repeats = report["duplicates"].as_u64().unwrap() + report["publisher_duplicates"].as_u64().unwrap();
    assert_eq!(repeats, counts["duplicate"]);
    assert_eq!((&report["unaccounted"], &report["conserved"]), (&0.into(), &true.into()));
}

#[tokio::test]
async fn the_demo_accounts_for_everything_through_an_outage() {
    let _turn = turn().await;
    let output = tokio::process::Command::new(program())
        .args(["demo", "--payments", "3000", "--outage", "1", "--in-flight", "64", "--json"])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = report["published"].as_u64().unwrap() + report["publisher_duplicates"].as_u64().unwrap();
    assert_eq!((lines, &report["conserved"]), (3_000, &true.into()), "{report:#}");
    assert!(report["breaker"]["opened"].as_u64().unwrap() >= 1, "{report:#}");
    assert_eq!(report["breaker"]["pulls_while_open"], 0, "{report:#}");
}

#[tokio::test]
async fn the_demo_over_http_agrees_with_the_ledger_of_its_service() {
    let _turn = turn().await;
    let output = tokio::process::Command::new(program())
        .args(["demo", "--rail", "http", "--payments", "1500", "--outage", "2", "--in-flight", "64", "--json"])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    // That the ledger agrees is part of it; the contract's object has no place for the ledger itself.
    assert_eq!((&report["conserved"], report.get("rail")), (&true.into(), None), "{report:#}");
    assert!(report["settled"].as_u64().unwrap() > 0, "{report:#}");
    assert!(report["breaker"]["opened"].as_u64().unwrap() >= 1, "{report:#}");
}
