//! The ONNX file format: reads the signature and the operators of a model, follows its batch
//! dimension, rewrites dimensions and outputs, and writes graphs.
//!
//! This crate knows only files and graphs, and no engine, server or tensor data of requests. What
//! an engine can run is decided elsewhere, from what is described here.

pub mod builder;
mod edges;
mod element;
mod error;
pub mod examples;
mod external;
mod follow;
mod hints;
mod model;
mod nodes;
mod opset;
mod optional;
mod rewrite;
mod signature;
mod tensor;
mod weights;
mod write;

pub use edges::TensorOutput;
pub use element::ElementType;
pub use error::Error;
pub use follow::{BatchFlow, Mixing, RowsOfOutput};
pub use hints::InputHints;
pub use model::OnnxModel;
pub use nodes::{Attribute, Known, Node};
pub use rewrite::BatchRewrite;
pub use signature::{Dim, GraphSignature, TensorType, ValueInfo, ValueKind};
pub use tensor::{contents as tensor_contents, ints as tensor_ints};

/// The types of the ONNX schema, generated from `proto/onnx.proto`.
///
/// `raw_data` is [`bytes::Bytes`]: a slice of the file it was decoded from.
pub mod proto {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        reason = "generated; the schema file carries the documentation"
    )]
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}
