//! What a request template may name: the fields of a payment under the names of contract v1, and the rail key.
//!
//! Nothing here changes from one sending to the next: a rail that compares bodies under a key must see the same bytes
//! each time, so there is no attempt number, no clock and no lane among them.

use std::borrow::Cow;

use crate::domain::{Account, Agent, ChargeBearer, Party, Payment, PostalAddress, RailKey, Remittance};

/// Where the values come from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) payment: &'a Payment,
    pub(super) key: &'a RailKey,
}

/// How a field may be written in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// A whole number; as a string where the template says so.
    Whole,
}

/// One field.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// May be absent: the template has to say that this is known, with `?`.
    pub(super) optional: bool,
    pub(super) of: for<'a> fn(Source<'a>) -> Option<Cow<'a, str>>,
}

type Value<'a> = Option<Cow<'a, str>>;

const fn given(name: &'static str, of: for<'a> fn(Source<'a>) -> Value<'a>) -> Field {
    Field { name, kind: Kind::Text, optional: false, of }
}

const fn whole(name: &'static str, of: for<'a> fn(Source<'a>) -> Value<'a>) -> Field {
    Field { name, kind: Kind::Whole, optional: false, of }
}

const fn maybe(name: &'static str, of: for<'a> fn(Source<'a>) -> Value<'a>) -> Field {
    Field { name, kind: Kind::Text, optional: true, of }
}

/// Every field, in the order in which the documentation lists them.
pub(super) const FIELDS: [Field; 45] = [
    given("key", |s| Some(s.key.as_str().into())),
    given("payment_id", |s| Some(s.payment.payment_id.as_str().into())),
    given("scheme", |s| Some(s.payment.scheme.as_str().into())),
    given("amount.value", |s| Some(s.payment.amount.value().into())),
    whole("amount.minor", |s| Some(s.payment.amount.minor().to_string().into())),
    given("amount.currency", |s| Some(s.payment.amount.currency().code().into())),
    given("debtor_account", |s| Some(number(&s.payment.debtor_account))),
    given("creditor_account", |s| Some(number(&s.payment.creditor_account))),
    maybe("debtor_account.iban", |s| iban(&s.payment.debtor_account)),
    maybe("debtor_account.other.id", |s| other_id(&s.payment.debtor_account)),
    maybe("debtor_account.other.scheme", |s| other_scheme(&s.payment.debtor_account)),
    maybe("creditor_account.iban", |s| iban(&s.payment.creditor_account)),
    maybe("creditor_account.other.id", |s| other_id(&s.payment.creditor_account)),
    maybe("creditor_account.other.scheme", |s| other_scheme(&s.payment.creditor_account)),
    maybe("debtor.name", |s| name(s.payment.debtor.as_ref())),
    maybe("debtor.lei", |s| lei(s.payment.debtor.as_ref())),
    maybe("debtor.address.street", |s| address(s.payment.debtor.as_ref(), |a| &a.street)),
    maybe("debtor.address.building", |s| address(s.payment.debtor.as_ref(), |a| &a.building)),
    maybe("debtor.address.post_code", |s| address(s.payment.debtor.as_ref(), |a| &a.post_code)),
    maybe("debtor.address.town", |s| address(s.payment.debtor.as_ref(), |a| &a.town)),
    maybe("debtor.address.country", |s| address(s.payment.debtor.as_ref(), |a| &a.country)),
    maybe("creditor.name", |s| name(s.payment.creditor.as_ref())),
    maybe("creditor.lei", |s| lei(s.payment.creditor.as_ref())),
    maybe("creditor.address.street", |s| address(s.payment.creditor.as_ref(), |a| &a.street)),
    maybe("creditor.address.building", |s| address(s.payment.creditor.as_ref(), |a| &a.building)),
    maybe("creditor.address.post_code", |s| address(s.payment.creditor.as_ref(), |a| &a.post_code)),
    maybe("creditor.address.town", |s| address(s.payment.creditor.as_ref(), |a| &a.town)),
    maybe("creditor.address.country", |s| address(s.payment.creditor.as_ref(), |a| &a.country)),
    maybe("debtor_agent.bic", |s| bic(s.payment.debtor_agent.as_ref())),
    maybe("debtor_agent.clearing.system", |s| clearing(s.payment.debtor_agent.as_ref()).map(|(system, _)| system)),
    maybe("debtor_agent.clearing.member", |s| clearing(s.payment.debtor_agent.as_ref()).map(|(_, member)| member)),
    maybe("creditor_agent.bic", |s| bic(s.payment.creditor_agent.as_ref())),
    maybe("creditor_agent.clearing.system", |s| clearing(s.payment.creditor_agent.as_ref()).map(|(system, _)| system)),
    maybe("creditor_agent.clearing.member", |s| clearing(s.payment.creditor_agent.as_ref()).map(|(_, member)| member)),
    maybe("end_to_end_id", |s| s.payment.references.end_to_end_id.as_deref().map(Cow::from)),
    maybe("instruction_id", |s| s.payment.references.instruction_id.as_deref().map(Cow::from)),
    maybe("uetr", |s| s.payment.references.uetr.as_deref().map(Cow::from)),
    maybe("charge_bearer", |s| s.payment.charge_bearer.map(|bearer| bearer_code(bearer).into())),
    maybe("requested_execution_date", |s| s.payment.execution_date.map(|date| date.to_string().into())),
    maybe("expires_at", |s| s.payment.expires_at.map(|at| at.to_string().into())),
    maybe("category_purpose", |s| s.payment.category_purpose.as_deref().map(Cow::from)),
    maybe("purpose", |s| s.payment.purpose.as_deref().map(Cow::from)),
    maybe("remittance.unstructured", |s| remittance(s.payment, false)),
    maybe("remittance.structured.reference", |s| remittance(s.payment, true)),
    maybe("remittance", |s| remittance(s.payment, false).or_else(|| remittance(s.payment, true))),
];

fn number(account: &Account) -> Cow<'_, str> {
    match account {
        Account::Iban(iban) => iban.as_str().into(),
        Account::Other(other) => other.id().into(),
    }
}

fn iban(account: &Account) -> Value<'_> {
    match account {
        Account::Iban(iban) => Some(iban.as_str().into()),
        Account::Other(_) => None,
    }
}

fn other_id(account: &Account) -> Value<'_> {
    match account {
        Account::Iban(_) => None,
        Account::Other(other) => Some(other.id().into()),
    }
}

