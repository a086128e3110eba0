//! Turns an ONNX graph into a model that serves batches: it chooses the form of the graph to load,
//! finds its inputs and outputs, and checks whether its rows may share a batch.
//!
//! The file decides which forms are tried; a run of each form ([`crate::verify`]) decides whether
//! it is correct. Nothing here knows a particular engine.

use crate::engine::{Engine, EngineError, Executable, Graph, LoadRequest};
use crate::limits;
use crate::repository::GraphSettings;
use crate::resident::BatchError;
use crate::verify::{self, Verdict};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use symphony_onnx::{Dim, ElementType, OnnxModel, TensorType, ValueInfo, ValueKind};
use symphony_wire::tensor::{self, DataType, Signature, TensorSpec};

/// The part of a model's configuration that concerns its graph.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The model's name.
    pub name: &'a str,
    /// What `model.toml` says of the graph.
    pub settings: &'a GraphSettings,
    /// The library of operators that are not the engine's own.
    pub custom_ops: Option<PathBuf>,
    /// The largest batch that the configuration asks for, at least one row.
    pub rows_max: u32,
    /// The number of accelerators to load it on.
    pub accelerators: usize,
}

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The graph is unusable.
    #[error(transparent)]
    Graph(#[from] symphony_onnx::Error),
    /// An input or output is not a tensor.
    #[error("{role} {name:?} is a {kind}, and only tensors can be served: {remedy}")]
    Kind {
        /// `input` or `output`.
        role: &'static str,
        /// Its name.
        name: String,
        /// What it is.
        kind: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// An element type that no protocol carries.
    #[error(
        "{role} {name:?} has elements of type {element}, which clients cannot send: export \
             the model with another type for it"
    )]
    Element {
        /// `input` or `output`.
        role: &'static str,
        /// Its name.
        name: String,
        /// The type.
        element: ElementType,
    },
    /// The graph does not give the number of dimensions of an input.
    #[error("the graph does not give the dimensions of input {input:?}: export it with shapes")]
    Rank {
        /// The input.
        input: String,
    },
    /// What neither the graph nor the configuration says, as lines for `model.toml`.
    #[error("the graph does not say everything: add to model.toml, with a number for each ?\n{}", .0.join("\n"))]
    Questions(Vec<String>),
    /// The number of configured dimensions is not that of the input.
    #[error(
        "shape in model.toml gives input {input:?} {got} dimensions: give the {row} of one \
             row, or all {all}"
    )]
    ShapeRank {
        /// The input.
        input: String,
        /// Dimensions given.
        got: usize,
        /// Dimensions of one row.
        row: usize,
        /// All dimensions.
        all: usize,
    },
    /// A configured dimension is too large.
    #[error("shape in model.toml gives input {input:?} a dimension of {size}, which is too large")]
    ShapeSize {
        /// The input.
        input: String,
        /// The size.
        size: usize,
    },
    /// The inputs or outputs are too large to be served.
    #[error("{role} {name:?}: {excess}")]
    Size {
        /// `input` or `output`.
        role: &'static str,
        /// The input or output that exceeds the bound.
        name: String,
        /// The bound that is exceeded.
        excess: String,
    },
    /// The engine does not load the graph.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The graph loads but does not run.
    #[error("a trial run of one row failed: {0}")]
    Trial(#[source] BatchError),
}

/// A form of the graph that could be served.
#[derive(Clone, Debug)]
struct Form {
    model: OnnxModel,
    patched: bool,
    signature: Signature,
}

/// A model as its file and its configuration describe it, before an engine has loaded it.
#[derive(Clone, Debug)]
pub struct Prepared {
    name: String,
    path: PathBuf,
    rows_max: u32,
    accelerators: usize,
    custom_ops: Option<PathBuf>,
    /// The form with a batch dimension, and where that dimension comes from.
    batched: Option<(Form, BatchDimension)>,
    /// The form for one request at a time.
    single: Form,
}

/// Where a batch dimension comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BatchDimension {
    Declared,
    Opened,
}

/// A model that an engine has loaded and that has passed a trial run.
pub struct Runnable {
    /// The inputs, and the outputs with the shapes that the trial run showed.
    pub signature: Arc<Signature>,
    /// The largest batch that it can run, at most what the configuration asks for.
    pub rows_max: u32,
    /// One executable per accelerator.
    pub executables: Vec<Box<dyn Executable>>,
}

