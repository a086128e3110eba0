//! Turns an ONNX graph into a model that serves batches: it chooses the form of the graph to load,
//! finds its inputs and outputs, and checks whether its rows may share a batch.
//!
//! The file decides which forms are tried; a run of each form (`verify`) decides whether
//! it is correct. Nothing here knows a particular engine.

mod declared;
mod dimensions;
mod edges;
mod error;
mod form;
mod found;
mod samples;

pub(crate) use declared::Declared;
pub use error::PrepareError;
pub use found::{Batching, Found};
pub use samples::Samples;

use crate::engine::{Executable, Graph, GraphEngine, LoadRequest, place_on};
use crate::repository::GraphSettings;
use crate::resident::BatchError;
use crate::values::InputValues;
use crate::verify::{self, Bound, Finding, SizesError, Trial};
use dimensions::{BatchAxes, batch_axes, dims_of, is_open};
use edges::check_edges;
use form::Form;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use symphony_onnx::{BatchFlow, Dim as GraphDim, OnnxModel, RowsOfOutput};
use symphony_wire::tensor::{Dim, Signature};
use tracing::{info, warn};

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

/// The locale by which texts are changed where the one that a model names is not installed. It
/// knows the letters of all languages, and every Linux has it.
const LOCALE: &str = "C.UTF-8";

/// A model as its file and its configuration describe it, before an engine has loaded it.
#[derive(Clone, Debug)]
pub struct Prepared {
    name: String,
    path: PathBuf,
    rows_max: u32,
    accelerators: usize,
    custom_ops: Option<PathBuf>,
    settings: GraphSettings,
    /// Values that the inputs could have.
    values: InputValues,
    /// The form with a batch dimension, or why there is none.
    batched: Result<Batched, Option<String>>,
    /// The form for one request at a time.
    single: Form,
}

/// The form of a graph with a batch dimension.
#[derive(Clone, Debug)]
struct Batched {
    form: Form,
    /// Whether the graph was exported for one row, and its batch dimension was opened.
    is_opened: bool,
    /// What the graph shows of its rows.
    flow: BatchFlow,
    /// Whether activations are rounded to 8 bits.
    is_quantized: bool,
}

/// A model that an engine has loaded and that has passed a trial run.
pub struct Runnable {
    /// The inputs, and the outputs with the shapes that the trial run showed.
    pub signature: Arc<Signature>,
    /// The largest batch that it can run, at most what the configuration asks for.
    pub rows_max: u32,
    /// One executable per accelerator.
    pub executables: Vec<Box<dyn Executable>>,
    /// Inputs with which it runs.
    pub samples: Samples,
    /// What trial runs have found, now or earlier.
    pub found: Found,
}

/// The executables of a form, one per accelerator.
type Executables = Vec<Box<dyn Executable>>;

/// What became of a form with a batch dimension.
enum Tried {
    Runs(Runnable),
    /// Its rows cannot share batches. The executables are there where the graph is the same as that
    /// of the form for one request at a time.
    Alone {
        reason: String,
        loaded: Option<Executables>,
    },
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
    /// An input or output cannot be served, or the configuration does not fit the graph. The error
    /// names it and says what to do.
    pub fn new(
        mut model: OnnxModel,
        path: &Path,
        options: &Options<'_>,
    ) -> Result<Prepared, PrepareError> {
        let settings = options.settings;
        let replaced = model.make_outputs_tensors()?;
        for output in &replaced {
            info!(
                model = options.name,
                columns = ?output.columns,
                "output {:?} is served as tensors {:?}: it is no tensor in the file",
                output.name,
                output.tensors
            );
        }
        check_edges(&model)?;
        let axes = batch_axes(&model, settings)?;
        let (model, fixed) = fix_dimensions(model, &settings.shapes, &axes)?;
        let patched = fixed || !replaced.is_empty();
        let single = Form::new(model.clone(), patched, &BatchAxes::new(), settings);
        let batched = if axes.is_empty() {
            opened(&model, options)
        } else {
            Ok((Form::new(model, patched, &axes, settings)?, axes, false))
        };
        let batched = match batched {
            Ok((form, axes, is_opened)) => {
                form.check_sizes(options.rows_max)?;
                Batched::of(form, &axes, is_opened, settings)
            }
            Err(reason) => Err(reason),
        };
        let single = match &batched {
            Ok(Batched { form, is_opened: false, .. }) => form.unbatched(options.rows_max),
            _ => single?,
        };
        single.check_sizes(1)?;
        let hints = single.model.input_hints();
        let described = batched.as_ref().map_or(&single.signature, |b| &b.form.signature);
        Ok(Prepared {
            name: options.name.to_owned(),
            path: path.to_owned(),
            rows_max: options.rows_max.max(1),
            accelerators: options.accelerators,
            custom_ops: options.custom_ops.clone(),
            settings: settings.clone(),
            values: InputValues::of(described, &hints),
            batched,
            single,
        })
    }

