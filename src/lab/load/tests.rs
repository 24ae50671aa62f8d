//! The load, run through the rules it claims to break and to keep.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::domain::Fingerprint;
use crate::intake::{Contract, Decode, Instants, Judged, Raw, Rules, Scheme, Unreadable};

const NOW: &str = "2026-11-23T10:00:00Z";

fn rules() -> Rules {
    let built_in = |name: &str| Scheme::built_in(&SchemeName::parse(name).expect("valid")).expect("built in");
    Rules::new(Scheme::BUILT_IN.iter().map(|name| built_in(name)).collect())
}

/// What the rules, and after them a store that works on one event at a time, make of the events.
struct Oracle {
    rules: Rules,
    settled: HashMap<PaymentId, (u64, Fingerprint, Bytes)>,
    number: u64,
}

impl Oracle {
    fn new() -> Self {
        Self { rules: rules(), settled: HashMap::new(), number: 0 }
    }

    fn takes(&mut self, event: &Generated) -> Expect {
        self.number += 1;
        let raw = Raw { scheme: &event.scheme, order_key: &event.order_key, header: &|_| None, body: &event.body };
        let decoded = match Contract.decode(raw) {
            Ok(decoded) => decoded,
            Err(Unreadable::Malformed(reason)) => {
                assert_eq!((event.payment_id.as_ref(), event.money), (None, None));
                return Expect::DeadLettered(reason.code);
            }
            Err(Unreadable::NewerContract { .. }) => panic!("no header was given"),
        };
        let at = NOW.parse().expect("valid");
        let judged = self.rules.judge(decoded, &event.scheme, Instants { requested_at: at, now: at });
        assert_eq!(event.payment_id.as_ref(), Some(judged.payment_id()));
        assert_eq!(event.money, judged.amount(), "{:?}", event.body);
        let id = judged.payment_id().clone();
        if let Some((first, fingerprint, body)) = self.settled.get(&id) {
            assert!(first + REPEAT_AFTER <= self.number, "{first} repeated at {}", self.number);
            let same = *fingerprint == judged.fingerprint();
            return if same { Expect::Duplicate { exact: body == &event.body } } else { Expect::Conflict };
        }
        match judged {
            Judged::Valid(valid) => {
                assert_ne!(valid.payment().debtor_account, valid.payment().creditor_account);
                let fingerprint = Judged::Valid(valid).fingerprint();
                self.settled.insert(id, (self.number, fingerprint, event.body.clone()));
                Expect::Settled
            }
            Judged::Refused(refused) => {
                let one = refused.reasons().len() == 1;
                assert!(one || refused.reasons().iter().all(|reason| reason.path.starts_with("/amount/")));
                Expect::Rejected(refused.reasons()[0].code)
            }
        }
    }
}

#[test]
fn every_event_becomes_what_it_is_said_to_become() {
    let at = Some(NOW.parse().expect("valid"));
    for settings in [
        GeneratorSettings { at, ..GeneratorSettings::new(20_000) },
        GeneratorSettings { at, seed: 9, broken_percent: 100, ..GeneratorSettings::new(20_000) },
        GeneratorSettings { seed: 3, accounts: 0, broken_percent: 40, ..GeneratorSettings::new(2000) },
    ] {
        let mut oracle = Oracle::new();
        for (number, event) in Generator::new(settings.clone()).enumerate() {
            let body = String::from_utf8_lossy(&event.body);
            assert_eq!(oracle.takes(&event), event.expect, "event {number}: {:.2000}", body);
        }
        assert_eq!(oracle.number, settings.payments);
    }
}

#[test]
fn about_five_in_a_hundred_do_not_settle_and_every_kind_of_them_comes() {
    let (mut counts, mut codes, mut bytes) = ([0_u32; 6], BTreeMap::new(), 0);
    for event in Generator::new(GeneratorSettings::new(50_000)) {
        bytes += event.body.len();
        let kind = match event.expect {
            Expect::Settled => 0,
            Expect::Rejected(code) => {
                *codes.entry(code).or_insert(0) += 1;
                1
            }
            Expect::DeadLettered(_) => 2,
            Expect::Duplicate { exact: true } => 3,
            Expect::Duplicate { exact: false } => 4,
            Expect::Conflict => 5,
        };
        counts[kind] += 1;
    }
    let [settled, rejected, unreadable, exact, respelt, conflicts] = counts;
    assert!((47_250..47_750).contains(&settled), "{counts:?}");
    assert!((1400..1600).contains(&rejected), "{counts:?}");
    assert!((340..460).contains(&unreadable), "{counts:?}");
    assert!((290..410).contains(&(exact + respelt)) && respelt > 80 && exact > 150, "{counts:?}");
    assert!((200..300).contains(&conflicts), "{counts:?}");
    // All that rules alone can give: the book, rails and screening have codes of their own, FF05 is a wrong subject's.
    let book = [Code::AM04, Code::AM05, Code::AM14, Code::FF05, Code::FF10, Code::RR04];
    let rails = [Code::AC01, Code::AC04, Code::AC06, Code::AG01, Code::AM02, Code::MS02, Code::MS03];
    let elsewhere = [book.as_slice(), &rails].concat();
    for code in Code::ALL.iter().filter(|code| !elsewhere.contains(code)) {
        assert!(codes.contains_key(code), "{code} of {codes:?}");
    }
    assert!((450..560).contains(&(bytes / 50_000)), "{} bytes on average", bytes / 50_000);
}

#[test]
fn the_same_settings_give_the_same_events_and_another_seed_gives_others() {
    let bodies = |seed| {
        let settings = GeneratorSettings { seed, ..GeneratorSettings::new(1000) };
        Generator::new(settings).map(|event| (event.body, event.order_key)).collect::<Vec<_>>()
    };
    assert_eq!(bodies(5), bodies(5));
    assert_ne!(bodies(5), bodies(6));
}

#[test]
fn a_plain_load_settles_and_a_uniform_one_is_of_one_size() {
    assert!(Generator::new(GeneratorSettings::plain(5000)).all(|event| event.expect == Expect::Settled));
    let mut oracle = Oracle::new();
    for event in Generator::new(GeneratorSettings::uniform(5000)) {
        assert_eq!(event.body.len(), 512);
        assert_eq!(oracle.takes(&event), Expect::Settled);
    }
    for size in [600, 1024] {
        let settings = GeneratorSettings { body_bytes: Some(size), ..GeneratorSettings::plain(5000) };
        assert!(Generator::new(settings).all(|event| event.body.len() == size));
    }
}

#[test]
fn currencies_of_every_number_of_decimals_and_all_schemes_come() {
    let mut seen: BTreeMap<(String, u8), u32> = BTreeMap::new();
    let mut currencies = std::collections::BTreeSet::new();
    for event in Generator::new(GeneratorSettings::plain(5000)) {
        let currency = event.money.expect("valid").currency();
        currencies.insert(currency.code());
        *seen.entry((event.scheme.to_string(), currency.exponent())).or_default() += 1;
    }
    assert_eq!(currencies.len(), 14);
    for (scheme, exponents) in [("book", &[0, 2, 3, 4][..]), ("cbpr", &[0, 2, 3, 4]), ("sct", &[2]), ("sct-inst", &[2])]
    {
        for exponent in exponents {
            assert!(seen.contains_key(&(scheme.to_owned(), *exponent)), "{scheme} {exponent}");
        }
    }
}
