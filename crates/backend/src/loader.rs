//! From a model's directory to a model that is ready to serve: read, checked against what the
//! engine is proven right on, loaded on every accelerator, measured.
//!
//! Nothing here knows which models are being served: the caller takes a loaded model into service,
//! or keeps the old one when a load fails.

mod error;
mod objective;
mod settings;
mod state;

pub use error::{LoadError, LoadProblem};
pub use settings::{ACCELERATORS_MAX, BackendFile, LoaderConfig, THREADS_MAX};
pub use state::ModelState;

use crate::engine::{Engine, EngineError, Executable};
use crate::engines::emulated::{self, Emulation};
use crate::engines::onnxruntime::Onnxruntime;
use crate::engines::rten::Rten;
use crate::limits;
use crate::operators::{self, OnnxEngine};
use crate::prepare::{Options, Prepared, Runnable};
use crate::profiling::{
    Machine, Measured, ProfileCache, ProfileKey, ProfilingError, Target, sample_rows,
};
use crate::repository::{
    ConfigError, EmulatedModel, EngineChoice, Fingerprint, FingerprintBuilder, ModelDirectory,
    ModelKind, ModelSource, OnnxSource, Slo,
};
use crate::resident::Resident;
use objective::objective;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use symphony_core::{Class, Profile, Span};
use symphony_onnx::Model;
use symphony_wire::clock::Clock;
use symphony_wire::tensor::Signature;
use tracing::{info, warn};

/// How many made-up rows a model is measured with, at most; fewer of rows that are large.
const SAMPLE_ROWS: usize = 8;
const SAMPLE_BYTES_MAX: u64 = 64 << 20;
/// Any number: the rows are the same on every start.
const SAMPLE_SEED: u64 = 0x5eed;

/// A model that is ready to serve.
#[derive(Debug)]
pub struct Loaded {
    /// Name in the repository.
    pub name: String,
    /// Version in the repository.
    pub version: String,
    /// What it takes and gives; every output's shape is known.
    pub signature: Arc<Signature>,
    /// The latency objective.
    pub slo: Span,
    /// Whether the objective is a guess, because `model.toml` gives none.
    pub slo_guessed: bool,
    /// Largest batch in rows.
    pub rows_max: u32,
    /// Bound on queued requests.
    pub queue_max: u32,
    /// How much its losses under overload count beside the other models'.
    pub loss_weight: f64,
    /// The class of requests that ask for none.
    pub class: Class,
    /// The engine that runs it.
    pub engine: &'static str,
    /// The platform name that clients know.
    pub platform: &'static str,
    /// What plans count with.
    pub plan: Arc<Profile>,
    /// The profile, and what it was made from.
    pub measured: Measured,
    /// The model on each accelerator, by number; the first has run every batch size.
    pub residents: Vec<Resident>,
    /// What it was loaded from: a later load changes nothing while this is current.
    pub state: ModelState,
}

/// Loads models, one at a time.
pub struct Loader {
    config: LoaderConfig,
    rten: Rten,
    /// The library, or why it cannot be used.
    onnxruntime: Result<Onnxruntime, EngineError>,
    machine: Machine,
    profiles: ProfileCache,
    clock: Clock,
}

/// What was read of a model that runs an ONNX file.
struct OnnxFile {
    path: PathBuf,
    model: Model,
    /// The state that it and the files of its weights were in before they were read.
    state: ModelState,
}

