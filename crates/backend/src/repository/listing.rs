//! What lies in a directory, and which of it can belong to a model.

use super::error::ConfigError;
use std::fs;
use std::path::{Path, PathBuf};

/// What a model's file is called where nothing else is said.
const GRAPH: &str = "model.onnx";

/// Something in a directory.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// Everything in a directory.
pub(super) fn entries(directory: &Path) -> Result<Vec<Entry>, ConfigError> {
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
pub(super) fn versions(directory: &Path) -> Result<Vec<u64>, ConfigError> {
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
pub(super) fn onnx_files(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files: Vec<PathBuf> = entries(directory)?
        .into_iter()
        .filter(|entry| !entry.name.starts_with('.') && entry.name.ends_with(".onnx"))
        .map(|entry| entry.path)
        .filter(|path| !path.is_dir())
        .collect();
    files.sort();
    Ok(files)
}

/// What Python models are called where nothing else is said, in order of preference: a script, what
/// `torch.export` makes, TorchScript.
const PYTHON: [&str; 3] = ["model.py", "model.pt2", "model.pt"];

/// The file of a Python model in a directory.
pub(super) fn python_file(directory: &Path) -> Result<PathBuf, ConfigError> {
    let mut files = PYTHON.iter().map(|name| directory.join(name));
    files.find(|path| path.is_file()).ok_or_else(|| ConfigError::Layout {
        path: directory.to_owned(),
        problem: format!(
            "no file of a Python model ({}): add one, or name it with `file` in model.toml",
            PYTHON.join(", ")
        ),
    })
}

/// The file of this name. A directory of this name holds a model of several files, as Triton has
/// it: its graph is `model.onnx`.
pub(super) fn named_file(directory: &Path, name: &str) -> Result<PathBuf, ConfigError> {
    let path = directory.join(name);
    let path = if path.is_dir() { path.join(GRAPH) } else { path };
    if path.is_file() {
        return Ok(path);
    }
    let problem = format!(
        "the settings name the model's file {name:?}, and it is not there: add it, or correct \
         `file` in model.toml (`default_model_filename` in config.pbtxt)"
    );
    Err(ConfigError::Layout { path: directory.to_owned(), problem })
}

/// `model.onnx`, or whatever the only file is called.
pub(super) fn only_file(
    directory: &Path,
    mut files: Vec<PathBuf>,
    if_none: &str,
) -> Result<PathBuf, ConfigError> {
    let refuse = |problem| Err(ConfigError::Layout { path: directory.to_owned(), problem });
    if let Some(at) = files.iter().position(|file| file.ends_with(GRAPH)) {
        return Ok(files.swap_remove(at));
    }
    match files.len() {
        0 if directory.join(GRAPH).is_dir() => named_file(directory, GRAPH),
        0 => refuse(if_none.to_owned()),
        1 => Ok(files.swap_remove(0)),
        count => refuse(format!(
            "{count} ONNX files and none is called model.onnx: keep one, or rename it so"
        )),
    }
}
