//! Checks a decoded request against the model's signature.
//!
//! Everything a client can get wrong about names, datatypes, shapes and sizes is refused here,
//! once, for every protocol; what passes needs no further check by a backend.

mod agreement;

use crate::error::InferError;
use crate::quote::{self, brief};
use crate::request::InputTensor;
use agreement::Agreement;
use bytes::Bytes;
use symphony_wire::message::ServedModel;
use symphony_wire::tensor::{DataType, Inputs, TensorSpec, bytes_count};

/// The request's inputs in the signature's order. It may have as many rows as a batch of the model,
/// or up to `rows_max` if that is more. Inputs that are left out and have a default take
/// that.
///
/// # Errors
/// What is wrong, naming the input and what is expected.
pub(crate) fn inputs(
    model: &ServedModel,
    given: Vec<InputTensor>,
    rows_max: u32,
) -> Result<Inputs, InferError> {
    let specs = &model.signature.inputs;
    let mut tensors: Vec<Option<Bytes>> = vec![None; specs.len()];
    let mut agreement = Agreement::new(model, rows_max);
    for input in given {
        let position = position(model, &input.name)?;
        one_input(&mut agreement, position, &input)?;
        if tensors[position].replace(input.data).is_some() {
            return Err(InferError::Invalid(format!(
                "input {:?} is given twice: give each input once",
                input.name
            )));
        }
    }
    let rows = agreement.rows()?;
    let tensors = (0..).zip(tensors).map(|(position, data)| match data {
        Some(data) => Ok(data),
        None => agreement.left_out(position),
    });
    let tensors = tensors.collect::<Result<_, _>>()?;
    Ok(Inputs { rows, sizes: agreement.sizes(), tensors })
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

fn names(specs: &[TensorSpec]) -> String {
    specs.iter().map(|spec| format!("{:?}", spec.name)).collect::<Vec<_>>().join(", ")
}

/// Checks one input, and that it agrees with those before it.
fn one_input(
    agreement: &mut Agreement<'_>,
    position: usize,
    input: &InputTensor,
) -> Result<(), InferError> {
    let spec = &agreement.model().signature.inputs[position];
    if input.datatype != spec.datatype {
        return Err(InferError::Invalid(format!(
            "input {:?} is {}, the model takes {}",
            input.name, input.datatype, spec.datatype
        )));
    }
    agreement.add(position, &input.shape)?;
    let elements = element_count(&input.shape).ok_or_else(|| overflow(input))?;
    contents(input, elements)
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
