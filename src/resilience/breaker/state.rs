//! The words of a breaker: its states, what it is held to, what changed and why.

/// The breaker's state by the name that metrics and status show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Traffic flows.
    Closed,
    /// No pulls.
    Open,
    /// A few calls probe.
    HalfOpen,
    /// Traffic grows, step by step.
    Ramping,
}

/// What an operator holds a breaker to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forced {
    /// No traffic.
    Open,
    /// Traffic, whatever the calls say.
    Closed,
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The state before.
    pub from: State,
    /// The state from now on.
    pub to: State,
    /// What led to it.
    pub why: ChangeWhy,
}

/// What led to a change of state. Rates are percent of the calls that were judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeWhy {
    /// Too many calls failed.
    FailureRate(u8),
    /// Too many calls were slow.
    SlowCallRate(u8),
    /// A call was refused for our own configuration.
    OurFault,
    /// The open time is over and the first probe was let through.
    OpenTimeOver,
    /// Enough probes were served.
    ProbesServed,
    /// The ramp reached the lane's slots.
    RampDone,
    /// An operator forced it, or let it go again.
    Operator,
}

// === impl State ===

impl State {
    /// `closed`, `open`, `half_open` or `ramping`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Ramping => "ramping",
        }
    }
}

// === impl Forced ===

impl Forced {
    /// `forced_open` or `forced_closed`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "forced_open",
            Self::Closed => "forced_closed",
        }
    }
}

// === impl ChangeWhy ===

impl std::fmt::Display for ChangeWhy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::FailureRate(percent) => write!(f, "{percent} % of the calls failed"),
            Self::SlowCallRate(percent) => write!(f, "{percent} % of the calls were slow"),
            Self::OurFault => f.write_str("a call was refused for our own configuration"),
            Self::OpenTimeOver => f.write_str("the open time is over"),
            Self::ProbesServed => f.write_str("the probes were served"),
            Self::RampDone => f.write_str("the ramp reached all slots"),
            Self::Operator => f.write_str("an operator asked for it"),
        }
    }
}
