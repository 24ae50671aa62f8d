//! An event in one worker's hands: a state and the delivery it belongs to, joined for good.
//!
//! The fields are private to this file, and nothing here takes two events or the name of another: what the store is
//! asked about is read off the delivery, so a proof cannot meet another event's delivery. Each transition consumes the event; the final ones have one way out, fixed by type.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::tells::Tells;
use crate::broker::{
    AckUnknown, Announced, Broker, Buried, Delay, Delivery, HeldWhy, Hold, PublishError, Waiting, Wire,
};
use crate::domain::{Answer, Code, DeadReason, EventId, Finding, LaneName, OrderKey, Reason, SchemeName};
use crate::intake::{Decode, Decoded, Instants, Judged, Raw, Rules, Unreadable};
use crate::rails::{Ask, Cleared, Rail};
use crate::store::{
    Concluded, Condemned, Doubt, Handed, Intent, NotCondemned, Note, Origin, Peek, Route, Stand, Store, StoreLost,
    TrackLimits,
};
use crate::telemetry::trace::Trace;

pub(super) use super::ends::{HandedOver, Opened, Peeked, Settled, Submitted};

/// The event has arrived; nothing is known of it.
pub(super) struct Received;

/// Identity and content are read, nothing is judged.
pub(super) struct Read {
    decoded: Decoded,
    scheme: SchemeName,
}

/// The event is another worker's at the moment.
pub(super) struct Elsewhere {
    pub(super) until: Timestamp,
}

/// An event: what is known of it, and the delivery that holds it.
pub(super) struct Event<S, W> {
    state: S,
    held: Delivery<W>,
}

impl<S, W: Wire> Event<S, W> {
    pub(super) fn id(&self) -> &EventId {
        self.held.event()
    }

    pub(super) fn delivery(&self) -> &Delivery<W> {
        &self.held
    }

    pub(super) fn hold(&self) -> &Arc<Hold<W>> {
        self.held.hold()
    }

    pub(super) fn trace(&self) -> &Trace {
        self.held.trace()
    }

    /// Gives the event back, to be delivered again after a delay. Any state may: nothing is claimed by it.
    pub(super) async fn hand_back(self, after: Delay) -> Result<(), AckUnknown> {
        self.held.hand_back(after).await
    }

    fn turn<T>(self, turn: impl FnOnce(S) -> T) -> Event<T, W> {
        Event { state: turn(self.state), held: self.held }
    }
}

impl<W: Wire> Event<Received, W> {
    pub(super) fn received(held: Delivery<W>) -> Self {
        Self { state: Received, held }
    }

    /// Reads identity and content.
    pub(super) fn decode(self, decoder: &dyn Decode) -> Result<Event<Read, W>, Event<Unreadable, W>> {
        let Self { state: Received, held } = self;
        let Some((scheme, order_key)) = held.subject_tokens().cloned() else {
            return Err(Event { state: bad_subject(), held });
        };
        let header = |name: &str| held.header(name);
        let raw = Raw { scheme: &scheme, order_key: &order_key, header: &header, body: held.payload() };
        match decoder.decode(raw) {
            Ok(decoded) => Ok(Event { state: Read { decoded, scheme }, held }),
            Err(state) => Err(Event { state, held }),
        }
    }

    /// Stores that the event leaves as a dead letter although it was never read.
    pub(super) async fn condemn(
        self,
        store: &Store,
        lane: &LaneName,
        history: Vec<Note>,
        why: DeadReason,
    ) -> Result<Event<Condemned, W>, (NotCondemned, Self)> {
        let origin = origin(&self.held, lane, history);
        match store.condemn(origin, why, None).await {
            Ok(state) => Ok(Event { state, held: self.held }),
            Err(not) => Err((not, self)),
        }
    }
}

/// What the store keeps about an event. Made in this file only: the origin of another event would join that event's
/// proof to this delivery.
fn origin<W: Wire>(held: &Delivery<W>, lane: &LaneName, history: Vec<Note>) -> Origin {
    let (scheme, order_key) =
        held.subject_tokens().cloned().unwrap_or_else(|| (SchemeName::unread(), OrderKey::unread()));
    Origin {
        event: held.event().clone(),
        scheme,
        order_key,
        lane: lane.clone(),
        requested_at: held.requested_at(),
        delivery: held.delivered(),
        history,
    }
}

fn bad_subject() -> Unreadable {
    let text = "the subject's scheme and order key must be 1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'";
    Unreadable::Malformed(Reason::new(Code::FF01, "", text))
}

