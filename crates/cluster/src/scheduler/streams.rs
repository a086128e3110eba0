//! The files of models that are streamed to backends: what is announced of a version, and the pieces
//! that backends ask for.

use super::membership::BackendKey;
use crate::files::{FILES_MAX, digest};
use crate::lock::lock;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use symphony_backend::repository::{CustomOps, ModelKind, ModelSource};
use symphony_wire::carrier::link::{LinkSender, SendError};
use symphony_wire::message::link::SchedulerToBackend;
use symphony_wire::message::{AnnouncedFile, FilePart, FileWanted};
use tokio::sync::mpsc;

/// Pieces that one backend may have asked for and not got.
pub(crate) const WANTED_MAX: usize = 64;
/// A piece is sent when less than this waits for the backend to read: plans find room, and wait for no
/// more than this and one piece.
const WAITING_MAX: usize = 256 << 10;
/// How often to look whether there is room.
const ROOM_AGAIN: Duration = Duration::from_millis(1);
/// Checksums that are kept; beyond this they are computed anew.
const DIGESTS_MAX: usize = 100_000;
/// Directories below a version's that are looked into.
const DEPTH_MAX: usize = 8;

/// Where a backend gets the files of a version from.
#[derive(Clone, Debug)]
pub(crate) enum ModelFiles {
    /// It sees the repository at this path.
    Shared(PathBuf),
    /// They are streamed to it.
    Streamed(Arc<StreamedFiles>),
}

/// The files of a version that is streamed.
#[derive(Debug)]
pub(crate) struct StreamedFiles {
    /// The model's directory.
    pub(crate) directory: PathBuf,
    pub(crate) files: Vec<AnnouncedFile>,
}

/// The state of a file for which its checksum holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The checksums of files, each computed once for a state of the file.
#[derive(Debug, Default)]
pub(crate) struct Digests(HashMap<PathBuf, (Stamp, [u8; 32])>);

impl Digests {
    /// What is announced of a version: its settings, whatever lies beside them, and its directory.
    ///
    /// # Errors
    /// A file cannot be read, or there are too many.
    pub(crate) fn announce(
        &mut self,
        source: &ModelSource,
        directory: &Path,
    ) -> io::Result<Vec<AnnouncedFile>> {
        let mut paths = BTreeMap::new();
        add_files(directory, "", 0, &mut paths)?;
        let version = source.version.to_string();
        if directory.join(&version).is_dir() {
            add_files(&directory.join(&version), &format!("{version}/"), DEPTH_MAX, &mut paths)?;
        }
        if let ModelKind::Onnx { settings, .. } = &source.kind
            && let Some(CustomOps::File(path)) = &settings.custom_ops
            && let Some(inside) = path.strip_prefix(directory).ok().and_then(Path::to_str)
        {
            paths.insert(inside.to_owned(), path.clone());
        }
        paths.into_iter().map(|(name, path)| self.announced(name, &path)).collect()
    }

    fn announced(&mut self, path: String, at: &Path) -> io::Result<AnnouncedFile> {
        let data = fs::metadata(at)?;
        let stamp = Stamp {
            inode: data.ino(),
            size: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        };
        if let Some((known, sha256)) = self.0.get(at)
            && *known == stamp
        {
            return Ok(AnnouncedFile { path, size: stamp.size, sha256: *sha256 });
        }
        let (size, sha256) = digest(at)?;
        if self.0.len() >= DIGESTS_MAX {
            self.0.clear();
        }
        if size == stamp.size {
            self.0.insert(at.to_owned(), (stamp, sha256));
        }
        Ok(AnnouncedFile { path, size, sha256 })
    }
}

/// Adds the files of a directory, and of those below it. Links are followed.
fn add_files(
    directory: &Path,
    prefix: &str,
    depth: usize,
    paths: &mut BTreeMap<String, PathBuf>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(io::Error::other(format!("{}: its name is no UTF-8", path.display())));
        };
        if name.starts_with('.') {
            continue;
        }
        let inside = format!("{prefix}{name}");
        if path.is_file() {
            paths.insert(inside, path);
        } else if depth > 0 && path.is_dir() {
            add_files(&path, &format!("{inside}/"), depth - 1, paths)?;
        }
        if paths.len() > FILES_MAX {
            return Err(io::Error::other(format!("more than {FILES_MAX} files")));
        }
    }
    Ok(())
}

/// What was announced to each backend by orders that it has not answered. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Arc<Mutex<Announced>>);

/// By the backend and the number of the order.
type Announced = BTreeMap<(BackendKey, u64), Arc<StreamedFiles>>;

impl Streams {
    fn all(&self) -> MutexGuard<'_, Announced> {
        lock(&self.0)
    }

    pub(crate) fn ordered(&self, backend: BackendKey, number: u64, files: Arc<StreamedFiles>) {
        self.all().insert((backend, number), files);
    }

    pub(crate) fn answered(&self, backend: BackendKey, number: u64) {
        self.all().remove(&(backend, number));
    }

    pub(crate) fn left(&self, backend: BackendKey) {
        self.all().retain(|(of, _), _| *of != backend);
    }

    fn of(&self, backend: BackendKey, number: u64) -> Option<Arc<StreamedFiles>> {
        self.all().get(&(backend, number)).cloned()
    }
}

/// Sends a backend the pieces that it asks for, as long as its link lasts.
pub(crate) async fn serve(
    mut wanted: mpsc::Receiver<FileWanted>,
    backend: BackendKey,
    streams: Streams,
    sender: LinkSender<SchedulerToBackend>,
) {
    while let Some(piece) = wanted.recv().await {
        // An order that was answered needs nothing more.
        let Some(files) = streams.of(backend, piece.number) else { continue };
        let number = piece.number;
        let read = tokio::task::spawn_blocking(move || read(&files, piece)).await;
        let message = match read.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(part) => SchedulerToBackend::File(part),
            Err(text) => SchedulerToBackend::NoFile { number, text },
        };
        if !send_in_turn(&sender, &message).await {
            return;
        }
    }
}

/// Sends a message once little waits for the backend. Returns whether the link is still there.
async fn send_in_turn(
    sender: &LinkSender<SchedulerToBackend>,
    message: &SchedulerToBackend,
) -> bool {
    loop {
        if sender.waiting() < WAITING_MAX {
            match sender.send(message) {
                Ok(()) => return true,
                Err(SendError::Full) => {}
                Err(error) => {
                    sender.close(&error.to_string());
                    return false;
                }
            }
        }
        if sender.is_closed() {
            return false;
        }
        tokio::time::sleep(ROOM_AGAIN).await;
    }
}

fn read(files: &StreamedFiles, wanted: FileWanted) -> Result<FilePart, String> {
    let FileWanted { number, file, offset, bytes } = wanted;
    let Some(announced) = files.files.get(file as usize) else {
        return Err(format!("there is no file {file} in the order"));
    };
    let end = offset.checked_add(bytes.into()).filter(|end| *end <= announced.size);
    if end.is_none() || bytes > FilePart::BYTES_MAX {
        return Err(format!("{}: no piece of {bytes} bytes at {offset}", announced.path));
    }
    let path = files.directory.join(&announced.path);
    let read = || -> io::Result<Vec<u8>> {
        let mut open = File::open(&path)?;
        open.seek(SeekFrom::Start(offset))?;
        let mut contents = vec![0; bytes as usize];
        open.read_exact(&mut contents)?;
        Ok(contents)
    };
    let contents = read().map_err(|error| {
        format!("{}: {error}: it has changed since the load began; load it again", path.display())
    })?;
    Ok(FilePart { number, file, offset, bytes: Bytes::from(contents) })
}
