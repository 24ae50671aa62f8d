//! The words that columns hold for our enums; the same in every database.

use super::rows::{Ended, EventKind, State};

impl State {
    /// As the store and its readers say it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Held => "held",
            Self::Freed => "freed",
            Self::Settled => "settled",
            Self::Rejected => "rejected",
        }
    }

    pub(super) fn of_word(word: &str) -> Option<Self> {
        [Self::Open, Self::Held, Self::Freed, Self::Settled, Self::Rejected].into_iter().find(|it| it.word() == word)
    }
}

impl EventKind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Duplicate => "duplicate",
            Self::Condemned => "condemned",
        }
    }

    pub(super) fn of_word(word: &str) -> Option<Self> {
        [Self::Rejected, Self::Duplicate, Self::Condemned].into_iter().find(|it| it.word() == word)
    }
}

impl Ended {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Rejected => "rejected",
            Self::Resubmit => "resubmit",
            Self::NotSent => "not_sent",
        }
    }

    pub(super) fn of_word(word: &str) -> Option<Self> {
        [Self::Settled, Self::Rejected, Self::Resubmit, Self::NotSent].into_iter().find(|it| it.word() == word)
    }
}
