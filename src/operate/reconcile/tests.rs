//! Differences over hand-made rows.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::differ::{Found, Horizons, Kind, differences};
use super::scratch::{EventFact, OutcomeFact, Scratch};
use super::{compare, matches_subject, money};
use crate::broker::ConsumerInfo;
use crate::domain::{
    Code, Currency, EventId, Fingerprint, LaneName, Money, OrderKey, PaymentId, Reason, References, SchemeName,
    StreamName,
};
use crate::store::{EventKind, EventRow, PaymentLine, State, Tracking};

mod ledger;

const CREATED: i64 = 1000;

fn euros(minor: i64) -> Option<Money> {
    Money::new(minor, Currency::parse("EUR")?)
}

fn event_id(sequence: u64) -> EventId {
    EventId { stream: StreamName::parse("PAYMENTS").expect("valid"), created_ms: CREATED, sequence }
}

/// A world of one stream, one lane, everything up to `floor` acknowledged and up to `delivered` delivered.
struct World {
    scratch: Scratch,
    payments: i64,
    floor: u64,
    delivered: u64,
}

impl World {
    fn new(floor: u64, delivered: u64) -> Self {
        let mut scratch = Scratch::open(None, "store").expect("opens");
        let (payments, _) = scratch.live(&event_id(1).stream, CREATED, 1).expect("stream");
        Self { scratch, payments, floor, delivered }
    }

    /// An event for `id` (none: unreadable) whose content is `content`.
    fn event(&self, seq: u64, id: Option<&str>, content: u8, minor: i64) {
        let content = id.map(|id| (id.to_owned(), [content; 32], euros(minor)));
        let scheme = "book".to_owned();
        let sha = [u8::try_from(seq).expect("small"); 32];
        let fact = EventFact { stream: self.payments, seq, scheme, content, sha, at_ms: 0 };
        self.scratch.put_event(&fact).expect("put");
    }

    fn payment(&mut self, row: i64, id: &str, seq: u64, state: State, content: u8, minor: i64) {
        self.payment_of(row, id, seq, state, content, minor, None);
    }

    #[expect(clippy::too_many_arguments, reason = "the columns of a row")]
    fn payment_of(
        &mut self,
        row: i64,
        id: &str,
        seq: u64,
        state: State,
        content: u8,
        minor: i64,
        tracked: Option<Tracking>,
    ) {
        let line = PaymentLine {
            row,
            payment_id: PaymentId::parse(id).expect("valid"),
            fingerprint: Fingerprint([content; 32]),
            state,
            event: event_id(seq),
            amount: euros(minor).expect("money"),
            code: (state == State::Rejected).then_some(Code::AM04),
            rail: "book".to_owned(),
            requested_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::from_millisecond(5000).ok(),
            tracked,
            attempts: 1,
        };
        self.scratch.put_payment(&line).expect("put");
    }

    fn end(&mut self, seq: u64, kind: EventKind, id: Option<&str>, code: Code) {
        let name = |text| SchemeName::parse(text).expect("valid");
        let row = EventRow {
            event: event_id(seq),
            kind,
            payment_id: id.map(|id| PaymentId::parse(id).expect("valid")),
            reasons: vec![Reason::new(code, "", "why")],
            scheme: name("book"),
            order_key: OrderKey::parse("k").expect("valid"),
            lane: LaneName::parse("payments").expect("valid"),
            references: References::default(),
            amount: None,
            requested_at: Timestamp::UNIX_EPOCH,
            first_seen: Timestamp::UNIX_EPOCH,
            attempts: 1,
            at: Timestamp::from_millisecond(5000).expect("in range"),
        };
        self.scratch.put_end(&row).expect("put");
    }

    fn told(&self, seq: u64, kind: &'static str, id: &str, origin: Option<u64>, effect: (i64, i64)) {
        let (row, minor) = effect;
        let settled = kind == "settled";
        let fact = OutcomeFact {
            kind,
            payment_id: id.to_owned(),
            origin: origin.map(|seq| format!("{CREATED}.{seq}")),
            amount: if settled { euros(minor) } else { None },
            rail_ref: settled.then(|| format!("tr_{row:012}")),
            effect: format!("{row} {minor}"),
        };
        self.scratch.put_outcome(2, seq, &fact).expect("put");
    }

