//! The model repository on disk: which models there are, in which version, with which settings.
//!
//! A model is a directory. `NAME/model.toml` (optional) says how the model is served, and
//! `NAME/<version>/model.onnx` is the model; versions are whole numbers, and the highest is served
//! unless the settings ask for others. A directory with only an ONNX file in it is version 1 of a
//! model with default settings. A directory with none of these is not a model, such as `lost+found`
//! on a volume's root.
//!
//! Nothing here opens an ONNX file's contents or knows an engine.

mod config;
mod configuration;
mod convert;
mod directory;
mod error;
mod fingerprint;
mod listing;
mod name;
mod source;
mod triton;
mod versions;

pub use config::{
    BatchAxis, CustomOps, EmulatedModel, EngineChoice, EngineConfig, Fill, GraphSettings,
    MAX_BATCH_DEFAULT, MAX_BATCH_LIMIT, ModelConfig, PythonModel, PythonOptions, QUEUE_MAX_DEFAULT,
    Slo, TensorBounds, Terms,
};
pub use directory::{ModelDirectory, ModelKind, ModelSource, OnnxSource, Settings};
pub use error::ConfigError;
pub use fingerprint::{Fingerprint, FingerprintBuilder};
pub use name::{NAME_MAX, is_name};
pub use source::TomlSource;
pub use triton::{Note, TritonFile};
pub use versions::{VersionChoice, VersionPolicy};

#[cfg(test)]
mod tests;

use listing::{entries, onnx_files, versions};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Bound on models in one repository.
pub const MODELS_MAX: usize = 10_000;

/// A directory of models.
#[derive(Clone, Debug)]
pub struct Repository {
    path: PathBuf,
}

/// What a repository holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The directories of models, by name.
    pub models: Vec<ModelDirectory>,
    /// The directories that are not models, by name.
    pub skipped: Vec<SkippedDirectory>,
}

/// A directory in a repository that is not a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedDirectory {
    /// The directory's name.
    pub name: String,
    /// Why it is not a model.
    pub reason: NotAModel,
}

/// Why a directory is not a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAModel {
    /// Its name begins with a dot.
    Hidden,
    /// Its name is not one that a model can have.
    Name,
    /// It has no settings, no ONNX file and no version directory.
    Contents,
}

impl fmt::Display for SkippedDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "directory {:?} is not a model: {}", self.name, self.reason)
    }
}

impl fmt::Display for NotAModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAModel::Hidden => f.write_str("its name begins with a dot"),
            NotAModel::Name => {
                write!(f, "a model's name has 1 to {NAME_MAX} of the characters A-Z a-z 0-9 _ - .")
            }
            NotAModel::Contents => f.write_str(
                "it has no model.toml, no config.pbtxt, no ONNX file and no version directory",
            ),
        }
    }
}

impl Repository {
    /// The repository at `path`.
    ///
    /// # Errors
    /// There is no such directory, or it looks like one model rather than a directory of models.
    pub fn open(path: &Path) -> Result<Repository, ConfigError> {
        let refuse = |problem: &str| ConfigError::Repository {
            path: path.to_owned(),
            problem: problem.to_owned(),
        };
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(refuse("not a directory: give the directory that holds the models"));
            }
            Err(error) => {
                return Err(refuse(&format!(
                    "{error}: give an existing directory with one directory per model"
                )));
            }
        }
        let has_settings = ["model.toml", triton::FILE].map(|file| path.join(file).is_file());
        if has_settings.contains(&true) || !onnx_files(path)?.is_empty() {
            return Err(refuse("this is one model's own directory: give the directory it lies in"));
        }
        Ok(Repository { path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the repository holds. Plain files are left out.
    ///
    /// # Errors
    /// The repository cannot be listed, or has more than [`MODELS_MAX`] models.
    pub fn scan(&self) -> Result<Scan, ConfigError> {
        let mut directories = entries(&self.path)?;
        // A link that leads nowhere is listed: reading it tells what is wrong.
        directories.retain(|entry| fs::metadata(&entry.path).map_or(true, |data| data.is_dir()));
        directories.sort_by(|a, b| a.name.cmp(&b.name));
        let mut scan = Scan::default();
        for entry in directories {
            let directory = ModelDirectory { name: entry.name, path: entry.path };
            match not_a_model(&directory) {
                None => scan.models.push(directory),
                Some(reason) => {
                    scan.skipped.push(SkippedDirectory { name: directory.name, reason });
                }
            }
        }
        if scan.models.len() > MODELS_MAX {
            return Err(ConfigError::Repository {
                path: self.path.clone(),
                problem: format!(
                    "{} models, more than the {MODELS_MAX} allowed",
                    scan.models.len()
                ),
            });
        }
        Ok(scan)
    }

    /// The directory of one model, if there is one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ModelDirectory> {
        // The name comes from a client: only a plain one may become part of a path.
        let path = is_name(name).then(|| self.path.join(name))?;
        path.is_dir().then(|| ModelDirectory { name: name.to_owned(), path })
    }
}

/// Why a directory cannot be meant as a model, if it cannot. A directory that cannot be listed may
/// be one: reading it tells what is wrong.
fn not_a_model(directory: &ModelDirectory) -> Option<NotAModel> {
    if directory.name.starts_with('.') {
        return Some(NotAModel::Hidden);
    }
    if !is_name(&directory.name) {
        return Some(NotAModel::Name);
    }
    let path = &directory.path;
    let has_settings = ["model.toml", triton::FILE]
        .iter()
        .any(|file| fs::symlink_metadata(path.join(file)).is_ok());
    let has_model = || onnx_files(path).map_or(true, |files| !files.is_empty());
    let has_version = || versions(path).map_or(true, |versions| !versions.is_empty());
    (!has_settings && !has_model() && !has_version()).then_some(NotAModel::Contents)
}
