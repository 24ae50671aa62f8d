//! Records about lanes: a pause, its end, a breaker taken in hand. Each deed has a record of its own, also where it is
//! done a second time.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Mandate, read_last};
use crate::broker::{Broker, Wire};
use crate::domain::LaneName;
use crate::operate::Trouble;

/// What is done to a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneAction {
    /// Its consumer is about to be paused on the server.
    Pause,
    /// Its consumer's pause is about to be ended.
    Resume,
    /// Its settlement breaker is about to be held open.
    BreakerOpen,
    /// Its settlement breaker is about to be held closed.
    BreakerClose,
    /// Its settlement breaker is about to be given back to its own judgement.
    BreakerAuto,
}

/// One record about a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneEntry {
    /// The form of the record.
    pub contract: u8,
    /// What was done.
    pub action: LaneAction,
    /// In whose name.
    pub who: String,
    /// For what reason.
    pub why: String,
    /// When, by this machine's clock.
    pub at: Timestamp,
    /// The lane.
    pub lane: String,
    /// The stream it takes events from.
    pub stream: String,
    /// Its durable consumer.
    pub consumer: String,
    /// Until when it is paused, by the broker's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The workers that were asked; empty for a pause, which the broker keeps for all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<String>,
}

impl LaneAction {
    /// The word in the record's subject.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::BreakerOpen => "breaker_open",
            Self::BreakerClose => "breaker_close",
            Self::BreakerAuto => "breaker_auto",
        }
    }

    /// Where records of this kind about this lane are.
    #[must_use]
    pub fn subject(self, lane: &LaneName) -> String {
        format!("payments.audit.lane.{lane}.{}", self.token())
    }
}

impl LaneEntry {
    /// A record of what is done now.
    #[must_use]
    pub fn new<W: Wire>(
        broker: &Broker<W>,
        action: LaneAction,
        lane: &LaneName,
        consumer: &str,
        mandate: &Mandate,
    ) -> Self {
        Self {
            contract: 1,
            action,
            who: mandate.who().to_owned(),
            why: mandate.why().to_owned(),
            at: Timestamp::now(),
            lane: lane.to_string(),
            stream: broker.streams().payments.to_string(),
            consumer: consumer.to_owned(),
            until: None,
            workers: Vec::new(),
        }
    }

    /// Writes it and waits for the broker's confirmation; gives its sequence in the audit stream.
    ///
    /// # Errors
    /// [`Trouble`]: nothing may be done then.
    pub async fn write<W: Wire>(&self, broker: &Broker<W>, lane: &LaneName) -> Result<u64, Trouble> {
        let body = serde_json::to_vec(self).map_err(|e| Trouble::Local { what: format!("audit record: {e}") })?;
        let subject = self.action.subject(lane);
        let id = format!("{subject}:{}", uuid::Uuid::new_v4());
        let stream = &broker.streams().audit;
        match broker.publish_confirmed(&subject, &id, &[], Bytes::from(body), stream).await {
            Ok((sequence, _)) => Ok(sequence),
            Err(error) => Err(Trouble::of_publish(broker, &subject, &error)),
        }
    }

    /// The newest record about a lane, of any kind.
    pub(in crate::operate) async fn newest<W: Wire>(
        broker: &Broker<W>,
        lane: &LaneName,
    ) -> Result<Option<Self>, Trouble> {
        let subject = format!("payments.audit.lane.{lane}.*");
        read_last(broker, &subject).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;

    #[test]
    fn each_kind_of_record_has_a_subject_of_its_own_below_its_lane() {
        let lane = LaneName::parse("sct-inst").expect("a name");
        assert_eq!(LaneAction::Pause.subject(&lane), "payments.audit.lane.sct-inst.pause");
        assert_eq!(LaneAction::BreakerAuto.subject(&lane), "payments.audit.lane.sct-inst.breaker_auto");
    }

    #[test]
    fn a_record_about_a_lane_reads_back_and_is_none_about_a_dead_letter() {
        let entry = LaneEntry {
            contract: 1,
            action: LaneAction::BreakerOpen,
            who: "ops-1".into(),
            why: "INC-7".into(),
            at: Timestamp::UNIX_EPOCH,
            lane: "payments".into(),
            stream: "PAYMENTS".into(),
            consumer: "acquit-payments".into(),
            until: None,
            workers: vec!["127.0.0.1:9464".into()],
        };
        let text = serde_json::to_string(&entry).expect("JSON");
        assert!(text.contains(r#""action":"breaker_open""#) && !text.contains("until"), "{text}");
        assert_eq!(serde_json::from_str::<LaneEntry>(&text).expect("the same"), entry);
        // What stands in the stream about dead letters keeps all of its fields.
        assert!(serde_json::from_str::<Entry>(&text).is_err());
    }
}
