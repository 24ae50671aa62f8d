use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::fields::{FIELDS, Source};
use super::super::{Template, TemplateError};
use super::harness::payment;
use crate::domain::{Payment, RailKey};

fn render(template: &str, payment: &Payment) -> Value {
    let key = RailKey::of(&payment.payment_id, 0);
    let body = Template::parse(template).unwrap().render(Source { payment, key: &key });
    serde_json::from_slice(&body).unwrap()
}

fn refused(template: &str) -> TemplateError {
    Template::parse(template).unwrap_err()
}

#[test]
fn fields_take_the_place_of_their_names_in_their_own_type() {
    let template = r#"{"id": "{key}", "minor": "{amount.minor}", "text": "{amount.minor:string}",
        "value": "{amount.value}", "fixed": [1, true, null, "{{x}}"], "mixed": "ref {payment_id}/{scheme}",
        "from": "{debtor_account}", "to": "{creditor_account}", "on": "{requested_execution_date?}"}"#;
    let payment = payment("P-1");
    let expected = json!({
        "id": RailKey::of(&payment.payment_id, 0).as_str(), "minor": 123_456, "text": "123456", "value": "1234.56",
        "fixed": [1, true, null, "{x}"], "mixed": "ref P-1/sct", "from": "DE89370400440532013000",
        "to": "CANARYACCOUNT", "on": "2026-11-23",
    });
    assert_eq!(render(template, &payment), expected);
}

#[test]
fn what_is_absent_is_left_out_with_whatever_holds_nothing_else() {
    let template = r#"{"a": "{uetr?}", "b": {"c": "{creditor.name?}", "d": {"e": "{creditor.lei?}"}}, "f": ["{uetr?}"],
        "g": ["{uetr?}", "{payment_id}"], "h": "see {uetr?}", "i": {}, "j": [], "k": {"l": "{uetr?}", "m": 1}}"#;
    let expected = json!({ "g": ["P-1"], "i": {}, "j": [], "k": { "m": 1 } });
    assert_eq!(render(template, &payment("P-1")), expected);
    assert_eq!(render(r#"{"a": "{uetr?}"}"#, &payment("P-1")), json!({}));
}

#[test]
fn a_template_that_could_go_wrong_later_is_refused_at_once() {
    assert_eq!(refused("{\n\"a\": \"{key}\",\n}"), TemplateError::NotJson { line: 3 });
    assert_eq!(refused("[]"), TemplateError::NotObject);
    assert_eq!(refused(r#"{"a": "{pan}"}"#), TemplateError::Unknown("pan".to_owned()));
    assert_eq!(refused(r#"{"a": "{attempt}"}"#), TemplateError::Unknown("attempt".to_owned()));
    assert_eq!(refused(r#"{"a": "{uetr}"}"#), TemplateError::Unmarked("uetr"));
    assert_eq!(refused(r#"{"a": "{amount.value:number}"}"#), TemplateError::Form("amount.value"));
    assert_eq!(refused(r#"{"a": "{key"}"#), TemplateError::Brace);
    assert_eq!(refused(r#"{"a": "key}"}"#), TemplateError::Brace);
}

#[test]
fn every_field_can_be_named_and_the_built_in_body_is_the_contract() {
    for field in &FIELDS {
        let mark = if field.optional { "?" } else { "" };
        assert!(Template::parse(&format!(r#"{{"a": "{{{}{mark}}}"}}"#, field.name)).is_ok(), "{}", field.name);
    }
    let payment = payment("P-1");
    let key = RailKey::of(&payment.payment_id, 0);
    let render = || Template::built_in().unwrap().render(Source { payment: &payment, key: &key });
    assert_eq!(render(), render(), "the same bytes each time");
    let body: Value = serde_json::from_slice(&render()).unwrap();
    let expected = json!({
        "id": key.as_str(), "payment_id": "P-1", "scheme": "sct", "amount": { "currency": "EUR", "value": "1234.56" },
        "debtor": { "name": "CANARYDEBTOR", "address": { "town": "CANARYTOWN" } },
        "debtor_account": { "iban": "DE89370400440532013000" },
        "creditor_account": { "other": { "id": "CANARYACCOUNT" } },
        "debtor_agent": { "bic": "DEUTDEFF" }, "end_to_end_id": "E2E-1", "charge_bearer": "SLEV",
        "requested_execution_date": "2026-11-23", "remittance": { "unstructured": "CANARYREMITTANCE" },
    });
    assert_eq!(body, expected);
}

proptest! {
    #[test]
    fn no_text_makes_a_template_panic(text in "\\PC{0,40}", inner in "[a-z{}?:.]{0,24}") {
        drop(Template::parse(&text));
        drop(Template::parse(&json!({ "a": inner }).to_string()));
    }
}
