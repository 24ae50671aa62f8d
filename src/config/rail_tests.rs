use std::fs;

use super::tests::{load, refused};
use crate::worker::InProgress;

const GOOD: &str = r#"
[[lane]]
name = "instant"
schemes = ["sct-inst"]
route = "bank"
grace = "17s"
[[lane]]
name = "rest"
schemes = ["book", "sct"]
[[rail]]
name = "bank"
url = "https://bank.example/payments"
inquiry_url = "https://bank.example/payments?key={key}"
"#;

#[test]
fn a_lane_settles_over_the_rail_it_names_and_the_others_in_the_book() {
    let config = load(GOOD, &[("ACQUIT_RAIL_BANK_CONNECT_TIMEOUT", "1s")], &[("rail.bank.inquiries", "3")]).unwrap();
    let routes: Vec<(&str, &str)> = config.routes.iter().map(|(lane, rail)| (lane.as_str(), rail.as_str())).collect();
    assert_eq!(routes, [("instant", "bank")]);
    let [rail] = config.rails.as_slice() else { panic!("one rail") };
    assert_eq!((rail.connect_timeout.as_secs(), rail.inquiries, rail.connections), (1, 3, 512));
    assert_eq!((rail.terms.deadline.as_secs(), rail.terms.key_retention.as_secs()), (10, 86_400));
    assert!(rail.check().is_empty());
}

#[test]
fn a_lane_may_name_a_second_rail_that_fits_it() {
    let with = |fallback: &str| {
        let text = GOOD.replace("route = \"bank\"\n", &format!("route = \"bank\"\nfallback = \"{fallback}\"\n"));
        format!("{text}[[rail]]\nname = \"other\"\nurl = \"https://other.example/payments\"\n")
    };
    let config = load(&with("other"), &[], &[]).unwrap();
    let second: Vec<_> = config.fallbacks.iter().map(|(lane, rail)| (lane.as_str(), rail.as_str())).collect();
    assert_eq!(second, [("instant", "other")]);
    let printed = config.print().iter().find(|value| value.key == "lane.instant.fallback").unwrap();
    assert_eq!(printed.value, "other");

    let told = |text: &str| refused(text);
    let unknown = told(&with("othre"));
    assert!(unknown.contains("lane.instant.fallback (acquit.toml:6): must be the name of a [[rail]]"), "{unknown}");
    let same = told(&with("bank"));
    assert!(same.contains("lane.instant.fallback (acquit.toml:6): must be another rail"), "{same}");
    let book = told(&with("other").replace("route = \"bank\"\n", ""));
    assert!(book.contains("lane.instant.fallback (acquit.toml:5): must stand beside a route over a rail"), "{book}");
    // Its calls have to end within the grace time, and it needs a connection for each slot.
    let unfit = told(&format!("{}deadline = \"11s\"\nconnections = 511\n", with("other")));
    assert!(unfit.contains("lane.instant.grace (acquit.toml:7): must be at least expires"), "{unfit}");
    assert!(unfit.contains("rail.other.connections (acquit.toml:19): must be at least the slots"), "{unfit}");
}

#[test]
fn everything_wrong_with_a_rail_is_told_at_once() {
    let text = r#"
[[lane]]
name = "instant"
route = "bnak"
[[lane]]
name = "rest"
schemes = []
route = "bank"
slots = 600
[[rail]]
name = "bank"
url = "http://user:canary@bank.example/payments"
inquiry_url = "https://bank.example/{payment_id}"
key_header = "a b"
headers = ["X-Tenant=/nowhere/canary"]
deadline = "2s"
connect_timeout = "1500ms"
longest_execution = "1h"
key_retention = "1h"
status = "status"
settled = ["OK"]
rejected = ["OK"]
default_code = "canary"
not_processed = ["500"]
[[rail]]
name = "book"
url = "ftp://bank.example"
"#;
    let told = refused(text);
    for expected in [
        "lane.instant.route (acquit.toml:4): must be \"book\" or the name of a [[rail]]",
        "rail.bank.url (acquit.toml:12): must be an https address without query",
        "rail.bank.inquiry_url (acquit.toml:13): must be an https address with {key} in its path or query",
        "rail.bank.key_header (acquit.toml:14): must be a header's name",
        "rail.bank.headers (acquit.toml:15): must be pairs of a header's name and the path",
        "rail.bank.status (acquit.toml:20): must be a JSON pointer",
        "rail.bank.rejected (acquit.toml:22): must not name a word that has a meaning already",
        "rail.bank.default_code (acquit.toml:23): must be a code of Acquit",
        "rail.bank.not_processed (acquit.toml:24): must be statuses from 400 to 599 that can prove it",
        "rail.book.name (acquit.toml:26): must be 1 to 64 characters",
        "rail.book.url (acquit.toml:27): must be an https address",
    ] {
        assert!(told.contains(expected), "{expected}\nin\n{told}");
    }
    assert!(!told.contains("canary"), "{told}");
}

#[test]
fn times_and_bounds_have_to_fit_each_other() {
    let short = GOOD.replace("grace = \"17s\"", "grace = \"16s\"");
    assert!(
        refused(&short).contains("lane.instant.grace (acquit.toml:6): must be at least expires, the rail's deadline")
    );
    let slow = format!("{GOOD}deadline = \"3s\"\nconnect_timeout = \"1600ms\"\n");
    assert!(refused(&slow).contains("rail.bank.connect_timeout (acquit.toml:15): must be at most half of deadline"));
    let forgetful = format!("{GOOD}key_retention = \"10m\"\n");
    assert!(refused(&forgetful).contains("rail.bank.key_retention (acquit.toml:14): must be at least twice"));
    let narrow = format!("{GOOD}connections = 511\n");
    assert!(
        refused(&narrow)
            .contains("rail.bank.connections (acquit.toml:14): must be at least the slots of its lanes together (512)")
    );
}

