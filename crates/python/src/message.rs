//! What the server and a Python process say to each other, as JSON.

use crate::model::ModelSpec;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;
use symphony_wire::tensor::{Dim, TensorSpec};

/// What the server asks.
#[derive(Debug, Serialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub(crate) enum Ask<'a> {
    /// One more arena for inputs. Its descriptor comes along; there is no answer.
    Arena {
        bytes: u64,
    },
    Load(LoadModel<'a>),
    Run {
        model: u64,
        inputs: &'a [Tensor],
        /// Of each request.
        rows: &'a [u32],
        /// Outputs that the server has let go of: arena and beginning.
        free: Vec<(usize, u64)>,
    },
    Unload {
        model: u64,
    },
    Stop,
}

#[derive(Debug, Serialize)]
pub(crate) struct LoadModel<'a> {
    model: u64,
    name: &'a str,
    version: &'a str,
    kind: &'static str,
    path: &'a Path,
    directory: &'a Path,
    config: &'a Map<String, Value>,
    inputs: Vec<Described<'a>>,
    outputs: Vec<Described<'a>>,
    max_batch: u32,
    device: &'a str,
    compile: bool,
    cuda_graphs: bool,
}

impl<'a> LoadModel<'a> {
    pub(crate) fn new(model: u64, spec: &'a ModelSpec) -> LoadModel<'a> {
        LoadModel {
            model,
            name: &spec.name,
            version: &spec.version,
            kind: spec.kind.name(),
            path: &spec.path,
            directory: &spec.directory,
            config: &spec.config,
            inputs: spec.signature.inputs.iter().map(Described::new).collect(),
            outputs: spec.signature.outputs.iter().map(Described::new).collect(),
            max_batch: spec.max_batch,
            device: &spec.device,
            compile: spec.compile,
            cuda_graphs: spec.cuda_graphs,
        }
    }
}

/// An input or output.
#[derive(Debug, Serialize)]
struct Described<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<Size>,
}

impl<'a> Described<'a> {
    fn new(spec: &'a TensorSpec) -> Described<'a> {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => Size::Fixed(*size),
            Dim::Batch => Size::Batch("rows"),
            Dim::Open(_) | Dim::Unknown => Size::Any,
        };
        let shape = spec.shape.iter().map(size).collect();
        Described { name: &spec.name, datatype: spec.datatype.name(), shape }
    }
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Size {
    Fixed(usize),
    Batch(&'static str),
    Any,
}

/// Where a tensor lies: arena, beginning, bytes; and its shape.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Tensor(pub(crate) usize, pub(crate) u64, pub(crate) u64, pub(crate) Vec<usize>);

/// What a process answers.
#[derive(Debug, Deserialize)]
pub(crate) struct Answered {
    #[serde(flatten)]
    pub(crate) said: Said,
    /// The lengths of new arenas for outputs. Their descriptors come along.
    #[serde(default)]
    pub(crate) arenas: Vec<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Said {
    /// It has started.
    Ready(Ready),
    Loaded(AboutModel),
    Ran(Ran),
    Unloaded(()),
    /// The script raised, or what it gave is wrong.
    Error(String),
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Ready {
    pub(crate) process: i32,
    pub(crate) python: String,
    pub(crate) numpy: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AboutModel {
    pub(crate) bf16: String,
    pub(crate) resident_bytes: u64,
    pub(crate) device_bytes: u64,
    pub(crate) seconds: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Ran {
    /// In the signature's order; none if every request failed.
    pub(crate) outputs: Vec<Tensor>,
    /// Requests that failed, and why.
    #[serde(default)]
    pub(crate) failed: Vec<(usize, String)>,
}
