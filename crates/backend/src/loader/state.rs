//! The state of a model's files by the file system's account of them. Reading hundreds of megabytes
//! to find that nothing changed would take time from the models that are being served.

use crate::repository::{ConfigError, ModelDirectory, ModelKind, ModelSource, OnnxSource};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a model was loaded from, and in which state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelState {
    version: String,
    /// The text of its `model.toml`.
    settings: String,
    /// Its ONNX file, if it has one, then the files of its weights.
    files: Vec<(PathBuf, Stamp)>,
}

/// What tells one state of a file from another. A program can set the time of modification back,
/// but not that of the last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl ModelState {
    /// The state of a model that has no files besides its settings.
    pub(super) fn new(source: &ModelSource) -> ModelState {
        let settings = source.settings.text().to_owned();
        ModelState { version: source.version.clone(), settings, files: Vec::new() }
    }

    /// Adds a file, in the state it is in.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn add(&mut self, path: &Path) -> Result<(), ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        self.files.push((path.to_owned(), stamp(path).map_err(failed)?));
        Ok(())
    }

    /// The files, in the order they were added.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Whether every file is as it was when it was added.
    pub(super) fn files_are_as_before(&self) -> bool {
        self.files.iter().all(|(path, before)| stamp(path).is_ok_and(|now| now == *before))
    }

    /// Whether a load of the directory would find what was found before. A directory that cannot
    /// be read is not: loading it says what is wrong.
    #[must_use]
    pub fn is_current(&self, directory: &ModelDirectory) -> bool {
        let Ok(source) = directory.read() else { return false };
        let is_same_file = match &source.kind {
            ModelKind::Onnx { file: OnnxSource::File(path), .. } => {
                self.files.first().is_some_and(|(before, _)| before == path)
            }
            // The settings name the example, or describe the emulated model.
            ModelKind::Onnx { file: OnnxSource::Example(_), .. } | ModelKind::Emulated(_) => true,
        };
        is_same_file
            && self.version == source.version
            && self.settings == source.settings.text()
            && self.files_are_as_before()
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    Ok(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}
