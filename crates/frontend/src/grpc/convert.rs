//! Inference messages to and from the form every protocol shares.
//!
//! Raw contents are slices of the message; typed contents are laid out as raw bytes. Answers
//! are always raw, as clients of this protocol expect.

use crate::deadline::earliest;
use crate::error::InferError;
use crate::parameters::{self, Asked, ParameterPlace, ParameterValue};
use crate::proto::infer_parameter::ParameterChoice;
use crate::proto::model_infer_request::InferInputTensor;
use crate::proto::model_infer_response::InferOutputTensor;
use crate::proto::{InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse};
use crate::request::{InferRequest, InferResponse, InputTensor};
use bytes::Bytes;
use std::collections::HashMap;
use std::fmt::Display;
use symphony_core::{Span, Time};
use symphony_wire::tensor::{DataType, bytes_contents};

type Parameters = HashMap<String, InferParameter>;

/// Decodes a request.
///
/// # Errors
/// What is malformed.
pub(super) fn request(
    message: ModelInferRequest,
    arrival: Time,
    limit: Option<Span>,
) -> Result<InferRequest, InferError> {
    let asked = read_parameters(ParameterPlace::Request, &message.parameters)?;
    let raw = message.raw_input_contents;
    if !raw.is_empty() && raw.len() != message.inputs.len() {
        return Err(InferError::Invalid(format!(
            "the request has {} inputs and {} raw_input_contents: \
             give raw contents for every input or for none",
            message.inputs.len(),
            raw.len()
        )));
    }
    let mut raw = raw.into_iter();
    let inputs = message
        .inputs
        .into_iter()
        .map(|tensor| input(tensor, raw.next()))
        .collect::<Result<Vec<_>, _>>()?;
    let mut outputs = Vec::new();
    for output in message.outputs {
        // Answers are raw whatever they say of binary data.
        read_parameters(ParameterPlace::Output(&output.name), &output.parameters)?;
        outputs.push(output.name);
    }
    Ok(InferRequest {
        id: message.id,
        inputs,
        outputs,
        arrival,
        limit: earliest(limit, asked.limit),
        class: asked.class,
    })
}

/// What the parameters of one place ask for.
fn read_parameters(place: ParameterPlace<'_>, given: &Parameters) -> Result<Asked, InferError> {
    let reserved = given.iter().filter(|(name, _)| parameters::is_reserved(name));
    let reserved = reserved.map(|(name, parameter)| (name.into(), value(parameter)));
    parameters::read(place, reserved.collect())
}

fn value(parameter: &InferParameter) -> ParameterValue<'_> {
    match &parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => ParameterValue::Bool(*value),
        Some(ParameterChoice::Uint64Param(number)) => ParameterValue::Whole(*number),
        Some(ParameterChoice::Int64Param(number)) => u64::try_from(*number)
            .map_or_else(|_| ParameterValue::Other(number.to_string()), ParameterValue::Whole),
        Some(ParameterChoice::StringParam(text)) => ParameterValue::Text(text.into()),
        Some(ParameterChoice::DoubleParam(value)) => ParameterValue::Other(format!("{value:?}")),
        None => ParameterValue::Other("without a value".to_owned()),
    }
}

fn input(tensor: InferInputTensor, raw: Option<Bytes>) -> Result<InputTensor, InferError> {
    let name = tensor.name;
    // Messages say themselves how long contents are, so the size in the parameters adds nothing.
    read_parameters(ParameterPlace::Input(&name), &tensor.parameters)?;
    let datatype: DataType = tensor
        .datatype
        .parse()
        .map_err(|error| InferError::Invalid(format!("input {name:?}: {error}")))?;
    let data = match (raw, tensor.contents) {
        (Some(raw), None) => Ok(raw),
        (Some(raw), Some(contents)) if contents == InferTensorContents::default() => Ok(raw),
        (Some(_), Some(_)) => Err("has both contents and raw_input_contents: send one".to_owned()),
        (None, contents) => typed(&contents.unwrap_or_default(), datatype),
    };
    match data {
        Ok(data) => Ok(InputTensor { name, datatype, shape: tensor.shape, data }),
        Err(problem) => Err(InferError::Invalid(format!("input {name:?} {problem}"))),
    }
}

