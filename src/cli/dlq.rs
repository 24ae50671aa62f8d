//! `acquit dlq`: list, show, redrive, discard.

mod text;

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use self::text::{show_discarded, show_letter, show_listing, show_redriven};
use super::progress::Progress;
use super::provision::parse_span;
use super::{Connected, Exit, Failure, Global, connect, print_json, setup};
use crate::broker::{Broker, Nats};
use crate::config::Place;
use crate::domain::{Code, PaymentId, StreamName};
use crate::operate::Mandate;
use crate::operate::dlq::{
    Filter, Halted, ListOptions, RedriveOptions, Selection, Which, discard, list, redrive, show,
};

pub(super) const EXAMPLES: &str = "Examples:
  acquit dlq list --code AM05 --newer-than 24h
  acquit dlq show 17
  acquit dlq redrive --code FF10 --who ops-1 --why 'INC-7: rail fixed' --dry-run
  acquit dlq discard 17 18 --who ops-1 --why 'INC-9: test data'";

const LIST_EXAMPLES: &str = "Examples:
  acquit dlq list                                the oldest 50, and how many there are of each code
  acquit dlq list --code FF01 --older-than 1h
  acquit dlq list --from 900 --limit 200         the page that starts at dead letter 900";

const SHOW_EXAMPLES: &str = "Examples:
  acquit dlq show 17                             its shape, without values
  acquit dlq show PAYMENTS.1764000000000.4711    the dead letter of that event
  acquit dlq show 17 --reveal                    the whole body, personal data included";

const REDRIVE_EXAMPLES: &str = "Examples:
  acquit dlq redrive 17 18 --who ops-1 --why 'INC-7: rail fixed'
  acquit dlq redrive --code FF10 --newer-than 2h --who ops-1 --why INC-7 --dry-run
  acquit dlq redrive --all --rate 100 --who ops-1 --why INC-7

Each goes out once, whatever is interrupted: run it again and it goes on. Who and why are in the audit stream before
anything is sent. Exit 1 where some could not be sent.";

const DISCARD_EXAMPLES: &str = "Examples:
  acquit dlq discard 17 --who ops-1 --why 'INC-9: test data'
  acquit dlq discard --code FF01 --older-than 720h --who ops-1 --why 'INC-9: test data' --dry-run

Who, why and the body's SHA-256 are in the audit stream before anything is deleted. Exit 1 where some were not there.";

/// Flags of `dlq`.
#[derive(Debug, Clone, Args)]
pub struct DlqArgs {
    #[command(subcommand)]
    verb: DlqVerb,
}

#[derive(Debug, Clone, Subcommand)]
enum DlqVerb {
    /// List dead letters, oldest first, and count them by code
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one dead letter, its body masked
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
    /// Publish dead letters again, body byte for byte
    #[command(after_help = REDRIVE_EXAMPLES)]
    Redrive(RedriveArgs),
    /// Delete dead letters for good
    #[command(after_help = DISCARD_EXAMPLES)]
    Discard(DiscardArgs),
}

#[derive(Debug, Clone, Args)]
struct Filters {
    /// Left under this code; may be repeated
    #[arg(long = "code", value_name = "CODE", value_parser = parse_code)]
    codes: Vec<Code>,
    /// Stored longer ago, as in 90m or 24h
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    older_than: Option<Duration>,
    /// Stored not longer ago
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    newer_than: Option<Duration>,
    /// The event came from this stream
    #[arg(long, value_name = "STREAM", value_parser = StreamName::parse)]
    stream: Option<StreamName>,
    /// The event asked for this payment
    #[arg(long, value_name = "ID", value_parser = PaymentId::parse)]
    payment_id: Option<PaymentId>,
}

