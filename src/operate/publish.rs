//! Publishes bodies as payment events: recommended subjects and message ids, a bounded window of awaited PubAcks,
//! patience with what passes by itself. Running it again after a failure is safe: what is stored already comes back as
//! a duplicate inside the stream's duplicate window, and as a duplicate of the store's after it.

mod address;
mod lines;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use serde::Serialize;
use tokio::time::{Instant, sleep};

pub use address::{Address, Addresses};
pub use lines::{LONGEST_LINE, from_memory, lines, open};

use super::Trouble;
use super::trouble::denied;
use crate::broker::{Broker, PublishError, Wire, WireError};
use crate::domain::{Invalid, SchemeName};

/// Completed lines between two calls of the progress callback.
const PROGRESS_EVERY: u64 = 256;

/// How to publish.
#[derive(Debug, Clone)]
pub struct PublishOptions {
    /// PubAcks awaited at once.
    pub window: usize,
    /// How long one line is tried again while the broker is away.
    pub patience: Duration,
    /// The first line to publish, from 1: lines before it are read and left out.
    pub resume_from: u64,
    /// The schemes that the stream has subjects for.
    pub schemes: Vec<SchemeName>,
}

/// One body and where it stands in its source.
#[derive(Debug, Clone)]
pub struct Line {
    /// From 1.
    pub number: u64,
    /// As it is to be published, byte for byte.
    pub body: Bytes,
}

/// What was published.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Published {
    /// Lines with an answer, or without one by now.
    pub lines: u64,
    /// Lines before `resume_from`.
    pub skipped: u64,
    /// PubAcks that were not duplicates.
    pub published: u64,
    /// Known to the broker by their message id.
    pub duplicates: u64,
    /// Lines without a confirmation.
    pub failed: u64,
    /// The same per scheme of the subject.
    pub by_scheme: BTreeMap<String, SchemeCount>,
    /// Seconds since the start.
    pub elapsed_s: f64,
}

/// Lines of one scheme.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SchemeCount {
    /// PubAcks that were not duplicates.
    pub published: u64,
    /// Known to the broker by their message id.
    pub duplicates: u64,
}

/// Publishing ended early; everything before `line` is confirmed.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Stopped {
    /// The first line without a confirmation: publish again from here.
    pub line: u64,
    /// Why.
    pub why: Trouble,
    /// What was published.
    pub so_far: Box<Published>,
}

impl PublishOptions {
    /// A window of 512, 30 s of patience, the built-in schemes, from the first line.
    ///
    /// # Errors
    /// Never: the built-in names are well formed.
    pub fn built_in() -> Result<Self, Invalid> {
        let schemes =
            crate::intake::Scheme::BUILT_IN.iter().map(|name| SchemeName::parse(name)).collect::<Result<_, _>>()?;
        Ok(Self { window: 512, patience: Duration::from_secs(30), resume_from: 1, schemes })
    }
}

struct Done {
    scheme: SchemeName,
    duplicate: bool,
}

struct Failed {
    line: u64,
    why: Trouble,
}

/// Publishes every line of `source` in order; where one fails for good, stops taking more, waits for those under way,
/// and says at which line to go on.
///
/// # Errors
/// [`Stopped`], with what was published so far.
pub async fn publish<W: Wire>(
    broker: &Broker<W>,
    source: impl Stream<Item = Result<Line, Trouble>>,
    options: &PublishOptions,
    mut progress: impl FnMut(&Published),
) -> Result<Published, Stopped> {
    let addresses = Addresses::new(&options.schemes);
    let mut source = std::pin::pin!(source);
    let mut window = FuturesUnordered::new();
    let mut tally = Tally::new();
    let mut last_read = 0_u64;
    let mut more = true;
    loop {
        while more && window.len() < options.window.max(1) && tally.failed.is_none() {
            match source.next().await {
                Some(Ok(line)) if line.number < options.resume_from => {
                    last_read = line.number;
                    tally.counts.skipped = tally.counts.skipped.saturating_add(1);
                }
                Some(Ok(line)) => {
                    last_read = line.number;
                    let address = addresses.of(&line.body, line.number);
                    window.push(one(broker, line, address, options.patience));
                }
                Some(Err(why)) => {
                    more = false;
                    tally.take(Err(Failed { line: last_read.saturating_add(1), why }));
                }
                None => more = false,
            }
        }
        let Some(done) = window.next().await else { break };
        tally.take(done);
        if tally.counts.lines.is_multiple_of(PROGRESS_EVERY) {
            progress(tally.now());
        }
    }
    progress(tally.now());
    match tally.failed {
        None => Ok(tally.counts),
        Some(Failed { line, why }) => Err(Stopped { line, why, so_far: Box::new(tally.counts) }),
    }
}

struct Tally {
    counts: Published,
    failed: Option<Failed>,
    began: Instant,
}

impl Tally {
    fn new() -> Self {
        Self { counts: Published::default(), failed: None, began: Instant::now() }
    }

