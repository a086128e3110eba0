//! The engine onnxruntime, whose library is opened at run time where it is installed. It is faster
//! than the embedded engine and correct on more operators and types.
//!
//! The binding panics when it is used without a library, so nothing of it is called before
//! [`Onnxruntime::open`] has found a library that loads and is new enough.

mod extensions;
mod library;
mod python;
mod threads;
mod values;

pub use library::{MINOR_VERSION_MIN, NAME, Places};

use crate::batch::Batch;
use crate::engine::{
    Cores, Engine, EngineError, EngineModel, Executable, Graph, GraphEngine, LoadRequest, guarded,
};
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{RunOptions, Session};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use symphony_wire::tensor::{OutputTensor, TensorSpec};
use threads::ThreadStarter;

/// The library that this process has opened. There can be only one, and it stays open.
static OPENED: Mutex<Option<Opened>> = Mutex::new(None);

#[derive(Clone, Debug)]
struct Opened {
    environment: Environment,
    library: PathBuf,
    threads: ThreadStarter,
}

/// The engine, with its library open.
#[derive(Clone, Debug)]
pub struct Onnxruntime {
    opened: Opened,
    places: Places,
    cores: Cores,
}

impl Onnxruntime {
    /// Opens the library: the configured one, otherwise the one in `ORT_DYLIB_PATH`, otherwise the
    /// first usable one of an installed Python package or of the system. A process opens one
    /// library; later calls return the same one.
    ///
    /// # Errors
    /// There is no library, or it does not load, or it is too old. The text says what to do.
    pub fn open(configured: Option<&Path>, cores: Cores) -> Result<Onnxruntime, EngineError> {
        Onnxruntime::open_from(&Places::of_process(configured), cores)
    }

    /// Opens the library from given places.
    ///
    /// # Errors
    /// As [`Onnxruntime::open`].
    pub fn open_from(places: &Places, cores: Cores) -> Result<Onnxruntime, EngineError> {
        let mut slot = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = match &*slot {
            Some(opened) => opened.clone(),
            None => slot.insert(open(places)?).clone(),
        };
        Ok(Onnxruntime { opened, places: places.clone(), cores })
    }

    /// The library's file.
    #[must_use]
    pub fn library(&self) -> &Path {
        &self.opened.library
    }

    /// Its release as the library's file is named, such as `1.22.0`; otherwise what the library says of
    /// its build.
    #[must_use]
    pub fn release(&self) -> String {
        let file = fs::canonicalize(self.library()).ok();
        let name = file.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        let release = name.and_then(|name| name.split_once(".so.")).map(|(_, release)| release);
        release.map_or_else(|| self.version(), str::to_owned)
    }

    /// The library of the operators of the installed Python package `onnxruntime-extensions`, in a
    /// form that this process can open, which is written to `directory`.
    ///
    /// # Errors
    /// The package is not installed, or its library cannot be read. The text says what to do.
    pub fn extensions(&self, directory: &Path) -> Result<PathBuf, EngineError> {
        let library = self.places.extensions(self.library()).ok_or_else(|| {
            let problem = "custom_ops = \"extensions\": the package is not installed: pip install \
                           onnxruntime-extensions";
            EngineError::Library(problem.to_owned())
        })?;
        extensions::without_interpreter(&library, directory).map_err(|error| {
            EngineError::Library(format!("custom_ops: {}: {error}", library.display()))
        })
    }
}

/// Opens the first usable library.
fn open(places: &Places) -> Result<Opened, EngineError> {
    let threads = ThreadStarter::new();
    let threads = threads.map_err(|error| EngineError::Library(format!("no thread: {error}")))?;
    let mut refusals = Vec::new();
    for library in places.candidates() {
        match guarded(NAME, "opening its library", || initialize(&library)) {
            Ok(environment) => return Ok(Opened { environment, library, threads }),
            Err(error) => refusals.push(format!("{}: {error}", library.display())),
        }
    }
    Err(EngineError::Library(places.explain(&refusals)))
}

/// Loads a library and creates the environment of the process with it.
fn initialize(library: &Path) -> Result<Environment, EngineError> {
    let unusable = |problem: String| EngineError::Library(problem);
    // Opening a pipe or a device as a library could block forever.
    let metadata = fs::metadata(library).map_err(|error| unusable(error.to_string()))?;
    if !metadata.is_file() {
        return Err(unusable("not a file".to_owned()));
    }
    let builder = ort::init_from(library).map_err(|error| unusable(error.to_string()))?;
    let builder = builder.with_name("symphony").with_telemetry(false).with_logger(Arc::new(log));
    let environment = builder.build().map_err(|error| unusable(error.to_string()))?;
    // Below the level of errors the library logs every detail of every graph.
    environment.set_log_level(LogLevel::Error);
    Ok(environment)
}

/// The messages of the library. Those that matter also come back as errors, so they are logged as
/// details.
fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    let level = format!("{level:?}");
    tracing::debug!(target: "onnxruntime", level, category, location, "{message}");
}

impl Engine for Onnxruntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> String {
        ort::info().to_owned()
    }

    fn platform(&self) -> &'static str {
        "onnxruntime_onnx"
    }
}

impl GraphEngine for Onnxruntime {
    fn open(&self, request: &LoadRequest<'_>) -> Result<Box<dyn EngineModel>, EngineError> {
        Ok(Box::new(OpenedModel {
            engine: self.clone(),
            name: request.name.to_owned(),
            source: GraphSource::of(request)?,
            outputs: request.signature.outputs.clone(),
            custom_ops: request.custom_ops.map(Path::to_owned),
            share_weights: request.share_weights,
        }))
    }
}

