//! Money: a positive whole number of minor units and an active ISO 4217 currency. Never a float.

use std::fmt;
use std::num::NonZeroI64;
use std::str::FromStr;

/// An active ISO 4217 currency that has a minor unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency {
    code: iso_currency::Currency,
    exponent: u8,
}

/// Codes that libraries still know though ISO 4217 has withdrawn them.
const WITHDRAWN: [&str; 5] = ["BGN", "HRK", "CUC", "SLL", "ZWL"];

impl Currency {
    /// The currency of an upper-case code, or `None` where it is unknown, withdrawn, or has no minor unit (metals,
    /// test codes).
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        if code.len() != 3 || !code.bytes().all(|b| b.is_ascii_uppercase()) || WITHDRAWN.contains(&code) {
            return None;
        }
        let known = iso_currency::Currency::from_str(code).ok()?;
        let exponent = u8::try_from(known.exponent()?).ok()?;
        Some(Self { code: known, exponent })
    }

    /// The three letters.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.code.code()
    }

    /// How many decimals its minor unit has (0 to 4).
    #[must_use]
    pub fn exponent(self) -> u8 {
        self.exponent
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A decimal as contract v1 allows it: digits, at most one point with digits on both sides, at most 18 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    units: i64,
    scale: u8,
}

impl Decimal {
    /// Reads `text`; `None` where it breaks the form (sign, space, exponent, other digits, more than 18 digits).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) | Some(("", _)) => return None,
            Some(parts) => parts,
            None => (text, ""),
        };
        let digits = whole.len().checked_add(fraction.len())?;
        if whole.is_empty() || digits > 18 {
            return None;
        }
        let mut units: i64 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            if !byte.is_ascii_digit() {
                return None;
            }
            units = units.checked_mul(10)?.checked_add(i64::from(byte.wrapping_sub(b'0')))?;
        }
        Some(Self { units, scale: u8::try_from(fraction.len()).ok()? })
    }

    /// Whether it is nothing at all.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.units == 0
    }

    /// The number of decimals as written, superfluous zeros included.
    #[must_use]
    pub fn scale(self) -> u8 {
        self.scale
    }

    /// Whether the value is above that of `bound`, however either is written.
    #[must_use]
    pub fn exceeds(self, bound: Self) -> bool {
        // At most 18 digits on either side, raised by at most 17 places: below 10^36, which an i128 holds.
        let raised = |it: Self, to: u8| i128::from(it.units) * 10_i128.pow(u32::from(to.saturating_sub(it.scale)));
        let scale = self.scale.max(bound.scale);
        raised(self, scale) > raised(bound, scale)
    }

    /// The same value without superfluous zeros.
    fn reduced(self) -> Self {
        let mut reduced = self;
        while reduced.scale > 0 && reduced.units % 10 == 0 {
            reduced.units /= 10;
            reduced.scale = reduced.scale.saturating_sub(1);
        }
        reduced
    }

    /// The one text of this value: no leading zeros but one before the point, no trailing zeros after it.
    #[must_use]
    pub fn canonical(self) -> String {
        let reduced = self.reduced();
        scaled(i128::from(reduced.units), reduced.scale)
    }

    /// The value in units of 10^-scale, or `None` where it has more decimals or does not fit.
    #[must_use]
    pub fn at_scale(self, scale: u8) -> Option<i64> {
        let reduced = self.reduced();
        let missing = scale.checked_sub(reduced.scale)?;
        reduced.units.checked_mul(10_i64.checked_pow(u32::from(missing))?)
    }
}

/// A positive amount.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    minor: NonZeroI64,
    currency: Currency,
}

impl Money {
    /// An amount of `minor` units; `None` unless it is positive.
    #[must_use]
    pub fn new(minor: i64, currency: Currency) -> Option<Self> {
        NonZeroI64::new(minor).filter(|m| m.get() > 0).map(|minor| Self { minor, currency })
    }

    /// The value in minor units, above zero.
    #[must_use]
    pub fn minor(self) -> i64 {
        self.minor.get()
    }

    /// Its currency.
    #[must_use]
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// The value as a decimal string with exactly the currency's decimals.
    #[must_use]
    pub fn value(self) -> String {
        Self::format(i128::from(self.minor.get()), self.currency)
    }

    /// Any sum of minor units in the same form: for totals, which may be zero or negative.
    #[must_use]
    pub fn format(minor: i128, currency: Currency) -> String {
        scaled(minor, currency.exponent)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.currency, self.value())
    }
}

