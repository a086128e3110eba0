//! Changes the dimensions of a graph: opens the batch dimension and fixes others.
//!
//! A rewrite does not change what the model computes for one row. Whether the rows of a batch stay
//! independent cannot be seen in the file: it must be verified by running the model.

mod locale;
mod reshape;

use std::collections::HashSet;

use crate::error::Error;
use crate::model::OnnxModel;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::type_proto::Value;
use crate::proto::{GraphProto, ValueInfoProto};
use crate::signature::{Dim, TensorType, ValueInfo, ValueKind, dim, initialized};

/// The changes of [`OnnxModel::make_batch_dynamic`]. Empty for a model that was dynamic already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchRewrite {
    /// The inputs whose leading dimension was fixed to 1.
    pub inputs: Vec<String>,
    /// The `Reshape` nodes, by their first output, whose constant target had a 1 for the batch.
    pub reshapes: Vec<String>,
}

impl OnnxModel {
    /// Opens the leading dimension of a model that was exported for one row. A fixed 1 becomes a
    /// symbol that all inputs and outputs share, and constant `Reshape` targets that start with 1
    /// are rewritten where that makes no difference for one row. A model whose inputs are all open
    /// already is left unchanged.
    ///
    /// The caller must verify the result by running it: both forms on one row, then several rows at
    /// once.
    ///
    /// # Errors
    /// [`Error::NotBatchable`] when an input or output is not a tensor, has no leading dimension,
    /// or has a leading dimension that is fixed to something other than 1.
    pub fn make_batch_dynamic(&mut self) -> Result<BatchRewrite, Error> {
        let fixed = fixed_inputs(&self.signature().inputs)?;
        for output in &self.signature().outputs {
            leading("output", output)?;
        }
        if fixed.is_empty() {
            return Ok(BatchRewrite::default());
        }
        let mut reshapes = Vec::new();
        self.edit(|proto| {
            if let Some(graph) = &mut proto.graph {
                reshapes = reshape::open_targets(graph);
                open_edges(graph);
                forget_shapes(graph);
            }
        })?;
        Ok(BatchRewrite { inputs: fixed, reshapes })
    }

    /// Fixes an open dimension of an input to a size. A named dimension is fixed wherever its name
    /// stands. Fixing a dimension to the size that it has changes nothing.
    ///
    /// # Errors
    /// [`Error::UnknownInput`]; [`Error::Dimension`] when the input has no such dimension, when the
    /// dimension has another size already, or when the size is below 1.
    pub fn set_dim(&mut self, input: &str, axis: usize, size: i64) -> Result<(), Error> {
        let refuse = |problem: String| Error::Dimension { input: input.to_owned(), axis, problem };
        let inputs = &self.signature().inputs;
        let value = inputs.iter().find(|v| v.name == input).ok_or_else(|| Error::UnknownInput {
            name: input.to_owned(),
            known: inputs.iter().map(|v| v.name.clone()).collect(),
        })?;
        let dims = value.tensor().and_then(|t| t.dims.as_ref());
        let dims = dims.ok_or_else(|| refuse(format!("{value} has no known dimensions")))?;
        let old = dims
            .get(axis)
            .ok_or_else(|| refuse(format!("the input has {} dimensions", dims.len())))?
            .clone();
        match old {
            _ if size < 1 => return Err(refuse(format!("{size} is no size"))),
            Dim::Fixed(fixed) if fixed == size => return Ok(()),
            Dim::Fixed(fixed) => {
                return Err(refuse(format!("the graph fixes it to {fixed}, not {size}")));
            }
            Dim::Named(_) | Dim::Unknown => {}
        }
        self.edit(|proto| {
            if let Some(graph) = &mut proto.graph {
                fix(graph, input, axis, &old, size);
            }
        })
    }
}

/// The inputs whose leading dimension is fixed to 1. First checks that every input has a dimension
/// that can carry a batch.
fn fixed_inputs(inputs: &[ValueInfo]) -> Result<Vec<String>, Error> {
    let mut fixed = Vec::new();
    for input in inputs {
        match leading("input", input)? {
            Some(Dim::Fixed(_)) => fixed.push(input.name.clone()),
            Some(_) => {}
            None => return Err(not_batchable("input", input, "its dimensions are not known")),
        }
    }
    Ok(fixed)
}

