//! Cheats tried in the worker's row, with its rights: it may name an event's states, and every proof. None compiles.

#[cfg(acquit_cheats = "resolve")]
mod resolve {
    use std::time::Duration;

    use crate::broker::Delay;

    //~ cheat: hand an event back without a delay E0423 private fields
    fn no_delay() -> Delay {
        Delay(Duration::ZERO)
    }

    //~ cheat: reach the mint of proofs from the worker E0603 `writer`
    type Mint = crate::store::writer::Store;

    //~ cheat: reach the requests that the store's writer answers with proofs E0603 `writer`
    type Asked = crate::store::writer::request::Request;

    //~ cheat: reach a delivery's fields from the worker E0603 `delivery`
    type Fields = crate::broker::delivery::Delivery<crate::broker::Nats>;
}

#[cfg(acquit_cheats = "types")]
mod types {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use jiff::Timestamp;

    use super::super::dispose::{Disposition, Unfinished, dispose};
    use super::super::event::{Event, Read, Received};
    use super::super::tries::Tries;
    use crate::broker::{AckUnknown, Announced, Broker, Buried, Delivery, Hold, PublishError, Wire};
    use crate::domain::{Answer, DeadReason, LaneName, Outcome};
    use crate::intake::{Judged, Rules, Unreadable};
    use crate::rails::Rail;
    use crate::resilience::RetryPolicy;
    use crate::store::{Condemned, Doubt, Intent, Message, Note, Origin, PaymentRow, Recorded, Route, Store};
    use crate::store::{TrackLimits, Tracked};

    fn is_clone<T: Clone>() {}
    fn is_confirmed<T: crate::store::Confirmed>() {}
    fn is_default<T: Default>() {}
    fn is_read<T: serde::de::DeserializeOwned>() {}

    //~ cheat: acknowledge what has only arrived E0599 `acknowledge`
    async fn acknowledge_received<W: Wire>(event: Event<Received, W>) -> Result<(), AckUnknown> {
        event.acknowledge().await
    }

    //~ cheat: acknowledge what is only judged E0599 `acknowledge`
    async fn acknowledge_judged<W: Wire>(event: Event<Judged, W>) -> Result<(), AckUnknown> {
        event.acknowledge().await
    }

    //~ cheat: acknowledge what is only recorded, its outcome not announced E0599 `acknowledge`
    async fn acknowledge_recorded<W: Wire>(event: Event<Recorded, W>) -> Result<(), AckUnknown> {
        event.acknowledge().await
    }

    //~ cheat: acknowledge a payment that may have reached its rail E0599 `acknowledge`
    async fn acknowledge_doubt<W: Wire>(event: Event<Doubt, W>) -> Result<(), AckUnknown> {
        event.acknowledge().await
    }

    //~ cheat: acknowledge what leaves as a dead letter E0599 `acknowledge`
    async fn acknowledge_condemned<W: Wire>(event: Event<Condemned, W>) -> Result<(), AckUnknown> {
        event.acknowledge().await
    }

    //~ cheat: acknowledge what is only tracked, before it is told E0599 `acknowledge`
    async fn acknowledge_tracked<W: Wire>(event: Event<Tracked, W>) -> Result<(), AckUnknown> {
        event.acknowledge().await
    }

    //~ cheat: acknowledge a delivery because the tracker owns its payment E0308 Tracked`
    async fn acknowledge_with_tracked<W: Wire>(held: Delivery<W>, proof: Tracked) -> Result<(), AckUnknown> {
        held.acknowledge(proof).await
    }

    //~ cheat: mint the proof of a tracked payment in the worker E0624 `mint`
    fn mint_tracked(origin: &Origin, row: Box<PaymentRow>) -> Tracked {
        Tracked::mint(origin, row)
    }

    //~ cheat: announce a doubt as tracked E0308 Doubt`
    async fn announce_doubt_as_tracked<W: Wire>(broker: &Broker<W>, doubt: Doubt) {
        drop(broker.announce_tracked(doubt, None).await);
    }

    //~ cheat: track what is only judged E0599 `track`
    async fn track_judged<W: Wire>(event: Event<Judged, W>, store: &Store, limits: TrackLimits) {
        drop(event.track(store, limits).await);
    }

