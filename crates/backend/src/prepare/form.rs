//! A form of a graph that could be served: with its rows along a batch dimension, or one request at
//! a time.

use super::dimensions::{BatchAxes, dims_of, name_of};
use super::edges::datatype;
use super::error::PrepareError;
use crate::limits;
use crate::repository::{Fill, GraphSettings};
use crate::values;
use bytes::Bytes;
use symphony_onnx::proto::TensorProto;
use symphony_onnx::{Dim as GraphDim, OnnxModel, ValueInfo, tensor_contents};
use symphony_wire::tensor::{DataType, Dim, OpenDimension, Signature, TensorSpec, bytes_contents};

/// The largest size of an open dimension until one is found by trial.
const SIZE_UNKNOWN: usize = 1;

/// A form of the graph that could be served.
#[derive(Clone, Debug)]
pub(super) struct Form {
    pub(super) model: OnnxModel,
    /// Whether the model was changed after it was read.
    pub(super) patched: bool,
    pub(super) signature: Signature,
    /// The open dimensions, by name, that would count rows if rows could share batches.
    pub(super) rows: Vec<String>,
}

impl Form {
    /// The form in which these inputs have the batch dimension there. Open dimensions have the
    /// largest size that the settings say, or none yet.
    pub(super) fn new(
        model: OnnxModel,
        patched: bool,
        axes: &BatchAxes,
        settings: &GraphSettings,
    ) -> Result<Form, PrepareError> {
        let signature = signature(&model, axes, settings)?;
        Ok(Form { model, patched, signature, rows: Vec::new() })
    }

    /// The same without the inputs that may be left out.
    pub(super) fn without_optional(&self) -> Form {
        let mut form = self.clone();
        form.signature.inputs.retain(|spec| spec.default.is_none());
        form
    }

    /// The same graph without a batch dimension: what would count rows is a dimension like others.
    pub(super) fn unbatched(&self, rows_max: u32) -> Form {
        let (signature, rows) = unbatched(&self.model, &self.signature, rows_max);
        Form { model: self.model.clone(), patched: self.patched, signature, rows }
    }

    /// Refuses inputs and outputs that are too large to be served, as far as their sizes are known.
    pub(super) fn check_sizes(&self, rows_max: u32) -> Result<(), PrepareError> {
        let signature = &self.signature;
        let rows_max = if signature.dimensions.is_empty() { rows_max } else { 1 };
        for (role, specs) in [("input", &signature.inputs), ("output", &signature.outputs)] {
            if let Some((at, excess)) = limits::excess(signature, specs, rows_max) {
                return Err(PrepareError::Size { role, name: specs[at].name.clone(), excess });
            }
        }
        Ok(())
    }
}

fn signature(
    model: &OnnxModel,
    axes: &BatchAxes,
    settings: &GraphSettings,
) -> Result<Signature, PrepareError> {
    let values = model.signature();
    let mut dimensions: Vec<OpenDimension> = Vec::new();
    let mut inputs = Vec::new();
    for value in &values.inputs {
        let batch = axes.get(&value.name).copied();
        let mut shape = Vec::new();
        for (axis, dim) in dims_of(value).iter().enumerate() {
            shape.push(match dim {
                _ if batch == Some(axis) => Dim::Batch,
                GraphDim::Fixed(size) if *size > 0 => {
                    Dim::Fixed(usize::try_from(*size).unwrap_or(usize::MAX))
                }
                _ => open(&mut dimensions, name_of(value, axis), settings),
            });
        }
        inputs.push(spec(value, shape)?);
    }
    let batch_names: Vec<String> = values
        .inputs
        .iter()
        .filter_map(|value| Some(name_of(value, *axes.get(&value.name)?)))
        .collect();
    let output_dim = |dim: &GraphDim| match dim {
        GraphDim::Fixed(size) if *size > 0 => {
            usize::try_from(*size).map_or(Dim::Unknown, Dim::Fixed)
        }
        GraphDim::Named(name) if batch_names.contains(name) => Dim::Batch,
        GraphDim::Named(name) => index_of(&dimensions, name).map_or(Dim::Unknown, Dim::Open),
        _ => Dim::Unknown,
    };
    let outputs = values.outputs.iter().map(|value| {
        let shape = dims_of(value).iter().map(output_dim).collect();
        spec(value, shape)
    });
    let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
    inputs.extend(optional_inputs(model, &batch_names));
    let unknown = settings.max_size.keys().find(|name| index_of(&dimensions, name).is_none());
    if let Some(name) = unknown {
        let known = dimensions.into_iter().map(|dimension| dimension.name).collect();
        return Err(PrepareError::NoDimension { key: "max_size", name: name.clone(), known });
    }
    let mut signature = Signature { inputs, outputs, dimensions, padded: None };
    mark_broadcast(&mut signature, settings)?;
    mark_padded(&mut signature, settings)?;
    Ok(signature)
}

