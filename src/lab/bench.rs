//! `acquit bench`: a real server whose stream is filled first, then a worker process of its own, looked at from
//! outside: settled a second over the whole backlog, memory, processor time, time to the first pull.

mod fleet;
mod store;

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use super::load::{Generator, GeneratorSettings};
use super::print;
use super::stage::Stage;
use crate::cli::{Exit, Failure, Global, print_json};
use crate::operate::publish::{from_memory, publish};
use crate::rails::http::plain_client;

pub(super) const EXAMPLES: &str = "Examples:
  acquit bench                          200,000 payments of 512 bytes
  acquit bench --payments 1000000 --settle 200000     memory with a million queued
  acquit bench --store postgres         the store alone, as a part of plain SQL's speed; exit 1 below 0.6
  acquit bench --fleet                  1, 2 and 4 workers on one PostgreSQL, over a rail of 20 ms; exit 1 below 1.8 and 3.4
  acquit bench --json

Nothing is weakened: synchronous=FULL, an outcome event and a confirmed acknowledgement for each payment; broker (one
copy, default sync), store and worker share this machine.";

/// Flags of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Payments to queue before the worker starts [default: 200000; with --fleet 8000 for each worker]
    #[arg(long, value_name = "N")]
    payments: Option<u64>,
    /// Stop after so many are settled [default: all]
    #[arg(long, value_name = "N")]
    settle: Option<u64>,
    /// Events held at once [default: 512; with --fleet 8 for each worker]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    in_flight: Option<u16>,
    /// Measure this store alone, without a broker, beside plain SQL on the same server
    #[arg(long, value_enum, value_name = "STORE", conflicts_with = "settle")]
    store: Option<Alone>,
    /// Measure how 1, 2 and 4 workers on one database get on over a rail that answers after 20 ms
    #[arg(long, conflicts_with_all = ["settle", "store"])]
    fleet: bool,
}

/// A store that is measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Alone {
    /// PostgreSQL, found or fetched.
    Postgres,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
struct Measured {
    queued: u64,
    settled: u64,
    seconds: f64,
    settled_per_s: f64,
    worker_rss_mib: f64,
    worker_peak_rss_mib: f64,
    worker_cpu_us_per_payment: f64,
    server_cpu_us_per_payment: f64,
    start_to_first_pull_ms: u64,
    published_per_s: f64,
    load_average_before: f64,
}

/// How long the worker may take for one look at it without any progress.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(global: &Global, args: BenchArgs) -> Result<Exit, Failure> {
    if args.fleet {
        return fleet::run(global, args.payments.unwrap_or(8_000), args.in_flight.unwrap_or(8)).await;
    }
    let (payments, in_flight) = (args.payments.unwrap_or(200_000), args.in_flight.unwrap_or(512));
    if let Some(Alone::Postgres) = args.store {
        return store::run(global, payments, in_flight).await;
    }
    let load_average_before = load_average();
    let port = free_port()?;
    let stage = Stage::set("bench", in_flight, port, None).await?;
    print::log(&format!("nats-server {}: queueing {payments} payments", stage.broker_version()));
    let bodies = Generator::new(GeneratorSettings::uniform(payments)).map(|generated| generated.body);
    let filled = publish(&stage.publisher, from_memory(bodies), &stage.options()?, |_| {})
        .await
        .map_err(|e| Failure::new(Exit::Unavailable, e.to_string()))?;
    let server_before = stage.server_pid().map_or(0.0, cpu_seconds);
    let mut worker = stage.worker(Stdio::inherit())?;
    let pid = worker.id().unwrap_or_default();
    let target = args.settle.unwrap_or(payments).min(payments);
    let seen = follow(port, target).await?;
    let measured = Measured {
        queued: payments,
        settled: seen.settled,
        seconds: seen.seconds,
        settled_per_s: rate(seen.settled, seen.seconds),
        worker_rss_mib: seen.rss_mib(pid, "VmRSS:"),
        worker_peak_rss_mib: seen.rss_mib(pid, "VmHWM:"),
        worker_cpu_us_per_payment: cpu_seconds(pid) * 1e6 / rate(seen.settled, 1.0),
        server_cpu_us_per_payment: (stage.server_pid().map_or(0.0, cpu_seconds) - server_before) * 1e6
            / rate(seen.settled, 1.0),
        start_to_first_pull_ms: seen.first_pull_ms,
        published_per_s: rate(filled.published, filled.elapsed_s),
        load_average_before,
    };
    worker.start_kill().ok();
    worker.wait().await.ok();
    stage.strike().await;
    show(global, &measured)?;
    Ok(if measured.settled >= target { Exit::Done } else { Exit::Found })
}

