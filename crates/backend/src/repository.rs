//! The model repository on disk: which models there are, in which version, with which settings.
//!
//! A model is a directory. `NAME/model.toml` (optional) says how the model is served, and
//! `NAME/<version>/model.onnx` is the model; versions are whole numbers and the highest is served. A
//! directory with only an ONNX file in it is version 1 of a model with default settings.
//!
//! Nothing here opens an ONNX file's contents or knows an engine.

mod config;
mod error;
mod fingerprint;
mod source;

pub use config::{
    EmulatedModel, EngineChoice, EngineConfig, MAX_BATCH_DEFAULT, MAX_BATCH_LIMIT, ModelConfig,
    QUEUE_MAX_DEFAULT, Slo, Terms,
};
pub use error::ConfigError;
pub use fingerprint::{Fingerprint, FingerprintBuilder};
pub use source::TomlSource;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest name of a model.
pub const NAME_MAX: usize = 128;
/// Bound on models in one repository.
pub const MODELS_MAX: usize = 10_000;

/// A directory of models.
#[derive(Clone, Debug)]
pub struct Repository {
    path: PathBuf,
}

/// One model's directory, not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelDirectory {
    /// The directory's name, which is the model's; checked only when the directory is read.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// What a model's directory says.
#[derive(Clone, Debug)]
pub struct ModelSource {
    /// The model's name.
    pub name: String,
    /// The version that is served.
    pub version: String,
    /// How it is served.
    pub terms: Terms,
    /// What is served.
    pub kind: ModelKind,
    /// The text of its `model.toml`, empty when there is none.
    pub settings: TomlSource,
}

/// What is served.
#[derive(Clone, Debug)]
pub enum ModelKind {
    /// An ONNX model.
    Onnx {
        /// Where it comes from.
        file: OnnxSource,
        /// Which engine runs it.
        choice: EngineChoice,
        /// Sizes of open dimensions: input name to its shape without the batch dimension.
        shapes: BTreeMap<String, Vec<usize>>,
    },
    /// A wait of known length.
    Emulated(EmulatedModel),
}

/// Where an ONNX model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnnxSource {
    /// A file of the repository.
    File(PathBuf),
    /// The bundled example of this name, generated on first use.
    Example(String),
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
        if path.join("model.toml").is_file() || !onnx_files(path)?.is_empty() {
            return Err(refuse("this is one model's own directory: give the directory it lies in"));
        }
        Ok(Repository { path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every model's directory, by name. Hidden directories and plain files are no models.
    ///
    /// # Errors
    /// The repository cannot be listed, or has more than [`MODELS_MAX`] models.
    pub fn scan(&self) -> Result<Vec<ModelDirectory>, ConfigError> {
        let mut models: Vec<_> = entries(&self.path)?
            .into_iter()
            // A link that leads nowhere is listed: reading it tells what is wrong.
            .filter(|entry| fs::metadata(&entry.path).map_or(true, |metadata| metadata.is_dir()))
            .filter(|entry| !entry.name.starts_with('.'))
            .map(|entry| ModelDirectory { name: entry.name, path: entry.path })
            .collect();
        if models.len() > MODELS_MAX {
            return Err(ConfigError::Repository {
                path: self.path.clone(),
                problem: format!("{} models, more than the {MODELS_MAX} allowed", models.len()),
            });
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// The directory of one model, if there is one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ModelDirectory> {
        // The name comes from a client: only a plain one may become part of a path.
        let path = is_name(name).then(|| self.path.join(name))?;
        path.is_dir().then(|| ModelDirectory { name: name.to_owned(), path })
    }
}

impl ModelDirectory {
    /// Reads its settings and finds its newest version.
    ///
    /// # Errors
    /// Its name, its `model.toml` or the files in it are unusable; the text says what to do.
    pub fn read(&self) -> Result<ModelSource, ConfigError> {
        if !is_name(&self.name) {
            return Err(ConfigError::Name { name: self.name.clone() });
        }
        // Listed first, so that a directory that cannot be read is not taken for an empty one.
        let versions = versions(&self.path)?;
        let settings = self.settings()?;
        let ModelConfig { terms, engine } = ModelConfig::parse(&settings)?;
        let newest = versions.last().copied();
        let (version, kind) = match engine {
            EngineConfig::Emulated(model) => (newest.unwrap_or(1), ModelKind::Emulated(model)),
            EngineConfig::Onnx { choice, shapes, generate } => {
                let (version, file) = match generate {
                    Some(example) => {
                        self.refuse_files_beside(&example, newest)?;
                        (1, OnnxSource::Example(example))
                    }
                    None => self.newest_file(newest)?,
                };
                (version, ModelKind::Onnx { file, choice, shapes })
            }
        };
        let name = self.name.clone();
        Ok(ModelSource { name, version: version.to_string(), terms, kind, settings })
    }

    /// Its `model.toml`, empty when there is none.
    fn settings(&self) -> Result<TomlSource, ConfigError> {
        let path = self.path.join("model.toml");
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(TomlSource::from_text(&path, ""))
            }
            _ => TomlSource::read(&path),
        }
    }

    /// The ONNX file of the newest version, or the only one there is without versions.
    fn newest_file(&self, newest: Option<u64>) -> Result<(u64, OnnxSource), ConfigError> {
        let unversioned = onnx_files(&self.path)?;
        let Some(version) = newest else {
            let problem = "no model here: add 1/model.onnx, or a model.toml that names an \
                           example to generate or engine = \"emulated\"";
            return Ok((1, OnnxSource::File(only_file(&self.path, unversioned, problem)?)));
        };
        if let Some(file) = unversioned.first() {
            let problem = format!(
                "both version directories and {}: move the file into a version directory, or \
                 remove it",
                file.display()
            );
            return Err(ConfigError::Layout { path: self.path.clone(), problem });
        }
        let directory = self.path.join(version.to_string());
        let problem = "no ONNX file in the newest version: add model.onnx (copy it in under \
                       another name, then rename it), or remove the directory";
        Ok((version, OnnxSource::File(only_file(&directory, onnx_files(&directory)?, problem)?)))
    }

    fn refuse_files_beside(&self, generator: &str, newest: Option<u64>) -> Result<(), ConfigError> {
        if newest.is_none() && onnx_files(&self.path)?.is_empty() {
            return Ok(());
        }
        let problem = format!(
            "model.toml says generate = {generator:?}, but there is a model file or version \
             directory too: remove one or the other"
        );
        Err(ConfigError::Layout { path: self.path.clone(), problem })
    }
}

