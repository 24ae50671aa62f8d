//! The load of demo, tests and benches: payment events of many kinds, each with what must become of it. A pure
//! function of its settings.

mod accounts;
mod defects;
mod draft;
mod poison;
pub(in crate::lab) mod random;

use std::collections::VecDeque;

use bytes::Bytes;
use jiff::Timestamp;

use self::draft::{Draft, Kind, World};
use self::random::Random;
use crate::domain::{Code, Money, OrderKey, PaymentId, SchemeName};

/// What to generate.
#[derive(Debug, Clone)]
pub struct GeneratorSettings {
    /// The same seed and settings give the same events.
    pub seed: u64,
    /// How many events, repeats and unreadable ones included.
    pub payments: u64,
    /// Between how many accounts money moves; at least 8.
    pub accounts: u32,
    /// Of 100 events, how many are not a payment to be settled: of those, 60 % break a rule, 16 % cannot be read, 14 %
    /// repeat an earlier event and 10 % conflict with one.
    pub broken_percent: u8,
    /// When the events will be published: some ask for execution on this day. `None`: none names a day it could keep.
    pub at: Option<Timestamp>,
    /// Every valid body is this long, in bytes (512 to 1024 are kept exactly). `None`: as they come, 0.5 KiB on average.
    pub body_bytes: Option<usize>,
}

/// What must become of an event, if those before it are done when it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Settled.
    Settled,
    /// Rejected by the rules, with this leading code.
    Rejected(Code),
    /// Dead-lettered unread, under this code.
    DeadLettered(Code),
    /// The same payment again. Byte for byte the broker may swallow it, spelt otherwise only the store can.
    Duplicate {
        /// Byte for byte.
        exact: bool,
    },
    /// The identity of an earlier payment with other content: dead-lettered under AM05.
    Conflict,
}

/// One event.
#[derive(Debug, Clone)]
pub struct Generated {
    /// Third subject token.
    pub scheme: SchemeName,
    /// Fourth subject token.
    pub order_key: OrderKey,
    /// The payload.
    pub body: Bytes,
    /// What must become of it.
    pub expect: Expect,
    /// The payment it asks for, where that can be read.
    pub payment_id: Option<PaymentId>,
    /// The amount it asks for, where that can be told, whether or not a rule refuses it.
    pub money: Option<Money>,
}

/// An event that a later one may repeat.
#[derive(Debug, Clone)]
struct Earlier {
    number: u64,
    draft: Draft,
    event: Generated,
}

/// Generates events. Memory is bounded whatever their number.
#[derive(Debug, Clone)]
pub struct Generator {
    settings: GeneratorSettings,
    random: Random,
    world: World,
    schemes: [SchemeName; 4],
    /// Settled so far and not repeated yet, oldest first.
    earlier: VecDeque<Earlier>,
    next: u64,
}

/// A repeat comes at least this many events after its first.
const REPEAT_AFTER: u64 = 50;

/// How many events are kept for repeating.
const KEPT: usize = 64;

impl GeneratorSettings {
    /// `payments` events with 5 % broken, between 1000 accounts, no dates.
    #[must_use]
    pub fn new(payments: u64) -> Self {
        Self { seed: 1, payments, accounts: 1000, broken_percent: 5, at: None, body_bytes: None }
    }

    /// `payments` events that all settle.
    #[must_use]
    pub fn plain(payments: u64) -> Self {
        Self { broken_percent: 0, ..Self::new(payments) }
    }

    /// `payments` events that all settle, of 512 bytes each.
    #[must_use]
    pub fn uniform(payments: u64) -> Self {
        Self { body_bytes: Some(512), ..Self::plain(payments) }
    }
}

impl Generator {
    /// Builds the accounts; events come from iterating.
    #[must_use]
    pub fn new(settings: GeneratorSettings) -> Self {
        let mut random = Random::new(settings.seed);
        let world = World::new(settings.accounts, settings.at, &mut random);
        let name = |kind: Kind| SchemeName::parse(kind.name()).unwrap_or_else(|_| SchemeName::unread());
        Self { settings, random, world, schemes: Kind::ALL.map(name), earlier: VecDeque::new(), next: 0 }
    }

