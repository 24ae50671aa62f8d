//! `in_progress` and the bound of the tracker.

use std::collections::BTreeMap;

use crate::domain::{Currency, Decimal};
use crate::store::TrackLimits;
use crate::worker::{InProgress, TrackPolicy};

use super::problem::Problem;
use super::rails;
use super::read::Table;

/// What becomes of the lane's events whose rail takes long.
pub(super) fn in_progress(table: &Table, problems: &mut Vec<Problem>) -> Option<InProgress> {
    let minor = amounts(table, problems)?;
    if table.text("in_progress") != Some("track") {
        return Some(InProgress::Hold);
    }
    if table.text("route") == Some(rails::BOOK) {
        let rule = "must be \"hold\": the book settles at once, and has nothing to be tracked";
        problems.push(table.problem("in_progress", rule, "leave it out, or give the lane a rail"));
        return None;
    }
    let limits = TrackLimits { count: table.whole("track_limit"), minor };
    Some(InProgress::Track(TrackPolicy { after: table.span("track_after"), limits }))
}

/// Minor units by currency.
fn amounts(table: &Table, problems: &mut Vec<Problem>) -> Option<BTreeMap<&'static str, i64>> {
    let mut minor = BTreeMap::new();
    for text in table.texts("track_limit_amount") {
        let Some((code, most)) = amount(text).filter(|(code, _)| !minor.contains_key(code)) else {
            let rule = "must be amounts above zero such as \"EUR 5000000.00\", one a currency";
            let remedy = "write an active currency code, a space, and a decimal that fits the currency";
            problems.push(table.problem("track_limit_amount", rule, remedy));
            return None;
        };
        minor.insert(code, most);
    }
    Some(minor)
}

fn amount(text: &str) -> Option<(&'static str, i64)> {
    let (code, value) = text.split_once(' ')?;
    let currency = Currency::parse(code)?;
    let minor = Decimal::parse(value)?.at_scale(currency.exponent())?;
    (minor > 0).then_some((currency.code(), minor))
}
