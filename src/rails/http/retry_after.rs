//! `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// The longest that is honoured: a rail must not be able to put a payment away for ever.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

/// How long to wait from `now`; `None` where the text is neither. A date gone by means now.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are still "long".
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let at = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default().min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_honoured_up_to_an_hour_and_nothing_else() {
        let now: Timestamp = "1994-11-06T08:49:37Z".parse().expect("valid");
        let after = |text: &str| retry_after(text, now).map(|d| d.as_secs());
        assert_eq!([after("0"), after(" 120 "), after("86400")], [Some(0), Some(120), Some(3600)]);
        assert_eq!(after("99999999999999999999999"), Some(3600));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0), "gone by");
        assert_eq!(after("Sun, 06 Nov 2094 08:00:00 GMT"), None, "the day of the week is wrong");
        assert_eq!(after("Sat, 06 Nov 2094 08:00:00 GMT"), Some(3600));
        assert_eq!([after(""), after("-1"), after("soon"), after("1.5"), after("+5")], [None; 5]);
    }
}
