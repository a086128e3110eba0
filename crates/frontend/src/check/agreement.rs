//! What the inputs of one request have to agree on: how many rows it has, and how large the model's
//! open dimensions are.

use crate::error::InferError;
use crate::quote;
use bytes::Bytes;
use symphony_wire::message::ServedModel;
use symphony_wire::tensor::{Dim, OpenDimension, TensorSpec, bytes_count};

/// What the inputs so far say. Inputs are named by their position in the signature.
pub(super) struct Agreement<'a> {
    model: &'a ServedModel,
    /// Bound on the rows of a request that have to be queued in parts.
    rows_max: u32,
    /// The rows of each input that has a batch dimension.
    rows: Vec<(usize, u32)>,
    /// The size of each open dimension, and the first input that said it.
    sizes: Vec<Option<(usize, usize)>>,
}

impl<'a> Agreement<'a> {
    pub(super) fn new(model: &'a ServedModel, rows_max: u32) -> Agreement<'a> {
        let sizes = vec![None; model.signature.dimensions.len()];
        Agreement { model, rows_max, rows: Vec::new(), sizes }
    }

    pub(super) fn model(&self) -> &'a ServedModel {
        self.model
    }

    /// Checks the shape of an input, alone and beside the others.
    ///
    /// # Errors
    /// It is not one that the model takes, or differs from what another input says.
    pub(super) fn add(&mut self, position: usize, shape: &[i64]) -> Result<(), InferError> {
        let spec = &self.model.signature.inputs[position];
        self.fits(spec, shape)?;
        for (dim, &size) in spec.shape.iter().zip(shape) {
            match *dim {
                Dim::Batch => {
                    let rows = self.checked_rows(spec, shape, size)?;
                    self.rows.push((position, rows));
                }
                Dim::Open(index) => {
                    let index = usize::from(index);
                    let size = self.checked_size(spec, shape, (index, size))?;
                    self.agree(index, size, position)?;
                }
                Dim::Fixed(_) | Dim::Unknown => {}
            }
        }
        Ok(())
    }

    /// The rows that all inputs agree on. One row of an input that may be repeated goes with any
    /// number of others.
    ///
    /// # Errors
    /// Two inputs have different numbers of rows.
    pub(super) fn rows(&self) -> Result<u32, InferError> {
        let specs = &self.model.signature.inputs;
        let repeated = |(position, rows): &(usize, u32)| specs[*position].broadcast && *rows == 1;
        let mut counted = self.rows.iter().filter(|of| !repeated(of));
        let Some(&(first, rows)) = counted.next() else { return Ok(1) };
        match counted.find(|(_, other)| *other != rows) {
            None => Ok(rows),
            Some(&(position, here)) => Err(InferError::Invalid(format!(
                "input {:?} has {here} rows, input {:?} has {rows}: \
                 the number of rows must be the same for all",
                specs[position].name, specs[first].name
            ))),
        }
    }

    /// The size of each open dimension. One that no input has counts as 1.
    pub(super) fn sizes(&self) -> Vec<usize> {
        self.sizes.iter().map(|said| said.map_or(1, |(size, _)| size)).collect()
    }

    /// The contents of an input that the request leaves out.
    ///
    /// # Errors
    /// The model needs it.
    pub(super) fn left_out(&self, position: usize) -> Result<Bytes, InferError> {
        let spec = &self.model.signature.inputs[position];
        let Some(default) = &spec.default else { return Err(self.missing(spec)) };
        let elements = self.model.signature.elements_of(spec, 1, &self.sizes());
        let got = match spec.datatype.size() {
            Some(size) => Some(default.len() / size),
            None => bytes_count(default).ok(),
        };
        if elements != got {
            return Err(InferError::Invalid(format!(
                "input {:?} of model {:?} can be left out only where it has {} elements a row, and \
                 here it has {}: give it",
                spec.name,
                self.model.name,
                got.unwrap_or(0),
                elements.unwrap_or(0)
            )));
        }
        Ok(default.clone())
    }

    fn missing(&self, spec: &TensorSpec) -> InferError {
        let (name, model) = (&spec.name, &self.model.name);
        let signature = &self.model.signature;
        let padded = spec.shape.iter().any(|dim| signature.is_padded(*dim));
        let said = signature.padded.map(usize::from).and_then(|padded| self.sizes[padded]);
        let Some((size, other)) = said.filter(|_| padded) else {
            return InferError::Invalid(format!("input {name:?} of model {model:?} is missing"));
        };
        InferError::Invalid(format!(
            "input {name:?} of model {model:?} is missing: requests are padded along dimension \
             {:?}, and without it the model would take padding for contents; send it with size \
             {size} there, as input {:?} has",
            self.dimension(signature.padded.map_or(0, usize::from)).name,
            signature.inputs[other].name
        ))
    }

