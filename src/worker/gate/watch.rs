//! What breakers watch.

use crate::telemetry::metrics::Paused;

/// Which calls a breaker watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// The store's book, or the rail.
    Settlement,
    /// PubAcks of outcome events.
    Outcomes,
    /// PubAcks of dead letters.
    DeadLetters,
    /// Questions to the rail about payments in doubt.
    Inquiries,
    /// The check before settlement.
    Checks,
}

impl Watch {
    pub(crate) const ALL: [Watch; 5] =
        [Self::Settlement, Self::Outcomes, Self::DeadLetters, Self::Inquiries, Self::Checks];
    /// Those that a pull waits for.
    pub(super) const OF_PULLS: [Watch; 4] = [Self::Settlement, Self::Outcomes, Self::DeadLetters, Self::Checks];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Settlement => "settlement",
            Self::Outcomes => "outcomes",
            Self::DeadLetters => "dead_letters",
            Self::Inquiries => "inquiries",
            Self::Checks => "checks",
        }
    }

    pub(super) fn paused(self) -> Option<Paused> {
        match self {
            Self::Settlement => Some(Paused::Settlement),
            Self::Outcomes => Some(Paused::Outcomes),
            Self::DeadLetters => Some(Paused::DeadLetters),
            Self::Checks => Some(Paused::Checks),
            Self::Inquiries => None,
        }
    }
}
