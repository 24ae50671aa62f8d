//! Set-up of logs, metrics and traces, and the closed lists of what is reported: `event`, `metrics` and `trace`.

pub(crate) mod event;
pub(crate) mod metrics;
pub(crate) mod step;
pub(crate) mod trace;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub(crate) use event::{Flow, Life, Link, Waits};
pub use trace::{TraceSettings, Traces};

/// How log lines look on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of words an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The filter is not one that `tracing-subscriber` reads.
    #[error("log level: {0}; give error, warn, info, debug or trace")]
    Filter(String),
    /// Another recorder or subscriber is installed already.
    #[error("telemetry is set up already: {0}")]
    Installed(String),
}

/// Gives the text that `/metrics` answers with.
#[derive(Clone)]
pub struct Exposition(PrometheusHandle);

impl Exposition {
    /// Folds what histograms have collected into their buckets. Without it they would grow until the next scrape, and
    /// nobody may scrape.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }

    /// The metrics in Prometheus's text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }
}

/// Sends log lines to stderr. Once per process.
///
/// # Errors
/// When the level cannot be read or a subscriber is there already.
pub fn log_to_stderr(format: LogFormat, level: &str) -> Result<(), SetUpError> {
    use tracing_subscriber::EnvFilter;
    // What libraries say of themselves is for whoever looks for it.
    let others = if matches!(level, "info" | "warn") { "warn" } else { level };
    let filter = EnvFilter::try_new(format!("{others},acquit={level}"))
        .map_err(|error| SetUpError::Filter(error.to_string()))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let done = match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    done.map_err(|error| SetUpError::Installed(error.to_string()))
}

/// Installs the metrics recorder. Once per process, before any lane is built.
///
/// # Errors
/// When another recorder is installed.
pub fn record_metrics() -> Result<Exposition, SetUpError> {
    let installed = |error: metrics_exporter_prometheus::BuildError| SetUpError::Installed(error.to_string());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(metrics::AGE.to_owned()), &metrics::AGES)
        .and_then(|b| b.set_buckets_for_metric(Matcher::Full(metrics::GROUP.to_owned()), &metrics::SIZES))
        .and_then(|b| b.set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), &metrics::SECONDS))
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(installed)?;
    metrics::describe();
    Ok(Exposition(handle))
}