#[test]
fn payments_leave_this_machine_over_tls_unless_somebody_said_otherwise() {
    let at = |url: &str| GOOD.replace("https://bank.example", url);
    assert!(refused(&at("http://bank.example")).contains("http only to this machine"));
    assert!(load(&format!("{}plaintext = true\n", at("http://bank.example")), &[], &[]).is_ok());
    for own in ["http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost"] {
        assert!(load(&at(own), &[], &[]).is_ok(), "{own}");
    }
}

#[test]
fn a_body_template_is_read_and_checked_with_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body.json");
    let text = format!("{GOOD}body_file = {:?}\n", file.display().to_string());
    fs::write(&file, r#"{"id": "{payment_id}", "sum": "{amount.value}"}"#).unwrap();
    assert!(load(&text, &[], &[]).is_ok());
    fs::write(&file, r#"{"id": "{payment_id}", "sum": "{amount}"}"#).unwrap();
    let told = refused(&text);
    assert!(told.contains("rail.bank.body_file (acquit.toml:14): names {amount}, which is no field"), "{told}");
    assert!(told.contains("{amount.value} {amount.minor}"), "the fields are told: {told}");
}

#[test]
fn secrets_of_a_rail_are_hidden() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("canary");
    fs::write(&file, "canary").unwrap();
    let path = file.display().to_string();
    let text = format!("{GOOD}token_file = {path:?}\nclient_cert_file = {path:?}\n");
    assert!(refused(&text).contains("rail.bank.client_cert_file (acquit.toml:15): must come together with"));
    let text = format!("{GOOD}token_file = {path:?}\nheaders = [\"X-Key={path}\"]\n");
    let config = load(&text, &[], &[]).unwrap();
    assert!(!format!("{:?}", config.print()).contains("canary"));
    let own = format!("{GOOD}headers = [\"Idempotency-Key={path}\"]\n");
    assert!(refused(&own).contains("rail.bank.headers (acquit.toml:14): must not name a header that is set already"));
}

#[test]
fn a_rail_lane_follows_what_its_rail_bears_unless_it_is_told_not_to() {
    let of = |more: &str| {
        let config = load(&GOOD.replace("grace = \"17s\"\n", &format!("grace = \"17s\"\n{more}")), &[], &[]).unwrap();
        config.lanes.first().unwrap().limit
    };
    assert_eq!(of(""), Some(crate::resilience::LimitPolicy::default()));
    assert_eq!(of("limit.adaptive = false\n"), None);
    let [least, slowdown] = [7, 300];
    let own = of(&format!("limit.least = {least}\nlimit.slowdown = {slowdown}\n"));
    assert_eq!(own, crate::resilience::LimitPolicy::new(least, slowdown).ok());
    let told = refused(
        "[[lane]]\nname = \"a\"\nslots = 8\n[lane.limit]\nadaptive = 1\nleast = 0\nslowdown = 100\n\
         [[lane]]\nname = \"b\"\nschemes = [\"sct\"]\nslots = 8\nlimit.least = 9\n",
    );
    let keys: Vec<&str> = told.lines().filter_map(|line| line.split(' ').next()).collect();
    let expected = ["lane.a.limit.adaptive", "lane.a.limit.least", "lane.a.limit.slowdown", "lane.b.limit.least"];
    assert!(expected.iter().all(|key| keys.contains(key)), "{told}");
}

#[test]
fn a_lane_over_a_rail_may_track_what_takes_long_within_a_bound_in_count_and_money() {
    let held = load(GOOD, &[], &[]).unwrap();
    assert!(held.lanes.iter().all(|lane| lane.in_progress == InProgress::Hold));
    let text = GOOD.replacen(
        "grace",
        "in_progress = \"track\"\ntrack_limit = 7\ntrack_limit_amount = [\"EUR 10.5\", \"JPY 3\"]\ngrace",
        1,
    );
    let config = load(&text, &[("ACQUIT_LANE_INSTANT_TRACK_AFTER", "5m")], &[]).unwrap();
    let InProgress::Track(policy) = &config.lanes[0].in_progress else { panic!("it holds") };
    assert_eq!((policy.after.as_secs(), policy.limits.count), (300, 7));
    assert_eq!(policy.limits.minor, [("EUR", 1_050), ("JPY", 3)].into());
    assert_eq!(config.lanes[1].in_progress, InProgress::Hold);
}

#[test]
fn a_bound_of_the_tracker_that_says_nothing_and_a_tracker_without_a_rail_are_refused() {
    for amounts in ["\"EUR\"", "\"EUR 0\"", "\"EUR 1.234\"", "\"XXX 1\"", "\"EUR 1\", \"EUR 2\""] {
        let told = refused(&GOOD.replacen("grace", &format!("track_limit_amount = [{amounts}]\ngrace"), 1));
        assert!(told.contains("lane.instant.track_limit_amount (acquit.toml:6): must be amounts above zero"), "{told}");
    }
    let told = refused(&GOOD.replacen("[[rail]]", "in_progress = \"track\"\n[[rail]]", 1));
    assert!(
        told.contains("lane.rest.in_progress (acquit.toml:10): must be \"hold\": the book settles at once"),
        "{told}"
    );
}
