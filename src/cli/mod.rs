//! The command line: verbs, exit codes, printing. Data goes to stdout, logs and progress to stderr.

mod breaker;
mod check;
mod dlq;
mod doubts;
mod exit;
mod explain;
mod opened;
mod pause;
mod print;
mod progress;
mod provision;
mod publish;
mod reconcile;
mod run;
mod setup;
mod status;
mod stranded;
mod unknown;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub use exit::{Exit, Failure};
pub use opened::{Opened, open_store, store_guard};
use print::redraw;
pub use print::{note, out, print_json};
pub use run::{Engine, engine};
pub use setup::{Connected, connect, connect_as, load, sqlite_settings};

/// What every verb takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Configuration file; without it ./acquit.toml, where there is one
    #[arg(long, global = true, value_name = "FILE", env = crate::config::FILE_VARIABLE)]
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
    /// Publish payment events, one body a line
    #[command(after_help = publish::EXAMPLES)]
    Publish(publish::PublishArgs),
    /// Ask a running worker what it does
    #[command(after_help = status::EXAMPLES)]
    Status(status::StatusArgs),
    /// Dead letters: find them, look at them, send them again, throw them away
    #[command(after_help = dlq::EXAMPLES)]
    Dlq(dlq::DlqArgs),
    /// Pause lanes on the broker: no worker is given events until then
    #[command(after_help = pause::EXAMPLES)]
    Pause(pause::PauseArgs),
    /// End a pause before its time
    #[command(after_help = pause::RESUME_EXAMPLES)]
    Resume(pause::ResumeArgs),
    /// Look at the settlement breakers of running workers, hold them open or closed, let them go
    #[command(after_help = breaker::EXAMPLES)]
    Breaker(breaker::BreakerArgs),
    /// Payments in doubt: list them, ask their rail, record what a person found out
    #[command(after_help = unknown::EXAMPLES)]
    Unknown(unknown::UnknownArgs),
    /// Compare stream, store, outcome events, dead letters and the book with each other; changes nothing
    #[command(after_help = reconcile::EXAMPLES)]
    Reconcile(reconcile::ReconcileArgs),
    /// Tell a payment's whole life
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::ExplainArgs),
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
            Self::Publish(args) => publish::run(global, args).await,
            Self::Status(args) => status::run(global, args).await,
            Self::Dlq(args) => dlq::run(global, args).await,
            Self::Pause(args) => pause::pause(global, args).await,
            Self::Resume(args) => pause::resume(global, args).await,
            Self::Breaker(args) => breaker::run(global, args).await,
            Self::Unknown(args) => unknown::run(global, args).await,
            Self::Reconcile(args) => reconcile::run(global, args).await,
            Self::Explain(args) => explain::run(global, args).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "acquit")]
    struct Acquit {
        #[command(flatten)]
        global: Global,
        #[command(subcommand)]
        verb: Verb,
    }

    fn parses(line: &str) -> bool {
        Acquit::try_parse_from(line.split_whitespace()).is_ok_and(|Acquit { global, verb: _ }| global.set.is_empty())
    }

    #[test]
    fn the_command_line_is_well_formed_and_lists_its_verbs_in_their_order() {
        Acquit::command().debug_assert();
        let verbs: Vec<_> = Acquit::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        let expected = [
            "run",
            "check",
            "provision",
            "publish",
            "status",
            "dlq",
            "pause",
            "resume",
            "breaker",
            "unknown",
            "reconcile",
            "explain",
        ];
        assert_eq!(verbs, expected);
    }

    #[test]
    fn every_verb_has_examples() {
        for verb in Acquit::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n  acquit "), "{}", verb.get_name());
        }
    }

    #[test]
    fn nothing_is_redriven_or_discarded_without_a_name_and_a_reason_or_by_two_choices() {
        for verb in ["redrive", "discard"] {
            for good in ["17", "17 PAYMENTS.1.2", "--code AM05 --older-than 1h", "--all", "--payment-id P-1 --dry-run"]
            {
                assert!(parses(&format!("acquit dlq {verb} {good} --who me --why because")), "{verb} {good}");
                assert!(!parses(&format!("acquit dlq {verb} {good} --who me")), "{verb} {good}");
                assert!(!parses(&format!("acquit dlq {verb} {good} --why because")), "{verb} {good}");
            }
            for bad in ["17 --code AM05", "17 --all", "--all --code AM05", "--code XX99", "--older-than -1h"] {
                assert!(!parses(&format!("acquit dlq {verb} {bad} --who me --why because")), "{verb} {bad}");
            }
        }
    }

    #[test]
    fn no_lane_is_steered_without_a_name_and_a_reason() {
        let by = "--who me --why because";
        for verb in ["pause --for 10m", "resume", "breaker open", "breaker close", "breaker auto"] {
            for good in ["", "--lane payments"] {
                assert!(parses(&format!("acquit {verb} {good} {by}")), "{verb} {good}");
                assert!(!parses(&format!("acquit {verb} {good} --who me")), "{verb} {good}");
                assert!(!parses(&format!("acquit {verb} {good} --why because")), "{verb} {good}");
            }
            assert!(!parses(&format!("acquit {verb} --lane a.b {by}")), "{verb}");
        }
        assert!(parses(&format!("acquit pause --all --for 10m {by}")));
        assert!(parses(&format!("acquit breaker open --url http://a:1 --url b:2 {by}")));
        for bad in ["pause", "pause --for soon", "pause --for 10m --all --lane payments", "breaker", "breaker toggle"] {
            assert!(!parses(&format!("acquit {bad} {by}")), "{bad}");
        }
        assert!(parses("acquit breaker status --lane payments") && !parses("acquit breaker status --who me"));
    }

    #[test]
    fn no_doubt_is_resolved_without_evidence_a_name_and_a_reason() {
        let said = "--evidence TICKET-7 --who me --why because";
        for good in ["settled --rail-ref R-1", "rejected --code AC04", "not-processed --dry-run"] {
            assert!(parses(&format!("acquit unknown resolve PAY-1 --as {good} {said}")), "{good}");
            for lacking in ["--who me --why because", "--evidence T --who me", "--evidence T --why because"] {
                assert!(!parses(&format!("acquit unknown resolve PAY-1 --as {good} {lacking}")), "{good} {lacking}");
            }
        }
        for bad in ["resolve --as settled", "resolve a.b --as settled", "resolve PAY-1", "resolve PAY-1 --as lost"] {
            assert!(!parses(&format!("acquit unknown {bad} {said}")), "{bad}");
        }
        assert!(!parses(&format!("acquit unknown resolve PAY-1 --as rejected --code XX99 {said}")));
        assert!(parses("acquit unknown list --lane payments --older-than 5m --limit 7 --json"));
        assert!(parses("acquit unknown inquire PAY-1") && !parses("acquit unknown inquire"));
    }

    #[test]
    fn what_cannot_be_meant_is_wrong_usage() {
        for good in [
            "acquit publish -",
            "acquit publish f --window 8 --resume-from 3 --patience 1m --json",
            "acquit dlq list --code AM05 --code FF01 --newer-than 90m --from 7 --limit 5",
            "acquit dlq show PAYMENTS.1.2 --reveal",
            "acquit reconcile --state s --most 0",
            "acquit explain PAY-1",
        ] {
            assert!(parses(good), "{good}");
        }
        for bad in [
            "acquit publish",
            "acquit publish f --window 0",
            "acquit publish f --resume-from 0",
            "acquit publish f --patience soon",
            "acquit dlq",
            "acquit dlq show",
            "acquit dlq list --payment-id a.b",
            "acquit explain a.b",
            "acquit explain",
        ] {
            assert!(!parses(bad), "{bad}");
        }
    }
}
