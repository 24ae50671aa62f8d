//! Every row of the contract's table: what it refuses, under which code, at which path.

mod whole;

use serde_json::{Value, json};

use super::*;
use crate::domain::{Code, Currency, Decimal, Money, OrderKey};
use crate::intake::{Contract, Decode, Maximum, Raw};

const CREDITOR_IBAN: &str = "DE89370400440532013000";
const DEBTOR_IBAN: &str = "NL91ABNA0417164300";

fn name(text: &str) -> SchemeName {
    SchemeName::parse(text).expect("valid")
}

fn rules() -> Rules {
    Rules::new(Scheme::BUILT_IN.iter().map(|text| Scheme::built_in(&name(text)).expect("built in")).collect())
}

/// 23:30 in UTC, and so the next day already in Brussels.
fn at() -> Instants {
    let requested_at = "2026-11-23T23:30:00Z".parse().expect("valid");
    Instants { requested_at, now: "2026-11-24T06:00:00Z".parse().expect("valid") }
}

fn judge_by(rules: &Rules, scheme: &str, body: &Value) -> Judged {
    let (scheme, order_key) = (name(scheme), OrderKey::parse("k").expect("valid"));
    let text = body.to_string();
    let raw = Raw { scheme: &scheme, order_key: &order_key, header: &|_| None, body: text.as_bytes() };
    rules.judge(Contract.decode(raw).expect("readable"), &scheme, at())
}

fn judge(scheme: &str, body: &Value) -> Judged {
    judge_by(&rules(), scheme, body)
}

fn found(judged: &Judged) -> Vec<(Code, String)> {
    match judged {
        Judged::Valid(_) => Vec::new(),
        Judged::Refused(refused) => refused.reasons().iter().map(|r| (r.code, r.path.clone())).collect(),
    }
}

/// A payment that uses every field `scheme` allows.
fn full(scheme: &str) -> Value {
    let party = json!({"name": "Acme B.V.", "lei": "529900T8BM49AURSDO55", "address": {"street": "Damrak",
        "building": "1", "post_code": "1012LG", "town": "Amsterdam", "country": "NL"}});
    json!({
        "payment_id": "PAY-1", "scheme": scheme, "instruction_id": "I-1", "end_to_end_id": "E-1",
        "uetr": "8a562c67-ca16-48ba-b074-65581be6f011",
        "amount": {"currency": "EUR", "value": "1234.56"},
        "debtor": party, "creditor": party,
        "debtor_account": {"iban": DEBTOR_IBAN}, "creditor_account": {"iban": CREDITOR_IBAN},
        "debtor_agent": {"bic": "ABNANL2A"}, "creditor_agent": {"clearing": {"system": "USABA", "member": "011104238"}},
        "charge_bearer": if scheme == "cbpr" { "SHAR" } else { "SLEV" },
        "requested_execution_date": if scheme.starts_with("sct") { "2026-11-24" } else { "2026-11-23" },
        "expires_at": "2026-11-24T06:00:01Z", "category_purpose": "SUPP", "purpose": "SAL1",
        "remittance": {"unstructured": "Invoice 4711"},
    })
}

/// The least that `scheme` takes.
fn least(scheme: &str) -> Value {
    let mut body = json!({
        "payment_id": "PAY-1", "amount": {"currency": "EUR", "value": "1"},
        "debtor_account": {"iban": DEBTOR_IBAN}, "creditor_account": {"iban": CREDITOR_IBAN},
    });
    if scheme != "book" {
        set(&mut body, "/debtor", json!({"name": "A"}));
        set(&mut body, "/creditor", json!({"name": "B"}));
    }
    if scheme == "cbpr" {
        set(&mut body, "/uetr", json!("8a562c67-ca16-48ba-b074-65581be6f011"));
        set(&mut body, "/debtor_agent", json!({"bic": "ABNANL2A"}));
        set(&mut body, "/creditor_agent", json!({"bic": "DEUTDEFF"}));
    }
    body
}

/// Puts `value` at `path`; the object around it is there already.
fn set(body: &mut Value, path: &str, value: Value) {
    let (parent, key) = path.rsplit_once('/').expect("a pointer");
    let parent = body.pointer_mut(parent).and_then(Value::as_object_mut).expect(path);
    parent.insert(key.to_owned(), value);
}

/// `full(scheme)` with one field changed gives exactly these findings.
#[track_caller]
fn one(scheme: &str, path: &str, value: &Value, expected: &[(Code, &str)]) {
    let mut body = full(scheme);
    set(&mut body, path, value.clone());
    let expected: Vec<_> = expected.iter().map(|(code, path)| (*code, (*path).to_owned())).collect();
    assert_eq!(found(&judge(scheme, &body)), expected, "{scheme} {path} {value}");
}

