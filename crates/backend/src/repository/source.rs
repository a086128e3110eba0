//! A TOML file as people wrote it: every refusal names the file and the line.
//!
//! This module knows nothing of what the keys mean.

use super::error::ConfigError;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bound on a configuration file: far more than anyone writes, far less than hurts.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The text of a configuration file of any format.
pub(super) fn read_text(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    let refuse = |problem: &str| ConfigError::Invalid {
        path: path.to_owned(),
        line: None,
        problem: problem.to_owned(),
    };
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(refuse("a configuration file may be 1 MiB at most"));
    }
    String::from_utf8(bytes).map_err(|_| refuse("the file is not UTF-8 text: save it as UTF-8"))
}

/// The text of a TOML file and where it came from.
#[derive(Clone, Debug)]
pub struct TomlSource {
    path: PathBuf,
    text: String,
}

impl TomlSource {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is larger than a mebibyte, or is not UTF-8.
    pub fn read(path: &Path) -> Result<TomlSource, ConfigError> {
        Ok(TomlSource { path: path.to_owned(), text: read_text(path)? })
    }

    /// Text that stands for a file, such as the empty text where there is none.
    #[must_use]
    pub fn from_text(path: &Path, text: &str) -> TomlSource {
        TomlSource { path: path.to_owned(), text: text.to_owned() }
    }

    /// The text, for a hash of it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The values in it, not yet validated.
    ///
    /// # Errors
    /// The text is no TOML, or has unknown keys or values of other types.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text)
            .map_err(|error| self.refuse(error.span(), error.message().replace('\n', "; ")))
    }

    /// The refusal of what stands at a byte range, or of something that stands nowhere.
    #[must_use]
    pub fn refuse(&self, at: Option<Range<usize>>, problem: impl Into<String>) -> ConfigError {
        let line = at.map(|range| {
            let before = self.text.as_bytes().iter().take(range.start);
            before.filter(|&&byte| byte == b'\n').count() + 1
        });
        ConfigError::Invalid { path: self.path.clone(), line, problem: problem.into() }
    }
}
