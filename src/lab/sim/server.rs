//! The model's server: streams, the consumer, and what each subject does. It looks at every answer the moment it takes
//! it: an acknowledgement without a durable and published outcome, or an end without its dead letter, is a breach.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::backend::Shelf;
use super::consumer::{Durable, Out, Pull, Said, status};
use super::db::End;
use super::plan::Lie;
use super::stream::{Log, Stored};
use super::world::{World, locked};
use crate::broker::Incoming;
use crate::domain::{EventId, PaymentId, StreamName};
use crate::store::PaymentRow;

/// A message from a client.
pub(super) struct Sent {
    pub(super) subject: String,
    pub(super) reply: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) payload: bytes::Bytes,
}

/// The server.
pub(super) struct Server {
    world: Arc<World>,
    shelf: Shelf,
    pub(super) stream: StreamName,
    pub(super) payments: Log,
    pub(super) outcomes: Log,
    pub(super) dead: Log,
    pub(super) consumer: Option<Durable>,
    pub(super) clients: BTreeSet<u64>,
    /// No leader until then: nobody answers.
    pub(super) mute: Instant,
}

impl Server {
    pub(super) fn new(world: Arc<World>, shelf: Shelf, stream: StreamName) -> Self {
        let now = world.now();
        let mut server = Self {
            world,
            shelf,
            stream,
            payments: Log::new("PAYMENTS", now),
            outcomes: Log::new("OUTCOMES", now),
            dead: Log::new("DEAD", now),
            consumer: None,
            clients: BTreeSet::new(),
            mute: Instant::now(),
        };
        server.create_consumer();
        server
    }

    /// A new consumer over the whole stream.
    pub(super) fn create_consumer(&mut self) {
        let plan = &self.world.plan;
        let room = usize::from(plan.slots).saturating_mul(4).saturating_add(64);
        self.consumer = Some(Durable::new(self.world.now(), plan.ack_wait, room));
    }

    /// The identity of the event with this sequence.
    pub(super) fn event(&self, sequence: u64) -> EventId {
        EventId { stream: self.stream.clone(), created_ms: self.payments.created.as_millisecond(), sequence }
    }

    /// Time passes.
    pub(super) fn tick(&mut self) -> Vec<Out> {
        let now = Instant::now();
        let Some(consumer) = &mut self.consumer else { return Vec::new() };
        let (mut outs, lost) = consumer.expire(now);
        outs.extend(consumer.deliver(&self.payments, now));
        if self.world.plan.lie == Some(Lie::Deliveries) {
            let kept = |out: &Out| out.message.reply.as_ref().is_none_or(|reply| !reply.contains(".7."));
            outs.retain(kept);
        }
        for (sequence, client) in lost {
            self.world.note(sequence, format_args!("not answered in time by client {client}"));
            if self.world.plan.is_calm() && self.clients.contains(&client) {
                let what = format!("I9: event {sequence} is held by a living worker and comes again");
                self.world.breach(sequence, what);
            }
        }
        outs
    }

    /// Takes one message of a client.
    pub(super) fn handle(&mut self, client: u64, sent: &Sent) -> Vec<Out> {
        if Instant::now() < self.mute {
            let refused = sent.subject.contains(".MSG.NEXT.") || self.world.odds(50);
            return if refused { vec![status(client, &sent.reply, 503, "")] } else { Vec::new() };
        }
        let body = || serde_json::from_slice::<Value>(&sent.payload).unwrap_or_default();
        if let Some(ack) = sent.subject.strip_prefix("$JS.ACK.") {
            return self.answered(client, ack, sent);
        }
        let reply = match sent.subject.strip_prefix("$JS.API.") {
            Some("STREAM.INFO.PAYMENTS") => self.payments.info(),
            Some("CONSUMER.INFO.PAYMENTS.lane") => match &self.consumer {
                Some(consumer) => consumer.info(&self.payments, self.world.now()),
                None => json!({ "error": { "code": 404, "err_code": 10_014, "description": "consumer not found" } }),
            },
            Some("CONSUMER.MSG.NEXT.PAYMENTS.lane") => return self.pull(client, &sent.reply, &body()),
            Some("STREAM.MSG.GET.PAYMENTS") => self.payments.find(&body()),
            Some("STREAM.MSG.GET.DEAD") => self.dead.find(&body()),
            Some(_) => return vec![status(client, &sent.reply, 503, "")],
            None => self.publish(sent),
        };
        vec![json_to(client, &sent.reply, &reply)]
    }

    fn pull(&mut self, client: u64, inbox: &str, ask: &Value) -> Vec<Out> {
        let Some(consumer) = &mut self.consumer else { return vec![status(client, inbox, 503, "")] };
        let number = |key: &str| ask.get(key).and_then(Value::as_u64).unwrap_or(0);
        let left = u32::try_from(number("batch")).unwrap_or(u32::MAX);
        let until = Instant::now().checked_add(Duration::from_nanos(number("expires")));
        if self.clients.contains(&client) {
            let pull = Pull { client, inbox: inbox.to_owned(), left, until: until.unwrap_or_else(Instant::now) };
            consumer.waiting.push_back(pull);
        }
        self.tick()
    }

    fn answered(&mut self, client: u64, ack: &str, sent: &Sent) -> Vec<Out> {
        let Some(consumer) = &mut self.consumer else { return vec![status(client, &sent.reply, 503, "")] };
        let sequence = ack.split('.').nth(3).and_then(|number| number.parse().ok()).unwrap_or(0);
        let Some(said) = consumer.answer(sequence, &sent.payload, Instant::now()) else { return Vec::new() };
        self.world.note(sequence, format_args!("client {client} answers {said:?}"));
        self.judge(sequence, said);
        let unanswered = matches!(said, Said::Ack { confirmed: false } | Said::Term { confirmed: false });
        let mut outs = self.tick();
        if !unanswered {
            let message = Incoming { subject: sent.reply.clone(), ..Incoming::default() };
            outs.push(Out { client, message });
        }
        outs
    }

