//! `acquit unknown list`.

use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cli::provision::parse_span;
use crate::cli::setup::reader;
use crate::cli::{Exit, Failure, Global, load, out, print_json, stranded};
use crate::config::Config;
use crate::domain::{LaneName, Money, PaymentId, RailKey, millis};
use crate::operate::unknown::waits_for;
use crate::store::{ReadError, Reader, State, UnknownFilter, UnknownKey, UnknownLine, UnknownSums, heard_since};

pub(super) const EXAMPLES: &str = "Examples:
  acquit unknown list                              the oldest 100, and what there is in all
  acquit unknown list --lane instant --older-than 5m
  acquit unknown list --limit 10000 --json | jq '.payments[].payment_id'

A call that is under way right now is in the list: it may have reached the rail. --older-than leaves such out.";

/// Lines read at once.
const PAGE: u32 = 256;

/// Flags of `unknown list`.
#[derive(Debug, Clone, Args)]
pub(super) struct ListArgs {
    /// Held by this lane only
    #[arg(long, value_name = "LANE", value_parser = LaneName::parse)]
    lane: Option<LaneName>,
    /// In doubt for longer, as in 90s, 5m or 24h
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    older_than: Option<Duration>,
    /// Payments in the list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// One payment, as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    payment_id: PaymentId,
    state: &'static str,
    lane: String,
    rail: String,
    leg: u8,
    key: String,
    attempts: u32,
    not_found: u32,
    since: Timestamp,
    in_progress_at: Option<Timestamp>,
    age_s: i64,
    currency: &'static str,
    amount: String,
    waits_for: &'static str,
}

pub(super) fn run(global: &Global, args: &ListArgs) -> Result<Exit, Failure> {
    let config = load(global)?;
    let reader = reader(&config)?;
    let now = Timestamp::now();
    let span = SignedDuration::try_from(args.older_than.unwrap_or_default()).unwrap_or(SignedDuration::MAX);
    // Without a bound also what another machine's clock has recorded ahead of ours.
    let before = match args.older_than {
        Some(_) => now.checked_sub(span).unwrap_or(Timestamp::UNIX_EPOCH),
        None => Timestamp::MAX,
    };
    let failed = |e: ReadError| Failure::new(Exit::Unavailable, format!("store {}: {e}", config.store.shown()));
    let filter = UnknownFilter { lane: args.lane.clone(), before };
    let lines = lines(&reader, &filter, args.limit).map_err(failed)?;
    let sums = reader.unknown_sums(Timestamp::MAX, heard_since(now)).map_err(failed)?;
    let shown: Vec<_> = lines.iter().map(|line| show(line, &config, now)).collect();
    let (unknown, working) = (&sums.unknown, &sums.in_progress);
    if global.json {
        let working = json!({ "count": working.count, "oldest": working.oldest, "money": money(working) });
        print_json(&json!({
            "count": unknown.count, "oldest": unknown.oldest, "money": money(unknown), "in_progress": working,
            "payments": shown,
        }));
    } else {
        shown.iter().for_each(|payment| out(&line(payment)));
        out(&format!("{} in doubt in the store{}", unknown.count, in_words(unknown)));
        if working.count > 0 {
            out(&format!("{} more that their rail says to work on{}", working.count, in_words(working)));
        }
    }
    Ok(Exit::Done)
}

fn money(sums: &UnknownSums) -> Map<String, Value> {
    sums.money
        .iter()
        .map(|(code, (currency, minor))| ((*code).to_owned(), Money::format(*minor, *currency).into()))
        .collect()
}

fn in_words(sums: &UnknownSums) -> String {
    let each =
        sums.money.iter().map(|(code, (currency, minor))| format!("{code} {}", Money::format(*minor, *currency)));
    let money: Vec<_> = each.collect();
    if money.is_empty() { String::new() } else { format!(": {}", money.join(", ")) }
}

fn lines(reader: &Reader, filter: &UnknownFilter, limit: u32) -> Result<Vec<UnknownLine>, ReadError> {
    let (mut lines, mut after, mut left) = (Vec::new(), UnknownKey::default(), limit);
    while left > 0 {
        let page = reader.unknown_after(filter, after, left.min(PAGE))?;
        let Some(last) = page.last() else { break };
        after = last.key();
        left = left.saturating_sub(u32::try_from(page.len()).unwrap_or(u32::MAX));
        lines.extend(page);
    }
    Ok(lines)
}

fn show(line: &UnknownLine, config: &Config, now: Timestamp) -> Shown {
    let age = now.duration_since(line.since);
    let retention = config.rails.iter().find(|rail| rail.name == line.rail).map(|rail| rail.terms.key_retention);
    let forgotten = retention.is_some_and(|keeps| Duration::try_from(age).unwrap_or_default() > keeps / 2);
    let in_progress = line.state == State::Open && line.in_progress_at.is_some_and(|at| at >= heard_since(now));
    let claimed = line.claimed_until.is_some_and(|until| until > now);
    Shown {
        payment_id: line.payment_id.clone(),
        state: line.state.word(),
        lane: line.lane.to_string(),
        rail: line.rail.clone(),
        leg: line.leg,
        key: RailKey::of(&line.payment_id, line.leg).as_str().to_owned(),
        attempts: line.attempts,
        not_found: line.not_found,
        since: line.since,
        in_progress_at: line.in_progress_at,
        age_s: age.as_secs(),
        currency: line.amount.currency().code(),
        amount: line.amount.value(),
        waits_for: if stranded::has(config, &line.lane, &line.rail) {
            waits_for(line.state, claimed, forgotten, in_progress)
        } else {
            stranded::WAITS_FOR
        },
    }
}

fn line(payment: &Shown) -> String {
    let Shown { payment_id, state, lane, rail, leg, key, attempts, age_s, currency, amount, waits_for, .. } = payment;
    let said = payment.in_progress_at.map_or_else(String::new, |at| format!(" (it said so {})", millis(at)));
    format!(
        "{payment_id}  {currency} {amount}  {state} for {age_s} s  lane {lane}, rail {rail}, key {key} (leg {leg}), \
         attempts {attempts}\n  waits for {waits_for}{said}"
    )
}
