//! `amount`: the currency first, then the value in it.

use super::Object;
use super::findings::{Broken, Findings, object, text};
use crate::domain::{Code, Currency, Decimal, Money};
use crate::intake::Scheme;

/// What could be read of the amount.
pub(super) struct Amount {
    /// The amount where it can be told in its currency, even if the scheme refuses it.
    pub(super) in_currency: Option<Money>,
    /// The amount where it broke no rule.
    pub(super) within_rules: Result<Money, Broken>,
}

pub(super) fn read(body: &Object, scheme: &Scheme, findings: &mut Findings) -> Amount {
    let nothing = Object::new();
    let amount = match object(body, "amount") {
        Ok(amount) => amount.unwrap_or(&nothing),
        Err(_) => {
            let broken = findings.add(Code::AM12, "/amount", "must be an object");
            return Amount { in_currency: None, within_rules: Err(broken) };
        }
    };
    // Both are read before either decides: each has a path, and so a finding, of its own.
    let currency = currency(amount, scheme, findings);
    match (currency, decimal(amount, findings)) {
        (Ok((currency, allowed)), Ok(value)) => {
            let in_currency = value.at_scale(currency.exponent()).and_then(|minor| Money::new(minor, currency));
            let bounded = bounded(value, in_currency, currency, scheme, findings);
            Amount { in_currency, within_rules: allowed.and(bounded) }
        }
        (Err(broken), _) | (Ok(_), Err(broken)) => Amount { in_currency: None, within_rules: Err(broken) },
    }
}

/// The currency, and whether the scheme moves it.
fn currency(
    amount: &Object,
    scheme: &Scheme,
    findings: &mut Findings,
) -> Result<(Currency, Result<(), Broken>), Broken> {
    const PATH: &str = "/amount/currency";
    let code = match text(amount, "currency") {
        Ok(None) => return Err(findings.add(Code::CH21, PATH, "required")),
        Ok(Some(code)) => Currency::parse(code),
        Err(_) => None,
    };
    let rule = "must be an active ISO 4217 code with a minor unit";
    let currency = code.ok_or_else(|| findings.add(Code::AM11, PATH, rule))?;
    let allowed = if scheme.moves(currency) {
        Ok(())
    } else {
        Err(findings.add(Code::AM03, PATH, "not a currency of the scheme"))
    };
    Ok((currency, allowed))
}

fn decimal(amount: &Object, findings: &mut Findings) -> Result<Decimal, Broken> {
    const PATH: &str = "/amount/value";
    let value = match text(amount, "value") {
        Ok(None) => return Err(findings.add(Code::CH21, PATH, "required")),
        Ok(Some(value)) => Decimal::parse(value),
        Err(_) => None,
    };
    let rule = "must be a decimal string of at most 18 digits, without sign, space or exponent";
    let value = value.ok_or_else(|| findings.add(Code::AM12, PATH, rule))?;
    if value.is_zero() {
        return Err(findings.add(Code::AM01, PATH, "must not be zero"));
    }
    Ok(value)
}

fn bounded(
    value: Decimal,
    money: Option<Money>,
    currency: Currency,
    scheme: &Scheme,
    findings: &mut Findings,
) -> Result<Money, Broken> {
    const PATH: &str = "/amount/value";
    if value.scale() > currency.exponent() {
        return Err(findings.add(Code::CH20, PATH, "more decimals than the currency has"));
    }
    if scheme.maximum.of(currency).is_some_and(|most| value.exceeds(most)) {
        return Err(findings.add(Code::AM13, PATH, "above the scheme's maximum"));
    }
    // 18 digits before the point leave no room for the minor units of most currencies.
    money.ok_or_else(|| findings.add(Code::AM13, PATH, "above what can be held in minor units"))
}