fn not_batchable(role: &'static str, value: &ValueInfo, problem: &str) -> Error {
    Error::NotBatchable { role, name: value.name.clone(), problem: problem.to_owned() }
}

/// The leading dimension of a value that can carry a batch. `None` when the graph does not give the
/// number of dimensions.
fn leading<'a>(role: &'static str, value: &'a ValueInfo) -> Result<Option<&'a Dim>, Error> {
    let ValueKind::Tensor(TensorType { dims, .. }) = &value.kind else {
        return Err(not_batchable(role, value, &format!("it is of kind {}", value.kind.name())));
    };
    let Some(dims) = dims else { return Ok(None) };
    match dims.first() {
        None => Err(not_batchable(role, value, "it is a scalar")),
        Some(Dim::Fixed(size)) if *size != 1 => {
            Err(not_batchable(role, value, &format!("its leading dimension is fixed to {size}")))
        }
        Some(dim) => Ok(Some(dim)),
    }
}

/// The dimensions of a value in the form of the schema. Empty for other kinds and unknown ranks.
fn dims_mut(value: &mut ValueInfoProto) -> &mut [Dimension] {
    let r#type = value.r#type.as_mut().and_then(|t| t.value.as_mut());
    match r#type {
        Some(Value::TensorType(tensor)) => match &mut tensor.shape {
            Some(shape) => &mut shape.dim,
            None => &mut [],
        },
        _ => &mut [],
    }
}

fn edges(graph: &mut GraphProto) -> impl Iterator<Item = &mut ValueInfoProto> {
    graph.input.iter_mut().chain(&mut graph.output)
}

/// Gives the leading dimension of every input, and of every output where it is 1, the same symbol.
fn open_edges(graph: &mut GraphProto) {
    let filled: HashSet<String> = initialized(graph).into_iter().map(str::to_owned).collect();
    let mut batch_names = HashSet::new();
    let mut other_names = HashSet::new();
    for input in graph.input.iter_mut().filter(|v| !filled.contains(v.name())) {
        if let Some(Dim::Named(name)) = dims_mut(input).first().map(dim) {
            batch_names.insert(name);
        }
    }
    for value in edges(graph) {
        for named in dims_mut(value) {
            if let Dim::Named(name) = dim(named) {
                other_names.insert(name);
            }
        }
    }
    let mut symbol = "batch".to_owned();
    while other_names.contains(&symbol) && !batch_names.contains(&symbol) {
        symbol.push('_');
    }
    let open = dimension::Value::DimParam(symbol);
    let inputs = graph.input.len();
    for (position, value) in edges(graph).enumerate() {
        let is_input = position < inputs;
        if is_input && filled.contains(value.name()) {
            continue;
        }
        for (axis, slot) in dims_mut(value).iter_mut().enumerate() {
            let replace = match dim(slot) {
                Dim::Named(name) => batch_names.contains(&name),
                Dim::Fixed(size) => axis == 0 && size == 1,
                Dim::Unknown => axis == 0 && is_input,
            };
            if replace {
                slot.value = Some(open.clone());
            }
        }
    }
}

/// Removes the shapes of inner values. They were inferred for one row, a wrong shape is an error
/// for some engines, and all engines infer them again.
fn forget_shapes(graph: &mut GraphProto) {
    for value in &mut graph.value_info {
        if let Some(Value::TensorType(tensor)) =
            value.r#type.as_mut().and_then(|t| t.value.as_mut())
        {
            tensor.shape = None;
        }
    }
}

fn fix(graph: &mut GraphProto, input: &str, axis: usize, old: &Dim, size: i64) {
    let fixed = dimension::Value::DimValue(size);
    let values = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
    for value in values {
        let is_input = value.name() == input;
        for (position, slot) in dims_mut(value).iter_mut().enumerate() {
            let is_same_symbol = matches!(old, Dim::Named(_)) && dim(slot) == *old;
            if is_same_symbol || (is_input && position == axis) {
                slot.value = Some(fixed.clone());
            }
        }
    }
}