#[derive(Debug, Clone, Args)]
struct ListArgs {
    #[command(flatten)]
    filters: Filters,
    /// The dead letter where the page starts
    #[arg(long, value_name = "SEQ", default_value_t = 0, hide_default_value = true)]
    from: u64,
    /// Dead letters in the page
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

#[derive(Debug, Clone, Args)]
struct ShowArgs {
    /// Its sequence, its subject, or the event's <stream>.<created ms>.<sequence>
    #[arg(value_name = "WHICH")]
    which: String,
    /// Show the body, personal data included
    #[arg(long)]
    reveal: bool,
}

/// Those named, those that match, or, only when it is said, all.
#[derive(Debug, Clone, Args)]
struct Target {
    /// Sequences, subjects, or events as <stream>.<created ms>.<sequence>
    #[arg(
        value_name = "WHICH",
        conflicts_with_all = ["codes", "older_than", "newer_than", "stream", "payment_id", "all"],
    )]
    which: Vec<String>,
    #[command(flatten)]
    filters: Filters,
    /// Every dead letter
    #[arg(long, conflicts_with_all = ["codes", "older_than", "newer_than", "stream", "payment_id"])]
    all: bool,
}

#[derive(Debug, Clone, Args)]
struct Deed {
    /// In whose name; kept in the audit stream
    #[arg(long, value_name = "NAME")]
    who: String,
    /// For what reason; kept in the audit stream
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// The most to work on
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

#[derive(Debug, Clone, Args)]
struct RedriveArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    deed: Deed,
    /// Dead letters a second; 0 for no bound
    #[arg(long, value_name = "N", default_value_t = 10)]
    rate: u32,
    /// Send again what was redriven before
    #[arg(long)]
    again: bool,
}

#[derive(Debug, Clone, Args)]
struct DiscardArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    deed: Deed,
}

impl Target {
    /// No choice is not taken for all of them.
    fn is_chosen(&self) -> Result<(), Failure> {
        let Filters { codes, older_than, newer_than, stream, payment_id } = &self.filters;
        let filtered = !codes.is_empty()
            || older_than.is_some()
            || newer_than.is_some()
            || stream.is_some()
            || payment_id.is_some();
        if filtered || self.all || !self.which.is_empty() {
            return Ok(());
        }
        Err(Failure::new(Exit::Usage, "name dead letters, give a filter such as --code, or say --all"))
    }
}

fn parse_code(text: &str) -> Result<Code, String> {
    Code::parse(text).ok_or_else(|| "no code of Acquit; `acquit dlq list` counts those that there are".to_owned())
}

pub(super) async fn run(global: &Global, args: DlqArgs) -> Result<Exit, Failure> {
    match args.verb {
        DlqVerb::List(args) => run_list(global, args).await,
        DlqVerb::Show(args) => run_show(global, args).await,
        DlqVerb::Redrive(args) => run_redrive(global, args).await,
        DlqVerb::Discard(args) => run_discard(global, args).await,
    }
}

async fn run_list(global: &Global, args: ListArgs) -> Result<Exit, Failure> {
    let options = ListOptions { filter: filter(args.filters, Timestamp::now())?, from: args.from, limit: args.limit };
    let Connected { config: _, broker } = connect(global, "dlq").await?;
    let listing = list(&broker, &options).await?;
    if global.json {
        print_json(&listing);
    } else {
        show_listing(&listing);
    }
    Ok(Exit::Done)
}

async fn run_show(global: &Global, args: ShowArgs) -> Result<Exit, Failure> {
    let Connected { config: _, broker } = connect(global, "dlq").await?;
    let shown = show(&broker, &Which::parse(&args.which), args.reveal).await?;
    if global.json {
        print_json(&shown);
    } else {
        show_letter(&shown);
    }
    Ok(Exit::Done)
}

async fn run_redrive(global: &Global, args: RedriveArgs) -> Result<Exit, Failure> {
    args.target.is_chosen()?;
    let mandate = mandate(&args.deed)?;
    let Connected { config, broker } = connect(global, "dlq").await?;
    let options = RedriveOptions {
        selection: selection(&broker, args.target).await?,
        mandate,
        dry_run: args.deed.dry_run,
        per_second: args.rate,
        limit: args.deed.limit,
        again: args.again,
    };
    // The store says what will become of each; on a machine without it the redrive works as well.
    let there = match &config.store.place {
        Place::File(path) => path.exists(),
        Place::Postgres { .. } => true,
    };
    let store = if there { Some(setup::reader(&config)?) } else { None };
    let mut progress = Progress::new(global);
    let done = redrive(&broker, store.as_ref(), &options, |so_far| {
        progress.show(|| format!("{} redriven, {} refused", so_far.redriven, so_far.refused));
    })
    .await;
    progress.end();
    let (result, halted) = apart(done);
    if global.json {
        print_json(&result);
    } else {
        show_redriven(&result);
    }
    halted.map_or(Ok(if result.refused > 0 { Exit::Found } else { Exit::Done }), Err)
}

