//! What holds for a judgement as a whole: order, what stands alone, what a refusal carries and never says.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[test]
fn the_subjects_scheme_decides() {
    one("sct", "/scheme", &json!("sct-inst"), &[(Code::FF05, "/scheme")]);
    one("sct", "/scheme", &json!(""), &[(Code::FF05, "/scheme")]);
    let only_book = Rules::new(vec![Scheme::open(name("book"))]);
    assert_eq!(
        found(&judge_by(&only_book, "sct", &full("sct"))),
        [(Code::FF05, "/scheme".to_owned()), (Code::CH03, "/requested_execution_date".to_owned()),]
    );
}

#[test]
fn an_unknown_field_or_too_much_depth_stands_alone_and_keeps_what_was_readable() {
    let mut body = full("sct");
    set(&mut body, "/charge_bearer", json!("SHAR"));
    set(&mut body, "/creditor/address/planet", json!(1));
    let judged = judge("sct", &body);
    assert_eq!(found(&judged), [(Code::FF01, "/creditor/address/planet".to_owned())]);
    assert_eq!(judged.amount().map(Money::value).as_deref(), Some("1234.56"));
    let Judged::Refused(refused) = judged else { panic!("valid") };
    assert_eq!(refused.references().end_to_end_id.as_deref(), Some("E-1"));

    let nested = |levels: usize| -> Value { (0..levels).fold(json!(1), |inner, _| json!([inner])) };
    one("book", "/purpose", &nested(15), &[(Code::FF07, "/purpose")]);
    for levels in [16, 90, 120] {
        one("book", "/purpose", &nested(levels), &[(Code::FF01, "")]);
    }
}

#[test]
fn findings_come_in_the_order_of_the_table() {
    let mut body = full("cbpr");
    for (path, value) in [
        ("/remittance", json!({})),
        ("/purpose", json!("x")),
        ("/category_purpose", json!("x")),
        ("/expires_at", json!("x")),
        ("/requested_execution_date", json!("x")),
        ("/charge_bearer", json!("x")),
        ("/creditor_agent", json!({})),
        ("/debtor_agent", json!({})),
        ("/creditor_account", json!({})),
        ("/debtor_account", json!({})),
        ("/debtor", json!({"lei": "x", "address": {"street": "", "country": "x"}})),
        ("/creditor", json!({"name": "\u{fc}", "lei": "x", "address": {"street": "", "country": "x"}})),
        ("/amount", json!({"currency": "x", "value": "x"})),
        ("/uetr", json!("x")),
        ("/end_to_end_id", json!("//")),
        ("/instruction_id", json!("//")),
        ("/scheme", json!("x")),
    ] {
        set(&mut body, path, value);
    }
    use Code::*;
    let codes: Vec<Code> = found(&judge("cbpr", &body)).into_iter().map(|(code, _)| code).collect();
    assert_eq!(
        codes,
        [
            FF05, CH16, FF08, CH16, AM11, AM12, BE08, BE16, BE17, BE10, BE11, BE07, BE04, AC02, AC03, RC01, RC01, BE19,
            DT01, DT01, FF06, FF07, RR07, RR10,
        ]
    );
}

#[test]
fn a_refusal_carries_the_amount_where_it_can_be_told() {
    let amount = |amount: Value| {
        let mut body = full("sct");
        set(&mut body, "/amount", amount);
        judge("sct", &body).amount().map(|money| format!("{money:?}"))
    };
    assert_eq!(amount(json!({"currency": "EUR", "value": "1000000000.10"})).as_deref(), Some("EUR 1000000000.10"));
    assert_eq!(amount(json!({"currency": "JPY", "value": "12"})).as_deref(), Some("JPY 12"));
    for unreadable in [json!({"currency": "JPY", "value": "1.5"}), json!({"currency": "EUR", "value": "0"}), json!(1)] {
        assert_eq!(amount(unreadable), None);
    }
}

#[test]
fn a_scheme_of_ones_own_has_its_own_bounds() {
    let bound = |text| Decimal::parse(text).expect("valid");
    let usd = Currency::parse("USD").expect("valid");
    let maximum = Maximum { each: Some(bound("10")), by_currency: vec![(usd, bound("5.5"))] };
    let rules = Rules::new(vec![Scheme { maximum, ..Scheme::open(name("own")) }]);
    for (currency, value, passes) in
        [("EUR", "10.00", true), ("EUR", "10.01", false), ("USD", "5.50", true), ("USD", "5.51", false)]
    {
        let mut body = least("book");
        set(&mut body, "/amount", json!({"currency": currency, "value": value}));
        assert_eq!(found(&judge_by(&rules, "own", &body)).is_empty(), passes, "{currency} {value}");
    }
}

#[test]
fn no_text_repeats_a_value() {
    let planted = "Geheim4711";
    let mut body = full("cbpr");
    for path in [
        "/instruction_id",
        "/uetr",
        "/amount/currency",
        "/amount/value",
        "/debtor/lei",
        "/creditor/address/country",
        "/debtor_account/iban",
        "/creditor_account/iban",
        "/debtor_agent/bic",
        "/charge_bearer",
        "/expires_at",
        "/purpose",
    ] {
        set(&mut body, path, json!(format!("{planted}#")));
    }
    let judged = judge("cbpr", &body);
    assert!(found(&judged).len() >= 12);
    assert!(!format!("{judged:?}").contains(planted));
}

proptest! {
    #[test]
    fn any_json_in_any_field_is_judged_with_one_finding_a_path(
        path in prop::sample::select(vec!["/amount", "/debtor", "/creditor_account", "/debtor_agent", "/remittance",
            "/amount/value", "/debtor/address", "/debtor/address/town", "/expires_at", "/requested_execution_date"]),
        text in "\\PC{0,40}", number in any::<i64>(), kind in 0..4,
    ) {
        let value = match kind {
            0 => json!(text),
            1 => json!(number),
            2 => json!({"iban": text, "other": {"id": text}, "value": text}),
            _ => json!([text, number]),
        };
        let mut body = full("sct");
        set(&mut body, path, value);
        let paths: Vec<_> = found(&judge("sct", &body)).into_iter().map(|(_, path)| path).collect();
        let mut distinct = paths.clone();
        distinct.sort();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), paths.len());
    }
}
