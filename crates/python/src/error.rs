//! What can go wrong with Python models, in words for whoever reads them at night.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What a process was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It was loading a model.
    Loading,
    /// It was running a batch of so many rows.
    Running(u32),
    /// It was unloading a model.
    Unloading,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doing::Loading => f.write_str("it was loading the model"),
            Doing::Running(rows) => write!(f, "it was running a batch of {rows} rows"),
            Doing::Unloading => f.write_str("it was unloading the model"),
        }
    }
}

/// Why a Python model was not loaded, or its batch not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PythonError {
    /// The process cannot be started.
    #[error("cannot start {python}: {problem}")]
    Start {
        /// The interpreter.
        python: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The file was refused, or its script raised, while the model was loaded.
    #[error("model {model:?} does not load: {problem}")]
    Load {
        /// The model.
        model: String,
        /// What the script raised and where, or what it lacks.
        problem: String,
    },
    /// The script raised on a batch, or what it returned is not what the model declares.
    #[error("model {model:?} failed on a batch of {rows} rows: {problem}")]
    Run {
        /// The model.
        model: String,
        /// Rows in the batch.
        rows: u32,
        /// What the script raised and where, or what is wrong with what it returned.
        problem: String,
    },
    /// The process has ended.
    #[error("the Python process of model {model:?} {how} while {doing}{lines}")]
    Ended {
        /// The model.
        model: String,
        /// What it was doing.
        doing: Doing,
        /// How it ended.
        how: String,
        /// What it printed last.
        lines: LastLines,
    },
    /// The process did not answer within its bound, and was killed.
    #[error(
        "the Python process of model {model:?} was killed: {doing} and did not end within \
         {bound:?}{lines}"
    )]
    Hung {
        /// The model.
        model: String,
        /// What it was doing.
        doing: Doing,
        /// How long it may take.
        bound: Duration,
        /// What it printed last: where its threads are.
        lines: LastLines,
    },
    /// The process took more memory than it may, and was killed.
    #[error(
        "the Python process of model {model:?} was killed: {doing} and had {} MiB of memory, more \
         than its limit of {} MiB", .bytes >> 20, .max >> 20
    )]
    Memory {
        /// The model.
        model: String,
        /// What it was doing.
        doing: Doing,
        /// What it had.
        bytes: u64,
        /// What it may have.
        max: u64,
    },
    /// The model failed to load again after its process was lost, and is not tried yet.
    #[error(
        "model {model:?} is not loaded: {failures} attempts have failed since its Python process \
         was lost, the next is in {} s: {problem}", .left.as_secs() + 1
    )]
    Pausing {
        /// The model.
        model: String,
        /// Attempts, one after the other.
        failures: u32,
        /// Until the next.
        left: Duration,
        /// Why the last one failed.
        problem: String,
    },
    /// A batch is not what the model takes.
    #[error("a batch for model {model:?} does not fit it: {problem}")]
    Unfit {
        /// The model.
        model: String,
        /// What is wrong.
        problem: String,
    },
    /// There is no memory for the tensors.
    #[error("no memory for the tensors of Python models: {0}")]
    NoMemory(String),
    /// The model was unloaded.
    #[error("the model is not loaded into this Python process")]
    NoModel,
    /// The environment for a model's requirements cannot be made.
    #[error("cannot make the Python environment for {requirements}: {problem}")]
    Environment {
        /// The file.
        requirements: PathBuf,
        /// What is wrong: the last lines of pip.
        problem: String,
    },
}

/// The last lines that a process printed; shown behind an error, if there are any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastLines(pub Vec<String>);

impl fmt::Display for LastLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("; it printed nothing");
        }
        f.write_str("; its last lines:")?;
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}
