use std::time::Instant;

use futures_util::StreamExt;

use super::harness::{Expect, Home, Wish, origin};
use crate::store::Route;

/// Random ids, as publishers send them: their index is what a group costs most.
fn random_id(n: u64) -> String {
    let bits = u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
}

#[tokio::test]
#[ignore = "a measurement: cargo test --release --lib store::tests::measure -- --ignored --nocapture"]
async fn settled_payments_a_second_of_the_store_alone() {
    let total = 200_000_u64;
    let mut home = Home::new();
    home.limits.group = 256;
    let store = home.store();
    let wishes = (1..=total).map(|n| {
        let (from, to) = (format!("ACC{:05}", n * 7919 % 1000), format!("ACC{:05}", (n * 104_729 + 1) % 1000));
        (n, Wish { from, to, ..Wish::new(&random_id(n), 100) }.valid())
    });
    let wishes = wishes.collect::<Vec<_>>();
    let begun = Instant::now();
    futures_util::stream::iter(wishes)
        .for_each_concurrent(1024, |(n, judged)| {
            let store = &store;
            async move {
                let stand = store.open(origin(n), judged, Route::Book).await;
                drop(stand.map_err(|(lost, _, _)| lost).unwrap().recorded());
            }
        })
        .await;
    let each = begun.elapsed().div_f64(200_000.0);
    // The harness keeps what a test prints; this is the point of this one.
    #[expect(clippy::print_stderr, reason = "a measurement")]
    {
        eprintln!("{each:?} a payment, {:.0} payments a second", 1.0 / each.as_secs_f64());
    }
    home.assert_balanced();
}
