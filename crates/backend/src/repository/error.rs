//! What can be wrong with a repository or a configuration file.

use std::io;
use std::path::PathBuf;

/// Why a repository, a model's directory or a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The repository itself is unusable.
    #[error("model repository {path}: {problem}")]
    Repository {
        /// The directory given.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A directory's name cannot be a model's.
    #[error(
        "model directory {name:?}: a model's name has 1 to {max} of the characters A-Z a-z 0-9 \
         _ - . and does not begin with a dot; rename the directory",
        max = super::name::NAME_MAX
    )]
    Name {
        /// The directory's name.
        name: String,
    },
    /// The files of a model are not where they should be.
    #[error("{path}: {problem}")]
    Layout {
        /// The directory concerned.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A file or directory cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A configuration file is not in its format.
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
        /// What is wrong.
        problem: String,
    },
    /// A configuration file says something that cannot be.
    #[error("{path}{}: {problem}", line.map(|line| format!(":{line}")).unwrap_or_default(), path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1, where the problem has one.
        line: Option<usize>,
        /// What is wrong and what is allowed.
        problem: String,
    },
}
