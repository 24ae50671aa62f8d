//! `acquit check`.

use clap::Args;
use serde::Serialize;

use super::stranded::stranded;
use super::{Connected, Exit, Failure, Global, load, out, print_json, setup};
use crate::broker::ApiError;
use crate::config::{Config, Place};
use crate::operate::check::{Finding, Weight, check, keep_findings};
use crate::rails::http::Http;
use crate::store::shortfalls;

pub(super) const EXAMPLES: &str = "Examples:
  acquit check                       configuration, broker, store; exit 1 where something is wrong
  acquit check --print-config        every value and where it came from, secrets hidden
  acquit check --example-config      a file with every key, its default and what it is for";

/// Flags of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Print every value and where it came from; secrets are hidden
    #[arg(long)]
    print_config: bool,
    /// Print a configuration file with every key
    #[arg(long)]
    example_config: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    key: &'a str,
    value: &'a str,
    origin: String,
}

pub(super) async fn run(global: &Global, args: CheckArgs) -> Result<Exit, Failure> {
    if args.example_config {
        out(Config::example().trim_end());
        return Ok(Exit::Done);
    }
    let config = load(global)?;
    if args.print_config {
        print_config(global, &config);
        return Ok(Exit::Done);
    }
    let broker = setup::connect_as(&config, "check").await?;
    let Connected { config, broker } = Connected { config, broker };
    let looked = setup::read(&config.store).and_then(|reader| Ok((reader.facts()?, stranded(&config, &reader)?)));
    let (facts, stranded) = looked.map_err(|e| {
        Failure::new(Exit::Found, format!("store {}: {e}; run `acquit provision`", config.store.shown()))
    })?;
    let mut findings = check(&broker, &config.lanes, &facts, None).await?;
    findings.extend(rails(&config).await);
    findings.extend(stranded);
    if let Some(keep) = config.store.keep {
        match keep_findings(&broker, keep).await {
            Ok(more) => findings.extend(more),
            // A stream that is missing is a finding already.
            Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let Place::Postgres { settings, .. } = &config.store.place {
        let held =
            config.lanes.iter().map(|lane| u32::from(lane.limits.slots).saturating_add(lane.limits.parked.into()));
        let group = held.sum::<u32>().min(config.store.group.into());
        findings.extend(shortfalls(settings, group).await?.into_iter().map(Finding::of_database));
    }
    report(global, &findings);
    let bad = findings.iter().any(|f| f.weight == Weight::Problem);
    Ok(if bad { Exit::Found } else { Exit::Done })
}

/// Whether the files of the rails can be used. Nothing is sent.
async fn rails(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for settings in &config.rails {
        if let Err(error) = Http::new(settings.clone()).await {
            findings.push(Finding {
                weight: Weight::Problem,
                about: format!("rail {}", settings.name),
                finding: error.to_string(),
                remedy: "check the files that it names".to_owned(),
            });
        }
    }
    findings
}

fn print_config(global: &Global, config: &Config) {
    let lines: Vec<Line<'_>> =
        config.print().iter().map(|v| Line { key: &v.key, value: &v.value, origin: v.origin.to_string() }).collect();
    if global.json {
        print_json(&lines);
        return;
    }
    for line in lines {
        out(&format!("{:64} {:32} # {}", line.key, line.value, line.origin));
    }
}

fn report(global: &Global, findings: &[Finding]) {
    if global.json {
        print_json(&findings);
        return;
    }
    for f in findings {
        let weight = match f.weight {
            Weight::Problem => "PROBLEM",
            Weight::Warning => "warning",
        };
        out(&format!("{weight} {}: {}; {}", f.about, f.finding, f.remedy));
    }
    if findings.is_empty() {
        out("configuration, broker and store are as they should be");
    }
}
