//! How the server describes itself to clients of this protocol: names, states and signatures.

use super::layout::SIGNATURE;
use crate::error::InferError;
use crate::models;
use serde_json::{Map, Value, json};
use symphony_wire::carrier::in_process::Catalog;
use symphony_wire::message::{ModelState, ServedModel};
use symphony_wire::tensor::{DataType, Dim, Signature, TensorSpec};

/// The names of the models that are served.
pub(crate) fn names(catalog: &Catalog) -> Value {
    json!({ "models": catalog.models.keys().collect::<Vec<_>>() })
}

/// The state of each version of a model, or of the one that is named.
///
/// # Errors
/// There is no such model or version.
pub(crate) fn status(
    catalog: &Catalog,
    name: &str,
    version: &str,
) -> Result<Map<String, Value>, InferError> {
    let is_meant = |entry: &symphony_wire::message::IndexEntry| {
        entry.name == name && (version.is_empty() || entry.version == version)
    };
    // The newest first, as TensorFlow Serving has them.
    let meant = catalog.index.iter().rev().filter(|entry| is_meant(entry));
    let versions: Vec<Value> = meant
        .map(|entry| {
            let (state, code, message) = match &entry.state {
                ModelState::Ready => ("AVAILABLE", "OK", ""),
                ModelState::Loading => ("LOADING", "OK", ""),
                ModelState::Unavailable(reason) if reason.is_empty() => ("END", "OK", ""),
                ModelState::Unavailable(reason) => ("END", "UNAVAILABLE", reason.as_str()),
            };
            json!({
                "version": entry.version,
                "state": state,
                "status": { "error_code": code, "error_message": message },
            })
        })
        .collect();
    if versions.is_empty() {
        models::find(catalog, name, version)?;
    }
    Ok(Map::from_iter([
        ("name".to_owned(), Value::from(name)),
        ("model_version_status".to_owned(), versions.into()),
    ]))
}

/// A model's signature, as TensorFlow Serving writes it.
pub(crate) fn metadata(model: &ServedModel) -> Value {
    let signature = &model.signature;
    let tensors = |specs: &[TensorSpec]| -> Map<String, Value> {
        specs.iter().map(|spec| (spec.name.clone(), tensor(signature, spec))).collect()
    };
    let defined = json!({
        "inputs": tensors(&signature.inputs),
        "outputs": tensors(&signature.outputs),
        "method_name": "tensorflow/serving/predict",
    });
    json!({
        "model_spec": { "name": model.name, "signature_name": "", "version": model.version },
        "metadata": { "signature_def": { "signature_def": { SIGNATURE: defined } } },
    })
}

fn tensor(signature: &Signature, spec: &TensorSpec) -> Value {
    let sizes = spec.metadata_shape();
    let dim = |(dim, size): (&Dim, i64)| {
        let name = match dim {
            Dim::Open(index) => {
                signature.dimensions.get(usize::from(*index)).map_or("", |open| open.name.as_str())
            }
            Dim::Fixed(_) | Dim::Batch | Dim::Unknown => "",
        };
        json!({ "size": size.to_string(), "name": name })
    };
    let dims: Vec<Value> = spec.shape.iter().zip(sizes).map(dim).collect();
    json!({
        "dtype": type_name(spec.datatype),
        "tensor_shape": { "dim": dims, "unknown_rank": false },
        "name": spec.name,
    })
}

fn type_name(datatype: DataType) -> &'static str {
    match datatype {
        DataType::Bool => "DT_BOOL",
        DataType::Uint8 => "DT_UINT8",
        DataType::Uint16 => "DT_UINT16",
        DataType::Uint32 => "DT_UINT32",
        DataType::Uint64 => "DT_UINT64",
        DataType::Int8 => "DT_INT8",
        DataType::Int16 => "DT_INT16",
        DataType::Int32 => "DT_INT32",
        DataType::Int64 => "DT_INT64",
        DataType::Fp16 => "DT_HALF",
        DataType::Bf16 => "DT_BFLOAT16",
        DataType::Fp32 => "DT_FLOAT",
        DataType::Fp64 => "DT_DOUBLE",
        DataType::Bytes => "DT_STRING",
    }
}
