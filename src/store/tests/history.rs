use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::harness::{Expect, Home, Wish, event, open, origin};
use crate::domain::{Code, Outcome};
use crate::store::{Route, Stand, Unknown};

/// One event of a random history: which payment, which content, whose accounts, and how often it is delivered.
#[derive(Debug, Clone)]
struct Step {
    payment: u8,
    from: u8,
    to: u8,
    minor: i64,
    currency: &'static str,
    deliveries: u8,
    reopened: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        0..12_u8,
        0..4_u8,
        0..4_u8,
        1..200_i64,
        prop::sample::select(vec!["EUR", "JPY"]),
        1..3_u8,
        prop::bool::weighted(0.05),
    )
        .prop_map(|(payment, from, to, minor, currency, deliveries, reopened)| {
            // Few amounts, so that the same payment often comes with the same content.
            Step { payment, from, to, minor: minor % 3 + 1, currency, deliveries, reopened }
        });
    prop::collection::vec(step, 1..60)
}

fn wish(step: &Step) -> Wish {
    let (from, to) = (step.from % 2, step.to);
    Wish {
        from: if from == 0 { "bank".to_owned() } else { format!("acc{}", step.from) },
        to: format!("acc{to}"),
        currency: step.currency,
        ..Wish::new(&format!("PAY-{}", step.payment), step.minor * 50)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn money_is_conserved_over_any_history(steps in steps()) {
        runtime().block_on(run(Home::sqlite(), &steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn money_is_conserved_over_any_history_in_postgresql(steps in steps()) {
        runtime().block_on(async { run(Home::postgres().await, &steps).await });
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn run(mut home: Home, steps: &[Step]) {
    home.policy.unknown = Unknown::Open { overdraft: false };
    home.policy.declared.insert("other::bank".to_owned(), true);
    let mut store = home.store().await;
    let mut outcomes: HashMap<String, Outcome> = HashMap::new();
    let mut ends = HashSet::new();
    for (sequence, step) in (1..).zip(steps) {
        if step.reopened {
            store.stop().await;
            store = home.store().await;
        }
        let wish = wish(step);
        // Redeliveries of the event, together with it in one group.
        let again = (1..step.deliveries).map(|_| store.open(origin(sequence), wish.valid(), Route::Book));
        let (first, rest) =
            tokio::join!(open(&store, sequence, wish.valid(), Route::Book), futures_util::future::join_all(again));
        let stands =
            std::iter::once(first).chain(rest.into_iter().map(|stand| stand.map_err(|(lost, _, _)| lost).unwrap()));
        for stand in stands {
            if let Stand::Condemned(condemned) = stand {
                assert_eq!(condemned.code(), Code::AM05);
                continue;
            }
            let recorded = stand.recorded();
            let known = outcomes.entry(wish.id.to_string()).or_insert_with(|| recorded.outcome().clone());
            assert_eq!(known, recorded.outcome());
        }
        ends.insert(sequence);
    }
    store.stop().await;

    home.assert_balanced();
    let reader = home.reader();
    for sequence in ends {
        assert!(reader.event(&event(sequence)).unwrap().is_some(), "event {sequence} has no end");
    }
    let mut settled: HashMap<&str, i128> = HashMap::new();
    for outcome in outcomes.values() {
        if let Outcome::Settled(one) = outcome {
            *settled.entry(one.amount.currency().code()).or_default() += i128::from(one.amount.minor());
        }
    }
    for line in reader.book_check().unwrap() {
        assert_eq!(line.transferred, settled.get(line.currency.code()).copied().unwrap_or(0));
    }
}
