//! One server process: start, readiness, kill, restart.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::process::{Running, log_end};
use super::{ServerError, find, ports};

/// As errors call it.
const NAME: &str = "nats-server";
/// How long a server may take to get ready, recovery of a large store included.
const READY: Duration = Duration::from_secs(60);
/// How long it may take to end after SIGTERM before it is killed.
const STOP: Duration = Duration::from_secs(20);
/// Free ports can be taken between the look and the start.
const PORT_ATTEMPTS: u32 = 5;

/// How a server is to be started.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Its folder: configuration, log, `jetstream/`. Created if missing; the caller removes it.
    pub dir: PathBuf,
    /// Its port; `None` takes a free one.
    pub port: Option<u16>,
    /// `sync_interval: always` in place of the server's default of 2 minutes.
    pub sync_always: bool,
    /// Most bytes of all file streams together. Streams reserve their `max_bytes` against it.
    pub max_file_store: u64,
    /// Most bytes of all memory streams together.
    pub max_memory_store: u64,
    /// More configuration, in the server's own syntax, put at the end.
    pub extra: String,
    /// Environment for variables in `extra`, such as passwords.
    pub env: Vec<(String, String)>,
}

impl NatsOptions {
    /// A free port, the server's default sync, 64 GiB of file and 1 GiB of memory store.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            port: None,
            sync_always: false,
            max_file_store: 64 << 30,
            max_memory_store: 1 << 30,
            extra: String::new(),
            env: Vec::new(),
        }
    }
}

/// A running (or killed) server on loopback. Dropping it kills it.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    options: NatsOptions,
    name: String,
    port: u16,
    monitor: u16,
    running: Option<Running>,
}

