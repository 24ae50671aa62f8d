//! Puts the experiments together.

use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use jiff::Timestamp;

use super::experiment::Made;
use super::report::{Report, Sums, Tried};
use super::scene::Bench;
use super::{Experiment, Ledger, Sample};
use crate::lab::sim::Shared;
use crate::rails::Rail;
use crate::store::Backend;

/// The suite over one rail.
pub struct Suite<R, L> {
    rail: Arc<R>,
    ledger: Arc<L>,
    sample: Sample,
    payments: u32,
}

impl<R: Rail, L: Ledger> Suite<R, L> {
    /// Every experiment over `rail`, whose own ledger is read through `ledger`.
    #[must_use]
    pub fn new(rail: Arc<R>, ledger: L) -> Self {
        Self { rail, ledger: Arc::new(ledger), sample: Sample::default(), payments: 20 }
    }

    /// Asks for this payment, for a rail that does not take the built-in one.
    #[must_use]
    pub fn sample(mut self, sample: Sample) -> Self {
        self.sample = sample;
        self
    }

    /// Payments of the last experiment, at least 1; the others have one each. 20 without it.
    #[must_use]
    pub fn payments(mut self, payments: u32) -> Self {
        self.payments = payments;
        self
    }

    /// Makes every experiment. `backend` must have been provisioned.
    ///
    /// Dropping the future ends the workers; what they had submitted may still be paid.
    pub async fn run<B: Backend>(self, backend: B) -> Report {
        let began = Timestamp::now();
        let run = format!("conform-{:08x}", rand::random::<u32>());
        let (rail, ledger, sample) = (self.rail, self.ledger, self.sample);
        let mut bench = Bench { rail, ledger, shared: Shared::new(backend), sample, run, began };
        // A rail may believe its own "not found" only after it has found a settled payment.
        let mut found = join_all(made(&bench, &Experiment::ALL[..1], 0, self.payments)).await;
        // That may have taken long: a worker whose broker's clock is behind its own pulls nothing.
        bench.began = Timestamp::now();
        found.extend(join_all(made(&bench, &Experiment::ALL[1..], 1, self.payments)).await);
        let mut sums = Sums::default();
        let mut experiments = Vec::with_capacity(found.len());
        let mut payments = 0_usize;
        for (experiment, made) in found {
            let Made { breaches, sums: paid, payments: asked } = made;
            sums.merge(paid);
            payments = payments.saturating_add(asked);
            let said = (experiment == Experiment::Plain && asked > 1).then(|| {
                let more = asked.saturating_sub(1);
                format!("the first payment was left in doubt, so {more} more had to be made until one was settled")
            });
            experiments.push(Tried {
                experiment,
                shows: experiment.shows(),
                held: breaches.is_empty(),
                said,
                breaches,
            });
        }
        let money = sums.finish();
        Report {
            rail: bench.rail.name().to_owned(),
            certified: experiments.iter().all(|tried| tried.held) && money.values().all(|sum| sum.conserved),
            ledger_counts: bench.ledger.counts(),
            payments: u64::try_from(payments).unwrap_or(u64::MAX),
            experiments,
            money,
        }
    }
}

type Making<'a> = BoxFuture<'a, (Experiment, Made)>;

/// These experiments, at the same time.
fn made<'a, R: Rail, L: Ledger, B: Backend>(
    bench: &'a Bench<R, L, B>,
    experiments: &'static [Experiment],
    from: u16,
    payments: u32,
) -> Vec<Making<'a>> {
    let one = |(number, experiment): (u16, &'static Experiment)| -> Making<'a> {
        Box::pin(async move { (*experiment, experiment.run(bench, number, payments).await) })
    };
    (from..).zip(experiments).map(one).collect()
}
