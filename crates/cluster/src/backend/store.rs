//! Where a backend keeps the files of models that are streamed to it: a directory for each state of a
//! version, which is there whole or not at all.

use crate::files::{is_there, total};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use symphony_wire::message::AnnouncedFile;

/// The directories.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    /// Tells apart what backends with the same cache receive at the same time.
    own: String,
    bytes_max: u64,
}

impl Store {
    /// The directories below `root`, which is made with the first, of at most so many bytes.
    pub(crate) fn new(root: PathBuf, backend: &str, bytes_max: u64) -> Store {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        Store { root, own: backend.chars().map(plain).collect(), bytes_max }
    }

    /// The directory of a state of a version; the model's own is in it.
    pub(crate) fn directory(&self, fingerprint: &str) -> PathBuf {
        self.root.join(fingerprint)
    }

    /// Where files are until all are there.
    fn part(&self, fingerprint: &str) -> PathBuf {
        self.root.join(format!(".{fingerprint}.{}.part", self.own))
    }

    /// Where one file of a model is until all are there.
    pub(crate) fn part_of(&self, fingerprint: &str, model: &str, file: &AnnouncedFile) -> PathBuf {
        self.part(fingerprint).join(model).join(&file.path)
    }

    /// Makes ready for the files of a model, with whatever is here already. Returns which are to be
    /// sent, by number; `None` when the directory is whole.
    ///
    /// # Errors
    /// There is no room, or the directory cannot be written.
    pub(crate) fn prepare(
        &self,
        fingerprint: &str,
        model: &str,
        files: &[AnnouncedFile],
        in_use: &BTreeSet<String>,
    ) -> Result<Option<Vec<u32>>, Fault> {
        let whole = self.directory(fingerprint);
        if is_whole(&whole, model, files) {
            // Whoever makes room takes the oldest.
            let _ = File::open(&whole).and_then(|file| file.set_modified(SystemTime::now()));
            return Ok(None);
        }
        let part = self.part(fingerprint);
        if whole.is_dir() && !part.exists() {
            // Somebody has changed it: what is left of it is not sent again.
            fs::rename(&whole, &part).map_err(|error| failed(&whole, error))?;
        }
        self.make_room(total(files), &part, in_use)?;
        fs::create_dir_all(part.join(model)).map_err(|error| failed(&part, error))?;
        let mut lacking = Vec::new();
        for (number, file) in (0u32..).zip(files) {
            let path = self.part_of(fingerprint, model, file);
            if !is_there(&path, file) && !self.link(&path, file) {
                lacking.push(number);
            }
        }
        Ok(Some(lacking))
    }

    /// Takes a file over from another version that has it. Returns whether one does.
    fn link(&self, to: &Path, file: &AnnouncedFile) -> bool {
        let Ok(versions) = self.versions() else { return false };
        let mut same = Vec::new();
        for version in versions.iter().filter(|version| !version.is_part) {
            files_below(&version.path, &mut |path, size| {
                if size == file.size {
                    same.push(path.to_owned());
                }
            });
        }
        same.iter().any(|from| {
            is_there(from, file)
                && create_new(to).is_ok()
                && fs::remove_file(to).is_ok()
                && fs::hard_link(from, to).is_ok()
        })
    }

    /// All files of a version are in its part: from now on it is whole.
    ///
    /// # Errors
    /// The directory cannot be renamed.
    pub(crate) fn publish(
        &self,
        fingerprint: &str,
        model: &str,
        files: &[AnnouncedFile],
    ) -> Result<(), Fault> {
        let (part, whole) = (self.part(fingerprint), self.directory(fingerprint));
        // Another backend with the same cache may have been faster, and load from there.
        let (gone, keep) = match is_whole(&whole, model, files) {
            true => (&part, false),
            false => (&whole, true),
        };
        if gone.is_dir() {
            fs::remove_dir_all(gone).map_err(|error| failed(gone, error))?;
        }
        if keep {
            fs::rename(&part, &whole).map_err(|error| failed(&whole, error))?;
        }
        Ok(())
    }

    /// Removes what has come of a version that is not whole.
    pub(crate) fn discard(&self, fingerprint: &str) {
        let part = self.part(fingerprint);
        if let Err(error) = fs::remove_dir_all(&part)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{} stays, and takes room: {error}", part.display());
        }
    }

    /// Removes the oldest versions that nobody uses until so many bytes more are allowed.
    fn make_room(&self, bytes: u64, own: &Path, in_use: &BTreeSet<String>) -> Result<(), Fault> {
        let mut versions = self.versions().map_err(|error| failed(&self.root, error))?;
        versions.retain(|version| version.path != own);
        versions.sort_by_key(|version| version.used);
        let mut held =
            versions.iter().fold(bytes, |sum, version| sum.saturating_add(version.bytes));
        for version in versions {
            if held <= self.bytes_max {
                break;
            }
            if in_use.contains(&version.name) {
                continue;
            }
            tracing::info!("a streamed version is removed, for others need room: {}", version.name);
            fs::remove_dir_all(&version.path).map_err(|error| failed(&version.path, error))?;
            held -= version.bytes;
        }
        if held > self.bytes_max {
            return Err(Fault::Refused(format!(
                "streamed models would take {held} bytes of the {} allowed: unload some, or raise \
                 cluster.streamed_gib_max",
                self.bytes_max
            )));
        }
        Ok(())
    }

    /// Whatever is below the root.
    fn versions(&self) -> io::Result<Vec<Kept>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut versions = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Ok(data) = entry.metadata() else { continue };
            if !data.is_dir() {
                continue;
            }
            let mut bytes = 0u64;
            files_below(&entry.path(), &mut |_, size| bytes = bytes.saturating_add(size));
            let name = entry.file_name().to_string_lossy().into_owned();
            let used = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            versions.push(Kept {
                is_part: name.starts_with('.'),
                name,
                path: entry.path(),
                bytes,
                used,
            });
        }
        Ok(versions)
    }
}

/// Whether every file of a model is there as it was announced.
fn is_whole(root: &Path, model: &str, files: &[AnnouncedFile]) -> bool {
    root.is_dir() && files.iter().all(|file| is_there(&root.join(model).join(&file.path), file))
}

/// A directory below the root.
#[derive(Debug)]
struct Kept {
    name: String,
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
    /// It is not whole.
    is_part: bool,
}

/// Visits the files of a directory. One that goes away meanwhile is left out.
fn files_below(directory: &Path, each: &mut dyn FnMut(&Path, u64)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(data) if data.is_dir() => files_below(&entry.path(), each),
            Ok(data) if data.is_file() => each(&entry.path(), data.len()),
            _ => {}
        }
    }
}

/// A new file in place of what is there. Other versions may have that too, so it is not written to.
pub(crate) fn create_new(path: &Path) -> Result<File, Fault> {
    let create = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::create_new(path)
    };
    create().map_err(|error| failed(path, error))
}

/// Why a version cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The disk does not take it.
    #[error("{path} cannot be written: {source}: make room there, or give the backend another --cache-dir", path = .path.display())]
    Disk { path: PathBuf, source: io::Error },
    /// What is announced, or what came, is not taken; the text says why.
    #[error("{0}")]
    Refused(String),
}

impl From<String> for Fault {
    fn from(why: String) -> Fault {
        Fault::Refused(why)
    }
}

/// What cannot be done to a file or a directory.
pub(crate) fn failed(path: &Path, source: io::Error) -> Fault {
    Fault::Disk { path: path.to_owned(), source }
}
