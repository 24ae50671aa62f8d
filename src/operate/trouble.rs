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
    what.contains(subject).then_some(Trouble::Denied { what })
}
