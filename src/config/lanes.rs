//! `[[lane]]`: lanes and the rules between them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::{Currency, Decimal, LaneName, Money, SchemeName};
use crate::intake::{Rules, Scheme};
use crate::resilience::{
    Backoff, BadSetting, BreakerPolicy, BreakerSettings, LimitPolicy, RetryDelays, RetryPolicy, WindowType,
};
use crate::worker::{Lane, Limits};

use super::forms::Given;
use super::problem::{Origin, Problem};
use super::rails::{self, Rail};
use super::raw::{Instance, Written, variable};
use super::read::Table;
use super::tracking;

/// The lane of a configuration that names none.
pub(super) const DEFAULT_LANE: &str = "payments";

/// What the file would say for it.
pub(super) fn default_instance() -> Instance {
    let name = Written { given: Given::Text(DEFAULT_LANE.to_owned()), origin: Origin::Default };
    Instance { origin: Origin::Default, values: BTreeMap::from([("name".to_owned(), name)]) }
}

/// The book settles inside the store's own transaction: no call is under way when it is asked to stop.
const BOOK_DEADLINE: Duration = Duration::ZERO;

/// The lanes, and the rails that they name.
#[derive(Default)]
pub(super) struct Lanes {
    pub(super) lanes: Vec<Lane>,
    /// What each settles over; none for the book.
    pub(super) routes: BTreeMap<LaneName, String>,
    /// The second rail.
    pub(super) fallbacks: BTreeMap<LaneName, String>,
}

/// The lanes and which rails each settles over, or their problems. `schemes` are those that configuration defines.
pub(super) fn lanes(tables: &[Table], schemes: &[Scheme], rails: &[Rail], problems: &mut Vec<Problem>) -> Lanes {
    let mut taken = Taken::default();
    let mut found = Lanes::default();
    for table in tables {
        let rail = route(table, rails, problems);
        let second = fallback(table, rails, problems);
        let deadline = rail.iter().chain(&second).map(|rail| rail.deadline).max().unwrap_or(BOOK_DEADLINE);
        let Some(lane) = lane(table, schemes, deadline, &mut taken, problems) else { continue };
        found.routes.extend(rail.map(|rail| (lane.name.clone(), rail.name.clone())));
        found.fallbacks.extend(second.map(|rail| (lane.name.clone(), rail.name.clone())));
        found.lanes.push(lane);
    }
    found
}

/// The second rail that a lane names: another one than its route, which is a rail, too.
fn fallback<'a>(table: &Table, rails: &'a [Rail], problems: &mut Vec<Problem>) -> Option<&'a Rail> {
    let named = table.text("fallback")?;
    let (rule, remedy) = match (rails.iter().find(|rail| rail.name == named), table.text("route")) {
        (None, _) => ("must be the name of a [[rail]]", "correct the name or define the rail"),
        (Some(_), None | Some(rails::BOOK)) => {
            ("must stand beside a route over a rail: the book is never down alone", "name the first rail as the route")
        }
        (Some(_), Some(route)) if route == named => {
            ("must be another rail than the lane's route", "name another [[rail]] or leave it out")
        }
        (Some(second), Some(_)) => return Some(second),
    };
    problems.push(table.problem("fallback", rule, remedy));
    None
}

/// The rail that a lane names; none for the book, and for a name that no rail has.
fn route<'a>(table: &Table, rails: &'a [Rail], problems: &mut Vec<Problem>) -> Option<&'a Rail> {
    let named = table.text("route").filter(|route| *route != rails::BOOK)?;
    let rail = rails.iter().find(|rail| rail.name == named);
    if rail.is_none() {
        let rule = "must be \"book\" or the name of a [[rail]]";
        problems.push(table.problem("route", rule, "correct the name or define the rail"));
    }
    rail
}

/// What lanes already have, by what it is, with the lane that has it.
#[derive(Default)]
struct Taken {
    names: BTreeMap<String, String>,
    consumers: BTreeMap<String, String>,
    schemes: BTreeMap<String, String>,
}