    fn letter(&mut self, seq: u64, of: u64, sha: u8) {
        self.scratch.put_letter(3, seq, &event_id(of), &[sha; 32]).expect("put");
    }

    fn look(&self, horizons: Horizons) -> Found {
        let consumer = serde_json::json!({
            "config": {"filter_subjects": ["payments.requested.book.*"]}, "created": "2026-11-23T09:15:02Z",
            "delivered": {"consumer_seq": 1, "stream_seq": self.delivered},
            "ack_floor": {"consumer_seq": 1, "stream_seq": self.floor},
        });
        let consumer: ConsumerInfo = serde_json::from_value(consumer).expect("a consumer");
        compare::classify(&self.scratch, self.payments, &[consumer]).expect("classified");
        differences(&self.scratch, horizons, 100).expect("compared")
    }

    fn kinds(&self) -> Vec<(Kind, u64)> {
        self.look(Horizons::default()).by_kind.into_iter().collect()
    }
}

/// Six events: settled, refused by rules, a duplicate, a conflict, unreadable, and one still in the stream.
fn whole() -> World {
    let mut world = World::new(5, 5);
    world.event(1, Some("A"), 1, 100);
    world.event(2, Some("B"), 2, 250);
    world.event(3, Some("A"), 1, 100);
    world.event(4, Some("A"), 9, 700);
    world.event(5, None, 0, 0);
    world.event(6, Some("C"), 3, 40);
    world.payment(1, "A", 1, State::Settled, 1, 100);
    world.end(2, EventKind::Rejected, Some("B"), Code::AC03);
    world.end(3, EventKind::Duplicate, Some("A"), Code::AM05);
    world.end(4, EventKind::Condemned, Some("A"), Code::AM05);
    world.end(5, EventKind::Condemned, None, Code::FF01);
    world.told(1, "settled", "A", None, (1, 100));
    world.told(2, "rejected", "B", Some(2), (0, 0));
    world.told(3, "settled", "A", None, (1, 100));
    world.told(4, "dead-lettered", "A", Some(4), (0, 0));
    world.letter(1, 4, 4);
    world.letter(2, 5, 5);
    world
}

#[test]
fn a_whole_world_has_no_difference_and_all_events_and_money_are_accounted_for() {
    let world = whole();
    assert_eq!(world.kinds(), []);
    let events = compare::counts(&world.scratch).expect("counted");
    assert_eq!((events.published, events.settled, events.rejected, events.dead_lettered), (6, 1, 1, 2));
    assert_eq!((events.duplicates, events.held.in_stream, events.unaccounted), (1, 1, 0));
    assert_eq!(events.dead_lettered_by_code, BTreeMap::from([("AM05".into(), 1), ("FF01".into(), 1)]));
    let (money, conserved) = money::sums(&world.scratch).expect("summed");
    let euro = &money["EUR"];
    assert!(conserved);
    let sums = [&euro.published, &euro.settled, &euro.rejected, &euro.dead_lettered, &euro.held];
    assert_eq!(sums, ["10.90", "1.00", "2.50", "7.00", "0.40"]);
}

#[test]
fn an_acknowledged_event_without_a_record_is_lost() {
    let world = World::new(1, 3);
    for seq in 1..=4 {
        world.event(seq, Some(&format!("P{seq}")), 1, 100);
    }
    let found = world.look(Horizons::default());
    assert_eq!(found.by_kind, BTreeMap::from([(Kind::Lost, 1)]));
    assert_eq!(found.named[0].event.as_deref(), Some("PAYMENTS.1000.1"));
    let events = compare::counts(&world.scratch).expect("counted");
    assert_eq!((events.unaccounted, events.held.in_flight, events.held.in_stream), (1, 2, 1));
    let (money, conserved) = money::sums(&world.scratch).expect("summed");
    assert!(!conserved);
    assert_eq!((money["EUR"].unaccounted.as_str(), money["EUR"].held.as_str()), ("1.00", "3.00"));
    world.scratch.found_after_all(&event_id(1)).expect("taken back");
    assert_eq!(compare::counts(&world.scratch).expect("counted").unaccounted, 0);
}