    /// The graph whose operators the engine must compute correctly.
    #[must_use]
    pub fn model(&self) -> &OnnxModel {
        self.batched.as_ref().map_or(&self.single.model, |batched| &batched.form.model)
    }

    /// The library of operators that are not the engine's own.
    #[must_use]
    pub fn custom_ops(&self) -> Option<&Path> {
        self.custom_ops.as_deref()
    }

    /// Loads the model on an engine, finds at which sizes it runs, and tries whether its rows may
    /// share batches. Where they may not, it comes back with `rows_max = 1`.
    ///
    /// # Errors
    /// The engine does not load the graph, or the model does not run.
    pub fn load(&self, engine: &dyn GraphEngine) -> Result<Runnable, PrepareError> {
        if self.lacks_optional(engine) {
            return self.without_optional().load(engine);
        }
        let (reason, loaded) = match &self.batched {
            Ok(batched) => match self.load_batched(engine, batched)? {
                Tried::Runs(runnable) => return Ok(runnable),
                Tried::Alone { reason, loaded } => (Some(reason), loaded),
            },
            Err(reason) => (reason.clone(), None),
        };
        let loaded = match loaded {
            Some(loaded) => loaded,
            None => self.load_form(engine, &self.single, self.accelerators)?,
        };
        let reason = reason.filter(|_| self.rows_max > 1);
        let trial = self.trial(&self.single, 1, loaded)?;
        let trial = trial.observe().map_err(PrepareError::Trial)?;
        Ok(self.runnable(&self.single, trial, Batching::Single { reason }))
    }

    /// Loads the model on an engine that was found to run it, and runs one row of it.
    ///
    /// # Errors
    /// Why what was found cannot be relied on: the model has to be tried out.
    pub fn load_as(&self, engine: &dyn GraphEngine, found: &Found) -> Result<Runnable, String> {
        if self.lacks_optional(engine) {
            return self.without_optional().load_as(engine, found);
        }
        let (form, rows_max) = match (&found.batching, &self.batched) {
            (Batching::Shared { .. }, Ok(batched)) => (&batched.form, self.rows_max),
            (Batching::Shared { .. }, Err(_)) => return Err("the graph mixes rows".to_owned()),
            (Batching::Single { .. }, _) => (&self.single, 1),
        };
        let other = "the graph has other dimensions or outputs";
        let signature = found.applied(&form.signature).ok_or(other)?;
        let loaded = self.load_form(engine, form, self.accelerators);
        let loaded = loaded.map_err(|error| error.to_string())?;
        let trial = Trial::new(signature, rows_max, loaded, &self.values);
        let mut trial = trial.map_err(|error| error.to_string())?;
        let (sizes, way) = &found.sizes[0];
        let outputs = trial.one_row(sizes, *way).map_err(|error| error.to_string())?;
        if !found.agrees(&outputs) {
            return Err("a row has outputs of other shapes".to_owned());
        }
        Ok(self.served(form, trial, found.clone()))
    }

    /// Whether requests cannot give the inputs that may be left out.
    fn lacks_optional(&self, engine: &dyn GraphEngine) -> bool {
        let has_optional = self.single.signature.inputs.iter().any(|spec| spec.default.is_some());
        has_optional && !engine.replaces_stored()
    }

