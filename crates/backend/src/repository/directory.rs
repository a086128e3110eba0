//! One model's directory: its settings, its versions and its files.

use super::config::{
    CustomOps, EmulatedModel, EngineConfig, GraphSettings, ModelConfig, PythonModel, Terms,
};
use super::error::ConfigError;
use super::listing::{named_file, only_file, onnx_files, python_file, versions};
use super::name::is_name;
use super::source::TomlSource;
use super::triton::{Note, TritonFile};
use super::versions::{VersionChoice, VersionPolicy};
use std::fs;
use std::path::{Path, PathBuf};

/// The version of a model without version directories.
const UNVERSIONED: u64 = 1;

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
    /// Its directory, which has its versions.
    pub directory: PathBuf,
    /// The version that was read.
    pub version: u64,
    /// Which versions are served.
    pub policy: VersionPolicy,
    /// How it is served.
    pub terms: Terms,
    /// What is served.
    pub kind: ModelKind,
    /// The files that say so.
    pub settings: Settings,
}

/// The files with a model's settings. What `model.toml` says holds, key by key; the rest is from
/// `config.pbtxt`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its `model.toml`, empty when there is none.
    pub toml: TomlSource,
    /// Triton's file.
    pub triton: Option<TritonFile>,
}

impl Settings {
    /// What is done in place of what `config.pbtxt` asks for.
    #[must_use]
    pub fn notes(&self) -> Vec<Note> {
        self.triton.as_ref().map(TritonFile::notes).unwrap_or_default()
    }

    /// The texts, for a comparison with another state of them.
    #[must_use]
    pub fn texts(&self) -> [&str; 2] {
        [self.toml.text(), self.triton.as_ref().map_or("", TritonFile::text)]
    }
}

/// What is served.
#[derive(Clone, Debug)]
pub enum ModelKind {
    /// An ONNX model.
    Onnx {
        /// Where it comes from.
        file: OnnxSource,
        /// How its graph is served. A path in it is absolute.
        settings: GraphSettings,
    },
    /// A model that a Python process runs.
    Python {
        /// The script, or what was exported from PyTorch.
        file: PathBuf,
        /// What the settings say of it.
        model: Box<PythonModel>,
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
    /// The model whose own directory is at `path`, which names it.
    ///
    /// # Errors
    /// There is no directory there.
    pub fn at(path: &Path) -> Result<ModelDirectory, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let path = path.canonicalize().map_err(failed)?;
        // What is not UTF-8 is no name and is refused as such when it is read.
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(ModelDirectory { name, path })
    }

    /// Reads its settings and the highest of the versions that they choose.
    ///
    /// # Errors
    /// Its name, its `model.toml` or the files in it are unusable; the text says what to do.
    pub fn read(&self) -> Result<ModelSource, ConfigError> {
        self.read_version(self.versions()?.highest())
    }

    /// Which of its versions its settings choose. A model without version directories has version
    /// 1.
    ///
    /// # Errors
    /// Its name, its `model.toml` or its files are unusable, or none of the versions that it names
    /// is there.
    pub fn versions(&self) -> Result<VersionChoice, ConfigError> {
        let (versions, config, _) = self.parsed()?;
        let available = if versions.is_empty() { vec![UNVERSIONED] } else { versions };
        config.versions.choose(&available).ok_or_else(|| ConfigError::Layout {
            path: self.path.clone(),
            problem: format!(
                "none of the versions that its settings name is there ({}): add one of them, or \
                 change the versions",
                config.versions
            ),
        })
    }

    /// The version directories, ascending; the settings, and the files that they are from.
    fn parsed(&self) -> Result<(Vec<u64>, ModelConfig, Settings), ConfigError> {
        if !is_name(&self.name) {
            return Err(ConfigError::Name { name: self.name.clone() });
        }
        // Listed first, so that a directory that cannot be read is not taken for an empty one.
        let versions = versions(&self.path)?;
        let settings = self.settings()?;
        let inherited =
            settings.triton.as_ref().map(|file| file.inherited(&self.name)).transpose()?;
        let config = ModelConfig::parse_over(&settings.toml, inherited.unwrap_or_default())?;
        Ok((versions, config, settings))
    }

    /// The files with its settings.
    pub(super) fn settings(&self) -> Result<Settings, ConfigError> {
        Ok(Settings { toml: self.model_toml()?, triton: TritonFile::read(&self.path)? })
    }

    /// Reads its settings and one of its versions.
    ///
    /// # Errors
    /// As [`ModelDirectory::read`].
    pub fn read_version(&self, version: u64) -> Result<ModelSource, ConfigError> {
        let (versions, config, settings) = self.parsed()?;
        let ModelConfig { versions: policy, terms, engine } = config;
        let newest = (!versions.is_empty()).then_some(version);
        let (version, kind) = match engine {
            EngineConfig::Emulated(model) => {
                (newest.unwrap_or(UNVERSIONED), ModelKind::Emulated(model))
            }
            EngineConfig::Python(model) => {
                let version = newest.unwrap_or(UNVERSIONED);
                let directory =
                    newest.map_or(self.path.clone(), |number| self.path.join(number.to_string()));
                let file = match &model.file {
                    Some(name) => named_file(&directory, name)?,
                    None => python_file(&directory)?,
                };
                (version, ModelKind::Python { file, model })
            }
            EngineConfig::Onnx { mut settings, file, generate } => {
                if let Some(CustomOps::File(path)) = &mut settings.custom_ops {
                    *path = self.path.join(&*path);
                }
                let (version, file) = match generate {
                    Some(example) => {
                        self.refuse_files_beside(&example, newest)?;
                        (UNVERSIONED, OnnxSource::Example(example))
                    }
                    None => self.file_of(newest, file.as_deref())?,
                };
                (version, ModelKind::Onnx { file, settings })
            }
        };
        let name = self.name.clone();
        let directory = self.path.clone();
        Ok(ModelSource { name, directory, version, policy, terms, kind, settings })
    }

    /// Its `model.toml`, empty when there is none.
    fn model_toml(&self) -> Result<TomlSource, ConfigError> {
        let path = self.path.join("model.toml");
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(TomlSource::from_text(&path, ""))
            }
            _ => TomlSource::read(&path),
        }
    }

    /// The ONNX file of a version, or the only one there is without versions.
    fn file_of(
        &self,
        version: Option<u64>,
        name: Option<&str>,
    ) -> Result<(u64, OnnxSource), ConfigError> {
        let unversioned = onnx_files(&self.path)?;
        let Some(version) = version else {
            let problem = "no model here: add 1/model.onnx, or a model.toml that names an \
                           example to generate or engine = \"emulated\"";
            let file = match name {
                Some(name) => named_file(&self.path, name)?,
                None => only_file(&self.path, unversioned, problem)?,
            };
            return Ok((UNVERSIONED, OnnxSource::File(file)));
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
        let file = match name {
            Some(name) => named_file(&directory, name)?,
            None => only_file(&directory, onnx_files(&directory)?, problem)?,
        };
        Ok((version, OnnxSource::File(file)))
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
