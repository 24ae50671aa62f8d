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

/// The bound of a history's tracker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    /// How old a doubt is tracked although its rail has not said that the payment is in progress.
    pub(super) after: Duration,
    pub(super) payments: u32,
    /// Minor units, in each currency; 0 for any.
    pub(super) minor: i64,
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
    /// The lane has a second rail; each has outages of its own.
    pub(super) second: bool,
    /// Payments whose rail takes long are tracked, within this bound.
    pub(super) track: Option<Bound>,
    /// A check is asked before a payment is settled.
    pub(super) screened: bool,
    /// What a debtor may spend a day, in minor units of each currency; 0 for no limit.
    pub(super) daily: i64,
    pub(super) lie: Option<Lie>,
}

impl Plan {
    /// The history of a seed.
    pub(super) fn of(seed: u64) -> Self {
        let plain = Self::plain(seed);
        // Drawn apart: the plain part of a seed stays what it was.
        let mut dice = Random::new(seed ^ 0x5ec0_4d00_0000_0004);
        let mut among = |from: &[u64]| dice.pick(from).copied().unwrap_or_default();
        let (second, tracks, screened, limited) = (among(&[0, 1]), among(&[0, 1]), among(&[0, 1]), among(&[0, 1]));
        let bound = Bound {
            after: Duration::from_secs(among(&[0, 3, 30])),
            payments: u32::try_from(among(&[1, 1, 3, 1_000])).unwrap_or(1),
            minor: i64::try_from(among(&[0, 0, 8_000_000, 20_000_000])).unwrap_or(0),
        };
        // What has expired in doubt waits for a person, who never comes here: it must not fill the tracker.
        let bound = if plain.expiring { Bound { payments: 1_000, minor: 0, ..bound } } else { bound };
        let daily = i64::try_from(among(&[5_000_000, 10_000_000, 20_000_000])).unwrap_or(0);
        Self {
            second: plain.rail && second == 1,
            track: (plain.rail && tracks == 1).then_some(bound),
            screened: screened == 1,
            daily: if limited == 1 { daily } else { 0 },
            ..plain
        }
    }

    /// The same history over one rail at most, with nothing tracked, checked or limited.
    pub(super) fn plain(seed: u64) -> Self {
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
            second: false,
            track: None,
            screened: false,
            daily: 0,
            lie: None,
        }
    }

    /// No fault of the network or the server: an event that a living worker holds is never delivered again.
    pub(super) fn is_calm(&self) -> bool {
        let Rates { lost_request, lost_reply, slow_wire, .. } = self.rates;
        self.quakes == 0 && lost_request == 0 && lost_reply == 0 && slow_wire == 0
    }
}
