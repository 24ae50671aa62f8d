//! Three servers, three copies: leaders change and servers die under load.

use std::cell::Cell;
use std::process::Output;
use std::time::Duration;

use acquit::lab::servers::{Cluster, NatsOptions};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::SemaphorePermit;
use tokio::task::JoinHandle;

use crate::load::Load;
use crate::process::{Worker, program, wait_until};
use crate::site::turn;

const MINUTE: Duration = Duration::from_secs(60);

struct Three {
    cluster: Cluster,
    dir: TempDir,
    _turn: SemaphorePermit<'static>,
}

impl Three {
    async fn new() -> Self {
        let turn = turn().await;
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(3, dir.path(), &NatsOptions::new(dir.path())).await.unwrap();
        let servers: Vec<String> = cluster.urls().iter().map(|url| format!("\"{url}\"")).collect();
        let configuration = format!(
            "[broker]\nservers = [{}]\n[store]\npath = \"{}\"\n[book]\noverdraft = \"allow\"\n[ops]\nlisten = \
             \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n[[lane]]\nname = \"payments\"\nslots = 64\nexpires = \"1s\"\n",
            servers.join(", "),
            dir.path().join("acquit.db").display(),
        );
        std::fs::write(dir.path().join("acquit.toml"), configuration).unwrap();
        Self { cluster, dir, _turn: turn }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--config").arg(self.dir.path().join("acquit.toml")).args(arguments).kill_on_drop(true);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ACQUIT_")) {
            command.env_remove(name);
        }
        command
    }

    /// Publishes beside the test, with the verb's patience for a cluster that is electing.
    fn publishing(&self, load: &Load) -> JoinHandle<Output> {
        let file = self.dir.path().join("load.jsonl");
        std::fs::write(&file, load.bodies.join(&b'\n')).unwrap();
        let mut publish = self.command(&["publish", "--json"]);
        tokio::spawn(async move { publish.arg(file).output().await.unwrap() })
    }

    /// Runs a verb to its end, which must be good; gives what it printed. A server that has just come back may still
    /// be electing with the others: out of reach (69) is no answer yet.
    async fn acquit(&self, arguments: &[&str]) -> String {
        let answer = Cell::new(None);
        wait_until("the cluster answers", MINUTE, async || {
            let output = self.command(arguments).output().await.unwrap();
            let answered = output.status.code() != Some(69);
            answer.set(Some(output));
            answered
        })
        .await;
        let output = answer.take().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// What happens to the cluster while the worker is in the middle of a load.
#[derive(Debug, Clone, Copy)]
enum Blow {
    /// A leader is asked to step down.
    StepDown(&'static str),
    /// A server is killed, and started again when all that was published has its end without it.
    Kill(usize),
}

const BLOWS: [Blow; 4] = [
    Blow::StepDown("CONSUMER.LEADER.STEPDOWN.PAYMENTS.acquit-payments"),
    Blow::StepDown("STREAM.LEADER.STEPDOWN.PAYMENTS"),
    Blow::Kill(0),
    Blow::Kill(1),
];

#[tokio::test]
async fn leaders_that_change_and_servers_that_die_lose_and_double_nothing() {
    let mut three = Three::new().await;
    three.acquit(&["provision", "--replicas", "3", "--ack-wait", "2s"]).await;
    let worker = Worker::start(three.command(&["run"])).await;
    let operator = crate::site::connect_to(three.cluster.urls()).await;
    let (mut settled, mut dead_lettered) = (0, 0);
    for (blow, seed) in BLOWS.into_iter().zip(41..) {
        let load = Load::mixed(seed, 1_500, 10);
        let publishing = three.publishing(&load);
        worker.within(MINUTE, "it settles", |lane| lane.settled > settled + 100).await;
        match blow {
            Blow::StepDown(what) => drop(operator.api(what, &Value::Null).await.unwrap()),
            Blow::Kill(node) => three.cluster.node_mut(node).unwrap().kill9().unwrap(),
        }
        settled += load.expected.settled;
        dead_lettered += load.expected.dead_lettered;
        worker.within(MINUTE, "it goes on after the blow", |lane| lane.settled >= settled).await;
        if let Blow::Kill(node) = blow {
            three.cluster.node_mut(node).unwrap().restart().await.unwrap();
        }
        let published = publishing.await.unwrap();
        assert_eq!(published.status.code(), Some(0), "{}", String::from_utf8_lossy(&published.stderr));
    }
    wait_until("every event has its end", MINUTE, async || {
        let info = operator.consumer_info("PAYMENTS", "acquit-payments").await.ok();
        info.is_some_and(|info| info.num_pending == 0 && info.num_ack_pending == 0)
    })
    .await;
    worker.stop().await;
    let found: Value = serde_json::from_str(&three.acquit(&["reconcile", "--json"]).await).unwrap();
    assert_eq!(found["events"]["settled"], settled, "{found:#}");
    assert_eq!(found["events"]["dead_lettered"], dead_lettered, "{found:#}");
}
