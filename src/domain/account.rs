//! Accounts, agents and identifiers with check digits. Private fields, one checked constructor each.

use std::fmt;

use super::Invalid;
use super::country::is_country_of_registry;

/// An IBAN (ISO 13616): upper case, no spaces; country, length and check digits hold.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Iban(Box<str>);

/// The first rule that a text breaks on its way to an IBAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IbanFault {
    /// Other than 5 to 34 upper-case letters and digits.
    Characters,
    /// No country, or one without IBANs.
    Country,
    /// Another length than its country's.
    Length,
    /// Letters where its country has digits, or the other way round.
    Structure,
    /// The check digits do not match.
    CheckDigits,
}

/// A BIC (ISO 9362) of 8 or 11 characters with a real country.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Bic(Box<str>);

/// A legal entity identifier (ISO 17442) with valid check digits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Lei(Box<str>);

/// A creditor reference (ISO 11649, `RF`) with valid check digits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CreditorReference(Box<str>);

/// An account known by something else than an IBAN.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OtherAccount {
    id: Box<str>,
    scheme: Option<Box<str>>,
}

/// From or to where money moves.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Account {
    /// Known by its IBAN.
    Iban(Iban),
    /// Known by a number of another kind.
    Other(OtherAccount),
}

/// A financial institution.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Agent {
    /// Known by its BIC.
    Bic(Bic),
    /// Known as a member of a clearing system.
    Clearing {
        /// The clearing system's code, 1 to 5 characters.
        system: Box<str>,
        /// The member's id, 1 to 35 characters.
        member: Box<str>,
    },
}

/// The remainder of `text` by 97 as ISO 7064 MOD 97-10 takes it (A = 10 ... Z = 35); `None` where it holds anything but
/// upper-case letters and digits. IBAN, LEI and RF rest on it: each must leave 1.
fn mod_97(text: impl Iterator<Item = u8>) -> Option<u32> {
    let mut rest: u32 = 0;
    for byte in text {
        rest = match byte {
            b'0'..=b'9' => rest * 10 + u32::from(byte - b'0'),
            b'A'..=b'Z' => rest * 100 + u32::from(byte - b'A') + 10,
            _ => return None,
        } % 97;
    }
    Some(rest)
}

/// The remainder of `text` with its first four characters moved behind the rest, as IBAN and RF are checked.
fn mod_97_rotated(text: &str) -> Option<u32> {
    let (head, tail) = text.as_bytes().split_at_checked(4)?;
    mod_97(tail.iter().chain(head).copied())
}

/// The check digits (02 to 98) that make `text`, followed by them, leave 1; `None` as with [`mod_97`].
fn check_digits(text: impl Iterator<Item = u8>) -> Option<u32> {
    mod_97(text.chain(*b"00")).map(|rest| 98_u32.saturating_sub(rest))
}

/// Whether the two check digits at `text[2..4]` are ones that the computation can give: 00, 01 and 99 are aliases of
/// 97, 98 and 02.
fn check_digits_possible(text: &str) -> bool {
    matches!(text.get(2..4), Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) && !["00", "01", "99"].contains(&digits))
}

fn is_upper_alphanumeric(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

/// Takes a text of 1 to `most` characters.
fn bounded(text: &str, most: usize, what: &'static str, rule: &'static str) -> Result<Box<str>, Invalid> {
    if !text.is_empty() && text.chars().take(most.saturating_add(1)).count() <= most {
        Ok(text.into())
    } else {
        Err(Invalid { what, rule })
    }
}

// === impl Iban ===

impl Iban {
    /// Takes an IBAN in its electronic form: upper case, no spaces.
    ///
    /// # Errors
    /// The first rule that is broken, in the words of [`IbanFault::rule`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::check(text).map_err(|fault| Invalid { what: "IBAN", rule: fault.rule() })
    }

    /// The same as [`Iban::parse`], with the broken rule as a value.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(text: &str) -> Result<Self, IbanFault> {
        use iban_validation_rs::{ValidationError as E, validate_iban_str};
        // The registry crate has its own view of characters; ours comes first, so that it only sees ASCII.
        if !(5..=34).contains(&text.len()) || !is_upper_alphanumeric(text) {
            return Err(IbanFault::Characters);
        }
        if !text.get(..2).is_some_and(is_country_of_registry) {
            return Err(IbanFault::Country);
        }
        match validate_iban_str(text) {
            Ok(true) if check_digits_possible(text) && mod_97_rotated(text) == Some(1) => Ok(Self(text.into())),
            Ok(_) | Err(E::ModuloIncorrect | E::InvalidChecksum) => Err(IbanFault::CheckDigits),
            Err(E::MissingCountry | E::InvalidCountry) => Err(IbanFault::Country),
            Err(E::TooShort(_) | E::InvalidSizeForCountry) => Err(IbanFault::Length),
            Err(E::StructureIncorrectForCountry) => Err(IbanFault::Structure),
        }
    }

    /// Puts the check digits between a country code and a domestic account number.
    ///
    /// # Errors
    /// The first rule that the result breaks.
    pub fn with_check_digits(country: &str, number: &str) -> Result<Self, Invalid> {
        let digits = check_digits(number.bytes().chain(country.bytes())).unwrap_or_default();
        Self::parse(&format!("{country}{digits:02}{number}"))
    }

    /// The electronic form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl IbanFault {
    /// The broken rule, as it follows "must be".
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::Characters => "5 to 34 upper-case letters and digits without spaces",
            Self::Country => "of a country that has IBANs",
            Self::Length => "as long as its country has it",
            Self::Structure => "built as its country has it",
            Self::CheckDigits => "one whose check digits match",
        }
    }
}

