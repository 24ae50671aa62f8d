//! `debtor` and `creditor`: names, identification, addresses.

use super::Object;
use super::findings::{Findings, Side, has_length, is_longer, is_swift_x, object, text};
use crate::domain::{Code, Lei, Party, PostalAddress, is_country};

/// Both parties, each with what was well formed. The table goes by rule, not by party: so do these passes.
pub(super) fn read(body: &Object, names_required: bool, findings: &mut Findings) -> [Option<Party>; 2] {
    let drafts = Side::BOTH.map(|side| Draft::open(body, side, names_required, findings));
    let leis = drafts.each_ref().map(|draft| draft.lei(findings));
    let countries = drafts.each_ref().map(|draft| draft.country(findings));
    let addresses = drafts.each_ref().map(|draft| draft.address(findings));
    let mut rest = leis.into_iter().zip(countries).zip(addresses);
    drafts.map(|draft| {
        let ((lei, country), address) = rest.next()?;
        draft.object?;
        let address = address.map(|address| PostalAddress { country, ..address });
        Some(Party { name: draft.name.map(Into::into), lei, address })
    })
}

/// A party with its name read.
struct Draft<'a> {
    side: Side,
    object: Option<&'a Object>,
    name: Option<&'a str>,
}

impl<'a> Draft<'a> {
    fn open(body: &'a Object, side: Side, name_required: bool, findings: &mut Findings) -> Self {
        let party = side.pick("debtor", "creditor");
        let found = object(body, party);
        let object = found.unwrap_or_default();
        let name = match found {
            Ok(_) => Self::name(object, side, name_required, findings),
            Err(_) => {
                findings.add(Code::CH16, format!("/{party}"), "must be an object");
                None
            }
        };
        Self { side, object, name }
    }

    fn name(object: Option<&'a Object>, side: Side, required: bool, findings: &mut Findings) -> Option<&'a str> {
        let path = side.pick("/debtor/name", "/creditor/name");
        let missing = side.pick(Code::BE08, Code::BE22);
        match object.map_or(Ok(None), |object| text(object, "name")) {
            Ok(None) => {
                if required {
                    findings.add(missing, path, "required by the scheme");
                }
                None
            }
            Ok(Some("")) => {
                findings.add(missing, path, "must not be empty");
                None
            }
            Ok(Some(name)) if is_longer(name, 140) => {
                findings.add(Code::BE20, path, "longer than 140 characters");
                None
            }
            Ok(Some(name)) => Some(name),
            Err(_) => {
                findings.add(Code::CH16, path, "must be a text");
                None
            }
        }
    }

    fn lei(&self, findings: &mut Findings) -> Option<Lei> {
        let lei = match text(self.object?, "lei") {
            Ok(None) => return None,
            Ok(Some(lei)) => Lei::parse(lei).ok(),
            Err(_) => None,
        };
        if lei.is_none() {
            let path = self.side.pick("/debtor/lei", "/creditor/lei");
            findings.add(self.side.pick(Code::BE16, Code::BE17), path, "not an LEI whose check digits match");
        }
        lei
    }

    fn country(&self, findings: &mut Findings) -> Option<Box<str>> {
        let address = object(self.object?, "address").ok()??;
        match text(address, "country") {
            Ok(None) => None,
            Ok(Some(country)) if is_country(country) => Some(country.into()),
            Ok(Some(_)) | Err(_) => {
                let path = self.side.pick("/debtor/address/country", "/creditor/address/country");
                findings.add(self.side.pick(Code::BE10, Code::BE11), path, "not an ISO 3166 alpha-2 code");
                None
            }
        }
    }

    /// The address without its country.
    fn address(&self, findings: &mut Findings) -> Option<PostalAddress> {
        let code = self.side.pick(Code::BE07, Code::BE04);
        let address = match object(self.object?, "address") {
            Ok(address) => address?,
            Err(_) => {
                let path = self.side.pick("/debtor/address", "/creditor/address");
                findings.add(code, path, "must be an object");
                return None;
            }
        };
        let mut part = |key: &'static str, most, rule| match text(address, key) {
            Ok(None) => None,
            Ok(Some(part)) if has_length(part, most) => Some(part.into()),
            Ok(Some(_)) | Err(_) => {
                findings.add(code, format!("/{}/address/{key}", self.side.pick("debtor", "creditor")), rule);
                None
            }
        };
        Some(PostalAddress {
            street: part("street", 70, "must be 1 to 70 characters"),
            building: part("building", 16, "must be 1 to 16 characters"),
            post_code: part("post_code", 16, "must be 1 to 16 characters"),
            town: part("town", 35, "must be 1 to 35 characters"),
            country: None,
        })
    }
}

/// Holds names and addresses to the SWIFT X set. What is not well formed has its finding already.
pub(super) fn check_characters(parties: [Option<&Party>; 2], findings: &mut Findings) {
    for (party, side) in parties.into_iter().zip(["debtor", "creditor"]) {
        let Some(party) = party else { continue };
        let mut check = |part: Option<&str>, path: &str| {
            if part.is_some_and(|part| !is_swift_x(part)) {
                findings.add(Code::RR10, format!("/{side}/{path}"), "a character outside the SWIFT X set");
            }
        };
        check(party.name.as_deref(), "name");
        let Some(address) = &party.address else { continue };
        check(address.street.as_deref(), "address/street");
        check(address.building.as_deref(), "address/building");
        check(address.post_code.as_deref(), "address/post_code");
        check(address.town.as_deref(), "address/town");
    }
}
