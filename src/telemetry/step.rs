//! Named places in an event's way at which the laboratory may stop the process. Without the feature `lab` nothing is
//! compiled in.

/// A place between two effects, where a crash must cost nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// A delivery is in hand, nothing is done with it.
    AfterPull,
    /// A group of changes is decided, nothing of it is written.
    BeforeCommit,
    /// A group is durable, nobody has been told.
    AfterCommit,
    /// The rail has answered a submission, or has had its time; nothing of that is on record.
    AfterAnswer,
    /// The rail has said that it does not know a payment in doubt, nothing of that is on record.
    AfterNotFound,
    /// The proof is in hand, the outcome event is not published.
    BeforeOutcome,
    /// The outcome event is confirmed, the acknowledgement is not sent.
    BeforeAck,
    /// The dead letter is confirmed, the original is not terminated.
    BeforeTerm,
}

#[cfg(feature = "lab")]
mod hook {
    use std::sync::OnceLock;

    use super::Step;

    type Hook = Box<dyn Fn(Step) + Send + Sync>;

    static HOOK: OnceLock<Hook> = OnceLock::new();

    impl Step {
        /// Every step, in an event's order.
        pub(crate) const ALL: [Step; 8] = [
            Self::AfterPull,
            Self::BeforeCommit,
            Self::AfterCommit,
            Self::AfterAnswer,
            Self::AfterNotFound,
            Self::BeforeOutcome,
            Self::BeforeAck,
            Self::BeforeTerm,
        ];

        /// The step's name on the laboratory's command line.
        pub(crate) fn name(self) -> &'static str {
            match self {
                Self::AfterPull => "after-pull",
                Self::BeforeCommit => "before-commit",
                Self::AfterCommit => "after-commit",
                Self::AfterAnswer => "after-answer",
                Self::AfterNotFound => "after-not-found",
                Self::BeforeOutcome => "before-outcome",
                Self::BeforeAck => "before-ack",
                Self::BeforeTerm => "before-term",
            }
        }
    }

    /// Has `hook` called at every step from now on; the first call wins.
    pub(crate) fn set(hook: impl Fn(Step) + Send + Sync + 'static) {
        drop(HOOK.set(Box::new(hook)));
    }

    pub(crate) fn at(step: Step) {
        if let Some(hook) = HOOK.get() {
            hook(step);
        }
    }
}

#[cfg(feature = "lab")]
pub(crate) use hook::{at, set};

#[cfg(not(feature = "lab"))]
#[inline]
pub(crate) fn at(_step: Step) {}