fn other_scheme(account: &Account) -> Value<'_> {
    match account {
        Account::Iban(_) => None,
        Account::Other(other) => other.scheme().map(Cow::from),
    }
}

fn name(party: Option<&Party>) -> Value<'_> {
    party?.name.as_deref().map(Cow::from)
}

fn lei(party: Option<&Party>) -> Value<'_> {
    party?.lei.as_ref().map(|lei| lei.as_str().into())
}

fn address(party: Option<&Party>, part: fn(&PostalAddress) -> &Option<Box<str>>) -> Value<'_> {
    part(party?.address.as_ref()?).as_deref().map(Cow::from)
}

fn bic(agent: Option<&Agent>) -> Value<'_> {
    match agent? {
        Agent::Bic(bic) => Some(bic.as_str().into()),
        Agent::Clearing { .. } => None,
    }
}

fn clearing(agent: Option<&Agent>) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    match agent? {
        Agent::Bic(_) => None,
        Agent::Clearing { system, member } => Some((system.as_ref().into(), member.as_ref().into())),
    }
}

fn bearer_code(bearer: ChargeBearer) -> &'static str {
    match bearer {
        ChargeBearer::Debt => "DEBT",
        ChargeBearer::Cred => "CRED",
        ChargeBearer::Shar => "SHAR",
        ChargeBearer::Slev => "SLEV",
    }
}

fn remittance(payment: &Payment, structured: bool) -> Value<'_> {
    match payment.remittance.as_ref()? {
        Remittance::Unstructured(text) => (!structured).then(|| text.as_ref().into()),
        Remittance::Structured(reference) => structured.then(|| reference.as_str().into()),
    }
}
