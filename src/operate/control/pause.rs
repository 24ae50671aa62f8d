//! A lane's consumer is paused on the server: its workers pull on and are given nothing, whoever restarts meanwhile.
//! What they have in hand they finish. A pause ends by itself.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use super::behind_record;
use crate::broker::{Broker, Wire};
use crate::domain::LaneName;
use crate::operate::audit::{LaneAction, LaneEntry};
use crate::operate::{Mandate, Trouble};
use crate::worker::Lane;

/// The shortest pause.
const LEAST: Duration = Duration::from_secs(1);
/// The longest one.
const MOST: Duration = Duration::from_secs(7 * 86_400);

/// A lane whose consumer is there, as it was seen.
#[derive(Debug, Clone)]
pub struct Pausable {
    lane: LaneName,
    consumer: String,
    /// The broker's clock: the end of a pause is judged by it.
    now: Timestamp,
    max_age: Duration,
    paused_until: Option<Timestamp>,
}

/// A lane that was paused or resumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Switched {
    /// The lane.
    pub lane: String,
    /// Its durable consumer.
    pub consumer: String,
    /// Until when it is paused, by the broker's clock; `None` where it is not.
    pub paused_until: Option<Timestamp>,
    /// Until when it was paused before.
    pub was_paused_until: Option<Timestamp>,
    /// Sequence of the record in the audit stream.
    pub record: u64,
}

/// Asks the broker about a lane's consumer. Changes nothing.
///
/// # Errors
/// [`Trouble`]; [`Trouble::NotThere`] where there is no such consumer.
pub async fn look<W: Wire>(broker: &Broker<W>, lane: &Lane) -> Result<Pausable, Trouble> {
    let name = broker.streams().payments.as_str();
    let of = |error, what: String| Trouble::of_api(broker, error).naming(|| what);
    let stream = broker.stream_info(name).await.map_err(|e| of(e, format!("stream {name}")))?;
    let consumer = broker.consumer_info(name, &lane.consumer).await;
    let consumer = consumer.map_err(|e| of(e, format!("consumer {} of lane {}", lane.consumer, lane.name)))?;
    Ok(Pausable {
        lane: lane.name.clone(),
        consumer: lane.consumer.clone(),
        now: consumer.ts.unwrap_or_else(Timestamp::now),
        max_age: Duration::from_nanos(stream.number("max_age")),
        paused_until: consumer.paused_until(),
    })
}

impl Pausable {
    /// Whether its events may wait that long.
    ///
    /// # Errors
    /// As [`allowed`].
    pub fn may_wait(&self, span: Duration) -> Result<(), Trouble> {
        allowed(span, self.max_age)
    }
}

/// Whether events of a stream with this `max_age` (zero: for ever) may wait that long.
///
/// # Errors
/// [`Trouble::BadInput`] below a second, above seven days, and above a quarter of `max_age`: an event that is not
/// acknowledged for so long is on its way to be deleted.
pub fn allowed(span: Duration, max_age: Duration) -> Result<(), Trouble> {
    let bad = |what: String| Err(Trouble::BadInput { what });
    let quarter = max_age / 4;
    if !(LEAST..=MOST).contains(&span) {
        return bad("--for: a pause lasts 1s to 168h; pause again before it ends where that is not enough".to_owned());
    }
    if !max_age.is_zero() && span > quarter {
        return bad(format!(
            "--for: longer than a quarter of the stream's max_age ({}s of {}s): events that wait would come near their \
             deletion. Pause for less, or raise max_age first",
            quarter.as_secs(),
            max_age.as_secs(),
        ));
    }
    Ok(())
}

/// Pauses a lane for `span` from now; where it is paused already, the new end counts.
///
/// # Errors
/// [`Trouble`]; without a record nothing was done.
pub async fn pause<W: Wire>(
    broker: &Broker<W>,
    target: &Pausable,
    span: Duration,
    mandate: &Mandate,
) -> Result<Switched, Trouble> {
    target.may_wait(span)?;
    let until = SignedDuration::try_from(span).ok().and_then(|span| target.now.checked_add(span).ok());
    // Whole milliseconds: what comes back must be the same whoever writes it.
    let until = until.and_then(|until| Timestamp::from_millisecond(until.as_millisecond()).ok());
    let Some(until) = until else { return Err(Trouble::BadInput { what: "--for: too long".to_owned() }) };
    switch(broker, target, Some(until), mandate).await
}