/// Whether a text can be a model's name, which is also a directory's and part of a URL.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=NAME_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

struct Entry {
    name: String,
    path: PathBuf,
}

fn entries(directory: &Path) -> Result<Vec<Entry>, ConfigError> {
    let failed = |source| ConfigError::Read { path: directory.to_owned(), source };
    fs::read_dir(directory)
        .map_err(failed)?
        .map(|entry| {
            let entry = entry.map_err(failed)?;
            // What is not UTF-8 is no name and is refused as such when it is read.
            Ok(Entry { name: entry.file_name().to_string_lossy().into_owned(), path: entry.path() })
        })
        .collect()
}

/// The version directories, ascending.
fn versions(directory: &Path) -> Result<Vec<u64>, ConfigError> {
    let mut versions: Vec<u64> = entries(directory)?
        .into_iter()
        .filter(|entry| entry.path.is_dir())
        .filter_map(|entry| {
            let version: u64 = entry.name.parse().ok()?;
            // "01" and "+1" are other directories than "1".
            (version > 0 && version.to_string() == entry.name).then_some(version)
        })
        .collect();
    versions.sort_unstable();
    Ok(versions)
}

/// The ONNX files directly in a directory, by name.
fn onnx_files(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files: Vec<PathBuf> = entries(directory)?
        .into_iter()
        .filter(|entry| !entry.name.starts_with('.') && entry.name.ends_with(".onnx"))
        .map(|entry| entry.path)
        .filter(|path| !path.is_dir())
        .collect();
    files.sort();
    Ok(files)
}

/// `model.onnx`, or whatever the only file is called.
fn only_file(
    directory: &Path,
    mut files: Vec<PathBuf>,
    if_none: &str,
) -> Result<PathBuf, ConfigError> {
    let refuse = |problem| Err(ConfigError::Layout { path: directory.to_owned(), problem });
    if let Some(at) = files.iter().position(|file| file.ends_with("model.onnx")) {
        return Ok(files.swap_remove(at));
    }
    match files.len() {
        0 => refuse(if_none.to_owned()),
        1 => Ok(files.swap_remove(0)),
        count => refuse(format!(
            "{count} ONNX files and none is called model.onnx: keep one, or rename it so"
        )),
    }
}
