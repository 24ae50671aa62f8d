//! The laboratory: real servers for the demo and the tests, load, faults. Not in the production build.

pub mod bench;
pub mod certify;
pub mod chaos;
pub mod conformance;
pub mod demo;
mod kill;
pub mod load;
mod outage;
pub mod print;
pub mod rail;
pub mod report;
pub mod servers;
pub mod sim;
mod stage;
pub mod view;

use clap::Subcommand;

use crate::cli::{Exit, Failure, Global};

pub use kill::arm;

/// What the laboratory adds to the command line.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show payments settled once each on a real broker, through an outage of settlement
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::DemoArgs),
    /// Measure a worker process on a full stream: payments a second, memory, processor time
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::BenchArgs),
    /// Kill, stop and starve a worker and its server at random, then account for everything published
    #[command(after_help = chaos::EXAMPLES)]
    Chaos(chaos::ChaosArgs),
    /// Stand in for a payment service over HTTP, with faults by script and a ledger of what really happened
    #[command(after_help = rail::EXAMPLES)]
    Rail(rail::RailArgs),
    /// Make every experiment of the conformance suite with a payment service: it submits real payments
    #[command(after_help = certify::EXAMPLES)]
    Certify(certify::CertifyArgs),
}

impl Verb {
    /// Does it, and gives the exit code.
    ///
    /// # Errors
    /// A failure with its exit code and what to do.
    pub async fn run(self, global: &Global) -> Result<Exit, Failure> {
        match self {
            Self::Demo(args) => demo::run(global, args).await,
            Self::Bench(args) => bench::run(global, args).await,
            Self::Chaos(args) => chaos::run(global, args).await,
            Self::Rail(args) => rail::run(global, args).await,
            Self::Certify(args) => certify::run(global, args).await,
        }
    }
}
