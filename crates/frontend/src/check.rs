//! Checks a decoded request against the model's signature.
//!
//! Everything a client can get wrong about names, datatypes, shapes and sizes is refused here,
//! once, for every protocol; what passes needs no further check by a backend.

use crate::error::InferError;
use crate::quote::{self, brief};
use crate::request::InputTensor;
use bytes::Bytes;
use symphony_wire::message::ServedModel;
use symphony_wire::tensor::{DataType, Dim, Inputs, TensorSpec, bytes_count};

/// The request's inputs in the signature's order.
///
/// # Errors
/// What is wrong, naming the input and what is expected.
pub(crate) fn inputs(model: &ServedModel, given: Vec<InputTensor>) -> Result<Inputs, InferError> {
    let specs = &model.signature.inputs;
    let mut tensors: Vec<Option<Bytes>> = vec![None; specs.len()];
    let mut rows = None;
    for input in given {
        let position = position(model, &input.name)?;
        let here = one_input(model, &specs[position], &input)?;
        if *rows.get_or_insert(here) != here {
            return Err(InferError::Invalid(format!(
                "input {:?} has {here} rows, another input has {}: \
                 the first dimension must be the same for all",
                input.name,
                rows.unwrap_or(here)
            )));
        }
        if tensors[position].replace(input.data).is_some() {
            return Err(InferError::Invalid(format!(
                "input {:?} is given twice: give each input once",
                input.name
            )));
        }
    }
    let tensors = specs
        .iter()
        .zip(tensors)
        .map(|(spec, data)| data.ok_or_else(|| missing(model, &spec.name)))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Inputs::fixed(rows.unwrap_or(1), tensors))
}

/// Positions of the wanted outputs in the signature; all when none is named.
///
/// # Errors
/// An unknown or doubled name.
pub(crate) fn outputs(model: &ServedModel, wanted: &[String]) -> Result<Vec<usize>, InferError> {
    let specs = &model.signature.outputs;
    if wanted.is_empty() {
        return Ok((0..specs.len()).collect());
    }
    let mut positions = Vec::new();
    for name in wanted {
        let position = specs.iter().position(|spec| spec.name == *name).ok_or_else(|| {
            InferError::Invalid(format!(
                "model {:?} has no output {:?}; its outputs are {}",
                model.name,
                brief(name),
                names(specs)
            ))
        })?;
        if positions.contains(&position) {
            return Err(InferError::Invalid(format!(
                "output {name:?} is asked for twice: ask for each output once"
            )));
        }
        positions.push(position);
    }
    Ok(positions)
}

fn position(model: &ServedModel, name: &str) -> Result<usize, InferError> {
    let specs = &model.signature.inputs;
    specs.iter().position(|spec| spec.name == name).ok_or_else(|| {
        InferError::Invalid(format!(
            "model {:?} has no input {:?}; its inputs are {}",
            model.name,
            brief(name),
            names(specs)
        ))
    })
}

fn missing(model: &ServedModel, name: &str) -> InferError {
    InferError::Invalid(format!("input {name:?} of model {:?} is missing", model.name))
}

fn names(specs: &[TensorSpec]) -> String {
    specs.iter().map(|spec| format!("{:?}", spec.name)).collect::<Vec<_>>().join(", ")
}

/// Checks one input; its rows.
fn one_input(
    model: &ServedModel,
    spec: &TensorSpec,
    input: &InputTensor,
) -> Result<u32, InferError> {
    if input.datatype != spec.datatype {
        return Err(InferError::Invalid(format!(
            "input {:?} is {}, the model takes {}",
            input.name, input.datatype, spec.datatype
        )));
    }
    let rows = shape(model, spec, input)?;
    let elements = element_count(&input.shape).ok_or_else(|| overflow(input))?;
    contents(input, elements)?;
    Ok(rows)
}

/// Checks the shape; the rows it says.
fn shape(model: &ServedModel, spec: &TensorSpec, input: &InputTensor) -> Result<u32, InferError> {
    let batched = model.signature.is_batched();
    if let Some(dim) = input.shape.iter().find(|dim| **dim < 0) {
        return Err(InferError::Invalid(format!(
            "input {:?} has the shape {}: dimension {dim} is negative, give its actual size",
            input.name,
            quote::shape(&input.shape)
        )));
    }
    let fits = input.shape.len() == spec.shape.len()
        && input.shape.iter().zip(&spec.shape).all(|(given, wanted)| match wanted {
            Dim::Fixed(size) => usize::try_from(*given) == Ok(*size),
            Dim::Batch | Dim::Open(_) | Dim::Unknown => true,
        });
    if !fits {
        let batch = if batched { " (the first dimension is the number of rows)" } else { "" };
        return Err(InferError::Invalid(format!(
            "input {:?} has the shape {}, the model takes {:?}{batch}",
            input.name,
            quote::shape(&input.shape),
            spec.metadata_shape()
        )));
    }
    match input.shape.first() {
        Some(&rows) if batched => checked_rows(model, input, rows),
        _ => Ok(1),
    }
}

fn checked_rows(model: &ServedModel, input: &InputTensor, rows: i64) -> Result<u32, InferError> {
    match u32::try_from(rows) {
        Ok(0) => Err(InferError::Invalid(format!(
            "input {:?} has the shape {}: send at least one row",
            input.name,
            quote::shape(&input.shape)
        ))),
        Ok(rows) if rows <= model.rows_max => Ok(rows),
        _ => Err(InferError::Invalid(format!(
            "input {:?} has {rows} rows, more than the {} that model {:?} takes at once: \
             split the request, or raise max_batch in its model.toml",
            input.name, model.rows_max, model.name
        ))),
    }
}

/// Elements of a shape; `None` when a dimension is negative or the product overflows.
#[must_use]
pub(crate) fn element_count(shape: &[i64]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, dim| product.checked_mul(usize::try_from(*dim).ok()?))
}

fn overflow(input: &InputTensor) -> InferError {
    InferError::Invalid(format!(
        "input {:?} has the shape {}, which is more elements than can be counted",
        input.name,
        quote::shape(&input.shape)
    ))
}

/// Checks that the contents hold exactly the shape's elements.
fn contents(input: &InputTensor, elements: usize) -> Result<(), InferError> {
    let Some(size) = input.datatype.size() else { return byte_strings(input, elements) };
    let expected = elements.checked_mul(size).ok_or_else(|| overflow(input))?;
    if input.data.len() != expected {
        return Err(InferError::Invalid(format!(
            "input {:?} has {} bytes of data, its shape {} of {} needs {expected}",
            input.name,
            input.data.len(),
            quote::shape(&input.shape),
            input.datatype
        )));
    }
    if input.datatype == DataType::Bool
        && let Some(at) = input.data.iter().position(|byte| *byte > 1)
    {
        return Err(InferError::Invalid(format!(
            "input {:?} has the byte {} at {at}: a BOOL is 0 or 1",
            input.name, input.data[at]
        )));
    }
    Ok(())
}

fn byte_strings(input: &InputTensor, elements: usize) -> Result<(), InferError> {
    match bytes_count(&input.data) {
        Ok(count) if count == elements => Ok(()),
        Ok(count) => Err(InferError::Invalid(format!(
            "input {:?} has {count} byte strings, its shape {} needs {elements}",
            input.name,
            quote::shape(&input.shape)
        ))),
        Err(at) => Err(InferError::Invalid(format!(
            "input {:?} is truncated at byte {at} of {}: \
             each BYTES element is a 4-byte little-endian length and that many bytes",
            input.name,
            input.data.len()
        ))),
    }
}
