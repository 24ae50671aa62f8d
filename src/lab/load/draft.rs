//! One event before it becomes bytes: its fields as JSON text, so that a defect can put anything anywhere.

use std::borrow::Cow;
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::accounts::{Accounts, reference};
use super::random::Random;
use crate::domain::{Currency, Money, OrderKey};
use crate::intake;

/// A built-in scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Book,
    Sct,
    SctInst,
    Cbpr,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Book, Self::Sct, Self::SctInst, Self::Cbpr];

    /// The third token of its subjects.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Book => "book",
            Self::Sct => "sct",
            Self::SctInst => "sct-inst",
            Self::Cbpr => "cbpr",
        }
    }

    /// SEPA: euro between two IBANs.
    fn is_sepa(self) -> bool {
        matches!(self, Self::Sct | Self::SctInst)
    }

    /// One of the four, in shares of 40, 20, 25 and 15 in a hundred.
    pub(super) fn any(random: &mut Random) -> Self {
        match random.below(100) {
            0..40 => Self::Book,
            40..60 => Self::Sct,
            60..85 => Self::SctInst,
            _ => Self::Cbpr,
        }
    }
}

/// JSON text.
pub(super) type Json = Cow<'static, str>;

/// An event, valid when [`World::draft`] made it.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) payment_id: String,
    pub(super) kind: Kind,
    pub(super) order_key: OrderKey,
    /// What a reader of the amount makes of it.
    pub(super) money: Option<Money>,
    fields: Vec<(&'static str, Json)>,
}

impl Draft {
    /// Puts JSON text in the place of a field, or behind all others.
    pub(super) fn set(&mut self, key: &'static str, json: impl Into<Json>) {
        match self.fields.iter_mut().find(|(name, _)| *name == key) {
            Some((_, value)) => *value = json.into(),
            None => self.fields.push((key, json.into())),
        }
    }

    pub(super) fn remove(&mut self, key: &'static str) {
        self.fields.retain(|(name, _)| *name != key);
    }

