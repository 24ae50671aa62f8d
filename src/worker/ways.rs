//! The rails of a lane: the one it settles over and, where it has one, a second for while that is down.
//!
//! Each has its own breaker, limit and inquiries. Which of them a new attempt is for is decided here; whether a payment
//! may go there is the store's decision, and only the rail that an attempt names is ever given it or asked about it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::context::Context;
use super::event::Event;
use super::gate::{Pass, RailWatch, Watch};
use super::probing::Probing;
use super::turns::Turns;
use crate::broker::Wire;
use crate::domain::LaneName;
use crate::rails::Rail;
use crate::resilience::State;
use crate::store::{Doubt, Note, Route};

/// Where the lanes settle.
pub(super) enum Rails<R> {
    /// All in the book.
    Book,
    /// All over one rail.
    One(Arc<R>),
    /// Each over its own; a lane that is not named settles in the book.
    Each(HashMap<LaneName, Arc<R>>),
}

impl<R> Rails<R> {
    /// The rail of a lane.
    pub(super) fn of(&self, lane: &LaneName) -> Option<Arc<R>> {
        match self {
            Self::Book => None,
            Self::One(rail) => Some(Arc::clone(rail)),
            Self::Each(rails) => rails.get(lane).cloned(),
        }
    }
}

/// One rail of a lane.
pub(super) struct Way<R> {
    pub(super) rail: Arc<R>,
    pub(super) turns: Arc<Turns>,
    pub(super) watch: RailWatch,
    pub(super) probing: Arc<Probing>,
}

/// A lane's second rail.
pub(super) struct Second<R> {
    pub(super) rail: Arc<R>,
    pub(super) turns: Arc<Turns>,
    pub(super) probing: Arc<Probing>,
}

impl<W: Wire, R: Rail> Context<W, R> {
    /// The rail of this lane that an attempt names, if it is one.
    pub(super) fn way(&self, named: &str) -> Option<Way<R>> {
        if let Some(rail) = self.rail.as_ref().filter(|rail| rail.name() == named) {
            let (rail, turns, probing) = (Arc::clone(rail), Arc::clone(&self.turns), Arc::clone(&self.probing));
            return Some(Way { rail, turns, watch: RailWatch::FIRST, probing });
        }
        let Second { rail, turns, probing } = self.second.as_ref().filter(|second| second.rail.name() == named)?;
        let (rail, turns, probing) = (Arc::clone(rail), Arc::clone(turns), Arc::clone(probing));
        Some(Way { rail, turns, watch: RailWatch::SECOND, probing })
    }

    /// Where a new attempt goes as things stand now.
    pub(super) fn route(&self) -> Route {
        let second = self.second.is_some() && self.gates.is_over_second(Instant::now().into_std());
        self.route_by(if second { Watch::Fallback } else { Watch::Settlement })
    }

    /// The lane's way of settling behind a breaker.
    fn route_by(&self, calls: Watch) -> Route {
        match (&self.rail, &self.second) {
            (None, _) => Route::Book,
            (Some(_), Some(second)) if calls == Watch::Fallback => Route::Rail { name: second.rail.name(), leg: 1 },
            (Some(rail), _) => Route::Rail { name: rail.name(), leg: 0 },
        }
    }

    /// What a new attempt is for: the first rail, and the second while that cannot have it or has just not taken it.
    /// Waits for the gate as long as the event may be held.
    pub(super) async fn entry<S>(&self, event: &Event<S, W>) -> Option<(Pass, Route)> {
        let order = match &self.second {
            None => [Watch::Settlement].as_slice(),
            Some(_) if self.histories.of(event.id()).declined == Some(Watch::Settlement) => {
                &[Watch::Fallback, Watch::Settlement]
            }
            Some(_) => &[Watch::Settlement, Watch::Fallback],
        };
        let pass = self.gates.pass_any(order, self.hold_until(event), &self.stop).await?;
        let route = self.route_by(pass.watch());
        Some((pass, route))
    }

    /// The right to call a rail. Where the other one serves, nothing waits for this one: a payment that may leave it is
    /// asked for there at its next delivery.
    pub(super) async fn pass_to<S>(&self, watch: RailWatch, event: &Event<S, W>) -> Option<Pass> {
        if self.second.is_some()
            && let State::Closed | State::Ramping = self.gates.state(watch.other().calls)
        {
            return self.gates.try_any(&[watch.calls]);
        }
        self.gates.pass(watch.calls, self.hold_until(event), &self.stop).await
    }

    /// Remembers that a rail did not take a payment; whether the lane's other one may be asked at once.
    pub(super) fn declined(&self, event: &Event<Doubt, W>) -> bool {
        let Some(way) = self.second.as_ref().and_then(|_| self.way(event.doubt().rail())) else { return false };
        self.histories.declined(event.id(), way.watch.calls);
        self.gates.state(way.watch.other().calls) != State::Open
    }

    /// Keeps in the payment's life why it is given to the second rail.
    pub(super) fn note_second(&self, event: &mut Event<Doubt, W>) {
        let (Some(first), Some(second)) = (&self.rail, &self.second) else { return };
        if event.doubt().rail() == second.rail.name() {
            let what = format!(
                "given to {}, the lane's second rail: {} is down or did not take it",
                second.rail.name(),
                first.name()
            );
            let breaker = self.gates.state(Watch::Settlement).name();
            event.note(Note { at: self.outside.now(), what, breaker });
        }
    }
}
