//! What is published, and what must come of it.

use std::collections::{BTreeMap, HashSet};

use acquit::domain::Code;
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

impl std::ops::AddAssign for Expected {
    fn add_assign(&mut self, more: Self) {
        self.published += more.published;
        self.settled += more.settled;
        self.rejected += more.rejected;
        self.dead_lettered += more.dead_lettered;
        self.duplicates += more.duplicates;
        self.swallowed += more.swallowed;
    }
}

/// Bodies in their order, and what must come of them together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Load {
    pub(crate) bodies: Vec<Bytes>,
    pub(crate) expected: Expected,
    /// Those rejected and those dead-lettered once more, by code.
    pub(crate) rejected_by_code: ByCode,
    pub(crate) dead_lettered_by_code: ByCode,
}

/// Events by code.
pub(crate) type ByCode = BTreeMap<String, u64>;

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
        let expected = Expected { published: count, dead_lettered: count, ..Expected::default() };
        let dead_lettered_by_code = ByCode::from([(Code::FF01.as_str().to_owned(), count)]);
        Self { bodies, expected, dead_lettered_by_code, ..Self::default() }
    }

    /// One load behind another.
    pub(crate) fn then(mut self, mut other: Self) -> Self {
        self.bodies.append(&mut other.bodies);
        self.plus(other)
    }

    /// One load among the other, both in their order.
    pub(crate) fn among(mut self, mut other: Self) -> Self {
        let (few, many) = (std::mem::take(&mut self.bodies), std::mem::take(&mut other.bodies));
        let each = many.len() / few.len().max(1);
        let mut many = many.into_iter();
        for body in few {
            self.bodies.push(body);
            self.bodies.extend(many.by_ref().take(each));
        }
        self.bodies.extend(many);
        self.plus(other)
    }

    fn plus(mut self, other: Self) -> Self {
        self.expected = self.expected.plus(other.expected);
        for (code, n) in other.rejected_by_code {
            *self.rejected_by_code.entry(code).or_default() += n;
        }
        for (code, n) in other.dead_lettered_by_code {
            *self.dead_lettered_by_code.entry(code).or_default() += n;
        }
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
                Expect::Rejected(code) => {
                    e.rejected += 1;
                    count(&mut load.rejected_by_code, code);
                }
                Expect::DeadLettered(code) => {
                    e.dead_lettered += 1;
                    count(&mut load.dead_lettered_by_code, code);
                }
                Expect::Conflict => {
                    e.dead_lettered += 1;
                    count(&mut load.dead_lettered_by_code, Code::AM05);
                }
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

fn count(by_code: &mut ByCode, code: Code) {
    *by_code.entry(code.as_str().to_owned()).or_default() += 1;
}