fn free_port() -> Result<u16, Failure> {
    let taken = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    taken.map(|address| address.port()).map_err(|e| Failure::new(Exit::Unavailable, format!("no free port: {e}")))
}

struct Seen {
    settled: u64,
    seconds: f64,
    first_pull_ms: u64,
    rss: Vec<f64>,
}

impl Seen {
    /// Memory while events were in flight: the middle of what was seen, or a line of the kernel's account.
    fn rss_mib(&self, pid: u32, line: &str) -> f64 {
        if line == "VmRSS:" {
            let mut rss = self.rss.clone();
            rss.sort_by(f64::total_cmp);
            return rss.get(rss.len() / 2).copied().unwrap_or_default();
        }
        memory_mib(pid, line)
    }
}

/// Looks at the worker until `target` payments are settled.
async fn follow(port: u16, target: u64) -> Result<Seen, Failure> {
    let client = plain_client(Duration::from_secs(2)).map_err(|e| Failure::new(Exit::Bug, e.to_string()))?;
    let url = format!("http://127.0.0.1:{port}/status");
    let began = Instant::now();
    let mut seen = Seen { settled: 0, seconds: 0.0, first_pull_ms: 0, rss: Vec::new() };
    let mut pulled: Option<Instant> = None;
    let mut progress = (0, Instant::now());
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        if progress.1.elapsed() > PATIENCE {
            return Ok(seen);
        }
        let Some(lane) = look(&client, &url).await else { continue };
        let number = |key: &str| lane.get(key).and_then(Value::as_u64).unwrap_or(0);
        if pulled.is_none()
            && let Some(since_start) = lane.get("first_pull_ms").and_then(Value::as_u64)
        {
            // The lane says how long it took; what is left is the process's own start.
            let age = Duration::from_millis(number("up_ms"));
            let born = Instant::now().checked_sub(age).unwrap_or(began);
            let first = born.checked_add(Duration::from_millis(since_start)).unwrap_or(born);
            seen.first_pull_ms = u64::try_from(first.saturating_duration_since(began).as_millis()).unwrap_or(u64::MAX);
            pulled = Some(first);
        }
        seen.settled = number("settled");
        if let Some(pid) = lane.get("pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok())
            && seen.settled > 0
        {
            seen.rss.push(memory_mib(pid, "VmRSS:"));
        }
        if seen.settled != progress.0 {
            progress = (seen.settled, Instant::now());
        }
        if seen.settled >= target {
            seen.seconds = pulled.map_or(0.0, |at| at.elapsed().as_secs_f64());
            return Ok(seen);
        }
    }
}

async fn look(client: &reqwest::Client, url: &str) -> Option<Value> {
    let status: Value = client.get(url).send().await.ok()?.json().await.ok()?;
    let pid = status.get("pid").cloned();
    let mut lane = status.get("lanes")?.get(0)?.clone();
    if let (Some(lane), Some(pid)) = (lane.as_object_mut(), pid) {
        lane.insert("pid".to_owned(), pid);
    }
    Some(lane)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// A line of `/proc/<pid>/status` in MiB; 0 where there is none.
fn memory_mib(pid: u32, line: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = text.lines().find_map(|l| l.strip_prefix(line)).and_then(|l| l.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// User and system time of a process, from `/proc/<pid>/stat` in the usual hundredths of a second.
fn cpu_seconds(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// Time of all processors since the machine started, and how much of it they worked, from `/proc/stat`.
fn machine() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or("");
    // user nice system idle iowait irq softirq steal; what comes behind is counted in those already.
    let ticks: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    let all: f64 = ticks.iter().sum();
    (all, all - idle)
}

fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

fn show(global: &Global, m: &Measured) -> Result<(), Failure> {
    if global.json {
        print_json(m);
        return Ok(());
    }
    let text = format!(
        "{} payments queued, {} settled in {:.1} s\n  settled a second       {:>10.0}\n  worker memory, MiB     {:>10.1}  \
         (peak {:.1})\n  worker CPU a payment   {:>10.1}  us\n  server CPU a payment   {:>10.1}  us\n  start to first pull    \
         {:>10}  ms\n  published a second     {:>10.0}\n  load average before    {:>10.2}\n",
        m.queued,
        m.settled,
        m.seconds,
        m.settled_per_s,
        m.worker_rss_mib,
        m.worker_peak_rss_mib,
        m.worker_cpu_us_per_payment,
        m.server_cpu_us_per_payment,
        m.start_to_first_pull_ms,
        m.published_per_s,
        m.load_average_before,
    );
    print::data(&text).map_err(|e| Failure::new(Exit::Unavailable, format!("stdout: {e}")))
}
