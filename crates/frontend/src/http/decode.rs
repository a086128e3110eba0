//! An inference request from the body of a POST: JSON, JSON followed by binary tensors, or one
//! raw tensor.
//!
//! Binary tensors are slices of the body. What is decoded here is not yet checked against the
//! model, except where the form itself needs the model (the raw tensor).

use super::elements;
use super::nonfinite::JsonText;
use super::object::Object;
use crate::check::element_count;
use crate::deadline::earliest;
use crate::error::InferError;
use crate::parameters::{self, Asked, ParameterPlace, ParameterValue};
use crate::quote::{self, brief};
use crate::request::{InferRequest, InputTensor};
use bytes::Bytes;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use symphony_core::{Span, Time};
use symphony_wire::message::ServedModel;
use symphony_wire::tensor::{DataType, Dim, TensorSpec, bytes_count};

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
    #[serde(borrow)]
    parameters: Option<JsonParameters<'a>>,
    #[serde(borrow)]
    inputs: Vec<Object<JsonInput<'a>>>,
    #[serde(borrow)]
    outputs: Option<Vec<Object<JsonOutput<'a>>>>,
}

#[derive(Deserialize)]
struct JsonInput<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(borrow)]
    parameters: Option<JsonParameters<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct JsonOutput<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    parameters: Option<JsonParameters<'a>>,
}

/// The reserved parameters of one place, as they stand in the text. Parameters of the user's own are
/// passed over, and so are parameters that are `null`: clients write what they do not give as `null`.
#[derive(Default)]
struct JsonParameters<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A text that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct JsonString<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for JsonParameters<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<JsonParameters<'a>, D::Error> {
        json.deserialize_map(ReservedOnly).map(JsonParameters)
    }
}

struct ReservedOnly;

impl<'de> Visitor<'de> for ReservedOnly {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of parameters")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut reserved = Vec::new();
        while let Some(JsonString(name)) = map.next_key()? {
            if !parameters::is_reserved(&name) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: &RawValue = map.next_value()?;
            if value.get() != "null" && reserved.len() < parameters::RESERVED_MAX {
                reserved.push((name, value));
            }
        }
        Ok(reserved)
    }
}

/// The value of `Inference-Header-Content-Length`.
///
/// # Errors
/// The header is not a number.
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

/// Bound on the bytes that decoding so much JSON takes: a copy of the text, which is made where it
/// holds numbers that are not finite, and the tensors. The shortest element is a digit and a comma,
/// or for text two quotes and a comma.
pub(super) fn expansion(model: &ServedModel, text: usize) -> usize {
    let sizes = model.signature.inputs.iter().map(|input| input.datatype.size().unwrap_or(4));
    text.saturating_add(text.div_ceil(2).saturating_mul(sizes.max().unwrap_or(0)))
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
    let plain = JsonText::plain(text);
    let error = match serde_json::from_slice(plain.json()) {
        Ok(Object(parsed)) => return request(envelope, length, &plain, parsed),
        Err(error) => error,
    };
    // Numbers that are not finite may be all that is wrong with it.
    let replaced = JsonText::replaced(text)?.ok_or_else(|| not_json(text, &error))?;
    let json = replaced.json();
    let Object(parsed) = serde_json::from_slice(json).map_err(|error| not_json(json, &error))?;
    request(envelope, length, &replaced, parsed)
}

/// The error of a text that is no request. It is read once more, to find out which member is wrong.
fn not_json(text: &[u8], error: &serde_json::Error) -> InferError {
    let again = &mut serde_json::Deserializer::from_slice(text);
    let member = match serde_path_to_error::deserialize::<_, Object<JsonRequest<'_>>>(again) {
        Err(error) if error.inner().is_data() && error.path().iter().len() > 0 => {
            format!("{}: ", brief(&error.path().to_string()))
        }
        _ => String::new(),
    };
    InferError::Invalid(format!("the request is not JSON as the protocol has it: {member}{error}"))
}

/// A request from its parsed JSON, which ends at `length` in the body.
fn request(
    envelope: &Envelope,
    length: usize,
    text: &JsonText<'_>,
    parsed: JsonRequest<'_>,
) -> Result<Decoded, InferError> {
    let asked = read_parameters(ParameterPlace::Request, parsed.parameters)?;
    let mut binary = Binary { body: &envelope.body, next: length };
    let inputs = parsed
        .inputs
        .into_iter()
        .map(|Object(input)| read_input(input, text, &mut binary))
        .collect::<Result<Vec<_>, _>>()?;
    binary.end()?;
    let mut form = AnswerForm { binary: asked.binary_outputs, by_name: Vec::new() };
    let mut outputs = Vec::new();
    for Object(output) in parsed.outputs.unwrap_or_default() {
        let name = output.name.into_owned();
        let own = read_parameters(ParameterPlace::Output(&name), output.parameters)?.binary;
        form.by_name.extend(own.map(|binary| (name.clone(), binary)));
        outputs.push(name);
    }
    Ok(Decoded {
        request: InferRequest {
            id: parsed.id.unwrap_or_default(),
            inputs,
            outputs,
            arrival: envelope.arrival,
            limit: earliest(envelope.limit, asked.limit),
            class: asked.class,
        },
        form,
    })
}

