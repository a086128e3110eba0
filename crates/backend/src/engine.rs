//! What an inference engine is to the rest of the backend: it loads an ONNX graph once per
//! accelerator and runs batches on it.
//!
//! Nothing here knows a particular engine, the scheduler, or where a batch's rows come from.

use crate::batch::{Batch, Representation};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use symphony_onnx::Model;
use symphony_wire::tensor::{OutputTensor, Signature};

/// What an engine is given to load.
#[derive(Clone, Copy, Debug)]
pub struct LoadRequest<'a> {
    /// The model's name, for errors and logs.
    pub name: &'a str,
    /// The graph.
    pub graph: Graph<'a>,
    /// What the graph takes and gives; an output's dimensions may still be unknown.
    pub signature: &'a Signature,
    /// How many accelerators to load it on; not more than the engine was made for.
    pub accelerators: usize,
}

/// The machine's cores, split into accelerators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// How many accelerators, at least one.
    pub accelerators: usize,
    /// Threads that each computes with, at least one.
    pub threads: usize,
}

/// An ONNX graph and the file it came from.
#[derive(Clone, Copy, Debug)]
pub struct Graph<'a> {
    /// The graph as it is to be run.
    pub model: &'a Model,
    /// Its file. Weights outside the file lie beside it.
    pub path: &'a Path,
    /// Whether `model` was changed after it was read, so that the file is no longer it.
    pub patched: bool,
}

/// An inference engine.
pub trait Engine: Send + Sync {
    /// Its name in configurations, such as `rten`.
    fn name(&self) -> &'static str;

    /// Its version: profiles measured with another one are not its own.
    fn version(&self) -> String;

    /// The platform name that clients are told, such as `rten_onnx`.
    fn platform(&self) -> &'static str;

    /// Loads a model on every accelerator, sharing between them what can be shared.
    ///
    /// # Errors
    /// The engine cannot run this graph, or not with these types; the error says what to do.
    fn load(&self, request: &LoadRequest<'_>) -> Result<Vec<Box<dyn Executable>>, EngineError>;
}

/// One loaded model on one accelerator.
pub trait Executable: Send {
    /// How it wants the elements of a batch.
    fn representation(&self) -> Representation {
        Representation::Declared
    }

    /// Runs a batch. Outputs come in the signature's order, each with its full shape.
    ///
    /// # Errors
    /// The engine failed on this batch; it can be given another.
    fn run(&mut self, batch: &Batch<'_>) -> Result<Vec<OutputTensor>, EngineError>;
}

/// Why an engine did not load a model or run a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The engine cannot represent an input or output.
    #[error(
        "{engine} cannot take {role} {name:?} of type {datatype}: use engine = \"onnxruntime\" \
         (pip install onnxruntime), or export the model with float and 32-bit types"
    )]
    Datatype {
        /// The engine.
        engine: &'static str,
        /// `input` or `output`.
        role: &'static str,
        /// Its name.
        name: String,
        /// Its type.
        datatype: &'static str,
    },
    /// The engine refused the graph.
    #[error("{engine} cannot load model {model:?}: {problem}")]
    Load {
        /// The engine.
        engine: &'static str,
        /// The model.
        model: String,
        /// What it said.
        problem: String,
    },
    /// A file that holds weights cannot be read.
    #[error("cannot read {path}, which holds weights of model {model:?}: {problem}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// The model.
        model: String,
        /// What the system said.
        problem: String,
    },
    /// The engine failed on a batch.
    #[error("{engine} failed on a batch of {rows} rows: {problem}")]
    Run {
        /// The engine.
        engine: &'static str,
        /// Rows in the batch.
        rows: u32,
        /// What it said.
        problem: String,
    },
    /// An output is not what the model declares.
    #[error("output {name:?} of {engine} is unusable: {problem}")]
    Output {
        /// The engine.
        engine: &'static str,
        /// The output.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The inputs of the largest batch do not fit in memory.
    #[error(
        "input {input:?} needs {bytes} bytes for {rows} rows, more than there is: lower max_batch \
         in model.toml"
    )]
    Memory {
        /// The input.
        input: String,
        /// Rows of the largest batch.
        rows: u32,
        /// Bytes they take, as far as that can be said.
        bytes: u128,
    },
    /// The engine panicked.
    #[error("{engine} panicked while {action}: {message}")]
    Panic {
        /// The engine.
        engine: &'static str,
        /// What it was doing.
        action: &'static str,
        /// The panic's message.
        message: String,
    },
    /// The engine's library is not usable.
    #[error("{0}")]
    Library(String),
}

/// Calls into an engine that may panic, and turns a panic into an error. What the call had
/// borrowed must not be trusted to be whole after one: drop it or reset it.
///
/// # Errors
/// The call's own, or [`EngineError::Panic`].
pub(crate) fn guarded<T>(
    engine: &'static str,
    action: &'static str,
    call: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        Err(EngineError::Panic { engine, action, message: panic_message(panic.as_ref()) })
    })
}

/// The text of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
