//! Why an operator's command did not do its work, cut by what to do next.

use crate::broker::{ApiError, Broker, PublishError, Wire, WireError};
use crate::store::ReadError;

/// Why a command ended without its result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The broker denies a permission that this role needs: change its user, or use another one.
    #[error("the broker denies a permission: {what}")]
    Denied {
        /// The server's words.
        what: String,
    },
    /// No answer from the broker: try again.
    #[error("the broker is out of reach: {what}")]
    BrokerLost {
        /// What was asked, and how it ended.
        what: String,
    },
    /// The broker answered and refuses: trying again does not help.
    #[error("the broker refuses: {what}")]
    Refused {
        /// What was asked, and the server's words.
        what: String,
    },
    /// The store was not read.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// What was named is not there.
    #[error("{what} does not exist")]
    NotThere {
        /// What was named.
        what: String,
    },
    /// The input cannot be used.
    #[error("{what}")]
    BadInput {
        /// What is wrong with it.
        what: String,
    },
    /// A file of this command's own cannot be used.
    #[error("{what}")]
    Local {
        /// Which, and why.
        what: String,
    },
}

impl Trouble {
    /// A failed API request, seen by whoever made it: a request that is denied is never answered, so a missing answer
    /// is a denial where the server has said that it denies one.
    pub(crate) fn of_api<W: Wire>(broker: &Broker<W>, error: ApiError) -> Self {
        match error {
            ApiError::Wire { subject, cause } => denied(broker, cause, &subject)
                .unwrap_or_else(|| Self::BrokerLost { what: format!("{subject}: {cause}") }),
            ApiError::NotFound { what } => Self::NotThere { what },
            ApiError::Refused { .. } | ApiError::Unreadable { .. } => Self::Refused { what: error.to_string() },
        }
    }

    /// Says what is not there in the caller's words.
    pub(super) fn naming(self, what: impl FnOnce() -> String) -> Self {
        if matches!(self, Self::NotThere { .. }) { Self::NotThere { what: what() } } else { self }
    }

    /// The same for a publication on `subject`.
    pub(crate) fn of_publish<W: Wire>(broker: &Broker<W>, subject: &str, error: &PublishError) -> Self {
        match error {
            PublishError::Unconfirmed(cause) => denied(broker, *cause, subject)
                .unwrap_or_else(|| Self::BrokerLost { what: format!("no confirmation for {subject}: {cause}") }),
            PublishError::Refused { .. }
            | PublishError::NotTheStream { .. }
            | PublishError::Collision { .. }
            | PublishError::OtherEvent => Self::Refused { what: format!("{subject}: {error}") },
        }
    }
}

/// The denial behind a missing answer, if the server has named this very subject.
pub(super) fn denied<W: Wire>(broker: &Broker<W>, cause: WireError, subject: &str) -> Option<Trouble> {
    match cause {
        WireError::TimedOut => {}
        WireError::NoResponders | WireError::Disconnected | WireError::Busy => return None,
    }
    let what = broker.link().borrow().denied.clone()?;
    concerns(&what, subject).then_some(Trouble::Denied { what })
}

/// Whether a denial explains that a request on `subject` has no answer. Only the last denial is known, so that of many
/// publications under way one speaks for all on subjects of its kind; without its inbox no request is answered.
fn concerns(denial: &str, subject: &str) -> bool {
    let mut tokens = subject.splitn(3, '.');
    let kind = match (tokens.next(), tokens.next()) {
        (Some("payments"), Some(word)) => format!("\"payments.{word}."),
        (_, _) => subject.to_owned(),
    };
    denial.contains(&kind) || denial.contains("Subscription to")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_speaks_for_its_own_kind_of_subject() {
        let denial = r#"Permissions Violation for Publish to "payments.requested.book.k1""#;
        assert!(concerns(denial, "payments.requested.sct.k2"));
        assert!(!concerns(denial, "payments.audit.redrive.PAYMENTS.1.2.1"));
        assert!(!concerns(denial, "$JS.API.STREAM.INFO.PAYMENTS"));
        assert!(concerns(r#"Permissions Violation for Publish to "$JS.API.STREAM.INFO.P""#, "$JS.API.STREAM.INFO.P"));
        assert!(concerns(r#"Permissions Violation for Subscription to "_INBOX.x.r.*""#, "$JS.API.STREAM.INFO.P"));
    }
}