/// What the parameters of one place ask for.
fn read_parameters(
    place: ParameterPlace<'_>,
    given: Option<JsonParameters<'_>>,
) -> Result<Asked, InferError> {
    let JsonParameters(given) = given.unwrap_or_default();
    let given = given.into_iter().map(|(name, raw)| (name, value(raw)));
    parameters::read(place, given.collect())
}

fn value(raw: &RawValue) -> ParameterValue<'_> {
    let text = raw.get();
    let whole = || text.parse().ok().map(ParameterValue::Whole);
    let string =
        || serde_json::from_str(text).ok().map(|JsonString(text)| ParameterValue::Text(text));
    match text {
        "true" => ParameterValue::Bool(true),
        "false" => ParameterValue::Bool(false),
        _ => whole().or_else(string).unwrap_or_else(|| ParameterValue::Other(brief(text))),
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

fn read_input(
    input: JsonInput<'_>,
    text: &JsonText<'_>,
    binary: &mut Binary<'_>,
) -> Result<InputTensor, InferError> {
    let name = input.name.into_owned();
    let size = read_parameters(ParameterPlace::Input(&name), input.parameters)?.binary_size;
    let datatype: DataType = input
        .datatype
        .parse()
        .map_err(|error| InferError::Invalid(format!("input {name:?}: {error}")))?;
    let data = match (size, input.data) {
        (Some(_), Some(_)) => Err("has both data and binary_data_size: send one".to_owned()),
        (Some(size), None) => return tensor(name, datatype, input.shape, binary, size),
        (None, Some(data)) => match element_count(&input.shape) {
            Some(elements) => elements::read(text.as_sent(data), datatype, &input.shape, elements),
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
    let shape = spec.shape.iter().map(|dim| match dim {
        Dim::Fixed(size) => i64::try_from(*size).ok(),
        Dim::Batch => Some(raw_rows(spec, &envelope.body)),
        Dim::Open(_) | Dim::Unknown => None,
    });
    let shape = shape.collect::<Option<Vec<_>>>();
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
    let rows = match spec.fixed_row_bytes() {
        Some(row) => data.len().checked_div(row),
        None => {
            bytes_count(data).ok().and_then(|count| count.checked_div(spec.fixed_row_elements()?))
        }
    };
    rows.and_then(|rows| i64::try_from(rows).ok()).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use symphony_core::{Class, ModelId, Objective, Profile, SizedProfile};
    use symphony_wire::lanes::ModelLanes;
    use symphony_wire::tensor::Signature;

    fn model() -> ServedModel {
        let spec = |name: &str, datatype| TensorSpec::of_rows(name, datatype, &[2]);
        let profile = Profile::linear(Span(1), Span(1), 4).unwrap();
        let (id, costs) = (ModelId::first(0), SizedProfile::fixed(1, profile.clone()));
        ServedModel {
            id,
            lanes: ModelLanes::alone(id, costs).into(),
            name: "m".to_owned(),
            version: "1".to_owned(),
            signature: Signature::fixed(
                vec![spec("x", DataType::Fp32)],
                vec![spec("y", DataType::Fp32)],
            ),
            objective: Objective::Slo(Span::from_millis(10)),
            rows_max: 4,
            queue_max: 4,
            class: Class::High,
            engine: String::new(),
            platform: String::new(),
            profile,
            configuration: Bytes::new(),
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

    #[test]
    fn what_is_wrong_with_the_json_is_named() {
        let input = r#"{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}"#;
        let with = |from: &str, to: &str| format!("{{\"inputs\":[{input}]}}").replacen(from, to, 1);
        for (body, part) in [
            (with("{\"inputs\"", "{\"id\":7,\"inputs\""), "it: id: invalid type: integer `7`"),
            (with("[1,2]", "[1,2.5]"), "it: inputs[0].shape[1]: invalid type: floating point"),
            (with("\"name\":\"x\",", ""), "it: inputs[0]: missing field `name`"),
            (with("\"x\"", "null"), "it: inputs[0].name: invalid type: null"),
            (with("\"data\"", "\"name\""), "it: inputs[0]: duplicate field `name`"),
            (with("\"inputs\"", "\"inputs\":[],\"inputs\""), "it: duplicate field `inputs`"),
            (with("}", "]"), "it: expected"),
            (with("]}", "]}]} {"), "it: trailing characters"),
            ("7".to_owned(), "it: invalid type: integer `7`, expected an object"),
            ("[null,null,[]]".to_owned(), "it: invalid type: sequence, expected an object"),
            (with(input, "[\"x\"]"), "it: inputs[0]: invalid type: sequence, expected an object"),
            (
                with("{\"inputs\"", "{\"outputs\":[\"y\"],\"inputs\""),
                "it: outputs[0]: invalid type: string \"y\", expected an object",
            ),
            (
                with("{\"inputs\"", "{\"parameters\":[],\"inputs\""),
                "it: parameters: invalid type: sequence, expected an object of parameters",
            ),
        ] {
            let error = decode_bytes(body.as_bytes(), None).unwrap_err().to_string();
            assert!(error.contains(part), "{body}: {error}");
        }
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
