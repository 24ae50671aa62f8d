//! `acquit certify`: the conformance suite over a payment service behind an HTTP rail of the configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::conformance::{Inquiry, Ledger, Report, Sample, Suite};
use super::print;
use super::rail::ledger::Ledger as Books;
use super::stage::Folder;
use crate::cli::{Exit, Failure, Global, load, print_json, sqlite_settings};
use crate::config::Config;
use crate::rails::http::{Http, HttpSettings};
use crate::store::Sqlite;

pub(super) const EXAMPLES: &str = "Examples:
  acquit certify --against-sandbox --rail bank              every experiment; exit 0 where all hold
  acquit certify --against-sandbox --sample payment.json    with a payment that the sandbox takes
  acquit certify --against-sandbox --ledger rail.db         the ledger of `acquit rail` beside its answers

It SENDS PAYMENTS: about 14 and --payments more, each really submitted, some twice. Point the rail at a sandbox.
Workers are killed and stopped, replies and requests lost; a temporary SQLite store is used, never the configured one.
No broker is needed.

Without --ledger the service is asked through inquiry_url what became of a key. That proves that no payment is lost or
unknown for ever, that its answers agree, and that a second submission under a key has the first one's reference; it
does not prove that such a submission moved no money, nor which amount moved. With --ledger both are counted.
A service that leaves the very first payment in doubt is given up to four more: its \"not found\" counts only beside a
payment that it has settled.
It takes some eight times longest_execution and the deadline together where the service is slow to be sure.";

/// Flags of `certify`.
#[derive(Debug, Clone, Args)]
pub struct CertifyArgs {
    /// The rail's name in the configuration; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    rail: Option<String>,
    /// Say that the rail's address is a sandbox: payments are really submitted to it
    #[arg(long)]
    against_sandbox: bool,
    /// Payments of the last experiment, through lost replies; the others have one each
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    payments: u32,
    /// An event of contract v1 that stands for all payments; its payment_id is replaced
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
    /// Ledger file of `acquit rail`, where that is the service
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

pub(super) async fn run(global: &Global, args: CertifyArgs) -> Result<Exit, Failure> {
    let config = load(global)?;
    let settings = chosen(&config, args.rail.as_deref())?;
    if !args.against_sandbox {
        let what = format!(
            "rail {} at {}: certify submits real payments to it, some of them twice; nothing was sent. Where it is a \
             sandbox, say --against-sandbox",
            settings.name, settings.url
        );
        return Err(Failure::new(Exit::Usage, what));
    }
    let sample = args.sample.as_deref().map(sample).transpose()?.unwrap_or_default();
    print::log(&format!("submitting payments to rail {} at {}", settings.name, settings.url));
    let folder = Folder::new("certify")?;
    let backend = Sqlite::open(sqlite_settings(&config, &folder.path().join("certify.db"), true))?;
    let rail = Arc::new(http(settings).await?);
    let report = match &args.ledger {
        Some(file) => {
            let unusable = |e| Failure::new(Exit::Data, format!("--ledger {}: {e}", file.display()));
            made(rail, Books::beside(file).map_err(unusable)?, sample, args.payments, backend).await
        }
        None if settings.inquiry.is_none() => {
            let what = format!("rail {} has no inquiry_url: there is no ledger to compare with", settings.name);
            return Err(Failure::new(Exit::Config, what));
        }
        None => made(rail, Inquiry(http(settings).await?), sample, args.payments, backend).await,
    };
    if global.json {
        print_json(&report);
    } else {
        print::data(&format!("{report}\n")).map_err(|e| Failure::new(Exit::Unavailable, format!("stdout: {e}")))?;
    }
    Ok(if report.is_certified() { Exit::Done } else { Exit::Found })
}

async fn made(rail: Arc<Http>, ledger: impl Ledger, sample: Sample, payments: u32, backend: Sqlite) -> Report {
    Suite::new(rail, ledger).sample(sample).payments(payments).run(backend).await
}

/// The rail that is meant.
fn chosen<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a HttpSettings, Failure> {
    let names = || config.rails.iter().map(|rail| rail.name.as_str()).collect::<Vec<_>>().join(", ");
    let usage = |what: String| Failure::new(Exit::Usage, what);
    match (name, &config.rails[..]) {
        (_, []) => Err(Failure::new(Exit::Config, "the configuration has no [[rail]]".to_owned())),
        (None, [only]) => Ok(only),
        (None, _) => Err(usage(format!("there are several rails; say --rail NAME, of {}", names()))),
        (Some(name), rails) => {
            let found = rails.iter().find(|rail| rail.name == name);
            found.ok_or_else(|| usage(format!("--rail {name}: there is no such rail; there are {}", names())))
        }
    }
}

async fn http(settings: &HttpSettings) -> Result<Http, Failure> {
    let failed = |e| Failure::new(Exit::Config, format!("rail {}: {e}; check its files", settings.name));
    Http::new(settings.clone()).await.map_err(failed)
}

fn sample(file: &Path) -> Result<Sample, Failure> {
    let bad = |e: &dyn std::fmt::Display| Failure::new(Exit::Data, format!("--sample {}: {e}", file.display()));
    Sample::parse(&std::fs::read(file).map_err(|e| bad(&e))?).map_err(|e| bad(&e))
}
