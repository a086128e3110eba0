//! The engine for models that run in Python: scripts, modules that PyTorch saved, and models written
//! for Triton's Python backend. Each accelerator has a process of its own for them.
//!
//! Batches are assembled in memory that the process sees, and its outputs are answered from where it
//! wrote them.

use crate::batch::{Batch, BufferMemory, BufferRegion, Elements, Representation};
use crate::engine::{Cores, Engine, EngineError, EngineModel, Executable, FailedRequest};
use crate::repository::PythonModel;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;
use symphony_python::{
    Bounds, Environments, Input, Interpreter, Kind, ModelId, ModelSpec, PythonConfig, PythonError,
    PythonWorker,
};
use symphony_triton::proto::ModelConfig;
use symphony_wire::tensor::{OutputTensor, bytes_contents};

/// The engine's name in configurations.
pub const NAME: &str = "python";
/// The platform name that clients see.
const PLATFORM: &str = "python";
/// A script with this class is a model for Triton's Python backend.
const TRITON_CLASS: &str = "class TritonPythonModel";
/// The packages that a model needs besides those of the interpreter.
const REQUIREMENTS: &str = "requirements.txt";
/// Prints the versions of what times depend on.
const VERSIONS: &str = "import sys, importlib.metadata as packages\n\
    print(sys.version.split()[0], *(f'{d.name} {d.version}' for d in packages.distributions() \
    if d.name in ('numpy', 'torch')))";

/// The engine, and the processes that it has started.
#[derive(Clone, Debug)]
pub struct Python {
    interpreter: PathBuf,
    /// Where environments and the engine's own file are kept.
    cache: PathBuf,
    cores: Cores,
    version: Arc<OnceLock<Option<String>>>,
    processes: Arc<Processes>,
}

/// A model to open.
#[derive(Clone, Copy, Debug)]
pub struct PythonRequest<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: u64,
    /// The script, or what PyTorch saved.
    pub file: &'a Path,
    /// The model's directory, which has its versions.
    pub directory: &'a Path,
    /// What its settings say.
    pub model: &'a PythonModel,
    /// The largest batch in rows.
    pub rows_max: u32,
    /// Its configuration, as a script for Triton reads it.
    pub configuration: &'a ModelConfig,
}

impl Python {
    /// The engine with this interpreter. Nothing is started before there is a model.
    #[must_use]
    pub fn new(interpreter: &Path, cache: &Path, cores: Cores) -> Python {
        Python {
            interpreter: interpreter.to_owned(),
            cache: cache.to_owned(),
            cores,
            version: Arc::default(),
            processes: Arc::default(),
        }
    }

    /// The versions of the interpreter and of the packages that times depend on; `None` where there is
    /// no interpreter.
    #[must_use]
    pub fn release(&self) -> Option<String> {
        let ask = || {
            let output = Command::new(&self.interpreter).args(["-c", VERSIONS]).output().ok()?;
            let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
            Some(text.trim().to_owned())
        };
        self.version.get_or_init(ask).clone()
    }

    /// Opens a model, and makes the environment that it needs.
    ///
    /// # Errors
    /// Its file cannot be read, or its packages cannot be installed.
    pub fn open(&self, request: &PythonRequest<'_>) -> Result<Box<dyn EngineModel>, EngineError> {
        let PythonRequest { model, .. } = request;
        let kind = kind_of(request.file)?;
        let config = match kind {
            Kind::Triton => object(symphony_triton::to_json(request.configuration)),
            _ => object(serde_json::to_value(&model.parameters).unwrap_or_default()),
        };
        let options = &model.options;
        let spec = ModelSpec {
            name: request.name.to_owned(),
            version: request.version.to_string(),
            kind,
            path: request.file.to_owned(),
            directory: request.directory.to_owned(),
            config,
            signature: model.signature.clone(),
            max_batch: request.rows_max,
            device: options.device.clone().unwrap_or_else(|| "cpu".to_owned()),
            compile: options.compile,
            cuda_graphs: options.cuda_graphs,
        };
        let (memory_max, timeout) = (options.memory_max, options.timeout);
        let process = ProcessKind { interpreter: self.environment(request)?, memory_max, timeout };
        Ok(Box::new(OpenedModel { engine: self.clone(), spec, process }))
    }

    /// The interpreter with the packages that a model asks for.
    fn environment(&self, request: &PythonRequest<'_>) -> Result<Interpreter, EngineError> {
        let beside = request.file.parent().unwrap_or(request.directory);
        let mut files = [request.directory, beside].into_iter().map(|at| at.join(REQUIREMENTS));
        let Some(file) = files.find(|file| file.is_file()) else {
            return Ok(Interpreter::installed(&self.interpreter));
        };
        let environments = Environments::new(&self.interpreter, self.cache.join("environments"));
        environments.prepare(&file).map_err(|error| failed(&error))
    }

    fn start(&self, process: &ProcessKind) -> Result<PythonWorker, EngineError> {
        let config = PythonConfig::new(process.interpreter.clone(), self.cache.join("worker"));
        let config = PythonConfig {
            threads: self.cores.threads,
            memory_max: process.memory_max,
            bounds: Bounds { run: process.timeout, ..Bounds::default() },
            ..config
        };
        PythonWorker::start(config).map_err(|error| failed(&error))
    }
}

impl Engine for Python {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> String {
        self.release().unwrap_or_default()
    }

