//! Why a graph cannot be served.

use crate::engine::EngineError;
use crate::resident::BatchError;
use symphony_onnx::ElementType;

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The graph is unusable.
    #[error(transparent)]
    Graph(#[from] symphony_onnx::Error),
    /// An input or output is not a tensor.
    #[error("{role} {name:?} is a {kind}, and only tensors can be served: {remedy}")]
    Kind {
        /// `input` or `output`.
        role: &'static str,
        /// Its name.
        name: String,
        /// What it is.
        kind: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// An element type that no protocol carries.
    #[error(
        "{role} {name:?} has elements of type {element}, which clients cannot send: export \
             the model with another type for it"
    )]
    Element {
        /// `input` or `output`.
        role: &'static str,
        /// Its name.
        name: String,
        /// The type.
        element: ElementType,
    },
    /// The graph does not give the number of dimensions of an input.
    #[error("the graph does not give the dimensions of input {input:?}: export it with shapes")]
    Rank {
        /// The input.
        input: String,
    },
    /// What neither the graph nor the configuration says, as lines for `model.toml`.
    #[error(
        "the graph does not say everything: add to model.toml, with a number for each ?\n{}",
        .0.join("\n")
    )]
    Questions(Vec<String>),
    /// The number of configured dimensions is not that of the input.
    #[error(
        "shape in model.toml gives input {input:?} {got} dimensions: give the {row} of one \
             row, or all {all}"
    )]
    ShapeRank {
        /// The input.
        input: String,
        /// Dimensions given.
        got: usize,
        /// Dimensions of one row.
        row: usize,
        /// All dimensions.
        all: usize,
    },
    /// The configured batch dimension is not there.
    #[error("batch_axis in model.toml: {problem}")]
    BatchAxis {
        /// What is wrong.
        problem: String,
    },
    /// The configuration names an open dimension that no input has.
    #[error("{key} in model.toml names dimension {name:?}: the open dimensions are {known:?}")]
    NoDimension {
        /// The key.
        key: &'static str,
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// An input that all rows share is to be repeated for each.
    #[error(
        "broadcast in model.toml: input {input:?} has no batch dimension, so all rows share it"
    )]
    Broadcast {
        /// The input.
        input: String,
    },
    /// The model cannot be padded as configured.
    #[error("pad in model.toml: {problem}")]
    Padding {
        /// What is wrong and what to do.
        problem: String,
    },
    /// The model does not run at a size that the configuration allows.
    #[error("max_size of {dimension:?} = {max} in model.toml: the model fails there: {problem}")]
    MaxSize {
        /// The dimension.
        dimension: String,
        /// Its largest size.
        max: usize,
        /// What the engine says.
        problem: BatchError,
    },
    /// A configured dimension is too large.
    #[error("shape in model.toml gives input {input:?} a dimension of {size}, which is too large")]
    ShapeSize {
        /// The input.
        input: String,
        /// The size.
        size: usize,
    },
    /// The inputs or outputs are too large to be served.
    #[error("{role} {name:?}: {excess}")]
    Size {
        /// `input` or `output`.
        role: &'static str,
        /// The input or output that exceeds the bound.
        name: String,
        /// The bound that is exceeded.
        excess: String,
    },
    /// The engine does not load the graph.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The graph loads but does not run.
    #[error("a trial run of one row failed: {0}")]
    Trial(#[source] BatchError),
}
