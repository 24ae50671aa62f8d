//! Cheats tried in the broker's row, with the rights of the wire, the pulls and the topology. None compiles.

#[cfg(acquit_cheats = "types")]
mod types {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::{Announced, Broker, Delivery, Hold, Wire};
    use crate::domain::Outcome;
    use crate::store::{Doubt, Intent, Origin, Recorded};

    //~ cheat: mint a record in the wire E0624 `mint`
    fn mint_recorded(origin: &Origin, outcome: Box<Outcome>) -> Recorded {
        Recorded::mint(origin, outcome, false)
    }

    //~ cheat: acknowledge in the wire, without a proof E0624 `answer`
    async fn acknowledge<W: Wire>(hold: Arc<Hold<W>>) {
        drop(hold.answer(Bytes::from_static(b"+ACK")).await);
    }

    //~ cheat: terminate a delivery by a code alone E0308 DeadLetterStored`
    async fn terminate<W: Wire>(held: Delivery<W>) {
        drop(held.terminate("FF01").await);
    }

    //~ cheat: put another event's name on a delivery E0616 `what`
    fn rename<W: Wire>(held: &mut Delivery<W>, other: &Delivery<W>) {
        held.what.event = other.event().clone();
    }

    //~ cheat: announce an intent E0308 Recorded`
    async fn announce_intent<W: Wire>(broker: &Broker<W>, intent: Intent) {
        drop(broker.announce(intent, None).await);
    }

    //~ cheat: announce a doubt E0308 Recorded`
    async fn announce_doubt<W: Wire>(broker: &Broker<W>, doubt: Doubt) {
        drop(broker.announce(doubt, None).await);
    }

    //~ cheat: take the word of a reply for the proof of an announcement E0277 From<async_nats::Message>`
    fn from_reply(reply: async_nats::Message) -> Announced {
        reply.into()
    }
}

#[cfg(acquit_cheats = "moves")]
mod moves {
    use super::super::{Announced, Broker, Wire};
    use crate::store::Recorded;

    //~ cheat: have two announcements out of one record E0382 `proof`
    async fn announce_twice<W: Wire>(broker: &Broker<W>, proof: Recorded) {
        drop(broker.announce(proof, None).await);
        drop(broker.announce(proof, None).await);
    }

    //~ cheat: keep a borrowed announcement E0507 Announced`
    fn keep(proof: &Announced) -> Announced {
        *proof
    }
}

#[cfg(acquit_cheats = "fields")]
mod fields {
    use super::super::publish::DeadLetterStored;
    use super::super::{Announced, Buried, Delivery, Wire};
    use crate::domain::EventId;
    use crate::store::{Condemned, EventRow};

    //~ cheat: mint the proof of an announcement in the wire E0451 Announced`
    fn announced(event: EventId) -> Announced {
        Announced { event }
    }

    //~ cheat: mint the proof of a dead letter in the wire E0451 DeadLetterStored`
    fn stored() -> DeadLetterStored {
        DeadLetterStored { code: "FF01" }
    }

    //~ cheat: call a delivery buried in the wire E0451 Buried`
    fn buried<W: Wire>(delivery: Delivery<W>, stored: DeadLetterStored) -> Buried<W> {
        Buried { delivery, stored }
    }

    //~ cheat: mint a condemnation in the wire E0451 Condemned`
    fn condemned(row: Box<EventRow>) -> Condemned {
        Condemned { row }
    }
}
