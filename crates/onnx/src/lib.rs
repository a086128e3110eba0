//! The ONNX file format: read a model's signature and operators, rewrite its batch dimension,
//! and write graphs.
//!
//! This crate knows files and graphs only. It knows no engine, no server and no tensor data that
//! passes through one; what an engine can run is decided elsewhere from what is described here.

pub mod builder;
mod element;
mod error;
pub mod examples;
mod external;
mod model;
mod nodes;
mod rewrite;
mod signature;
mod tensor;
mod weights;
mod write;

pub use element::ElementType;
pub use error::Error;
pub use model::Model;
pub use nodes::{Attribute, Known, Node};
pub use rewrite::BatchRewrite;
pub use signature::{Dim, Signature, TensorType, ValueInfo, ValueKind};
pub use tensor::ints as tensor_ints;

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