impl<W: Wire> Event<Unreadable, W> {
    /// Why it cannot be read.
    pub(super) fn why(&self) -> &Unreadable {
        &self.state
    }

    /// Back to a delivery that nothing is known of.
    pub(super) fn forget(self) -> Event<Received, W> {
        self.turn(|_| Received)
    }
}

impl<W: Wire> Event<Read, W> {
    /// Judges the content. Dates are judged at the broker's timestamp, so an outage over midnight rejects nobody.
    pub(super) fn judge(self, rules: &Rules, now: Timestamp) -> Event<Judged, W> {
        let at = Instants { requested_at: self.held.requested_at(), now };
        self.turn(|Read { decoded, scheme }| rules.judge(decoded, &scheme, at))
    }
}

impl<W: Wire> Event<Judged, W> {
    pub(super) fn judged(&self) -> &Judged {
        &self.state
    }

    /// Asks the store what stands; on the book route this settles.
    pub(super) async fn open(
        self,
        store: &Store,
        lane: &LaneName,
        history: Vec<Note>,
        route: Route,
    ) -> Result<Opened<W>, (StoreLost, Self)> {
        let held = self.held;
        match store.open(origin(&held, lane, history), self.state, route).await {
            Ok(stand) => Ok(opened(stand, held)),
            Err((lost, _, judged)) => Err((lost, Event { state: *judged, held })),
        }
    }

    /// Asks the store what stands, and has it begin nothing.
    pub(super) async fn peek(
        self,
        store: &Store,
        lane: &LaneName,
        history: Vec<Note>,
        route: Route,
    ) -> Result<Peeked<W>, (StoreLost, Self)> {
        let held = self.held;
        match store.peek(origin(&held, lane, history), self.state, route).await {
            Ok(Peek::Stands(stand)) => Ok(Peeked::Stands(opened(*stand, held))),
            Ok(Peek::Nothing(judged)) => Ok(Peeked::Nothing(Event { state: *judged, held })),
            Err((lost, _, judged)) => Err((lost, Event { state: *judged, held })),
        }
    }

    /// Shows the payment to a check. What our rules refuse is none of its business.
    pub(super) async fn ask(&self, check: &dyn Ask) -> Result<Cleared, &'static str> {
        match &self.state {
            Judged::Valid(valid) => check.ask(valid.payment()).await,
            Judged::Refused(_) => Ok(Cleared::Clear),
        }
    }

    /// Refuses it under a code that a check gave, in the code's own words.
    pub(super) fn refuse(self, code: Code) -> Self {
        self.turn(|judged| judged.refuse(Reason::new(code, "", code.meaning())))
    }

    /// Publishes that there is no outcome yet. It ends nothing: the delivery stays.
    pub(super) async fn tell_held(
        &self,
        broker: &Broker<W>,
        lane: &LaneName,
        rail: &str,
        why: HeldWhy,
    ) -> Result<(), PublishError> {
        let Judged::Valid(valid) = &self.state else { return Ok(()) };
        let (payment, origin) = (valid.payment(), &origin(&self.held, lane, Vec::new()));
        let waiting = Waiting { origin, payment_id: &payment.payment_id, rail, references: &payment.references };
        broker.tell_held(&self.held, &waiting, why).await
    }
}

/// What the store says of the very event that this delivery holds.
fn opened<W: Wire>(stand: Stand, held: Delivery<W>) -> Opened<W> {
    match stand {
        Stand::Final(state) => Opened::Final(Event { state, held }),
        Stand::Go(state) => Opened::Go(Event { state, held }),
        Stand::Doubt(state) => Opened::Doubt(Event { state, held }),
        Stand::Condemned(state) => Opened::Condemned(Event { state, held }),
        Stand::Tracked(state) => Opened::Tracked(Event { state, held }),
        Stand::Elsewhere { until } => Opened::Elsewhere(Event { state: Elsewhere { until }, held }),
    }
}

impl<W: Wire> Event<Elsewhere, W> {
    pub(super) fn until(&self) -> Timestamp {
        self.state.until
    }
}

impl<W: Wire> Event<Intent, W> {
    /// The rail that the attempt on record is for.
    pub(super) fn rail(&self) -> &str {
        self.state.rail()
    }

    /// Gives up the right to send; what is left says that nothing was sent.
    pub(super) fn unsent(self) -> Event<Doubt, W> {
        self.turn(|intent| intent.dispatch().1)
    }