    //~ cheat: track an order that may still be sent E0308 Intent`
    async fn track_intent(store: &Store, intent: Intent, message: Message, limits: TrackLimits) {
        drop(store.track(intent, message, limits).await);
    }

    //~ cheat: let the tracker go of a payment whose outcome is only recorded E0277 Confirmed`
    fn told_by_record() {
        is_confirmed::<Recorded>();
    }

    //~ cheat: let the tracker go of a payment because it is tracked E0277 Confirmed`
    fn told_by_tracking() {
        is_confirmed::<Tracked>();
    }

    //~ cheat: acknowledge a delivery with the record of its outcome E0308 Recorded`
    async fn acknowledge_with_record<W: Wire>(held: Delivery<W>, proof: Recorded) -> Result<(), AckUnknown> {
        held.acknowledge(proof).await
    }

    //~ cheat: acknowledge without any proof, past the delivery E0624 `answer`
    async fn acknowledge_past_types<W: Wire>(hold: Arc<Hold<W>>) -> Result<(), AckUnknown> {
        hold.answer(Bytes::from_static(b"+ACK")).await
    }

    //~ cheat: judge an event that was not read E0599 `judge`
    fn judge_unread<W: Wire>(event: Event<Received, W>, rules: &Rules) -> Event<Judged, W> {
        event.judge(rules, Timestamp::UNIX_EPOCH)
    }

    //~ cheat: open an event that was not judged E0599 `open`
    async fn open_unjudged<W: Wire>(event: Event<Read, W>, store: &Store, lane: &LaneName) {
        drop(event.open(store, lane, Vec::new(), Route::Book).await);
    }

    //~ cheat: have the store open another event than the one that is held E0061 5 arguments
    async fn open_another<W: Wire>(event: Event<Judged, W>, store: &Store, other: &Event<Judged, W>, lane: &LaneName) {
        drop(event.open(store, other.id(), lane, Vec::<Note>::new(), Route::Book).await);
    }

    //~ cheat: take a proof from one event, to use it on another's delivery E0616 `state`
    fn take_proof<W: Wire>(event: Event<Announced, W>) -> Announced {
        event.state
    }

    //~ cheat: take the delivery away from its event E0616 `held`
    fn take_delivery<W: Wire>(event: Event<Judged, W>) -> Delivery<W> {
        event.held
    }

    //~ cheat: swap the deliveries of two events E0616 `held` x2
    fn swap_deliveries<W: Wire>(one: &mut Event<Announced, W>, other: &mut Event<Announced, W>) {
        std::mem::swap(&mut one.held, &mut other.held);
    }

    //~ cheat: turn an event into any state E0624 `turn`
    fn turn<W: Wire>(event: Event<Judged, W>, proof: Announced) -> Event<Announced, W> {
        event.turn(|_| proof)
    }

    //~ cheat: submit from a doubt E0599 `submit`
    fn submit_doubt<W: Wire, R: Rail>(event: Event<Doubt, W>, rail: Arc<R>) {
        drop(event.submit(rail, jiff::Timestamp::UNIX_EPOCH));
    }

    //~ cheat: submit what the store was not asked about E0599 `submit`
    fn submit_judged<W: Wire, R: Rail>(event: Event<Judged, W>, rail: Arc<R>) {
        drop(event.submit(rail, jiff::Timestamp::UNIX_EPOCH));
    }

    //~ cheat: conclude an attempt that was not sent E0599 `conclude`
    async fn conclude_unsent<W: Wire>(event: Event<Intent, W>, store: &Store, answer: Answer) {
        drop(event.conclude(store, answer).await);
    }

    //~ cheat: announce a payment in doubt E0599 `announce`
    async fn announce_doubt<W: Wire>(event: Event<Doubt, W>, broker: &Broker<W>) {
        drop(event.announce(broker).await);
    }

    //~ cheat: announce an outcome without its record E0308 Recorded`
    async fn announce_outcome<W: Wire>(broker: &Broker<W>, outcome: Outcome) {
        drop(broker.announce(outcome, None).await);
    }