#[test]
fn the_fullest_and_the_least_payment_of_every_scheme_pass() {
    for scheme in Scheme::BUILT_IN {
        for body in [full(scheme), least(scheme)] {
            assert_eq!(found(&judge(scheme, &body)), [], "{scheme}");
        }
    }
}

#[test]
fn a_limit_counts_on_the_events_day_in_the_schemes_zone_and_in_its_currency_only() {
    let eur = Currency::parse("EUR").expect("valid");
    let rules = rules().with_debtor_daily_limits(vec![Money::new(500, eur).expect("positive")]);
    for (scheme, day) in [("book", "2026-11-23"), ("sct", "2026-11-24")] {
        let Judged::Valid(valid) = judge_by(&rules, scheme, &least(scheme)) else { panic!("refused") };
        let allowance = valid.allowance().expect("limited");
        assert_eq!((allowance.day.to_string().as_str(), allowance.most), (day, 500));
    }
    let mut other = least("book");
    set(&mut other, "/amount/currency", json!("USD"));
    for judged in [judge_by(&rules, "book", &other), judge("book", &least("book"))] {
        let Judged::Valid(valid) = judged else { panic!("refused") };
        assert_eq!(valid.allowance(), None);
    }
}

#[test]
fn what_passed_is_in_the_payment() {
    let Judged::Valid(valid) = judge("sct", &full("sct")) else { panic!("refused") };
    let payment = valid.payment();
    assert_eq!(payment.amount, Money::new(123_456, Currency::parse("EUR").expect("valid")).expect("positive"));
    assert_eq!(payment.references.end_to_end_id.as_deref(), Some("E-1"));
    assert_eq!(payment.debtor_account.key(), format!("iban:{DEBTOR_IBAN}"));
    assert_eq!(payment.creditor_account.key(), format!("iban:{CREDITOR_IBAN}"));
    let address = payment.creditor.as_ref().and_then(|party| party.address.as_ref()).expect("given");
    assert_eq!((address.town.as_deref(), address.country.as_deref()), (Some("Amsterdam"), Some("NL")));
    // Midnight in Brussels after the 24th.
    assert_eq!(payment.late_from.expect("dated").to_string(), "2026-11-24T23:00:00Z");
}

#[test]
fn null_is_missing() {
    for (path, code) in [("/debtor_account", Code::CH21), ("/creditor_account", Code::CH21)] {
        one("book", path, &Value::Null, &[(code, path)]);
    }
    for path in [
        "/scheme",
        "/instruction_id",
        "/uetr",
        "/debtor",
        "/creditor/address",
        "/debtor/address/country",
        "/debtor_agent",
        "/charge_bearer",
        "/requested_execution_date",
        "/expires_at",
        "/purpose",
        "/remittance",
    ] {
        one("book", path, &Value::Null, &[]);
    }
    one("book", "/amount", &Value::Null, &[(Code::CH21, "/amount/currency"), (Code::CH21, "/amount/value")]);
    one("cbpr", "/uetr", &Value::Null, &[(Code::CH21, "/uetr")]);
    one("cbpr", "/debtor_agent", &Value::Null, &[(Code::CH21, "/debtor_agent")]);
    one("sct", "/debtor", &Value::Null, &[(Code::BE08, "/debtor/name")]);
    one("cbpr", "/creditor/name", &Value::Null, &[(Code::BE22, "/creditor/name")]);
}

#[test]
fn a_wrong_json_type_is_the_fields_content_code() {
    for (path, code) in [
        ("/scheme", Code::FF05),
        ("/instruction_id", Code::CH16),
        ("/end_to_end_id", Code::FF08),
        ("/uetr", Code::CH16),
        ("/amount", Code::AM12),
        ("/amount/currency", Code::AM11),
        ("/amount/value", Code::AM12),
        ("/debtor", Code::CH16),
        ("/creditor/name", Code::CH16),
        ("/debtor/lei", Code::BE16),
        ("/creditor/lei", Code::BE17),
        ("/debtor/address", Code::BE07),
        ("/creditor/address/town", Code::BE04),
        ("/debtor/address/country", Code::BE10),
        ("/creditor/address/country", Code::BE11),
        ("/debtor_account", Code::AC02),
        ("/creditor_account/iban", Code::AC03),
        ("/debtor_agent", Code::RC01),
        ("/debtor_agent/bic", Code::RC01),
        ("/creditor_agent/clearing", Code::RC01),
        ("/charge_bearer", Code::BE19),
        ("/requested_execution_date", Code::DT01),
        ("/expires_at", Code::DT01),
        ("/category_purpose", Code::FF06),
        ("/purpose", Code::FF07),
        ("/remittance", Code::RR07),
        ("/remittance/unstructured", Code::RR07),
    ] {
        for value in [json!(7), json!([]), json!(true)] {
            one("book", path, &value, &[(code, path)]);
        }
    }
}

