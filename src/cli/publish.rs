//! `acquit publish`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::progress::Progress;
use super::provision::parse_span;
use super::{Connected, Exit, Failure, Global, connect, out, print_json};
use crate::domain::SchemeName;
use crate::operate::publish::{PublishOptions, Published, open, publish};
use crate::worker::Lane;

pub(super) const EXAMPLES: &str = "Examples:
  acquit publish payments.jsonl                      one body a line, byte for byte
  gunzip -c payments.jsonl.gz | acquit publish -     from standard input
  acquit publish payments.jsonl --resume-from 4711   go on where it stopped

Subject and message id come from the body, as recommended to every publisher: running it again after a failure is
safe. What is broken is published as well: a worker rejects it, or makes it a dead letter.";

/// Flags of `publish`.
#[derive(Debug, Clone, Args)]
pub struct PublishArgs {
    /// The file, one body a line; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Confirmations awaited at once
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// Leave out the lines before this one; the first is 1
    #[arg(long, value_name = "LINE", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    resume_from: u64,
    /// How long one line is tried again while the broker is away
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_span)]
    patience: Duration,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    counts: &'a Published,
    /// The line to go on from, where it stopped early.
    resume_from: Option<u64>,
}

pub(super) async fn run(global: &Global, args: PublishArgs) -> Result<Exit, Failure> {
    // First of all: a file that is not there is no reason to connect.
    let source = open(&args.file).await?;
    let Connected { config, broker } = connect(global, "publish").await?;
    let options = PublishOptions {
        window: usize::from(args.window),
        patience: args.patience,
        resume_from: args.resume_from,
        schemes: schemes(&config.lanes),
    };
    let mut progress = Progress::new(global);
    let done = publish(&broker, source, &options, |so_far| progress.show(|| line(so_far))).await;
    progress.end();
    match done {
        Ok(counts) => {
            report(global, &counts, None);
            Ok(Exit::Done)
        }
        Err(stopped) => {
            report(global, &stopped.so_far, Some(stopped.line));
            let Failure { exit, message } = stopped.why.into();
            let go_on = go_on(&args.file, stopped.line);
            Err(Failure::new(
                exit,
                format!("line {}: {message}\nonce that is put right, go on with {go_on}", stopped.line),
            ))
        }
    }
}

fn schemes(lanes: &[Lane]) -> Vec<SchemeName> {
    lanes.iter().flat_map(|lane| lane.rules.schemes()).map(|scheme| scheme.name.clone()).collect()
}

fn go_on(file: &Path, line: u64) -> String {
    if file == Path::new("-") {
        format!("the same input to `acquit publish - --resume-from {line}`")
    } else {
        format!("`acquit publish {} --resume-from {line}`", file.display())
    }
}

fn line(so_far: &Published) -> String {
    let Published { lines, published, duplicates, elapsed_s, .. } = so_far;
    format!("{lines} lines: {published} published, {duplicates} known to the broker, {elapsed_s:.1} s")
}

fn report(global: &Global, counts: &Published, resume_from: Option<u64>) {
    if global.json {
        print_json(&Report { counts, resume_from });
        return;
    }
    out(&line(counts));
    if counts.skipped > 0 {
        out(&format!("{} lines left out", counts.skipped));
    }
    if counts.failed > 0 {
        out(&format!("{} lines without a confirmation", counts.failed));
    }
    for (scheme, of) in &counts.by_scheme {
        out(&format!("  {scheme:<12} {:>10} published {:>10} known to the broker", of.published, of.duplicates));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_told_how_to_go_on() {
        assert_eq!(go_on(Path::new("a.jsonl"), 7), "`acquit publish a.jsonl --resume-from 7`");
        assert_eq!(go_on(Path::new("-"), 7), "the same input to `acquit publish - --resume-from 7`");
    }
}