/// The inputs that have a default in the file. Their shape is that of the default, but for a batch
/// dimension of which it holds one row.
fn optional_inputs(model: &OnnxModel, batch_names: &[String]) -> Vec<TensorSpec> {
    let described = |(value, tensor): (ValueInfo, &TensorProto)| {
        let dims = dims_of(&value);
        let shape = tensor.dims.iter().enumerate().map(|(axis, size)| match dims.get(axis) {
            Some(GraphDim::Named(name)) if *size == 1 && batch_names.contains(name) => Dim::Batch,
            _ => usize::try_from(*size).map_or(Dim::Unknown, Dim::Fixed),
        });
        let mut input = spec(&value, shape.collect()).ok()?;
        input.default = Some(tensor_contents(tensor)?);
        Some(input)
    };
    model.optional_inputs().into_iter().filter_map(described).collect()
}

fn spec(value: &ValueInfo, shape: Vec<Dim>) -> Result<TensorSpec, PrepareError> {
    let element = value.tensor().map(|tensor| tensor.element);
    let datatype = element
        .and_then(datatype)
        .ok_or_else(|| PrepareError::Rank { input: value.name.clone() })?;
    Ok(TensorSpec::new(&value.name, datatype, shape))
}

/// The open dimension of a name, added where it is new.
fn open(dimensions: &mut Vec<OpenDimension>, name: String, settings: &GraphSettings) -> Dim {
    if let Some(index) = index_of(dimensions, &name) {
        return Dim::Open(index);
    }
    let Ok(index) = u16::try_from(dimensions.len()) else { return Dim::Unknown };
    let max = settings.max_size.get(&name).copied().unwrap_or(SIZE_UNKNOWN);
    dimensions.push(OpenDimension { name, max });
    Dim::Open(index)
}

fn index_of(dimensions: &[OpenDimension], name: &str) -> Option<u16> {
    let index = dimensions.iter().position(|dimension| dimension.name == name)?;
    u16::try_from(index).ok()
}

fn mark_broadcast(signature: &mut Signature, settings: &GraphSettings) -> Result<(), PrepareError> {
    for name in &settings.broadcast {
        let is_batched = signature.is_batched();
        let input = input_mut(signature, name)?;
        if is_batched && input.batch_axis().is_none() {
            return Err(PrepareError::Broadcast { input: name.clone() });
        }
        input.broadcast = is_batched;
    }
    Ok(())
}

fn input_mut<'a>(
    signature: &'a mut Signature,
    name: &str,
) -> Result<&'a mut TensorSpec, PrepareError> {
    let known = signature.inputs.iter().map(|spec| spec.name.clone()).collect();
    let found = signature.inputs.iter_mut().find(|spec| spec.name == name);
    found.ok_or_else(|| symphony_onnx::Error::UnknownInput { name: name.to_owned(), known }.into())
}