    //~ cheat: condemn a payment in doubt E0599 `condemn`
    async fn condemn_doubt<W: Wire>(event: Event<Doubt, W>, store: &Store, lane: &LaneName, why: DeadReason) {
        drop(event.condemn(store, lane, Vec::new(), why).await);
    }

    //~ cheat: hand a doubt to the store to be condemned E0308 Doubt`
    async fn condemn_by_doubt(store: &Store, doubt: Doubt, why: DeadReason) {
        drop(store.condemn(doubt, why, None).await);
    }

    //~ cheat: bury an event that nobody condemned E0599 `bury`
    async fn bury_unread<W: Wire>(event: Event<Unreadable, W>, broker: &Broker<W>) {
        drop(event.bury(broker, "worker").await);
    }

    //~ cheat: bury a delivery with the record of a payment E0308 Condemned`
    async fn bury_recorded<W: Wire>(
        broker: &Broker<W>,
        held: Delivery<W>,
        proof: Recorded,
    ) -> Result<Buried<W>, (PublishError, Delivery<W>, Condemned)> {
        broker.bury(held, proof, "worker").await
    }

    //~ cheat: terminate an event without a confirmed dead letter E0599 `terminate`
    async fn terminate_condemned<W: Wire>(event: Event<Condemned, W>) {
        drop(event.terminate().await);
    }

    //~ cheat: terminate a delivery past its dead letter E0624 `terminate`
    async fn terminate_past_types<W: Wire>(held: Delivery<W>) {
        drop(held.terminate("FF01").await);
    }

    //~ cheat: mint a record in the worker E0624 `mint`
    fn mint_recorded(origin: &Origin, outcome: Box<Outcome>) -> Recorded {
        Recorded::mint(origin, outcome, false)
    }

    //~ cheat: let the table of unfinished states acknowledge E0599 `Acknowledge`
    fn table_acknowledges() -> Disposition {
        Disposition::Acknowledge
    }

    //~ cheat: put a final state before the table of unfinished states E0599 `Recorded`
    fn table_of_final(proof: &Recorded) -> Unfinished<'_> {
        Unfinished::Recorded(proof)
    }

    //~ cheat: have the table decide about a record E0308 Unfinished
    fn table_decides(proof: &Recorded, tries: &Tries, policy: &RetryPolicy) -> Disposition {
        dispose(proof, tries, policy, false, 0.5)
    }

    //~ cheat: hand an event back after no delay at all E0308 Delay`
    async fn hand_back_at_once<W: Wire>(event: Event<Judged, W>) {
        drop(event.hand_back(Duration::ZERO).await);
    }

    //~ cheat: clone a proof, an attempt, a delivery or an event E0277 Clone` x10
    fn clones<W: Wire>() {
        is_clone::<Recorded>();
        is_clone::<Tracked>();
        is_clone::<Condemned>();
        is_clone::<Intent>();
        is_clone::<Doubt>();
        is_clone::<crate::store::Order>();
        is_clone::<Announced>();
        is_clone::<Buried<W>>();
        is_clone::<Delivery<W>>();
        is_clone::<Event<Judged, W>>();
    }

    //~ cheat: make a proof out of nothing E0277 Default` x8
    fn defaults<W: Wire>() {
        is_default::<Recorded>();
        is_default::<Tracked>();
        is_default::<Condemned>();
        is_default::<Intent>();
        is_default::<Doubt>();
        is_default::<Announced>();
        is_default::<Buried<W>>();
        is_default::<Delivery<W>>();
    }

    //~ cheat: read a proof from bytes E0277 DeserializeOwned` x7
    fn reads<W: Wire>() {
        is_read::<Recorded>();
        is_read::<Tracked>();
        is_read::<Condemned>();
        is_read::<Intent>();
        is_read::<Doubt>();
        is_read::<Announced>();
        is_read::<Buried<W>>();
    }
}

#[cfg(acquit_cheats = "moves")]
mod moves {
    use std::sync::Arc;

    use super::super::event::Event;
    use crate::broker::{Announced, Broker, Buried, Delay, Delivery, Wire};
    use crate::domain::{Answer, EventId};
    use crate::intake::Judged;
    use crate::rails::Rail;
    use crate::store::{Condemned, Doubt, Intent, Order, Recorded, Store};