#[test]
fn the_amount_is_judged_currency_first() {
    for currency in ["BGN", "XAU", "eur", "", "ABC"] {
        one("book", "/amount/currency", &json!(currency), &[(Code::AM11, "/amount/currency")]);
    }
    one("sct", "/amount/currency", &json!("USD"), &[(Code::AM03, "/amount/currency")]);
    for value in ["", "-1", "1.", ".5", "1e3", "1 ", "1234567890123456789", "\u{661}"] {
        one("book", "/amount/value", &json!(value), &[(Code::AM12, "/amount/value")]);
    }
    for value in ["0", "0.00", "000", "0.000"] {
        one("book", "/amount/value", &json!(value), &[(Code::AM01, "/amount/value")]);
    }
    for value in ["10.001", "10.000"] {
        one("book", "/amount/value", &json!(value), &[(Code::CH20, "/amount/value")]);
    }
    one("sct-inst", "/amount/value", &json!("999999999.99"), &[]);
    one("sct-inst", "/amount/value", &json!("000999999999.99"), &[]);
    one("sct-inst", "/amount/value", &json!("1000000000"), &[(Code::AM13, "/amount/value")]);
    one("book", "/amount/value", &json!("9999999999999999.99"), &[]);
    one("book", "/amount/value", &json!("999999999999999999"), &[(Code::AM13, "/amount/value")]);
    one("book", "/amount", &json!({"currency": "JPY", "value": "999999999999999999"}), &[]);
    let both = [(Code::AM03, "/amount/currency"), (Code::CH20, "/amount/value")];
    one("sct", "/amount", &json!({"currency": "JPY", "value": "1.5"}), &both);
}

#[test]
fn parties_are_judged_by_length_check_digits_and_country() {
    one("book", "/debtor/name", &json!(""), &[(Code::BE08, "/debtor/name")]);
    one("sct", "/creditor/name", &json!("N".repeat(140)), &[]);
    one("sct", "/creditor/name", &json!("N".repeat(141)), &[(Code::BE20, "/creditor/name")]);
    one("book", "/debtor/name", &json!("é".repeat(140)), &[]);
    one("book", "/debtor/lei", &json!("529900T8BM49AURSDO54"), &[(Code::BE16, "/debtor/lei")]);
    one("book", "/creditor/lei", &json!("529900t8bm49aursdo55"), &[(Code::BE17, "/creditor/lei")]);
    for country in ["UK", "XK", "nl", "NLD", "XX", ""] {
        one("book", "/creditor/address/country", &json!(country), &[(Code::BE11, "/creditor/address/country")]);
    }
    for (part, most) in [("street", 70), ("building", 16), ("post_code", 16), ("town", 35)] {
        let path = format!("/debtor/address/{part}");
        one("book", &path, &json!("é".repeat(most)), &[]);
        one("book", &path, &json!("é".repeat(most + 1)), &[(Code::BE07, &path)]);
        one("book", &path, &json!(""), &[(Code::BE07, &path)]);
    }
}

#[test]
fn accounts_and_agents_are_exactly_one_of_two() {
    for value in [
        json!({}),
        json!({"iban": null}),
        json!({"iban": DEBTOR_IBAN, "other": {"id": "1"}}),
        json!({"iban": 1, "other": 1}),
    ] {
        one("book", "/debtor_account", &value, &[(Code::AC02, "/debtor_account")]);
    }
    one("book", "/creditor_account", &json!({"other": {"id": "x".repeat(34), "scheme": "s"}}), &[]);
    for (other, path) in [
        (json!({}), "/creditor_account/other/id"),
        (json!({"id": ""}), "/creditor_account/other/id"),
        (json!({"id": "x".repeat(35)}), "/creditor_account/other/id"),
        (json!({"id": 1}), "/creditor_account/other/id"),
        (json!({"id": "1", "scheme": ""}), "/creditor_account/other/scheme"),
        (json!({"id": "1", "scheme": 1}), "/creditor_account/other/scheme"),
        (json!(1), "/creditor_account/other"),
    ] {
        one("book", "/creditor_account", &json!({ "other": other }), &[(Code::AC03, path)]);
    }
    one("sct", "/creditor_account", &json!({"other": {"id": "1"}}), &[(Code::AC03, "/creditor_account")]);
    for iban in ["NL91 ABNA 0417 1643 00", "nl91abna0417164300", "NL92ABNA0417164300", "XX91ABNA0417164300"] {
        one("book", "/debtor_account/iban", &json!(iban), &[(Code::AC02, "/debtor_account/iban")]);
    }
    for value in [json!({}), json!({"bic": "ABNANL2A", "clearing": {"system": "A", "member": "1"}})] {
        one("book", "/debtor_agent", &value, &[(Code::RC01, "/debtor_agent")]);
    }
    one("book", "/debtor_agent/bic", &json!("ABNAUK2A"), &[(Code::RC01, "/debtor_agent/bic")]);
    let clearing = |system: &str, member: &str| json!({"clearing": {"system": system, "member": member}});
    one("book", "/debtor_agent", &clearing("USABAX", "1"), &[(Code::RC01, "/debtor_agent/clearing/system")]);
    one("book", "/debtor_agent", &clearing("USABA", ""), &[(Code::RC01, "/debtor_agent/clearing/member")]);
}

