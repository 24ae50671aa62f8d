//! Where a value came from, and everything that is wrong with the configuration.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the file, counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// The command line.
    Flag,
}

/// One thing that is wrong. Neither text repeats the value: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key.
    pub key: String,
    /// Where its value came from.
    pub origin: Origin,
    /// The rule it breaks.
    pub rule: String,
    /// What to do about it.
    pub remedy: String,
}

/// Everything that is wrong with the configuration, by line; what is not in the file comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Problem>);

impl Origin {
    /// The order in which problems are listed: what is not in the file first.
    fn line(&self) -> usize {
        match self {
            Self::File { line, .. } => *line,
            Self::Default | Self::Env(_) | Self::Flag => 0,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => f.write_str(name),
            Self::Flag => f.write_str("command line"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}; {}", self.key, self.origin, self.rule, self.remedy)
    }
}

impl ConfigErrors {
    /// `None` where there is nothing wrong.
    pub(super) fn of(mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort_by_key(|problem| problem.origin.line());
        problems.dedup();
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// What stands in where settings could not be built though nothing was found: a bug, said rather than hidden.
    pub(super) fn unexplained() -> Self {
        Self(vec![Problem {
            key: "file".to_owned(),
            origin: Origin::Default,
            rule: "led to no settings and no problem was found".to_owned(),
            remedy: "report this as a bug, with the output of `acquit check --print-config`".to_owned(),
        }])
    }

    /// Each problem.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

/// One problem a line.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The name among `known` that was probably meant by `written`: at most a third of the letters after the last point
/// would have to change.
pub(super) fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = written.rsplit('.').next().unwrap_or(written).len().max(3);
    known
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(changes, _)| changes.saturating_mul(3) <= letters)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_nothing_far_off() {
        let known = ["broker.servers", "broker.stream", "store.path"];
        assert_eq!(nearest("broker.server", known.into_iter()), Some("broker.servers"));
        assert_eq!(nearest("brokr.stream", known.into_iter()), Some("broker.stream"));
        assert_eq!(nearest("colour", known.into_iter()), None);
        assert_eq!(nearest("store.colour", known.into_iter()), None);
    }
}
