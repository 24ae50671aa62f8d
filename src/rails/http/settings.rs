//! What a rail over HTTP is made of, checked: a running rail never meets a bad setting.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderName;

use super::{Mapping, Template};
use crate::domain::RailKey;
use crate::rails::Terms;
use crate::resilience::BadSetting;

/// Everything about one rail. Secrets are in files; only their paths are here.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Its name, kept with every attempt.
    pub name: String,
    /// Where payments are posted to.
    pub url: Url,
    /// Where the rail is asked about a key; without it an unknown outcome waits for a person.
    pub inquiry: Option<InquiryUrl>,
    /// What is posted.
    pub body: Template,
    /// How its replies are read.
    pub mapping: Mapping,
    /// The header that carries the key.
    pub key_header: HeaderName,
    /// A bearer token.
    pub token_file: Option<PathBuf>,
    /// Other headers, each from a file.
    pub headers: Vec<(HeaderName, PathBuf)>,
    /// Authorities that may vouch for the rail; those of the system without it.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and its key (PEM).
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// Its promises about time.
    pub terms: Terms,
    /// How long a connection may take; at most half of the deadline.
    pub connect_timeout: Duration,
    /// Submissions under way at once.
    pub connections: u16,
    /// Inquiries under way at once; they have connections of their own.
    pub inquiries: u16,
}

/// A URL with `{key}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InquiryUrl(String);

/// Headers that the rail or the protocol sets.
const OWN_HEADERS: [&str; 8] =
    ["accept", "connection", "content-length", "content-type", "expect", "host", "te", "transfer-encoding"];

impl HttpSettings {
    /// Every rule that is broken.
    #[must_use]
    pub fn check(&self) -> Vec<BadSetting> {
        let Terms { longest_execution, key_retention, deadline } = self.terms;
        let half = |whole: Duration| whole.checked_div(2).unwrap_or_default();
        let carried = |name: &HeaderName| {
            OWN_HEADERS.contains(&name.as_str())
                || *name == self.key_header
                || (self.token_file.is_some() && *name == reqwest::header::AUTHORIZATION)
        };
        let rules = [
            (self.connections >= 1, "connections", "must be at least 1"),
            (self.inquiries >= 1, "inquiries", "must be at least 1"),
            (
                !self.connect_timeout.is_zero() && self.connect_timeout <= half(deadline),
                "connect_timeout",
                "must be at most half of deadline: what is sent later could outlast it",
            ),
            (
                longest_execution.saturating_add(deadline.saturating_mul(2)) <= half(key_retention),
                "key_retention",
                "must be at least twice longest_execution and twice the deadline together",
            ),
            (
                !self.headers.iter().any(|(name, _)| carried(name)),
                "headers",
                "must not name a header that is set already",
            ),
        ];
        rules.into_iter().filter(|(holds, _, _)| !holds).map(|(_, field, rule)| BadSetting { field, rule }).collect()
    }
}

impl InquiryUrl {
    /// Reads a template that has `{key}` in its path or query, and no other placeholder.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.split_once("{key}")?;
        let in_path = before.split_once("://")?.1.contains(['/', '?']);
        let others = [before, &after.replace("{key}", "")].into_iter().any(|part| part.contains(['{', '}']));
        let url = Url::parse(&text.replace("{key}", "0")).ok()?;
        (in_path && !others && url.fragment().is_none()).then(|| Self(text.to_owned()))
    }

    /// The address with a key in place, or `None` where it is none any more: never after [`InquiryUrl::parse`].
    pub(super) fn of(&self, key: &RailKey) -> Option<Url> {
        Url::parse(&self.0.replace("{key}", key.as_str())).ok()
    }

    /// The address for a key of zeros: what is checked about scheme and host.
    #[must_use]
    pub fn sample(&self) -> Option<Url> {
        Url::parse(&self.0.replace("{key}", "0")).ok()
    }
}
