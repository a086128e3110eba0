//! An inference request from the body of a POST: JSON, JSON followed by binary tensors, or one
//! raw tensor.
//!
//! Binary tensors are slices of the body. What is decoded here is not yet checked against the
//! model, except where the form itself needs the model (the raw tensor).

use super::elements;
use crate::check::element_count;
use crate::deadline::{timeout_parameter, timeout_text};
use crate::error::{InferError, no_shared_memory};
use crate::priority;
use crate::quote::{self, brief};
use crate::request::{InferRequest, InputTensor, earliest};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use symphony_core::{Class, Span, Time};
use symphony_wire::catalog::ServedModel;
use symphony_wire::tensor::{DataType, TensorSpec, bytes_count};

/// A body and what its headers say about it.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    /// Decompressed.
    pub(super) body: Bytes,
    /// Where the JSON ends and binary tensors begin; without it, all is JSON.
    pub(super) json_length: Option<usize>,
    /// When the server had it.
    pub(super) arrival: Time,
    /// The limit a header set.
    pub(super) limit: Option<Span>,
}

/// The request, and in which form it wants the answer.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) request: InferRequest,
    pub(super) form: AnswerForm,
}

/// Which outputs are wanted as binary data.
#[derive(Clone, Debug, Default)]
pub(super) struct AnswerForm {
    /// Where an output says nothing itself.
    pub(super) binary: bool,
    /// By output.
    pub(super) by_name: Vec<(String, bool)>,
}

impl AnswerForm {
    pub(super) fn is_binary(&self, output: &str) -> bool {
        let own = self.by_name.iter().find(|(name, _)| name == output);
        own.map_or(self.binary, |(_, binary)| *binary)
    }
}

// Clients write what they do not give as `null`, or leave it out.
#[derive(Deserialize)]
struct JsonRequest<'a> {
    id: Option<String>,
    parameters: Option<RequestParameters>,
    #[serde(borrow)]
    inputs: Vec<JsonInput<'a>>,
    #[serde(borrow)]
    outputs: Option<Vec<JsonOutput<'a>>>,
}

/// Those parameters that mean something here; the protocol has clients send others too.
#[derive(Default, Deserialize)]
struct RequestParameters {
    timeout: Option<Value>,
    priority: Option<Value>,
    binary_data_output: Option<bool>,
}

#[derive(Deserialize)]
struct JsonInput<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    shape: Vec<i64>,
    parameters: Option<TensorParameters>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct JsonOutput<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    parameters: Option<TensorParameters>,
}

#[derive(Default, Deserialize)]
struct TensorParameters {
    binary_data_size: Option<Value>,
    binary_data: Option<bool>,
    shared_memory_region: Option<IgnoredAny>,
    classification: Option<Value>,
}

/// The value of `Inference-Header-Content-Length`.
///
/// # Errors
/// It is no number.
pub(super) fn json_length(header: &str) -> Result<usize, InferError> {
    let digits = header.bytes().all(|byte| byte.is_ascii_digit());
    header.parse().ok().filter(|_| digits).ok_or_else(|| {
        InferError::Invalid(format!(
            "Inference-Header-Content-Length is {:?}: \
             give the length of the JSON part of the body in bytes",
            brief(header)
        ))
    })
}

/// Bound on the bytes of tensors that so much JSON can hold. The shortest element is a digit and a
/// comma, or for text two quotes and a comma.
pub(super) fn expansion(model: &ServedModel, text: usize) -> usize {
    let sizes = model.signature.inputs.iter().map(|input| input.datatype.size().unwrap_or(4));
    text.div_ceil(2).saturating_mul(sizes.max().unwrap_or(0))
}

/// Decodes a request.
///
/// # Errors
/// What is malformed.
pub(super) fn decode(model: &ServedModel, envelope: Envelope) -> Result<Decoded, InferError> {
    match envelope.json_length {
        Some(0) => raw(model, envelope),
        length => json(&envelope, length),
    }
}

fn json(envelope: &Envelope, length: Option<usize>) -> Result<Decoded, InferError> {
    let body = &envelope.body;
    let length = length.unwrap_or(body.len());
    let text = body.get(..length).ok_or_else(|| {
        InferError::Invalid(format!(
            "Inference-Header-Content-Length is {length}, more than the {} bytes of the body",
            body.len()
        ))
    })?;
    let parsed: JsonRequest<'_> = serde_json::from_slice(text).map_err(|error| {
        InferError::Invalid(format!("the request is not JSON as the protocol has it: {error}"))
    })?;
    let parameters = parsed.parameters.unwrap_or_default();
    let outputs = parsed.outputs.unwrap_or_default();
    let own = parameters.timeout.as_ref().map(timeout).transpose()?;
    let class = parameters.priority.as_ref().map_or(Ok(None), class)?;
    let mut binary = Binary { body, next: length };
    let inputs = parsed
        .inputs
        .into_iter()
        .map(|input| read_input(input, &mut binary))
        .collect::<Result<Vec<_>, _>>()?;
    binary.end()?;
    let form = answer_form(parameters.binary_data_output.unwrap_or(false), &outputs)?;
    Ok(Decoded {
        request: InferRequest {
            id: parsed.id.unwrap_or_default(),
            inputs,
            outputs: outputs.into_iter().map(|output| output.name.into_owned()).collect(),
            arrival: envelope.arrival,
            limit: earliest(envelope.limit, own),
            class,
        },
        form,
    })
}

