//! One server process: in its own group, watched over by a process that kills it when this one is gone.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Lines of a log that an error quotes.
const QUOTED: usize = 12;

/// A server that runs. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Running {
    server: Child,
    watchdog: Child,
}

impl Running {
    /// Starts it. `leftover` is a folder that goes with this process, should it die without dropping the server.
    pub(super) fn start(command: &mut Command, leftover: Option<&Path>) -> io::Result<Self> {
        own_group(command);
        let mut server = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        match watchdog(server.id(), leftover) {
            Ok(watchdog) => Ok(Self { server, watchdog }),
            Err(error) => {
                end(&mut server);
                Err(error)
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.server.id()
    }

    /// How it ended, where it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.server.try_wait()
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        send(self.pid(), signal)
    }

    /// SIGKILL, and the process is gone when this returns.
    pub(super) fn kill(mut self) -> io::Result<()> {
        self.server.kill().and_then(|()| self.server.wait()).map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Told to go before its pipe closes, so that it cannot kill whoever gets the process id next.
        if let Some(mut pipe) = self.watchdog.stdin.take() {
            drop(pipe.write_all(b"done\n"));
        }
        drop(self.watchdog.wait());
        end(&mut self.server);
    }
}

/// A process that is gone already is what was wanted.
pub(super) fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The last lines of a log.
pub(super) fn log_end(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(QUOTED)..).unwrap_or_default().join("\n")
}

/// Kills `pid` when this process is gone: the end of our side of the pipe is the end of `read`.
fn watchdog(pid: u32, leftover: Option<&Path>) -> io::Result<Child> {
    let mut command = Command::new("sh");
    match leftover {
        None => command.args(["-c", &format!("read -r word || kill -KILL {pid}")]),
        Some(folder) => {
            // Asked first: what is killed may leave shared memory behind.
            let script =
                format!("read -r word || {{ kill -QUIT {pid}; sleep 1; kill -KILL {pid}; rm -rf -- \"$1\"; }}");
            command.arg("-c").arg(script).arg("watchdog").arg(folder)
        }
    };
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    own_group(&mut command);
    command.spawn()
}

/// Kills and reaps.
fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

#[cfg(unix)]
fn own_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(not(unix))]
fn own_group(_command: &mut Command) {}