    /// The same without the inputs that may be left out.
    fn without_optional(&self) -> Prepared {
        let mut prepared = self.clone();
        prepared.single = self.single.without_optional();
        if let Ok(batched) = &mut prepared.batched {
            batched.form = batched.form.without_optional();
        }
        prepared
    }

    /// Loads the form with a batch dimension.
    fn load_batched(
        &self,
        engine: &dyn GraphEngine,
        batched: &Batched,
    ) -> Result<Tried, PrepareError> {
        match self.try_batched(engine, batched) {
            // The opened form may fail where the file as it is runs.
            Err(error) if batched.is_opened => {
                Ok(Tried::Alone { reason: error.to_string(), loaded: None })
            }
            tried => tried,
        }
    }

    fn try_batched(
        &self,
        engine: &dyn GraphEngine,
        batched: &Batched,
    ) -> Result<Tried, PrepareError> {
        let form = &batched.form;
        let executables = self.load_form(engine, form, self.accelerators)?;
        let mut trial = self.trial(form, self.rows_max, executables)?;
        if batched.is_opened
            && let Some(text) = self.differs_from_file(engine, &mut trial)?
        {
            let reason = format!("with an open batch dimension {text}");
            return Ok(Tried::Alone { reason, loaded: None });
        }
        let mut trial = trial.observe().map_err(PrepareError::Trial)?;
        let dependence = match self.verify_batches(batched, &mut trial)? {
            Ok(dependence) => dependence,
            Err(reason) => {
                let loaded = (!batched.is_opened).then(|| trial.into_executables());
                return Ok(Tried::Alone { reason, loaded });
            }
        };
        if let Some(problem) = verify::padding(&mut trial).map_err(PrepareError::Trial)? {
            let problem = format!("padding changes the answers: {problem}; serve it without pad");
            return Err(PrepareError::Padding { problem });
        }
        Ok(Tried::Runs(self.runnable(form, trial, Batching::Shared { dependence })))
    }

    /// How the results of the graph whose batch dimension was opened differ from those of the file,
    /// if they do.
    fn differs_from_file(
        &self,
        engine: &dyn GraphEngine,
        opened: &mut Trial<'_>,
    ) -> Result<Option<String>, PrepareError> {
        let single = self.load_form(engine, &self.single, 1)?;
        let mut single = self.trial(&self.single, 1, single)?;
        let rows = single.reference_rows();
        let reference = single.reference(&rows).map_err(PrepareError::Trial)?;
        opened.differs(&rows, &reference).map_err(PrepareError::Trial)
    }

    /// How answers depend on the other rows of a batch, where that is allowed. The inner error says
    /// why rows cannot share batches.
    fn verify_batches(
        &self,
        batched: &Batched,
        trial: &mut Trial<'_>,
    ) -> Result<Result<Option<String>, String>, PrepareError> {
        if let Some(reason) = batched.without_rows(trial.signature()) {
            return Ok(Err(reason));
        }
        if self.rows_max < 2 {
            return Ok(Ok(None));
        }
        let finding = trial.batches(batched.is_quantized).map_err(PrepareError::Trial)?;
        let told = match (finding, &batched.flow.quantized) {
            (Finding::Fails(reason), _) => return Ok(Err(reason)),
            (Finding::Independent, None) => return Ok(Ok(None)),
            (Finding::Independent, Some(node)) => {
                format!("activations are quantised over the batch (node {node:?})")
            }
            (Finding::Dependent(text, _), Some(node)) => {
                format!("activations are quantised over the batch (node {node:?}): {text}")
            }
            (Finding::Dependent(text, _), None) => format!("in a batch {text}"),
        };
        Ok(match self.settings.batch_dependent {
            true => Ok(Some(told)),
            false => Err(format!("{told}; batch_dependent = true in model.toml allows it")),
        })
    }

