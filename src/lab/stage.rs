//! Everything demo and bench stand on: a server, streams, a store, a configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::broker::{Broker, Nats};
use crate::cli::{Exit, Failure, connect_as, sqlite_settings};
use crate::config::{Config, Sources};
use crate::lab::rail::ScriptedRail;
use crate::lab::rail::ledger::Ledger;
use crate::lab::rail::script::Script;
use crate::lab::servers::{NatsOptions, NatsServer, ServerError};
use crate::operate::provision::{Options, apply, plan};
use crate::operate::publish::PublishOptions;
use crate::store::{PostgresSettings, Reader, Sqlite, migrate};

/// The store's file in the stage's folder.
const STORE: &str = "acquit.db";

/// A running server with everything in place.
pub(super) struct Stage {
    dir: Folder,
    pub(super) server: NatsServer,
    /// What the worker runs with.
    pub(super) config: Config,
    /// A connection beside the worker's.
    pub(super) publisher: Broker<Nats>,
    /// The service that settles, where it is not the book.
    pub(super) bank: Option<Arc<ScriptedRail>>,
    version: String,
}

/// A folder that goes away with its owner.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// A new one for temporary files.
    pub(super) fn new(what: &str) -> Result<Self, Failure> {
        let name = format!("acquit-{what}-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir)
            .map_err(|e| Failure::new(Exit::Unavailable, format!("{}: {e}", dir.display())))?;
        Ok(Self(dir))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        Self::new(Exit::Unavailable, error.to_string())
    }
}

impl Stage {
    /// Starts the server, makes streams, consumer (with another `ack_wait` than its file's, where one is given), store.
    pub(super) async fn set(
        what: &str,
        in_flight: u16,
        port: u16,
        ack_wait: Option<Duration>,
    ) -> Result<Self, Failure> {
        let (dir, slots) = (Folder::new(what)?, Slots { in_flight, port });
        Self::build(dir, what, slots, ack_wait, None, None).await
    }

    /// For workers on one database, with a service over HTTP whose ledger is in memory.
    pub(super) async fn of_fleet(
        what: &str,
        in_flight: u16,
        script: Script,
        database: &PostgresSettings,
    ) -> Result<Self, Failure> {
        let failed = |e: &dyn std::fmt::Display| Failure::new(Exit::Unavailable, format!("the stand-in service: {e}"));
        let ledger = Ledger::in_memory().map_err(|e| failed(&e))?;
        let bank = ScriptedRail::start((Ipv4Addr::LOCALHOST, 0).into(), script, ledger).map_err(|e| failed(&e))?;
        let (dir, slots) = (Folder::new(what)?, Slots { in_flight, port: 0 });
        Self::build(dir, what, slots, None, Some(Arc::new(bank)), Some(database)).await
    }

    /// The same where payments are settled by a stand-in service over HTTP, which behaves by `script`.
    pub(super) async fn over_rail(what: &str, in_flight: u16, script: Script) -> Result<Self, Failure> {
        let dir = Folder::new(what)?;
        let failed = |e: &dyn std::fmt::Display| Failure::new(Exit::Unavailable, format!("the stand-in service: {e}"));
        let ledger = Ledger::open(&dir.0.join("rail.db")).map_err(|e| failed(&e))?;
        let bank = ScriptedRail::start((Ipv4Addr::LOCALHOST, 0).into(), script, ledger).map_err(|e| failed(&e))?;
        Self::build(dir, what, Slots { in_flight, port: 0 }, None, Some(Arc::new(bank)), None).await
    }

    async fn build(
        dir: Folder,
        what: &str,
        slots: Slots,
        ack_wait: Option<Duration>,
        bank: Option<Arc<ScriptedRail>>,
        database: Option<&PostgresSettings>,
    ) -> Result<Self, Failure> {
        let server = NatsServer::start(NatsOptions::new(dir.0.join("nats"))).await?;
        let store = match database {
            None => format!("path = \"{}\"", dir.0.join(STORE).display()),
            Some(database) => format!("url = \"{}\"\nschema = \"{}\"", database.url, database.schema),
        };
        let config = config(&dir.0, &server.url(), slots, &store, bank.as_ref().map(|bank| bank.address()))?;
        let publisher = connect_as(&config, what).await?;
        let store_id = match database {
            None => Sqlite::open(sqlite_settings(&config, &dir.0.join(STORE), true))?.store_id(),
            Some(database) => migrate(database, rand::random()).await?.store_id,
        };
        let ack_wait_ns = ack_wait.and_then(|wait| u64::try_from(wait.as_nanos()).ok());
        let options = Options { replicas: Some(1), ack_wait_ns, ..Options::default() };
        let plan = plan(&publisher, &config.lanes, store_id, &options).await?;
        apply(&publisher, &plan).await.map_err(|(what, e)| Failure::new(Exit::Unavailable, format!("{what}: {e}")))?;
        let version = publisher.server_version();
        Ok(Self { dir, server, config, publisher, bank, version })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir.0
    }

