//! The binary: the verbs of the command line and of the laboratory, and the map from an end to an exit code.

use std::process::ExitCode;
use std::time::Duration;

use acquit::cli::{self, Exit, Failure, Global};
use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

/// Settles payment events from NATS JetStream, each once, and acknowledges them only after that.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Examples:
  acquit check                    is everything in place?
  acquit provision --replicas 1   make streams, consumers and the store on one server
  acquit run                      work until told to stop
  acquit publish payments.jsonl   publish events, one a line
  acquit explain PAYMENT_ID       the whole life of a payment"
)]
struct Acquit {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    Operate(cli::Verb),
    #[cfg(feature = "lab")]
    #[command(flatten)]
    Lab(acquit::lab::Verb),
}

fn main() -> ExitCode {
    let Acquit { global, verb } = Acquit::parse();
    let runtime = runtime(&verb).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(run(&global, verb));
            // A name that no server resolves, such as a trace collector's, must not keep a process that is done.
            runtime.shutdown_timeout(Duration::from_secs(1));
            ended
        }
        Err(error) => Err(Failure::new(Exit::Bug, format!("the runtime cannot be started: {error}"))),
    };
    let exit = ended.unwrap_or_else(|failure| {
        cli::note(&format!("acquit: {failure}"));
        failure.exit
    });
    ExitCode::from(exit.code())
}

/// The worker has one thread for all it does: its tasks wait far more than they compute, the store has a thread of its
/// own, and waking other threads costs more than they bring (measured on two cores shared with broker and store). The
/// other verbs read files and databases where they stand, and beside that their connection must be kept alive.
fn runtime(verb: &Verb) -> Builder {
    if let Verb::Operate(cli::Verb::Run(_)) = verb {
        return Builder::new_current_thread();
    }
    let mut threads = Builder::new_multi_thread();
    threads.worker_threads(1);
    threads
}

async fn run(global: &Global, verb: Verb) -> Result<Exit, Failure> {
    #[cfg(feature = "lab")]
    acquit::lab::arm()?;
    match verb {
        Verb::Operate(verb) => verb.run(global).await,
        #[cfg(feature = "lab")]
        Verb::Lab(verb) => verb.run(global).await,
    }
}
