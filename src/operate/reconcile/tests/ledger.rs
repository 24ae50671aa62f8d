//! A rail's own ledger against the store.

use super::super::differ::{Horizons, Kind};
use super::super::rail;
use super::World;
use crate::domain::{PaymentId, RailKey};
use crate::store::State;

#[test]
fn a_rails_ledger_is_held_against_what_was_settled_over_it() {
    let mut world = World::new(9, 9);
    let ids = ["A", "B", "C", "D", "E", "F", "G"];
    for (seq, id) in (1..).zip(ids) {
        world.event(seq, Some(id), 1, 100);
        let state = match id {
            "E" => State::Open,
            "F" => State::Rejected,
            _ => State::Settled,
        };
        world.payment(i64::try_from(seq).expect("small"), id, seq, state, 1, 100);
    }
    let db = world.scratch.db();
    db.execute_batch("UPDATE payments SET rail = 'bank'; INSERT INTO ledgers VALUES ('bank', 5000);").expect("set");
    let moved = |id: Option<&str>, key: &str, minor: i64| {
        db.execute(
            "INSERT INTO effects (rail, key, payment_id, currency, minor) VALUES ('bank', ?1, ?2, 'EUR', ?3)",
            (key, id, minor),
        )
        .expect("put");
    };
    let key_of = |id: &str, leg| RailKey::of(&PaymentId::parse(id).expect("valid"), leg).as_str().to_owned();
    // A is known by its key alone, under its second leg. B was paid twice, C with other money, D not at all. E is in
    // doubt, F was refused, and nobody asked for X. G settled after the ledger was written.
    moved(None, &key_of("A", 1), 100);
    moved(Some("B"), "b", 100);
    moved(Some("B"), "b", 100);
    moved(Some("C"), "c", 101);
    moved(Some("E"), "e", 100);
    moved(Some("F"), "f", 100);
    moved(None, &key_of("X", 0), 100);
    db.execute("UPDATE payments SET finished_ms = 5001 WHERE payment_id = 'G'", []).expect("set");
    rail::resolve(&world.scratch).expect("resolved");
    let found = world.look(Horizons::default());
    let of = |kind| {
        let named = found.named.iter().filter(|difference| difference.kind == kind);
        named.filter_map(|difference| difference.payment_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of(Kind::RailDoubled), ["B"]);
    assert_eq!(of(Kind::RailDiffers), ["C"]);
    assert_eq!(of(Kind::SettledWithoutRail), ["D"]);
    assert_eq!(of(Kind::RailWithoutRecord), ["F".to_owned(), format!("key {}", key_of("X", 0))]);
}
