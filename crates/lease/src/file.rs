//! A lease for the processes of one host: the lock of a file. The system frees it when its holder
//! ends, however that ends. A holder that is stopped keeps it: whatever watches the processes has
//! to kill it.
//!
//! The file has the epoch of its newest holder. Epochs are also at least the time in milliseconds
//! since 1970, so that they grow even when somebody removes the file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::info;

use crate::clock::{Moment, Pace};
use crate::error::LeaseError;
use crate::held::{Grip, Held, Lease, LostReason, Slip, keep};

/// More than what a lock file contains.
const CONTENT_MAX: u64 = 1024;
/// Which pace looks at the file about once a second; no time ends the lock.
const PACE: Duration = Duration::from_secs(4);

/// The lock of a file.
#[derive(Debug)]
pub(crate) struct FileLease {
    path: PathBuf,
    holder: String,
    /// What the thread sends that waits for the lock.
    waiting: Option<oneshot::Receiver<Result<Locked, LeaseError>>>,
}

impl FileLease {
    pub(crate) fn new(path: &Path, holder: &str) -> Self {
        Self { path: path.to_owned(), holder: holder.to_owned(), waiting: None }
    }

    /// Starts the thread that waits for the lock: nothing can wait for it otherwise.
    fn wait(&self) -> Result<oneshot::Receiver<Result<Locked, LeaseError>>, LeaseError> {
        let (sender, receiver) = oneshot::channel();
        let (path, holder) = (self.path.clone(), self.holder.clone());
        let waiting = move || {
            let file = lock(&path);
            // If nobody waits any more, the file is closed here, which frees the lock.
            if !sender.is_closed() {
                let _ = sender.send(file.and_then(|file| Locked::begin(path, file, &holder)));
            }
        };
        let thread = thread::Builder::new().name("lease".to_owned()).spawn(waiting);
        thread.map_err(|error| LeaseError::File {
            path: self.path.clone(),
            problem: format!("no thread can be started that waits for its lock: {error}"),
            remedy: "let this process have more threads",
        })?;
        Ok(receiver)
    }
}

impl Lease for FileLease {
    fn acquire(&mut self) -> BoxFuture<'_, Result<Held, LeaseError>> {
        let acquiring = async {
            let waiting = match self.waiting.take() {
                Some(waiting) => waiting,
                None => self.wait()?,
            };
            // It stays here while this future waits, which may be dropped.
            let locked = self.waiting.insert(waiting).await;
            self.waiting = None;
            let locked = locked.map_err(|_| LeaseError::File {
                path: self.path.clone(),
                problem: "the thread that waited for its lock has ended".to_owned(),
                remedy: "start this process again",
            })??;
            Ok(keep(locked.epoch, None, Pace::of(PACE), locked))
        };
        acquiring.boxed()
    }
}

/// The lock while it is held.
#[derive(Debug)]
struct Locked {
    path: PathBuf,
    file: File,
    epoch: u64,
}

impl Locked {
    /// Gives this holding its epoch and writes it down.
    fn begin(path: PathBuf, mut file: File, holder: &str) -> Result<Self, LeaseError> {
        let previous = read_epoch(&path, &mut file)?;
        let epoch = previous.saturating_add(1).max(milliseconds_since_1970());
        let pid = std::process::id();
        // One write of a fixed length in front: a crash leaves the old epoch or the new one.
        let content = format!("{epoch:020}\nheld by {holder}, process {pid}\n");
        let written = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(content.as_bytes()))
            .and_then(|()| file.set_len(content.len() as u64))
            .and_then(|()| file.sync_all())
            // The file itself has to survive a crash, too.
            .and_then(|()| File::open(folder_of(&path))?.sync_all());
        written.map_err(|error| LeaseError::File {
            path: path.clone(),
            problem: format!("its epoch cannot be written: {error}"),
            remedy: "make room on its disk, and let this process write the file",
        })?;
        Ok(Self { path, file, epoch })
    }
}

impl Grip for Locked {
    async fn renew(&mut self) -> Result<Option<Moment>, Slip> {
        let (path, file) = (self.path.clone(), self.file.try_clone());
        let looking = tokio::task::spawn_blocking(move || is_at(&file?, &path));
        let there = looking.await.map_err(|error| Slip::Again(error.to_string()))?;
        match there {
            Ok(true) => Ok(None),
            Ok(false) => {
                let what = format!("lock file {}", self.path.display());
                Err(Slip::Lost(LostReason::Removed(what)))
            }
            Err(error) => Err(Slip::Again(error.to_string())),
        }
    }

