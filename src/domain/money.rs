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

    /// The number of decimals that are not superfluous zeros.
    #[must_use]
    pub fn significant_scale(self) -> u8 {
        self.reduced().scale
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