#[test]
fn charge_bearers_purposes_and_remittance_follow_the_scheme() {
    for (scheme, bearer) in [("sct", "SHAR"), ("cbpr", "SLEV"), ("book", "OUR"), ("book", "slev")] {
        one(scheme, "/charge_bearer", &json!(bearer), &[(Code::BE19, "/charge_bearer")]);
    }
    for text in ["", "ABCDE", "sala", "A B"] {
        one("book", "/category_purpose", &json!(text), &[(Code::FF06, "/category_purpose")]);
        one("book", "/purpose", &json!(text), &[(Code::FF07, "/purpose")]);
    }
    let reference = |text: &str| json!({"structured": {"reference": text}});
    one("sct", "/remittance", &reference("RF18539007547034"), &[]);
    one("sct", "/remittance", &reference("RF19539007547034"), &[(Code::RR09, "/remittance/structured/reference")]);
    one("sct", "/remittance", &json!({"structured": {}}), &[(Code::RR09, "/remittance/structured/reference")]);
    one("sct", "/remittance", &json!({}), &[(Code::RR07, "/remittance")]);
    let both = json!({"unstructured": "a", "structured": {"reference": "RF18539007547034"}});
    one("sct", "/remittance", &both, &[(Code::RR07, "/remittance")]);
    for text in [String::new(), "R".repeat(141)] {
        one("sct", "/remittance", &json!({ "unstructured": text }), &[(Code::RR07, "/remittance/unstructured")]);
    }
}

#[test]
fn dates_are_judged_in_the_schemes_zone_at_the_brokers_time() {
    const PATH: &str = "/requested_execution_date";
    one("sct", PATH, &json!("2026-11-23"), &[(Code::CH04, PATH)]);
    one("sct", PATH, &json!("2026-11-25"), &[(Code::CH03, PATH)]);
    one("book", PATH, &json!("2026-11-24"), &[(Code::CH03, PATH)]);
    one("book", PATH, &json!("2026-11-22"), &[(Code::CH04, PATH)]);
    one("book", PATH, &json!("2026-02-30"), &[(Code::DT01, PATH)]);
    let ahead = rules().with_horizon(2);
    let mut body = full("sct");
    for (date, codes) in [("2026-11-26", vec![]), ("2026-11-27", vec![(Code::CH03, PATH.to_owned())])] {
        set(&mut body, PATH, json!(date));
        assert_eq!(found(&judge_by(&ahead, "sct", &body)), codes, "{date}");
    }
    one("book", "/expires_at", &json!("2026-11-24T06:00:00Z"), &[(Code::AB11, "/expires_at")]);
    one("book", "/expires_at", &json!("2026-11-24T07:00:00+01:00"), &[(Code::AB11, "/expires_at")]);
    one("book", "/expires_at", &json!("2026-11-24T06:00:00.001Z"), &[]);
    one("book", "/expires_at", &json!("2026-11-24T06:00:01"), &[(Code::DT01, "/expires_at")]);
}

#[test]
fn a_character_outside_the_set_is_found_last_and_only_where_nothing_else_is_wrong() {
    for path in [
        "/debtor/name",
        "/creditor/address/street",
        "/debtor/address/building",
        "/debtor/address/post_code",
        "/creditor/address/town",
        "/remittance/unstructured",
    ] {
        for scheme in ["sct", "sct-inst", "cbpr"] {
            one(scheme, path, &json!("M\u{fc}ller"), &[(Code::RR10, path)]);
        }
        one("book", path, &json!("M\u{fc}ller"), &[]);
    }
    one("sct", "/debtor/name", &json!("\u{fc}".repeat(141)), &[(Code::BE20, "/debtor/name")]);
}
