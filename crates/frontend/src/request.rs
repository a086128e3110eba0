//! A request and its result as every protocol sees them: tensors are raw little-endian bytes.
//!
//! Knows no protocol and no scheduling; says how a model's tensors are named, not whether a
//! request fits them (`check` does).

use bytes::Bytes;
use std::sync::Arc;
use symphony_core::{Class, Span, Time};
use symphony_wire::message::{Execution, ServedModel};
use symphony_wire::tensor::{DataType, OutputTensor, TensorSpec};

/// One input as the client sent it, not yet checked against the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputTensor {
    /// Its name.
    pub name: String,
    /// Element type.
    pub datatype: DataType,
    /// Full shape, batch dimension included where the model has one.
    pub shape: Vec<i64>,
    /// Raw contents, row-major.
    pub data: Bytes,
}

/// One request, decoded, not yet checked against the model.
#[derive(Clone, Debug)]
pub(crate) struct InferRequest {
    /// The client's name for it; empty when it gave none.
    pub id: String,
    /// Inputs, in any order.
    pub inputs: Vec<InputTensor>,
    /// Names of the wanted outputs, in the order of the answer; empty for all.
    pub outputs: Vec<String>,
    /// When the server had it.
    pub arrival: Time,
    /// The earliest of the limits the client set itself.
    pub limit: Option<Span>,
    /// The class it asks for; `None` for the model's.
    pub class: Option<Class>,
}

impl InferRequest {
    /// Bytes of the inputs.
    pub(crate) fn input_bytes(&self) -> usize {
        self.inputs.iter().map(|input| input.data.len()).sum()
    }
}

/// One output of the answer.
#[derive(Clone, Debug)]
pub struct OutputOf {
    /// Which of the signature's outputs.
    pub index: usize,
    /// Its contents.
    pub tensor: OutputTensor,
}

/// The answer to one request.
#[derive(Clone, Debug)]
pub struct InferResponse {
    /// The model that ran.
    pub model: Arc<ServedModel>,
    /// The client's name for the request; empty when it gave none.
    pub id: String,
    /// The wanted outputs.
    pub outputs: Vec<OutputOf>,
    /// The batch it ran in.
    pub execution: Execution,
}

impl InferResponse {
    /// The outputs with what the signature says of each.
    pub fn named(&self) -> impl Iterator<Item = (&TensorSpec, &OutputTensor)> {
        let specs = &self.model.signature.outputs;
        self.outputs.iter().filter_map(|output| Some((specs.get(output.index)?, &output.tensor)))
    }
}
