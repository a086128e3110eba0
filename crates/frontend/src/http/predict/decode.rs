//! A predict request: `instances`, a list of rows, or `inputs`, a tensor for each input.

use super::super::decode::Envelope;
use super::super::nonfinite::JsonText;
use super::super::object::Object;
use super::cursor::{Cursor, Next};
use super::layout::{Layout, SIGNATURE};
use super::nested::NestedTensor;
use crate::error::InferError;
use crate::quote::brief;
use crate::request::{InferRequest, InputTensor};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use symphony_wire::message::ServedModel;
use symphony_wire::tensor::{DataType, TensorSpec};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    signature_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Option<&'a RawValue>,
}

/// Decodes a request.
///
/// # Errors
/// What is malformed, and where.
pub(super) fn decode(
    model: &ServedModel,
    envelope: &Envelope,
) -> Result<(InferRequest, Layout), InferError> {
    let plain = JsonText::plain(&envelope.body);
    let error = match serde_json::from_slice(plain.json()) {
        Ok(Object(body)) => return read(model, envelope, &plain, &body),
        Err(error) => error,
    };
    let text = &envelope.body[..];
    let replaced = JsonText::replaced_anywhere(text).ok_or_else(|| not_json(text, &error))?;
    let json = replaced.json();
    let Object(body) = serde_json::from_slice(json).map_err(|error| not_json(json, &error))?;
    read(model, envelope, &replaced, &body)
}

/// The error of a text that is no request. It is read once more, to find out which member is wrong.
fn not_json(text: &[u8], error: &serde_json::Error) -> InferError {
    let again = &mut serde_json::Deserializer::from_slice(text);
    let member = match serde_path_to_error::deserialize::<_, Object<Body<'_>>>(again) {
        Err(error) if error.inner().is_data() && error.path().iter().len() > 0 => {
            format!("{}: ", brief(&error.path().to_string()))
        }
        _ => String::new(),
    };
    invalid(format!("the request is not JSON as the protocol has it: {member}{error}"))
}

fn invalid(text: impl Into<String>) -> InferError {
    InferError::Invalid(text.into())
}

fn read(
    model: &ServedModel,
    envelope: &Envelope,
    text: &JsonText<'_>,
    body: &Body<'_>,
) -> Result<(InferRequest, Layout), InferError> {
    match body.signature_name.as_deref() {
        None | Some("" | SIGNATURE) => {}
        Some(other) => {
            return Err(invalid(format!(
                "signature_name is {:?}: a model has one signature here, {SIGNATURE:?}",
                brief(other)
            )));
        }
    }
    let (inputs, layout) = match (body.instances, body.inputs) {
        (Some(instances), None) => rows(model, text.as_sent(instances))?,
        (None, Some(inputs)) => (columns(model, text.as_sent(inputs))?, Layout::Columns),
        (Some(_), Some(_)) => {
            return Err(invalid("the request has both instances and inputs: send one of them"));
        }
        (None, None) => {
            return Err(invalid(
                "the request has neither instances (a list of rows) nor inputs (a tensor for each \
                 input): send one of them",
            ));
        }
    };
    let request = InferRequest {
        id: String::new(),
        inputs,
        outputs: Vec::new(),
        arrival: envelope.arrival,
        limit: envelope.limit,
        class: None,
    };
    Ok((request, layout))
}

/// One input as it is read.
struct Reading<'a> {
    spec: &'a TensorSpec,
    tensor: NestedTensor,
    /// Rows that have it.
    rows: usize,
    /// Of an input that all rows share: what the first row gave.
    shared: Option<(Vec<usize>, Vec<u8>)>,
}

