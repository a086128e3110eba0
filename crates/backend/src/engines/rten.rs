//! The embedded engine, `rten`. Nothing has to be installed for it.
//!
//! It computes only with `f32`, `i32`, `i8` and `u8`. INT64 and BOOL are therefore narrowed on
//! input and converted back to their declared type on output; other types are refused at load. It
//! may panic on graphs that it does not expect, so every call into it is guarded.

use crate::batch::{Batch, Elements, Representation, contents};
use crate::engine::{
    Cores, Engine, EngineError, EngineModel, Executable, Graph, GraphEngine, LoadRequest, guarded,
};
use rten::{Model, ModelOptions, NodeId, RunOptions, ShapeInferenceMode, ThreadPool, Value};
use rten::{ValueOrView, ValueView};
use rten_tensor::{Layout, Tensor};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use symphony_wire::tensor::{DataType, OutputTensor, TensorSpec};

/// The engine's name in configurations.
pub const NAME: &str = "rten";

/// The version that the workspace's manifest pins.
const VERSION: &str = "0.27.0";

/// The engine, with the threads of every accelerator.
#[derive(Debug)]
pub struct Rten {
    pools: Vec<Arc<ThreadPool>>,
}

impl Rten {
    /// Starts the threads of every accelerator. All models on an accelerator share them.
    #[must_use]
    pub fn new(cores: Cores) -> Rten {
        let pool = |_| Arc::new(ThreadPool::with_num_threads(cores.threads));
        Rten { pools: (0..cores.accelerators).map(pool).collect() }
    }
}

impl Engine for Rten {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> String {
        VERSION.to_owned()
    }

    fn platform(&self) -> &'static str {
        "rten_onnx"
    }
}

impl GraphEngine for Rten {
    fn replaces_stored(&self) -> bool {
        // Stored values are packed when the model is loaded.
        false
    }

    fn open(&self, request: &LoadRequest<'_>) -> Result<Box<dyn EngineModel>, EngineError> {
        if request.custom_ops.is_some() {
            let problem = "custom_ops are operators for onnxruntime: pip install onnxruntime";
            return Err(refused(request.name, problem.to_owned()));
        }
        let signature = request.signature;
        let inputs = signature.inputs.iter().map(|spec| ("input", spec));
        for (role, spec) in inputs.chain(signature.outputs.iter().map(|spec| ("output", spec))) {
            if !represents(spec.datatype) {
                let (name, datatype) = (spec.name.clone(), spec.datatype.name());
                return Err(EngineError::Datatype { engine: NAME, role, name, datatype });
            }
        }
        let model = Arc::new(guarded(NAME, "loading a model", || load(request))?);
        let ids = |specs: &[TensorSpec]| {
            specs
                .iter()
                .map(|spec| node(&model, request.name, &spec.name))
                .collect::<Result<_, _>>()
        };
        let (inputs, outputs) = (ids(&signature.inputs)?, ids(&signature.outputs)?);
        let specs = signature.outputs.clone();
        let placed = RtenModel { model, options: RunOptions::default(), inputs, outputs, specs };
        Ok(Box::new(OpenedModel { pools: self.pools.clone(), placed }))
    }
}

/// A model that the engine has read, and its weights with it.
struct OpenedModel {
    /// Of each accelerator.
    pools: Vec<Arc<ThreadPool>>,
    /// The model as it is on every accelerator, but for its threads.
    placed: RtenModel,
}

impl EngineModel for OpenedModel {
    fn place(&self, device: usize) -> Result<Box<dyn Executable>, EngineError> {
        let pool = self.pools.get(device).cloned();
        let pool = pool.ok_or(EngineError::NoDevice { engine: NAME, device })?;
        let options = RunOptions::default().with_thread_pool(Some(pool));
        Ok(Box::new(RtenModel { options, ..self.placed.clone() }))
    }
}

/// Whether the engine can represent the values of a type.
fn represents(datatype: DataType) -> bool {
    use DataType::{Bool, Fp32, Int8, Int32, Int64, Uint8};
    matches!(datatype, Bool | Fp32 | Int8 | Int32 | Int64 | Uint8)
}

