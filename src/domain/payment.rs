//! A payment that has passed every rule. Only `intake` builds one.

use std::fmt;

use jiff::Timestamp;

use super::{Account, Agent, CreditorReference, Lei, Money, PaymentId, SchemeName};

/// The references a publisher gave; each is present only where it was well formed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// `end_to_end_id`.
    pub end_to_end_id: Option<Box<str>>,
    /// `instruction_id`.
    pub instruction_id: Option<Box<str>>,
    /// `uetr`.
    pub uetr: Option<Box<str>>,
}

/// Who bears the charges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeBearer {
    /// The debtor.
    Debt,
    /// The creditor.
    Cred,
    /// Shared.
    Shar,
    /// As the service level says.
    Slev,
}

/// A postal address; every part optional.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PostalAddress {
    /// Street, at most 70 characters.
    pub street: Option<Box<str>>,
    /// Building number, at most 16.
    pub building: Option<Box<str>>,
    /// Post code, at most 16.
    pub post_code: Option<Box<str>>,
    /// Town, at most 35.
    pub town: Option<Box<str>>,
    /// ISO 3166 alpha-2.
    pub country: Option<Box<str>>,
}

/// Debtor or creditor.
#[derive(Clone, PartialEq, Eq)]
pub struct Party {
    /// 1 to 140 characters.
    pub name: Option<Box<str>>,
    /// Legal entity identifier.
    pub lei: Option<Lei>,
    /// Address.
    pub address: Option<PostalAddress>,
}

/// What the payment is for.
#[derive(Clone, PartialEq, Eq)]
pub enum Remittance {
    /// 1 to 140 characters.
    Unstructured(Box<str>),
    /// An ISO 11649 reference.
    Structured(CreditorReference),
}

// Personal data: the derived form would print it.
macro_rules! redacted {
    ($($name:ident),*) => { $(impl fmt::Debug for $name {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(concat!(stringify!($name), "(..)")) }
    })* };
}
redacted!(PostalAddress, Party, Remittance);

/// A payment that has passed every rule of its scheme.
#[derive(Clone)]
pub struct Payment {
    /// Its identity.
    pub payment_id: PaymentId,
    /// Its scheme.
    pub scheme: SchemeName,
    /// Its references.
    pub references: References,
    /// What is to move.
    pub amount: Money,
    /// Who pays.
    pub debtor: Option<Party>,
    /// Who is paid.
    pub creditor: Option<Party>,
    /// From.
    pub debtor_account: Account,
    /// To.
    pub creditor_account: Account,
    /// The debtor's agent.
    pub debtor_agent: Option<Agent>,
    /// The creditor's agent.
    pub creditor_agent: Option<Agent>,
    /// Who bears the charges.
    pub charge_bearer: Option<ChargeBearer>,
    /// `requested_execution_date` as sent, `YYYY-MM-DD`.
    pub execution_date: Option<jiff::civil::Date>,
    /// The first instant after the requested date in the scheme's zone: settled from here on is `late`.
    pub late_from: Option<Timestamp>,
    /// Not to be submitted at or after this instant.
    pub expires_at: Option<Timestamp>,
    /// ISO 20022 category purpose.
    pub category_purpose: Option<Box<str>>,
    /// ISO 20022 purpose.
    pub purpose: Option<Box<str>>,
    /// What it is for.
    pub remittance: Option<Remittance>,
}

impl fmt::Debug for Payment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payment({} {}, ..)", self.scheme, self.payment_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Currency, Iban, OtherAccount};

    #[test]
    fn debug_shows_identity_and_nothing_of_the_content() {
        let party = Party {
            name: Some("Secret Name".into()),
            lei: None,
            address: Some(PostalAddress { town: Some("Secret Town".into()), ..PostalAddress::default() }),
        };
        let payment = Payment {
            payment_id: PaymentId::parse("PAY-1").expect("valid"),
            scheme: SchemeName::parse("book").expect("valid"),
            references: References::default(),
            amount: Money::new(123_456, Currency::parse("EUR").expect("valid")).expect("positive"),
            debtor: Some(party.clone()),
            creditor: Some(party.clone()),
            debtor_account: Account::Iban(Iban::parse("DE89370400440532013000").expect("valid")),
            creditor_account: Account::Other(OtherAccount::parse("SecretAccount", None).expect("valid")),
            debtor_agent: None,
            creditor_agent: None,
            charge_bearer: None,
            execution_date: None,
            late_from: None,
            expires_at: None,
            category_purpose: None,
            purpose: None,
            remittance: Some(Remittance::Unstructured("Secret reason".into())),
        };
        let text = format!("{payment:?} {party:?} {:?} {:?}", party.address, payment.remittance);
        assert!(text.starts_with("Payment(book PAY-1, ..)"), "{text}");
        for planted in ["Secret", "1234", "8937"] {
            assert!(!text.contains(planted), "{text}");
        }
    }
}
