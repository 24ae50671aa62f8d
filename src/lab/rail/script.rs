//! How the stand-in behaves: read once, pure, the same for the same seed and key.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// A script.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Another seed has other keys behave badly.
    #[serde(default)]
    pub seed: u64,
    /// The least and the longest time before a reply.
    pub latency: Option<[SignedDuration; 2]>,
    /// Becomes slower, evenly, from the start on.
    pub slows: Option<Slows>,
    /// POSTs that are worked on at once; the others wait. Without it all are.
    pub capacity: Option<u16>,
    /// Whether a second POST with a key has no second effect. A rail that has forgotten its keys is like `false`: only
    /// whoever never sends twice what may have arrived pays once.
    #[serde(default = "yes")]
    pub idempotent: bool,
    /// The bearer token that is asked for.
    pub token_file: Option<PathBuf>,
    /// The first that applies is taken.
    #[serde(default, rename = "behaviour")]
    pub behaviours: Vec<Behaviour>,
}

/// How the time before a reply grows.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slows {
    /// The least and the longest in the end.
    pub to: [SignedDuration; 2],
    /// How long that takes.
    pub within: SignedDuration,
}

/// One way to behave.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    /// What it does.
    pub kind: Kind,
    /// The share of keys, 0 to 1.
    #[serde(default = "all")]
    pub share: f64,
    /// How many requests with the same key; all without it.
    pub times: Option<u32>,
    /// Since the start.
    #[serde(default)]
    pub from: SignedDuration,
    /// Since the start; for ever without it.
    pub until: Option<SignedDuration>,
    /// Of `error`, `stored_error`, `inquiry_error`.
    #[serde(default = "server_error")]
    pub status: u16,
    /// Seconds, of `too_many`.
    #[serde(default)]
    pub retry_after: u64,
    /// When `in_progress` settles.
    #[serde(default)]
    pub after: SignedDuration,
    /// Of `reject`.
    #[serde(default = "reason")]
    pub code: String,
}

/// What a behaviour does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A status, nothing processed.
    Error,
    /// 429.
    TooMany,
    /// 401.
    Deny,
    /// No reply, nothing processed.
    Hang,
    /// The connection is closed, nothing processed.
    Reset,
    /// Settled; a status now and at each later POST with the key.
    StoredError,
    /// Processed, no reply.
    HangAfter,
    /// Processed, the connection is closed.
    LoseReply,
    /// Processed, 200 with a body that says nothing.
    WrongBody,
    /// Taken; settled after a time.
    InProgress,
    /// Refused.
    Reject,
    /// A GET does not find what is there.
    Lie,
    /// A GET is answered with a status.
    InquiryError,
}

/// Why a script cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The file.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Its TOML.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// Its JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A value.
    #[error("{0}")]
    Value(&'static str),
}

impl Default for Script {
    fn default() -> Self {
        Self {
            seed: 0,
            latency: None,
            slows: None,
            capacity: None,
            idempotent: true,
            token_file: None,
            behaviours: Vec::new(),
        }
    }
}

fn yes() -> bool {
    true
}

fn all() -> f64 {
    1.0
}

fn server_error() -> u16 {
    500
}

fn reason() -> String {
    "AC04".to_owned()
}

impl Kind {
    /// Whether it is about inquiries.
    fn is_of_inquiries(self) -> bool {
        matches!(self, Self::Lie | Self::InquiryError)
    }
}

