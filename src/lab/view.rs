//! The demo as it happens: a redrawn block of lines on a terminal, else a plain line every second.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::print;
use super::report::grouped;

/// What there is to see at one moment.
#[derive(Debug, Clone, Default)]
pub struct Frame<'a> {
    /// Since the demo began.
    pub elapsed: Duration,
    /// What is going on, in a few words.
    pub phase: &'a str,
    /// Events the broker has taken.
    pub published: u64,
    /// Payments settled.
    pub settled: u64,
    /// Events rejected.
    pub rejected: u64,
    /// Events dead-lettered.
    pub dead_lettered: u64,
    /// Events found to be repeats.
    pub duplicates: u64,
    /// Lately.
    pub settled_per_s: f64,
    /// Events that wait in the stream.
    pub backlog: u64,
    /// Slots in use.
    pub in_flight: u64,
    /// Slots there are.
    pub slots: u64,
    /// `closed`, `open` or `half-open`.
    pub breaker: &'static str,
    /// What the gate lets through, and why no more.
    pub gate: String,
    /// Pull requests whose end has not come.
    pub pulls_outstanding: u64,
    /// Settled so far in a few currencies: code and decimal string.
    pub money: Vec<(String, String)>,
    /// Events whose payments the rail has not spoken about.
    pub in_doubt: u64,
    /// Until the rail is asked about the first of them.
    pub next_inquiry: Option<Duration>,
}

impl Frame<'_> {
    /// Events that have come to an end.
    #[must_use]
    pub fn done(&self) -> u64 {
        [self.rejected, self.dead_lettered, self.duplicates].into_iter().fold(self.settled, u64::saturating_add)
    }
}

/// Shows frames on standard error.
#[derive(Debug)]
pub struct View(Kind);

#[derive(Debug)]
enum Kind {
    /// The lines are the bar's message.
    Block {
        bar: ProgressBar,
        colour: bool,
    },
    Log {
        last: Option<Duration>,
        phase: String,
    },
}

/// The block, and below it how far it got.
const TEMPLATE: &str = "{msg}\n  [{bar:50}] {percent:>3} % accounted for";

/// The time between two lines of the log.
const LOG_EVERY: Duration = Duration::from_secs(1);

impl View {
    /// Redraws a block where standard error is a terminal, with colours unless `NO_COLOR` is set; else writes a log.
    #[must_use]
    pub fn new(is_terminal: bool) -> Self {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if is_terminal { Self::block(ProgressDrawTarget::stderr_with_hz(10), colour) } else { Self::log() }
    }

    fn log() -> Self {
        Self(Kind::Log { last: None, phase: String::new() })
    }

    fn block(target: ProgressDrawTarget, colour: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let bar = bar.with_style(style());
        Self(Kind::Block { bar, colour })
    }

    /// Shows the frame. Call it as often as there is something new: it draws 10 times a second at most, and logs once a
    /// second and when the phase changes.
    pub fn show(&mut self, frame: &Frame<'_>) {
        match &mut self.0 {
            Kind::Block { bar, colour } => {
                bar.set_length(frame.published);
                bar.set_position(frame.done());
                bar.set_message(block(frame, *colour));
            }
            Kind::Log { last, phase } => {
                let due = last.is_none_or(|last| frame.elapsed.saturating_sub(last) >= LOG_EVERY);
                if due || frame.phase != phase {
                    *last = Some(frame.elapsed);
                    frame.phase.clone_into(phase);
                    print::log(&line(frame));
                }
            }
        }
    }

    /// Writes a line that stays, above what is redrawn.
    pub fn note(&self, text: &str) {
        match &self.0 {
            Kind::Block { bar, .. } => bar.suspend(|| print::log(text)),
            Kind::Log { .. } => print::log(text),
        }
    }

