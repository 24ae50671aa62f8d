//! The accounts between which the load moves money.

use super::random::Random;
use crate::domain::{CreditorReference, Iban, Lei, OrderKey};

/// Country and the form of its domestic number: how many of which kind (`n` digits, `a` letters, `c` both).
const FORMS: [(&str, &[(usize, char)]); 20] = [
    ("AE", &[(19, 'n')]),
    ("AT", &[(16, 'n')]),
    ("BE", &[(12, 'n')]),
    ("CH", &[(5, 'n'), (12, 'c')]),
    ("DE", &[(18, 'n')]),
    ("DK", &[(14, 'n')]),
    ("ES", &[(20, 'n')]),
    ("FI", &[(14, 'n')]),
    ("FR", &[(10, 'n'), (11, 'c'), (2, 'n')]),
    ("GB", &[(4, 'a'), (14, 'n')]),
    ("IE", &[(4, 'a'), (14, 'n')]),
    ("IT", &[(1, 'a'), (10, 'n'), (12, 'c')]),
    ("KW", &[(4, 'a'), (22, 'c')]),
    ("LU", &[(3, 'n'), (13, 'c')]),
    ("NL", &[(4, 'a'), (10, 'n')]),
    ("NO", &[(11, 'n')]),
    ("PL", &[(24, 'n')]),
    ("PT", &[(21, 'n')]),
    ("SA", &[(2, 'n'), (18, 'c')]),
    ("SE", &[(20, 'n')]),
];

/// An account as it stands in a body, and the order key of its payments.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    /// `{"iban":...}` or `{"other":...}`.
    pub(super) json: String,
    /// The same for all payments of the account, and nothing of its number.
    pub(super) order_key: OrderKey,
}

/// A fixed set of accounts and identifiers with check digits.
#[derive(Debug, Clone)]
pub(super) struct Accounts {
    ibans: Vec<Holder>,
    others: Vec<Holder>,
    leis: Vec<Lei>,
}

impl Accounts {
    /// `count` accounts (at least 8), one in four without an IBAN.
    pub(super) fn new(count: u32, random: &mut Random) -> Self {
        let mut accounts = Self { ibans: Vec::new(), others: Vec::new(), leis: Vec::new() };
        for number in 0..count.max(8) {
            let Ok(order_key) = OrderKey::parse(&format!("{:016x}", random.next())) else { continue };
            if number % 4 == 3 {
                let json = format!(r#"{{"other":{{"id":"ACC{number:07}"}}}}"#);
                accounts.others.push(Holder { json, order_key });
            } else if let Some(iban) = iban(random) {
                let json = format!(r#"{{"iban":"{}"}}"#, iban.as_str());
                accounts.ibans.push(Holder { json, order_key });
            }
        }
        accounts.leis.extend((0..64).filter_map(|_| {
            let first = random.fill(std::iter::repeat_n('c', 18));
            Lei::with_check_digits(&first).ok()
        }));
        accounts
    }

    /// Debtor and creditor, never the same account.
    pub(super) fn pair(&self, ibans_only: bool, random: &mut Random) -> Option<(&Holder, &Holder)> {
        if !ibans_only && random.chance(40) {
            let (iban, other) = (random.pick(&self.ibans)?, random.pick(&self.others)?);
            return Some(if random.chance(50) { (iban, other) } else { (other, iban) });
        }
        let from = if ibans_only || random.chance(75) { &self.ibans } else { &self.others };
        let debtor = random.below(u64::try_from(from.len()).ok()?);
        let count = u64::try_from(from.len()).ok()?;
        let step = random.below(count.checked_sub(1)?).checked_add(1)?;
        let creditor = debtor.checked_add(step)?.checked_rem(count)?;
        Some((from.get(usize::try_from(debtor).ok()?)?, from.get(usize::try_from(creditor).ok()?)?))
    }

    /// One of a few valid LEIs.
    pub(super) fn lei(&self, random: &mut Random) -> &str {
        random.pick(&self.leis).map(Lei::as_str).unwrap_or_default()
    }
}

fn iban(random: &mut Random) -> Option<Iban> {
    let (country, form) = random.pick(&FORMS)?;
    let number = random.fill(form.iter().flat_map(|(count, kind)| std::iter::repeat_n(*kind, *count)));
    Iban::with_check_digits(country, &number).ok()
}

/// A creditor reference with valid check digits.
pub(super) fn reference(random: &mut Random) -> Option<CreditorReference> {
    let length = usize::try_from(random.below(11)).ok()?.checked_add(6)?;
    CreditorReference::with_check_digits(&random.fill(std::iter::repeat_n('n', length))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_account_of_any_country_is_lost_on_the_way() {
        let accounts = Accounts::new(1000, &mut Random::new(1));
        assert_eq!((accounts.ibans.len(), accounts.others.len(), accounts.leis.len()), (750, 250, 64));
        for (country, _) in FORMS {
            let start = format!(r#"{{"iban":"{country}"#);
            assert!(accounts.ibans.iter().any(|holder| holder.json.starts_with(&start)), "{country}");
        }
    }

    #[test]
    fn nobody_pays_himself_however_few_accounts_there_are() {
        let mut random = Random::new(2);
        let accounts = Accounts::new(0, &mut random);
        for round in 0..2000 {
            let (debtor, creditor) = accounts.pair(round % 2 == 0, &mut random).expect("eight accounts");
            assert_ne!(debtor.json, creditor.json);
            assert!(round % 2 == 1 || debtor.json.starts_with(r#"{"iban"#));
        }
    }
}
