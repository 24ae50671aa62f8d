//! What each scheme requires. Four are built in; configuration defines more.

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::domain::{ChargeBearer, Currency, Decimal, SchemeName};

/// A payment scheme, as the rules see it.
#[derive(Debug, Clone)]
pub struct Scheme {
    /// The third token of the subjects it comes on.
    pub name: SchemeName,
    /// Where its days begin.
    pub zone: TimeZone,
    /// The currencies it moves; `None` for any.
    pub currencies: Option<Vec<Currency>>,
    /// The most it moves at once.
    pub maximum: Maximum,
    /// What it demands beyond the contract.
    pub requires: Requires,
    /// The charge bearers it takes.
    pub charge_bearers: Vec<ChargeBearer>,
}

/// The most a scheme moves at once.
#[derive(Debug, Clone, Default)]
pub struct Maximum {
    /// In every currency that has no maximum of its own; `None` for no bound.
    pub each: Option<Decimal>,
    /// In single currencies.
    pub by_currency: Vec<(Currency, Decimal)>,
}

/// What a scheme demands beyond the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requires {
    /// Both accounts are known by their IBAN.
    pub ibans: bool,
    /// Both parties are named.
    pub names: bool,
    /// Both agents are given.
    pub agents: bool,
    /// A UETR is given.
    pub uetr: bool,
    /// Names, addresses and remittance keep to the SWIFT X character set.
    pub swift_characters: bool,
}

/// The time zone of an IANA name, from the database inside this binary: the same rules on every machine.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

impl Scheme {
    /// The names of the built-in schemes.
    pub const BUILT_IN: [&str; 4] = ["book", "sct", "sct-inst", "cbpr"];

    /// A scheme that demands nothing beyond the contract: any currency, no maximum, days of UTC.
    #[must_use]
    pub fn open(name: SchemeName) -> Self {
        use ChargeBearer::{Cred, Debt, Shar, Slev};
        Self {
            name,
            zone: TimeZone::UTC,
            currencies: None,
            maximum: Maximum::default(),
            requires: Requires::default(),
            charge_bearers: vec![Debt, Cred, Shar, Slev],
        }
    }

    /// The built-in scheme of this name.
    #[must_use]
    pub fn built_in(name: &SchemeName) -> Option<Self> {
        let open = Self::open(name.clone());
        match name.as_str() {
            "book" => Some(open),
            "sct" | "sct-inst" => Some(Self {
                zone: zone("Europe/Brussels")?,
                currencies: Some(vec![Currency::parse("EUR")?]),
                maximum: Maximum { each: Some(Decimal::parse("999999999.99")?), by_currency: Vec::new() },
                requires: Requires { ibans: true, names: true, swift_characters: true, ..Requires::default() },
                charge_bearers: vec![ChargeBearer::Slev],
                ..open
            }),
            "cbpr" => Some(Self {
                requires: Requires { names: true, agents: true, uetr: true, swift_characters: true, ibans: false },
                charge_bearers: vec![ChargeBearer::Debt, ChargeBearer::Cred, ChargeBearer::Shar],
                ..open
            }),
            _ => None,
        }
    }

    /// Whether it moves `currency`.
    #[must_use]
    pub fn moves(&self, currency: Currency) -> bool {
        self.currencies.as_ref().is_none_or(|currencies| currencies.contains(&currency))
    }
}

impl Maximum {
    /// The bound for `currency`.
    #[must_use]
    pub fn of(&self, currency: Currency) -> Option<Decimal> {
        let own = self.by_currency.iter().find(|(its, _)| *its == currency).map(|(_, bound)| *bound);
        own.or(self.each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scheme_exists_and_no_other() {
        for name in Scheme::BUILT_IN {
            let name = SchemeName::parse(name).expect("valid");
            assert_eq!(Scheme::built_in(&name).expect("built in").name, name);
        }
        assert!(Scheme::built_in(&SchemeName::parse("fednow").expect("valid")).is_none());
    }

    #[test]
    fn a_maximum_of_its_own_goes_before_the_general_one() {
        let (eur, usd) = (Currency::parse("EUR").expect("valid"), Currency::parse("USD").expect("valid"));
        let (ten, five) = (Decimal::parse("10"), Decimal::parse("5").expect("valid"));
        let maximum = Maximum { each: ten, by_currency: vec![(usd, five)] };
        assert_eq!((maximum.of(eur), maximum.of(usd)), (ten, Some(five)));
    }
}
