//! Who the server runs as, and where that user can get at.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `nobody`, where the list of users does not say otherwise.
const NOBODY: (u32, u32) = (65_534, 65_534);

/// The user that a server runs as.
#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    /// User and group to become; `None` stays what this process is.
    other: Option<(u32, u32)>,
}

impl User {
    /// This process's own user, or `nobody` where that is root.
    pub(super) fn of_server() -> Self {
        Self { other: rustix::process::geteuid().is_root().then(nobody) }
    }

    pub(super) fn become_by(self, command: &mut Command) {
        if let Some((uid, gid)) = self.other {
            command.uid(uid).gid(gid);
        }
    }

    /// A new folder below the temporary one that only this user may look into.
    pub(super) fn folder(self) -> io::Result<PathBuf> {
        let name = format!("acquit-postgres-{}-{:016x}", std::process::id(), rand::random::<u64>());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        self.give(&folder)?;
        Ok(folder)
    }

    /// Writes a file that only this user may read.
    pub(super) fn write(self, path: &Path, text: &str) -> io::Result<()> {
        fs::write(path, text)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        self.give(path)
    }

    fn give(self, path: &Path) -> io::Result<()> {
        match self.other {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// `folder`, or one for the whole machine where another user cannot get at `folder`: root's home is closed.
    pub(super) fn reachable(self, folder: PathBuf) -> PathBuf {
        if self.other.is_none() || is_open(&folder) { folder } else { PathBuf::from("/var/cache/acquit") }
    }
}

/// Whether everybody may pass through the folders on the way, as far as they exist.
fn is_open(folder: &Path) -> bool {
    let modes = folder.ancestors().filter_map(|folder| fs::metadata(folder).ok()).map(|meta| meta.permissions().mode());
    modes.into_iter().all(|mode| mode & 0o001 != 0)
}

fn nobody() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut fields = users.lines().filter_map(|line| line.strip_prefix("nobody:"));
    let ids = fields.next().and_then(|rest| {
        let mut ids = rest.split(':').skip(1).map(|id| id.parse().ok());
        Some((ids.next()??, ids.next()??))
    });
    ids.unwrap_or(NOBODY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_folder_on_the_way_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(!is_open(&inner));
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(is_open(&inner.join("not there yet")));
    }
}
