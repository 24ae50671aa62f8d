//! Progress of a long verb on stderr: one line that is drawn anew on a terminal, else a line every few seconds, and
//! nothing for a program that reads JSON.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use super::{Global, note, redraw};

/// Between two drawings on a terminal.
const DRAW: Duration = Duration::from_millis(100);
/// Between two lines where there is none.
const LINE: Duration = Duration::from_secs(5);

/// Where progress goes, and when it went there last.
pub(super) struct Progress {
    to: To,
    last: Instant,
    drawn: bool,
}

#[derive(Clone, Copy)]
enum To {
    Terminal,
    Lines,
    Nowhere,
}

impl Progress {
    pub(super) fn new(global: &Global) -> Self {
        let to = match (std::io::stderr().is_terminal(), global.json) {
            (true, _) => To::Terminal,
            (false, false) => To::Lines,
            (false, true) => To::Nowhere,
        };
        Self { to, last: Instant::now(), drawn: false }
    }

    /// Shows the line if it is time for one.
    pub(super) fn show(&mut self, line: impl FnOnce() -> String) {
        let (every, show): (_, fn(&str)) = match self.to {
            To::Terminal => (DRAW, redraw),
            To::Lines => (LINE, note),
            To::Nowhere => return,
        };
        if self.last.elapsed() >= every {
            show(&line());
            self.last = Instant::now();
            self.drawn = true;
        }
    }

    /// Leaves the terminal's line free for what comes next.
    pub(super) fn end(self) {
        if let (To::Terminal, true) = (self.to, self.drawn) {
            redraw("");
        }
    }
}