fn timeout(value: &Value) -> Result<Span, InferError> {
    match value {
        Value::String(text) => timeout_text(text),
        other => match other.as_i64() {
            Some(micros) => timeout_parameter(micros),
            None => timeout_text(&other.to_string()),
        },
    }
}

fn class(value: &Value) -> Result<Option<Class>, InferError> {
    match value {
        Value::String(text) => priority::parameter(text),
        other => priority::parameter(&other.to_string()),
    }
}

/// The binary tensors after the JSON, taken in the order of the inputs.
struct Binary<'a> {
    body: &'a Bytes,
    next: usize,
}

impl Binary<'_> {
    fn take(&mut self, input: &str, size: usize) -> Result<Bytes, InferError> {
        let left = self.body.len() - self.next;
        if size > left {
            return Err(InferError::Invalid(format!(
                "input {input:?} says binary_data_size {size}, but only {left} bytes are left \
                 of the body"
            )));
        }
        let start = self.next;
        self.next += size;
        Ok(self.body.slice(start..self.next))
    }

    fn end(&self) -> Result<(), InferError> {
        match self.body.len() - self.next {
            0 => Ok(()),
            left => Err(InferError::Invalid(format!(
                "the body has {left} bytes after the last binary tensor: \
                 the sum of binary_data_size must be what follows the JSON"
            ))),
        }
    }
}

fn read_input(input: JsonInput<'_>, binary: &mut Binary<'_>) -> Result<InputTensor, InferError> {
    let name = input.name.into_owned();
    let parameters = input.parameters.unwrap_or_default();
    if parameters.shared_memory_region.is_some() {
        return Err(no_shared_memory("input", &name));
    }
    let datatype: DataType = input
        .datatype
        .parse()
        .map_err(|error| InferError::Invalid(format!("input {name:?}: {error}")))?;
    let data = match (parameters.binary_data_size, input.data) {
        (Some(_), Some(_)) => Err("has both data and binary_data_size: send one".to_owned()),
        (Some(size), None) => match size.as_u64().and_then(|size| usize::try_from(size).ok()) {
            Some(size) => return tensor(name, datatype, input.shape, binary, size),
            None => Err(format!(
                "has binary_data_size {}: give a number of bytes",
                brief(&size.to_string())
            )),
        },
        (None, Some(data)) => match element_count(&input.shape) {
            Some(elements) => elements::read(data, datatype, &input.shape, elements),
            None => Err(format!(
                "has the shape {}: dimensions must not be negative, \
                 and their product must be countable",
                quote::shape(&input.shape)
            )),
        },
        (None, None) => {
            Err("has no data: send data, or binary data and its binary_data_size".to_owned())
        }
    };
    match data {
        Ok(data) => Ok(InputTensor { name, datatype, shape: input.shape, data }),
        Err(problem) => Err(InferError::Invalid(format!("input {name:?} {problem}"))),
    }
}

fn tensor(
    name: String,
    datatype: DataType,
    shape: Vec<i64>,
    binary: &mut Binary<'_>,
    size: usize,
) -> Result<InputTensor, InferError> {
    let data = binary.take(&name, size)?;
    Ok(InputTensor { name, datatype, shape, data })
}

