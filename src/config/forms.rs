//! The forms a value may have, and how each is read from a file, a variable or the command line.

use std::path::PathBuf;
use std::time::Duration;

/// The form of a key's value, with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Form {
    /// Any text; may be left out where the default is empty.
    Text,
    /// A list of texts; comma-separated outside the file.
    Texts,
    /// `true` or `false`.
    Flag,
    /// A whole number between the two.
    Whole(u64, u64),
    /// A number between 0 and this.
    Factor(f64),
    /// A duration between the two, in milliseconds.
    Span(u64, u64),
    /// A size between the two, in bytes.
    Size(u64, u64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A path.
    Path,
    /// A path to a file that is there.
    File,
}

/// A value as it was given.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Given {
    /// A string of the file.
    Text(String),
    /// A text from outside the file: any form is read from it.
    Word(String),
    /// A whole number of the file.
    Whole(u64),
    /// Another number of the file.
    Number(f64),
    /// A truth value of the file.
    Flag(bool),
    /// A list of strings of the file.
    List(Vec<String>),
    /// Something else of the file: no key takes it.
    Other,
}

/// A value as it is meant.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Absent,
    Text(String),
    Texts(Vec<String>),
    Flag(bool),
    Whole(u64),
    Factor(f64),
    Span(Duration),
    Path(PathBuf),
}

impl Given {
    /// The value as it is shown to an operator.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) | Self::Word(text) => text.clone(),
            Self::Whole(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::List(texts) => texts.join(","),
            Self::Other => String::new(),
        }
    }
}

impl Form {
    /// The value, or `None` where it breaks [`Form::rule`].
    pub(super) fn read(self, given: &Given) -> Option<Value> {
        match self {
            Self::Text => text(given).map(|text| if text.is_empty() { Value::Absent } else { Value::Text(text) }),
            Self::OneOf(words) => text(given).filter(|text| words.contains(&text.as_str())).map(Value::Text),
            Self::Path => text(given).filter(|text| !text.is_empty()).map(|text| Value::Path(text.into())),
            Self::File => match text(given)? {
                text if text.is_empty() => Some(Value::Absent),
                text => Some(PathBuf::from(text)).filter(|path| path.is_file()).map(Value::Path),
            },
            Self::Texts => texts(given).map(Value::Texts),
            Self::Flag => match given {
                Given::Flag(flag) => Some(Value::Flag(*flag)),
                Given::Word(word) => word.parse().ok().map(Value::Flag),
                Given::Text(_) | Given::Whole(_) | Given::Number(_) | Given::List(_) | Given::Other => None,
            },
            Self::Whole(least, most) => whole(given).filter(|n| (least..=most).contains(n)).map(Value::Whole),
            Self::Factor(most) => factor(given).filter(|n| (0.0..=most).contains(n)).map(Value::Factor),
            Self::Span(least, most) => duration(&text(given)?)
                .filter(|span| (Duration::from_millis(least)..=Duration::from_millis(most)).contains(span))
                .map(Value::Span),
            Self::Size(least, most) => size(given).filter(|n| (least..=most).contains(n)).map(Value::Whole),
        }
    }

    /// The rule, as it follows "must".
    pub(super) fn rule(self) -> String {
        match self {
            Self::Text => "must be a text".to_owned(),
            Self::Texts => "must be a list of texts without repetition".to_owned(),
            Self::Flag => "must be true or false".to_owned(),
            Self::Whole(least, most) => format!("must be a whole number from {least} to {most}"),
            Self::Factor(most) => format!("must be a number from 0 to {most}"),
            Self::Span(least, most) => {
                format!("must be a duration from {} to {}", show_duration(least), show_duration(most))
            }
            Self::Size(least, most) => format!("must be a size from {} to {}", show_size(least), show_size(most)),
            Self::OneOf(words) => format!("must be one of {}", words.join(", ")),
            Self::Path => "must be a path".to_owned(),
            Self::File => "must be the path of a file that is there".to_owned(),
        }
    }

    /// How to write it.
    pub(super) fn remedy(self) -> String {
        match self {
            Self::Text => "write it in quotes".to_owned(),
            Self::Texts => "write it as [\"one\", \"two\"], outside the file as one,two".to_owned(),
            Self::Flag => "write it without quotes".to_owned(),
            Self::Whole(..) | Self::Factor(_) => "write it in digits, without quotes in the file".to_owned(),
            Self::Span(..) => "write it with units, such as \"250ms\", \"2s\" or \"1m30s\"".to_owned(),
            Self::Size(..) => "write it in bytes or with a unit, such as \"64KiB\" or \"256MiB\"".to_owned(),
            Self::OneOf(words) => format!("write \"{}\" for instance", words.first().copied().unwrap_or_default()),
            Self::Path => "write it in quotes, relative to the working directory or absolute".to_owned(),
            Self::File => "check the path and that this user may read the folder".to_owned(),
        }
    }
}