impl Script {
    /// Reads a file, as JSON where its name ends so.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Self, ScriptError> {
        let text = std::fs::read_to_string(path)?;
        if path.extension().is_some_and(|ending| ending == "json") {
            return serde_json::from_str::<Self>(&text)?.checked();
        }
        Self::parse(&text)
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        toml::from_str::<Self>(text)?.checked()
    }

    fn checked(self) -> Result<Self, ScriptError> {
        let [least, most] = self.latency.unwrap_or_default();
        let mut spans = self.behaviours.iter().flat_map(|b| [b.from, b.after, b.until.unwrap_or_default()]);
        let [slow, slowest] = self.slows.map(|slows| slows.to).unwrap_or_default();
        let within = self.slows.is_none_or(|slows| slows.within.is_positive());
        let rules = [
            (!slow.is_negative() && slow <= slowest && within, "slows: to the least and the longest, within a time"),
            (self.capacity != Some(0), "capacity: at least 1"),
            (!least.is_negative() && least <= most, "latency: the least first, then the longest"),
            (!spans.any(|span| span.is_negative()), "no time is negative"),
            (self.behaviours.iter().all(|b| (0.0..=1.0).contains(&b.share)), "share: from 0 to 1"),
            (self.behaviours.iter().all(|b| (200..=599).contains(&b.status)), "status: from 200 to 599"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(ScriptError::Value(rule)),
            None => Ok(self),
        }
    }

    /// What to do about the `nth` request (from 1) with `key`, a POST or an inquiry, so long after the start.
    #[must_use]
    pub fn behaviour(&self, key: &str, nth: u32, inquiry: bool, since: Duration) -> Option<&Behaviour> {
        let since = SignedDuration::try_from(since).unwrap_or(SignedDuration::MAX);
        let applies = |(index, behaviour): &(usize, &Behaviour)| {
            behaviour.kind.is_of_inquiries() == inquiry
                && behaviour.times.is_none_or(|times| nth <= times)
                && since >= behaviour.from
                && behaviour.until.is_none_or(|until| since < until)
                && self.chance(key, &index.to_string()) < behaviour.share
        };
        self.behaviours.iter().enumerate().find(applies).map(|(_, behaviour)| behaviour)
    }

    /// The time before a reply, so long after the start.
    #[must_use]
    pub fn latency(&self, key: &str, nth: u32, since: Duration) -> Duration {
        let [least, most] = self.latency.unwrap_or_default().map(|span| Duration::try_from(span).unwrap_or_default());
        let [least, most] = match &self.slows {
            None => [least, most],
            Some(Slows { to: [slow, slowest], within }) => {
                let part = (since.as_secs_f64() / within.as_secs_f64()).min(1.0);
                [(least, slow), (most, slowest)].map(|(from, to)| {
                    let to = Duration::try_from(*to).unwrap_or_default();
                    from.mul_f64(1.0 - part).saturating_add(to.mul_f64(part))
                })
            }
        };
        let spread = most.saturating_sub(least);
        least.saturating_add(spread.mul_f64(self.chance(key, &format!("latency {nth}"))))
    }

    /// From 0 to below 1, the same for the same seed, key and purpose.
    fn chance(&self, key: &str, purpose: &str) -> f64 {
        let digest = Sha256::new().chain_update(self.seed.to_be_bytes()).chain_update(purpose).chain_update([0]);
        let [a, b, c, d, ..]: [u8; 32] = digest.chain_update(key).finalize().into();
        f64::from(u32::from_be_bytes([a, b, c, d])) / 4_294_967_296.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_keys_behaves_so_and_the_same_ones_each_time() {
        let script = Script::parse("seed = 3\n[[behaviour]]\nkind = \"lose_reply\"\nshare = 0.05\n").expect("valid");
        let hit = |key: &u32| script.behaviour(&key.to_string(), 1, false, Duration::ZERO).is_some();
        let hits: Vec<u32> = (0..10_000).filter(hit).collect();
        assert!((400..600).contains(&hits.len()), "{}", hits.len());
        assert_eq!(hits, (0..10_000).filter(hit).collect::<Vec<_>>());
        let other = Script { seed: 4, ..script.clone() };
        let others: Vec<u32> = (0..10_000)
            .filter(|key: &u32| other.behaviour(&key.to_string(), 1, false, Duration::ZERO).is_some())
            .collect();
        assert_ne!(hits, others);
    }

    #[test]
    fn windows_times_and_the_order_of_behaviours_hold() {
        let text = "[[behaviour]]\nkind = \"error\"\nfrom = \"1s\"\nuntil = \"2s\"\nstatus = 503\n\
                    [[behaviour]]\nkind = \"reset\"\ntimes = 2\n[[behaviour]]\nkind = \"lie\"\n";
        let script = Script::parse(text).expect("valid");
        let at = |nth, inquiry, ms| script.behaviour("k", nth, inquiry, Duration::from_millis(ms)).map(|b| b.kind);
        assert_eq!(at(1, false, 0), Some(Kind::Reset));
        assert_eq!(at(1, false, 1_000), Some(Kind::Error));
        assert_eq!(at(2, false, 2_000), Some(Kind::Reset));
        assert_eq!(at(3, false, 2_000), None);
        assert_eq!(at(9, true, 0), Some(Kind::Lie));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [
            "sede = 1",
            "latency = [\"2s\", \"1s\"]",
            "slows = { to = [\"1s\", \"1s\"], within = \"0s\" }",
            "capacity = 0",
            "[[behaviour]]\nkind = \"explode\"",
            "[[behaviour]]\nkind = \"error\"\nshare = 2.0",
            "[[behaviour]]\nkind = \"error\"\nstatus = 100",
            "[[behaviour]]\nkind = \"error\"\nfrom = \"-1s\"",
        ] {
            assert!(Script::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Script::parse("latency = [\"5ms\", \"5ms\"]").expect("valid").latency("k", 1, Duration::ZERO),
            Duration::from_millis(5)
        );
        let text = "latency = [\"0s\", \"0s\"]\nslows = { to = [\"1s\", \"1s\"], within = \"10s\" }";
        let slows = Script::parse(text).expect("valid");
        let after = |seconds| slows.latency("k", 1, Duration::from_secs(seconds)).as_millis();
        assert_eq!([0, 5, 10, 99].map(after), [0, 500, 1_000, 1_000]);
    }
}
