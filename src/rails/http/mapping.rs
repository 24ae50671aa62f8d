//! What a rail's reply means. The one table; everything that is not named here is unknown.
//!
//! | heard on a submission | answer |
//! | --- | --- |
//! | no name, no connection, no TLS session, none free, own secret not readable | `NotSent` |
//! | no reply in time, connection lost after it stood, reply cut short | `Unknown` |
//! | 401, 403, 404 | `NotSent(OurFault)`: opens the breaker, refuses nobody |
//! | 429, and statuses the rail's contract names | `NotSent(SaidNotProcessed)` with its `Retry-After` |
//! | 2xx, or 4xx but 408, with a status word of the mapping | what the word means |
//! | 422 without one | `Blocked`: the key was used with another body, a person looks |
//! | 408, 409 and other 4xx without one, 3xx, 5xx, a stored 500 | `Unknown` |
//! | 2xx without one, not JSON, too large, settled without its reference | `Unknown` |
//!
//! | heard on an inquiry | finding |
//! | --- | --- |
//! | 2xx with a status word | what the word means |
//! | 404 or 410 whose body has a word for "not found" | `NotFound` |
//! | anything else, a bare 404 included | `CannotSay` |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::domain::{Answer, Code, Finding, NotSent, RailKey, RailRef};
use crate::resilience::BadSetting;

/// What a status word of the rail means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Done, final.
    Settled,
    /// Taken, not final.
    InProgress,
    /// Refused, final.
    Rejected,
    /// Refused; a new attempt under a new key is allowed.
    Resubmit,
    /// Neither credited nor returned.
    Blocked,
    /// The rail does not know the key.
    NotFound,
}

/// A mapping as it is configured, not checked yet.
#[derive(Debug, Clone, Default)]
pub struct MappingParts {
    /// JSON pointer to the status word.
    pub status: String,
    /// JSON pointer to the rail's reference; the rail key is the reference without one.
    pub reference: Option<String>,
    /// JSON pointer to the reason code of a refusal.
    pub reason: Option<String>,
    /// Words of a settled payment.
    pub settled: Vec<String>,
    /// Words of one under way.
    pub in_progress: Vec<String>,
    /// Words of a refusal.
    pub rejected: Vec<String>,
    /// Words of a refusal that allows a new attempt.
    pub resubmit: Vec<String>,
    /// Words of one that waits for a person.
    pub blocked: Vec<String>,
    /// Words for a key that the rail does not know.
    pub not_found: Vec<String>,
    /// Reason codes of the rail that allow a new attempt.
    pub resubmit_reasons: Vec<String>,
    /// `<the rail's reason>=<code of Acquit>`, each.
    pub codes: Vec<String>,
    /// The code of a refusal without one that is known.
    pub default_code: String,
    /// HTTP statuses that by contract mean "not processed".
    pub not_processed: Vec<String>,
}

/// How a rail's replies are read.
#[derive(Debug, Clone)]
pub struct Mapping {
    status: String,
    reference: Option<String>,
    reason: Option<String>,
    words: BTreeMap<String, Meaning>,
    resubmit_reasons: BTreeSet<String>,
    codes: BTreeMap<String, Code>,
    default_code: Code,
    not_processed: BTreeSet<u16>,
}

/// What came of one call, before it means anything.
#[derive(Debug)]
pub(super) enum Heard {
    /// Nothing was sent.
    Unreached(NotSent),
    /// Something may have been sent, and there is no reply.
    Nothing,
    /// A status line came.
    Reply(Reply),
}

/// A reply.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    /// `None` where it is not JSON, too large, or did not come whole.
    pub(super) body: Option<Value>,
}

/// The body may hold names and accounts.
impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reply({}, ..)", self.status)
    }
}

// === impl Mapping ===

impl Mapping {
    /// Checks a mapping.
    ///
    /// # Errors
    /// Every rule that is broken.
    pub fn new(parts: MappingParts) -> Result<Self, Vec<BadSetting>> {
        let mut bad = Vec::new();
        let mut rule = |holds: bool, field: &'static str, rule: &'static str| {
            if !holds {
                bad.push(BadSetting { field, rule });
            }
        };
        rule(is_pointer(&parts.status), "status", POINTER);
        rule(parts.reference.as_deref().is_none_or(is_pointer), "reference", POINTER);
        rule(parts.reason.as_deref().is_none_or(is_pointer), "reason", POINTER);
        rule(!parts.settled.is_empty(), "settled", "must name at least one word");
        let mut words = BTreeMap::new();
        let meanings = [
            ("settled", Meaning::Settled, parts.settled),
            ("in_progress", Meaning::InProgress, parts.in_progress),
            ("rejected", Meaning::Rejected, parts.rejected),
            ("resubmit", Meaning::Resubmit, parts.resubmit),
            ("blocked", Meaning::Blocked, parts.blocked),
            ("not_found", Meaning::NotFound, parts.not_found),
        ];
        for (field, meaning, named) in meanings {
            for word in named {
                rule(words.insert(word, meaning).is_none(), field, "must not name a word that has a meaning already");
            }
        }
        let mut codes = BTreeMap::new();
        for pair in &parts.codes {
            let known = pair.split_once('=').and_then(|(theirs, ours)| Some((theirs, Code::parse(ours)?)));
            rule(known.is_some(), "codes", "must be pairs such as \"insufficient_funds=AM04\" with a code of Acquit");
            codes.extend(known.map(|(theirs, ours)| (theirs.to_owned(), ours)));
        }
        let default_code = Code::parse(&parts.default_code);
        rule(default_code.is_some(), "default_code", "must be a code of Acquit");
        let statuses: Option<BTreeSet<u16>> = parts.not_processed.iter().map(|text| not_processed(text)).collect();
        rule(statuses.is_some(), "not_processed", NOT_PROCESSED);
        let (Some(default_code), Some(statuses), true) = (default_code, statuses, bad.is_empty()) else {
            return Err(bad);
        };
        Ok(Self {
            status: parts.status,
            reference: parts.reference,
            reason: parts.reason,
            words,
            resubmit_reasons: parts.resubmit_reasons.into_iter().collect(),
            codes,
            default_code,
            not_processed: statuses,
        })
    }

