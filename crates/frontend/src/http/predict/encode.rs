//! The answer to a predict request: nested arrays, by rows or by outputs.

use super::super::elements;
use super::super::encode::Encoded;
use super::layout::Layout;
use crate::error::InferError;
use crate::quote;
use crate::request::InferResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use half::{bf16, f16};
use std::io::Write;
use symphony_wire::message::ServedModel;
use symphony_wire::tensor::{DataType, Dim, OutputTensor, TensorSpec, bytes_elements};

/// An output whose name ends so holds bytes, and no text.
const BYTES_SUFFIX: &str = "_bytes";

/// Refuses a request by rows where an output has none.
///
/// # Errors
/// An output does not count rows along its first dimension.
pub(super) fn check_rows(model: &ServedModel) -> Result<(), InferError> {
    let is_batched = model.signature.is_batched();
    let has_rows = |spec: &&TensorSpec| match spec.shape.first() {
        Some(Dim::Unknown) => true,
        Some(Dim::Batch) => is_batched,
        Some(Dim::Fixed(_) | Dim::Open(_)) => !is_batched,
        None => false,
    };
    match model.signature.outputs.iter().find(|spec| !has_rows(spec)) {
        None => Ok(()),
        Some(spec) => Err(no_rows(spec, "it does not count rows along its first dimension")),
    }
}

fn no_rows(spec: &TensorSpec, why: &str) -> InferError {
    InferError::Invalid(format!(
        "output {:?} cannot be given by rows, for {why}: send the request in the form \
         {{\"inputs\": {{...}}}}",
        spec.name
    ))
}

/// Encodes an answer.
///
/// # Errors
/// An output has no such form.
pub(super) fn encode(response: &InferResponse, layout: Layout) -> Result<Encoded, InferError> {
    let outputs = response.named().map(|(spec, tensor)| NestedOutput::new(spec, tensor));
    let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
    let mut json = Vec::with_capacity(256);
    match layout {
        Layout::Rows(count) => by_rows(&mut json, &outputs, count)?,
        Layout::Columns => by_columns(&mut json, &outputs)?,
    }
    json.push(b'}');
    Ok(Encoded { pieces: vec![json.into()], json_length: None })
}