/// An ONNX model on its engine.
struct Running {
    engine: &'static str,
    platform: &'static str,
    signature: Arc<Signature>,
    rows_max: u32,
    residents: Vec<Resident>,
    measured: Measured,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Loader {
    /// Opens the engines. Without a usable onnxruntime library models run on rten; that is said
    /// once, here.
    #[must_use]
    pub fn new(config: LoaderConfig) -> Loader {
        let rten = Rten::new(config.cores);
        let onnxruntime = Onnxruntime::open(config.onnxruntime.as_deref(), config.cores);
        if let Err(error) = &onnxruntime {
            info!("models run on rten: {error}");
        }
        let profiles = ProfileCache::new(config.profiles_dir());
        let (machine, clock) = (Machine::this(), Clock::start());
        Loader { config, rten, onnxruntime, machine, profiles, clock }
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &LoaderConfig {
        &self.config
    }

    /// Reads, loads, checks and measures a model: seconds, half a minute at most for the
    /// measuring of a usual one.
    ///
    /// # Errors
    /// What is in the way of serving it, and what to do.
    pub fn load(&self, directory: &ModelDirectory) -> Result<Loaded, LoadError> {
        self.load_directory(directory).map_err(|problem| LoadError::new(&directory.name, problem))
    }

    /// Checks all that can be told without loading and measuring: files, settings, signature and
    /// operators. An example that is yet to be generated is only looked up.
    ///
    /// # Errors
    /// As [`Loader::load`], but for what an engine or a measurement would find.
    pub fn check(&self, directory: &ModelDirectory) -> Result<ModelSource, LoadError> {
        self.check_directory(directory).map_err(|problem| LoadError::new(&directory.name, problem))
    }
}

impl Loader {
    fn load_directory(&self, directory: &ModelDirectory) -> Result<Loaded, LoadProblem> {
        let source = directory.read()?;
        let (running, state) = match &source.kind {
            ModelKind::Onnx { file, choice, shapes } => {
                self.run_onnx(&source, file, *choice, shapes)?
            }
            ModelKind::Emulated(model) => (self.run_emulated(model)?, ModelState::new(&source)),
        };
        let ModelSource { name, version, terms, .. } = source;
        let Running { engine, platform, signature, rows_max, residents, measured } = running;
        let plan = Arc::clone(&measured.plan);
        let slo = objective(terms.slo, &plan).map_err(|(slo, least)| LoadProblem::Objective {
            slo,
            least,
            engine,
        })?;
        Ok(Loaded {
            name,
            version,
            signature,
            slo,
            slo_guessed: terms.slo == Slo::Guess,
            rows_max,
            queue_max: terms.queue_max,
            loss_weight: terms.loss_weight,
            class: terms.class,
            engine,
            platform,
            plan,
            measured,
            residents,
            state,
        })
    }

    fn check_directory(&self, directory: &ModelDirectory) -> Result<ModelSource, LoadProblem> {
        let source = directory.read()?;
        match &source.kind {
            ModelKind::Onnx { file: OnnxSource::Example(example), .. } => {
                symphony_onnx::examples::find(example)?;
            }
            ModelKind::Onnx { file, choice, shapes } => {
                let OnnxFile { path, model, .. } = self.read_onnx(&source, file)?;
                let prepared = self.prepare(&source, shapes, model, &path)?;
                let engines = self.engines(*choice)?;
                first_that(&source.name, &engines, |installed| prove(installed, &prepared))?;
            }
            ModelKind::Emulated(_) => {}
        }
        Ok(source)
    }

    /// Reads an ONNX file, written first if it is a bundled example.
    fn read_onnx(&self, source: &ModelSource, file: &OnnxSource) -> Result<OnnxFile, LoadProblem> {
        let path = match file {
            OnnxSource::File(path) => path.clone(),
            OnnxSource::Example(name) => {
                let directory =
                    symphony_onnx::examples::materialize(&self.config.examples_dir(), name)?;
                directory.join("1").join("model.onnx")
            }
        };
        let mut state = ModelState::new(source);
        state.add(&path)?;
        let model = Model::read(&path)?;
        for weights in model.external_files() {
            state.add(weights)?;
        }
        Ok(OnnxFile { path, model, state })
    }

    /// The engines a model may run on, the preferred one first.
    fn engines(&self, choice: EngineChoice) -> Result<Vec<Installed<'_>>, LoadProblem> {
        let rten = Installed { kind: OnnxEngine::Rten, engine: &self.rten };
        let onnxruntime = self.onnxruntime.as_ref();
        let onnxruntime = onnxruntime.map(|engine| Installed {
            kind: OnnxEngine::Onnxruntime,
            engine: engine as &dyn Engine,
        });
        match (choice, onnxruntime) {
            (EngineChoice::Rten, _) | (EngineChoice::Best, Err(_)) => Ok(vec![rten]),
            (EngineChoice::Best, Ok(onnxruntime)) => Ok(vec![onnxruntime, rten]),
            (EngineChoice::Onnxruntime, Ok(onnxruntime)) => Ok(vec![onnxruntime]),
            (EngineChoice::Onnxruntime, Err(error)) => Err(error.clone().into()),
        }
    }

    /// Describes a model for the engines to load.
    fn prepare(
        &self,
        source: &ModelSource,
        shape: &BTreeMap<String, Vec<usize>>,
        model: Model,
        path: &Path,
    ) -> Result<Prepared, LoadProblem> {
        let (name, rows_max) = (source.name.as_str(), source.terms.rows_max);
        let accelerators = self.config.cores.accelerators;
        let options = Options { name, shape, rows_max, accelerators };
        Ok(Prepared::new(model, path, &options)?)
    }

    fn run_onnx(
        &self,
        source: &ModelSource,
        file: &OnnxSource,
        choice: EngineChoice,
        shapes: &BTreeMap<String, Vec<usize>>,
    ) -> Result<(Running, ModelState), LoadProblem> {
        let OnnxFile { path, model, state } = self.read_onnx(source, file)?;
        let prepared = self.prepare(source, shapes, model, &path)?;
        let engines = self.engines(choice)?;
        let (engine, runnable) = first_that(&source.name, &engines, |installed| {
            prove(installed, &prepared)?;
            Ok(prepared.load(installed.engine)?)
        })?;
        // The engine has its own copy of the weights; measuring takes long enough to free this one.
        drop(prepared);
        let content = graph_fingerprint(&state, shapes)?;
        // Engines and the hash read the files once more: what was checked must be what runs.
        if !state.files_are_as_before() {
            return Err(LoadProblem::Changed);
        }
        let Runnable { signature, rows_max, executables } = runnable;
        let mut residents = residents(&signature, rows_max, executables)?;
        let version = engine.version();
        let key = ProfileKey {
            model: &source.name,
            content,
            rows_max,
            engine: engine.name(),
            engine_version: &version,
            threads: self.config.cores.threads,
            machine: &self.machine,
        };
        let measured = self.profile(&key, source.terms.slo, &mut residents)?;
        let (engine, platform) = (engine.name(), engine.platform());
        Ok((Running { engine, platform, signature, rows_max, residents, measured }, state))
    }

    fn run_emulated(&self, model: &EmulatedModel) -> Result<Running, LoadProblem> {
        let signature = Arc::new(model.signature.clone());
        let rows_max = model.profile.rows_max();
        let emulation = Emulation::new(Arc::clone(&model.profile));
        let executables = emulation.load(&signature, self.config.cores.accelerators);
        let residents = residents(&signature, rows_max, executables)?;
        let measured = Measured::known(&model.profile);
        let (engine, platform) = (emulated::NAME, emulated::PLATFORM);
        Ok(Running { engine, platform, signature, rows_max, residents, measured })
    }

    /// Measures the model on the first accelerator, unless a kept profile holds still, and warms
    /// it up on the others. No objective is refused on account of a kept profile alone: it may
    /// come from a busier hour.
    fn profile(
        &self,
        key: &ProfileKey<'_>,
        slo: Slo,
        residents: &mut [Resident],
    ) -> Result<Measured, ProfilingError> {
        let now = || self.clock.now();
        let mut targets = residents.iter_mut().map(|resident| {
            let signature = resident.signature();
            let rows = sample_rows(signature, sample_count(signature), SAMPLE_SEED);
            Target { resident, rows, now: &now }
        });
        let mut first = targets.next().expect("a model is loaded on at least one accelerator");
        let kept = self.profiles.read(key);
        let measured = match kept {
            Some(kept) if objective(slo, &kept.plan).is_ok() && first.agrees(&kept)? => kept,
            kept => {
                if kept.is_some() {
                    info!(model = key.model, "the kept profile is off: measuring again");
                }
                let measured = first.measure(&self.config.effort)?;
                self.profiles.write(key, &measured);
                measured
            }
        };
        if measured.shortened {
            warn!(
                model = key.model,
                "too slow to be measured in full in {}: fewer runs or sizes; a lower max_batch \
                 measures better",
                self.config.effort.time_max
            );
        }
        targets.try_for_each(|mut target| target.warm_up())?;
        Ok(measured)
    }
}

/// How many made-up rows are worth their memory.
fn sample_count(signature: &Signature) -> usize {
    let bytes = signature.inputs.iter().filter_map(limits::row_bytes);
    let row = bytes.fold(1, u64::saturating_add);
    usize::try_from(SAMPLE_BYTES_MAX / row).unwrap_or(SAMPLE_ROWS).clamp(1, SAMPLE_ROWS)
}

/// An engine that can be used.
#[derive(Clone, Copy)]
struct Installed<'a> {
    kind: OnnxEngine,
    engine: &'a dyn Engine,
}

