//! Single defects, and the code each leads to.

use super::draft::{Draft, Kind};
use super::random::Random;
use crate::domain::{Code, Currency, Money};

/// Breaks one rule of a valid draft.
pub(super) struct Defect {
    /// The leading code.
    pub(super) code: Code,
    /// The schemes in which it is a defect, the only one, and can be applied to every draft.
    pub(super) kinds: &'static [Kind],
    /// Applies it.
    pub(super) apply: fn(&mut Draft, &mut Random),
}

const ANY: &[Kind] = &Kind::ALL;
const SEPA: &[Kind] = &[Kind::Sct, Kind::SctInst];
const NAMED: &[Kind] = &[Kind::Sct, Kind::SctInst, Kind::Cbpr];
const OPEN: &[Kind] = &[Kind::Book, Kind::Cbpr];
const BOOK: &[Kind] = &[Kind::Book];
const CBPR: &[Kind] = &[Kind::Cbpr];

const fn defect(code: Code, kinds: &'static [Kind], apply: fn(&mut Draft, &mut Random)) -> Defect {
    Defect { code, kinds, apply }
}

/// One of the tables, in equal shares, and one of its defects.
pub(super) fn any(random: &mut Random) -> Option<&'static Defect> {
    const TABLES: [&[Defect]; 4] = [&WHOLE, &AMOUNTS, &PARTIES, &REST];
    random.pick(&TABLES).and_then(|table| random.pick(table))
}

