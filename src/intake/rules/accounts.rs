//! Accounts and agents of both sides.

use super::Object;
use super::findings::{Broken, Findings, Side, has_length, object, text};
use crate::domain::{Account, Agent, Bic, Code, Iban, IbanFault, OtherAccount};

/// Both accounts.
pub(super) fn read(body: &Object, iban_required: bool, findings: &mut Findings) -> [Result<Account, Broken>; 2] {
    Side::BOTH.map(|side| account(body, side, iban_required, findings))
}

fn account(body: &Object, side: Side, iban_required: bool, findings: &mut Findings) -> Result<Account, Broken> {
    let key = side.pick("debtor_account", "creditor_account");
    let code = side.pick(Code::AC02, Code::AC03);
    let mut broken = |inside: &str, rule| Err(findings.add(code, format!("/{key}{inside}"), rule));
    let account = match object(body, key) {
        Ok(None) => return Err(findings.add(Code::CH21, format!("/{key}"), "required")),
        Ok(Some(account)) => account,
        Err(_) => return broken("", "must be an object"),
    };
    match (text(account, "iban"), object(account, "other")) {
        (Ok(None), Ok(Some(_))) if iban_required => broken("", "the scheme needs an IBAN"),
        (Ok(None), Ok(Some(other))) => {
            let Ok(Some(id)) = text(other, "id").map(|id| id.filter(|id| has_length(id, 34))) else {
                return broken("/other/id", "must be 1 to 34 characters");
            };
            match text(other, "scheme").map(|scheme| OtherAccount::parse(id, scheme)) {
                Ok(Ok(other)) => Ok(Account::Other(other)),
                Ok(Err(_)) | Err(_) => broken("/other/scheme", "must be 1 to 35 characters"),
            }
        }
        (Ok(Some(iban)), Ok(None)) => match Iban::check(iban) {
            Ok(iban) => Ok(Account::Iban(iban)),
            Err(fault) => broken("/iban", iban_text(fault)),
        },
        (Err(_), Ok(None)) => broken("/iban", "must be a text"),
        (Ok(None), Err(_)) => broken("/other", "must be an object"),
        (Ok(None), Ok(None)) | (Ok(Some(_)) | Err(_), Ok(Some(_)) | Err(_)) => {
            broken("", "must hold exactly one of iban and other")
        }
    }
}

/// What is wrong with an IBAN, without the IBAN.
fn iban_text(fault: IbanFault) -> &'static str {
    match fault {
        IbanFault::Characters => "must be 5 to 34 upper-case letters and digits without spaces",
        IbanFault::Country => "its country has no IBANs",
        IbanFault::Length => "not as long as its country has it",
        IbanFault::Structure => "not built as its country has it",
        IbanFault::CheckDigits => "check digits do not match",
    }
}

/// Both agents.
pub(super) fn read_agents(body: &Object, required: bool, findings: &mut Findings) -> [Option<Agent>; 2] {
    Side::BOTH.map(|side| agent(body, side, required, findings))
}

fn agent(body: &Object, side: Side, required: bool, findings: &mut Findings) -> Option<Agent> {
    let key = side.pick("debtor_agent", "creditor_agent");
    let mut broken = |code, inside: &str, rule| {
        findings.add(code, format!("/{key}{inside}"), rule);
        None
    };
    let agent = match object(body, key) {
        Ok(None) if required => return broken(Code::CH21, "", "required by the scheme"),
        Ok(agent) => agent?,
        Err(_) => return broken(Code::RC01, "", "must be an object"),
    };
    match (text(agent, "bic"), object(agent, "clearing")) {
        (Ok(Some(bic)), Ok(None)) => match Bic::parse(bic) {
            Ok(bic) => Some(Agent::Bic(bic)),
            Err(_) => broken(Code::RC01, "/bic", "not a BIC of 8 or 11 characters with an existing country"),
        },
        (Ok(None), Ok(Some(clearing))) => {
            let Ok(Some(system)) = text(clearing, "system").map(|system| system.filter(|s| has_length(s, 5))) else {
                return broken(Code::RC01, "/clearing/system", "must be 1 to 5 characters");
            };
            let member = text(clearing, "member").ok().flatten().unwrap_or_default();
            match Agent::clearing(system, member) {
                Ok(agent) => Some(agent),
                Err(_) => broken(Code::RC01, "/clearing/member", "must be 1 to 35 characters"),
            }
        }
        (Err(_), Ok(None)) => broken(Code::RC01, "/bic", "must be a text"),
        (Ok(None), Err(_)) => broken(Code::RC01, "/clearing", "must be an object"),
        (Ok(None), Ok(None)) | (Ok(Some(_)) | Err(_), Ok(Some(_)) | Err(_)) => {
            broken(Code::RC01, "", "must hold exactly one of bic and clearing")
        }
    }
}