fn load(request: &LoadRequest<'_>) -> Result<Model, EngineError> {
    let mut options = ModelOptions::with_all_ops();
    // Shape inference can panic on graphs that run well without it, and it saves no time.
    options.prepack_weights(true).shape_inference(ShapeInferenceMode::Off);
    let Graph { model, path, patched } = request.graph;
    let is_named_onnx = path.extension().is_some_and(|extension| extension == "onnx");
    let is_beside = |(name, file): (&str, &Path)| file == path.with_file_name(name);
    // The engine looks for weights beside what a link leads to.
    let is_plain = is_named_onnx && !path.is_symlink() && model.external_weights().all(is_beside);
    let loaded = if patched || !is_plain {
        for (location, file) in model.external_weights() {
            let unreadable = |problem: String| {
                let (path, model) = (file.to_owned(), request.name.to_owned());
                EngineError::Weights { path, model, problem }
            };
            let weights = fs::read(file).map_err(|error| unreadable(error.to_string()))?;
            options.external_data(location, weights);
        }
        options.load(model.encode().into())
    } else {
        options.load_file(path)
    };
    loaded.map_err(|error| refused(request.name, error.to_string()))
}

fn refused(model: &str, problem: String) -> EngineError {
    EngineError::Load { engine: NAME, model: model.to_owned(), problem }
}

fn node(model: &Model, model_name: &str, name: &str) -> Result<NodeId, EngineError> {
    model.node_id(name).map_err(|error| refused(model_name, error.to_string()))
}

/// A model on one accelerator. All accelerators share its weights.
#[derive(Clone)]
struct RtenModel {
    model: Arc<Model>,
    options: RunOptions,
    inputs: Vec<NodeId>,
    outputs: Vec<NodeId>,
    specs: Vec<TensorSpec>,
}

impl Executable for RtenModel {
    fn representation(&self) -> Representation {
        Representation::Narrow
    }

    fn run(&mut self, batch: &Batch<'_>) -> Result<Vec<OutputTensor>, EngineError> {
        let failed =
            |problem: String| EngineError::Run { engine: NAME, rows: batch.rows(), problem };
        let mut inputs: Vec<(NodeId, ValueOrView<'_>)> = Vec::with_capacity(self.inputs.len());
        for (&id, input) in self.inputs.iter().zip(batch.inputs()) {
            let view = view(&input.shape, input.elements).map_err(failed)?;
            inputs.push((id, view.into()));
        }
        let values = guarded(NAME, "running a batch", || {
            let options = Some(self.options.clone());
            let values = self.model.run(inputs, &self.outputs, options);
            values.map_err(|error| failed(error.to_string()))
        })?;
        self.specs.iter().zip(values).map(|(spec, value)| output(spec, value)).collect()
    }
}

/// An input in the engine's form, without a copy of its elements.
fn view<'a>(shape: &[usize], elements: Elements<'a>) -> Result<ValueView<'a>, String> {
    match elements {
        Elements::Fp32(values) => {
            ValueView::from_shape(shape, values).map_err(|error| error.to_string())
        }
        Elements::Int32(values) => {
            ValueView::from_shape(shape, values).map_err(|error| error.to_string())
        }
        Elements::Int8(values) => {
            ValueView::from_shape(shape, values).map_err(|error| error.to_string())
        }
        Elements::Uint8(values) => {
            ValueView::from_shape(shape, values).map_err(|error| error.to_string())
        }
        _ => Err("an input has a type that load refuses".to_owned()),
    }
}

/// Converts an output to its declared type.
fn output(spec: &TensorSpec, value: Value) -> Result<OutputTensor, EngineError> {
    let got = value.dtype();
    let (shape, data) = match (spec.datatype, value) {
        (DataType::Fp32, Value::FloatTensor(tensor)) => parts(tensor, contents),
        (DataType::Int32, Value::Int32Tensor(tensor)) => parts(tensor, contents),
        (DataType::Int64, Value::Int32Tensor(tensor)) => {
            parts(tensor, |narrow| contents(narrow.into_iter().map(i64::from).collect()))
        }
        (DataType::Bool, Value::Int32Tensor(tensor)) => {
            parts(tensor, |narrow| contents(narrow.into_iter().map(|v| u8::from(v != 0)).collect()))
        }
        (DataType::Int8, Value::Int8Tensor(tensor)) => parts(tensor, contents),
        (DataType::Uint8, Value::UInt8Tensor(tensor)) => parts(tensor, contents),
        (declared, _) => {
            let problem = format!("declared as {declared}, computed as {got}");
            return Err(EngineError::Output { engine: NAME, name: spec.name.clone(), problem });
        }
    };
    Ok(OutputTensor { shape, data })
}

fn parts<T: Clone>(
    tensor: Tensor<T>,
    contents: impl FnOnce(Vec<T>) -> bytes::Bytes,
) -> (Vec<usize>, bytes::Bytes) {
    (tensor.shape().to_vec(), contents(tensor.into_data()))
}
