//! Small files that only save time: what they hold can be found out again. So a file that cannot be
//! used counts as missing, and one that cannot be written costs no more than the next start.

use crate::repository::{ConfigError, Fingerprint, TomlSource};
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tracing::{debug, warn};

/// The directory below which everything is kept.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    path: PathBuf,
    /// Whether somebody was told that it cannot be written. Once is enough.
    is_told: Arc<AtomicBool>,
}

impl Cache {
    /// The cache at `path`, which is created with its first file.
    pub(crate) fn new(path: PathBuf) -> Cache {
        Cache { path, is_told: Arc::default() }
    }

    /// The files of one kind.
    pub(crate) fn files(&self, kind: &str) -> KeptFiles {
        KeptFiles { directory: self.path.join(kind), is_told: Arc::clone(&self.is_told) }
    }
}

/// The files of one kind, by the fingerprint of what they depend on.
#[derive(Clone, Debug)]
pub(crate) struct KeptFiles {
    directory: PathBuf,
    is_told: Arc<AtomicBool>,
}

impl KeptFiles {
    /// Where the file of a key is.
    pub(crate) fn path(&self, key: Fingerprint) -> PathBuf {
        self.directory.join(format!("{key}.toml"))
    }

    /// Reads the file of a key. `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is no text.
    pub(crate) fn read(&self, key: Fingerprint) -> Result<Option<TomlSource>, ConfigError> {
        match TomlSource::read(&self.path(key)) {
            Ok(source) => Ok(Some(source)),
            Err(ConfigError::Read { source, .. })
                if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Replaces the file of a key. The first failure logs a warning, `what` it was about.
    pub(crate) fn write(&self, key: Fingerprint, what: &str, contents: &str) {
        let path = self.path(key);
        let Err(error) = self.replace(&path, contents) else { return };
        let path = path.display();
        if self.is_told.swap(true, Ordering::Relaxed) {
            debug!("cannot write {what} to {path}: {error}");
        } else {
            warn!(
                "cannot write {what} to {path}: {error}; the next start will take as long as the \
                 first (make room there, or give another --cache-dir)"
            );
        }
    }

    /// Writes a file beside the old one and renames it, so that a reader never sees half of a file.
    fn replace(&self, path: &Path, contents: &str) -> io::Result<()> {
        /// Tells apart what threads write at the same time.
        static WRITTEN: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(&self.directory)?;
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let beside = path.with_extension(format!("{}-{number}.part", std::process::id()));
        let written = fs::File::create(&beside)
            .and_then(|mut file| file.write_all(contents.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&beside, path));
        if written.is_err() {
            // This is already the error path. If this fails too, only a stray file is left.
            let _ = fs::remove_file(&beside);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::FingerprintBuilder;

    fn key(text: &str) -> Fingerprint {
        FingerprintBuilder::default().text(text).finish()
    }

    #[test]
    fn a_file_is_read_as_it_was_written_last() {
        let directory = tempfile::tempdir().unwrap();
        let files = Cache::new(directory.path().join("made/when/needed")).files("kind");
        let text = |name: &str| files.read(key(name)).unwrap().map(|file| file.text().to_owned());
        assert_eq!(text("a"), None);
        files.write(key("a"), "a", "one");
        files.write(key("a"), "a", "two");
        assert_eq!((text("a").as_deref(), text("b")), (Some("two"), None));
        let entries = fs::read_dir(directory.path().join("made/when/needed/kind")).unwrap();
        assert_eq!(entries.count(), 1, "nothing is left beside it");
    }

    #[test]
    fn threads_that_write_the_same_file_do_not_disturb_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let files = Cache::new(directory.path().to_owned()).files("kind");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    (0..20).for_each(|_| files.replace(&files.path(key("a")), "text").unwrap())
                });
            }
        });
        assert_eq!(files.read(key("a")).unwrap().unwrap().text(), "text");
    }

    #[test]
    fn what_cannot_be_written_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let in_the_way = directory.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        let cache = Cache::new(in_the_way);
        let (one, other) = (cache.files("one"), cache.files("other"));
        assert!(!cache.is_told.load(Ordering::Relaxed));
        one.write(key("a"), "a", "text");
        other.write(key("b"), "b", "text");
        assert!(cache.is_told.load(Ordering::Relaxed));
        assert!(one.read(key("a")).unwrap().is_none());
    }
}
