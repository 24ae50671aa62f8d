//! A rail that was down is probed by its status call first: before a payment goes there as a probe, the rail is asked
//! about one that it should know. That costs no payment anything, while one that takes connections and never answers
//! would put a payment in doubt with every probe, for as long as that lasts.
//!
//! A status call that is out of order must not keep a rail shut that settles: after so many in vain a payment probes
//! all the same, and each of those that gets no answer, either, doubles how many.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Instant, timeout};

use super::gate::Pass;
use super::rail::end_inquiry;
use crate::domain::{Finding, RailKey};
use crate::rails::Rail;
use crate::resilience::Call;
use crate::telemetry::trace::{Part, Trace};

/// Status calls in vain before a payment probes all the same: about two rounds of probes.
const PATIENCE: u32 = 6;

/// What a lane knows of one of its rails, for the next probe.
#[derive(Debug)]
pub(super) struct Probing(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    asked_about: Option<Known>,
    /// Status calls in vain since a payment was let through.
    vain: u32,
    /// How many of them let a payment through.
    patience: u32,
}

/// A payment to ask about.
#[derive(Debug)]
struct Known {
    key: RailKey,
    /// Whether the rail has answered it; it may not have it otherwise.
    answered: bool,
}

impl Default for Probing {
    fn default() -> Self {
        Self(Mutex::new(Inner { asked_about: None, vain: 0, patience: PATIENCE }))
    }
}

impl Probing {
    /// A payment was sent to the rail, as a probe or not, and this is how the call counts.
    pub(super) fn sent(&self, key: RailKey, call: Call, probe: bool, in_doubt: bool) {
        let mut inner = self.lock();
        let answered = call == Call::Served;
        if answered || (in_doubt && inner.asked_about.as_ref().is_none_or(|known| !known.answered)) {
            inner.asked_about = Some(Known { key, answered });
        }
        match (answered, probe) {
            // It settles, whatever its status call says: the other probes need not wait for that.
            (true, true) => (inner.vain, inner.patience) = (0, 0),
            (true, false) => (inner.vain, inner.patience) = (0, PATIENCE),
            (false, true) => {
                (inner.vain, inner.patience) = (0, inner.patience.saturating_mul(2).max(PATIENCE));
            }
            (false, false) => {}
        }
    }

    /// Asks the rail before a payment probes it. `None`: it did not answer, which counts as the probe, and nothing may
    /// be sent. Takes up to the rail's deadline; dropped meanwhile, the pass goes back unused.
    pub(super) async fn ask_first<R: Rail>(&self, rail: &R, pass: Pass, trace: &Trace) -> Option<Pass> {
        if !rail.answers_inquiries() {
            return Some(pass);
        }
        let Some(key) = self.lock().asked_about.as_ref().map(|known| known.key.clone()) else { return Some(pass) };
        let (span, began) = (trace.part(Part::Inquire { rail: rail.name() }), Instant::now());
        let finding = timeout(rail.terms().deadline, rail.inquire(&key)).await.unwrap_or(Finding::CannotSay);
        end_inquiry(span, &finding);
        if self.lets_through(&finding) {
            return Some(pass);
        }
        pass.seen(Call::Down, began.elapsed());
        None
    }

    fn lets_through(&self, finding: &Finding) -> bool {
        let mut inner = self.lock();
        match finding {
            Finding::Answered(_) | Finding::NotFound => {
                inner.vain = 0;
                true
            }
            Finding::CannotSay if inner.vain >= inner.patience => {
                inner.vain = 0;
                true
            }
            Finding::CannotSay => {
                inner.vain = inner.vain.saturating_add(1);
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PaymentId;

    fn key(payment: &str) -> RailKey {
        RailKey::of(&PaymentId::parse(payment).unwrap(), 0)
    }

    fn asked_about(probing: &Probing) -> Option<String> {
        probing.lock().asked_about.as_ref().map(|known| known.key.as_str().to_owned())
    }

    /// How many status calls are in vain before a payment goes.
    fn in_vain(probing: &Probing) -> u32 {
        let mut calls = 0;
        while !probing.lets_through(&Finding::CannotSay) {
            calls += 1;
        }
        calls
    }

    #[test]
    fn what_the_rail_has_answered_is_asked_about_rather_than_what_it_may_not_have() {
        let probing = Probing::default();
        assert_eq!(asked_about(&probing), None);
        probing.sent(key("refused"), Call::Down, false, false);
        assert_eq!(asked_about(&probing), None, "it never had it");
        for (payment, call, expected) in [
            ("doubt", Call::Down, "doubt"),
            ("later", Call::Down, "later"),
            ("settled", Call::Served, "settled"),
            ("doubt", Call::Down, "settled"),
            ("newer", Call::Served, "newer"),
        ] {
            probing.sent(key(payment), call, false, call == Call::Down);
            assert_eq!(asked_about(&probing).as_deref(), Some(key(expected).as_str()));
        }
    }

    #[test]
    fn while_the_status_call_says_nothing_payments_that_probe_become_ever_rarer() {
        let probing = Probing::default();
        probing.sent(key("a"), Call::Served, false, false);
        let mut calls = Vec::new();
        for _ in 0..4 {
            calls.push(in_vain(&probing));
            probing.sent(key("b"), Call::Down, true, true);
        }
        assert_eq!(calls, [6, 12, 24, 48]);
        assert!(probing.lets_through(&Finding::NotFound), "it serves again");
    }

    #[test]
    fn a_rail_that_settles_needs_no_status_call() {
        let probing = Probing::default();
        probing.sent(key("a"), Call::Served, false, false);
        assert_eq!(in_vain(&probing), PATIENCE);
        probing.sent(key("b"), Call::Served, true, false);
        assert_eq!(in_vain(&probing), 0, "the other probes follow");
        probing.sent(key("c"), Call::Served, false, false);
        assert_eq!(in_vain(&probing), PATIENCE, "the next time it is asked first again");
    }
}