    async fn free(self) {}
}

/// Waits for the lock of the file at `path`, which is made if it is not there.
fn lock(path: &Path) -> Result<File, LeaseError> {
    loop {
        let file = open(path)?;
        if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
            info!("waiting as standby: {}", content_shown(path));
        }
        match file.lock() {
            // Otherwise the file was replaced while this waited for the lock of the old one.
            Ok(()) if is_at(&file, path).unwrap_or(false) => return Ok(file),
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(LeaseError::File {
                    path: path.to_owned(),
                    problem: format!("it cannot be locked: {error}"),
                    remedy: "choose a path on a local disk",
                });
            }
        }
    }
}

fn open(path: &Path) -> Result<File, LeaseError> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    opened.map_err(|error| LeaseError::File {
        path: path.to_owned(),
        problem: format!("it cannot be opened: {error}"),
        remedy: match error.kind() {
            ErrorKind::NotFound => "make its folder",
            ErrorKind::PermissionDenied => "let this process read and write it and its folder",
            _ => "choose a path where this process can make a file",
        },
    })
}

/// Whether the open `file` is the one at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The epoch of the holder before; 0 if the file is new.
fn read_epoch(path: &Path, file: &mut File) -> Result<u64, LeaseError> {
    let mut content = String::new();
    let read = Read::by_ref(file).take(CONTENT_MAX).read_to_string(&mut content);
    let unusable = |problem| LeaseError::File {
        path: path.to_owned(),
        problem,
        remedy: "if it is not needed, remove it; otherwise give the lease another path",
    };
    read.map_err(|error| unusable(format!("it cannot be read: {error}")))?;
    if content.is_empty() {
        return Ok(0);
    }
    let number = content.lines().next().and_then(|line| line.parse().ok());
    number.ok_or_else(|| unusable("it does not begin with an epoch".to_owned()))
}

/// What people want to know about who has the lock.
fn content_shown(path: &Path) -> String {
    let content = fs::read_to_string(path).unwrap_or_default();
    let holder = content.lines().nth(1).unwrap_or("held by another process");
    format!("lock file {} is {holder}", path.display())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn milliseconds_since_1970() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire_now(lease: &mut FileLease) -> Option<Result<Held, LeaseError>> {
        lease.acquire().now_or_never()
    }

    #[tokio::test]
    async fn epochs_grow_even_if_the_file_is_removed_or_the_clock_is_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let mut lease = FileLease::new(&path, "a");
        let mut last = 0;
        let ahead = u64::MAX / 2;
        for before in [None, Some(None), None, Some(Some(ahead)), None] {
            match before {
                Some(None) => fs::remove_file(&path).unwrap(),
                Some(Some(epoch)) => fs::write(&path, format!("{epoch}\n")).unwrap(),
                None => {}
            }
            let held = lease.acquire().await.unwrap();
            assert!(held.epoch() > last);
            last = held.epoch();
            held.release().await;
        }
        assert_eq!(last, ahead + 2);
    }

    #[tokio::test]
    async fn one_holds_it_and_the_next_gets_it_when_it_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let (mut a, mut b) = (FileLease::new(&path, "a"), FileLease::new(&path, "b"));
        let first = a.acquire().await.unwrap();
        assert!(acquire_now(&mut b).is_none());
        assert!(acquire_now(&mut b).is_none());
        assert!(fs::read_to_string(&path).unwrap().contains("held by a, process"));
        first.release().await;
        let second = b.acquire().await.unwrap();
        assert!(second.is_held());
        drop(second);
        a.acquire().await.unwrap().release().await;
    }

    #[tokio::test]
    async fn a_replaced_file_is_a_lost_lease() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let mut held = FileLease::new(&path, "a").acquire().await.unwrap();
        fs::remove_file(&path).unwrap();
        let reason = held.lost().await;
        assert_eq!(reason, LostReason::Removed(format!("lock file {}", path.display())));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "root:x:0:0\n").unwrap();
        let binary = folder.path().join("binary");
        fs::write(&binary, [0xff; 5000]).unwrap();
        for (path, words) in [
            (folder.path().join("no/lock"), ["cannot be opened", "make its folder"]),
            (folder.path().to_owned(), ["cannot be opened", "choose a path"]),
            (other.clone(), ["does not begin with an epoch", "another path"]),
            (binary, ["cannot be read", "another path"]),
        ] {
            let error = FileLease::new(&path, "a").acquire().await.unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        assert_eq!(fs::read_to_string(other).unwrap(), "root:x:0:0\n");
    }
}
