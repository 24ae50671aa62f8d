//! `[[scheme]]`: schemes beside the built-in ones.

use crate::domain::{ChargeBearer, Currency, Decimal, SchemeName};
use crate::intake::{Maximum, Requires, Scheme, zone};

use super::problem::Problem;
use super::read::Table;

/// The schemes, or their problems.
pub(super) fn schemes(tables: &[Table], problems: &mut Vec<Problem>) -> Vec<Scheme> {
    let mut schemes: Vec<Scheme> = Vec::with_capacity(tables.len());
    for table in tables {
        let Some(scheme) = scheme(table, problems) else { continue };
        if schemes.iter().any(|other| other.name == scheme.name) {
            problems.push(table.problem("name", "must not be that of another [[scheme]]", "choose another name"));
        }
        schemes.push(scheme);
    }
    schemes
}

fn scheme(table: &Table, problems: &mut Vec<Problem>) -> Option<Scheme> {
    let name = name(table, problems);
    let zone = table.text("time_zone").and_then(zone);
    if zone.is_none() {
        problems.push(table.problem(
            "time_zone",
            "must be an IANA time zone",
            "write \"Europe/Brussels\" for instance",
        ));
    }
    let currencies = each(table, "currencies", Currency::parse);
    if currencies.is_none() {
        let rule = "must be active ISO 4217 codes with a minor unit";
        problems.push(table.problem("currencies", rule, "write [\"EUR\"] for instance"));
    }
    let maximum = table.text("maximum").map(|text| Decimal::parse(text).filter(|bound| !bound.is_zero()));
    if maximum == Some(None) {
        let remedy = "write it as \"999999999.99\", in quotes";
        problems.push(table.problem("maximum", "must be a decimal above zero of at most 18 digits", remedy));
    }
    let bearers = each(table, "charge_bearers", bearer).filter(|bearers| !bearers.is_empty());
    if bearers.is_none() {
        let rule = "must be at least one of DEBT, CRED, SHAR and SLEV";
        problems.push(table.problem("charge_bearers", rule, "write [\"SLEV\"] for instance"));
    }
    Some(Scheme {
        name: name?,
        zone: zone?,
        currencies: Some(currencies?).filter(|currencies| !currencies.is_empty()),
        maximum: Maximum { each: maximum.flatten(), by_currency: Vec::new() },
        requires: Requires {
            ibans: table.flag("require_ibans"),
            names: table.flag("require_names"),
            agents: table.flag("require_agents"),
            uetr: table.flag("require_uetr"),
            swift_characters: table.flag("require_swift_characters"),
        },
        charge_bearers: bearers?,
    })
}

fn name(table: &Table, problems: &mut Vec<Problem>) -> Option<SchemeName> {
    let name = table.text("name").and_then(|name| SchemeName::parse(name).ok());
    match &name {
        None => {
            let rule = "must be 1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'";
            problems.push(table.problem("name", rule, "give the scheme a name"));
        }
        Some(name) if Scheme::BUILT_IN.contains(&name.as_str()) => {
            problems.push(table.problem("name", "must not be that of a built-in scheme", "choose another name"));
        }
        Some(_) => {}
    }
    name
}

fn each<T>(table: &Table, key: &str, parse: fn(&str) -> Option<T>) -> Option<Vec<T>> {
    table.texts(key).iter().map(|text| parse(text)).collect()
}

fn bearer(text: &str) -> Option<ChargeBearer> {
    match text {
        "DEBT" => Some(ChargeBearer::Debt),
        "CRED" => Some(ChargeBearer::Cred),
        "SHAR" => Some(ChargeBearer::Shar),
        "SLEV" => Some(ChargeBearer::Slev),
        _ => None,
    }
}
