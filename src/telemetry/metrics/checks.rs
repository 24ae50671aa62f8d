//! The check before settlement.

use metrics::counter;

use super::LaneMetrics;

/// What a check before settlement said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    Clear,
    Hold,
    Refuse,
    Unavailable,
}

impl Checked {
    const ALL: [Self; 4] = [Self::Clear, Self::Hold, Self::Refuse, Self::Unavailable];

    fn name(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Hold => "hold",
            Self::Refuse => "refuse",
            Self::Unavailable => "unavailable",
        }
    }
}

impl LaneMetrics {
    pub(crate) fn checked(&self, said: Checked) {
        counter!("acquit_checks_total", "lane" => self.lane.clone(), "verdict" => said.name()).increment(1);
    }
}

pub(super) fn zero(lane: &str) {
    for said in Checked::ALL {
        counter!("acquit_checks_total", "lane" => lane.to_owned(), "verdict" => said.name()).increment(0);
    }
}