impl std::fmt::Debug for Runnable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runnable")
            .field("signature", &self.signature)
            .field("rows_max", &self.rows_max)
            .field("executables", &self.executables.len())
            .finish()
    }
}

impl Prepared {
    /// Finds the forms of the graph that can be served.
    ///
    /// # Errors
    /// An input or output cannot be served, or a dimension is open. The error names it and says
    /// what to do.
    pub fn new(
        model: OnnxModel,
        path: &Path,
        options: &Options<'_>,
    ) -> Result<Prepared, PrepareError> {
        check_edges(&model)?;
        let (model, fixed) = fix_dimensions(model, &options.settings.shapes)?;
        check_open(&model)?;
        let leading = Leading::of(&model);
        let batched = match leading {
            Leading::Open => Some((model.clone(), fixed, BatchDimension::Declared)),
            Leading::One if options.rows_max > 1 => {
                let mut opened = model.clone();
                match opened.make_batch_dynamic() {
                    Ok(_) => Some((opened, true, BatchDimension::Opened)),
                    Err(error) => {
                        tracing::info!(model = options.name, "one row per batch: {error}");
                        None
                    }
                }
            }
            Leading::One | Leading::Other => None,
        };
        let batched = match batched {
            Some((model, patched, dimension)) => {
                let signature = signature(&model, true)?;
                check_sizes(&signature, options.rows_max)?;
                Some((Form { model, patched, signature }, dimension))
            }
            None => None,
        };
        let (model, closed) = close_leading(model)?;
        let signature = signature(&model, false)?;
        check_sizes(&signature, 1)?;
        Ok(Prepared {
            name: options.name.to_owned(),
            path: path.to_owned(),
            rows_max: options.rows_max.max(1),
            accelerators: options.accelerators,
            custom_ops: options.custom_ops.clone(),
            batched,
            single: Form { model, patched: fixed || closed, signature },
        })
    }

    /// The graph whose operators the engine must compute correctly.
    #[must_use]
    pub fn model(&self) -> &OnnxModel {
        self.batched.as_ref().map_or(&self.single.model, |(form, _)| &form.model)
    }

    /// Loads the model on an engine and runs a few rows. The model is batched if batches give the
    /// same results as single rows; otherwise it comes back with `rows_max = 1`.
    ///
    /// # Errors
    /// The engine does not load the graph.
    pub fn load(&self, engine: &dyn Engine) -> Result<Runnable, PrepareError> {
        let Some((form, dimension)) = &self.batched else { return self.load_single(engine) };
        let opened = *dimension == BatchDimension::Opened;
        // The changed graph must give the same results as the original.
        let reference = opened.then(|| self.reference(engine)).transpose()?;
        let executables = match self.load_form(engine, form, self.accelerators) {
            Ok(executables) => executables,
            Err(error) if opened => {
                tracing::info!(model = self.name, "one row per batch: {error}");
                return self.load_single(engine);
            }
            Err(error) => return Err(error),
        };
        let rows_max = self.rows_max;
        let trial =
            verify::Trial { rows_max, reference, dynamic: is_dynamically_quantized(&form.model) };
        match verify::batched(form.signature.clone(), executables, trial) {
            Ok(Verdict::Batched { signature, executables }) => {
                Ok(Runnable { signature: Arc::new(signature), rows_max, executables })
            }
            Ok(Verdict::Single(reason)) => {
                if rows_max > 1 {
                    tracing::warn!(
                        model = self.name,
                        "serving one row per batch, without a batch dimension: {reason}; if the \
                         leading dimension is not a batch, fix it by `shape` in model.toml"
                    );
                }
                self.load_single(engine)
            }
            Err(error) if opened => {
                tracing::info!(model = self.name, "one row per batch: {error}");
                self.load_single(engine)
            }
            Err(error) => Err(PrepareError::Trial(error)),
        }
    }

    fn load_single(&self, engine: &dyn Engine) -> Result<Runnable, PrepareError> {
        let executables = self.load_form(engine, &self.single, self.accelerators)?;
        let (signature, executables) = verify::single(self.single.signature.clone(), executables)
            .map_err(PrepareError::Trial)?;
        Ok(Runnable { signature: Arc::new(signature), rows_max: 1, executables })
    }