async fn run_discard(global: &Global, args: DiscardArgs) -> Result<Exit, Failure> {
    args.target.is_chosen()?;
    let mandate = mandate(&args.deed)?;
    let Connected { config: _, broker } = connect(global, "dlq").await?;
    let selection = selection(&broker, args.target).await?;
    let (result, halted) = apart(discard(&broker, &selection, &mandate, args.deed.dry_run, args.deed.limit).await);
    if global.json {
        print_json(&result);
    } else {
        show_discarded(&result);
    }
    halted.map_or(Ok(if result.missing > 0 { Exit::Found } else { Exit::Done }), Err)
}

/// What was done, and why it ended early if it did.
fn apart<R>(done: Result<R, Halted<R>>) -> (R, Option<Failure>) {
    match done {
        Ok(result) => (result, None),
        Err(Halted { why, so_far }) => {
            let Failure { exit, message } = why.into();
            (*so_far, Some(Failure::new(exit, format!("{message}; running it again goes on"))))
        }
    }
}

fn mandate(deed: &Deed) -> Result<Mandate, Failure> {
    Mandate::new(&deed.who, &deed.why).map_err(|e| Failure::new(Exit::Usage, format!("--who, --why: {e}")))
}

fn filter(filters: Filters, now: Timestamp) -> Result<Filter, Failure> {
    let ago = |span: Duration| {
        now.checked_sub(span).map_err(|_| Failure::new(Exit::Usage, "--older-than, --newer-than: too long ago"))
    };
    Ok(Filter {
        codes: filters.codes,
        before: filters.older_than.map(ago).transpose()?,
        since: filters.newer_than.map(ago).transpose()?,
        stream: filters.stream,
        payment_id: filters.payment_id,
    })
}

/// Names are turned into sequences before anything is done: a wrong one stops it all.
async fn selection(broker: &Broker<Nats>, target: Target) -> Result<Selection, Failure> {
    if target.which.is_empty() {
        return Ok(Selection::Matching(filter(target.filters, Timestamp::now())?));
    }
    let mut sequences = Vec::with_capacity(target.which.len());
    for text in &target.which {
        let sequence = match Which::parse(text) {
            Which::Sequence(sequence) => sequence,
            subject @ Which::Subject(_) => show(broker, &subject, false).await?.letter.sequence,
        };
        // Named twice is meant once.
        if !sequences.contains(&sequence) {
            sequences.push(sequence);
        }
    }
    Ok(Selection::Sequences(sequences))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_choice_is_not_taken_for_all_of_them() {
        let filters = Filters { codes: vec![], older_than: None, newer_than: None, stream: None, payment_id: None };
        let target = Target { which: vec![], filters: filters.clone(), all: false };
        assert_eq!(target.is_chosen().map_err(|e| e.exit), Err(Exit::Usage));
        let code = Filters { codes: vec![Code::AM05], ..filters.clone() };
        let age = Filters { newer_than: Some(Duration::ZERO), ..filters.clone() };
        for chosen in [
            Target { all: true, ..target.clone() },
            Target { which: vec!["7".into()], ..target.clone() },
            Target { filters: code, ..target.clone() },
            Target { filters: age, ..target.clone() },
        ] {
            assert!(chosen.is_chosen().is_ok(), "{chosen:?}");
        }
    }

    #[test]
    fn ages_are_counted_back_from_now() {
        let now = Timestamp::from_second(10_000).expect("in range");
        let filters = Filters {
            codes: vec![Code::AM05],
            older_than: Some(Duration::from_secs(60)),
            newer_than: Some(Duration::from_secs(3600)),
            stream: None,
            payment_id: None,
        };
        let found = filter(filters.clone(), now).expect("in range");
        assert_eq!(found.before, Timestamp::from_second(9_940).ok());
        assert_eq!(found.since, Timestamp::from_second(6_400).ok());
        let endless = Filters { older_than: Some(Duration::MAX), ..filters };
        assert_eq!(filter(endless, now).map_err(|e| e.exit), Err(Exit::Usage));
    }
}
