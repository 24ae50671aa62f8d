//! `acquit unknown`: payments in doubt, listed, asked about, resolved by a person.

mod inquire;
mod list;
mod resolve;

use clap::{Args, Subcommand};

use super::{Exit, Failure, Global};

pub(super) const EXAMPLES: &str = "Examples:
  acquit unknown list --older-than 5m
  acquit unknown inquire PAY-1
  acquit unknown resolve PAY-1 --as settled --rail-ref R-77 --evidence 'statement 311, line 4' --who ops-1 --why INC-7

A payment is in doubt while an attempt of it may have reached its rail and the rail has not said what became of it. The
worker asks the rail by itself; what the rail never says, or leaves to a person, is resolved here.";

/// Flags of `unknown`.
#[derive(Debug, Clone, Args)]
pub struct UnknownArgs {
    #[command(subcommand)]
    verb: UnknownVerb,
}

#[derive(Debug, Clone, Subcommand)]
enum UnknownVerb {
    /// List payments in doubt, the oldest first
    #[command(after_help = list::EXAMPLES)]
    List(list::ListArgs),
    /// Ask the rail of a payment in doubt what became of it; writes nothing
    #[command(after_help = inquire::EXAMPLES)]
    Inquire(inquire::InquireArgs),
    /// Record what a person found out about a payment in doubt, with evidence
    #[command(after_help = resolve::EXAMPLES)]
    Resolve(resolve::ResolveArgs),
}

pub(super) async fn run(global: &Global, args: UnknownArgs) -> Result<Exit, Failure> {
    match args.verb {
        UnknownVerb::List(args) => list::run(global, &args),
        UnknownVerb::Inquire(args) => inquire::run(global, &args).await,
        UnknownVerb::Resolve(args) => resolve::run(global, args).await,
    }
}
