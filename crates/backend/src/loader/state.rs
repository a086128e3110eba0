//! The state of a model's files according to the file system. Reading hundreds of megabytes only to
//! find that nothing changed would take time from the models that are being served.

use crate::repository::{ConfigError, FingerprintBuilder, ModelKind, ModelSource, OnnxSource};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a model was loaded from, and the state that it was in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedFiles {
    version: u64,
    /// The texts of its settings.
    settings: [String; 2],
    /// Its ONNX file, if it has one, then the files of its external weights.
    files: Vec<(PathBuf, Stamp)>,
}

/// What distinguishes two states of a file. A program can set the time of modification back, but
/// not the time of the last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl LoadedFiles {
    /// The state of a model without files other than its settings.
    pub(super) fn new(source: &ModelSource) -> LoadedFiles {
        let settings = source.settings.texts().map(str::to_owned);
        LoadedFiles { version: source.version, settings, files: Vec::new() }
    }

    /// The state of a version's settings and files, without opening these: its ONNX file, and
    /// whatever lies beside it.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn of(source: &ModelSource) -> Result<LoadedFiles, ConfigError> {
        let mut state = LoadedFiles::new(source);
        let (ModelKind::Onnx { file: OnnxSource::File(path), .. }
        | ModelKind::Python { file: path, .. }) = &source.kind
        else {
            return Ok(state);
        };
        state.add(path)?;
        let beside = path.parent().unwrap_or(path);
        let failed = |source| ConfigError::Read { path: beside.to_owned(), source };
        let entries = fs::read_dir(beside).map_err(failed)?;
        let files = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let mut others: Vec<_> = files.filter(|file| file != path && file.is_file()).collect();
        others.sort();
        others.iter().try_for_each(|file| state.add(file))?;
        Ok(state)
    }

    /// What tells this state from another on every machine that sees the same files: names, sizes and
    /// times of modification.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut all = FingerprintBuilder::default().number(self.version);
        for text in &self.settings {
            all = all.text(text);
        }
        for (path, stamp) in &self.files {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let (seconds, nanoseconds) = stamp.modified;
            all = all.text(&name).number(stamp.size);
            all = all.number(seconds.cast_unsigned()).number(nanoseconds.cast_unsigned());
        }
        all.finish().to_string()
    }

    /// Adds a file in its current state.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn add(&mut self, path: &Path) -> Result<(), ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        self.files.push((path.to_owned(), stamp(path).map_err(failed)?));
        Ok(())
    }

    /// The files, in the order in which they were added.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Whether every file is as it was when it was added.
    pub(super) fn files_are_as_before(&self) -> bool {
        self.files.iter().all(|(path, before)| stamp(path).is_ok_and(|now| now == *before))
    }

    /// Whether loading this version again would find the same.
    #[must_use]
    pub fn is_current(&self, source: &ModelSource) -> bool {
        let is_same_file = match &source.kind {
            ModelKind::Onnx { file: OnnxSource::File(path), .. }
            | ModelKind::Python { file: path, .. } => {
                self.files.first().is_some_and(|(before, _)| before == path)
            }
            // The settings name the example, or describe the emulated model.
            ModelKind::Onnx { file: OnnxSource::Example(_), .. } | ModelKind::Emulated(_) => true,
        };
        is_same_file
            && self.version == source.version
            && self.settings == source.settings.texts()
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
