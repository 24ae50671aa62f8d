//! What a seed asks for: how many workers, which route, which faults, how often.

use std::time::Duration;

use crate::lab::load::random::Random;

/// Of 100 calls, how many go wrong in each way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    pub(super) lost_request: u64,
    pub(super) lost_reply: u64,
    pub(super) slow_wire: u64,
    pub(super) store_lost: u64,
    pub(super) store_slow: u64,
    pub(super) rail: u64,
}

/// A surrounding that breaks its word: what the worker cannot know, and what the checks must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// The database confirms commits that it did not write.
    Commits,
    /// The rail says that it does not know what it has, and takes a key that it knows for a new one.
    Keys,
    /// The broker confirms outcome events that it did not store.
    PubAcks,
    /// The broker stores dead letters with another body.
    Letters,
    /// The broker says that it delivers some events, and does not.
    Deliveries,
}

/// One history, fixed by its seed.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Worker processes at once. More than one stands for a fleet over a database that all share.
    pub(super) workers: u64,
    /// Over a rail; else in the book.
    pub(super) rail: bool,
    pub(super) payments: u64,
    pub(super) slots: u16,
    pub(super) ack_wait: Duration,
    pub(super) claim: Duration,
    /// How long faults go on.
    pub(super) trouble: Duration,
    pub(super) rates: Rates,
    /// Between two faults of the network or the server as a whole, at most, in milliseconds; 0 for none.
    pub(super) quakes: u64,
    /// Whether processes are killed.
    pub(super) kills: bool,
    /// One payment in so many has a content that the database refuses; 0 for none.
    pub(super) refused: u64,
    /// Some payments expire within the history: in doubt, they must not be refused for it. Not drawn: older seeds stay
    /// the histories that they were.
    pub(super) expiring: bool,
    pub(super) lie: Option<Lie>,
}

impl Plan {
    /// The history of a seed.
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Random::new(seed ^ 0x91a4_0000_0000_0003);
        let mut among = |from: &[u64]| dice.pick(from).copied().unwrap_or_default();
        let rates = Rates {
            lost_request: among(&[0, 0, 1, 4]),
            lost_reply: among(&[0, 0, 1, 4, 10]),
            slow_wire: among(&[0, 0, 1, 3]),
            store_lost: among(&[0, 0, 2, 10, 30]),
            store_slow: among(&[0, 0, 3, 10]),
            rail: among(&[0, 5, 20, 50]),
        };
        Self {
            seed,
            workers: among(&[1, 1, 2]),
            rail: among(&[0, 1]) == 1,
            payments: among(&[20, 40, 60, 90]),
            slots: u16::try_from(among(&[1, 4, 8, 16])).unwrap_or(4),
            ack_wait: Duration::from_secs(among(&[1, 2, 5])),
            claim: Duration::from_secs(among(&[5, 20])),
            trouble: Duration::from_secs(among(&[5, 12, 25])),
            rates,
            quakes: among(&[0, 0, 2_000, 6_000]),
            kills: among(&[0, 1, 1]) == 1,
            refused: among(&[0, 0, 0, 25]),
            expiring: seed.is_multiple_of(3),
            lie: None,
        }
    }

    /// No fault of the network or the server: an event that a living worker holds is never delivered again.
    pub(super) fn is_calm(&self) -> bool {
        let Rates { lost_request, lost_reply, slow_wire, .. } = self.rates;
        self.quakes == 0 && lost_request == 0 && lost_reply == 0 && slow_wire == 0
    }
}