    fn take(&mut self, done: Result<Done, Failed>) {
        let counts = &mut self.counts;
        counts.lines = counts.lines.saturating_add(1);
        match done {
            Ok(Done { scheme, duplicate }) => {
                // Looked up before it is inserted: a key is made once per scheme, not once per line.
                if !counts.by_scheme.contains_key(scheme.as_str()) {
                    counts.by_scheme.insert(scheme.as_str().to_owned(), SchemeCount::default());
                }
                let Some(mine) = counts.by_scheme.get_mut(scheme.as_str()) else { return };
                let add = |count: &mut u64| *count = count.saturating_add(1);
                if duplicate {
                    add(&mut counts.duplicates);
                    add(&mut mine.duplicates);
                } else {
                    add(&mut counts.published);
                    add(&mut mine.published);
                }
            }
            Err(failed) => {
                counts.failed = counts.failed.saturating_add(1);
                if self.failed.as_ref().is_none_or(|first| failed.line < first.line) {
                    self.failed = Some(failed);
                }
            }
        }
    }

    fn now(&mut self) -> &Published {
        self.counts.elapsed_s = self.began.elapsed().as_secs_f64();
        &self.counts
    }
}

/// Publishes one line, again and again under the same id until it is confirmed, refused, or patience ends.
async fn one<W: Wire>(broker: &Broker<W>, line: Line, address: Address, patience: Duration) -> Result<Done, Failed> {
    let Address { subject, message_id, scheme } = address;
    let give_up = Instant::now().checked_add(patience);
    let mut pause = Duration::from_millis(50);
    loop {
        let stream = &broker.streams().payments;
        let error = match broker.publish_confirmed(&subject, &message_id, &[], line.body.clone(), stream).await {
            Ok((_, duplicate)) => return Ok(Done { scheme, duplicate }),
            Err(error) => error,
        };
        let late = give_up.is_some_and(|end| Instant::now() >= end);
        if late || !passes(&error) || is_denied(broker, &error, &subject) {
            return Err(Failed { line: line.number, why: Trouble::of_publish(broker, &subject, &error) });
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(Duration::from_secs(1));
    }
}

fn is_denied<W: Wire>(broker: &Broker<W>, error: &PublishError, subject: &str) -> bool {
    match error {
        PublishError::Unconfirmed(cause) => denied(broker, *cause, subject).is_some(),
        PublishError::Refused { .. }
        | PublishError::NotTheStream { .. }
        | PublishError::Collision { .. }
        | PublishError::OtherEvent => false,
    }
}

/// Whether trying again under the same id may help.
fn passes(error: &PublishError) -> bool {
    // JetStream away or without a leader; out of resources; stream offline; the same id is being stored right now.
    const PASSING: [u64; 5] = [10_008, 10_009, 10_023, 10_118, 10_158];
    match error {
        PublishError::Unconfirmed(
            WireError::NoResponders | WireError::TimedOut | WireError::Disconnected | WireError::Busy,
        ) => true,
        PublishError::Refused { code, .. } => PASSING.contains(code),
        PublishError::NotTheStream { .. } | PublishError::Collision { .. } | PublishError::OtherEvent => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(line: u64) -> Result<Done, Failed> {
        Err(Failed { line, why: Trouble::NotThere { what: format!("line {line}") } })
    }

    #[test]
    fn the_first_line_without_a_confirmation_is_the_one_to_go_on_from() {
        let mut tally = Tally::new();
        for (line, outcome) in [(1, true), (9, false), (4, false), (7, false)] {
            let scheme = SchemeName::parse("book").expect("valid");
            tally.take(if outcome { Ok(Done { scheme, duplicate: false }) } else { failed(line) });
        }
        assert_eq!(tally.failed.as_ref().map(|f| f.line), Some(4));
        assert_eq!((tally.counts.lines, tally.counts.published, tally.counts.failed), (4, 1, 3));
    }

    #[test]
    fn duplicates_are_counted_apart_for_each_scheme() {
        let mut tally = Tally::new();
        for (scheme, duplicate) in [("book", false), ("sct", true), ("book", true)] {
            tally.take(Ok(Done { scheme: SchemeName::parse(scheme).expect("valid"), duplicate }));
        }
        assert_eq!((tally.counts.published, tally.counts.duplicates), (1, 2));
        assert_eq!(tally.counts.by_scheme["book"], SchemeCount { published: 1, duplicates: 1 });
        assert_eq!(tally.counts.by_scheme["sct"], SchemeCount { published: 0, duplicates: 1 });
    }

    #[test]
    fn what_the_broker_refuses_for_good_is_not_tried_again() {
        let refused = |code| PublishError::Refused { code, description: String::new() };
        assert!(passes(&PublishError::Unconfirmed(WireError::NoResponders)));
        assert!(passes(&refused(10_158)));
        assert!(!passes(&refused(10_054)), "message too large");
        assert!(!passes(&refused(10_077)), "stream full");
        assert!(!passes(&PublishError::NotTheStream { expected: "PAYMENTS".into() }));
    }
}
