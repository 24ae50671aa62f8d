//! `kill -9` at a named step: the process ends itself with SIGKILL the n-th time it comes there, so that a test can
//! place a crash between any two effects. Asked for by `ACQUIT_LAB_KILL=<step>:<n>`. By `ACQUIT_LAB_STOP` it stops
//! itself there with SIGSTOP, until somebody else continues it.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

use crate::cli::{Exit, Failure};
use crate::telemetry::step::{Step, set};

/// The variables that arm it; the first that is set counts.
const VARIABLES: [(&str, Signal); 2] = [("ACQUIT_LAB_KILL", Signal::KILL), ("ACQUIT_LAB_STOP", Signal::STOP)];

/// Arms the signal where the environment asks for one.
///
/// # Errors
/// When what it asks for is no step and count; exit 2.
pub fn arm() -> Result<(), Failure> {
    let asked = VARIABLES.into_iter().find_map(|(name, signal)| Some((name, signal, std::env::var(name).ok()?)));
    let Some((variable, signal, asked)) = asked else { return Ok(()) };
    let (name, count) = asked.split_once(':').unwrap_or((&asked, "1"));
    let step = Step::ALL.into_iter().find(|step| step.name() == name);
    let (Some(wanted), Ok(count)) = (step, count.parse::<u64>()) else {
        let names: Vec<_> = Step::ALL.into_iter().map(Step::name).collect();
        let message = format!("{variable}: write STEP:N with N from 1 and STEP one of {}", names.join(", "));
        return Err(Failure::new(Exit::Usage, message));
    };
    let seen = AtomicU64::new(0);
    set(move |step| {
        if step == wanted && seen.fetch_add(1, Ordering::AcqRel).saturating_add(1) == count {
            kill_process(getpid(), signal).ok();
        }
    });
    Ok(())
}