// === impl Bic ===

impl Bic {
    /// Takes a BIC of 8 or 11 characters, upper case.
    ///
    /// # Errors
    /// When the form is not that of ISO 9362 or its country does not exist.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if !matches!(text.len(), 8 | 11) || !is_upper_alphanumeric(text) {
            return Err(Invalid { what: "BIC", rule: "8 or 11 upper-case letters and digits" });
        }
        if !text.get(4..6).is_some_and(is_country_of_registry) {
            return Err(Invalid { what: "BIC", rule: "of an existing country" });
        }
        Ok(Self(text.into()))
    }

    /// As given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl Lei ===

impl Lei {
    /// Takes an LEI, upper case.
    ///
    /// # Errors
    /// When it is not 18 letters and digits and 2 check digits that match.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let check = text.as_bytes().get(18..20);
        if text.len() != 20 || !is_upper_alphanumeric(text) || !check.is_some_and(|c| c.iter().all(u8::is_ascii_digit))
        {
            return Err(Invalid { what: "LEI", rule: "18 upper-case letters and digits and 2 check digits" });
        }
        if mod_97(text.bytes()) != Some(1) {
            return Err(Invalid { what: "LEI", rule: "one whose check digits match" });
        }
        Ok(Self(text.into()))
    }

    /// Puts the check digits behind the first 18 characters.
    ///
    /// # Errors
    /// When `first` is not 18 upper-case letters and digits.
    pub fn with_check_digits(first: &str) -> Result<Self, Invalid> {
        let digits = check_digits(first.bytes()).unwrap_or_default();
        Self::parse(&format!("{first}{digits:02}"))
    }

    /// As given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl CreditorReference ===

impl CreditorReference {
    /// Takes an `RF` reference in its electronic form: upper case, no spaces.
    ///
    /// # Errors
    /// When it is not `RF`, 2 check digits that match, and 1 to 21 letters and digits.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let refuse = |rule| Err(Invalid { what: "creditor reference", rule });
        if !(5..=25).contains(&text.len()) || !text.starts_with("RF") || !is_upper_alphanumeric(text) {
            return refuse("RF, 2 check digits and 1 to 21 upper-case letters and digits");
        }
        if !check_digits_possible(text) || mod_97_rotated(text) != Some(1) {
            return refuse("one whose check digits match");
        }
        Ok(Self(text.into()))
    }

    /// Puts `RF` and the check digits before a reference.
    ///
    /// # Errors
    /// When `reference` is not 1 to 21 upper-case letters and digits.
    pub fn with_check_digits(reference: &str) -> Result<Self, Invalid> {
        let digits = check_digits(reference.bytes().chain(*b"RF")).unwrap_or_default();
        Self::parse(&format!("RF{digits:02}{reference}"))
    }

    /// The electronic form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl OtherAccount ===

impl OtherAccount {
    /// Takes an account number of another kind and the scheme that gives it.
    ///
    /// # Errors
    /// When `id` is not 1 to 34 characters or `scheme` not 1 to 35.
    pub fn parse(id: &str, scheme: Option<&str>) -> Result<Self, Invalid> {
        let id = bounded(id, 34, "account id", "1 to 34 characters")?;
        let scheme = scheme.map(|s| bounded(s, 35, "account scheme", "1 to 35 characters")).transpose()?;
        Ok(Self { id, scheme })
    }

    /// The number.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The scheme that gives it.
    #[must_use]
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }
}

// === impl Agent ===

impl Agent {
    /// A member of a clearing system.
    ///
    /// # Errors
    /// When `system` is not 1 to 5 characters or `member` not 1 to 35.
    pub fn clearing(system: &str, member: &str) -> Result<Self, Invalid> {
        let system = bounded(system, 5, "clearing system", "1 to 5 characters")?;
        let member = bounded(member, 35, "clearing member", "1 to 35 characters")?;
        Ok(Self::Clearing { system, member })
    }
}

// === impl Account ===