    /// Finds at which sizes a loaded form runs.
    fn trial(
        &self,
        form: &Form,
        rows_max: u32,
        executables: Vec<Box<dyn Executable>>,
    ) -> Result<Trial<'_>, PrepareError> {
        let trial = Trial::new(form.signature.clone(), rows_max, executables, &self.values)?;
        trial.find_sizes(&self.bounds(form)).map_err(|error| self.explain(form, error))
    }

    /// What bounds the open dimensions of a form.
    fn bounds(&self, form: &Form) -> Vec<Bound> {
        let dimensions = form.signature.dimensions.iter();
        let bound = dimensions.map(|open| match self.settings.max_size.contains_key(&open.name) {
            true => Bound::Configured,
            false if form.rows.contains(&open.name) => Bound::Rows,
            false => Bound::Free,
        });
        bound.collect()
    }

    fn explain(&self, form: &Form, error: SizesError) -> PrepareError {
        match error {
            SizesError::Engine(error) => error.into(),
            SizesError::Configured { dimension, max, problem } => {
                PrepareError::MaxSize { dimension, max, problem }
            }
            SizesError::Nowhere(problem) if form.signature.dimensions.is_empty() => {
                PrepareError::Trial(problem)
            }
            SizesError::Nowhere(problem) => questions(&form.model, &problem),
        }
    }

    fn runnable(&self, form: &Form, trial: Trial<'_>, batching: Batching) -> Runnable {
        let found = Found::new(batching, trial.signature(), trial.sizes());
        self.served(form, trial, found)
    }

    /// A form that is served as it was found to run. The log says what nobody asked for.
    fn served(&self, form: &Form, trial: Trial<'_>, found: Found) -> Runnable {
        let model = self.name.as_str();
        for ((name, max), bound) in found.dimensions.iter().zip(self.bounds(form)) {
            if bound != Bound::Configured {
                info!(
                    model,
                    "dimension {name:?} is open, up to {max} as found by trial (max_size sets it)"
                );
            }
        }
        let rows_max = match &found.batching {
            Batching::Shared { dependence } => {
                if let Some(told) = dependence {
                    warn!(model, "answers depend on the other rows of a batch: {told}");
                }
                self.rows_max
            }
            Batching::Single { reason } => {
                if let Some(reason) = reason {
                    warn!(model, "serving one request per batch: {reason}");
                }
                1
            }
        };
        let signature = Arc::new(trial.signature().clone());
        let samples = Samples { values: self.values.clone(), sizes: found.sizes.clone() };
        Runnable { signature, rows_max, executables: trial.into_executables(), samples, found }
    }

    fn load_form(
        &self,
        engine: &dyn GraphEngine,
        form: &Form,
        accelerators: usize,
    ) -> Result<Executables, PrepareError> {
        let Form { model, patched, signature, .. } = form;
        let graph = Graph { model, path: &self.path, patched: *patched };
        let (name, custom_ops) = (self.name.as_str(), self.custom_ops.as_deref());
        let share_weights = self.settings.share_weights;
        let request = LoadRequest { name, graph, signature, custom_ops, share_weights };
        let load = |request: &LoadRequest<'_>| place_on(&*engine.open(request)?, accelerators);
        match load(&request) {
            Err(error) if model.uses_locale() && error.to_string().contains("locale") => {
                let mut model = model.clone();
                model.set_locale(LOCALE)?;
                let graph = Graph { model: &model, path: &self.path, patched: true };
                let loaded = load(&LoadRequest { graph, ..request })?;
                warn!(model = name, "texts are changed by the locale {LOCALE}: {error}");
                Ok(loaded)
            }
            loaded => Ok(loaded?),
        }
    }
}

impl Batched {
    /// Follows the rows through the graph. The error says how it mixes them.
    fn of(
        mut form: Form,
        axes: &BatchAxes,
        is_opened: bool,
        settings: &GraphSettings,
    ) -> Result<Batched, Option<String>> {
        let flow = form.model.follow_batch(axes);
        if let Some(mixing) = flow.mixing()
            && !settings.batch_dependent
        {
            return Err(Some(mixing.to_string()));
        }
        for (spec, rows) in form.signature.outputs.iter_mut().zip(&flow.outputs) {
            if let RowsOfOutput::Along(axis) = rows
                && spec.batch_axis().is_none()
                && let Some(dim) = spec.shape.get_mut(*axis)
                && *dim == Dim::Unknown
            {
                *dim = Dim::Batch;
            }
        }
        let is_quantized =
            form.model.nodes().iter().any(|node| node.operator().contains("Quantize"));
        Ok(Batched { form, is_opened, flow, is_quantized })
    }