/// What sessions of a model are made from. Each has its weights for itself.
struct OpenedModel {
    engine: Onnxruntime,
    name: String,
    source: GraphSource,
    outputs: Vec<TensorSpec>,
    custom_ops: Option<PathBuf>,
    share_weights: bool,
}

impl EngineModel for OpenedModel {
    fn place(&self, device: usize) -> Result<Box<dyn Executable>, EngineError> {
        if device >= self.engine.cores.accelerators {
            return Err(EngineError::NoDevice { engine: NAME, device });
        }
        let session = guarded(NAME, "loading a model", || self.session())
            .map_err(|error| refused(&self.name, error.to_string()))?;
        let outputs = self.outputs.clone();
        Ok(Box::new(OnnxruntimeModel { session, outputs, trims: false }))
    }
}

fn refused(model: &str, problem: String) -> EngineError {
    EngineError::Load { engine: NAME, model: model.to_owned(), problem }
}

/// Tells a session that is made from memory where the weights are that its graph names. It maps
/// them from their files.
const WEIGHTS_IN: &str = "session.model_external_initializers_file_folder_path";

/// What a session is created from.
enum GraphSource {
    File(PathBuf),
    Memory { graph: bytes::Bytes, weights_in: Option<String> },
}

impl GraphSource {
    fn of(request: &LoadRequest<'_>) -> Result<GraphSource, EngineError> {
        let Graph { model, path, patched } = request.graph;
        let Some(first) = model.external_files().next() else {
            return Ok(match patched {
                true => GraphSource::Memory { graph: model.encode(), weights_in: None },
                false => GraphSource::File(path.to_owned()),
            });
        };
        let unreadable = |problem: String| {
            let (path, model) = (first.to_owned(), request.name.to_owned());
            EngineError::Weights { path, model, problem }
        };
        let located = model.encode_beside_weights();
        let (graph, directory) = located.map_err(|error| unreadable(error.to_string()))?;
        let directory = directory.into_os_string().into_string();
        let directory =
            directory.map_err(|_| unreadable("its path is not valid UTF-8".to_owned()))?;
        Ok(GraphSource::Memory { graph, weights_in: Some(directory) })
    }
}

impl OpenedModel {
    /// Creates a session with the threads of one accelerator.
    fn session(&self) -> Result<Session, EngineError> {
        let failed = |error: ort::Error| EngineError::Library(error.to_string());
        let mut builder = self.engine.builder(self.share_weights).map_err(failed)?;
        if let Some(library) = &self.custom_ops {
            builder = builder.with_operator_library(library).map_err(|error| {
                let problem: ort::Error = error.into();
                EngineError::Library(format!(
                    "custom_ops: the library {} does not load: {problem}",
                    library.display()
                ))
            })?;
        }
        match &self.source {
            GraphSource::File(path) => builder.commit_from_file(path),
            GraphSource::Memory { graph, weights_in } => {
                if let Some(directory) = weights_in {
                    builder = builder
                        .with_config_entry(WEIGHTS_IN, directory)
                        .map_err(|error| failed(error.into()))?;
                }
                builder.commit_from_memory(graph)
            }
        }
        .map_err(failed)
    }
}

impl Onnxruntime {
    fn builder(&self, share_weights: bool) -> ort::Result<SessionBuilder> {
        let builder = Session::builder(&self.opened.environment)?;
        Ok(builder
            // A session packs weights into an order of its own, in memory of its own.
            .with_prepacking(!share_weights)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_parallel_execution(false)?
            .with_intra_threads(self.cores.threads)?
            .with_inter_threads(1)?
            .with_thread_manager(self.opened.threads.clone())?
            // Spinning threads would take cores from the other accelerators and from the server.
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?)
    }
}

/// A model on one accelerator.
struct OnnxruntimeModel {
    session: Session,
    outputs: Vec<TensorSpec>,
    /// The arena is to be trimmed with the next batch.
    trims: bool,
}

impl Executable for OnnxruntimeModel {
    fn run(&mut self, batch: &Batch<'_>) -> Result<Vec<OutputTensor>, EngineError> {
        let failed = |error: ort::Error| EngineError::Run {
            engine: NAME,
            rows: batch.rows(),
            problem: error.to_string(),
        };
        let inputs = batch.inputs().map(|input| Ok((input.name, values::input(&input)?)));
        let inputs = inputs.collect::<ort::Result<Vec<_>>>().map_err(failed)?;
        let trimming =
            std::mem::take(&mut self.trims).then(trimming).transpose().map_err(failed)?;
        let (session, specs) = (&mut self.session, &self.outputs);
        guarded(NAME, "running a batch", || {
            let outputs = match &trimming {
                Some(options) => session.run_with_options(inputs, options),
                None => session.run(inputs),
            };
            let mut outputs = outputs.map_err(failed)?;
            specs.iter().map(|spec| values::output(spec, outputs.remove(&spec.name))).collect()
        })
    }

    fn trim(&mut self) {
        self.trims = true;
    }
}

/// Has the library's arena give back at the end of a run what it does not use.
fn trimming() -> ort::Result<RunOptions> {
    let mut options = RunOptions::new()?;
    options.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
    Ok(options)
}
