//! SHA-256 over the files of a model: what tells one state of them from another.

use super::error::ConfigError;
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The state of some files and settings; equal when they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Takes parts in order. Each is framed by its length, so that no two lists of parts agree.
#[derive(Clone, Debug, Default)]
pub struct FingerprintBuilder {
    hash: Sha256,
}

impl FingerprintBuilder {
    /// Adds a text.
    #[must_use]
    pub fn text(mut self, text: &str) -> FingerprintBuilder {
        self.hash.update((text.len() as u64).to_le_bytes());
        self.hash.update(text.as_bytes());
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, number: u64) -> FingerprintBuilder {
        self.hash.update(number.to_le_bytes());
        self
    }

    /// Adds a file's contents.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn file(mut self, path: &Path) -> Result<FingerprintBuilder, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let mut buffer = vec![0; 1 << 18];
        let mut length = 0u64;
        loop {
            let read = file.read(&mut buffer).map_err(failed)?;
            if read == 0 {
                self.hash.update(length.to_le_bytes());
                return Ok(self);
            }
            length += read as u64;
            self.hash.update(&buffer[..read]);
        }
    }

    /// The fingerprint of everything added.
    #[must_use]
    pub fn finish(self) -> Fingerprint {
        Fingerprint(self.hash.finalize().into())
    }
}
