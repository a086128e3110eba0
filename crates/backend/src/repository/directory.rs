//! One model's directory: its settings, its versions and its files.

use super::config::{EmulatedModel, EngineChoice, EngineConfig, ModelConfig, Terms};
use super::error::ConfigError;
use super::listing::{only_file, onnx_files, versions};
use super::name::is_name;
use super::source::TomlSource;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

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

impl ModelDirectory {
    /// Reads its settings and finds its newest version.
    ///
    /// # Errors
    /// Its name, its `model.toml` or the files in it are unusable; the text says what to do.
    pub fn read(&self) -> Result<ModelSource, ConfigError> {
        self.read_version(None)
    }

    /// The versions before the newest, the latest first. None where the directory cannot be
    /// listed: reading the newest version says why.
    #[must_use]
    pub fn older_versions(&self) -> Vec<u64> {
        let mut versions = versions(&self.path).unwrap_or_default();
        versions.pop();
        versions.reverse();
        versions
    }

    /// Reads its settings and finds a version, the newest where none is given.
    ///
    /// # Errors
    /// As [`ModelDirectory::read`].
    pub fn read_version(&self, wanted: Option<u64>) -> Result<ModelSource, ConfigError> {
        if !is_name(&self.name) {
            return Err(ConfigError::Name { name: self.name.clone() });
        }
        // Listed first, so that a directory that cannot be read is not taken for an empty one.
        let versions = versions(&self.path)?;
        let settings = self.settings()?;
        let ModelConfig { terms, engine } = ModelConfig::parse(&settings)?;
        let newest = wanted.or(versions.last().copied());
        let (version, kind) = match engine {
            EngineConfig::Emulated(model) => (newest.unwrap_or(1), ModelKind::Emulated(model)),
            EngineConfig::Onnx { choice, shapes, generate } => {
                let (version, file) = match generate {
                    Some(example) => {
                        self.refuse_files_beside(&example, newest)?;
                        (1, OnnxSource::Example(example))
                    }
                    None => self.file_of(newest)?,
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

    /// The ONNX file of a version, or the only one there is without versions.
    fn file_of(&self, version: Option<u64>) -> Result<(u64, OnnxSource), ConfigError> {
        let unversioned = onnx_files(&self.path)?;
        let Some(version) = version else {
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
        let problem = "no ONNX file in this version: add model.onnx (copy it in under \
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
