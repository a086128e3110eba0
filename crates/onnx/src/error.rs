//! Errors about model files. Each names the thing and says what to do.

use std::io;
use std::path::PathBuf;

/// Why a model could not be read, described, rewritten or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's message.
        source: io::Error,
    },
    /// A file or directory could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's message.
        source: io::Error,
    },
    /// The model in a file cannot be used. The source says why.
    #[error("{path}: {source}")]
    File {
        /// The model file.
        path: PathBuf,
        /// The reason.
        source: Box<Error>,
    },
    /// The bytes are not a protobuf message of the ONNX schema.
    #[error("not an ONNX model, or cut short: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The message decodes, but it lacks a part that every model has.
    #[error("not an ONNX model, or cut short: it has no {0}")]
    Missing(&'static str),
    /// An input, output or initializer of the graph cannot be used.
    #[error("{role} {name:?}: {problem}")]
    Value {
        /// `input`, `output`, `value` or `initializer`.
        role: &'static str,
        /// Its name, possibly empty.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A stored tensor contradicts itself.
    #[error("tensor {name:?}: {problem}")]
    Tensor {
        /// The tensor's name, or its node's.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A tensor stored outside the model file cannot be used.
    #[error("tensor {name:?} is stored outside the model file in {location:?}: {problem}")]
    External {
        /// The tensor's name.
        name: String,
        /// The file it names.
        location: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The graph cannot take a batch along its leading dimension.
    #[error("{role} {name:?} cannot carry a batch: {problem}; serve it with max_batch = 1")]
    NotBatchable {
        /// `input` or `output`.
        role: &'static str,
        /// Its name.
        name: String,
        /// Why it cannot.
        problem: String,
    },
    /// No input has this name.
    #[error("no input {name:?}; the model's inputs are {known:?}")]
    UnknownInput {
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A dimension cannot have the size that was asked for.
    #[error("input {input:?}, dimension {axis}: {problem}")]
    Dimension {
        /// The input's name.
        input: String,
        /// Counted from 0, including the batch dimension.
        axis: usize,
        /// What is wrong.
        problem: String,
    },
    /// No bundled example has this name.
    #[error("no example {name:?}; there are {}", known.join(", "))]
    UnknownExample {
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        known: Vec<&'static str>,
    },
}