/// Finds the padded dimension, and gives every input that has it what it is filled with.
fn mark_padded(signature: &mut Signature, settings: &GraphSettings) -> Result<(), PrepareError> {
    if settings.pad.is_empty() {
        return Ok(());
    }
    let refuse = |problem: String| PrepareError::Padding { problem };
    let padded = match &settings.pad_dimension {
        Some(name) => index_of(&signature.dimensions, name).ok_or_else(|| {
            let known = signature.dimensions.iter().map(|d| d.name.clone()).collect();
            PrepareError::NoDimension { key: "pad_dimension", name: name.clone(), known }
        })?,
        None => only_dimension(signature, settings)?,
    };
    for (name, fill) in &settings.pad {
        let input = input_mut(signature, name)?;
        if !input.shape.contains(&Dim::Open(padded)) {
            return Err(refuse(format!("input {name:?} does not have the padded dimension")));
        }
        input.fill = Some(fill_bytes(fill, input.datatype).ok_or_else(|| {
            refuse(format!("input {name:?} of type {} cannot be filled so", input.datatype))
        })?);
    }
    let dimension = signature.dimensions[usize::from(padded)].name.clone();
    let left = signature
        .inputs
        .iter()
        .find(|spec| spec.shape.contains(&Dim::Open(padded)) && spec.fill.is_none());
    if let Some(left) = left {
        let problem = format!(
            "input {:?} has the padded dimension {dimension:?} too: add it to pad",
            left.name
        );
        return Err(refuse(problem));
    }
    signature.padded = Some(padded);
    Ok(())
}

/// The one open dimension that all padded inputs have.
fn only_dimension(signature: &Signature, settings: &GraphSettings) -> Result<u16, PrepareError> {
    let inputs = signature.inputs.iter().filter(|spec| settings.pad.contains_key(&spec.name));
    let shapes: Vec<&TensorSpec> = inputs.collect();
    let count = u16::try_from(signature.dimensions.len()).unwrap_or(u16::MAX);
    let common: Vec<u16> = (0..count)
        .filter(|index| shapes.iter().all(|spec| spec.shape.contains(&Dim::Open(*index))))
        .collect();
    match common.as_slice() {
        [index] => Ok(*index),
        [] => Err(PrepareError::Padding {
            problem: "the padded inputs have no open dimension in common".to_owned(),
        }),
        several => {
            let name =
                |index: &u16| format!("{:?}", signature.dimensions[usize::from(*index)].name);
            let names: Vec<String> = several.iter().map(name).collect();
            Err(PrepareError::Padding {
                problem: format!(
                    "the padded inputs have several open dimensions in common: add pad_dimension \
                     = one of {}",
                    names.join(", ")
                ),
            })
        }
    }
}

fn fill_bytes(fill: &Fill, datatype: DataType) -> Option<Bytes> {
    match (fill, datatype) {
        (Fill::Text(text), DataType::Bytes) => Some(bytes_contents([text.as_bytes()]).into()),
        (Fill::Number(_), DataType::Bytes) | (Fill::Text(_), _) => None,
        (Fill::Number(number), datatype) => {
            let mut data = Vec::new();
            values::push(&mut data, datatype, *number);
            Some(data.into())
        }
    }
}

fn unbatched(model: &OnnxModel, signature: &Signature, rows_max: u32) -> (Signature, Vec<String>) {
    let mut single = signature.clone();
    let mut rows: Vec<String> = Vec::new();
    let mut of_outputs = Dim::Unknown;
    for (spec, value) in single.inputs.iter_mut().zip(&model.signature().inputs) {
        let Some(axis) = spec.batch_axis() else { continue };
        let name = name_of(value, axis);
        let index = index_of(&single.dimensions, &name).unwrap_or_else(|| {
            single.dimensions.push(OpenDimension { name: name.clone(), max: rows_max as usize });
            u16::try_from(single.dimensions.len() - 1).unwrap_or(u16::MAX)
        });
        spec.shape[axis] = Dim::Open(index);
        spec.broadcast = false;
        if rows.is_empty() {
            of_outputs = Dim::Open(index);
        }
        rows.push(name);
    }
    let others = single.inputs.iter_mut().chain(&mut single.outputs);
    for dim in others.flat_map(|spec| &mut spec.shape) {
        if *dim == Dim::Batch {
            *dim = of_outputs;
        }
    }
    // One request alone is never padded.
    single.padded = None;
    single.inputs.iter_mut().for_each(|spec| spec.fill = None);
    (single, rows)
}

/// Whether every input begins with a 1, as a graph that was exported for one row.
pub(super) fn leads_with_one(model: &OnnxModel) -> bool {
    let inputs = &model.signature().inputs;
    // An open dimension in front that was not taken for the batch counts something else.
    let one = |value: &ValueInfo| dims_of(value).first() == Some(&GraphDim::Fixed(1));
    !inputs.is_empty() && inputs.iter().all(one)
}