fn answer_form(binary: bool, outputs: &[JsonOutput<'_>]) -> Result<AnswerForm, InferError> {
    let mut form = AnswerForm { binary, by_name: Vec::new() };
    for output in outputs {
        let Some(parameters) = &output.parameters else { continue };
        if parameters.shared_memory_region.is_some() {
            return Err(no_shared_memory("output", &output.name));
        }
        let classes = parameters.classification.as_ref();
        if classes.is_some_and(|classes| classes.as_u64() != Some(0)) {
            return Err(InferError::Unsupported(format!(
                "output {:?} asks for classification, which this server does not do: \
                 ask for the tensor",
                output.name
            )));
        }
        if let Some(own) = parameters.binary_data {
            form.by_name.push((output.name.clone().into_owned(), own));
        }
    }
    Ok(form)
}

/// The whole body is the tensor of a model with one input; the answer is binary too.
fn raw(model: &ServedModel, envelope: Envelope) -> Result<Decoded, InferError> {
    let [spec] = &model.signature.inputs[..] else {
        return Err(InferError::Invalid(format!(
            "model {:?} has {} inputs: a body that is one raw tensor \
             (Inference-Header-Content-Length: 0) needs a model with one input",
            model.name,
            model.signature.inputs.len()
        )));
    };
    let rows = model.signature.batched.then(|| raw_rows(spec, &envelope.body));
    let row = spec.row_shape.iter().map(|dim| dim.and_then(|dim| i64::try_from(dim).ok()));
    let shape = rows.into_iter().map(Some).chain(row).collect::<Option<Vec<_>>>();
    let shape = shape.ok_or_else(|| {
        InferError::Invalid(format!(
            "input {:?} of model {:?} has no fixed shape: send its shape in a JSON request",
            spec.name, model.name
        ))
    })?;
    let input = InputTensor {
        name: spec.name.clone(),
        datatype: spec.datatype,
        shape,
        data: envelope.body,
    };
    Ok(Decoded {
        request: InferRequest {
            id: String::new(),
            inputs: vec![input],
            outputs: Vec::new(),
            arrival: envelope.arrival,
            limit: envelope.limit,
            class: None,
        },
        form: AnswerForm { binary: true, by_name: Vec::new() },
    })
}

/// The rows that a raw tensor most likely has; whether they fit is checked like any other's.
fn raw_rows(spec: &TensorSpec, data: &[u8]) -> i64 {
    let rows = match spec.row_bytes() {
        Some(row) => data.len().checked_div(row),
        None => bytes_count(data).ok().and_then(|count| count.checked_div(spec.row_elements()?)),
    };
    rows.and_then(|rows| i64::try_from(rows).ok()).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;
    use symphony_core::{ModelId, Profile};
    use symphony_wire::tensor::Signature;

    fn model() -> ServedModel {
        let spec = |name: &str, datatype| TensorSpec {
            name: name.to_owned(),
            datatype,
            row_shape: vec![Some(2)],
        };
        ServedModel {
            id: ModelId::first(0),
            name: "m".to_owned(),
            version: "1".to_owned(),
            signature: Signature {
                inputs: vec![spec("x", DataType::Fp32)],
                outputs: vec![spec("y", DataType::Fp32)],
                batched: true,
            },
            slo: Span::from_millis(10),
            rows_max: 4,
            queue_max: 4,
            class: Class::High,
            engine: String::new(),
            platform: String::new(),
            profile: Arc::new(Profile::linear(Span(1), Span(1), 4).unwrap()),
        }
    }

    fn decode_bytes(body: &[u8], json_length: Option<usize>) -> Result<Decoded, InferError> {
        let body = Bytes::copy_from_slice(body);
        decode(&model(), Envelope { body, json_length, arrival: Time::ZERO, limit: None })
    }

    #[test]
    fn binary_tensors_are_slices_of_the_body() {
        let json = r#"{"inputs":[
            {"name":"a","datatype":"UINT8","shape":[2],"parameters":{"binary_data_size":2}},
            {"name":"b","datatype":"UINT8","shape":[1],"data":[9]},
            {"name":"c","datatype":"UINT8","shape":[3],"parameters":{"binary_data_size":3}}]}"#;
        let body = Bytes::from([json.as_bytes(), &[1, 2, 3, 4, 5]].concat());
        let envelope = Envelope {
            body: body.clone(),
            json_length: Some(json.len()),
            arrival: Time::ZERO,
            limit: None,
        };
        let inputs = decode(&model(), envelope).unwrap().request.inputs;
        assert_eq!(inputs[0].data, [1, 2][..]);
        assert_eq!(inputs[1].data, [9][..]);
        assert_eq!(inputs[2].data, [3, 4, 5][..]);
        assert_eq!(inputs[2].data.as_ptr(), body[json.len() + 2..].as_ptr());
    }

    const VALID: &str = r#"{"id":"7","parameters":{"timeout":"50","binary_data_output":true},
        "inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[[1,2.5]]},
        {"name":"y","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}}],
        "outputs":[{"name":"y","parameters":{"binary_data":false}}]}....BYTES"#;

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(
            body in prop::collection::vec(any::<u8>(), 0..200),
            json_length in prop::option::of(0..220usize),
        ) {
            let _ = decode_bytes(&body, json_length);
        }

        #[test]
        fn a_damaged_request_decodes_or_is_refused(
            at in 0..VALID.len(),
            byte in any::<u8>(),
            end in 0..=VALID.len(),
            json_length in prop::option::of(0..=VALID.len()),
        ) {
            let mut body = VALID.as_bytes().to_vec();
            body[at] = byte;
            body.truncate(end);
            let _ = decode_bytes(&body, json_length);
        }
    }
}