    /// The results of the single form for the trial rows.
    fn reference(&self, engine: &dyn Engine) -> Result<verify::Reference, PrepareError> {
        let executables = self.load_form(engine, &self.single, 1)?;
        verify::reference(self.single.signature.clone(), executables).map_err(PrepareError::Trial)
    }

    fn load_form(
        &self,
        engine: &dyn Engine,
        form: &Form,
        accelerators: usize,
    ) -> Result<Vec<Box<dyn Executable>>, PrepareError> {
        let Form { model, patched, signature } = form;
        let graph = Graph { model, path: &self.path, patched: *patched };
        let (name, custom_ops) = (self.name.as_str(), self.custom_ops.as_deref());
        let request = LoadRequest { name, graph, signature, accelerators, custom_ops };
        Ok(engine.load(&request)?)
    }
}

/// Refuses inputs and outputs that are not tensors or whose elements no protocol carries.
fn check_edges(model: &OnnxModel) -> Result<(), PrepareError> {
    let signature = model.signature();
    let inputs = signature.inputs.iter().map(|value| ("input", value));
    let outputs = signature.outputs.iter().map(|value| ("output", value));
    for (role, value) in inputs.chain(outputs) {
        let name = || value.name.clone();
        let ValueKind::Tensor(tensor) = &value.kind else {
            let remedy = match value.kind {
                ValueKind::Sequence | ValueKind::Map => {
                    "export it with tensors (with skl2onnx: options={\"zipmap\": False})"
                }
                _ => "export the model with dense tensors as inputs and outputs",
            };
            return Err(PrepareError::Kind { role, name: name(), kind: value.kind.name(), remedy });
        };
        if datatype(tensor.element).is_none() {
            return Err(PrepareError::Element { role, name: name(), element: tensor.element });
        }
        if role == "input" && tensor.dims.is_none() {
            return Err(PrepareError::Rank { input: name() });
        }
    }
    Ok(())
}

/// The protocol's type for an element type of ONNX.
fn datatype(element: ElementType) -> Option<DataType> {
    Some(match element {
        ElementType::Bool => DataType::Bool,
        ElementType::Uint8 => DataType::Uint8,
        ElementType::Uint16 => DataType::Uint16,
        ElementType::Uint32 => DataType::Uint32,
        ElementType::Uint64 => DataType::Uint64,
        ElementType::Int8 => DataType::Int8,
        ElementType::Int16 => DataType::Int16,
        ElementType::Int32 => DataType::Int32,
        ElementType::Int64 => DataType::Int64,
        ElementType::Float16 => DataType::Fp16,
        ElementType::Bfloat16 => DataType::Bf16,
        ElementType::Float32 => DataType::Fp32,
        ElementType::Float64 => DataType::Fp64,
        ElementType::String => DataType::Bytes,
        _ => return None,
    })
}

/// Applies the configured shapes. Returns whether that changed the graph.
fn fix_dimensions(
    mut model: OnnxModel,
    shape: &BTreeMap<String, Vec<Option<usize>>>,
) -> Result<(OnnxModel, bool), PrepareError> {
    let mut changed = false;
    for (input, sizes) in shape {
        let inputs = &model.signature().inputs;
        let Some(value) = inputs.iter().find(|value| value.name == *input) else {
            let known = inputs.iter().map(|value| value.name.clone()).collect();
            return Err(symphony_onnx::Error::UnknownInput { name: input.clone(), known }.into());
        };
        let dims = dims_of(value).to_vec();
        let offset = match dims.len() {
            all if all == sizes.len() => 0,
            all if all == sizes.len() + 1 => 1,
            all => {
                let (got, row) = (sizes.len(), all.saturating_sub(1));
                return Err(PrepareError::ShapeRank { input: input.clone(), got, row, all });
            }
        };
        for (axis, &size) in sizes.iter().enumerate() {
            let Some(size) = size else { continue };
            let size_i64 = i64::try_from(size)
                .map_err(|_| PrepareError::ShapeSize { input: input.clone(), size })?;
            model.set_dim(input, axis + offset, size_i64)?;
        }
        changed |= dims.iter().skip(offset).any(is_open);
    }
    Ok((model, changed))
}

