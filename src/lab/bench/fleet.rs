//! `acquit bench --fleet`: workers as processes of their own on one consumer and one database, over a service that
//! answers after 20 ms. What a worker holds at once bounds it: more workers get on faster as long as nothing that they
//! share keeps them.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::process::Child;

use super::{cpu_seconds, machine, rate};
use crate::cli::{Exit, Failure, Global, print_json};
use crate::lab::load::{Generator, GeneratorSettings};
use crate::lab::print;
use crate::lab::rail::script::Script;
use crate::lab::servers::{PostgresOptions, PostgresServer};
use crate::lab::stage::Stage;
use crate::operate::publish::{from_memory, publish};
use crate::store::PostgresSettings;

const LATENCY: &str = "latency = [\"20ms\", \"20ms\"]\n";
/// How many workers, and how many times as fast as one they should be at least.
const FLEETS: [(usize, f64); 3] = [(1, 1.0), (2, 1.8), (4, 3.4)];
/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one fleet did.
#[derive(Debug, Serialize)]
struct Measured {
    workers: usize,
    payments: u64,
    seconds: f64,
    settled_per_s: f64,
    /// Against one worker of the same run.
    times: f64,
    bar: f64,
    worker_cpu_us_per_payment: f64,
    /// How much of the machine's processors was in use, by whomever: near 1 nothing scales any further.
    machine_busy: f64,
}

pub(super) async fn run(global: &Global, each: u64, in_flight: u16) -> Result<Exit, Failure> {
    let database = PostgresServer::start(PostgresOptions::default()).await?;
    let mut fleets: Vec<Measured> = Vec::new();
    for (workers, bar) in FLEETS {
        let payments = each.saturating_mul(u64::try_from(workers).unwrap_or(1));
        print::log(&format!("{workers} workers, {in_flight} at once in each: {payments} payments"));
        let Seen { seconds, cpu_seconds, machine_busy } = fleet(&database, workers, payments, in_flight).await?;
        let settled_per_s = rate(payments, seconds);
        let times = fleets.first().map_or(1.0, |one| settled_per_s / one.settled_per_s);
        let worker_cpu_us_per_payment = cpu_seconds * 1e6 / rate(payments, 1.0);
        fleets.push(Measured {
            workers,
            payments,
            seconds,
            settled_per_s,
            times,
            bar,
            worker_cpu_us_per_payment,
            machine_busy,
        });
    }
    if global.json {
        print_json(&fleets);
    } else {
        let line = |m: &Measured| {
            format!(
                "  {} workers  {:>7.0} settled a second  {:>5.2} times one (bar {})  {:>6.1} us of worker CPU a payment  \
                 machine {:>3.0} % busy\n",
                m.workers,
                m.settled_per_s,
                m.times,
                m.bar,
                m.worker_cpu_us_per_payment,
                m.machine_busy * 100.0
            )
        };
        let text: String = fleets.iter().map(line).collect();
        print::data(&text).map_err(|e| Failure::new(Exit::Unavailable, format!("stdout: {e}")))?;
    }
    Ok(if fleets.iter().all(|m| m.times >= m.bar) { Exit::Done } else { Exit::Found })
}

struct Seen {
    seconds: f64,
    cpu_seconds: f64,
    machine_busy: f64,
}

/// From the first payment at the rail until every event is acknowledged.
async fn fleet(database: &PostgresServer, workers: usize, payments: u64, in_flight: u16) -> Result<Seen, Failure> {
    let script = Script::parse(LATENCY).map_err(|e| Failure::new(Exit::Bug, format!("the bench's own script: {e}")))?;
    let settings = PostgresSettings {
        url: database.url(),
        password_file: None,
        ca_file: None,
        schema: format!("fleet_{workers}"),
        allow_plaintext: false,
        statement_timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(5),
    };
    let stage = Stage::of_fleet("fleet", in_flight, script, &settings).await?;
    let bodies = Generator::new(GeneratorSettings::uniform(payments)).map(|generated| generated.body);
    publish(&stage.publisher, from_memory(bodies), &stage.options()?, |_| {})
        .await
        .map_err(|e| Failure::new(Exit::Unavailable, e.to_string()))?;
    let mut fleet: Vec<Child> = (0..workers).map(|_| stage.worker(Stdio::inherit())).collect::<Result<_, _>>()?;
    let pids: Vec<u32> = fleet.iter().filter_map(Child::id).collect();
    let spent = || pids.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>();
    let seen = follow(&stage, payments, spent).await;
    for worker in &mut fleet {
        worker.start_kill().ok();
        worker.wait().await.ok();
    }
    stage.strike().await;
    seen
}

async fn follow(stage: &Stage, payments: u64, spent: impl Fn() -> f64) -> Result<Seen, Failure> {
    let failed = |what: String| Failure::new(Exit::Unavailable, what);
    let lane = stage.config.lanes.first().ok_or_else(|| Failure::new(Exit::Bug, "the bench has no lane".to_owned()))?;
    let stream = stage.publisher.streams().payments.clone();
    let mut begun: Option<(Instant, f64, (f64, f64))> = None;
    let mut progress = (0, Instant::now());
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    loop {
        ticks.tick().await;
        let info = stage.publisher.consumer_info(stream.as_str(), &lane.consumer).await;
        let info = info.map_err(|e| failed(format!("the consumer: {e}")))?;
        let acknowledged = payments.saturating_sub(info.num_pending).saturating_sub(info.num_ack_pending);
        if acknowledged > 0 && begun.is_none() {
            begun = Some((Instant::now(), spent(), machine()));
        }
        if acknowledged != progress.0 {
            progress = (acknowledged, Instant::now());
        }
        if let Some((at, before, (all, busy))) = begun
            && acknowledged >= payments
        {
            let (all, busy) = (machine().0 - all, machine().1 - busy);
            let (seconds, cpu_seconds) = (at.elapsed().as_secs_f64(), spent() - before);
            return Ok(Seen { seconds, cpu_seconds, machine_busy: busy / all.max(1.0) });
        }
        if progress.1.elapsed() > PATIENCE {
            return Err(failed(format!("nothing was settled for {} s", PATIENCE.as_secs())));
        }
    }
}
