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
    /// The lane's second rail.
    Fallback,
    /// Questions to that one.
    FallbackInquiries,
}

/// The two breakers of one rail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RailWatch {
    pub(crate) calls: Watch,
    pub(crate) inquiries: Watch,
}

impl RailWatch {
    /// Of the rail that the lane settles over.
    pub(crate) const FIRST: Self = Self { calls: Watch::Settlement, inquiries: Watch::Inquiries };
    /// Of its second one.
    pub(crate) const SECOND: Self = Self { calls: Watch::Fallback, inquiries: Watch::FallbackInquiries };

    pub(crate) fn other(self) -> Self {
        if self == Self::FIRST { Self::SECOND } else { Self::FIRST }
    }
}

impl Watch {
    pub(crate) const ALL: [Watch; 5] =
        [Self::Settlement, Self::Outcomes, Self::DeadLetters, Self::Inquiries, Self::Checks];
    /// Those of a lane with a second rail beside them.
    pub(crate) const OF_SECOND: [Watch; 2] = [Self::Fallback, Self::FallbackInquiries];
    /// Those that a pull waits for; the second rail counts with the first.
    pub(super) const OF_PULLS: [Watch; 4] = [Self::Settlement, Self::Outcomes, Self::DeadLetters, Self::Checks];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Settlement => "settlement",
            Self::Outcomes => "outcomes",
            Self::DeadLetters => "dead_letters",
            Self::Inquiries => "inquiries",
            Self::Checks => "checks",
            Self::Fallback => "fallback",
            Self::FallbackInquiries => "fallback_inquiries",
        }
    }

    pub(super) fn paused(self) -> Option<Paused> {
        match self {
            Self::Settlement | Self::Fallback => Some(Paused::Settlement),
            Self::Outcomes => Some(Paused::Outcomes),
            Self::DeadLetters => Some(Paused::DeadLetters),
            Self::Checks => Some(Paused::Checks),
            Self::Inquiries | Self::FallbackInquiries => None,
        }
    }
}
