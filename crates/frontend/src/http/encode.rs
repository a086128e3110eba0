//! The answer to an inference: JSON, with those outputs that were asked for as binary data
//! behind it.

use super::decode::AnswerForm;
use super::elements;
use crate::error::InferError;
use crate::request::InferResponse;
use bytes::Bytes;
use serde::Serialize;
use std::io::Write;
use symphony_wire::message::ServedModel;
use symphony_wire::tensor::DataType;

/// Below this much binary data, one copy is cheaper than one more piece to write.
const JOIN_MAX: usize = 64 * 1024;

/// An answer's body.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) pieces: Vec<Bytes>,
    /// Length of the JSON where binary tensors follow it.
    pub(super) json_length: Option<usize>,
}

/// Refuses what cannot be answered in the form wanted, before it runs.
///
/// # Errors
/// An output whose datatype has no JSON form is wanted as JSON.
pub(super) fn check_form(
    model: &ServedModel,
    wanted: &[String],
    form: &AnswerForm,
) -> Result<(), InferError> {
    for spec in &model.signature.outputs {
        let no_json = matches!(spec.datatype, DataType::Fp16 | DataType::Bf16);
        let is_wanted = wanted.is_empty() || wanted.contains(&spec.name);
        if no_json && is_wanted && !form.is_binary(&spec.name) {
            return Err(InferError::Invalid(format!(
                "output {:?} is {}, which has no JSON form: ask for it as binary data",
                spec.name, spec.datatype
            )));
        }
    }
    Ok(())
}

/// Encodes an answer.
///
/// # Errors
/// A byte string wanted as JSON is not UTF-8.
pub(super) fn encode(response: &InferResponse, form: &AnswerForm) -> Result<Encoded, InferError> {
    let mut json = Vec::with_capacity(256);
    json.extend_from_slice(b"{\"model_name\":");
    value(&mut json, &response.model.name);
    json.extend_from_slice(b",\"model_version\":");
    value(&mut json, &response.model.version);
    if !response.id.is_empty() {
        json.extend_from_slice(b",\"id\":");
        value(&mut json, &response.id);
    }
    json.extend_from_slice(b",\"outputs\":[");
    let mut binary = Vec::new();
    for (index, (spec, tensor)) in response.named().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend_from_slice(b"{\"name\":");
        value(&mut json, &spec.name);
        json.extend_from_slice(b",\"datatype\":");
        value(&mut json, spec.datatype.name());
        json.extend_from_slice(b",\"shape\":");
        value(&mut json, &tensor.shape);
        if form.is_binary(&spec.name) {
            // Writing to a vector cannot fail.
            let _ =
                write!(json, ",\"parameters\":{{\"binary_data_size\":{}}}}}", tensor.data.len());
            binary.push(tensor.data.clone());
        } else {
            json.extend_from_slice(b",\"data\":");
            elements::write(&mut json, spec.datatype, &tensor.data).map_err(|problem| {
                InferError::Invalid(format!("output {:?} {problem}", spec.name))
            })?;
            json.push(b'}');
        }
    }
    json.extend_from_slice(b"]}");
    Ok(join(json, binary))
}

fn join(mut json: Vec<u8>, binary: Vec<Bytes>) -> Encoded {
    let json_length = (!binary.is_empty()).then_some(json.len());
    if binary.iter().map(Bytes::len).sum::<usize>() <= JOIN_MAX {
        for tensor in &binary {
            json.extend_from_slice(tensor);
        }
        return Encoded { pieces: vec![json.into()], json_length };
    }
    let pieces = std::iter::once(Bytes::from(json)).chain(binary).collect();
    Encoded { pieces, json_length }
}

fn value<T: Serialize + ?Sized>(json: &mut Vec<u8>, value: &T) {
    // Strings and integers have a JSON form, and writing to a vector cannot fail.
    let _ = serde_json::to_writer(json, value);
}
