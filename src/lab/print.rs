//! The laboratory's one way to standard output (data) and standard error (what happens meanwhile).

use std::io::{self, Write as _};

/// Writes `text` to standard output.
///
/// # Errors
/// When nobody reads it any more, or the file it goes to is full.
pub fn data(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a line to standard error. Where nobody reads it, it is lost: what it tells about goes on.
pub fn log(line: &str) {
    writeln!(io::stderr().lock(), "{line}").ok();
}
