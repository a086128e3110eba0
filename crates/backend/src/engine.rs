//! What an inference engine does for the rest of the backend: it opens a model, places it on one
//! device after another, and runs batches there.
//!
//! What a model's file is, is the engine's own matter: [`GraphEngine`] opens ONNX graphs; others have
//! a way of their own to open theirs. From then on all are alike: an [`EngineModel`] is placed on a
//! device, which makes an [`Executable`].
//!
//! Nothing here knows a particular engine, the scheduler, or where a batch's rows come from.

use crate::batch::{Batch, BufferMemory, Heap, MemoryError, Representation};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use symphony_onnx::OnnxModel;
use symphony_wire::tensor::{OutputTensor, Signature};

/// An ONNX model for an engine to open.
#[derive(Clone, Copy, Debug)]
pub struct LoadRequest<'a> {
    /// The model's name, for errors and logs.
    pub name: &'a str,
    /// The graph.
    pub graph: Graph<'a>,
    /// The inputs and outputs of the graph. Dimensions of an output may still be unknown.
    pub signature: &'a Signature,
    /// A library of operators that are not the engine's own.
    pub custom_ops: Option<&'a Path>,
    /// Whether weights stay as they lie in their own files, so that accelerators and processes share
    /// them, although batches then take longer. For an engine that shares them anyway it means
    /// nothing.
    pub share_weights: bool,
}

/// The machine's cores, split into accelerators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// The number of accelerators, at least one.
    pub accelerators: usize,
    /// The compute threads of each accelerator, at least one.
    pub threads: usize,
}

/// An ONNX graph and the file it came from.
#[derive(Clone, Copy, Debug)]
pub struct Graph<'a> {
    /// The graph to run.
    pub model: &'a OnnxModel,
    /// The file it was read from. External weights lie in the same directory.
    pub path: &'a Path,
    /// Whether `model` was changed after it was read and no longer matches the file.
    pub patched: bool,
}

/// An inference engine.
pub trait Engine: Send + Sync {
    /// The engine's name in configurations, such as `rten`.
    fn name(&self) -> &'static str;

    /// The engine's version. A profile that was measured with another version is not used.
    fn version(&self) -> String;

    /// The platform name that clients see, such as `rten_onnx`.
    fn platform(&self) -> &'static str;
}

/// An engine that runs ONNX graphs.
pub trait GraphEngine: Engine {
    /// Whether an input may be given in place of a value that is stored in the model.
    fn replaces_stored(&self) -> bool {
        true
    }

    /// Opens a model.
    ///
    /// # Errors
    /// The engine cannot run this graph, or does not support one of its types. The error says what
    /// to do.
    fn open(&self, request: &LoadRequest<'_>) -> Result<Box<dyn EngineModel>, EngineError>;
}

/// A model that an engine has opened. Devices come and go: it is placed on one at a time, and what
/// can be shared between them is.
pub trait EngineModel: Send + Sync {
    /// Places the model on a device, by its number among the engine's.
    ///
    /// # Errors
    /// The engine cannot run it there.
    fn place(&self, device: usize) -> Result<Box<dyn Executable>, EngineError>;
}

/// Places a model on the first `devices` devices.
///
/// # Errors
/// One of them cannot run it.
pub fn place_on(
    model: &dyn EngineModel,
    devices: usize,
) -> Result<Vec<Box<dyn Executable>>, EngineError> {
    (0..devices).map(|device| model.place(device)).collect()
}

/// One loaded model on one accelerator.
pub trait Executable: Send {
    /// The form in which the engine takes the elements of a batch.
    fn representation(&self) -> Representation {
        Representation::Declared
    }

    /// Where the engine takes the elements of a batch from. It is asked for buffers of
    /// [`Representation::Bytes`]; the others lie in the process's own memory.
    fn memory(&self) -> Arc<dyn BufferMemory> {
        Arc::new(Heap)
    }

    /// Runs a batch. Returns the outputs in the signature's order, each with its full shape.
    ///
    /// # Errors
    /// The engine failed on this batch. It can still run other batches.
    fn run(&mut self, batch: &Batch<'_>) -> Result<Vec<OutputTensor>, EngineError>;

    /// Requests of the last batch that failed by themselves. Their rows of the outputs mean nothing.
    fn failed(&mut self) -> Vec<FailedRequest> {
        Vec::new()
    }

    /// With the end of its next batch the engine gives back the memory that earlier, larger batches
    /// needed, if it keeps any.
    fn trim(&mut self) {}
}

/// A request that failed while the others of its batch did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRequest {
    /// Its place among the requests of the batch.
    pub position: usize,
    /// Why, for whoever sent it.
    pub problem: String,
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
        /// The engine's own message.
        problem: String,
    },
    /// A file that holds weights cannot be read.
    #[error("cannot read {path}, which holds weights of model {model:?}: {problem}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// The model.
        model: String,
        /// The operating system's message.
        problem: String,
    },
    /// The engine failed on a batch.
    #[error("{engine} failed on a batch of {rows} rows: {problem}")]
    Run {
        /// The engine.
        engine: &'static str,
        /// Rows in the batch.
        rows: u32,
        /// The engine's own message.
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
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// There is no such device.
    #[error("{engine} has no device {device}")]
    NoDevice {
        /// The engine.
        engine: &'static str,
        /// The number that was asked for.
        device: usize,
    },
    /// The engine panicked.
    #[error("{engine} panicked while {action}: {message}")]
    Panic {
        /// The engine.
        engine: &'static str,
        /// What the engine was doing.
        action: &'static str,
        /// The panic's message.
        message: String,
    },
    /// The engine's process refused a model or a batch, or has ended.
    #[error("{0}")]
    Process(String),
    /// The engine's library is not usable.
    #[error("{0}")]
    Library(String),
}

/// Calls an engine that may panic and turns a panic into an error. After a panic, drop or reset
/// whatever the call had borrowed: it may be in any state.
///
/// # Errors
/// The error of the call itself, or [`EngineError::Panic`].
pub(crate) fn guarded<T>(
    engine: &'static str,
    action: &'static str,
    call: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        Err(EngineError::Panic { engine, action, message: panic_message(panic.as_ref()) })
    })
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
