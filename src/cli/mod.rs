//! The command line: verbs, exit codes, printing. Data goes to stdout, logs and progress to stderr.

mod check;
mod exit;
mod print;
mod provision;
mod run;
mod setup;
mod status;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub use exit::{Exit, Failure};
pub use print::{note, out, print_json};
pub use run::{Engine, engine};
pub use setup::{Connected, connect, connect_as, load, sqlite_settings};

/// What every verb takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Configuration file; without it ./acquit.toml, where there is one
    #[arg(long, global = true, value_name = "FILE", env = "ACQUIT_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set one key of the configuration, as in --set store.path=/data/acquit.db; may be repeated
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

/// What an operator does.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Work on payment events until told to stop
    #[command(after_help = run::EXAMPLES)]
    Run(run::RunArgs),
    /// Check configuration, broker and store; changes nothing
    #[command(after_help = check::EXAMPLES)]
    Check(check::CheckArgs),
    /// Make streams, consumers and the store as nats/ has them
    #[command(after_help = provision::EXAMPLES)]
    Provision(provision::ProvisionArgs),
    /// Ask a running worker what it does
    #[command(after_help = status::EXAMPLES)]
    Status(status::StatusArgs),
}

impl Verb {
    /// Does it, and gives the exit code.
    ///
    /// # Errors
    /// A failure with its exit code and what to do.
    pub async fn run(self, global: &Global) -> Result<Exit, Failure> {
        match self {
            Self::Run(args) => run::run(global, args).await,
            Self::Check(args) => check::run(global, args).await,
            Self::Provision(args) => provision::run(global, args).await,
            Self::Status(args) => status::run(global, args).await,
        }
    }
}
