//! `acquit run` as a process of its own: what it says of itself, what it logs, how it ends.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{interval, timeout};

/// The program under test.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("ACQUIT_TEST_BIN").map_or_else(|| env!("CARGO_BIN_EXE_acquit").into(), PathBuf::from)
}

/// Looks every 20 ms until `check` holds.
pub(crate) async fn wait_until(what: &str, within: Duration, mut check: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    let mut ticks = interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        if check().await {
            return;
        }
        assert!(begun.elapsed() < within, "not within {within:?}: {what}");
    }
}

/// A lane in `/status`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Lane {
    pub(crate) ready: bool,
    pub(crate) trouble: Option<String>,
    pub(crate) gate: String,
    pub(crate) gate_reason: Option<String>,
    pub(crate) paused_until: Option<String>,
    pub(crate) breakers: Breakers,
    pub(crate) breaker_opened: u64,
    pub(crate) pulls_while_open: u64,
    pub(crate) pulls_outstanding: u32,
    pub(crate) in_flight: u32,
    pub(crate) in_flight_limit: u32,
    pub(crate) received: u64,
    pub(crate) settled: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) handed_back: u64,
    pub(crate) foreign_events: u64,
    pub(crate) tracker: u64,
}

/// The breakers' states.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Breakers {
    pub(crate) settlement: String,
    pub(crate) dead_letters: String,
    pub(crate) inquiries: String,
}

impl Lane {
    pub(crate) fn is_shut_by(&self, reason: &str) -> bool {
        self.gate == "shut" && self.gate_reason.as_deref() == Some(reason)
    }
}

/// A running worker. Dropped, it is killed.
pub(crate) struct Worker {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    ops: String,
    http: reqwest::Client,
}

impl Worker {
    /// Starts it and waits until its operations HTTP listens.
    pub(crate) async fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().unwrap().push(line);
            }
        });
        let http = acquit::rails::http::plain_client(Duration::from_secs(5)).unwrap();
        let mut worker = Self { child, log, ops: String::new(), http };
        let mut address = None;
        wait_until("the operations HTTP listens", Duration::from_secs(20), async || {
            address =
                worker.said("operations HTTP listens").and_then(|line| line["address"].as_str().map(str::to_owned));
            if let Some(status) = worker.child.try_wait().unwrap() {
                panic!("the worker ended ({status}):\n{}", worker.log_end());
            }
            address.is_some()
        })
        .await;
        worker.ops = address.unwrap();
        worker
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Where its operations HTTP listens.
    pub(crate) fn address(&self) -> &str {
        &self.ops
    }

    /// The first log line with this message.
    pub(crate) fn said(&self, message: &str) -> Option<Value> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.contains(message)).find_map(|line| serde_json::from_str(line).ok())
    }

    /// How often it has logged this message.
    pub(crate) fn times_said(&self, message: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(message)).count()
    }

    /// How many lines it has logged.
    pub(crate) fn log_lines(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    pub(crate) fn log_end(&self) -> String {
        let log = self.log.lock().unwrap();
        log.get(log.len().saturating_sub(40)..).unwrap_or_default().join("\n")
    }

    /// One page of the operations HTTP: its status and its text.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        let answer =
            self.http.get(format!("http://{}{path}", self.ops)).send().await.expect("the operations HTTP answers");
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Posts to the operations HTTP: its status and its text.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> (u16, String) {
        let mut request = self.http.post(format!("http://{}{path}", self.ops)).body(body.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("the operations HTTP answers");
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Its only lane, once there is one.
    pub(crate) async fn lane(&self) -> Option<Lane> {
        let (_, text) = self.page("/status").await;
        let status: Value = serde_json::from_str(&text).unwrap();
        status["lanes"].get(0).map(|lane| Lane::deserialize(lane).expect("a lane"))
    }

    /// Waits until its lane is so.
    pub(crate) async fn until(&self, what: &str, mut check: impl FnMut(&Lane) -> bool) -> Lane {
        self.within(Duration::from_secs(30), what, &mut check).await
    }

    /// The same within a time of one's own.
    pub(crate) async fn within(&self, within: Duration, what: &str, mut check: impl FnMut(&Lane) -> bool) -> Lane {
        let begun = Instant::now();
        let mut ticks = interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            let lane = self.lane().await;
            match lane {
                Some(lane) if check(&lane) => return lane,
                lane => {
                    assert!(begun.elapsed() < within, "not within {within:?}: {what}: {lane:?}\n{}", self.log_end());
                }
            }
        }
    }

    /// Looks every 20 ms for as long as `span`.
    pub(crate) async fn watch(&self, span: Duration) -> Vec<(Instant, Lane)> {
        let mut seen = Vec::new();
        let begun = Instant::now();
        let mut ticks = interval(Duration::from_millis(20));
        while begun.elapsed() < span {
            ticks.tick().await;
            if let Some(lane) = self.lane().await {
                seen.push((Instant::now(), lane));
            }
        }
        seen
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("the signal is sent");
    }

    /// Waits until it has ended by itself; gives its exit code.
    pub(crate) async fn ended(&mut self, within: Duration) -> i32 {
        let ended = timeout(within, self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("it has not ended within {within:?}:\n{}", self.log_end()));
        ended.unwrap().code().expect("it ended by itself, not by a signal")
    }

    /// SIGTERM, and it must end with everything done.
    pub(crate) async fn stop(self) {
        let log = Arc::clone(&self.log);
        let code = self.terminate().await;
        assert_eq!(code, 0, "everything was done, so nothing is handed back:\n{}", log.lock().unwrap().join("\n"));
    }

    /// SIGTERM; gives its exit code.
    pub(crate) async fn terminate(mut self) -> i32 {
        self.signal(Signal::TERM);
        self.ended(Duration::from_secs(30)).await
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}
