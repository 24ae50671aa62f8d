//! `acquit chaos` itself: random faults on real processes, and an account of everything published.

use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::process::program;
use crate::site::turn;

/// So many faults, not so many seconds: how long they take is the machine's business.
const FAULTS: &str = "6";

#[tokio::test]
async fn random_faults_on_worker_server_and_store_lose_and_double_nothing() {
    let _turn = turn().await;
    let seed = std::env::var("CHAOS_SEED").unwrap_or_else(|_| rand::random::<u64>().to_string());
    let mut command = Command::new(program());
    command.args(["chaos", "--faults", FAULTS, "--seed", &seed, "--json"]).kill_on_drop(true);
    let output = timeout(Duration::from_secs(300), command.output()).await.expect("it is bounded").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "CHAOS_SEED={seed}: {}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let struck: u64 = found["faults"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(struck.to_string(), FAULTS, "{found}");
    assert_eq!(found["conserved"], true, "{found}");
    assert!(found["events"]["published"].as_u64().unwrap() > 0, "{found}");
}
