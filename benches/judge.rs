//! One event of about 0.5 KiB, decoded and judged. Criterion gives the mean; the 99th percentile goes to stderr.

#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a bench stops where its own inputs are wrong, and tells what it measured"
)]

use std::hint::black_box;
use std::time::Instant;

use acquit::domain::{OrderKey, SchemeName};
use acquit::intake::{Contract, Decode, Instants, Judged, Raw, Rules, Scheme};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hdrhistogram::Histogram;

const EVENT: &str = r#"{"payment_id":"acc66a57-6518-493d-87db-f924a6048457","scheme":"sct-inst","amount":{"currency":"EUR","value":"71521.10"},"debtor":{"name":"Acme B.V.","address":{"street":"High Street","building":"55","post_code":"1777","town":"Dublin","country":"IE"}},"debtor_account":{"iban":"IE17AIBK94208097298063"},"creditor":{"name":"Fonds Durand SA","lei":"1M5GYS65BUZSBKMUIV34"},"creditor_account":{"iban":"BE14478101222883"},"charge_bearer":"SLEV","requested_execution_date":"2026-11-23","end_to_end_id":"INV-2025-385990"}"#;

const ITERATIONS: u32 = 200_000;

fn judge(criterion: &mut Criterion) {
    let scheme = SchemeName::parse("sct-inst").expect("valid");
    let order_key = OrderKey::parse("k").expect("valid");
    let rules = Rules::new(vec![Scheme::built_in(&scheme).expect("built in")]);
    let at = "2026-11-23T10:00:00Z".parse().expect("valid");
    let once = || {
        let raw = Raw { scheme: &scheme, order_key: &order_key, header: &|_| None, body: black_box(EVENT.as_bytes()) };
        let decoded = Contract.decode(raw).expect("readable");
        rules.judge(decoded, &scheme, Instants { requested_at: at, now: at })
    };
    assert!(matches!(once(), Judged::Valid(_)));

    let mut group = criterion.benchmark_group("intake");
    group.throughput(Throughput::Bytes(EVENT.len() as u64));
    group.bench_function("decode and judge", |bencher| bencher.iter(once));
    group.finish();

    let mut taken = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3).expect("1 ns to 1 s");
    for _ in 0..ITERATIONS {
        let start = Instant::now();
        black_box(once());
        taken.saturating_record(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    let at = |quantile| taken.value_at_quantile(quantile);
    eprintln!(
        "{} bytes, {ITERATIONS} times: mean {:.0} ns, p50 {} ns, p99 {} ns, p99.9 {} ns",
        EVENT.len(),
        taken.mean(),
        at(0.5),
        at(0.99),
        at(0.999)
    );
}

criterion_group!(benches, judge);
criterion_main!(benches);
