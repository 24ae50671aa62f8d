//! When the rail is asked about a payment in doubt: on its schedule, while the breaker of inquiries lets it, and first
//! of all where the settlement breaker wants a probe. Asking costs no payment anything.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::dispose::{Disposition, Unfinished};
use super::event::Event;
use super::gate::{Gates, Pass, RailWatch};
use super::process::decide;
use crate::broker::Wire;
use crate::domain::Finding;
use crate::rails::Rail;
use crate::resilience::{Call, State};
use crate::store::Doubt;

/// The right to ask once.
pub(super) struct Asking {
    own: Option<Pass>,
    /// Where what is answered also says that the rail serves again.
    probe: Option<Pass>,
}

/// What a payment in doubt waited for.
pub(super) enum Next {
    /// It is asked about now.
    Ask(Asking),
    /// It was due, and inquiries are paused: once more by the schedule.
    NotNow,
    /// Its event may not be held any longer.
    Over,
}

/// When the payment is asked about next. The schedule goes on over the deliveries of its event to this process.
pub(super) fn due<W: Wire, R: Rail>(ctx: &Arc<Context<W, R>>, event: &Event<Doubt, W>) -> Instant {
    let tries = ctx.histories.of(event.id());
    if let Some(at) = tries.ask_at {
        return at;
    }
    let inquiries = tries.asked;
    let after = match decide(ctx, event, Unfinished::Doubt { inquiries }, false, "the rail has not said") {
        Disposition::Inquire { after } | Disposition::Later { after, .. } => after,
        Disposition::Condemn(_) => Duration::from_secs(60),
    };
    let now = Instant::now();
    let at = now.checked_add(after).unwrap_or(now);
    ctx.histories.ask_at(event.id(), at);
    at
}

/// Waits until the payment is to be asked about: at `again`, or before that as a probe; or until `until`. `asks` says
/// whether the rail has a status call at all; without one nothing is learnt about it. Cancel-safe.
pub(super) async fn next(
    gates: &Arc<Gates>,
    rail: RailWatch,
    asks: bool,
    again: Option<Instant>,
    until: Instant,
) -> Next {
    let due = again.unwrap_or(until);
    while let Some(at) = gates.probe_at(rail.calls).filter(|at| asks && *at < due) {
        sleep_until(at).await;
        // One that cannot ask must not take a probe from one that can.
        if let Some(own) = gates.try_pass(rail.inquiries)
            && let Some(probe) = gates.try_probe(rail.calls)
        {
            return Next::Ask(Asking { own: Some(own), probe: Some(probe) });
        }
    }
    sleep_until(due).await;
    if again.is_none() {
        return Next::Over;
    }
    // After an outage many are due at once, and the breaker lets few through: one that let its turn pass would come
    // again a whole step later, and meet the same others. The caller watches for the stop.
    Asking::soon(gates, rail, asks, until, &CancellationToken::new()).await.map_or(Next::NotNow, Next::Ask)
}

impl Asking {
    /// The right to ask now; `None` while inquiries are paused. A rail without a status call has nothing to pause.
    pub(super) fn now(gates: &Arc<Gates>, rail: RailWatch, asks: bool) -> Option<Self> {
        if !asks {
            return Some(Self { own: None, probe: None });
        }
        let own = gates.try_pass(rail.inquiries)?;
        Some(Self { own: Some(own), probe: gates.try_probe(rail.calls) })
    }

    /// The same, but while the breaker lets few through it waits among them until `until`. Cancel-safe.
    pub(super) async fn soon(
        gates: &Arc<Gates>,
        rail: RailWatch,
        asks: bool,
        until: Instant,
        stop: &CancellationToken,
    ) -> Option<Self> {
        if let Some(asking) = Self::now(gates, rail, asks) {
            return Some(asking);
        }
        if gates.state(rail.inquiries) == State::Open {
            return None;
        }
        let own = gates.pass(rail.inquiries, until, stop).await?;
        Some(Self { own: Some(own), probe: gates.try_probe(rail.calls) })
    }