/// Refuses a model with operators that an engine may get wrong.
fn prove(installed: &Installed<'_>, prepared: &Prepared) -> Result<(), LoadProblem> {
    operators::check(installed.kind, prepared.model()).map_err(LoadProblem::Unproven)
}

/// The first engine on which an attempt succeeds, and what it gave.
fn first_that<'a, T>(
    model: &str,
    engines: &[Installed<'a>],
    attempt: impl Fn(&Installed<'a>) -> Result<T, LoadProblem>,
) -> Result<(&'a dyn Engine, T), LoadProblem> {
    let mut refusals = Vec::new();
    for installed in engines {
        match attempt(installed) {
            Ok(value) => {
                for refusal in refusals {
                    info!(model, "runs on {}: {refusal}", installed.engine.name());
                }
                return Ok((installed.engine, value));
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    match refusals.len() {
        1 => Err(refusals.remove(0)),
        _ => Err(LoadProblem::NoEngine(refusals)),
    }
}

/// Gives each accelerator's model its buffers.
fn residents(
    signature: &Arc<Signature>,
    rows_max: u32,
    executables: Vec<Box<dyn Executable>>,
) -> Result<Vec<Resident>, EngineError> {
    let with_buffers = |executable| Resident::new(Arc::clone(signature), rows_max, executable);
    executables.into_iter().map(with_buffers).collect()
}

/// What decides how fast a model is, of its files and settings: the graph as it is loaded.
fn graph_fingerprint(
    state: &ModelState,
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<Fingerprint, ConfigError> {
    let mut content = FingerprintBuilder::default();
    for file in state.files() {
        content = content.file(file)?;
    }
    let hash = FingerprintBuilder::default().text(&content.finish().to_string());
    let hash = shapes.iter().fold(hash, |hash, (input, dims)| {
        let hash = hash.text(input).number(dims.len() as u64);
        dims.iter().fold(hash, |hash, &dim| hash.number(dim as u64))
    });
    Ok(hash.finish())
}