fn by_rows(
    json: &mut Vec<u8>,
    outputs: &[NestedOutput<'_>],
    count: usize,
) -> Result<(), InferError> {
    for output in outputs {
        // A model without a batch dimension may give another number of rows than it was sent.
        let fits = match (output.shape.first(), outputs.len()) {
            (None, _) => false,
            (Some(_), 1) => true,
            (Some(&rows), _) => rows == count,
        };
        if !fits {
            let shape: Vec<i64> =
                output.shape.iter().map(|size| i64::try_from(*size).unwrap_or(i64::MAX)).collect();
            let why = format!("its shape is {}, of {count} rows", quote::shape(&shape));
            return Err(no_rows(output.spec, &why));
        }
    }
    json.extend_from_slice(b"{\"predictions\":");
    if let [output] = outputs {
        return output.write(json, output.shape, 0).map(drop);
    }
    json.push(b'[');
    let mut next = vec![0; outputs.len()];
    for row in 0..count {
        json.extend_from_slice(if row > 0 { b",{" } else { b"{" });
        for (index, (output, next)) in outputs.iter().zip(&mut next).enumerate() {
            output.write_name(json, index);
            *next = output.write(json, &output.shape[1..], *next)?;
        }
        json.push(b'}');
    }
    json.push(b']');
    Ok(())
}

fn by_columns(json: &mut Vec<u8>, outputs: &[NestedOutput<'_>]) -> Result<(), InferError> {
    json.extend_from_slice(b"{\"outputs\":");
    if let [output] = outputs {
        return output.write(json, output.shape, 0).map(drop);
    }
    json.push(b'{');
    for (index, output) in outputs.iter().enumerate() {
        output.write_name(json, index);
        output.write(json, output.shape, 0)?;
    }
    json.push(b'}');
    Ok(())
}

/// One output, whose elements can be found by their number.
struct NestedOutput<'a> {
    spec: &'a TensorSpec,
    shape: &'a [usize],
    elements: Elements<'a>,
}

enum Elements<'a> {
    Numbers { datatype: DataType, size: usize, data: std::borrow::Cow<'a, [u8]> },
    Texts { texts: Vec<&'a [u8]>, are_bytes: bool },
}

impl<'a> NestedOutput<'a> {
    fn new(spec: &'a TensorSpec, tensor: &'a OutputTensor) -> Result<NestedOutput<'a>, InferError> {
        let data = &tensor.data[..];
        let elements = match spec.datatype {
            DataType::Bytes => {
                let texts = bytes_elements(data).map_err(|at| {
                    InferError::Invalid(format!("output {:?} is cut off at byte {at}", spec.name))
                })?;
                Elements::Texts { texts, are_bytes: spec.name.ends_with(BYTES_SUFFIX) }
            }
            DataType::Fp16 => widened(data, |bytes| f16::from_le_bytes(bytes).to_f32()),
            DataType::Bf16 => widened(data, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            datatype => {
                let size = datatype.size().unwrap_or(1);
                Elements::Numbers { datatype, size, data: data.into() }
            }
        };
        Ok(NestedOutput { spec, shape: &tensor.shape, elements })
    }

    fn write_name(&self, json: &mut Vec<u8>, index: usize) {
        if index > 0 {
            json.push(b',');
        }
        // A string has a JSON form, and writing to a vector cannot fail.
        let _ = serde_json::to_writer(&mut *json, &self.spec.name);
        json.push(b':');
    }

    /// Writes what has this shape and begins with element `from`; the element after it.
    fn write(&self, json: &mut Vec<u8>, shape: &[usize], from: usize) -> Result<usize, InferError> {
        match shape {
            [] => {
                let array = json.len();
                self.write_array(json, from, 1)?;
                json.pop();
                json.remove(array);
                Ok(from + 1)
            }
            [size] => {
                self.write_array(json, from, *size)?;
                Ok(from + size)
            }
            [size, inner @ ..] => {
                let mut next = from;
                json.push(b'[');
                for index in 0..*size {
                    if index > 0 {
                        json.push(b',');
                    }
                    next = self.write(json, inner, next)?;
                }
                json.push(b']');
                Ok(next)
            }
        }
    }

    /// Writes so many elements as a flat array.
    fn write_array(&self, json: &mut Vec<u8>, from: usize, count: usize) -> Result<(), InferError> {
        let cut_off = || {
            InferError::Invalid(format!("output {:?} is shorter than its shape", self.spec.name))
        };
        match &self.elements {
            Elements::Numbers { datatype, size, data } => {
                let data = data.get(from * size..(from + count) * size).ok_or_else(cut_off)?;
                elements::write(json, *datatype, data).map_err(|problem| {
                    InferError::Invalid(format!("output {:?} {problem}", self.spec.name))
                })
            }
            Elements::Texts { texts, are_bytes } => {
                let texts = texts.get(from..from + count).ok_or_else(cut_off)?;
                write_texts(json, texts, *are_bytes);
                Ok(())
            }
        }
    }
}

/// Half-precision floats as those of single precision, which hold each of them exactly.
fn widened(data: &[u8], wide: impl Fn([u8; 2]) -> f32) -> Elements<'_> {
    let (halves, _) = data.as_chunks::<2>();
    let data: Vec<u8> = halves.iter().flat_map(|half| wide(*half).to_le_bytes()).collect();
    Elements::Numbers { datatype: DataType::Fp32, size: 4, data: data.into() }
}

/// Texts as strings; bytes, and what is no text, as objects that hold Base64.
fn write_texts(json: &mut Vec<u8>, texts: &[&[u8]], are_bytes: bool) {
    json.push(b'[');
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        match std::str::from_utf8(text) {
            // Writing to a vector cannot fail.
            Ok(text) if !are_bytes => drop(serde_json::to_writer(&mut *json, text)),
            _ => drop(write!(json, "{{\"b64\":\"{}\"}}", STANDARD.encode(text))),
        }
    }
    json.push(b']');
}
