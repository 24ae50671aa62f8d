//! Secrets in files that are exchanged while the worker runs: each is looked at again at most once a second, and read
//! again only where its time, size or inode has changed.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;

/// How often the file system is asked.
const LOOK: Duration = Duration::from_secs(1);
/// The most that is read of one file, in bytes.
const LARGEST: u64 = 64 * 1024;

/// A value made of files.
pub(super) struct Watched<T> {
    paths: Vec<PathBuf>,
    make: fn(&[Vec<u8>]) -> Option<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    look_at: Option<Instant>,
    stamps: Vec<Stamp>,
    value: Option<T>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self { inode: meta.ino(), size: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) }
    }
}

impl<T: Clone> Watched<T> {
    /// Watches `paths`; `make` gives the value of their contents, or nothing where they are not what they should be.
    pub(super) fn new(paths: Vec<PathBuf>, make: fn(&[Vec<u8>]) -> Option<T>) -> Self {
        Self { paths, make, state: Mutex::new(State { look_at: None, stamps: Vec::new(), value: None }) }
    }

    /// The value as it is now. The last good one stands while files cannot be read or do not fit each other: they
    /// may be half exchanged.
    pub(super) async fn get(&self, now: Instant) -> Option<T> {
        let mut state = self.state.lock().await;
        if state.look_at.is_none_or(|at| now >= at) {
            state.look_at = now.checked_add(LOOK);
            if let Some((stamps, value)) = self.read(&state.stamps).await {
                state.stamps = stamps;
                state.value = Some(value);
            }
        }
        state.value.clone()
    }

    /// Has the next call look again: the rail has refused what there was.
    pub(super) async fn doubt(&self) {
        self.state.lock().await.look_at = None;
    }

    async fn read(&self, known: &[Stamp]) -> Option<(Vec<Stamp>, T)> {
        let mut stamps = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            stamps.push(Stamp::of(&tokio::fs::metadata(path).await.ok()?));
        }
        if stamps == known {
            return None;
        }
        let mut contents = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            let mut content = Vec::new();
            let file = tokio::fs::File::open(path).await.ok()?;
            file.take(LARGEST).read_to_end(&mut content).await.ok()?;
            contents.push(content);
        }
        (self.make)(&contents).map(|value| (stamps, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(contents: &[Vec<u8>]) -> Option<String> {
        let text = String::from_utf8(contents.first()?.clone()).ok()?;
        (!text.is_empty()).then_some(text)
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_after_a_second_and_an_unreadable_one_leaves_the_last_value() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        let watched = Watched::new(vec![path.clone()], text);
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(watched.get(after(0)).await, None, "there is none yet");
        std::fs::write(&path, "one").expect("written");
        assert_eq!(watched.get(after(500)).await, None, "not looked at yet");
        assert_eq!(watched.get(after(1_000)).await.as_deref(), Some("one"));
        std::fs::write(&path, "other").expect("written");
        assert_eq!(watched.get(after(1_500)).await.as_deref(), Some("one"));
        watched.doubt().await;
        assert_eq!(watched.get(after(1_600)).await.as_deref(), Some("other"), "looked at again because it was refused");
        std::fs::write(&path, "").expect("written");
        assert_eq!(watched.get(after(5_000)).await.as_deref(), Some("other"), "half exchanged");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(watched.get(after(9_000)).await.as_deref(), Some("other"));
    }
}
