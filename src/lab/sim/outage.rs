//! When a system of another company is away, fixed by the seed.

use super::plan::Plan;
use super::world::World;
use crate::lab::load::random::Random;

/// Spans of a history, in milliseconds since its beginning.
pub(super) struct Outages(Vec<(u64, u64)>);

impl Outages {
    /// Of the system with this number; the systems of one history differ.
    pub(super) fn of(plan: &Plan, number: u64) -> Self {
        let mut dice = Random::new(plan.seed ^ 0x0a7a_6e00_0000_0000 ^ number);
        let whole = u64::try_from(plan.trouble.as_millis()).unwrap_or(0);
        let spans = (0..dice.below(3)).map(|_| {
            let from = dice.below(whole);
            (from, from.saturating_add(dice.below(whole / 2)))
        });
        Self(spans.collect())
    }

    /// Whether it is away now; never once the faults have healed.
    pub(super) fn now(&self, world: &World) -> bool {
        let now = u64::try_from(world.elapsed().as_millis()).unwrap_or(u64::MAX);
        !world.is_healed() && self.0.iter().any(|(from, to)| (*from..*to).contains(&now))
    }
}
