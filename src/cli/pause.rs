//! `acquit pause` and `acquit resume`.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::provision::parse_span;
use super::{Connected, Exit, Failure, Global, connect, out, print_json};
use crate::broker::{Broker, Nats};
use crate::config::Config;
use crate::domain::{LaneName, millis};
use crate::operate::control::{self, Pausable, Switched};
use crate::operate::{Mandate, Trouble};
use crate::worker::Lane;

pub(super) const EXAMPLES: &str = "Examples:
  acquit pause --for 30m --who ops-1 --why 'CHG-12: rail maintenance'
  acquit pause --lane instant --for 2h --who ops-1 --why INC-7
  acquit pause --all --for 10m --who ops-1 --why INC-7

The broker keeps the pause: it holds for every worker of a lane and over restarts, and ends by itself. What workers
have in hand they finish; then they are ready but paused, and say until when. Paused again, the new end counts. At most
168h, and a quarter of the stream's max_age. Who and why are in the audit stream before anything is done.";

pub(super) const RESUME_EXAMPLES: &str = "Examples:
  acquit resume --who ops-1 --why 'CHG-12: done early'
  acquit resume --all --who ops-1 --why INC-7

Workers go on within about a second. Who and why are in the audit stream before anything is done.";

/// Flags of `pause`.
#[derive(Debug, Clone, Args)]
pub struct PauseArgs {
    #[command(flatten)]
    lanes: LaneChoice,
    /// How long, as in 90s, 30m or 2h
    #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
    span: Duration,
    #[command(flatten)]
    by: By,
}

/// Flags of `resume`.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    lanes: LaneChoice,
    #[command(flatten)]
    by: By,
}

/// Which lanes.
#[derive(Debug, Clone, Args)]
pub(super) struct LaneChoice {
    /// A lane of the configuration; not needed where there is one only
    #[arg(long, value_name = "LANE", value_parser = LaneName::parse, conflicts_with = "all")]
    lane: Option<LaneName>,
    /// Every lane of the configuration
    #[arg(long)]
    all: bool,
}

/// In whose name, and why.
#[derive(Debug, Clone, Args)]
pub(super) struct By {
    /// In whose name; kept in the audit stream
    #[arg(long, value_name = "NAME")]
    who: String,
    /// For what reason; kept in the audit stream
    #[arg(long, value_name = "TEXT")]
    why: String,
}

impl By {
    pub(super) fn mandate(&self) -> Result<Mandate, Failure> {
        Mandate::new(&self.who, &self.why).map_err(|e| Failure::new(Exit::Usage, format!("--who, --why: {e}")))
    }
}

/// The lane that is meant: the one that is named, or the only one there is.
pub(super) fn one_lane<'a>(config: &'a Config, named: Option<&LaneName>) -> Result<&'a Lane, Failure> {
    let names = || config.lanes.iter().map(|lane| lane.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = match (named, config.lanes.as_slice()) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(name), lanes) => lanes.iter().find(|lane| lane.name == *name),
    };
    found.ok_or_else(|| match named {
        Some(name) => Failure::new(Exit::Usage, format!("--lane {name}: the configuration has {}", names())),
        None => Failure::new(Exit::Usage, format!("name a lane with --lane: {}", names())),
    })
}

impl LaneChoice {
    fn of<'a>(&self, config: &'a Config) -> Result<Vec<&'a Lane>, Failure> {
        if self.all {
            return Ok(config.lanes.iter().collect());
        }
        one_lane(config, self.lane.as_ref()).map(|lane| vec![lane])
    }
}

pub(super) async fn pause(global: &Global, args: PauseArgs) -> Result<Exit, Failure> {
    let mandate = args.by.mandate()?;
    let Connected { config, broker } = connect(global, "pause").await?;
    let targets = look(&broker, &args.lanes.of(&config)?).await?;
    for target in &targets {
        target.may_wait(args.span).map_err(too_long)?;
    }
    let mut done = Vec::new();
    for target in &targets {
        match control::pause(&broker, target, args.span, &mandate).await {
            Ok(switched) => done.push(switched),
            Err(trouble) => return ended(global, &done, Some(trouble)),
        }
    }
    ended(global, &done, None)
}

pub(super) async fn resume(global: &Global, args: ResumeArgs) -> Result<Exit, Failure> {
    let mandate = args.by.mandate()?;
    let Connected { config, broker } = connect(global, "resume").await?;
    let mut done = Vec::new();
    for target in look(&broker, &args.lanes.of(&config)?).await? {
        match control::resume(&broker, &target, &mandate).await {
            Ok(switched) => done.push(switched),
            Err(trouble) => return ended(global, &done, Some(trouble)),
        }
    }
    ended(global, &done, None)
}

/// All lanes are looked at before anything is done to one.
async fn look(broker: &Broker<Nats>, lanes: &[&Lane]) -> Result<Vec<Pausable>, Failure> {
    let mut targets = Vec::with_capacity(lanes.len());
    for lane in lanes {
        targets.push(control::look(broker, lane).await?);
    }
    Ok(targets)
}

fn too_long(trouble: Trouble) -> Failure {
    Failure::new(Exit::Usage, trouble.to_string())
}

/// Says what was done, also where it ended early.
fn ended(global: &Global, done: &[Switched], trouble: Option<Trouble>) -> Result<Exit, Failure> {
    if global.json {
        print_json(&json!({ "lanes": done }));
    } else {
        done.iter().for_each(|switched| out(&line(switched)));
    }
    trouble.map_or(Ok(Exit::Done), |trouble| Err(trouble.into()))
}

fn line(switched: &Switched) -> String {
    let Switched { lane, consumer, paused_until, was_paused_until, record } = switched;
    match (paused_until, was_paused_until) {
        (Some(until), None) => format!("lane {lane}: {consumer} is paused until {} (record {record})", millis(*until)),
        (Some(until), Some(was)) => format!(
            "lane {lane}: {consumer} is paused until {}, was paused until {} (record {record})",
            millis(*until),
            millis(*was)
        ),
        (None, Some(was)) => {
            format!("lane {lane}: {consumer} goes on, was paused until {} (record {record})", millis(*was))
        }
        (None, None) => format!("lane {lane}: {consumer} was not paused (record {record})"),
    }
}
