//! Noticing that files have changed, by looking at what is in them.
//!
//! Contents are compared, not times: a file system's times are coarse, a copy may keep them, and
//! what is put in place by a link to another directory, as Kubernetes does it, changes none.

use crate::error::TlsError;
use crate::pem::read_bounded;
use sha2::{Digest, Sha256};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How often files are looked at. A change counts once two looks have found the same, so that files
/// which are being written, or renewed one after the other, are not read half-way.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLook {
    /// What was known.
    Same,
    /// Something else than before, and it stays that way.
    Changed,
}

/// What some files held when they were looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesSeen(Vec<(PathBuf, Result<[u8; 32], ErrorKind>)>);

impl FilesSeen {
    /// What the files hold now; those that cannot be read count as such.
    pub fn now(paths: impl IntoIterator<Item = PathBuf>) -> FilesSeen {
        let digest = |path: &PathBuf| match read_bounded(path) {
            Ok(bytes) => Ok(Sha256::digest(bytes).into()),
            Err(error) => Err(error.kind()),
        };
        FilesSeen(
            paths.into_iter().map(|path| (digest(&path), path)).map(|(d, p)| (p, d)).collect(),
        )
    }

    fn again(&self) -> FilesSeen {
        FilesSeen::now(self.0.iter().map(|(path, _)| path.clone()))
    }
}

/// A thread that looks at files, until this is dropped.
#[derive(Debug)]
pub struct FileWatch {
    /// Never sent on: its end tells the thread to end.
    _alive: Sender<()>,
}

impl FileWatch {
    /// Starts looking for changes of the files since `seen`, which was taken before they were read.
    /// Each look is told, about two a second.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        name: &str,
        seen: FilesSeen,
        mut tell: impl FnMut(FileLook) + Send + 'static,
    ) -> Result<FileWatch, TlsError> {
        let (alive, ended) = channel::<()>();
        let mut turns = Turns { known: seen, newer: None };
        let look = move || {
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                let found = turns.known.again();
                tell(turns.look(found));
            }
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(look).map_err(TlsError::Thread)?;
        Ok(FileWatch { _alive: alive })
    }
}

/// What looks have found.
struct Turns {
    known: FilesSeen,
    /// What the last look found, where that was not known.
    newer: Option<FilesSeen>,
}

impl Turns {
    fn look(&mut self, found: FilesSeen) -> FileLook {
        if found == self.known {
            self.newer = None;
            return FileLook::Same;
        }
        if self.newer.as_ref() != Some(&found) {
            self.newer = Some(found);
            return FileLook::Same;
        }
        self.newer = None;
        self.known = found;
        FileLook::Changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_and_when_two_looks_have_found_it() {
        let seen = |content: &str| {
            let digest = Ok(Sha256::digest(content).into());
            FilesSeen(vec![(PathBuf::from("key"), digest)])
        };
        let gone = FilesSeen(vec![(PathBuf::from("key"), Err(ErrorKind::NotFound))]);
        let mut turns = Turns { known: seen("a"), newer: None };
        let looks = [
            (seen("a"), FileLook::Same),
            (seen("half of b"), FileLook::Same),
            (seen("b"), FileLook::Same),
            (seen("b"), FileLook::Changed),
            (seen("b"), FileLook::Same),
            // Gone and back between two looks is no change.
            (gone.clone(), FileLook::Same),
            (seen("b"), FileLook::Same),
            (gone.clone(), FileLook::Same),
            (gone.clone(), FileLook::Changed),
            (gone, FileLook::Same),
        ];
        for (turn, (found, expected)) in looks.into_iter().enumerate() {
            assert_eq!(turns.look(found), expected, "look {turn}");
        }
    }

    #[test]
    fn what_files_hold_is_seen_whatever_their_times_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let seen = || FilesSeen::now([path.clone()]);
        let missing = seen();
        std::fs::write(&path, "first").unwrap();
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        let first = seen();
        assert_ne!(first, missing);
        std::fs::write(&path, "other").unwrap();
        std::fs::File::open(&path).unwrap().set_modified(modified).unwrap();
        assert_ne!(seen(), first);
        std::fs::write(&path, "first").unwrap();
        assert_eq!(seen(), first);
    }
}
