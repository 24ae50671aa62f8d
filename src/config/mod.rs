//! Configuration: flags over `ACQUIT_...` variables over the file over defaults, checked as a whole.
//!
//! A key's variable is its path in upper case with `_` for everything else: `store.path` is `ACQUIT_STORE_PATH`,
//! `slots` of lane `instant` is `ACQUIT_LANE_INSTANT_SLOTS`. A variable that is empty is not set; one that names no
//! key is refused, like an unknown key of the file, except those that Kubernetes injects for services. This is the
//! only place of the worker where the environment means settings.

mod broker;
mod forms;
mod keys;
mod lanes;
mod print;
mod problem;
mod rails;
mod raw;
mod read;
mod schemes;
mod sections;
mod tracking;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::domain::LaneName;
use crate::intake::Scheme;
use crate::rails::http::HttpSettings;
use crate::telemetry::TraceSettings;
use crate::worker::Lane;

use keys::{SECTIONS, Section};
use lanes::Lanes;
use raw::{File, Outside};
use read::Table;

pub use broker::{BrokerSettings, ClientCert, Login};
pub use problem::{ConfigErrors, Origin, Problem};
pub use read::PrintedValue;
pub use sections::{BookSettings, LogFormat, LogSettings, OpsSettings, Place, StoreSettings};

/// The file that is read when none is named and it is there.
pub const DEFAULT_FILE: &str = "acquit.toml";

/// The variable that names the file.
pub const FILE_VARIABLE: &str = "ACQUIT_CONFIG";

/// Where configuration comes from. The caller reads the environment and the command line.
#[derive(Debug, Default)]
pub struct Sources {
    /// A file that must be there; else [`DEFAULT_FILE`], which need not.
    pub file: Option<PathBuf>,
    /// Variables; those that do not begin with `ACQUIT_` are ignored.
    pub env: Vec<(String, String)>,
    /// Full keys with their values.
    pub flags: Vec<(String, String)>,
}

/// What is meant.
#[derive(Debug, Clone)]
pub struct Config {
    /// The broker.
    pub broker: BrokerSettings,
    /// The store.
    pub store: StoreSettings,
    /// The book.
    pub book: BookSettings,
    /// At least one; names, consumers and schemes are disjoint.
    pub lanes: Vec<Lane>,
    /// The rails over HTTP.
    pub rails: Vec<HttpSettings>,
    /// The rail of each lane that does not settle in the book.
    pub routes: BTreeMap<LaneName, String>,
    /// The second rail of each lane that has one.
    pub fallbacks: BTreeMap<LaneName, String>,
    /// The HTTP side.
    pub ops: OpsSettings,
    /// The log.
    pub log: LogSettings,
    /// Traces; none where they are off.
    pub traces: Option<TraceSettings>,
    printed: Vec<PrintedValue>,
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// Every problem there is, each with its key, its origin, the rule and the remedy.
    pub fn load(sources: Sources) -> Result<Self, ConfigErrors> {
        let mut problems = Vec::new();
        let file = read_file(sources.file.as_deref(), &mut problems);
        let outside = Outside::new(sources.env, sources.flags, &mut problems);
        let config = Self::build(&file, outside, &mut problems);
        match (ConfigErrors::of(problems), config) {
            (None, Some(config)) => Ok(config),
            (Some(errors), _) => Err(errors),
            (None, None) => Err(ConfigErrors::unexplained()),
        }
    }

    /// Every value and where it came from, secrets hidden, in the order of the sections.
    #[must_use]
    pub fn print(&self) -> &[PrintedValue] {
        &self.printed
    }

    /// A file with every key, its default and what it is for. It loads as it is.
    #[must_use]
    pub fn example() -> String {
        print::example()
    }

    fn build(file: &File, mut outside: Outside, problems: &mut Vec<Problem>) -> Option<Self> {
        let mut printed = Vec::new();
        let mut tables: BTreeMap<&str, Vec<Table>> = BTreeMap::new();
        for section in &SECTIONS {
            let read = read_section(section, file, &mut outside, problems, &mut printed);
            tables.insert(section.name, read);
        }
        outside.rest(problems);
        let one = |name: &str| tables.get(name).and_then(|tables| tables.first());
        let all = |name: &str| tables.get(name).map(Vec::as_slice).unwrap_or_default();
        let broker = broker::broker(one("broker")?, problems);
        let store = sections::store(one("store")?, problems);
        let book = sections::book(one("book")?, all("account"), problems);
        let schemes: Vec<Scheme> = schemes::schemes(all("scheme"), problems);
        let rails = rails::rails(all("rail"), problems);
        let Lanes { lanes, routes, fallbacks } = lanes::lanes(all("lane"), &schemes, &rails, problems);
        rails::connections(all("rail"), &lanes, &[&routes, &fallbacks], problems);
        let rails: Option<Vec<HttpSettings>> = rails.into_iter().map(|rail| rail.settings).collect();
        let ops = sections::ops(one("ops")?, problems);
        let log = sections::log(one("log")?);
        let traces = sections::telemetry(one("telemetry")?, problems);
        show_consumers(&lanes, &mut printed);
        let (broker, rails, ops) = (broker?, rails?, ops?);
        Some(Self { broker, store, book, lanes, rails, routes, fallbacks, ops, log, traces, printed })
    }
}

/// A consumer that was left out follows from the lane's name: what is printed is what holds.
fn show_consumers(lanes: &[Lane], printed: &mut [PrintedValue]) {
    for lane in lanes {
        let key = format!("lane.{}.consumer", lane.name);
        for value in printed.iter_mut().filter(|value| value.key == key && value.value.is_empty()) {
            value.value.clone_from(&lane.consumer);
        }
    }
}

fn read_file(named: Option<&Path>, problems: &mut Vec<Problem>) -> File {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => raw::read(path, &text, problems),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => File::new(),
        Err(error) => {
            problems.push(Problem {
                key: "file".to_owned(),
                origin: Origin::File { path: path.to_owned(), line: 1 },
                rule: format!("cannot be read: {error}"),
                remedy: "check the path given by --config".to_owned(),
            });
            File::new()
        }
    }
}

fn read_section(
    section: &'static Section,
    file: &File,
    outside: &mut Outside,
    problems: &mut Vec<Problem>,
    printed: &mut Vec<PrintedValue>,
) -> Vec<Table> {
    let instances = file.get(section.name).map(Vec::as_slice).unwrap_or_default();
    if !section.repeated {
        let prefix = format!("{}.", section.name);
        return vec![read::table(section, prefix, instances.first(), outside, problems, printed)];
    }
    let mut tables = Vec::new();
    for (index, instance) in instances.iter().enumerate() {
        let name = instance.values.get("name").map(|name| name.given.shown()).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| index.saturating_add(1).to_string());
        let prefix = format!("{}.{name}.", section.name);
        tables.push(read::table(section, prefix, Some(instance), outside, problems, printed));
    }
    if section.name == "lane" && instances.is_empty() {
        let prefix = format!("lane.{}.", lanes::DEFAULT_LANE);
        let only = lanes::default_instance();
        tables.push(read::table(section, prefix, Some(&only), outside, problems, printed));
    }
    tables
}

#[cfg(test)]
mod rail_tests;
#[cfg(test)]
mod tests;
