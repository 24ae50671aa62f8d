//! `remittance`.

use super::Object;
use super::findings::{Findings, has_length, is_swift_x, object, text};
use crate::domain::{Code, CreditorReference, Remittance};

pub(super) fn read(body: &Object, findings: &mut Findings) -> Option<Remittance> {
    let mut broken = |code, path: &str, rule| {
        findings.add(code, path, rule);
        None
    };
    let remittance = match object(body, "remittance") {
        Ok(remittance) => remittance?,
        Err(_) => return broken(Code::RR07, "/remittance", "must be an object"),
    };
    match (text(remittance, "unstructured"), object(remittance, "structured")) {
        (Ok(Some(words)), Ok(None)) if has_length(words, 140) => Some(Remittance::Unstructured(words.into())),
        (Ok(Some(_)) | Err(_), Ok(None)) => {
            broken(Code::RR07, "/remittance/unstructured", "must be 1 to 140 characters")
        }
        (Ok(None), Ok(Some(structured))) => {
            let reference = text(structured, "reference").ok().flatten().unwrap_or_default();
            match CreditorReference::parse(reference) {
                Ok(reference) => Some(Remittance::Structured(reference)),
                Err(_) => {
                    let rule = "not an RF reference whose check digits match";
                    broken(Code::RR09, "/remittance/structured/reference", rule)
                }
            }
        }
        (Ok(None), Err(_)) => broken(Code::RR07, "/remittance/structured", "must be an object"),
        (Ok(None), Ok(None)) | (Ok(Some(_)) | Err(_), Ok(Some(_)) | Err(_)) => {
            broken(Code::RR07, "/remittance", "must hold exactly one of unstructured and structured")
        }
    }
}

/// Holds the words to the SWIFT X set; a reference has letters and digits only.
pub(super) fn check_characters(remittance: Option<&Remittance>, findings: &mut Findings) {
    match remittance {
        Some(Remittance::Unstructured(words)) if !is_swift_x(words) => {
            findings.add(Code::RR10, "/remittance/unstructured", "a character outside the SWIFT X set");
        }
        Some(Remittance::Unstructured(_) | Remittance::Structured(_)) | None => {}
    }
}