impl Account {
    /// The account's one name in the book: `iban:<IBAN>` or `other:<scheme>:<id>` (scheme empty where none is given).
    ///
    /// Within the scheme `%` and `:` are written `%25` and `%3A`: no two accounts share a name.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Iban(iban) => ["iban:", &iban.0].concat(),
            Self::Other(OtherAccount { id, scheme: None }) => ["other::", id].concat(),
            Self::Other(OtherAccount { id, scheme: Some(scheme) }) => {
                format!("other:{}:{id}", scheme.replace('%', "%25").replace(':', "%3A"))
            }
        }
    }
}

impl fmt::Debug for Iban {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Iban(..)")
    }
}
impl fmt::Debug for Bic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bic({})", self.0)
    }
}
impl fmt::Debug for Lei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lei({})", self.0)
    }
}
impl fmt::Debug for CreditorReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CreditorReference(..)")
    }
}
impl fmt::Debug for OtherAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtherAccount(..)")
    }
}
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iban(_) => "Iban(..)",
            Self::Other(_) => "Other(..)",
        })
    }
}
impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bic(_) => "Bic(..)",
            Self::Clearing { .. } => "Clearing(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IBANS: [&str; 8] = [
        "DE89370400440532013000",
        "GB82WEST12345698765432",
        "FR1420041010050500013M02606",
        "NO9386011117947",
        "PK36SCBL0000001123456702",
        "BR1800360305000010009795493C1",
        "MT84MALT011000012345MTLCAST001S",
        "XK051212012345678906",
    ];

    /// `text` (18 characters for an LEI) with the check digits that make the remainder 1.
    fn with_check_digits(before: &str, after: &str, tail: &str) -> String {
        let rest = mod_97(before.bytes().chain(after.bytes()).chain(*b"00")).expect("letters and digits");
        format!("{after}{:02}{tail}", 98 - rest)
    }

    fn lei(body: &str) -> String {
        let rest = mod_97(body.bytes().chain(*b"00")).expect("letters and digits");
        format!("{body}{:02}", 98 - rest)
    }

    fn reference(body: &str) -> String {
        with_check_digits(body, "RF", body)
    }

    /// Every text that one wrong digit, or two unequal neighbouring digits changing places, makes of `text`.
    fn slips(text: &str) -> Vec<String> {
        let bytes = text.as_bytes();
        let mut slips = Vec::new();
        for (at, byte) in bytes.iter().enumerate().filter(|(_, b)| b.is_ascii_digit()) {
            for digit in (b'0'..=b'9').filter(|d| d != byte) {
                let mut wrong = bytes.to_vec();
                wrong[at] = digit;
                slips.push(wrong);
            }
            if bytes.get(at + 1).is_some_and(|next| next.is_ascii_digit() && next != byte) {
                let mut wrong = bytes.to_vec();
                wrong.swap(at, at + 1);
                slips.push(wrong);
            }
        }
        slips.into_iter().map(|s| String::from_utf8(s).expect("ASCII")).collect()
    }

    #[test]
    fn every_slip_in_an_iban_is_refused() {
        for iban in IBANS {
            assert_eq!(Iban::parse(iban).expect(iban).as_str(), iban);
            for wrong in slips(iban) {
                assert!(Iban::parse(&wrong).is_err(), "{wrong} made of {iban}");
            }
        }
    }

    #[test]
    fn check_digits_are_put_where_they_belong() {
        for iban in IBANS {
            let again = Iban::with_check_digits(&iban[..2], &iban[4..]).expect("the same parts");
            assert_eq!(again.as_str(), iban);
        }
        let lei = Lei::with_check_digits("529900T8BM49AURSDO").expect("18 characters");
        assert_eq!(lei.as_str(), "529900T8BM49AURSDO55");
        let reference = CreditorReference::with_check_digits("539007547034").expect("12 digits");
        assert_eq!(reference.as_str(), "RF18539007547034");
        assert!(Iban::with_check_digits("DE", "37040044053201300").is_err());
        assert!(Iban::with_check_digits("DE", "37040044053201300\u{e9}").is_err());
        assert!(Lei::with_check_digits("529900t8bm49aursdo").is_err());
        assert!(CreditorReference::with_check_digits("").is_err());
    }

    #[test]
    fn an_iban_is_taken_in_its_electronic_form_only() {
        let refused = |text: &str| Iban::check(text).expect_err(text);
        for text in ["de89370400440532013000", "DE89 3704 0044 0532 0130 00", "", "DE89", "DE8937040044053201300é"] {
            assert_eq!(refused(text), IbanFault::Characters, "{text}");
        }
        assert_eq!(refused("XX89370400440532013000"), IbanFault::Country);
        assert_eq!(refused("US89370400440532013000"), IbanFault::Country);
        assert_eq!(refused("DE8937040044053201300"), IbanFault::Length);
        assert_eq!(refused("DE8937040044053201300A"), IbanFault::Structure);
        assert_eq!(refused("DE88370400440532013000"), IbanFault::CheckDigits);
        let said = Iban::parse("DE88370400440532013000").expect_err("refused").to_string();
        assert_eq!(said, "IBAN must be one whose check digits match");
    }

    #[test]
    fn a_bic_has_a_real_country() {
        for bic in ["DEUTDEFF", "DEUTDEFF500", "UBSWCHZH80A", "NCBVXKPR", "1234DE00"] {
            assert_eq!(Bic::parse(bic).expect(bic).as_str(), bic);
        }
        for bic in
            ["deutdeff", "DEUTUKFF", "DEUTXXFF", "DEUTDEF", "DEUTDEFF5", "DEUTDEFF5000", "DEUT1EFF", "", "ÄEUTDEF"]
        {
            assert!(Bic::parse(bic).is_err(), "{bic}");
        }
    }

    #[test]
    fn a_real_lei_passes_and_its_lower_case_does_not() {
        assert!(Lei::parse("529900T8BM49AURSDO55").is_ok());
        for wrong in
            ["529900t8bm49aursdo55", "529900T8BM49AURSDO5", "529900T8BM49AURSDO5A", "529900T8BM49AURSDO555", ""]
        {
            assert!(Lei::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_creditor_reference_needs_possible_check_digits() {
        assert!(CreditorReference::parse("RF18539007547034").is_ok());
        let alias =
            (0..200).map(|n| n.to_string()).find(|body| reference(body).starts_with("RF97")).expect("one of 97");
        let aliased = reference(&alias).replacen("97", "00", 1);
        assert_eq!(mod_97_rotated(&aliased), Some(1));
        for wrong in [
            aliased.as_str(),
            "RF00123456789",
            "RF18",
            "rf18539007547034",
            "RF18 5390",
            "RF18539007547034000000000A",
            "",
        ] {
            assert!(CreditorReference::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_two_accounts_share_a_name() {
        let named = |id, scheme| Account::Other(OtherAccount::parse(id, scheme).expect("valid")).key();
        let names = [named("c", Some("a:b")), named("b:c", Some("a")), named("c", Some("a%3Ab")), named("a:c", None)];
        assert_eq!(names, ["other:a%3Ab:c", "other:a:b:c", "other:a%253Ab:c", "other::a:c"]);
    }

    #[test]
    fn debug_shows_no_account_number() {
        let iban = Iban::parse(IBANS[0]).expect("valid");
        let other = OtherAccount::parse("ACC00847", None).expect("valid");
        let text = format!("{iban:?} {other:?} {:?} {:?}", Account::Iban(iban.clone()), Account::Other(other.clone()));
        assert!(!text.contains("8937") && !text.contains("ACC0"), "{text}");
    }

    #[test]
    fn lengths_count_characters_not_bytes() {
        assert!(OtherAccount::parse(&"é".repeat(34), Some(&"é".repeat(35))).is_ok());
        assert!(OtherAccount::parse(&"é".repeat(35), None).is_err());
        assert!(OtherAccount::parse("", None).is_err() && OtherAccount::parse("1", Some("")).is_err());
        assert!(Agent::clearing("USABA", "011104238").is_ok());
        assert!(Agent::clearing("USABAX", "1").is_err() && Agent::clearing("USABA", "").is_err());
    }

    proptest! {
        #[test]
        fn every_slip_in_an_lei_is_refused(body in "[A-Z0-9]{18}") {
            let valid = lei(&body);
            prop_assert!(Lei::parse(&valid).is_ok());
            for wrong in slips(&valid) {
                prop_assert!(Lei::parse(&wrong).is_err(), "{} made of {}", wrong, valid);
            }
        }

        #[test]
        fn every_slip_in_a_creditor_reference_is_refused(body in "[A-Z0-9]{1,21}") {
            let valid = reference(&body);
            prop_assert!(CreditorReference::parse(&valid).is_ok());
            for wrong in slips(&valid) {
                prop_assert!(CreditorReference::parse(&wrong).is_err(), "{} made of {}", wrong, valid);
            }
        }

        #[test]
        fn a_generated_german_iban_is_taken_and_every_slip_refused(account in "[0-9]{18}") {
            let valid = with_check_digits(&account, "DE", &account);
            prop_assert!(Iban::parse(&valid).is_ok());
            for wrong in slips(&valid) {
                prop_assert!(Iban::parse(&wrong).is_err(), "{} made of {}", wrong, valid);
            }
        }

        #[test]
        fn no_text_makes_a_constructor_panic(text in "\\PC{0,40}") {
            drop((Iban::parse(&text), Bic::parse(&text), Lei::parse(&text), CreditorReference::parse(&text)));
        }
    }
}
