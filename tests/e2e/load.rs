//! What is published, and what must come of it.

use std::collections::HashSet;

use acquit::lab::load::{Expect, Generator, GeneratorSettings};
use bytes::Bytes;

/// Events by what must become of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Stored in the stream: repeats of a message id inside the broker's window are not.
    pub(crate) published: u64,
    pub(crate) settled: u64,
    pub(crate) rejected: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) duplicates: u64,
    /// Known to the broker by their message id.
    pub(crate) swallowed: u64,
}

/// Bodies in their order, and what must come of them together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Load {
    pub(crate) bodies: Vec<Bytes>,
    pub(crate) expected: Expected,
}

impl Load {
    /// `count` payments that all settle; another seed makes other payments.
    pub(crate) fn plain(seed: u64, count: u64) -> Self {
        Self::of(GeneratorSettings { seed, ..GeneratorSettings::plain(count) })
    }

    /// `count` events, a good part of them broken in every way the generator knows.
    pub(crate) fn mixed(seed: u64, count: u64, broken_percent: u8) -> Self {
        Self::of(GeneratorSettings { seed, broken_percent, ..GeneratorSettings::new(count) })
    }

    /// `count` bodies that cannot be read, each different.
    pub(crate) fn unreadable(name: &str, count: u64) -> Self {
        let bodies = (0..count).map(|n| Bytes::from(format!("{name} {n} is no payment"))).collect();
        Self { bodies, expected: Expected { published: count, dead_lettered: count, ..Expected::default() } }
    }

    /// One load behind another.
    pub(crate) fn then(mut self, other: Self) -> Self {
        let (a, b) = (self.expected, other.expected);
        self.bodies.extend(other.bodies);
        self.expected = a.plus(b);
        self
    }

    fn of(settings: GeneratorSettings) -> Self {
        let mut load = Self::default();
        let mut seen = HashSet::new();
        for mut event in Generator::new(settings) {
            // A file holds one body a line, so none ends with one.
            if let Some(line) = event.body.strip_suffix(b"\n") {
                event.body = event.body.slice_ref(line);
            }
            let e = &mut load.expected;
            assert!(!event.body.contains(&b'\n'), "a body is a line");
            // The recommended message id is made of payment id and body; lines that cannot be read stay apart.
            if event.payment_id.is_some() && !seen.insert(event.body.clone()) {
                e.swallowed += 1;
                load.bodies.push(event.body);
                continue;
            }
            e.published += 1;
            match event.expect {
                Expect::Settled => e.settled += 1,
                Expect::Rejected(_) => e.rejected += 1,
                Expect::DeadLettered(_) | Expect::Conflict => e.dead_lettered += 1,
                Expect::Duplicate { exact: _ } => e.duplicates += 1,
            }
            load.bodies.push(event.body);
        }
        load
    }
}

impl Expected {
    pub(crate) fn plus(self, b: Self) -> Self {
        Self {
            published: self.published + b.published,
            settled: self.settled + b.settled,
            rejected: self.rejected + b.rejected,
            dead_lettered: self.dead_lettered + b.dead_lettered,
            duplicates: self.duplicates + b.duplicates,
            swallowed: self.swallowed + b.swallowed,
        }
    }
}
