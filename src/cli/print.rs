//! The one place that prints.

use std::io::Write as _;

use serde::Serialize;

/// A line of data on stdout. A reader that has gone away is no error of ours.
pub fn out(line: &str) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// A line for a person on stderr.
pub fn note(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// A line on stderr in place of the one drawn before, on a terminal; an empty one leaves it free.
pub(super) fn redraw(line: &str) {
    let mut stderr = std::io::stderr().lock();
    drop(write!(stderr, "\r\x1b[2K{line}").and_then(|()| stderr.flush()));
}

/// One JSON value on stdout, on one line.
pub fn print_json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => out(&text),
        Err(error) => note(&format!("this cannot be written as JSON: {error}")),
    }
}