    //~ cheat: submit one intent twice E0382 `event`
    fn submit_twice<W: Wire, R: Rail>(event: Event<Intent, W>, rail: Arc<R>) {
        drop(event.submit(Arc::clone(&rail), jiff::Timestamp::UNIX_EPOCH));
        drop(event.submit(rail, jiff::Timestamp::UNIX_EPOCH));
    }

    //~ cheat: have two orders out of one intent E0382 `intent`
    fn dispatch_twice(intent: Intent) -> [(Order, Doubt); 2] {
        [intent.dispatch(), intent.dispatch()]
    }

    //~ cheat: conclude one attempt twice E0382 `event`
    async fn conclude_twice<W: Wire>(event: Event<Doubt, W>, store: &Store, answer: Answer) {
        drop(event.conclude(store, answer.clone()).await);
        drop(event.conclude(store, answer).await);
    }

    //~ cheat: acknowledge twice E0382 `event`
    async fn acknowledge_twice<W: Wire>(event: Event<Announced, W>) {
        drop(event.acknowledge().await);
        drop(event.acknowledge().await);
    }

    //~ cheat: acknowledge two deliveries with one proof E0382 `proof`
    async fn one_proof_for_two<W: Wire>(one: Delivery<W>, other: Delivery<W>, proof: Announced) {
        drop(one.acknowledge(proof).await);
        drop(other.acknowledge(proof).await);
    }

    //~ cheat: hand back, then acknowledge E0382 `event`
    async fn hand_back_and_acknowledge<W: Wire>(event: Event<Announced, W>, after: Delay) {
        drop(event.hand_back(after).await);
        drop(event.acknowledge().await);
    }

    //~ cheat: bury, then announce the same event E0382 `held`
    async fn bury_and_keep<W: Wire>(broker: &Broker<W>, held: Delivery<W>, why: Condemned) -> EventId {
        drop(broker.bury(held, why, "worker").await);
        held.event().clone()
    }

    //~ cheat: terminate twice E0382 `buried`
    async fn terminate_twice<W: Wire>(buried: Buried<W>) {
        drop(buried.terminate().await);
        drop(buried.terminate().await);
    }

    //~ cheat: take the record out of an event and leave the event E0507 Recorded`
    fn take_record<W: Wire>(event: &Event<Recorded, W>) -> Recorded {
        *event.proof()
    }

    //~ cheat: take the delivery out of an event and leave the event E0507 Delivery<W>`
    fn take_delivery<W: Wire>(event: &Event<Judged, W>) -> Delivery<W> {
        *event.delivery()
    }
}

#[cfg(acquit_cheats = "fields")]
mod fields {
    use super::super::event::Event;
    use crate::broker::{Announced, Buried, Delivery, Wire};
    use crate::domain::{EventId, Fingerprint, Payment, RailKey};
    use crate::intake::{Judged, Valid};
    use crate::store::{Condemned, EventRow, Order};

    //~ cheat: join a proof to a delivery by hand E0451 Event`
    fn join<W: Wire>(state: Announced, held: Delivery<W>) -> Event<Announced, W> {
        Event { state, held }
    }

    //~ cheat: mint a condemnation in the worker E0451 Condemned`
    fn condemned(row: Box<EventRow>) -> Condemned {
        Condemned { row }
    }

    //~ cheat: mint the proof of an announcement in the worker E0451 Announced`
    fn announced(event: EventId) -> Announced {
        Announced { event }
    }

    //~ cheat: use one event's dead letter for another's delivery E0451 Buried`
    fn buried<W: Wire>(delivery: Delivery<W>, other: Buried<W>) -> Buried<W> {
        Buried { delivery, ..other }
    }

    //~ cheat: make an order without an intent E0451 Order`
    fn order(key: RailKey, valid: std::sync::Arc<Valid>) -> Order {
        Order { valid, key, leg: 0, attempt: 1, deadline: jiff::Timestamp::MAX }
    }

    //~ cheat: judge a payment valid past the rules E0451 Valid`
    fn judged(payment: Box<Payment>, fingerprint: Fingerprint) -> Judged {
        Judged::Valid(Valid { payment, fingerprint, allowance: None })
    }
}