/// Ends a lane's pause; without one it says so.
///
/// # Errors
/// [`Trouble`]; without a record nothing was done.
pub async fn resume<W: Wire>(broker: &Broker<W>, target: &Pausable, mandate: &Mandate) -> Result<Switched, Trouble> {
    switch(broker, target, None, mandate).await
}

async fn switch<W: Wire>(
    broker: &Broker<W>,
    target: &Pausable,
    until: Option<Timestamp>,
    mandate: &Mandate,
) -> Result<Switched, Trouble> {
    let action = if until.is_some() { LaneAction::Pause } else { LaneAction::Resume };
    let mut entry = LaneEntry::new(broker, action, &target.lane, &target.consumer, mandate);
    entry.until = until;
    let record = entry.write(broker, &target.lane).await?;
    ask(broker, &target.consumer, until).await.map_err(|trouble| behind_record(trouble, record))?;
    Ok(Switched {
        lane: target.lane.to_string(),
        consumer: target.consumer.clone(),
        paused_until: until,
        was_paused_until: target.paused_until,
        record,
    })
}

async fn ask<W: Wire>(broker: &Broker<W>, consumer: &str, until: Option<Timestamp>) -> Result<(), Trouble> {
    let body = until.map_or_else(|| json!({}), |until| json!({ "pause_until": until }));
    let verb = format!("CONSUMER.PAUSE.{}.{consumer}", broker.streams().payments);
    match broker.api(&verb, &body).await {
        Ok(answer) => confirms(&answer, until),
        Err(error) => Err(Trouble::of_api(broker, error).naming(|| format!("consumer {consumer}"))),
    }
}

/// Whether the answer says what was asked for.
fn confirms(answer: &Value, until: Option<Timestamp>) -> Result<(), Trouble> {
    let paused = answer.get("paused").and_then(Value::as_bool).unwrap_or(false);
    let theirs = answer.get("pause_until").and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok());
    let holds = match until {
        Some(until) => paused && theirs == Some(until),
        None => !paused,
    };
    if holds {
        return Ok(());
    }
    let said = if paused { "paused" } else { "not paused" };
    Err(Trouble::Refused { what: format!("its answer says that the consumer is {said}, which was not asked for") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_pause_lasts_a_second_to_seven_days_and_no_longer_than_a_quarter_of_max_age() {
        let week = s(7 * 86_400);
        for (span, max_age) in [(s(1), Duration::ZERO), (week, Duration::ZERO), (s(25), s(100)), (week, week * 4)] {
            assert_eq!(allowed(span, max_age), Ok(()), "{span:?} of {max_age:?}");
        }
        for (span, max_age) in
            [(Duration::from_millis(999), Duration::ZERO), (week + s(1), Duration::ZERO), (s(26), s(100)), (week, week)]
        {
            assert!(matches!(allowed(span, max_age), Err(Trouble::BadInput { .. })), "{span:?} of {max_age:?}");
        }
    }

    #[test]
    fn only_an_answer_that_says_what_was_asked_for_counts() {
        let until = Timestamp::from_second(1_800_000_000).expect("in range");
        let paused = json!({ "paused": true, "pause_until": "2027-01-15T08:00:00Z", "pause_remaining": 5 });
        assert_eq!(confirms(&paused, Some(until)), Ok(()));
        assert_eq!(confirms(&json!({ "paused": false }), None), Ok(()));
        let other = json!({ "paused": true, "pause_until": "2027-01-15T08:00:01Z" });
        for (answer, asked) in [(json!({}), Some(until)), (other, Some(until)), (paused, None)] {
            assert!(matches!(confirms(&answer, asked), Err(Trouble::Refused { .. })), "{answer}");
        }
    }

    #[test]
    fn a_failure_behind_the_record_says_what_stands() {
        let lost = behind_record(Trouble::BrokerLost { what: "timed out".into() }, 7).to_string();
        assert!(lost.contains("record 7 stands") && lost.contains("run it again"), "{lost}");
        let denied = behind_record(Trouble::Denied { what: "no".into() }, 7);
        assert!(matches!(&denied, Trouble::Denied { what } if what.contains("nothing was done")), "{denied}");
    }
}