    pub(super) fn broker_version(&self) -> &str {
        &self.version
    }

    /// The configuration's file, for a worker process.
    pub(super) fn config_path(&self) -> PathBuf {
        self.dir.0.join("acquit.toml")
    }

    /// A worker process of this very binary, which ends with its handle and logs errors only.
    pub(super) fn worker(&self, log: Stdio) -> Result<Child, Failure> {
        let failed = |e: std::io::Error| Failure::new(Exit::Unavailable, format!("the worker cannot be started: {e}"));
        Command::new(std::env::current_exe().map_err(failed)?)
            .arg("run")
            .arg("--config")
            .arg(self.config_path())
            .args(["--set", "log.level=error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)
    }

    /// The server's process.
    pub(super) fn server_pid(&self) -> Option<u32> {
        self.server.pid()
    }

    pub(super) fn store_path(&self) -> PathBuf {
        self.dir.0.join(STORE)
    }

    /// How the demo publishes.
    pub(super) fn options(&self) -> Result<PublishOptions, Failure> {
        PublishOptions::built_in().map_err(|e| Failure::new(Exit::Bug, e.to_string()))
    }

    /// A reader of the store.
    pub(super) fn reader(&self) -> Result<Reader, Failure> {
        Ok(Reader::open(&self.store_path(), Duration::from_secs(5))?)
    }

    /// Ends the server; the folder goes with it.
    pub(super) async fn strike(mut self) {
        // Killed when it is dropped, should it not end in time.
        drop(self.server.stop().await);
        if let Some(bank) = self.bank.and_then(Arc::into_inner) {
            bank.stop().await;
        }
    }
}

/// What one worker of a stage holds at once, and where it is looked at.
struct Slots {
    in_flight: u16,
    port: u16,
}

/// The demo's own settings: nothing of the environment's, accounts that may be overdrawn, a breaker whose open time
/// fits an outage of seconds.
fn config(dir: &Path, url: &str, slots: Slots, store: &str, bank: Option<SocketAddr>) -> Result<Config, Failure> {
    let Slots { in_flight, port } = slots;
    let file = dir.join("acquit.toml");
    let (route, rail) = bank.map_or_else(Default::default, |bank| {
        let rail = format!(
            "[[rail]]\nname = \"bank\"\nurl = \"http://{bank}/payments\"\ninquiry_url = \
             \"http://{bank}/payments/{{key}}\"\ndeadline = \"5s\"\nconnect_timeout = \"500ms\"\nlongest_execution = \"2s\"\nconnections = {in_flight}\n\
             reference = \"/reference\"\nreason = \"/reason/code\"\nnot_found = [\"NOT_FOUND\"]\n\
             not_processed = [\"503\"]\n"
        );
        ("route = \"bank\"\n", rail)
    });
    let text = format!(
        "[broker]\nservers = [\"{url}\"]\n[store]\n{store}\n[book]\noverdraft = \"allow\"\n[ops]\nlisten = \
         \"127.0.0.1:{port}\"\n[[lane]]\nname = \"payments\"\nslots = {in_flight}\n{route}[lane.breaker]\n\
         wait_duration_in_open_state = \"500ms\"\nexponential_max_wait_duration_in_open_state = \"2s\"\n{rail}"
    );
    std::fs::write(&file, text).map_err(|e| Failure::new(Exit::Unavailable, format!("{}: {e}", file.display())))?;
    let sources = Sources { file: Some(file), env: Vec::new(), flags: Vec::new() };
    Config::load(sources).map_err(|errors| Failure::new(Exit::Bug, format!("the demo's own configuration:\n{errors}")))
}