#[test]
fn what_is_not_yet_acknowledged_may_still_lack_its_outcome() {
    let mut world = World::new(0, 2);
    world.event(1, Some("A"), 1, 100);
    world.event(2, None, 0, 0);
    world.payment(1, "A", 1, State::Settled, 1, 100);
    world.end(2, EventKind::Condemned, None, Code::FF01);
    assert_eq!(world.kinds(), []);
    world.floor = 2;
    let missing = [(Kind::SettledWithoutOutcome, 1), (Kind::CondemnedWithoutDeadLetter, 1)];
    assert_eq!(world.kinds(), missing);
    let aged = world.look(Horizons { outcomes: 5001, dead_letters: 5001 });
    assert!(aged.by_kind.is_empty(), "what may have aged out is not missing");
    world.scratch.put_discard(&event_id(2)).expect("put");
    assert_eq!(world.kinds(), [(Kind::SettledWithoutOutcome, 1)], "a discard is on record");
}

#[test]
fn rejections_are_looked_for_under_the_event_they_belong_to() {
    let mut world = World::new(3, 3);
    world.event(1, Some("A"), 1, 100);
    world.event(2, Some("A"), 2, 100);
    world.event(3, Some("B"), 2, 100);
    world.end(1, EventKind::Rejected, Some("A"), Code::AC03);
    world.end(2, EventKind::Rejected, Some("A"), Code::AC03);
    world.payment(1, "B", 3, State::Rejected, 2, 100);
    world.told(1, "rejected", "A", Some(1), (0, 0));
    world.told(2, "rejected", "B", Some(3), (0, 0));
    let found = world.look(Horizons::default());
    let missing = BTreeMap::from([(Kind::RejectedWithoutOutcome, 2), (Kind::OutcomeWithoutRecord, 1)]);
    assert_eq!(found.by_kind, missing);
}

#[test]
fn two_effects_of_one_payment_are_the_worst_but_a_loss() {
    let world = whole();
    world.told(5, "settled", "A", None, (2, 100));
    assert_eq!(world.kinds(), [(Kind::Doubled, 1), (Kind::OutcomeDiffers, 1)]);
    let world = whole();
    world.told(5, "rejected", "A", None, (0, 0));
    assert_eq!(world.kinds(), [(Kind::Doubled, 1), (Kind::OutcomeWithoutRecord, 1)]);
}

#[test]
fn store_event_and_dead_letter_must_say_the_same() {
    let mut world = whole();
    world.payment(1, "A", 1, State::Settled, 1, 101);
    world.letter(2, 5, 7);
    world.letter(3, 6, 6);
    let kinds = [Kind::OutcomeDiffers, Kind::RecordDiffers, Kind::BodyDiffers, Kind::DeadLetterWithoutRecord];
    assert_eq!(world.kinds(), kinds.map(|kind| (kind, 1)));
    let (_, conserved) = money::sums(&world.scratch).expect("summed");
    assert!(!conserved, "a cent too much was settled");
}

#[test]
fn an_open_payment_is_held_unless_its_event_is_acknowledged() {
    let mut world = World::new(0, 2);
    world.event(1, Some("A"), 1, 100);
    world.event(2, Some("B"), 2, 50);
    world.payment(1, "A", 1, State::Open, 1, 100);
    world.payment(2, "B", 2, State::Held, 2, 50);
    assert_eq!(world.kinds(), []);
    let held = compare::counts(&world.scratch).expect("counted").held;
    assert_eq!((held.in_flight, held.for_person), (1, 1));
    world.floor = 1;
    assert_eq!(world.kinds(), [(Kind::AcknowledgedEarly, 1)]);
}

#[test]
fn a_tracked_payment_is_held_although_its_event_is_acknowledged_and_its_outcome_is_still_to_come() {
    let mut world = World::new(2, 2);
    world.event(1, Some("A"), 1, 100);
    world.event(2, Some("B"), 2, 50);
    let at = Timestamp::UNIX_EPOCH;
    let tracked = Some(Tracking { since: at, due: at, sweeps: 3 });
    world.payment_of(1, "A", 1, State::Open, 1, 100, tracked);
    world.payment_of(2, "B", 2, State::Settled, 2, 50, tracked);
    assert_eq!(world.kinds(), []);
    let counts = compare::counts(&world.scratch).expect("counted");
    assert_eq!((counts.held.tracked, counts.held.total(), counts.settled), (1, 1, 1));
    let (money, conserved) = money::sums(&world.scratch).expect("summed");
    assert!(conserved && money["EUR"].held == "1.00", "{money:?}");
    // Told, or so the store says: then the outcome event must be there.
    world.payment(2, "B", 2, State::Settled, 2, 50);
    assert_eq!(world.kinds(), [(Kind::SettledWithoutOutcome, 1)]);
}