    /// Ends the view: the block goes, `summary` stays.
    pub fn finish(self, summary: &str) {
        match self.0 {
            Kind::Block { bar, .. } => bar.finish_and_clear(),
            Kind::Log { .. } => {}
        }
        print::log(summary);
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

/// The block of lines, without a line end behind the last.
fn block(frame: &Frame<'_>, colour: bool) -> String {
    let rate = grouped(format!("{:.0}", frame.settled_per_s));
    let money: Vec<String> = frame.money.iter().map(|(code, value)| format!("{code} {}", grouped(value))).collect();
    let (on, off) = if colour { (breaker_colour(frame.breaker), "\u{1b}[0m") } else { ("", "") };
    let label = |name: &str| format!("  {name:<10}");
    let mut lines = vec![
        format!("{:7.1} s  {}", frame.elapsed.as_secs_f64(), frame.phase),
        format!("{} {:>10}   {rate} a second", label("settled"), grouped(frame.settled)),
        format!(
            "{} {:>10}   dead-lettered {}   duplicates {}",
            label("rejected"),
            grouped(frame.rejected),
            grouped(frame.dead_lettered),
            grouped(frame.duplicates)
        ),
        format!(
            "{} {:>10}   in flight {} of {}   published {}",
            label("backlog"),
            grouped(frame.backlog),
            frame.in_flight,
            frame.slots,
            grouped(frame.published)
        ),
        format!(
            "{} {on}{:>10}{off}   gate {}   pulls outstanding {}",
            label("breaker"),
            frame.breaker,
            frame.gate,
            frame.pulls_outstanding
        ),
        format!("{} {}", label("money"), if money.is_empty() { "-".to_owned() } else { money.join("   ") }),
    ];
    if frame.in_doubt > 0 {
        lines.push(format!("{} {:>10}   {}", label("in doubt"), grouped(frame.in_doubt), inquiry(frame)));
    }
    lines.join("\n")
}

/// When the rail is asked next.
fn inquiry(frame: &Frame<'_>) -> String {
    match frame.next_inquiry {
        Some(Duration::ZERO) | None => "the rail is being asked".to_owned(),
        Some(left) => format!("the rail is asked again in {:.1} s", left.as_secs_f64()),
    }
}

/// Green, yellow and red, as escape codes.
fn breaker_colour(state: &str) -> &'static str {
    match state {
        "closed" => "\u{1b}[32m",
        "open" => "\u{1b}[31m",
        _ => "\u{1b}[33m",
    }
}

/// The same in one line.
fn line(frame: &Frame<'_>) -> String {
    let money: Vec<String> = frame.money.iter().map(|(code, value)| format!("{code} {value}")).collect();
    let money = if money.is_empty() { String::new() } else { format!("; settled {}", money.join(", ")) };
    let doubt = match frame.in_doubt {
        0 => String::new(),
        some => format!(", in doubt {some} ({})", inquiry(frame)),
    };
    format!(
        "{:.1} s {}: published {}, settled {} ({:.0}/s), rejected {}, dead-lettered {}, duplicates {}, backlog {}, \
         in flight {}/{}, breaker {}, gate {}, pulls outstanding {}{doubt}{money}",
        frame.elapsed.as_secs_f64(),
        frame.phase,
        frame.published,
        frame.settled,
        frame.settled_per_s,
        frame.rejected,
        frame.dead_lettered,
        frame.duplicates,
        frame.backlog,
        frame.in_flight,
        frame.slots,
        frame.breaker,
        frame.gate,
        frame.pulls_outstanding,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame<'static> {
        Frame {
            elapsed: Duration::from_millis(3210),
            phase: "settlement is down",
            published: 50_000,
            settled: 12_345,
            rejected: 300,
            dead_lettered: 40,
            duplicates: 5,
            settled_per_s: 8123.6,
            backlog: 36_800,
            in_flight: 510,
            slots: 512,
            breaker: "open",
            gate: "shut for 1.2 s".to_owned(),
            pulls_outstanding: 0,
            money: vec![("EUR".to_owned(), "1234567.89".to_owned()), ("JPY".to_owned(), "5000".to_owned())],
            in_doubt: 0,
            next_inquiry: None,
        }
    }

    #[test]
    fn the_block_shows_everything_in_six_lines() {
        let golden = "    3.2 s  settlement is down
  settled        12,345   8,124 a second
  rejected          300   dead-lettered 40   duplicates 5
  backlog        36,800   in flight 510 of 512   published 50,000
  breaker          open   gate shut for 1.2 s   pulls outstanding 0
  money      EUR 1,234,567.89   JPY 5,000";
        assert_eq!(block(&frame(), false), golden);
        let coloured = block(&frame(), true);
        assert_eq!(coloured.replace("\u{1b}[31m", "").replace("\u{1b}[0m", ""), golden);
        assert_ne!(coloured, golden);
    }

    #[test]
    fn the_log_line_has_the_same_and_no_escape_codes() {
        let golden = "3.2 s settlement is down: published 50000, settled 12345 (8124/s), rejected 300, \
             dead-lettered 40, duplicates 5, backlog 36800, in flight 510/512, breaker open, gate shut for 1.2 s, \
             pulls outstanding 0; settled EUR 1234567.89, JPY 5000";
        assert_eq!(line(&frame()), golden);
        assert!(!line(&Frame { money: Vec::new(), ..frame() }).contains(';'));
    }

    #[test]
    fn what_is_in_doubt_is_shown_with_its_next_inquiry() {
        let doubt =
            |left: Option<u64>| Frame { in_doubt: 1_234, next_inquiry: left.map(Duration::from_millis), ..frame() };
        let last = |frame: &Frame<'_>| block(frame, false).lines().last().unwrap().to_owned();
        assert_eq!(last(&doubt(Some(3_200))), "  in doubt        1,234   the rail is asked again in 3.2 s");
        assert_eq!(last(&doubt(Some(0))), "  in doubt        1,234   the rail is being asked");
        assert!(line(&doubt(Some(3_200))).contains(", in doubt 1234 (the rail is asked again in 3.2 s); settled EUR"));
    }

    #[test]
    fn the_log_waits_a_second_unless_the_phase_changes() {
        let mut view = View::log();
        let mut shown = |millis, phase| {
            view.show(&Frame { elapsed: Duration::from_millis(millis), phase, ..frame() });
            match &view.0 {
                Kind::Log { last, .. } => last.is_some_and(|last| last == Duration::from_millis(millis)),
                Kind::Block { .. } => false,
            }
        };
        let seen = [(0, "a"), (999, "a"), (1000, "a"), (1100, "b"), (2050, "b"), (2100, "b")];
        assert_eq!(seen.map(|(millis, phase)| shown(millis, phase)), [true, false, true, true, false, true]);
        view.finish("done");
    }

    #[test]
    fn a_block_counts_what_is_accounted_for() {
        let mut view = View::block(ProgressDrawTarget::hidden(), false);
        view.show(&frame());
        view.note("kept");
        let Kind::Block { bar, .. } = &view.0 else { panic!("a block") };
        assert_eq!((bar.position(), bar.length()), (12_690, Some(50_000)));
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
        view.finish("done");
    }
}