    /// The table for a submission.
    pub(super) fn answer(&self, heard: &Heard, key: &RailKey) -> Answer {
        let reply = match heard {
            Heard::Unreached(why) => return Answer::NotSent(why.clone()),
            Heard::Nothing => return Answer::Unknown,
            Heard::Reply(reply) => reply,
        };
        let not_processed = || NotSent::SaidNotProcessed { retry_after: reply.retry_after };
        match reply.status {
            401 | 403 | 404 => return Answer::NotSent(NotSent::OurFault),
            429 => return Answer::NotSent(not_processed()),
            200..=299 | 400..=407 | 409..=499 => {
                let said = self.meaning(reply).and_then(|meaning| self.said(meaning, reply, key));
                if let Some(said) = said {
                    return said;
                }
            }
            _ => {}
        }
        match reply.status {
            status if self.not_processed.contains(&status) => Answer::NotSent(not_processed()),
            422 => Answer::Blocked,
            _ => Answer::Unknown,
        }
    }

    /// The table for an inquiry.
    pub(super) fn finding(&self, heard: &Heard, key: &RailKey) -> Finding {
        let reply = match heard {
            Heard::Unreached(_) | Heard::Nothing => return Finding::CannotSay,
            Heard::Reply(reply) => reply,
        };
        match (reply.status, self.meaning(reply)) {
            (200..=299 | 404 | 410, Some(Meaning::NotFound)) => Finding::NotFound,
            (200..=299, Some(meaning)) => self.said(meaning, reply, key).map_or(Finding::CannotSay, Finding::Answered),
            _ => Finding::CannotSay,
        }
    }

    fn meaning(&self, reply: &Reply) -> Option<Meaning> {
        self.words.get(&text(reply.body.as_ref()?.pointer(&self.status)?)?).copied()
    }

    /// `None` where the word says less than it should: a settlement without its reference, a submission not found.
    fn said(&self, meaning: Meaning, reply: &Reply, key: &RailKey) -> Option<Answer> {
        let at = |pointer: &Option<String>| text(reply.body.as_ref()?.pointer(pointer.as_deref()?)?);
        match meaning {
            Meaning::Settled if self.reference.is_none() => RailRef::parse(key.as_str()).ok().map(Answer::Settled),
            Meaning::Settled => RailRef::parse(&at(&self.reference)?).ok().map(Answer::Settled),
            Meaning::InProgress => Some(Answer::InProgress),
            Meaning::Rejected | Meaning::Resubmit => {
                let reason = at(&self.reason).unwrap_or_default();
                let code = self.codes.get(&reason).copied().or_else(|| Code::parse(&reason));
                let resubmit = meaning == Meaning::Resubmit || self.resubmit_reasons.contains(&reason);
                Some(Answer::Rejected { code: code.unwrap_or(self.default_code), resubmit })
            }
            Meaning::Blocked => Some(Answer::Blocked),
            Meaning::NotFound => None,
        }
    }
}

const POINTER: &str = "must be a JSON pointer (RFC 6901), such as \"/data/status\"";

const NOT_PROCESSED: &str = "must be statuses from 400 to 599 that can prove it: not 401, 403, 404 (ours), not 408, \
                             409, 422, 500, 502, 504 (they prove nothing), not 429 (it always does)";

fn is_pointer(text: &str) -> bool {
    text.starts_with('/') && text.split('~').skip(1).all(|after| after.starts_with(['0', '1']))
}

fn not_processed(text: &str) -> Option<u16> {
    let status: u16 = text.parse().ok()?;
    let can = (400..=599).contains(&status) && ![401, 403, 404, 408, 409, 422, 429, 500, 502, 504].contains(&status);
    can.then_some(status)
}

/// A word as JSON has it: a string, a whole number or a truth value.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
