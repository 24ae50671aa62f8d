//! The rails of a lane. Their names are the configuration's, so there are few.

use metrics::{counter, gauge};

use super::LaneMetrics;
use crate::domain::Answer;

const SAID: [&str; 6] = ["settled", "in_progress", "rejected", "blocked", "not_sent", "unknown"];
/// The breakers of a second rail.
const BREAKERS: [&str; 2] = ["fallback", "fallback_inquiries"];

impl LaneMetrics {
    /// Has the series of the lane's rails begin at zero.
    pub(crate) fn rails(&self, rails: impl Iterator<Item = &'static str>, second: bool) {
        for rail in rails {
            for said in SAID {
                counter!("acquit_rail_calls_total", "lane" => self.lane.clone(), "rail" => rail, "answer" => said)
                    .increment(0);
            }
        }
        for breaker in BREAKERS.into_iter().filter(|_| second) {
            super::zero_breaker(&self.lane, breaker);
        }
    }

    /// A rail answered a submission.
    pub(crate) fn rail_called(&self, rail: &'static str, answer: &Answer) {
        let said = match answer {
            Answer::Settled(_) => "settled",
            Answer::InProgress => "in_progress",
            Answer::Rejected { .. } => "rejected",
            Answer::Blocked => "blocked",
            Answer::NotSent(_) => "not_sent",
            Answer::Unknown => "unknown",
        };
        counter!("acquit_rail_calls_total", "lane" => self.lane.clone(), "rail" => rail, "answer" => said).increment(1);
    }

    /// The limit of the second rail.
    pub(crate) fn second_limit(&self, limit: u32) {
        gauge!("acquit_fallback_in_flight_limit", "lane" => self.lane.clone()).set(f64::from(limit));
    }
}
