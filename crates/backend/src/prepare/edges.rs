//! Which inputs and outputs of a graph can be served.

use super::error::PrepareError;
use symphony_onnx::{ElementType, OnnxModel, ValueKind};
use symphony_wire::tensor::DataType;

/// Refuses inputs and outputs that are not tensors or whose elements no protocol carries.
pub(super) fn check_edges(model: &OnnxModel) -> Result<(), PrepareError> {
    let signature = model.signature();
    let inputs = signature.inputs.iter().map(|value| ("input", value));
    let outputs = signature.outputs.iter().map(|value| ("output", value));
    for (role, value) in inputs.chain(outputs) {
        let name = || value.name.clone();
        let ValueKind::Tensor(tensor) = &value.kind else {
            let remedy = match value.kind {
                ValueKind::Sequence | ValueKind::Map => {
                    "export it with tensors (with skl2onnx: options={\"zipmap\": False})"
                }
                _ => "export the model with dense tensors as inputs and outputs",
            };
            return Err(PrepareError::Kind { role, name: name(), kind: value.kind.name(), remedy });
        };
        if datatype(tensor.element).is_none() {
            return Err(PrepareError::Element { role, name: name(), element: tensor.element });
        }
        if role == "input" && tensor.dims.is_none() {
            return Err(PrepareError::Rank { input: name() });
        }
    }
    Ok(())
}

/// The protocol's type for an element type of ONNX.
pub(super) fn datatype(element: ElementType) -> Option<DataType> {
    Some(match element {
        ElementType::Bool => DataType::Bool,
        ElementType::Uint8 => DataType::Uint8,
        ElementType::Uint16 => DataType::Uint16,
        ElementType::Uint32 => DataType::Uint32,
        ElementType::Uint64 => DataType::Uint64,
        ElementType::Int8 => DataType::Int8,
        ElementType::Int16 => DataType::Int16,
        ElementType::Int32 => DataType::Int32,
        ElementType::Int64 => DataType::Int64,
        ElementType::Float16 => DataType::Fp16,
        ElementType::Bfloat16 => DataType::Bf16,
        ElementType::Float32 => DataType::Fp32,
        ElementType::Float64 => DataType::Fp64,
        ElementType::String => DataType::Bytes,
        _ => return None,
    })
}