fn text(given: &Given) -> Option<String> {
    match given {
        Given::Text(text) | Given::Word(text) => Some(text.clone()),
        Given::Whole(_) | Given::Number(_) | Given::Flag(_) | Given::List(_) | Given::Other => None,
    }
}

fn texts(given: &Given) -> Option<Vec<String>> {
    let texts: Vec<String> = match given {
        Given::List(texts) => texts.clone(),
        Given::Word(word) => word.split(',').map(|part| part.trim().to_owned()).filter(|p| !p.is_empty()).collect(),
        Given::Text(_) | Given::Whole(_) | Given::Number(_) | Given::Flag(_) | Given::Other => return None,
    };
    let mut sorted = texts.clone();
    sorted.sort_unstable();
    sorted.dedup();
    (sorted.len() == texts.len() && !texts.iter().any(String::is_empty)).then_some(texts)
}

fn whole(given: &Given) -> Option<u64> {
    match given {
        Given::Whole(number) => Some(*number),
        Given::Word(word) => word.parse().ok(),
        Given::Text(_) | Given::Number(_) | Given::Flag(_) | Given::List(_) | Given::Other => None,
    }
}

fn factor(given: &Given) -> Option<f64> {
    match given {
        Given::Number(number) => Some(*number),
        Given::Word(word) => word.parse().ok(),
        Given::Whole(number) => u32::try_from(*number).ok().map(f64::from),
        Given::Text(_) | Given::Flag(_) | Given::List(_) | Given::Other => None,
    }
}

/// A duration such as `250ms`, `2s` or `1m30s`; never negative. A number without a unit is refused.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let signed: jiff::SignedDuration = text.parse().ok()?;
    Duration::try_from(signed).ok()
}

fn size(given: &Given) -> Option<u64> {
    match given {
        Given::Whole(number) => Some(*number),
        Given::Text(text) | Given::Word(text) => size_of(text),
        Given::Number(_) | Given::Flag(_) | Given::List(_) | Given::Other => None,
    }
}

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

fn size_of(text: &str) -> Option<u64> {
    for (unit, bytes) in UNITS {
        if let Some(number) = text.strip_suffix(unit) {
            return number.trim_end().parse::<u64>().ok()?.checked_mul(bytes);
        }
    }
    text.strip_suffix('B').unwrap_or(text).trim_end().parse().ok()
}

fn show_size(bytes: u64) -> String {
    let fits = UNITS.into_iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match fits.and_then(|(name, unit)| Some((bytes.checked_div(unit)?, name))) {
        Some((number, name)) => format!("{number}{name}"),
        None => format!("{bytes}B"),
    }
}

fn show_duration(ms: u64) -> String {
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let fits = units.into_iter().find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit));
    match fits.and_then(|(unit, name)| Some((ms.checked_div(unit)?, name))) {
        Some((number, name)) => format!("{number}{name}"),
        None => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_are_never_negative() {
        let ms = |text: &str| duration(text).map(|d| d.as_millis());
        assert_eq!(
            [ms("250ms"), ms("2s"), ms("1m30s"), ms("24h")],
            [Some(250), Some(2_000), Some(90_000), Some(86_400_000)]
        );
        assert_eq!([ms("2"), ms("-2s"), ms(""), ms("soon"), ms("2s ago")], [None; 5]);
    }

    #[test]
    fn sizes_are_bytes_or_have_a_binary_unit() {
        assert_eq!(
            [size_of("64KiB"), size_of("1 MiB"), size_of("12"), size_of("12B")],
            [Some(65_536), Some(1 << 20), Some(12), Some(12)]
        );
        assert_eq!([size_of("64KB"), size_of("KiB"), size_of("-1"), size_of("99999999999GiB")], [None; 4]);
    }

    #[test]
    fn bounds_are_shown_in_the_largest_unit_that_fits() {
        assert_eq!([show_duration(90_000), show_duration(1_000), show_duration(250)], ["90s", "1s", "250ms"]);
        assert_eq!([show_size(256 << 20), show_size(80 << 10), show_size(7)], ["256MiB", "80KiB", "7B"]);
    }

    #[test]
    fn a_number_in_quotes_is_refused_in_the_file_and_read_from_outside() {
        assert_eq!(Form::Whole(1, 9).read(&Given::Text("5".to_owned())), None);
        assert_eq!(Form::Whole(1, 9).read(&Given::Word("5".to_owned())), Some(Value::Whole(5)));
        assert_eq!(Form::Whole(1, 9).read(&Given::Whole(10)), None);
    }
}