    /// Why an output cannot be given to the requests of a batch: it has no rows, and is not the same
    /// for all.
    fn without_rows(&self, signature: &Signature) -> Option<String> {
        let free = |at: &usize| self.flow.outputs.get(*at) == Some(&RowsOfOutput::Free);
        let at = verify::without_rows(signature).into_iter().find(|at| !free(at))?;
        let name = &signature.outputs[at].name;
        Some(format!("output {name:?} does not have one entry per row of a batch"))
    }
}

/// The form of a graph that was exported for one row, with its leading dimensions opened.
fn opened(
    model: &OnnxModel,
    options: &Options<'_>,
) -> Result<(Form, BatchAxes, bool), Option<String>> {
    if options.rows_max < 2 || !form::leads_with_one(model) {
        return Err(None);
    }
    let mut opened = model.clone();
    opened.make_batch_dynamic().map_err(|error| Some(error.to_string()))?;
    let inputs = opened.signature().inputs.iter();
    let axes: BatchAxes = inputs.map(|value| (value.name.clone(), 0)).collect();
    let form = Form::new(opened, true, &axes, options.settings);
    Ok((form.map_err(|error| Some(error.to_string()))?, axes, true))
}

/// Asks for the sizes of all inputs that leave dimensions open.
fn questions(model: &OnnxModel, problem: &BatchError) -> PrepareError {
    let inputs = model.signature().inputs.iter();
    let open = inputs.filter(|value| dims_of(value).iter().skip(1).any(is_open)).map(|value| {
        let row = dims_of(value).iter().skip(1).map(|dim| match dim {
            GraphDim::Fixed(size) if *size > 0 => size.to_string(),
            _ => "?".to_owned(),
        });
        format!("{:?} = [{}]", value.name, row.collect::<Vec<_>>().join(", "))
    });
    let shape = open.collect::<Vec<_>>().join(", ");
    let dims = model.signature().inputs.iter().flat_map(|value| dims_of(value).iter().skip(1));
    let mut names: Vec<String> = dims.filter(|dim| is_open(dim)).map(GraphDim::to_string).collect();
    names.dedup();
    PrepareError::Questions(vec![
        format!("shape = {{ {shape} }}"),
        format!("# open are {}; no size was found by trial: {problem}", names.join(", ")),
    ])
}

/// Applies the configured shapes. Returns whether that changed the graph.
fn fix_dimensions(
    mut model: OnnxModel,
    shape: &BTreeMap<String, Vec<Option<usize>>>,
    axes: &BatchAxes,
) -> Result<(OnnxModel, bool), PrepareError> {
    let mut changed = false;
    for (input, sizes) in shape {
        let inputs = &model.signature().inputs;
        let Some(value) = inputs.iter().find(|value| value.name == *input) else {
            let known = inputs.iter().map(|value| value.name.clone()).collect();
            return Err(symphony_onnx::Error::UnknownInput { name: input.clone(), known }.into());
        };
        let dims = dims_of(value).to_vec();
        // Without the batch dimension, which is the first where none was found.
        let without = axes.get(input).copied().unwrap_or(0);
        let positions: Vec<usize> = match dims.len() {
            all if all == sizes.len() => (0..all).collect(),
            all if all == sizes.len() + 1 => (0..all).filter(|axis| *axis != without).collect(),
            all => {
                let (got, row) = (sizes.len(), all.saturating_sub(1));
                return Err(PrepareError::ShapeRank { input: input.clone(), got, row, all });
            }
        };
        for (axis, size) in positions.into_iter().zip(sizes) {
            let Some(size) = *size else { continue };
            let size_i64 = i64::try_from(size)
                .map_err(|_| PrepareError::ShapeSize { input: input.clone(), size })?;
            model.set_dim(input, axis, size_i64)?;
            changed |= is_open(&dims[axis]);
        }
    }
    Ok((model, changed))
}

#[cfg(test)]
mod tests;
