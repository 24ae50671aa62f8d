//! A sweep that panics is told of, and takes nothing with it.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acquit::Answer;

use crate::process::wait_until;
use crate::rail::{Asked, Course, Desk, Ledger, Running, Terminal, Then};
use crate::rails::load;
use crate::site::{Setup, Site};

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines_with(&self, what: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(what)).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// One thread runs the worker and every sweep: the log is this thread's.
#[tokio::test]
async fn a_sweep_that_panics_is_logged_with_its_event_and_its_payment_goes_on() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).with_target(false).finish();
    // With a single subscriber a line that a test on another thread has met first is taken for one that nobody wants.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    let _guard = tracing::subscriber::set_default(subscriber);

    let (site, ledger) = (Site::new(Setup::default()).await, Ledger::new());
    for payment in ["P1", "P2"] {
        ledger.plan(payment, [Course::pays(Then::Say(Answer::InProgress))]);
    }
    let load = load(&["P1", "P2"], 0);
    let running = Running::start(&site, &ledger, &Terminal { track: true, ..Terminal::default() });
    ledger.set_desk(Desk::Panics);
    site.publish(&load).await;
    running.until("both are tracked", |lane| lane.tracker == 2).await;
    let panics = || log.lines_with("handling this event panicked");
    wait_until("both sweeps have panicked", Duration::from_secs(30), async || panics().len() >= 2).await;
    let lines = panics();
    for sequence in [1, 2] {
        let event = |line: &&String| line.contains("event=\"PAYMENTS.") && line.contains(&format!(".{sequence}\""));
        let line = lines.iter().find(event).unwrap_or_else(|| panic!("{sequence}: {lines:?}"));
        assert!(line.contains("ERROR") && line.contains("lane=\"payments\""), "{line}");
    }
    assert!(ledger.count("P1", Asked::Inquire) >= 1 && ledger.count("P2", Asked::Inquire) >= 1);

    ledger.set_desk(Desk::Honest);
    let told = async || running.lane().is_some_and(|lane| lane.tracker == 0);
    wait_until("both are told", Duration::from_secs(90), told).await;
    let _drained = running.stop().await;
    site.balances(load.expected).await;
    assert_eq!((ledger.submitted("P1").len(), ledger.payments_made()), (1, 2));
}