    /// A field's JSON text; empty where it is not there.
    pub(super) fn get(&self, key: &str) -> &str {
        self.fields.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| value)
    }

    /// The currency's code and decimals.
    pub(super) fn currency(&self) -> (&'static str, u8) {
        self.money.map_or(("EUR", 2), |money| (money.currency().code(), money.currency().exponent()))
    }

    /// The amount's value as text.
    pub(super) fn value(&self) -> String {
        self.money.map(Money::value).unwrap_or_default()
    }

    /// Asks for `money`.
    pub(super) fn set_money(&mut self, money: Money) {
        self.set_amount(money.currency().code(), &money.value(), Some(money));
    }

    /// Writes any amount; `money` is what can be read of it.
    pub(super) fn set_amount(&mut self, currency: &str, value: &str, money: Option<Money>) {
        self.set("amount", format!(r#"{{"currency":"{currency}","value":"{value}"}}"#));
        self.money = money;
    }

    /// The body.
    pub(super) fn body(&self) -> String {
        let mut body = String::with_capacity(768);
        body.push_str(r#"{"payment_id":""#);
        body.push_str(&self.payment_id);
        body.push_str(r#"","scheme":""#);
        body.push_str(self.kind.name());
        body.push('"');
        for (key, value) in &self.fields {
            body.push_str(",\"");
            body.push_str(key);
            body.push_str("\":");
            body.push_str(value);
        }
        body.push('}');
        body
    }

    /// The body with optional fields left out until it fits, and spaces up to exactly `size` bytes.
    pub(super) fn body_of(&mut self, size: usize) -> String {
        const SPARE: [&str; 7] = [
            "expires_at",
            "requested_execution_date",
            "category_purpose",
            "purpose",
            "instruction_id",
            "remittance",
            "end_to_end_id",
        ];
        let mut body = self.body();
        for key in SPARE {
            if body.len() <= size {
                break;
            }
            self.remove(key);
            body = self.body();
        }
        body.truncate(body.len().saturating_sub(1));
        let missing = size.saturating_sub(body.len()).saturating_sub(1);
        body.extend(std::iter::repeat_n(' ', missing));
        body.push('}');
        body
    }

    /// Spelt otherwise and the same payment: fields in another order, zeros before the amount, a space before the end.
    pub(super) fn respelt(mut self) -> String {
        let ((currency, _), value) = (self.currency(), self.value());
        self.set_amount(currency, &format!("00{value}"), self.money);
        self.fields.reverse();
        let mut body = self.body();
        body.push('\n');
        body
    }
}

/// What stays the same over a whole load.
#[derive(Debug, Clone)]
pub(super) struct World {
    accounts: Accounts,
    euro: Option<Currency>,
    currencies: Vec<Currency>,
    /// Today in UTC and in the zone of SEPA, where a payment may name it.
    today: [Option<String>; 2],
}

const CURRENCIES: [&str; 14] =
    ["EUR", "USD", "GBP", "CHF", "JPY", "KWD", "BHD", "CLF", "SEK", "NOK", "PLN", "INR", "KRW", "AED"];
const NAMES: [&str; 10] = [
    "Acme B.V.",
    "Bob GmbH",
    "Carla Rossi",
    "D and D Freight Ltd",
    "Elm Street Bakery",
    "Fonds Durand SA",
    "Globex Corporation",
    "Hotel Aurora",
    "Ines Pereira",
    "Jansen en Zonen",
];
const BOOK_NAMES: [&str; 3] = ["Müller & Söhne", "株式会社テスト", "Łódź Handel"];
const TOWNS: [(&str, &str); 10] = [
    ("Amsterdam", "NL"),
    ("Berlin", "DE"),
    ("Brussels", "BE"),
    ("Dublin", "IE"),
    ("Helsinki", "FI"),
    ("Kuwait City", "KW"),
    ("Lisboa", "PT"),
    ("Madrid", "ES"),
    ("Paris", "FR"),
    ("Warszawa", "PL"),
];
const BICS: [&str; 8] =
    ["DEUTDEFF", "BNPAFRPP", "INGBNL2A", "CHASUS33", "BARCGB22", "NDEAFIHH", "UBSWCHZH80A", "HSBCHKHH"];
const PURPOSES: [&str; 5] = ["SALA", "SUPP", "TAXS", "TREA", "GDDS"];

impl World {
    pub(super) fn new(accounts: u32, at: Option<Timestamp>, random: &mut Random) -> Self {
        Self {
            accounts: Accounts::new(accounts, random),
            euro: Currency::parse("EUR"),
            currencies: CURRENCIES.iter().filter_map(|code| Currency::parse(code)).collect(),
            today: [Some(TimeZone::UTC), intake::zone("Europe/Brussels")].map(|zone| today(at?, zone?)),
        }
    }

    /// A valid event; `lean` leaves out what makes it long.
    pub(super) fn draft(&self, number: u64, kind: Kind, lean: bool, random: &mut Random) -> Draft {
        let uuid = random.uuid();
        let payment_id =
            if random.chance(10) { format!("PAY-{number}-{:08x}", uuid.as_fields().0) } else { uuid.to_string() };
        let pair = self.accounts.pair(kind.is_sepa(), random);
        let order_key = pair.map_or_else(OrderKey::unread, |(debtor, _)| debtor.order_key.clone());
        let (from, to) = pair.map_or(("", ""), |(debtor, creditor)| (debtor.json.as_str(), creditor.json.as_str()));
        let mut draft = Draft { payment_id, kind, order_key, money: None, fields: Vec::with_capacity(16) };
        if kind == Kind::Cbpr {
            draft.set("uetr", quoted(random.uuid()));
        }
        if let Some(money) = self.money(kind, random) {
            draft.set_money(money);
        }
        let named = kind != Kind::Book;
        for (party, account, account_json, agent) in
            [("debtor", "debtor_account", from, "debtor_agent"), ("creditor", "creditor_account", to, "creditor_agent")]
        {
            if named || random.chance(60) {
                draft.set(party, self.party(kind, lean, random));
            }
            draft.set(account, account_json.to_owned());
            if kind == Kind::Cbpr || random.chance(15) {
                draft.set(agent, agent_json(random));
            }
        }
        self.rest(&mut draft, random);
        draft
    }

    fn money(&self, kind: Kind, random: &mut Random) -> Option<Money> {
        let currency = if kind.is_sepa() { self.euro } else { random.pick(&self.currencies).copied() };
        let minor = random.below(9_999_900).saturating_add(100);
        Money::new(i64::try_from(minor).ok()?, currency?)
    }

    fn party(&self, kind: Kind, lean: bool, random: &mut Random) -> String {
        let names = if kind == Kind::Book && random.chance(10) { BOOK_NAMES.as_slice() } else { NAMES.as_slice() };
        let mut party = format!(r#"{{"name":"{}""#, random.word(names));
        if !lean && random.chance(30) {
            party.push_str(r#","lei":""#);
            party.push_str(self.accounts.lei(random));
            party.push('"');
        }
        if let (false, true, Some((town, country))) = (lean, random.chance(50), random.pick(&TOWNS)) {
            let (building, code) = (random.below(200).saturating_add(1), random.below(9000).saturating_add(1000));
            // Writing to a string cannot fail.
            write!(
                party,
                r#","address":{{"street":"High Street","building":"{building}","post_code":"{code}","town":"{town}","country":"{country}"}}"#
            )
            .ok();
        }
        party.push('}');
        party
    }

    fn rest(&self, draft: &mut Draft, random: &mut Random) {
        let kind = draft.kind;
        if kind.is_sepa() {
            draft.set("charge_bearer", r#""SLEV""#);
        } else if kind == Kind::Cbpr {
            draft.set("charge_bearer", random.word(&[r#""DEBT""#, r#""CRED""#, r#""SHAR""#]));
        }
        if random.chance(85) {
            draft.set("end_to_end_id", format!(r#""INV-2026-{:06}""#, random.below(1_000_000)));
        }
        if random.chance(50) {
            draft.set("instruction_id", format!(r#""I{:09}""#, random.below(1_000_000_000)));
        }
        if random.chance(40) {
            draft.set("purpose", quoted(random.word(&PURPOSES)));
        }
        if random.chance(30) {
            draft.set("category_purpose", quoted(random.word(&PURPOSES)));
        }
        if random.chance(45) {
            draft.set("remittance", format!(r#"{{"unstructured":"Invoice {}"}}"#, random.below(100_000)));
        } else if let (true, Some(reference)) = (random.chance(50), reference(random)) {
            draft.set("remittance", format!(r#"{{"structured":{{"reference":"{}"}}}}"#, reference.as_str()));
        }
        let [utc, sepa] = &self.today;
        if let (Some(today), true) = (if kind.is_sepa() { sepa } else { utc }, random.chance(25)) {
            draft.set("requested_execution_date", quoted(today));
        }
        if random.chance(15) {
            draft.set("expires_at", r#""2098-12-31T23:59:59Z""#);
        }
    }
}

fn agent_json(random: &mut Random) -> Json {
    if random.chance(15) {
        return r#"{"clearing":{"system":"USABA","member":"011104238"}}"#.into();
    }
    format!(r#"{{"bic":"{}"}}"#, random.word(&BICS)).into()
}

fn quoted(text: impl std::fmt::Display) -> String {
    format!("\"{text}\"")
}

/// The date at `at`; none in the last hour of a day, so that no event is published on the day after the one it names.
fn today(at: Timestamp, zone: TimeZone) -> Option<String> {
    let there = zone.to_datetime(at);
    (there.hour() < 23).then(|| there.date().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_event_names_a_day_that_is_about_to_end() {
        let at = |text: &str| text.parse::<Timestamp>().expect("valid");
        assert_eq!(today(at("2026-11-23T22:59:59Z"), TimeZone::UTC).as_deref(), Some("2026-11-23"));
        assert_eq!(today(at("2026-11-23T23:00:00Z"), TimeZone::UTC), None);
        let world = World::new(8, Some(at("2026-11-23T23:30:00Z")), &mut Random::new(1));
        assert_eq!(world.today, [None, Some("2026-11-24".to_owned())]);
        assert_eq!(world.currencies.len(), CURRENCIES.len());
    }
}