    /// The rail was asked. That it did not say is held against inquiries only: a status call that is out of order must
    /// not keep a rail shut that settles.
    pub(super) fn seen(self, finding: &Finding, took: Duration) {
        let call = match finding {
            Finding::Answered(_) | Finding::NotFound => Call::Served,
            Finding::CannotSay => Call::Down,
        };
        if let Some(own) = self.own {
            own.seen(call, took);
        }
        if let Some(probe) = self.probe.filter(|_| call == Call::Served) {
            probe.seen(Call::Served, took);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tokio_util::sync::CancellationToken;

    use super::super::gate::{Credit, Watch};
    use super::super::outside::Outside;
    use super::*;
    use crate::resilience::{BreakerPolicy, BreakerSettings};
    use crate::telemetry::metrics::LaneMetrics;

    const OPEN: Duration = Duration::from_secs(2);

    fn gates() -> Arc<Gates> {
        let policy = BreakerPolicy::new(BreakerSettings {
            sliding_window_size: 2,
            minimum_number_of_calls: 2,
            wait_duration_in_open_state: OPEN,
            permitted_number_of_calls_in_half_open_state: 2,
            randomized_wait_factor: 0.0,
            ..BreakerSettings::default()
        })
        .unwrap();
        let metrics = Arc::new(LaneMetrics::new("lane", "STREAM", "consumer"));
        Gates::new("lane", &policy, &policy, NonZeroU32::new(8).unwrap(), false, metrics, Outside::default())
    }

    async fn fail(gates: &Arc<Gates>, watch: Watch) {
        for _ in 0..2 {
            let stop = CancellationToken::new();
            gates.pass(watch, Instant::now() + OPEN * 9, &stop).await.unwrap().seen(Call::Down, Duration::ZERO);
        }
    }

    fn asked(next: Next) -> Asking {
        let Next::Ask(asking) = next else { panic!("it is not asked about") };
        asking
    }

    fn after(secs: u64) -> Instant {
        Instant::now() + Duration::from_secs(secs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_breaker_of_inquiries_that_is_open_pauses_them_and_nothing_else() {
        let gates = gates();
        for _ in 0..2 {
            let asking = asked(next(&gates, RailWatch::FIRST, true, Some(after(1)), after(60)).await);
            asking.seen(&Finding::CannotSay, Duration::ZERO);
        }
        assert_eq!(gates.state(Watch::Inquiries), State::Open);
        assert!(matches!(next(&gates, RailWatch::FIRST, true, Some(after(1)), after(60)).await, Next::NotNow));
        assert_eq!(gates.shut_by(Instant::now().into_std()), None, "pulls go on");
        assert!(gates.try_pass(Watch::Settlement).is_some());
        let asking = asked(next(&gates, RailWatch::FIRST, true, Some(after(5)), after(60)).await);
        asking.seen(&Finding::NotFound, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_waits_among_the_few_that_are_let_through_and_not_while_none_is() {
        let (gates, stop) = (gates(), CancellationToken::new());
        fail(&gates, Watch::Inquiries).await;
        let began = Instant::now();
        assert!(Asking::soon(&gates, RailWatch::FIRST, true, after(60), &stop).await.is_none());
        assert_eq!(began.elapsed(), Duration::ZERO, "it lets its turn pass at once");
        tokio::time::sleep(OPEN).await;
        let probes = [
            Asking::now(&gates, RailWatch::FIRST, true).unwrap(),
            Asking::now(&gates, RailWatch::FIRST, true).unwrap(),
        ];
        let waits = tokio::spawn({
            let gates = Arc::clone(&gates);
            async move { Asking::soon(&gates, RailWatch::FIRST, true, after(60), &CancellationToken::new()).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert_eq!(gates.credit(Instant::now().into_std()), Credit::Open, "pulls do not wait for it");
        for probe in probes {
            probe.seen(&Finding::NotFound, Duration::ZERO);
        }
        assert!(waits.await.unwrap());
        assert!(Asking::soon(&gates, RailWatch::FIRST, false, after(60), &stop).await.is_some(), "nothing to pause");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_while_few_are_let_through_waits_its_turn_and_not_for_its_next_step() {
        let gates = gates();
        fail(&gates, Watch::Inquiries).await;
        tokio::time::sleep(OPEN).await;
        let probes = [(); 2].map(|()| Asking::now(&gates, RailWatch::FIRST, true).unwrap());
        let waits = tokio::spawn({
            let gates = Arc::clone(&gates);
            async move { next(&gates, RailWatch::FIRST, true, Some(after(0)), after(60)).await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!waits.is_finished());
        for probe in probes {
            probe.seen(&Finding::NotFound, Duration::ZERO);
        }
        asked(waits.await.unwrap()).seen(&Finding::NotFound, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_settlement_breaker_that_is_open_does_not_stop_inquiries() {
        let gates = gates();
        fail(&gates, Watch::Settlement).await;
        assert_eq!(gates.state(Watch::Settlement), State::Open);
        let asking = asked(next(&gates, RailWatch::FIRST, true, Some(after(1)), after(60)).await);
        assert!(asking.probe.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_payment_in_doubt_is_asked_about_as_soon_as_the_settlement_breaker_wants_a_probe() {
        let gates = gates();
        fail(&gates, Watch::Settlement).await;
        let began = Instant::now();
        let (due, until) = (Some(after(30)), after(60));
        let first = asked(next(&gates, RailWatch::FIRST, true, due, until).await);
        assert_eq!(began.elapsed().as_secs(), OPEN.as_secs(), "long before it is due");
        assert_eq!(gates.state(Watch::Settlement), State::HalfOpen);
        first.seen(&Finding::NotFound, Duration::ZERO);
        // The other probe is for whoever comes first; this one is not due.
        let second = gates.try_probe(Watch::Settlement).unwrap();
        second.seen(Call::Served, Duration::ZERO);
        assert_eq!(gates.state(Watch::Settlement), State::Ramping, "two probes were served");
    }

    #[tokio::test(start_paused = true)]
    async fn an_inquiry_that_gets_no_answer_is_no_failed_probe() {
        let gates = gates();
        fail(&gates, Watch::Settlement).await;
        let asking = asked(next(&gates, RailWatch::FIRST, true, Some(after(30)), after(60)).await);
        assert!(asking.probe.is_some());
        asking.seen(&Finding::CannotSay, Duration::ZERO);
        assert_eq!(gates.state(Watch::Settlement), State::HalfOpen, "and its permit is free again");
        assert!(gates.try_probe(Watch::Settlement).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rail_without_a_status_call_moves_no_breaker() {
        let gates = gates();
        fail(&gates, Watch::Settlement).await;
        for _ in 0..9 {
            let asking = asked(next(&gates, RailWatch::FIRST, false, Some(after(1)), after(60)).await);
            assert!(asking.probe.is_none());
            asking.seen(&Finding::CannotSay, Duration::ZERO);
        }
        assert_eq!(gates.state(Watch::Inquiries), State::Closed);
        assert!(matches!(next(&gates, RailWatch::FIRST, true, None, after(60)).await, Next::Over));
    }
}
