//! What a Python process loads.

use serde_json::{Map, Value};
use std::path::PathBuf;
use std::time::Duration;
use symphony_wire::tensor::Signature;

/// A model of one [`PythonWorker`](crate::PythonWorker). No two of its models ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub(crate) u64);

/// What a model's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Python file with `load(config)`, which returns what takes a batch, or a class `Model` with
    /// `predict(self, batch)`.
    Script,
    /// A Python file with a class `TritonPythonModel`.
    Triton,
    /// What `torch.jit.save` wrote.
    TorchScript,
    /// What `torch.export.save` wrote.
    TorchExport,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Script => "script",
            Kind::Triton => "triton",
            Kind::TorchScript => "torchscript",
            Kind::TorchExport => "torchexport",
        }
    }
}

/// A model to load.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// Its name, for logs and errors.
    pub name: String,
    /// Its version, as scripts see it.
    pub version: String,
    /// What its file is.
    pub kind: Kind,
    /// The file.
    pub path: PathBuf,
    /// The model's directory in the repository, which has its versions.
    pub directory: PathBuf,
    /// The parameters that a script gets. Of [`Kind::Triton`]: the model's configuration as JSON, of
    /// which name, inputs, outputs and largest batch are filled in where they are missing.
    pub config: Map<String, Value>,
    /// What it takes and gives.
    pub signature: Signature,
    /// The largest batch in rows.
    pub max_batch: u32,
    /// Where torch computes: `cpu`, `cuda` or `cuda:0`.
    pub device: String,
    /// Whether a module of torch is compiled (`torch.compile`).
    pub compile: bool,
    /// Whether what a module of torch launches is recorded for each shape and launched as one.
    pub cuda_graphs: bool,
}

/// What is known of a model once it is loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// How to name it from now on.
    pub id: ModelId,
    /// The memory that the process has taken for it, in bytes.
    pub resident_bytes: u64,
    /// The memory of a GPU that torch has taken for it, in bytes.
    pub device_bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// What numpy calls BF16 there: `ml_dtypes.bfloat16`, or `uint16` where that is not installed.
    pub bf16: String,
}
