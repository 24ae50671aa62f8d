//! Golden texts: what a reader sees, and what a script reads.

use serde_json::{Value, json};

use super::*;

fn currency(code: &str) -> Currency {
    Currency::parse(code).expect("active")
}

fn line(code: &str, accounts: u64) -> BookLine {
    BookLine {
        currency: currency(code),
        debits: 5,
        credits: 5,
        transferred: 5,
        accounts,
        accounts_differing: 0,
        settled_without_transfer: 0,
        transfers_without_settled: 0,
    }
}

fn sample() -> Report {
    let eur = MoneyLine {
        published: 123_456_789_012,
        settled: 123_456_700_000,
        rejected: 80_000,
        dead_lettered: 9_012,
        ..MoneyLine::new(currency("EUR"))
    };
    let jpy = MoneyLine { published: 5000, settled: 5000, ..MoneyLine::new(currency("JPY")) };
    let clf = MoneyLine { published: 15_000, rejected: 10_000, held: 5000, ..MoneyLine::new(currency("CLF")) };
    Report {
        published: 49_790,
        publisher_duplicates: 210,
        settled: 47_500,
        rejected: 1500,
        rejected_by_code: BTreeMap::from([(Code::FF01, 1100), (Code::AC03, 400)]),
        dead_lettered: 650,
        dead_lettered_by_code: BTreeMap::from([(Code::FF01, 400), (Code::AM05, 250)]),
        duplicates: 139,
        held: Held { in_flight: 1, ..Held::default() },
        unaccounted: 0,
        conserved: true,
        money: BTreeMap::from([("EUR", eur), ("JPY", jpy), ("CLF", clf)]),
        breaker: BreakerReport { opened: 1, probes: 6, pulls_while_open: 0 },
        elapsed_s: 9.25,
        settled_per_s: 15_432.4,
        rail: None,
        book: vec![line("EUR", 900), line("JPY", 100)],
    }
}

#[test]
fn the_text_is_what_a_reader_wants_to_know() {
    let golden = "\
Events
  published            49,790  and 210 repeats that the broker swallowed
  settled              47,500
  rejected              1,500
  dead-lettered           650
  duplicates              139  found by the store
  held                      1  0 in the stream, 1 in flight, 0 parked, 0 for a person

Rejected, by code
  AC03        400  creditor account invalid
  FF01      1,100  message format invalid

Dead-lettered, by code
  AM05        250  duplicate identity with other content
  FF01        400  message format invalid

Money
              published          settled         rejected    dead-lettered             held
  CLF            1.5000           0.0000           1.0000           0.0000           0.5000
  EUR  1,234,567,890.12 1,234,567,000.00           800.00            90.12             0.00
  JPY             5,000            5,000                0                0                0

  events     everything published is accounted for
  book       balances: 1,000 accounts in 2 currencies
  breaker    opened once, 6 probes, 0 pull requests while open
  speed      15,432 settled a second, 9.2 s in all
";
    assert_eq!(report(&sample()), golden, "\n{}", report(&sample()));
}

#[test]
fn what_is_wrong_stands_out() {
    let mut wrong = Report { conserved: false, unaccounted: -1234, ..sample() };
    wrong.money.get_mut("JPY").expect("there").settled = 4999;
    wrong.book = vec![BookLine { credits: 6, ..line("EUR", 1) }, line("JPY", 1)];
    let text = report(&wrong);
    for part in ["UNACCOUNTED          -1,234\n", "  DIFFERS\n", "NOT everything", "DOES NOT BALANCE in EUR\n"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(text.matches("DIFFERS").count(), 1);
}

#[test]
fn a_demo_without_events_has_a_report_too() {
    let text = report(&Report { conserved: true, ..Report::default() });
    assert!(text.contains("never opened") && text.contains("not counted") && !text.contains("Money"), "{text}");
}

#[test]
fn the_json_object_has_the_fields_of_the_contract_and_no_others() {
    let golden = json!({
        "published": 49790, "publisher_duplicates": 210, "settled": 47500, "rejected": 1500,
        "rejected_by_code": {"AC03": 400, "FF01": 1100}, "dead_lettered": 650,
        "dead_lettered_by_code": {"AM05": 250, "FF01": 400}, "duplicates": 139,
        "held": {"in_stream": 0, "in_flight": 1, "parked": 0, "for_person": 0},
        "unaccounted": 0, "conserved": true,
        "money": {
            "CLF": {"published": "1.5000", "settled": "0.0000", "rejected": "1.0000", "dead_lettered": "0.0000", "held": "0.5000"},
            "EUR": {"published": "1234567890.12", "settled": "1234567000.00", "rejected": "800.00", "dead_lettered": "90.12", "held": "0.00"},
            "JPY": {"published": "5000", "settled": "5000", "rejected": "0", "dead_lettered": "0", "held": "0"},
        },
        "breaker": {"opened": 1, "probes": 6, "pulls_while_open": 0},
        "elapsed_s": 9.25, "settled_per_s": 15432.4,
    });
    for rail in [None, Some(RailReport::default())] {
        let object: Value = serde_json::to_value(Report { rail, ..sample() }).expect("JSON");
        assert_eq!(object, golden);
    }
}

#[test]
fn digits_are_grouped_by_three_before_the_point_only() {
    for (number, text) in
        [("0", "0"), ("999", "999"), ("1000", "1,000"), ("-1234567.8901", "-1,234,567.8901"), ("12.345", "12.345")]
    {
        assert_eq!(grouped(number), text);
    }
}

#[test]
fn a_rail_has_a_line_of_its_own_in_place_of_the_book() {
    let told = RailReport { effects: 1_200, submissions: 1_261, agrees: true, differences: Vec::new() };
    let good = report(&Report { rail: Some(told.clone()), ..Report::default() });
    assert!(
        good.contains("rail       1,200 effects of 1,261 submissions in its ledger: one for each settled payment\n")
    );
    assert!(!good.contains("book"));
    let differences = vec!["payment A (key k) was paid 2 times".to_owned()];
    let bad = report(&Report { rail: Some(RailReport { agrees: false, differences, ..told }), ..Report::default() });
    assert!(bad.contains("they DIFFER from the settled payments\n             payment A (key k) was paid 2 times\n"));
}