impl NatsServer {
    /// Finds the program, starts it, and waits until JetStream answers.
    pub async fn start(options: NatsOptions) -> Result<Self, ServerError> {
        let program = find::nats_server().await?;
        let mut attempt = 1;
        loop {
            let port = options.port.map_or_else(ports::free, Ok)?;
            let mut server = Self::prepared(program.clone(), options.clone(), port)?;
            match server.begin().await {
                Ok(()) => return Ok(server),
                Err(ServerError::Died { log, .. })
                    if options.port.is_none() && attempt < PORT_ATTEMPTS && log.contains("address already in use") =>
                {
                    attempt += 1;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// A server that is not started yet.
    pub(super) fn prepared(program: PathBuf, options: NatsOptions, port: u16) -> Result<Self, ServerError> {
        let monitor = ports::free()?;
        Ok(Self { program, options, name: format!("lab-{port}"), port, monitor, running: None })
    }

    /// What a client connects to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The client port; the same after a restart.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The HTTP port of `/healthz`, `/jsz`, `/connz`.
    #[must_use]
    pub const fn monitor_port(&self) -> u16 {
        self.monitor
    }

    /// The process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    /// The server's log so far.
    pub fn log(&self) -> Result<String, ServerError> {
        let path = self.log_path();
        fs::read_to_string(&path).map_err(ServerError::io("reading", path))
    }

    /// SIGKILL, and the process is gone when this returns. Nothing is flushed; the folder stays as it was.
    pub fn kill9(&mut self) -> Result<(), ServerError> {
        let Some(running) = self.running.take() else { return Ok(()) };
        running.kill().map_err(ServerError::io("killing", &self.program))
    }

    /// SIGTERM, then SIGKILL after 20 s.
    pub async fn stop(&mut self) -> Result<(), ServerError> {
        if self.running.is_none() {
            return Ok(());
        }
        self.signal(Signal::TERM)?;
        if self.wait_ended(STOP).await? {
            return Ok(());
        }
        self.kill9()
    }

    /// Starts it again on the same port and folder (after [`Self::kill9`], [`Self::stop`], or alone: a running one is
    /// stopped first), and waits until JetStream answers.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.stop().await?;
        self.begin().await
    }

    /// Lame duck mode: clients are told at once, connections are closed after a grace of 200 ms, then it ends by itself.
    pub fn lame_duck(&mut self) -> Result<(), ServerError> {
        self.signal(Signal::USR2)
    }

    /// Whether it has ended by itself within `within`.
    pub async fn wait_ended(&mut self, within: Duration) -> Result<bool, ServerError> {
        let deadline = Instant::now() + within;
        loop {
            if self.ended()?.is_some() {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGSTOP: it holds its connections and answers nothing.
    pub fn freeze(&mut self) -> Result<(), ServerError> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT, after [`Self::freeze`].
    pub fn thaw(&mut self) -> Result<(), ServerError> {
        self.signal(Signal::CONT)
    }

    async fn begin(&mut self) -> Result<(), ServerError> {
        self.launch()?;
        self.wait_ready(READY).await
    }

    /// Writes the configuration and starts the process without waiting for it.
    pub(super) fn launch(&mut self) -> Result<(), ServerError> {
        let dir = &self.options.dir;
        fs::create_dir_all(dir).map_err(ServerError::io("creating", dir))?;
        let config = dir.join("nats-server.conf");
        fs::write(&config, self.configuration()).map_err(ServerError::io("writing", &config))?;
        let log_path = self.log_path();
        // A fresh log for each start: what is quoted on failure is about this start.
        let log = File::create(&log_path).map_err(ServerError::io("creating", &log_path))?;
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(&config).current_dir(dir).envs(self.options.env.iter().map(|(k, v)| (k, v)));
        let running = Running::start(command.stderr(log), None);
        self.running = Some(running.map_err(ServerError::io("starting", &self.program))?);
        Ok(())
    }

    fn configuration(&self) -> String {
        let o = &self.options;
        let store = o.dir.join("jetstream");
        let mut text = format!(
            "server_name: \"{}\"\nlisten: \"127.0.0.1:{}\"\nhttp: \"127.0.0.1:{}\"\nmax_payload: 256KB\n\
             lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"200ms\"\n\
             jetstream {{\n  store_dir: {:?}\n  max_file_store: {}\n  max_memory_store: {}\n",
            self.name, self.port, self.monitor, store, o.max_file_store, o.max_memory_store
        );
        text.push_str(if o.sync_always { "  sync_interval: always\n}\n" } else { "}\n" });
        text.push_str(&o.extra);
        text.push('\n');
        text
    }

    /// Waits until this very server greets on its port and `/healthz` says that JetStream is there.
    pub(super) async fn wait_ready(&mut self, within: Duration) -> Result<(), ServerError> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(2);
        loop {
            if let Some(status) = self.ended()? {
                return Err(ServerError::Died { server: NAME, status, log: log_end(&self.log_path()) });
            }
            if matches!(timeout(Duration::from_secs(2), self.answers()).await, Ok(Ok(true))) {
                return Ok(());
            }
            if begun.elapsed() >= within {
                return Err(ServerError::NotReady { server: NAME, after: within, log: log_end(&self.log_path()) });
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Its greeting carries its name: a stranger on the port is not taken for it.
    async fn answers(&self) -> std::io::Result<bool> {
        let mut greeting = String::new();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        BufReader::new(client.take(8192)).read_line(&mut greeting).await?;
        if !greeting.starts_with("INFO ") || !greeting.contains(&format!("\"server_name\":\"{}\"", self.name)) {
            return Ok(false);
        }
        let mut http = TcpStream::connect((Ipv4Addr::LOCALHOST, self.monitor)).await?;
        http.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
        let mut status = String::new();
        BufReader::new(http.take(8192)).read_line(&mut status).await?;
        Ok(status.contains(" 200 "))
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, ServerError> {
        let Some(running) = self.running.as_mut() else { return Ok(None) };
        let ended = running.ended().map_err(ServerError::io("waiting for", &self.program))?;
        if ended.is_some() {
            self.running = None;
        }
        Ok(ended)
    }

    fn signal(&mut self, signal: Signal) -> Result<(), ServerError> {
        let Some(running) = &self.running else { return Ok(()) };
        running.signal(signal).map_err(ServerError::io("signalling", &self.program))
    }

    fn log_path(&self) -> PathBuf {
        self.options.dir.join("nats-server.log")
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn started(dir: &Path) -> NatsServer {
        NatsServer::start(NatsOptions::new(dir)).await.unwrap()
    }

    #[tokio::test]
    async fn it_comes_back_on_its_port_after_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let mut server = started(dir.path()).await;
        let (port, first) = (server.port(), server.pid().unwrap());
        server.kill9().unwrap();
        assert_eq!(server.pid(), None);
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err());
        server.restart().await.unwrap();
        assert_eq!(server.port(), port);
        assert_ne!(server.pid(), Some(first));
    }

    #[tokio::test]
    async fn a_lame_duck_ends_by_itself_and_a_stopped_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut server = started(dir.path()).await;
        server.lame_duck().unwrap();
        assert!(server.wait_ended(Duration::from_secs(15)).await.unwrap());
        server.restart().await.unwrap();
        server.stop().await.unwrap();
        assert_eq!(server.pid(), None);
    }

    #[tokio::test]
    async fn a_configuration_it_refuses_is_quoted_from_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let options = NatsOptions { extra: "no_such_setting: { oops".to_owned(), ..NatsOptions::new(dir.path()) };
        match NatsServer::start(options).await {
            Err(ServerError::Died { log, .. }) => assert!(log.contains("nats-server"), "{log}"),
            other => panic!("expected Died, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_dropped_server_leaves_no_process() {
        let dir = tempfile::tempdir().unwrap();
        let server = started(dir.path()).await;
        let port = server.port();
        drop(server);
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err());
    }

    #[tokio::test]
    async fn the_configurations_in_nats_start() {
        let dir = tempfile::tempdir().unwrap();
        let users = ["WORKER", "PUBLISHER", "OPERATOR", "PROVISIONER", "SYS"];
        let env = users.iter().map(|u| (format!("NATS_{u}_PASSWORD"), format!("secret-{u}"))).collect();
        let accounts = include_str!("../../../nats/accounts.conf").to_owned();
        let options = NatsOptions { env, extra: accounts, ..NatsOptions::new(dir.path()) };
        assert!(NatsServer::start(options).await.is_ok());
    }
}