/// Raw bytes of typed contents.
fn typed(contents: &InferTensorContents, datatype: DataType) -> Result<Bytes, String> {
    let list = match datatype {
        DataType::Fp16 | DataType::Bf16 => {
            return Err(format!("is {datatype}: send it in raw_input_contents"));
        }
        DataType::Bool => "bool_contents",
        DataType::Int8 | DataType::Int16 | DataType::Int32 => "int_contents",
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => "uint_contents",
        DataType::Int64 => "int64_contents",
        DataType::Uint64 => "uint64_contents",
        DataType::Fp32 => "fp32_contents",
        DataType::Fp64 => "fp64_contents",
        DataType::Bytes => "bytes_contents",
    };
    if let Some(other) = lists(contents).find(|other| *other != list) {
        return Err(format!("is {datatype} and has {other}: send it in {list}"));
    }
    let (ints, uints) = (&contents.int_contents, &contents.uint_contents);
    let data = match datatype {
        DataType::Bool => contents.bool_contents.iter().map(|&bit| u8::from(bit)).collect(),
        DataType::Int8 => narrow(ints, datatype, |v| i8::try_from(v).map(i8::to_le_bytes))?,
        DataType::Int16 => narrow(ints, datatype, |v| i16::try_from(v).map(i16::to_le_bytes))?,
        DataType::Uint8 => narrow(uints, datatype, |v| u8::try_from(v).map(u8::to_le_bytes))?,
        DataType::Uint16 => narrow(uints, datatype, |v| u16::try_from(v).map(u16::to_le_bytes))?,
        DataType::Int32 => flat(ints, i32::to_le_bytes),
        DataType::Uint32 => flat(uints, u32::to_le_bytes),
        DataType::Int64 => flat(&contents.int64_contents, i64::to_le_bytes),
        DataType::Uint64 => flat(&contents.uint64_contents, u64::to_le_bytes),
        DataType::Fp32 => flat(&contents.fp32_contents, f32::to_le_bytes),
        DataType::Fp64 => flat(&contents.fp64_contents, f64::to_le_bytes),
        DataType::Bytes | DataType::Fp16 | DataType::Bf16 => {
            bytes_contents(contents.bytes_contents.iter().map(Bytes::as_ref))
        }
    };
    Ok(Bytes::from(data))
}

/// Names of the lists that have elements.
fn lists(contents: &InferTensorContents) -> impl Iterator<Item = &'static str> {
    let lists = [
        ("bool_contents", contents.bool_contents.is_empty()),
        ("int_contents", contents.int_contents.is_empty()),
        ("int64_contents", contents.int64_contents.is_empty()),
        ("uint_contents", contents.uint_contents.is_empty()),
        ("uint64_contents", contents.uint64_contents.is_empty()),
        ("fp32_contents", contents.fp32_contents.is_empty()),
        ("fp64_contents", contents.fp64_contents.is_empty()),
        ("bytes_contents", contents.bytes_contents.is_empty()),
    ];
    lists.into_iter().filter(|(_, empty)| !empty).map(|(name, _)| name)
}

fn flat<T: Copy, const SIZE: usize>(values: &[T], bytes: impl Fn(T) -> [u8; SIZE]) -> Vec<u8> {
    let mut data = Vec::with_capacity(values.len() * SIZE);
    for value in values {
        data.extend_from_slice(&bytes(*value));
    }
    data
}

/// The bytes of integers that travel in wider ones.
fn narrow<T: Copy + Display, E, const SIZE: usize>(
    values: &[T],
    datatype: DataType,
    bytes: impl Fn(T) -> Result<[u8; SIZE], E>,
) -> Result<Vec<u8>, String> {
    let mut data = Vec::with_capacity(values.len() * SIZE);
    for (index, value) in values.iter().enumerate() {
        let narrowed = bytes(*value).map_err(|_| {
            format!("element {index} is {value}, which is out of the range of {datatype}")
        })?;
        data.extend_from_slice(&narrowed);
    }
    Ok(data)
}

/// Encodes an answer.
pub(super) fn response(response: InferResponse) -> ModelInferResponse {
    let outputs = response
        .named()
        .map(|(spec, tensor)| InferOutputTensor {
            name: spec.name.clone(),
            datatype: spec.datatype.name().to_owned(),
            shape: tensor.shape.iter().map(|dim| i64::try_from(*dim).unwrap_or(-1)).collect(),
            parameters: HashMap::new(),
            contents: None,
        })
        .collect();
    let raw_output_contents = response.named().map(|(_, tensor)| tensor.data.clone()).collect();
    ModelInferResponse {
        model_name: response.model.name.clone(),
        model_version: response.model.version.clone(),
        id: response.id,
        parameters: HashMap::new(),
        outputs,
        raw_output_contents,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_contents_become_raw_bytes_or_say_what_is_wrong() {
        let contents = InferTensorContents::default;
        type Case = (DataType, InferTensorContents, Result<&'static [u8], &'static str>);
        let int =
            |values: &[i32]| InferTensorContents { int_contents: values.into(), ..contents() };
        let uint =
            |values: &[u32]| InferTensorContents { uint_contents: values.into(), ..contents() };
        let bytes = InferTensorContents { bytes_contents: vec!["ab".into()], ..contents() };
        let cases: [Case; 9] = [
            (DataType::Int8, int(&[-1, 127]), Ok(&[255, 127])),
            (DataType::Int16, int(&[-2]), Ok(&[254, 255])),
            (
                DataType::Int8,
                int(&[1, 128]),
                Err("element 1 is 128, which is out of the range of INT8"),
            ),
            (DataType::Uint8, uint(&[255]), Ok(&[255])),
            (DataType::Uint16, uint(&[65_536]), Err("out of the range of UINT16")),
            (DataType::Bytes, bytes, Ok(b"\x02\0\0\0ab")),
            (DataType::Fp32, int(&[1]), Err("has int_contents: send it in fp32_contents")),
            (DataType::Fp16, contents(), Err("raw_input_contents")),
            (DataType::Fp32, contents(), Ok(&[])),
        ];
        for (datatype, contents, expected) in cases {
            match (typed(&contents, datatype), expected) {
                (Ok(data), Ok(bytes)) => assert_eq!(data, bytes, "{datatype}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (got, _) => panic!("{datatype}: {got:?}, expected {expected:?}"),
            }
        }
    }
}