impl<'a> Reading<'a> {
    fn new(spec: &'a TensorSpec) -> Reading<'a> {
        Reading { spec, tensor: NestedTensor::new(spec.datatype), rows: 0, shared: None }
    }

    fn input(self, shape: Vec<usize>, contents: Vec<u8>) -> InputTensor {
        InputTensor {
            name: self.spec.name.clone(),
            datatype: self.spec.datatype,
            shape: shape.into_iter().map(|size| i64::try_from(size).unwrap_or(i64::MAX)).collect(),
            data: contents.into(),
        }
    }
}

/// The inputs of `instances`.
fn rows(model: &ServedModel, text: &str) -> Result<(Vec<InputTensor>, Layout), InferError> {
    let mut cursor = Cursor::new(text);
    if cursor.next() != Next::Array {
        return Err(invalid("instances has to be a list of rows, such as [[1, 2], [3, 4]]"));
    }
    let specs = &model.signature.inputs;
    let mut readings: Vec<Reading<'_>> = specs.iter().map(Reading::new).collect();
    let mut count = 0;
    loop {
        match cursor.next() {
            Next::End => break,
            Next::Object if !is_bytes(model, cursor) => {
                named_row(model, &mut readings, &mut cursor, count)?;
            }
            next => {
                let reading = only(model, &mut readings)?;
                let place = format!("instances[{count}]");
                row(model, reading, next, &mut cursor, &place, count)?;
            }
        }
        count += 1;
    }
    if count == 0 {
        return Err(invalid("instances is empty: send at least one row"));
    }
    let given = readings.into_iter().filter(|reading| reading.rows > 0);
    let inputs = given.map(|reading| finished(reading, count)).collect::<Result<_, _>>()?;
    Ok((inputs, Layout::Rows(count)))
}

/// Reads a row that is an object, with the inputs by their names; its opening brace is passed.
fn named_row(
    model: &ServedModel,
    readings: &mut [Reading<'_>],
    cursor: &mut Cursor<'_>,
    index: usize,
) -> Result<(), InferError> {
    while let Some(name) = member(cursor) {
        let known = readings.iter_mut().find(|reading| reading.spec.name == name);
        let reading = known.ok_or_else(|| unknown(model, &name))?;
        let place = format!("instances[{index}].{name}");
        let next = cursor.next();
        row(model, reading, next, cursor, &place, index)?;
    }
    Ok(())
}

/// Reads one row of one input.
fn row(
    model: &ServedModel,
    reading: &mut Reading<'_>,
    next: Next<'_>,
    cursor: &mut Cursor<'_>,
    place: &str,
    index: usize,
) -> Result<(), InferError> {
    if reading.rows > index {
        return Err(invalid(format!("{place} is given twice: give each input once")));
    }
    if reading.rows < index {
        return Err(invalid(format!(
            "{place} is given, and instances[{}] has no such input: give it in every row, or in none",
            reading.rows
        )));
    }
    reading.rows += 1;
    let is_shared = model.signature.is_shared(reading.spec);
    if is_shared {
        reading.tensor = NestedTensor::new(reading.spec.datatype);
    }
    reading
        .tensor
        .take(next, cursor)
        .map_err(|misplaced| invalid(format!("{place}{misplaced}")))?;
    if is_shared {
        let empty = NestedTensor::new(reading.spec.datatype);
        let parts = std::mem::replace(&mut reading.tensor, empty).into_parts();
        if reading.shared.get_or_insert_with(|| parts.clone()) != &parts {
            return Err(invalid(format!(
                "{place} differs from that of instances[0]: all rows of a request share this input"
            )));
        }
    }
    Ok(())
}

/// An input whose rows are all read.
fn finished(mut reading: Reading<'_>, count: usize) -> Result<InputTensor, InferError> {
    if reading.rows < count {
        return Err(invalid(format!(
            "instances[{}] has no input {:?}: give it in every row, or in none",
            reading.rows, reading.spec.name
        )));
    }
    if let Some((shape, contents)) = reading.shared.take() {
        return Ok(reading.input(shape, contents));
    }
    if let Some(axis) = reading.spec.batch_axis().filter(|axis| *axis > 0) {
        return Err(invalid(format!(
            "input {:?} counts its rows along dimension {axis}: send it in the form \
             {{\"inputs\": {{...}}}}, whole",
            reading.spec.name
        )));
    }
    let empty = NestedTensor::new(reading.spec.datatype);
    let (row, contents) = std::mem::replace(&mut reading.tensor, empty).into_parts();
    let shape = std::iter::once(count).chain(row).collect();
    Ok(reading.input(shape, contents))
}

/// The inputs of `inputs`.
fn columns(model: &ServedModel, text: &str) -> Result<Vec<InputTensor>, InferError> {
    let mut cursor = Cursor::new(text);
    let mut inputs: Vec<InputTensor> = Vec::new();
    match cursor.next() {
        Next::Object if !is_bytes(model, cursor) => {
            while let Some(name) = member(&mut cursor) {
                let spec = model.signature.inputs.iter().find(|spec| spec.name == name);
                let spec = spec.ok_or_else(|| unknown(model, &name))?;
                let next = cursor.next();
                inputs.push(column(spec, next, &mut cursor, &format!("inputs.{name}"))?);
            }
        }
        next => {
            let mut readings: Vec<_> = model.signature.inputs.iter().map(Reading::new).collect();
            let spec = only(model, &mut readings)?.spec;
            inputs.push(column(spec, next, &mut cursor, "inputs")?);
        }
    }
    Ok(inputs)
}

fn column(
    spec: &TensorSpec,
    next: Next<'_>,
    cursor: &mut Cursor<'_>,
    place: &str,
) -> Result<InputTensor, InferError> {
    let mut tensor = NestedTensor::new(spec.datatype);
    tensor.take(next, cursor).map_err(|misplaced| invalid(format!("{place}{misplaced}")))?;
    let (shape, contents) = tensor.into_parts();
    Ok(Reading::new(spec).input(shape, contents))
}

/// The name of the next member of an object; `None` at its end.
fn member<'a>(cursor: &mut Cursor<'a>) -> Option<Cow<'a, str>> {
    match cursor.next() {
        Next::Text(name) => serde_json::from_str::<Name<'a>>(name).ok().map(|Name(name)| name),
        _ => None,
    }
}

/// A text that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether an object whose opening brace is passed stands for bytes rather than for a row by names.
fn is_bytes(model: &ServedModel, mut cursor: Cursor<'_>) -> bool {
    let inputs = &model.signature.inputs;
    inputs.iter().all(|spec| spec.datatype == DataType::Bytes && spec.name != "b64")
        && cursor.next() == Next::Text("\"b64\"")
}

/// The model's only input, which needs no name.
fn only<'r, 'a>(
    model: &ServedModel,
    readings: &'r mut [Reading<'a>],
) -> Result<&'r mut Reading<'a>, InferError> {
    let count = readings.len();
    match readings {
        [only] => Ok(only),
        _ => Err(invalid(format!(
            "model {:?} has {count} inputs: give them by name, such as {{{}: ...}}",
            model.name,
            names(model)
        ))),
    }
}

fn unknown(model: &ServedModel, name: &str) -> InferError {
    invalid(format!(
        "model {:?} has no input {:?}; its inputs are {}",
        model.name,
        brief(name),
        names(model)
    ))
}

fn names(model: &ServedModel) -> String {
    let names: Vec<_> =
        model.signature.inputs.iter().map(|spec| format!("{:?}", spec.name)).collect();
    names.join(", ")
}