    /// Whether the answer may be given.
    fn judge(&self, sequence: u64, said: Said) {
        let event = self.event(sequence);
        let (end, tracked) = {
            let db = locked(&self.shelf.db);
            (db.end_of(&event), db.tracked_for(&event).map(|row| format!("{}:held", row.payment_id)))
        };
        let breach = |what: &str| self.world.breach(sequence, format!("{what} (event {sequence})"));
        match (said, end) {
            (Said::Beat, _) => {}
            (Said::Back { after }, _) if after.is_zero() => breach("bare NAK: a hand-back without a delay"),
            (Said::Back { .. }, _) => {}
            // The tracker has it, and that is told: neither is lost any more.
            (Said::Ack { .. }, _) if tracked.as_ref().is_some_and(|held| self.has_outcome(held)) => {}
            (Said::Ack { .. }, None) if tracked.is_some() => breach("I3: acknowledged before it is told as held"),
            (Said::Ack { .. }, None) => breach("I3: acknowledged before an outcome is durable"),
            (Said::Ack { .. }, Some(End::Condemned)) => breach("I5: acknowledged although it is condemned"),
            (Said::Ack { .. }, Some(End::Outcome(id))) => {
                if !self.has_outcome(&id) {
                    breach("I3: acknowledged before its outcome event is stored");
                }
            }
            (Said::Term { .. }, Some(End::Condemned)) => {
                let subject = format!("payments.dead.{}", event.token());
                let body = self.payments.get(sequence).map(|stored| &stored.payload);
                let letter = self.dead.messages.iter().find(|stored| stored.subject == subject);
                match letter {
                    None => breach("I5: terminated before its dead letter is stored"),
                    Some(letter) if Some(&letter.payload) != body => breach("I5: its dead letter has another body"),
                    Some(_) => {}
                }
            }
            (Said::Term { .. }, None | Some(End::Outcome(_))) => breach("I5: terminated without being condemned"),
        }
    }

    fn has_outcome(&self, id: &str) -> bool {
        self.outcomes.messages.iter().any(|stored| stored.id() == id)
    }

    fn publish(&mut self, sent: &Sent) -> Value {
        let (subject, headers) = (sent.subject.clone(), sent.headers.clone());
        let stored = Stored { subject, headers, payload: sent.payload.clone(), at: self.world.now() };
        if sent.subject.starts_with("payments.requested.") {
            let ack = self.payments.publish(stored);
            let sequence = ack.get("seq").and_then(Value::as_u64).unwrap_or(0);
            self.world.note(sequence, format_args!("published on {} {ack}", sent.subject));
            return ack;
        }
        if let Some(event) = sent.subject.strip_prefix("payments.dead.") {
            let sequence = event.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            if locked(&self.shelf.db).end_of(&self.event(sequence)) != Some(End::Condemned) {
                self.world
                    .breach(sequence, format!("I5: a dead letter of an event that is not condemned ({sequence})"));
            }
            self.world.note(sequence, format_args!("dead letter"));
            let lied = self.world.plan.lie == Some(Lie::Letters);
            return self.dead.publish(if lied { Stored { payload: "{}".into(), ..stored } } else { stored });
        }
        if !locked(&self.shelf.db).stands(stored.id()) && !self.is_held_by_check(stored.id()) {
            self.world.breach(0, format!("I3: an outcome event before it is durable: {}", stored.id()));
        }
        self.world.note(0, format_args!("outcome event {}", stored.id()));
        if self.world.plan.lie == Some(Lie::PubAcks) && self.world.odds(20) {
            return json!({ "stream": self.outcomes.name, "seq": 1 });
        }
        locked(&self.shelf.facts).tell(stored.id());
        self.outcomes.publish(stored)
    }

    fn is_held_by_check(&self, id: &str) -> bool {
        let payment = id.strip_suffix(":held").and_then(|id| PaymentId::parse(id).ok());
        payment.is_some_and(|id| locked(&self.shelf.facts).held.contains(&id))
    }

    /// I15: whether a process that began then must know that the tracker is full.
    pub(super) fn is_tracker_full_since(&self, began: Instant) -> bool {
        locked(&self.shelf.facts).is_tracker_full_since(began)
    }

    /// Nothing is left to be done.
    pub(super) fn is_drained(&self) -> bool {
        let Some(consumer) = &self.consumer else { return false };
        let tracks = {
            let (db, now) = (locked(&self.shelf.db), self.world.now());
            let waits = |id: &str| self.world.plan.expiring && db.is_for_person(id, now);
            let tracked = |row: &&PaymentRow| db.tracker.contains_key(&row.row);
            db.payments.values().filter(tracked).any(|row| !waits(row.payment_id.as_str()))
        };
        !tracks
            && consumer.pending(&self.payments) == 0
            && consumer.unended().all(|sequence| self.waits_for_person(sequence))
    }

    /// Whether the event's payment can only be ended by a person.
    pub(super) fn waits_for_person(&self, sequence: u64) -> bool {
        let id = self.payments.get(sequence).map(Stored::id).unwrap_or_default();
        let payment = id.split(':').next().unwrap_or_default();
        self.world.plan.expiring && locked(&self.shelf.db).is_for_person(payment, self.world.now())
    }
}

fn json_to(client: u64, inbox: &str, body: &Value) -> Out {
    let payload = bytes::Bytes::from(body.to_string());
    Out { client, message: Incoming { subject: inbox.to_owned(), payload, ..Incoming::default() } }
}
