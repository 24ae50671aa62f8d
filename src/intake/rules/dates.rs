//! `requested_execution_date` and `expires_at`.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Object;
use super::findings::{Findings, text};
use crate::domain::Code;
use crate::intake::Instants;

/// The dates that were well formed.
#[derive(Default)]
pub(super) struct Dates {
    pub(super) execution: Option<Date>,
    /// The first instant after the execution date in the scheme's zone.
    pub(super) late_from: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
}

pub(super) fn read(body: &Object, zone: &TimeZone, horizon: u16, at: Instants, findings: &mut Findings) -> Dates {
    let execution = execution_date(body, zone, horizon, at.requested_at, findings);
    let late_from = execution
        .and_then(|date| date.tomorrow().ok())
        .and_then(|next| next.to_zoned(zone.clone()).ok())
        .map(|midnight| midnight.timestamp());
    Dates { execution, late_from, expires_at: expires_at(body, at.now, findings) }
}

/// Judged at the broker's timestamp: an event that waited over midnight is not refused for it.
fn execution_date(
    body: &Object,
    zone: &TimeZone,
    horizon: u16,
    requested_at: Timestamp,
    findings: &mut Findings,
) -> Option<Date> {
    const PATH: &str = "/requested_execution_date";
    let date = match text(body, "requested_execution_date") {
        Ok(None) => return None,
        Ok(Some(date)) => calendar_date(date),
        Err(_) => None,
    };
    let Some(date) = date else {
        findings.add(Code::DT01, PATH, "must be a real date as YYYY-MM-DD");
        return None;
    };
    let today = zone.to_datetime(requested_at).date();
    if date < today {
        findings.add(Code::CH04, PATH, "before the day of the event");
        return None;
    }
    if date > today.saturating_add(jiff::Span::new().days(i64::from(horizon))) {
        findings.add(Code::CH03, PATH, "too far ahead");
        return None;
    }
    Some(date)
}

fn expires_at(body: &Object, now: Timestamp, findings: &mut Findings) -> Option<Timestamp> {
    const PATH: &str = "/expires_at";
    let instant = match text(body, "expires_at") {
        Ok(None) => return None,
        Ok(Some(instant)) => instant_of(instant),
        Err(_) => None,
    };
    let Some(instant) = instant else {
        findings.add(Code::DT01, PATH, "must be an RFC 3339 date and time with an offset");
        return None;
    };
    if instant <= now {
        findings.add(Code::AB11, PATH, "has passed");
    }
    Some(instant)
}

/// `YYYY-MM-DD` and nothing else.
fn calendar_date(text: &str) -> Option<Date> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text.as_bytes() else { return None };
    let year = number(&[y1, y2, y3, y4])?;
    let month = i8::try_from(number(&[m1, m2])?).ok()?;
    let day = i8::try_from(number(&[d1, d2])?).ok()?;
    Date::new(year, month, day).ok()
}

fn number(digits: &[u8]) -> Option<i16> {
    digits.iter().try_fold(0_i16, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| i16::from(digit.wrapping_sub(b'0')))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// RFC 3339: jiff reads more than that (other separators, zone names), so the shape is checked first.
fn instant_of(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_at_checked(10)?;
    calendar_date(date)?;
    let time = time.strip_prefix(['T', 't'])?;
    let (clock, rest) = time.split_at_checked(8)?;
    let is_clock = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(b, s)| if s == b'0' { b.is_ascii_digit() } else { b == s })
    };
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            fraction.get(digits..).filter(|_| digits > 0)?
        }
        None => rest,
    };
    let is_offset =
        matches!(offset, "Z" | "z") || offset.strip_prefix(['+', '-']).is_some_and(|o| is_clock(o, "00:00"));
    if !is_clock(clock, "00:00:00") || !is_offset {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_in_one_way_and_exists() {
        assert_eq!(calendar_date("2024-02-29"), Some(jiff::civil::date(2024, 2, 29)));
        for text in [
            "2026-02-30",
            "2026-13-01",
            "20261123",
            "2026-1-23",
            "2026-11-23T00:00:00Z",
            "26-11-23",
            "+026-11-23",
            "2026-11-2\u{661}",
            "",
            "-001-01-01",
        ] {
            assert_eq!(calendar_date(text), None, "{text}");
        }
    }

    #[test]
    fn an_instant_is_rfc_3339_with_an_offset() {
        let noon: Timestamp = "2026-11-23T12:00:00Z".parse().expect("valid");
        for text in [
            "2026-11-23T12:00:00Z",
            "2026-11-23t12:00:00z",
            "2026-11-23T13:00:00+01:00",
            "2026-11-23T11:59:60Z",
            "2026-11-23T12:00:00.000Z",
        ] {
            let read = instant_of(text).expect(text);
            assert!(noon.duration_since(read).as_secs().abs() <= 1, "{text}");
        }
        for text in [
            "soon",
            "2026-11-23",
            "2026-11-23T12:00:00",
            "2026-11-23 12:00:00Z",
            "2026-11-23T12:00Z",
            "2026-11-23T12:00:00.Z",
            "2026-11-23T12:00:00+0100",
            "2026-11-23T12:00:00Z[UTC]",
            "2026-02-30T12:00:00Z",
            "2026-11-23T25:00:00Z",
            "2026-11-23T12:00:00+99:00",
            "2026-11-23T12:00:00é",
            "",
        ] {
            assert_eq!(instant_of(text), None, "{text}");
        }
    }
}