fn lane(
    table: &Table,
    schemes: &[Scheme],
    deadline: Duration,
    taken: &mut Taken,
    problems: &mut Vec<Problem>,
) -> Option<Lane> {
    let name = name(table, taken, problems);
    let consumer = consumer(table, name.as_ref(), taken, problems);
    let served = served(table, schemes, taken, problems);
    let limits = Limits {
        slots: table.whole("slots"),
        parked: table.whole("parked"),
        payload_bytes: table.whole("payload_bytes"),
        grace: table.span("grace"),
        expires: table.span("expires"),
    };
    let bad = limits.check(deadline);
    report(table, "", bad, problems);
    let in_progress = tracking::in_progress(table, problems);
    let retry = retry(table, problems);
    let breaker = BreakerPolicy::new(breaker(table)).map_err(|bad| report(table, "breaker.", bad, problems)).ok();
    let limit = limit(table, limits.slots, problems);
    let daily = daily_limits(table, problems);
    let rules = Rules::new(served?).with_horizon(table.whole("execution_horizon_days")).with_debtor_daily_limits(daily);
    let (retry, breaker, limit, in_progress) = (retry?, breaker?, limit?, in_progress?);
    Some(Lane { name: name?, consumer: consumer?, rules, limits, retry, breaker, limit, in_progress })
}

/// How the calls at once follow the rail; `Some(None)` where they do not.
fn limit(table: &Table, slots: u16, problems: &mut Vec<Problem>) -> Option<Option<LimitPolicy>> {
    let least = table.whole("limit.least");
    // A lane of one slot needs no word about it; what somebody wrote must mean something.
    if least > u32::from(slots) && table.is_given("limit.least") && !table.is_incomplete("") {
        let rule = BadSetting { field: "least", rule: "must not be above the lane's slots" };
        report(table, "limit.", vec![rule], problems);
    }
    let policy = LimitPolicy::new(least, table.whole("limit.slowdown"));
    let policy = policy.map_err(|bad| report(table, "limit.", bad, problems)).ok()?;
    Some(table.flag("limit.adaptive").then_some(policy))
}

/// Adds what a constructor found, unless a key of the same table has no value at all: that is a problem already, and
/// what follows from it would only confuse.
pub(super) fn report(table: &Table, prefix: &str, bad: Vec<BadSetting>, problems: &mut Vec<Problem>) {
    if table.is_incomplete(prefix) {
        return;
    }
    for BadSetting { field, rule } in bad {
        let key = format!("{prefix}{field}");
        problems.push(table.problem(&key, rule, "change this value or the one it depends on"));
    }
}

fn name(table: &Table, taken: &mut Taken, problems: &mut Vec<Problem>) -> Option<LaneName> {
    let text = table.text("name").unwrap_or_default();
    let Ok(name) = LaneName::parse(text) else {
        let rule = "must be 1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'";
        problems.push(table.problem("name", rule, "give the lane a name"));
        return None;
    };
    // Names that differ only so would share their environment variables.
    if let Some(other) = taken.names.insert(variable(text), text.to_owned()) {
        let rule = format!("must differ from lane {other} by more than case, '-' and '_'");
        problems.push(table.problem("name", rule, "rename one of the two lanes"));
    }
    Some(name)
}

fn consumer(table: &Table, name: Option<&LaneName>, taken: &mut Taken, problems: &mut Vec<Problem>) -> Option<String> {
    let name = name?;
    let consumer = table.text("consumer").map_or_else(|| format!("acquit-{name}"), str::to_owned);
    let fits = (1..=255).contains(&consumer.len())
        && consumer.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !fits {
        let rule = "must be 1 to 255 characters of A-Z, a-z, 0-9, '_' and '-'";
        problems.push(table.problem("consumer", rule, "write the consumer's name as `nats consumer ls` shows it"));
    }
    if let Some(other) = taken.consumers.insert(consumer.clone(), name.to_string()) {
        let rule = format!("must not be the consumer of lane {other}");
        problems.push(table.problem("consumer", rule, "give each lane a consumer of its own"));
    }
    Some(consumer)
}

