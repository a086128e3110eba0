//! What a Python process is started with.

use crate::environment::Interpreter;
use std::path::PathBuf;
use std::time::Duration;

/// A Python process for one accelerator.
#[derive(Clone, Debug)]
pub struct PythonConfig {
    /// The Python that runs it.
    pub python: Interpreter,
    /// Where this crate keeps its own file for Python. Nobody else may write there: it is made so.
    pub directory: PathBuf,
    /// The compute threads of numpy and torch.
    pub threads: usize,
    /// The most memory that the process and all that it starts may have, in bytes.
    pub memory_max: Option<u64>,
    /// How long it may take.
    pub bounds: Bounds,
    /// More of its environment, such as `CUDA_VISIBLE_DEVICES`.
    pub variables: Vec<(String, String)>,
}

impl PythonConfig {
    /// One compute thread, no bound on memory, and the default bounds on time.
    #[must_use]
    pub fn new(python: Interpreter, directory: impl Into<PathBuf>) -> PythonConfig {
        PythonConfig {
            python,
            directory: directory.into(),
            threads: 1,
            memory_max: None,
            bounds: Bounds::default(),
            variables: Vec::new(),
        }
    }
}

/// How long a Python process may take before it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Until it answers after its start.
    pub start: Duration,
    /// To load a model. Large ones are read from disk and compiled in this time.
    pub load: Duration,
    /// To run a batch.
    pub run: Duration,
    /// To end by itself, and to unload a model.
    pub end: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            start: Duration::from_secs(60),
            load: Duration::from_secs(600),
            run: Duration::from_secs(30),
            end: Duration::from_secs(5),
        }
    }
}
