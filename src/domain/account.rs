//! Accounts, agents and identifiers with check digits. Private fields, one checked constructor each.

use std::fmt;

/// An IBAN (ISO 13616): upper case, no spaces; country, length and check digits hold.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Iban(Box<str>);

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

impl Account {
    /// The account's one name in the book: `iban:<IBAN>` or `other:<scheme>:<id>` (scheme empty where none is given).
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Iban(iban) => format!("iban:{}", iban.0),
            Self::Other(other) => format!("other:{}:{}", other.scheme.as_deref().unwrap_or(""), other.id),
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