fn is_open(dim: &Dim) -> bool {
    !matches!(dim, Dim::Fixed(_))
}

/// The dimensions of an input. Its type and rank must have been checked.
fn dims_of(value: &ValueInfo) -> &[Dim] {
    match &value.kind {
        ValueKind::Tensor(TensorType { dims: Some(dims), .. }) => dims,
        _ => &[],
    }
}

/// Refuses open dimensions other than the leading ones, all of them in one question.
fn check_open(model: &OnnxModel) -> Result<(), PrepareError> {
    let open: Vec<String> = model
        .signature()
        .inputs
        .iter()
        .filter(|value| dims_of(value).iter().skip(1).any(is_open))
        .map(|value| {
            let row = dims_of(value).iter().skip(1).map(|dim| match dim {
                Dim::Fixed(size) => size.to_string(),
                _ => "?".to_owned(),
            });
            format!("{:?} = [{}]", value.name, row.collect::<Vec<_>>().join(", "))
        })
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    Err(PrepareError::Questions(vec![format!("shape = {{ {} }}", open.join(", "))]))
}

/// The leading dimensions of a graph's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leading {
    /// All are open, so they are probably the batch.
    Open,
    /// Some are fixed to one and the others open: the graph was exported for one row.
    One,
    /// One is fixed to another number, or an input is a scalar, or there are no inputs.
    Other,
}

impl Leading {
    fn of(model: &OnnxModel) -> Leading {
        let inputs = &model.signature().inputs;
        let mut leading = inputs.iter().map(|value| dims_of(value).first());
        let is_one =
            |dim: Option<&Dim>| dim.is_some_and(|dim| is_open(dim) || *dim == Dim::Fixed(1));
        if inputs.is_empty() {
            Leading::Other
        } else if leading.clone().all(|dim| dim.is_some_and(is_open)) {
            Leading::Open
        } else if leading.all(is_one) {
            Leading::One
        } else {
            Leading::Other
        }
    }
}

/// Fixes open leading dimensions to one row. Returns whether there were any.
fn close_leading(mut model: OnnxModel) -> Result<(OnnxModel, bool), PrepareError> {
    let open = |value: &&ValueInfo| dims_of(value).first().is_some_and(is_open);
    let inputs: Vec<String> =
        model.signature().inputs.iter().filter(open).map(|value| value.name.clone()).collect();
    for input in &inputs {
        // A symbol that several inputs share is fixed together with the first of them.
        model.set_dim(input, 0, 1)?;
    }
    Ok((model, !inputs.is_empty()))
}

/// The signature that clients see.
fn signature(model: &OnnxModel, batched: bool) -> Result<Signature, PrepareError> {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => usize::try_from(*size).map_or(tensor::Dim::Unknown, tensor::Dim::Fixed),
        _ => tensor::Dim::Unknown,
    };
    let spec = |value: &ValueInfo| {
        let ValueKind::Tensor(tensor) = &value.kind else { return None };
        let dims = tensor.dims.as_deref().unwrap_or_default().iter();
        let row = dims.skip(usize::from(batched)).map(size);
        let shape = batched.then_some(tensor::Dim::Batch).into_iter().chain(row).collect();
        Some(TensorSpec::new(&value.name, datatype(tensor.element)?, shape))
    };
    let values = model.signature();
    Ok(Signature::fixed(
        values.inputs.iter().filter_map(spec).collect(),
        values.outputs.iter().filter_map(spec).collect(),
    ))
}

/// Refuses inputs and outputs that are too large to be served.
fn check_sizes(signature: &Signature, rows_max: u32) -> Result<(), PrepareError> {
    for (role, specs) in [("input", &signature.inputs), ("output", &signature.outputs)] {
        if let Some((at, excess)) = limits::excess(signature, specs, rows_max) {
            return Err(PrepareError::Size { role, name: specs[at].name.clone(), excess });
        }
    }
    Ok(())
}

/// Whether activations are quantised with a scale of the whole batch, so that the result of a row
/// depends slightly on its neighbours.
fn is_dynamically_quantized(model: &OnnxModel) -> bool {
    model.nodes().iter().any(|node| node.operator().starts_with("DynamicQuantize"))
}

#[cfg(test)]
mod tests;
