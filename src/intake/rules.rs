//! The table of contract v1, in its order. Judging is pure: the same event at the same instants gives the same answer.

mod accounts;
mod amount;
mod dates;
mod findings;
mod form;
mod parties;
mod references;
mod remittance;

use serde_json::{Map, Value};

use self::findings::Findings;
use super::{Allowance, Decoded, Instants, Judged, Refused, Scheme, Valid};
use crate::domain::{ChargeBearer, Code, Currency, Money, Payment, SchemeName};

/// A JSON object of the body.
type Object = Map<String, Value>;

/// How a lane judges: its schemes, how far ahead it takes execution dates, and what a debtor may spend a day.
#[derive(Debug, Clone)]
pub struct Rules {
    schemes: Vec<Scheme>,
    horizon_days: u16,
    debtor_daily: Vec<Money>,
}

impl Rules {
    /// The rules of a lane that serves `schemes` and takes no execution date after the event's own.
    #[must_use]
    pub fn new(schemes: Vec<Scheme>) -> Self {
        Self { schemes, horizon_days: 0, debtor_daily: Vec::new() }
    }

    /// Takes execution dates up to `days` after the event's own.
    #[must_use]
    pub fn with_horizon(self, days: u16) -> Self {
        Self { horizon_days: days, ..self }
    }

    /// Lets a debtor account spend at most this a day; a currency that is not named has no limit.
    #[must_use]
    pub fn with_debtor_daily_limits(self, limits: Vec<Money>) -> Self {
        Self { debtor_daily: limits, ..self }
    }

    /// What a debtor account may spend a day, by currency.
    #[must_use]
    pub fn debtor_daily_limits(&self) -> &[Money] {
        &self.debtor_daily
    }

    /// Days are the scheme's, and the event's own: one that waited over midnight counts where it was asked for.
    fn allowance(&self, currency: Currency, scheme: &Scheme, at: Instants) -> Option<Allowance> {
        let limit = self.debtor_daily.iter().find(|limit| limit.currency() == currency)?;
        Some(Allowance { day: scheme.zone.to_datetime(at.requested_at).date(), most: limit.minor() })
    }

    /// The lane's schemes.
    #[must_use]
    pub fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    /// Judges an event that came on a subject of `subject_scheme`.
    ///
    /// Where the lane does not know that scheme, the event is refused (FF05) and the rest of it is judged by the rules
    /// that bind every scheme.
    #[must_use]
    pub fn judge(&self, decoded: Decoded, subject_scheme: &SchemeName, at: Instants) -> Judged {
        let body = &decoded.content;
        let mut findings = Findings::default();
        let known = self.schemes.iter().find(|scheme| scheme.name == *subject_scheme);
        check_scheme(body, subject_scheme, known.is_some(), &mut findings);
        let unknown;
        let scheme = match known {
            Some(scheme) => scheme,
            None => {
                unknown = Scheme::open(subject_scheme.clone());
                &unknown
            }
        };

        let references = references::read(body, scheme.requires.uetr, &mut findings);
        let amount = amount::read(body, scheme, &mut findings);
        let [debtor, creditor] = parties::read(body, scheme.requires.names, &mut findings);
        let [debtor_account, creditor_account] = accounts::read(body, scheme.requires.ibans, &mut findings);
        let [debtor_agent, creditor_agent] = accounts::read_agents(body, scheme.requires.agents, &mut findings);
        let charge_bearer = charge_bearer(body, scheme, &mut findings);
        let dates = dates::read(body, &scheme.zone, self.horizon_days, at, &mut findings);
        let category_purpose = purpose(body, "category_purpose", Code::FF06, &mut findings);
        let purpose = purpose(body, "purpose", Code::FF07, &mut findings);
        let remittance = remittance::read(body, &mut findings);
        if scheme.requires.swift_characters {
            parties::check_characters([debtor.as_ref(), creditor.as_ref()], &mut findings);
            remittance::check_characters(remittance.as_ref(), &mut findings);
        }
        form::check(&decoded, &mut findings);

        let readable = amount.in_currency;
        match (findings.none(), amount.within_rules, debtor_account, creditor_account) {
            (Ok(()), Ok(amount), Ok(debtor_account), Ok(creditor_account)) => Judged::Valid(Valid {
                fingerprint: decoded.fingerprint,
                allowance: self.allowance(amount.currency(), scheme, at),
                payment: Box::new(Payment {
                    payment_id: decoded.payment_id,
                    scheme: subject_scheme.clone(),
                    references,
                    amount,
                    debtor,
                    creditor,
                    debtor_account,
                    creditor_account,
                    debtor_agent,
                    creditor_agent,
                    charge_bearer,
                    execution_date: dates.execution,
                    late_from: dates.late_from,
                    expires_at: dates.expires_at,
                    category_purpose,
                    purpose,
                    remittance,
                }),
            }),
            (_, _, _, _) => Judged::Refused(Refused {
                payment_id: decoded.payment_id,
                fingerprint: decoded.fingerprint,
                reasons: findings.into_reasons(),
                references,
                amount: readable,
            }),
        }
    }
}

fn check_scheme(body: &Object, subject: &SchemeName, known: bool, findings: &mut Findings) {
    let said = findings::text(body, "scheme");
    if !matches!(said, Ok(None)) && said != Ok(Some(subject.as_str())) {
        findings.add(Code::FF05, "/scheme", "must equal the scheme of the subject");
    } else if !known {
        findings.add(Code::FF05, "/scheme", "the subject's scheme is none of this lane's");
    }
}

fn charge_bearer(body: &Object, scheme: &Scheme, findings: &mut Findings) -> Option<ChargeBearer> {
    let bearer = match findings::text(body, "charge_bearer") {
        Ok(None) => return None,
        Ok(Some("DEBT")) => Some(ChargeBearer::Debt),
        Ok(Some("CRED")) => Some(ChargeBearer::Cred),
        Ok(Some("SHAR")) => Some(ChargeBearer::Shar),
        Ok(Some("SLEV")) => Some(ChargeBearer::Slev),
        Ok(Some(_)) | Err(_) => None,
    };
    match bearer {
        None => {
            findings.add(Code::BE19, "/charge_bearer", "must be DEBT, CRED, SHAR or SLEV");
            None
        }
        Some(bearer) if !scheme.charge_bearers.contains(&bearer) => {
            findings.add(Code::BE19, "/charge_bearer", "not a charge bearer of the scheme");
            None
        }
        Some(bearer) => Some(bearer),
    }
}

fn purpose(body: &Object, key: &'static str, code: Code, findings: &mut Findings) -> Option<Box<str>> {
    match findings::text(body, key) {
        Ok(None) => None,
        Ok(Some(text))
            if (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) =>
        {
            Some(text.into())
        }
        Ok(Some(_)) | Err(_) => {
            findings.add(code, format!("/{key}"), "must be 1 to 4 upper-case letters or digits");
            None
        }
    }
}

#[cfg(test)]
mod tests;
