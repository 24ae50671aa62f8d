//! The two proofs behind which an event may be acknowledged once they are told: its payment's end, and that its payment
//! goes on without it. Both go one way, through `process::announce`.

use std::future::Future;

use crate::broker::{Announced, Broker, PublishError, Wire};
use crate::domain::Outcome;
use crate::store::{Recorded, Tracked};
use crate::telemetry::metrics::Finished;
use crate::telemetry::trace::Part;

/// A proof that the store has minted, and its own way to an [`Announced`]. No other type is one.
pub(super) trait Tells: Sized + Send {
    /// How the event ends once it is acknowledged.
    fn finishes(&self) -> Finished;
    /// The span of its publication.
    fn part(&self) -> Part<'static>;
    /// Publishes it and waits for the PubAck; gives itself back without one.
    fn tell<W: Wire>(
        self,
        broker: &Broker<W>,
        trace: Option<&str>,
    ) -> impl Future<Output = Result<Announced, (PublishError, Self)>> + Send;
}

impl Tells for Recorded {
    fn finishes(&self) -> Finished {
        match (self.is_duplicate(), self.outcome()) {
            (true, _) => Finished::Duplicate,
            (false, Outcome::Settled(_)) => Finished::Settled,
            (false, Outcome::Rejected(_)) => Finished::Rejected,
        }
    }

    fn part(&self) -> Part<'static> {
        match self.outcome() {
            Outcome::Settled(_) => Part::PUBLISH_SETTLED,
            Outcome::Rejected(_) => Part::PUBLISH_REJECTED,
        }
    }

    async fn tell<W: Wire>(self, broker: &Broker<W>, trace: Option<&str>) -> Result<Announced, (PublishError, Self)> {
        broker.announce(self, trace).await
    }
}

impl Tells for Tracked {
    fn finishes(&self) -> Finished {
        Finished::Tracked
    }

    fn part(&self) -> Part<'static> {
        Part::Publish { name: "publish payments.held", destination: "payments.held" }
    }

    async fn tell<W: Wire>(self, broker: &Broker<W>, trace: Option<&str>) -> Result<Announced, (PublishError, Self)> {
        broker.announce_tracked(self, trace).await
    }
}