#[test]
fn a_condemned_event_may_not_be_a_settled_payments_own() {
    let mut world = whole();
    world.end(1, EventKind::Condemned, Some("A"), Code::FF10);
    let kinds: Vec<_> = world.kinds().into_iter().map(|(kind, _)| kind).collect();
    assert!(kinds.contains(&Kind::SettledAndCondemned));
}

#[test]
fn events_of_a_scheme_without_a_consumer_are_named() {
    let world = World::new(9, 9);
    let content = Some(("A".to_owned(), [1; 32], None));
    let fact = EventFact { stream: world.payments, seq: 3, scheme: "cbpr".to_owned(), content, sha: [0; 32], at_ms: 0 };
    world.scratch.put_event(&fact).expect("put");
    assert_eq!(world.kinds(), [(Kind::NotServed, 1)]);
}

#[test]
fn events_of_a_deleted_stream_that_have_no_record_are_lost() {
    let mut world = World::new(0, 0);
    world.event(1, Some("A"), 1, 100);
    let (now, _) = world.scratch.live(&event_id(1).stream, CREATED + 1, 1).expect("stream");
    world.payments = now;
    assert_eq!(world.kinds(), [(Kind::Lost, 1)]);
}

#[test]
fn a_state_file_goes_on_where_it_stopped_and_belongs_to_one_store() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("state.sqlite");
    let name = StreamName::parse("PAYMENTS").expect("valid");
    {
        let mut scratch = Scratch::open(Some(&path), "one").expect("opens");
        let (id, read_to) = scratch.live(&name, 7, 1).expect("stream");
        assert_eq!(read_to, 0);
        scratch.read_to(id, 512).expect("kept");
    }
    let mut scratch = Scratch::open(Some(&path), "one").expect("opens again");
    assert_eq!(scratch.live(&name, 7, 1).expect("stream").1, 512);
    assert_eq!(scratch.live(&name, 8, 1).expect("a new stream").1, 0);
    assert!(Scratch::open(Some(&path), "two").is_err());
}

#[test]
fn more_differences_than_are_named_are_still_counted() {
    let world = World::new(9, 9);
    for seq in 1..=9 {
        world.event(seq, None, 0, 0);
    }
    world.look(Horizons::default());
    let found = differences(&world.scratch, Horizons::default(), 4).expect("compared");
    assert_eq!((found.named.len(), found.by_kind[&Kind::Lost]), (4, 9));
}

#[test]
fn a_consumers_filters_are_matched_token_by_token() {
    for (filter, subject, yes) in [
        ("payments.requested.sct.*", "payments.requested.sct.k", true),
        ("payments.requested.sct.*", "payments.requested.sct-inst.k", false),
        ("payments.requested.*.*", "payments.requested.sct.k", true),
        ("payments.>", "payments.requested.sct.k", true),
        ("payments.requested.sct", "payments.requested.sct.k", false),
        ("payments.requested.sct.k.>", "payments.requested.sct.k", false),
    ] {
        assert_eq!(matches_subject(filter, subject), yes, "{filter} {subject}");
    }
}

#[test]
fn what_is_on_record_of_a_lost_message_says_nothing_of_the_one_that_has_its_number_now() {
    let mut world = World::new(0, 2);
    world.payment(1, "A", 1, State::Settled, 1, 100);
    world.end(2, EventKind::Condemned, None, Code::FF01);
    for seq in [1, 2] {
        let content = Some((format!("B{seq}"), [7; 32], euros(50)));
        let fact =
            EventFact { stream: world.payments, seq, scheme: "book".to_owned(), content, sha: [9; 32], at_ms: 1 };
        world.scratch.put_event(&fact).expect("put");
    }
    world.look(Horizons::default());
    let events = compare::counts(&world.scratch).expect("counted");
    assert_eq!((events.settled, events.dead_lettered, events.held.in_flight), (0, 0, 2));
}
