//! Dead letters: found, looked at, sent again, thrown away. What changes something leaves a record of who and why
//! before it happens.

mod discard;
mod filter;
mod letter;
mod list;
mod mask;
mod once;
mod redrive;
mod show;
mod walk;

pub use discard::{Discarded, discard};
pub use filter::{Filter, Selection};
pub use letter::Letter;
pub(super) use letter::{decoded, event_of, subject_tokens};
pub use list::{ListOptions, Listing, list};
pub use redrive::{Forecast, RedriveOptions, RedriveResult, Redriven, Step, redrive};
pub use show::{BodyView, Shown, Which, show};

use super::Trouble;

/// A command ended early; running it again goes on where it stopped.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Halted<R> {
    /// Why.
    pub why: Trouble,
    /// What was done.
    pub so_far: Box<R>,
}