    fn event(&mut self, number: u64) -> Generated {
        // In thousandths of the broken share, so that 5 % leaves 3, 0.8, 0.7 and 0.5 % of all.
        let drawn = self.random.below(100_000);
        let share = u64::from(self.settings.broken_percent.min(100)).saturating_mul(1000);
        if drawn >= share {
            return self.settled(number);
        }
        match self.random.below(100) {
            0..60 => self.rejected(number),
            60..76 => self.unreadable(number),
            76..90 => self.duplicate(number),
            _ => self.conflict(number),
        }
    }

    fn settled(&mut self, number: u64) -> Generated {
        let kind = Kind::any(&mut self.random);
        let size = self.settings.body_bytes;
        let mut draft = self.world.draft(number, kind, size.is_some(), &mut self.random);
        let body = match size {
            Some(size) => draft.body_of(size),
            None => draft.body(),
        };
        let event = self.of(&draft, body, Expect::Settled);
        if self.settings.broken_percent > 0 && (self.earlier.len() < 8 || self.random.chance(12)) {
            if self.earlier.len() >= KEPT {
                self.earlier.pop_front();
            }
            self.earlier.push_back(Earlier { number, draft, event: event.clone() });
        }
        event
    }

    fn rejected(&mut self, number: u64) -> Generated {
        let Some(defect) = defects::any(&mut self.random) else { return self.settled(number) };
        let kind = self.random.pick(defect.kinds).copied().unwrap_or(Kind::Book);
        let mut draft = self.world.draft(number, kind, false, &mut self.random);
        (defect.apply)(&mut draft, &mut self.random);
        let body = draft.body();
        self.of(&draft, body, Expect::Rejected(defect.code))
    }

    fn unreadable(&mut self, number: u64) -> Generated {
        let (code, body) = poison::any(number, &mut self.random);
        let [book, ..] = &self.schemes;
        Generated {
            scheme: book.clone(),
            order_key: OrderKey::unread(),
            body: body.into(),
            expect: Expect::DeadLettered(code),
            payment_id: None,
            money: None,
        }
    }

    fn duplicate(&mut self, number: u64) -> Generated {
        let Some(Earlier { draft, event, .. }) = self.an_earlier(number) else { return self.settled(number) };
        let exact = self.random.chance(60);
        let body = if exact { event.body } else { draft.respelt().into() };
        Generated { body, expect: Expect::Duplicate { exact }, ..event }
    }

    fn conflict(&mut self, number: u64) -> Generated {
        let Some(Earlier { mut draft, .. }) = self.an_earlier(number) else { return self.settled(number) };
        let other = draft.money.and_then(|money| Money::new(money.minor().checked_add(1)?, money.currency()));
        match other {
            Some(money) if self.random.chance(70) => draft.set_money(money),
            Some(_) | None => draft.set("end_to_end_id", r#""ANOTHER-INVOICE""#),
        }
        let body = draft.body();
        self.of(&draft, body, Expect::Conflict)
    }

    /// Takes out one that is far enough back.
    fn an_earlier(&mut self, number: u64) -> Option<Earlier> {
        let ripe = self.earlier.partition_point(|earlier| earlier.number.saturating_add(REPEAT_AFTER) <= number);
        let at = self.random.below(u64::try_from(ripe).ok()?);
        if ripe == 0 { None } else { self.earlier.remove(usize::try_from(at).ok()?) }
    }

    fn of(&self, draft: &Draft, body: String, expect: Expect) -> Generated {
        let [book, sct, sct_inst, cbpr] = &self.schemes;
        let scheme = match draft.kind {
            Kind::Book => book,
            Kind::Sct => sct,
            Kind::SctInst => sct_inst,
            Kind::Cbpr => cbpr,
        };
        Generated {
            scheme: scheme.clone(),
            order_key: draft.order_key.clone(),
            body: body.into(),
            expect,
            payment_id: PaymentId::parse(&draft.payment_id).ok(),
            money: draft.money,
        }
    }
}

impl Iterator for Generator {
    type Item = Generated;

    fn next(&mut self) -> Option<Generated> {
        let number = self.next;
        if number >= self.settings.payments {
            return None;
        }
        self.next = number.saturating_add(1);
        Some(self.event(number))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.settings.payments.saturating_sub(self.next));
        (left.unwrap_or(usize::MAX), left.ok())
    }
}

#[cfg(test)]
mod tests;