    /// Sends the payment to the rail, in a task of its own: from here on nothing may be dropped half way. Not where
    /// its deadline has passed: then nothing was sent.
    pub(super) fn submit<R: Rail>(self, rail: Arc<R>, now: Timestamp) -> Submitted<W> {
        let (order, doubt) = self.state.dispatch();
        let event = Event { state: doubt, held: self.held };
        if now >= order.deadline() {
            return Submitted::TooLate(event);
        }
        Submitted::Sent(event, tokio::spawn(async move { rail.submit(&order).await }))
    }
}

impl<W: Wire> Event<Doubt, W> {
    pub(super) fn doubt(&self) -> &Doubt {
        &self.state
    }

    /// Publishes that there is no outcome yet. It ends nothing: the doubt stays, and the delivery with it.
    pub(super) async fn tell_held(&self, broker: &Broker<W>, why: HeldWhy) -> Result<(), PublishError> {
        broker.tell_held(&self.held, &Waiting::of(&self.state), why).await
    }

    /// Keeps a line of its life; written with the next answer or finding.
    pub(super) fn note(&mut self, note: Note) {
        self.state.note(note);
    }

    /// Stores what the rail answered.
    pub(super) async fn conclude(self, store: &Store, answer: Answer) -> Result<Settled<W>, (StoreLost, Self)> {
        let held = self.held;
        match store.conclude(self.state, answer).await {
            Ok(Concluded::Final(state)) => Ok(Settled::Final(Event { state, held })),
            Ok(Concluded::Released) => Ok(Settled::Released(Event { state: Received, held })),
            Ok(Concluded::Doubt(state)) => Ok(Settled::Doubt(Event { state, held })),
            Ok(Concluded::Held(state)) => Ok(Settled::ForPerson(Event { state, held })),
            Ok(Concluded::Elsewhere { until }) => Ok(Settled::Elsewhere(Event { state: Elsewhere { until }, held })),
            Err((lost, state)) => Err((lost, Event { state, held })),
        }
    }

    /// Stores what an inquiry found.
    pub(super) async fn resume(
        self,
        store: &Store,
        finding: Finding,
        asked: Instant,
        longest: Duration,
    ) -> Result<Opened<W>, (StoreLost, Self)> {
        let held = self.held;
        match store.resume(self.state, finding, asked, longest).await {
            Ok(stand) => Ok(opened(stand, held)),
            Err((lost, state)) => Err((lost, Event { state, held })),
        }
    }

    /// Gives the payment to the tracker, with the message as it came.
    pub(super) async fn track(self, store: &Store, limits: TrackLimits) -> Result<HandedOver<W>, (StoreLost, Self)> {
        let held = self.held;
        match store.track(self.state, held.message(), limits).await {
            Ok(Handed::Tracked(state)) => Ok(HandedOver::Tracked(Event { state, held })),
            Ok(Handed::Final(state)) => Ok(HandedOver::Final(Event { state, held })),
            Ok(Handed::Full(state, amount)) => Ok(HandedOver::Full(Event { state, held }, amount)),
            Ok(Handed::Kept(state)) => Ok(HandedOver::Kept(Event { state, held })),
            Ok(Handed::Elsewhere { until }) => Ok(HandedOver::Elsewhere(Event { state: Elsewhere { until }, held })),
            Err((lost, state)) => Err((lost, Event { state, held })),
        }
    }
}

impl<P: Tells, W: Wire> Event<P, W> {
    pub(super) fn proof(&self) -> &P {
        &self.state
    }

    /// Publishes what the proof tells and waits for the PubAck.
    pub(super) async fn announce(self, broker: &Broker<W>) -> Result<Event<Announced, W>, (PublishError, Self)> {
        let Self { state, held } = self;
        match state.tell(broker, held.onward().as_deref()).await {
            Ok(state) => Ok(Event { state, held }),
            Err((error, state)) => Err((error, Event { state, held })),
        }
    }
}

impl<W: Wire> Event<Announced, W> {
    /// The one way to acknowledge.
    pub(super) async fn acknowledge(self) -> Result<(), AckUnknown> {
        self.held.acknowledge(self.state).await
    }
}

impl<W: Wire> Event<Condemned, W> {
    pub(super) fn condemned(&self) -> &Condemned {
        &self.state
    }

    /// Stores the dead letter and waits for its PubAck; what comes back is the only thing that can be terminated.
    pub(super) async fn bury(self, broker: &Broker<W>, worker: &str) -> Result<Buried<W>, (PublishError, Self)> {
        match broker.bury(self.held, self.state, worker).await {
            Ok(buried) => Ok(buried),
            Err((error, held, state)) => Err((error, Event { state, held })),
        }
    }
}
