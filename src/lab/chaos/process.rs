//! The worker as a process of its own: signalled by its id, and asked whether it ended when nobody made it.

use std::fs::OpenOptions;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::time::timeout;

use crate::cli::{Exit, Failure};
use crate::lab::stage::Stage;

/// Beyond the lane's grace time: after it SIGKILL.
const GRACE: Duration = Duration::from_secs(40);

/// A running `acquit run`. Dropped, it is killed.
pub(super) struct WorkerProcess(Child);

impl WorkerProcess {
    pub(super) fn start(stage: &Stage) -> Result<Self, Failure> {
        let failed = |e: std::io::Error| Failure::new(Exit::Unavailable, format!("the worker cannot be started: {e}"));
        let log = OpenOptions::new().create(true).append(true).open(stage.dir().join("worker.log")).map_err(failed)?;
        stage.worker(log.into()).map(Self)
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended: that is found out where it is looked at.
            kill_process(pid, signal).ok();
        }
    }

    pub(super) async fn kill(&mut self) {
        self.0.start_kill().ok();
        self.0.wait().await.ok();
    }

    /// SIGTERM; says how it ended where that is wrong: `clean` asks for an end with nothing handed back.
    pub(super) async fn terminate(&mut self, clean: bool) -> Option<String> {
        self.signal(Signal::TERM);
        let Ok(ended) = timeout(GRACE, self.0.wait()).await else {
            self.kill().await;
            return Some("a worker did not end within its grace time".to_owned());
        };
        let right = ended.as_ref().is_ok_and(|status| status.success());
        if right || !clean { None } else { Some(format!("a worker with nothing to do ended otherwise: {ended:?}")) }
    }

    /// Whether it has ended although no fault ended it; then the next one is started.
    pub(super) fn surprise(&mut self, stage: &Stage) -> Result<Option<String>, Failure> {
        let Ok(Some(status)) = self.0.try_wait() else { return Ok(None) };
        let words = last_line(stage);
        *self = Self::start(stage)?;
        // It connects at its start: while the server is being started again, that it cannot is no surprise.
        if unreachable(status) { Ok(None) } else { Ok(Some(format!("a worker ended by itself: {status}: {words}"))) }
    }
}

fn unreachable(status: ExitStatus) -> bool {
    status.code() == Some(i32::from(Exit::Unavailable.code()))
}

fn last_line(stage: &Stage) -> String {
    let log = std::fs::read_to_string(stage.dir().join("worker.log")).unwrap_or_default();
    log.lines().next_back().unwrap_or_default().to_owned()
}