fn served(table: &Table, defined: &[Scheme], taken: &mut Taken, problems: &mut Vec<Problem>) -> Option<Vec<Scheme>> {
    let before = problems.len();
    let names = table.texts("schemes");
    let mut schemes = Vec::with_capacity(names.len());
    for text in names {
        let own = || defined.iter().find(|scheme| scheme.name.as_str() == text).cloned();
        let known = SchemeName::parse(text).ok().and_then(|name| Scheme::built_in(&name)).or_else(own);
        match known {
            Some(scheme) => schemes.push(scheme),
            None => {
                let rule = "must name built-in schemes (book, sct, sct-inst, cbpr) or a [[scheme]] of the file";
                problems.push(table.problem("schemes", rule, "correct the name or define the scheme"));
            }
        }
        let lane = table.text("name").unwrap_or_default().to_owned();
        if let Some(other) = taken.schemes.insert(text.clone(), lane) {
            let rule = format!("must not name a scheme of lane {other}: both lanes would receive its events");
            problems.push(table.problem("schemes", rule, "leave each scheme to one lane"));
        }
    }
    if names.is_empty() {
        problems.push(table.problem("schemes", "must name at least one scheme", "write [\"book\"] for instance"));
    }
    (problems.len() == before).then_some(schemes)
}

/// What a debtor may spend a day, in each currency that has a limit.
fn daily_limits(table: &Table, problems: &mut Vec<Problem>) -> Vec<Money> {
    const KEY: &str = "debtor_daily_limits";
    let mut limits: Vec<Money> = Vec::new();
    for text in table.texts(KEY) {
        let limit = text.split_once('=').and_then(|(currency, value)| {
            let currency = Currency::parse(currency.trim())?;
            Money::new(Decimal::parse(value.trim())?.at_scale(currency.exponent())?, currency)
        });
        match limit {
            None => {
                let rule =
                    format!("must be amounts above zero with no more decimals than their currency has, not {text:?}");
                problems.push(table.problem(KEY, rule, "write [\"EUR=10000.00\"] for instance"));
            }
            Some(limit) if limits.iter().any(|other| other.currency() == limit.currency()) => {
                let rule = format!("must not name {} twice", limit.currency());
                problems.push(table.problem(KEY, rule, "leave one limit a currency"));
            }
            Some(limit) => limits.push(limit),
        }
    }
    limits
}

fn retry(table: &Table, problems: &mut Vec<Problem>) -> Option<RetryPolicy> {
    let mut backoff = |name: &'static str| {
        let (base, max) = (table.span(&format!("retry.{name}")), table.span(&format!("retry.{name}_max")));
        let bad = |bad: BadSetting| report(table, "retry.", vec![BadSetting { field: name, rule: bad.rule }], problems);
        Backoff::new(base, max).map_err(bad).ok()
    };
    let not_sent = backoff("not_sent");
    let store_lost = backoff("store_lost");
    let elsewhere = backoff("elsewhere");
    let interrupted = backoff("interrupted");
    let doubt = backoff("doubt");
    let delays = RetryDelays {
        not_sent: not_sent?,
        store_lost: store_lost?,
        elsewhere: elsewhere?,
        interrupted: interrupted?,
        doubt: doubt?,
    };
    RetryPolicy::new(table.whole("retry.attempts"), table.span("retry.age"), delays)
        .map_err(|bad| report(table, "retry.", vec![bad], problems))
        .ok()
}

fn breaker(table: &Table) -> BreakerSettings {
    let by_time = table.text("breaker.sliding_window_type") == Some("time");
    let name = "breaker.permitted_number_of_calls_in_half_open_state";
    BreakerSettings {
        sliding_window_type: if by_time { WindowType::Time } else { WindowType::Count },
        sliding_window_size: table.whole("breaker.sliding_window_size"),
        minimum_number_of_calls: table.whole("breaker.minimum_number_of_calls"),
        failure_rate_threshold: table.whole("breaker.failure_rate_threshold"),
        slow_call_rate_threshold: table.whole("breaker.slow_call_rate_threshold"),
        slow_call_duration_threshold: table.span("breaker.slow_call_duration_threshold"),
        wait_duration_in_open_state: table.span("breaker.wait_duration_in_open_state"),
        exponential_max_wait_duration_in_open_state: table.span("breaker.exponential_max_wait_duration_in_open_state"),
        randomized_wait_factor: table.factor("breaker.randomized_wait_factor"),
        permitted_number_of_calls_in_half_open_state: table.whole(name),
    }
}