    fn platform(&self) -> &'static str {
        PLATFORM
    }
}

/// The processes that run, by accelerator and kind.
#[derive(Debug, Default)]
struct Processes(Mutex<HashMap<ProcessKey, Weak<PythonWorker>>>);

/// The accelerator of a process, its interpreter, and its bounds on memory and time.
type ProcessKey = (usize, PathBuf, Option<u64>, Duration);

/// What models have in common that share a process.
#[derive(Clone, Debug)]
struct ProcessKind {
    interpreter: Interpreter,
    memory_max: Option<u64>,
    timeout: Duration,
}

impl Processes {
    /// The process of this kind on a device, which is started if there is none.
    fn get(
        &self,
        device: usize,
        kind: &ProcessKind,
        start: impl FnOnce() -> Result<PythonWorker, EngineError>,
    ) -> Result<Arc<PythonWorker>, EngineError> {
        let mut processes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        processes.retain(|_, process| process.strong_count() > 0);
        let interpreter = kind.interpreter.path().to_owned();
        let key = (device, interpreter, kind.memory_max, kind.timeout);
        if let Some(process) = processes.get(&key).and_then(Weak::upgrade) {
            return Ok(process);
        }
        let process = Arc::new(start()?);
        processes.insert(key, Arc::downgrade(&process));
        Ok(process)
    }
}

/// What the file of a model is.
fn kind_of(file: &Path) -> Result<Kind, EngineError> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("pt2") => return Ok(Kind::TorchExport),
        Some("pt" | "pth" | "ts") => return Ok(Kind::TorchScript),
        _ => {}
    }
    let text = fs::read_to_string(file).map_err(|error| {
        EngineError::Library(format!("cannot read the script {}: {error}", file.display()))
    })?;
    Ok(if text.contains(TRITON_CLASS) { Kind::Triton } else { Kind::Script })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn failed(error: &PythonError) -> EngineError {
    EngineError::Process(match error {
        // Whoever asked for the load names the model.
        PythonError::Load { problem, .. } => problem.clone(),
        other => other.to_string(),
    })
}

/// A model that processes can load.
struct OpenedModel {
    engine: Python,
    spec: ModelSpec,
    process: ProcessKind,
}

impl EngineModel for OpenedModel {
    fn place(&self, device: usize) -> Result<Box<dyn Executable>, EngineError> {
        if device >= self.engine.cores.accelerators {
            return Err(EngineError::NoDevice { engine: NAME, device });
        }
        let start = || self.engine.start(&self.process);
        let process = self.engine.processes.get(device, &self.process, start)?;
        let loaded = process.load(self.spec.clone()).map_err(|error| failed(&error))?;
        tracing::debug!(
            model = self.spec.name,
            device,
            resident_bytes = loaded.resident_bytes,
            "a Python process has loaded the model in {:?}",
            loaded.took
        );
        Ok(Box::new(PlacedModel { process, id: loaded.id, failed: Vec::new() }))
    }
}

/// A model in the process of one accelerator.
struct PlacedModel {
    process: Arc<PythonWorker>,
    id: ModelId,
    /// Of the last batch.
    failed: Vec<FailedRequest>,
}

impl Drop for PlacedModel {
    fn drop(&mut self) {
        self.process.unload(self.id);
    }
}

impl Executable for PlacedModel {
    fn representation(&self) -> Representation {
        Representation::Bytes
    }

    fn memory(&self) -> Arc<dyn BufferMemory> {
        Arc::new(ProcessMemory(Arc::clone(&self.process)))
    }

    fn run(&mut self, batch: &Batch<'_>) -> Result<Vec<OutputTensor>, EngineError> {
        let inputs: Vec<_> = batch.inputs().collect();
        // Elements of variable length have no place of their own in the batch.
        let texts: Vec<_> = inputs.iter().map(|input| texts(input.elements)).collect();
        let contents = inputs.iter().zip(&texts).map(|(input, text)| Input {
            shape: &input.shape,
            contents: match (text, input.elements) {
                (Some(text), _) => text,
                (None, Elements::Bytes(bytes)) => bytes,
                (None, _) => &[],
            },
        });
        let (contents, rows): (Vec<_>, Vec<_>) = (contents.collect(), batch.requests().collect());
        let batch = symphony_python::Batch { inputs: &contents, rows: &rows };
        let answer = self.process.run(self.id, &batch).map_err(|error| failed(&error))?;
        if answer.outputs.is_empty()
            && let Some((_, problem)) = answer.failed.first()
        {
            return Err(EngineError::Process(problem.clone()));
        }
        let failed = answer.failed.into_iter();
        self.failed =
            failed.map(|(position, problem)| FailedRequest { position, problem }).collect();
        Ok(answer.outputs)
    }

    fn failed(&mut self) -> Vec<FailedRequest> {
        std::mem::take(&mut self.failed)
    }
}

/// The wire form of elements of variable length.
fn texts(elements: Elements<'_>) -> Option<Vec<u8>> {
    match elements {
        Elements::Raw(values) => Some(bytes_contents(values.iter().map(Vec::as_slice))),
        _ => None,
    }
}

/// Memory that the process sees.
#[derive(Debug)]
struct ProcessMemory(Arc<PythonWorker>);

impl BufferMemory for ProcessMemory {
    fn allocate(&self, bytes: usize) -> Option<Box<dyn BufferRegion>> {
        Some(Box::new(self.0.buffer(bytes).ok()?))
    }
}