/// The body as a whole, and what is missing from it.
static WHOLE: [Defect; 17] = [
    defect(Code::FF01, ANY, |d, _| d.set("colour", r#""blue""#)),
    defect(Code::FF01, ANY, |d, _| {
        let ((currency, _), value) = (d.currency(), d.value());
        d.set("amount", format!(r#"{{"currency":"{currency}","value":"{value}","unit":"major"}}"#));
    }),
    defect(Code::FF01, ANY, |d, _| d.set("creditor", r#"{"name":"Acme B.V.","planet":null}"#)),
    defect(Code::FF01, ANY, |d, _| d.set("remittance", deep(17))),
    defect(Code::FF01, ANY, |d, _| d.set("remittance", deep(2000))),
    defect(Code::CH21, ANY, |d, _| {
        d.remove("amount");
        d.money = None;
    }),
    defect(Code::CH21, ANY, |d, _| {
        d.set("amount", "null");
        d.money = None;
    }),
    defect(Code::CH21, ANY, |d, _| {
        let value = d.value();
        d.set("amount", format!(r#"{{"value":"{value}"}}"#));
        d.money = None;
    }),
    defect(Code::CH21, ANY, |d, _| {
        let (currency, _) = d.currency();
        d.set("amount", format!(r#"{{"currency":"{currency}"}}"#));
        d.money = None;
    }),
    defect(Code::CH21, ANY, |d, _| d.remove("debtor_account")),
    defect(Code::CH21, ANY, |d, _| d.remove("creditor_account")),
    defect(Code::CH21, CBPR, |d, _| d.remove("uetr")),
    defect(Code::CH21, CBPR, |d, _| d.remove("debtor_agent")),
    defect(Code::CH21, CBPR, |d, _| d.set("creditor_agent", "null")),
    defect(Code::CH16, ANY, |d, random| {
        let uetr =
            random.word(&[r#""E48FCE51-F16C-40FB-9B3B-1D66925626AE""#, r#""0199f2c4-7d1e-7b00-8a10-5b1f0c2d3e4f""#]);
        d.set("uetr", uetr);
    }),
    defect(Code::CH16, ANY, |d, random| {
        let long = r#""AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA""#;
        d.set("instruction_id", random.word(&[long, r#""TRAILING/""#, r#""under_score""#, "7"]));
    }),
    defect(Code::FF08, ANY, |d, random| {
        let long = r#""EEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE""#;
        let wrong = [long, r#""/LEADING""#, r#""TRAILING/""#, r#""DOUBLE//SLASH""#, r#""hash#tag""#, r#""""#, "[]"];
        d.set("end_to_end_id", random.word(&wrong));
    }),
];

static AMOUNTS: [Defect; 9] = [
    defect(Code::AM11, ANY, |d, random| {
        let value = d.value();
        d.set_amount(random.word(&["BGN", "HRK", "XAU", "XXX", "ABC", "eur", ""]), &value, None);
    }),
    defect(Code::AM03, SEPA, |d, random| {
        let currency = Currency::parse(random.word(&["USD", "GBP", "CHF"]));
        if let Some(money) = currency.and_then(|currency| Money::new(d.money?.minor(), currency)) {
            d.set_money(money);
        }
    }),
    defect(Code::AM12, ANY, |d, random| {
        let wrong = ["", "-5.00", "1e3", ".5", "1.", "12,50", " 5.00", "0x10", "1.2.3", "1234567890123456789"];
        d.set_amount(d.currency().0, random.word(&wrong), None);
    }),
    defect(Code::AM12, ANY, |d, random| {
        let (currency, _) = d.currency();
        let value = random.word(&["12", "12.5", "true", "[]"]);
        d.set("amount", format!(r#"{{"currency":"{currency}","value":{value}}}"#));
        d.money = None;
    }),
    defect(Code::AM01, ANY, |d, random| d.set_amount(d.currency().0, random.word(&["0", "0.00", "000"]), None)),
    defect(Code::CH20, ANY, |d, _| {
        let (currency, decimals) = d.currency();
        d.set_amount(currency, &format!("5.{}", "1".repeat(usize::from(decimals).saturating_add(1))), None);
    }),
    // The value is a whole number of minor units: it can be told, and is still not as the currency writes it.
    defect(Code::CH20, ANY, |d, _| {
        let (currency, decimals) = d.currency();
        let more = if decimals == 0 { ".0" } else { "0" };
        d.set_amount(currency, &format!("{}{more}", d.value()), d.money);
    }),
    defect(Code::AM13, SEPA, |d, random| {
        let above = i64::try_from(random.below(1_000_000)).unwrap_or_default();
        if let Some(money) = d.money.and_then(|money| Money::new(above.checked_add(100_000_000_000)?, money.currency()))
        {
            d.set_money(money);
        }
    }),
    // More than 64 bits of minor units.
    defect(Code::AM13, BOOK, |d, _| d.set_amount("EUR", "999999999999999999", None)),
];

static PARTIES: [Defect; 19] = [
    defect(Code::BE08, NAMED, |d, _| d.remove("debtor")),
    defect(Code::BE22, NAMED, |d, _| d.remove("creditor")),
    defect(Code::BE08, ANY, |d, _| d.set("debtor", r#"{"name":""}"#)),
    defect(Code::BE20, ANY, |d, random| {
        d.set(random.word(&["debtor", "creditor"]), format!(r#"{{"name":"{}"}}"#, "N".repeat(141)));
    }),
    defect(Code::BE16, ANY, |d, random| d.set("debtor", bad_lei(random))),
    defect(Code::BE17, ANY, |d, random| d.set("creditor", bad_lei(random))),
    defect(Code::BE10, ANY, |d, random| d.set("debtor", bad_country(random))),
    defect(Code::BE11, ANY, |d, random| d.set("creditor", bad_country(random))),
    defect(Code::BE07, ANY, |d, _| d.set("debtor", long_address())),
    defect(Code::BE04, ANY, |d, _| d.set("creditor", long_address())),
    defect(Code::AC02, SEPA, |d, _| d.set("debtor_account", other_digit(d.get("debtor_account")))),
    defect(Code::AC03, SEPA, |d, _| d.set("creditor_account", other_digit(d.get("creditor_account")))),
    defect(Code::AC02, ANY, |d, random| d.set("debtor_account", bad_iban(random))),
    defect(Code::AC03, ANY, |d, random| d.set("creditor_account", bad_iban(random))),
    defect(Code::AC02, SEPA, |d, _| d.set("debtor_account", r#"{"other":{"id":"12345"}}"#)),
    defect(Code::AC03, SEPA, |d, _| d.set("creditor_account", r#"{"other":{"id":"12345"}}"#)),
    defect(Code::AC03, OPEN, |d, _| {
        d.set("creditor_account", format!(r#"{{"other":{{"id":"{}"}}}}"#, "7".repeat(35)));
    }),
    defect(Code::RC01, ANY, |d, random| {
        let both = r#"{"bic":"DEUTDEFF","clearing":{"system":"USABA","member":"1"}}"#;
        let wrong = [r#"{"bic":"deutdeff"}"#, r#"{"bic":"DEUTXXFF"}"#, r#"{"bic":"DEUTDEF"}"#, "{}", both];
        d.set(random.word(&["debtor_agent", "creditor_agent"]), random.word(&wrong));
    }),
    defect(Code::BE19, ANY, |d, random| d.set("charge_bearer", random.word(&[r#""OUR""#, r#""slev""#, "1"]))),
];

static REST: [Defect; 14] = [
    defect(Code::BE19, SEPA, |d, _| d.set("charge_bearer", r#""SHAR""#)),
    defect(Code::BE19, CBPR, |d, _| d.set("charge_bearer", r#""SLEV""#)),
    defect(Code::DT01, ANY, |d, random| {
        d.set("requested_execution_date", random.word(&[r#""2026-02-30""#, r#""23.11.2026""#, r#""today""#]));
    }),
    defect(Code::DT01, ANY, |d, random| {
        d.set("expires_at", random.word(&[r#""soon""#, r#""2098-12-31T23:59:59""#, "4070908799"]));
    }),
    defect(Code::CH04, ANY, |d, _| d.set("requested_execution_date", r#""2001-01-01""#)),
    defect(Code::CH03, ANY, |d, _| d.set("requested_execution_date", r#""2099-01-01""#)),
    defect(Code::AB11, ANY, |d, _| d.set("expires_at", r#""2020-01-01T00:00:00Z""#)),
    defect(Code::FF06, ANY, |d, random| {
        d.set("category_purpose", random.word(&[r#""TOOLONG""#, r#""sala""#, r#""""#]));
    }),
    defect(Code::FF07, ANY, |d, random| d.set("purpose", random.word(&[r#""su""#, r#""A B""#, "1"]))),
    defect(Code::RR07, ANY, |d, _| {
        d.set("remittance", r#"{"unstructured":"both","structured":{"reference":"RF18539007547034"}}"#);
    }),
    defect(Code::RR07, ANY, |d, _| d.set("remittance", format!(r#"{{"unstructured":"{}"}}"#, "R".repeat(141)))),
    defect(Code::RR09, ANY, |d, random| {
        let reference = random.word(&["RF19539007547034", "RF18", "539007547034"]);
        d.set("remittance", format!(r#"{{"structured":{{"reference":"{reference}"}}}}"#));
    }),
    defect(Code::RR10, NAMED, |d, random| {
        d.set(random.word(&["debtor", "creditor"]), r#"{"name":"Müller & Söhne"}"#);
    }),
    defect(Code::RR10, NAMED, |d, _| d.set("remittance", r#"{"unstructured":"Rechnung für März"}"#)),
];

/// An object within `levels` further ones.
fn deep(levels: usize) -> String {
    format!("{}{{}}{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
}

fn bad_lei(random: &mut Random) -> String {
    let lei = random.word(&["529900T8BM49AURSDO56", "529900t8bm49aursdo55", "SHORT"]);
    format!(r#"{{"name":"Acme B.V.","lei":"{lei}"}}"#)
}

fn bad_country(random: &mut Random) -> String {
    let country = random.word(&["XX", "UK", "nl", "NLD"]);
    format!(r#"{{"name":"Acme B.V.","address":{{"town":"Nowhere","country":"{country}"}}}}"#)
}

fn long_address() -> String {
    format!(r#"{{"name":"Acme B.V.","address":{{"town":"{}","country":"NL"}}}}"#, "T".repeat(36))
}

fn bad_iban(random: &mut Random) -> &'static str {
    random.word(&[
        r#"{"iban":"DE88370400440532013000"}"#,
        r#"{"iban":"DE8937040044053201300"}"#,
        r#"{"iban":"DE89 3704 0044 0532 0130 00"}"#,
        r#"{"iban":"de89370400440532013000"}"#,
        r#"{"iban":"XX89370400440532013000"}"#,
        "{}",
    ])
}

/// `{"iban":"..."}` with its last character replaced by a neighbour of the same kind, which never keeps the remainder.
fn other_digit(json: &str) -> String {
    let end = r#""}"#;
    let mut text = json.strip_suffix(end).unwrap_or(json).to_owned();
    let last = match text.pop() {
        Some(digit @ '0'..='8') => char::from_digit(digit.to_digit(10).unwrap_or_default().saturating_add(1), 10),
        Some('Z') => Some('Y'),
        Some('9') => Some('0'),
        Some(letter) => u8::try_from(letter).ok().map(|byte| char::from(byte.saturating_add(1))),
        None => None,
    };
    text.extend(last);
    text.push_str(end);
    text
}