fn scaled(units: i128, scale: u8) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let digits = units.unsigned_abs().to_string();
    let scale = usize::from(scale);
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale.saturating_add(1));
    let (whole, fraction) = padded.split_at(padded.len().saturating_sub(scale));
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).expect(code)
    }

    #[test]
    fn minor_units_are_those_of_iso_4217() {
        for (code, exponent) in [("EUR", 2), ("JPY", 0), ("ISK", 0), ("KWD", 3), ("TND", 3), ("CLF", 4), ("UYW", 4)] {
            assert_eq!(currency(code).exponent(), exponent, "{code}");
        }
    }

    #[test]
    fn codes_that_are_no_active_currency_are_refused() {
        for code in ["BGN", "HRK", "CUC", "SLL", "ZWL", "XAU", "XAG", "XTS", "XXX", "eur", "EU", "EURO", "ABC", "", "€"]
        {
            assert!(Currency::parse(code).is_none(), "{code}");
        }
    }

    #[test]
    fn a_decimal_has_one_form() {
        for text in ["0", "7", "007.10", "999999999999999999", "0.00000000000000001", "1.0"] {
            assert!(Decimal::parse(text).is_some(), "{text}");
        }
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1e3",
            "1,5",
            "1.2.3",
            "\u{661}\u{662}",
            "1_0",
            "0x1",
            "1234567890123456789",
            "NaN",
        ] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_not_rounded() {
        assert_eq!(Decimal::parse("10.001").and_then(|d| d.at_scale(2)), None);
        assert_eq!(Decimal::parse("999999999999999999").and_then(|d| d.at_scale(2)), None);
        assert_eq!(Decimal::parse("10.100").and_then(|d| d.at_scale(2)), Some(1010));
        assert!(Money::new(0, currency("EUR")).is_none() && Money::new(-1, currency("EUR")).is_none());
    }

    #[test]
    fn totals_below_zero_keep_their_sign() {
        assert_eq!(Money::format(-5, currency("EUR")), "-0.05");
        assert_eq!(Money::format(0, currency("KWD")), "0.000");
        assert_eq!(Money::format(i128::MIN, currency("JPY")), i128::MIN.to_string());
    }

    proptest! {
        #[test]
        fn money_reads_back_as_what_it_was(minor in 1_i64..=999_999_999_999_999_999, code in 0_usize..5) {
            let currency = currency(["EUR", "JPY", "KWD", "CLF", "USD"][code]);
            let money = Money::new(minor, currency).expect("positive");
            let text = money.value();
            let decimal = Decimal::parse(&text).expect("our own form");
            prop_assert_eq!(decimal.scale(), currency.exponent());
            prop_assert_eq!(decimal.at_scale(currency.exponent()), Some(minor));
        }

        #[test]
        fn the_canonical_text_keeps_the_value_and_is_the_same_for_all_spellings(
            whole in 0_u64..1_000_000, fraction in 0_u64..10_000, zeros in 0_usize..4, lead in 0_usize..4,
        ) {
            let plain = Decimal::parse(&format!("{whole}.{fraction:04}")).expect("valid");
            let spelt = Decimal::parse(&format!("{:0>lead$}{whole}.{fraction:04}{:0>zeros$}", "", "")).expect("valid");
            prop_assert_eq!(plain.canonical(), spelt.canonical());
            let again = Decimal::parse(&plain.canonical()).expect("canonical is valid");
            prop_assert_eq!(again.canonical(), plain.canonical());
            prop_assert_eq!(again.at_scale(4), plain.at_scale(4));
            prop_assert!(!plain.exceeds(spelt) && !spelt.exceeds(plain));
        }

        #[test]
        fn exceeding_is_what_it_is_among_whole_units(a in 0_i64..1_000_000_000, b in 0_i64..1_000_000_000, s in 0_u8..9, t in 0_u8..9) {
            let left = Decimal::parse(&scaled(i128::from(a), s)).expect("valid");
            let right = Decimal::parse(&scaled(i128::from(b), t)).expect("valid");
            let by_hand = i128::from(a) * 10_i128.pow(u32::from(t)) > i128::from(b) * 10_i128.pow(u32::from(s));
            prop_assert_eq!(left.exceeds(right), by_hand);
        }

        #[test]
        fn no_text_makes_a_decimal_panic(text in "\\PC{0,24}") {
            if let Some(decimal) = Decimal::parse(&text) {
                prop_assert!(Decimal::parse(&decimal.canonical()).is_some());
            }
        }
    }
}