    /// Checks the number of dimensions, and those that are fixed.
    fn fits(&self, spec: &TensorSpec, shape: &[i64]) -> Result<(), InferError> {
        if let Some(dim) = shape.iter().find(|dim| **dim < 0) {
            return Err(InferError::Invalid(format!(
                "input {:?} has the shape {}: dimension {dim} is negative, give its actual size",
                spec.name,
                quote::shape(shape)
            )));
        }
        let fits = shape.len() == spec.shape.len()
            && shape.iter().zip(&spec.shape).all(|(given, wanted)| match wanted {
                Dim::Fixed(size) => usize::try_from(*given) == Ok(*size),
                Dim::Batch | Dim::Open(_) | Dim::Unknown => true,
            });
        if fits {
            return Ok(());
        }
        let batch = match spec.batch_axis() {
            Some(0) => " (the first dimension is the number of rows)".to_owned(),
            Some(axis) => format!(" (dimension {axis}, from 0, is the number of rows)"),
            None if self.model.signature.is_batched() => " (all rows share it)".to_owned(),
            None => " (it has no batch dimension: send one request for each row)".to_owned(),
        };
        Err(InferError::Invalid(format!(
            "input {:?} has the shape {}, the model takes {:?}{batch}",
            spec.name,
            quote::shape(shape),
            spec.metadata_shape()
        )))
    }

    fn checked_rows(&self, spec: &TensorSpec, shape: &[i64], rows: i64) -> Result<u32, InferError> {
        let model = self.model;
        match u32::try_from(rows) {
            Ok(0) => Err(InferError::Invalid(format!(
                "input {:?} has the shape {}: send at least one row",
                spec.name,
                quote::shape(shape)
            ))),
            Ok(rows) if rows <= model.rows_max.max(self.rows_max) => Ok(rows),
            _ if self.rows_max > model.rows_max => Err(InferError::Invalid(format!(
                "input {:?} has {rows} rows, more than the {} that one request may have: \
                 send several, or raise request_rows_max under [server] in symphony.toml",
                spec.name, self.rows_max
            ))),
            _ => Err(InferError::Invalid(format!(
                "input {:?} has {rows} rows, more than the {} that model {:?} takes at once: send \
                 several requests, or raise max_batch in its model.toml, or request_rows_max under \
                 [server] in symphony.toml",
                spec.name, model.rows_max, model.name
            ))),
        }
    }

    /// Checks the size of an open dimension against its bound.
    fn checked_size(
        &self,
        spec: &TensorSpec,
        shape: &[i64],
        (index, size): (usize, i64),
    ) -> Result<usize, InferError> {
        let OpenDimension { name, max } = self.dimension(index);
        let shape = || quote::shape(shape);
        match usize::try_from(size) {
            Ok(0) => Err(InferError::Invalid(format!(
                "input {:?} has the shape {}: its dimension {name:?} is 0, give at least 1",
                spec.name,
                shape()
            ))),
            Ok(size) if size <= *max => Ok(size),
            _ => Err(InferError::Invalid(format!(
                "input {:?} has the shape {}: its dimension {name:?} is {size}, more than the \
                 bound of {max}: send less, or raise max_size in the model.toml of model {:?}",
                spec.name,
                shape(),
                self.model.name
            ))),
        }
    }

    /// Takes what an input says of an open dimension.
    fn agree(&mut self, index: usize, size: usize, position: usize) -> Result<(), InferError> {
        let (before, first) = *self.sizes[index].get_or_insert((size, position));
        if before == size {
            return Ok(());
        }
        let inputs = &self.model.signature.inputs;
        let name = &self.dimension(index).name;
        Err(InferError::Invalid(match first == position {
            true => format!(
                "input {:?} has dimension {name:?} twice, with sizes {before} and {size}: \
                 it must be the same number everywhere",
                inputs[position].name
            ),
            false => format!(
                "dimension {name:?} is {before} in input {:?} and {size} in input {:?}: \
                 it must be the same number in all inputs of a request",
                inputs[first].name, inputs[position].name
            ),
        }))
    }

    fn dimension(&self, index: usize) -> &'a OpenDimension {
        &self.model.signature.dimensions[index]
    }
}
