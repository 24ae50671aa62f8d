//! Exit codes (after `sysexits.h`) and failures that carry one.

use std::fmt;

use crate::broker::{ApiError, ConnectError, PublishError, WireError};
use crate::operate::Trouble;
use crate::store::{OpenError, PostgresError, ReadError};

/// How a verb ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, clean.
    Done = 0,
    /// It found what it looks for.
    Found = 1,
    /// Wrong usage.
    Usage = 2,
    /// Bad configuration.
    Config = 64,
    /// Bad input data.
    Data = 65,
    /// Broker, store or rail out of reach.
    Unavailable = 69,
    /// A bug of ours.
    Bug = 70,
    /// `run` ended with work handed back.
    HandedBack = 75,
    /// Refused by the broker's permissions.
    Denied = 77,
}

impl Exit {
    /// The process's exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Found => 1,
            Self::Usage => 2,
            Self::Config => 64,
            Self::Data => 65,
            Self::Unavailable => 69,
            Self::Bug => 70,
            Self::HandedBack => 75,
            Self::Denied => 77,
        }
    }
}

/// Why a verb could not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong and what to do.
    pub message: String,
}

impl Failure {
    /// A failure with a message that names the remedy.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let exit = match &error {
            ConnectError::Unreachable { .. } => Exit::Unavailable,
            ConnectError::Refused(_) => Exit::Denied,
            ConnectError::Settings(_) => Exit::Config,
        };
        let remedy = match exit {
            Exit::Unavailable => "; check broker.servers and that nats-server runs",
            Exit::Denied => "; check the credentials in [broker]",
            Exit::Done | Exit::Found | Exit::Usage | Exit::Config | Exit::Data | Exit::Bug | Exit::HandedBack => "",
        };
        Self::new(exit, format!("{error}{remedy}"))
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let exit = match &error {
            ApiError::Wire { .. } | ApiError::NotFound { .. } => Exit::Unavailable,
            ApiError::Refused { .. } => Exit::Unavailable,
            ApiError::Unreadable { .. } => Exit::Bug,
        };
        let remedy = match &error {
            ApiError::Wire { cause: WireError::TimedOut, .. } => {
                "; a permission that is denied looks like this too: see the log above"
            }
            ApiError::Wire { cause: WireError::NoResponders, .. } => "; is JetStream enabled for this account?",
            ApiError::Refused { code: 10_074 | 10_052, .. } => "; one server cannot keep 3 copies: use --replicas 1",
            ApiError::NotFound { .. } => "; run `acquit provision`",
            ApiError::Wire { .. } | ApiError::Refused { .. } | ApiError::Unreadable { .. } => "",
        };
        Self::new(exit, format!("{error}{remedy}"))
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        Self::new(Exit::Unavailable, error.to_string())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::new(Exit::Unavailable, error.to_string())
    }
}

impl From<PostgresError> for Failure {
    fn from(error: PostgresError) -> Self {
        let exit = match &error {
            PostgresError::Url { .. } | PostgresError::File { .. } | PostgresError::Tls(_) => Exit::Config,
            PostgresError::Unreachable(_)
            | PostgresError::Refused(_)
            | PostgresError::Missing { .. }
            | PostgresError::SchemaTooOld { .. }
            | PostgresError::SchemaTooNew { .. }
            | PostgresError::NotAStore { .. } => Exit::Unavailable,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::new(Exit::Unavailable, format!("store: {error}; check [store]"))
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        let (exit, remedy) = match &trouble {
            Trouble::Denied { .. } => (Exit::Denied, "; use a user that may, see nats/"),
            Trouble::BrokerLost { .. } => {
                (Exit::Unavailable, "; check broker.servers, and that JetStream is enabled for this account")
            }
            // Such as `message delete not permitted`, of a stream that denies it.
            Trouble::Refused { what } if what.contains("permission") || what.contains("not permitted") => {
                (Exit::Denied, "")
            }
            Trouble::NotThere { what } if what.starts_with("consumer") || what.starts_with("stream") => {
                (Exit::Unavailable, "; run `acquit provision`")
            }
            Trouble::Store(_) => (Exit::Unavailable, "; check [store]"),
            Trouble::Refused { .. } | Trouble::NotThere { .. } | Trouble::Local { .. } => (Exit::Unavailable, ""),
            Trouble::BadInput { .. } => (Exit::Data, ""),
        };
        Self::new(exit, format!("{trouble}{remedy}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_trouble_has_the_exit_code_of_what_to_do_next() {
        let what = |text: &str| text.to_owned();
        for (trouble, exit) in [
            (Trouble::Denied { what: what("x") }, Exit::Denied),
            (Trouble::BrokerLost { what: what("x") }, Exit::Unavailable),
            (Trouble::Refused { what: what("stream full") }, Exit::Unavailable),
            (Trouble::Refused { what: what("message delete not permitted") }, Exit::Denied),
            (Trouble::Store(ReadError::Missing), Exit::Unavailable),
            (Trouble::NotThere { what: what("dead letter 7") }, Exit::Unavailable),
            (Trouble::BadInput { what: what("x") }, Exit::Data),
            (Trouble::Local { what: what("x") }, Exit::Unavailable),
        ] {
            assert_eq!(Failure::from(trouble.clone()).exit, exit, "{trouble}");
        }
    }
}
