//! Deletes dead letters. Each deletion is on record before it happens: the audit stream keeps who, why and the body's
//! SHA-256; the store keeps that the event was condemned.

use serde::Serialize;
use serde_json::json;

use super::letter::Letter;
use super::walk::{Found, Walk};
use super::{Halted, Selection};
use crate::broker::{ApiError, Broker, StoredMessage, Wire};
use crate::operate::Trouble;
use crate::operate::audit::{Action, Mandate, write_once};

/// What was thrown away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Discarded {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Deleted now (in a dry run: would be).
    pub discarded: u64,
    /// Named and not there, or no dead letter of ours.
    pub missing: u64,
    /// The bound was reached and more may match.
    pub limited: bool,
    /// Those deleted.
    pub letters: Vec<Letter>,
}

/// Deletes what `selection` means, at most `limit`.
///
/// # Errors
/// [`Halted`] with what was deleted so far; running it again goes on.
pub async fn discard<W: Wire>(
    broker: &Broker<W>,
    selection: &Selection,
    mandate: &Mandate,
    dry_run: bool,
    limit: usize,
) -> Result<Discarded, Halted<Discarded>> {
    let mut result = Discarded { dry_run, ..Discarded::default() };
    match all(broker, selection, mandate, limit, &mut result).await {
        Ok(()) => Ok(result),
        Err(why) => Err(Halted { why, so_far: Box::new(result) }),
    }
}

async fn all<W: Wire>(
    broker: &Broker<W>,
    selection: &Selection,
    mandate: &Mandate,
    limit: usize,
    result: &mut Discarded,
) -> Result<(), Trouble> {
    let mut walk = Walk::of(broker, selection).await?;
    while let Some(found) = walk.next().await? {
        let (message, letter) = match found {
            Found::Letter(pair) => *pair,
            Found::Nothing { .. } => {
                result.missing = result.missing.saturating_add(1);
                continue;
            }
        };
        if result.letters.len() >= limit {
            result.limited = true;
            return Ok(());
        }
        if !result.dry_run {
            record(broker, &message, &letter, mandate).await?;
            delete(broker, letter.sequence).await?;
        }
        result.discarded = result.discarded.saturating_add(1);
        result.letters.push(letter);
    }
    Ok(())
}

/// Writes who and why. A record that stands is one of a deletion that was cut off: it is not written twice.
async fn record<W: Wire>(
    broker: &Broker<W>,
    message: &StoredMessage,
    letter: &Letter,
    mandate: &Mandate,
) -> Result<(), Trouble> {
    let entry = letter.entry(Action::Discard, message, mandate);
    write_once(broker, &Action::Discard.subject(letter.token(), ""), &entry).await.map(drop)
}

async fn delete<W: Wire>(broker: &Broker<W>, sequence: u64) -> Result<(), Trouble> {
    let verb = format!("STREAM.MSG.DELETE.{}", broker.streams().dead_letters);
    // Overwritten with random bytes as well: what is thrown away held personal data.
    match broker.api(&verb, &json!({ "seq": sequence, "no_erase": false })).await {
        Ok(_) | Err(ApiError::NotFound { .. }) => Ok(()),
        Err(error) => Err(Trouble::of_api(broker, error)),
    }
}
