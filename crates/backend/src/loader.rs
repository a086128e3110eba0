//! Loads a model from its directory: it is read, checked against the operators that the engine is
//! proven to run correctly, loaded on every accelerator, and measured.
//!
//! Nothing here knows which models are being served. The caller puts a loaded model into service,
//! and keeps the old one when a load fails.

mod check;
mod error;
mod findings;
mod guest;
mod memory;
mod objective;
mod onnx;
mod python;
mod settings;
mod stage;
mod state;
mod times;

pub use check::{Checked, Ran};
pub use error::{LoadError, LoadProblem};
pub use memory::{available as memory_available, needed as memory_needed, total as memory_total};
pub use settings::{ACCELERATORS_MAX, BackendFile, LoaderConfig, PYTHON_DEFAULT, THREADS_MAX};
pub use stage::Stage;
pub use state::LoadedFiles;

use crate::cache::Cache;
use crate::engine::{Engine, EngineError, Executable, place_on};
use crate::engines::emulated::{self, Emulation};
use crate::engines::onnxruntime::Onnxruntime;
use crate::engines::python::Python;
use crate::engines::rten::Rten;
use crate::prepare::Samples;
use crate::profiling::{
    Machine, Measured, Observed, ProfileCache, ProfileKey, ProfilePlace, ProfilingError,
    ProfilingTarget, SampledSize,
};
use crate::repository::{EmulatedModel, Fingerprint, ModelDirectory, ModelKind, ModelSource, Slo};
use crate::resident::Resident;
use crate::view;
use crate::worker::Gaps;
use bytes::Bytes;
use findings::FindingsCache;
use objective::{objective, queue_max_default};
use std::sync::Arc;
use symphony_core::{Class, Objective, Profile, SizedProfile};
use symphony_wire::clock::Clock;
use symphony_wire::message::EngineFacts;
use symphony_wire::tensor::{Signature, TensorSpec};
use times::{Part, Times};
use tracing::{debug, info};

/// The most generated rows with which a model is measured. Models with large rows get fewer.
const SAMPLE_ROWS: usize = 8;
const SAMPLE_BYTES_MAX: u64 = 64 << 20;
/// An arbitrary seed: the rows are the same on every start.
const SAMPLE_SEED: u64 = 0x5eed;

/// A model that is ready to serve.
#[derive(Debug)]
pub struct LoadedModel {
    /// Name in the repository.
    pub name: String,
    /// Version in the repository.
    pub version: u64,
    /// The inputs and outputs. The shape of every output is known.
    pub signature: Arc<Signature>,
    /// The latency objective that `model.toml` sets, or best effort.
    pub objective: Objective,
    /// The largest batch, in rows.
    pub rows_max: u32,
    /// The most requests that may be queued.
    pub queue_max: u32,
    /// The weight of its dropped requests under overload, relative to other models.
    pub loss_weight: f64,
    /// The class of requests that do not set one.
    pub class: Class,
    /// The engine that runs it.
    pub engine: &'static str,
    /// The platform name that clients see.
    pub platform: &'static str,
    /// The profile that plans use.
    pub plan: Arc<Profile>,
    /// The profile with the measurements behind it.
    pub measured: Measured,
    /// The model on each accelerator, by number. All have run one row and the largest batch.
    pub residents: Vec<Resident>,
    /// What its settings say, as the bytes of Triton's `ModelConfig` message.
    pub configuration: Bytes,
    /// What its batches will take, and where its profile is kept; none where that is known anyway.
    pub learning: Option<Learning>,
    /// The files it was loaded from. A later load changes nothing while they are current.
    pub state: LoadedFiles,
}

/// How the profile of a model that serves gets better.
#[derive(Clone, Debug)]
pub struct Learning {
    /// The times of its batches.
    pub observed: Arc<Observed>,
    /// Where its profile is kept.
    pub place: ProfilePlace,
    /// What it can be probed with.
    pub samples: Samples,
}

/// Who is told what a load is about, with the model's name.
pub type Watcher = Arc<dyn Fn(&str, Stage) + Send + Sync>;

/// Loads models, several at a time if several threads ask.
pub struct Loader {
    config: LoaderConfig,
    rten: Rten,
    /// The opened library, or why it cannot be used.
    onnxruntime: Result<Onnxruntime, EngineError>,
    python: Python,
    machine: Machine,
    findings: FindingsCache,
    profiles: ProfileCache,
    clock: Clock,
    /// When the accelerators are free to try a model out.
    gaps: Arc<Gaps>,
    watcher: Watcher,
}

/// A model that has been loaded on all accelerators and measured.
struct PlacedModel {
    engine: &'static str,
    platform: &'static str,
    signature: Arc<Signature>,
    rows_max: u32,
    residents: Vec<Resident>,
    measured: Measured,
    learning: Option<Learning>,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Loader {
    /// Opens the engines. Without a usable onnxruntime library models run on rten, which is logged
    /// here once.
    #[must_use]
    pub fn new(config: LoaderConfig) -> Loader {
        let rten = Rten::new(config.cores);
        let onnxruntime = Onnxruntime::open(config.onnxruntime.as_deref(), config.cores);
        if let Err(error) = &onnxruntime {
            info!("models run on rten: {error}");
        }
        let python = Python::new(&config.python, &config.cache_dir.join("python"), config.cores);
        let cache = Cache::new(config.cache_dir.clone());
        let (findings, profiles) = (FindingsCache::new(&cache), ProfileCache::new(&cache));
        let (machine, clock) = (Machine::this(), Clock::start());
        let (gaps, watcher) = (Arc::default(), Arc::new(|_: &str, _| {}));
        Loader {
            config,
            rten,
            onnxruntime,
            python,
            machine,
            findings,
            profiles,
            clock,
            gaps,
            watcher,
        }
    }

    /// From now on models are tried out and measured in the gaps between the batches of
    /// accelerators that serve.
    #[must_use]
    pub fn in_gaps(self, gaps: Gaps) -> Loader {
        Loader { gaps: Arc::new(gaps), ..self }
    }

    /// From now on somebody is told how far loads are.
    #[must_use]
    pub fn watched_by(self, watcher: Watcher) -> Loader {
        Loader { watcher, ..self }
    }

    /// Keeps a profile that was refined for later starts.
    pub fn keep(&self, place: &ProfilePlace, refined: &Measured) {
        self.profiles.keep(place, refined);
    }

    /// Tells what the load of a model is about.
    pub fn tell(&self, model: &str, stage: Stage) {
        (self.watcher)(model, stage);
    }

    /// The engines that models can run on here, with their versions.
    #[must_use]
    pub fn engine_facts(&self) -> Vec<EngineFacts> {
        let facts = |name: &str, version| EngineFacts { name: name.to_owned(), version };
        let rten = facts(self.rten.name(), self.rten.version());
        let onnxruntime =
            self.onnxruntime.iter().map(|engine| facts(engine.name(), engine.release()));
        let python = self.python.release().map(|release| facts(self.python.name(), release));
        std::iter::once(rten).chain(onnxruntime).chain(python).collect()
    }

    /// The configuration of the loader.
    #[must_use]
    pub fn config(&self) -> &LoaderConfig {
        &self.config
    }

    /// Reads, loads, checks and measures the highest version of a model that its settings choose.
    /// This takes seconds; measuring alone takes up to half a minute.
    ///
    /// # Errors
    /// Why the model cannot be served, and what to do.
    pub fn load(&self, directory: &ModelDirectory) -> Result<LoadedModel, LoadError> {
        let source = directory.read();
        self.load_version(source.map_err(|error| LoadError::new(&directory.name, error.into()))?)
    }

    /// The same for a version whose settings are read.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub fn load_version(&self, source: ModelSource) -> Result<LoadedModel, LoadError> {
        let name = source.name.clone();
        self.load_source(source).map_err(|problem| LoadError::new(&name, problem))
    }
}

impl Loader {
    fn load_source(&self, source: ModelSource) -> Result<LoadedModel, LoadProblem> {
        let (running, state) = match &source.kind {
            ModelKind::Onnx { file, settings } => self.run_onnx(&source, file, settings)?,
            ModelKind::Emulated(model) => (self.run_emulated(model)?, LoadedFiles::new(&source)),
            ModelKind::Python { file, model } => self.run_python(&source, file, model)?,
        };
        let (signature, residents) = shown(&source.kind, running.signature, running.residents)?;
        let configuration = symphony_triton::to_bytes(&source.configuration()).into();
        let ModelSource { name, version, terms, .. } = source;
        let PlacedModel { engine, platform, rows_max, measured, learning, .. } = running;
        let plan = Arc::clone(&measured.plan);
        let objective = objective(terms.slo, &plan)
            .map_err(|(slo, least)| LoadProblem::Objective { slo, least, engine })?;
        let accelerators = self.config.cores.accelerators;
        let usual = || queue_max_default(objective, &plan, accelerators);
        Ok(LoadedModel {
            name,
            version,
            signature,
            objective,
            rows_max,
            queue_max: terms.queue_max.unwrap_or_else(usual),
            loss_weight: terms.loss_weight,
            class: terms.class,
            engine,
            platform,
            plan,
            measured,
            residents,
            configuration,
            learning,
            state,
        })
    }

    fn run_emulated(&self, model: &EmulatedModel) -> Result<PlacedModel, LoadProblem> {
        let signature = Arc::new(model.signature.clone());
        let plan = model.costs.at(u64::MAX);
        let rows_max = plan.rows_max();
        let emulation = Emulation::sized(Arc::clone(&model.costs));
        let opened = emulation.of(model.signature.clone());
        let executables = place_on(&opened, self.config.cores.accelerators)?;
        let residents = residents(&signature, rows_max, executables)?;
        let by_size = SizedProfile::clone(&model.costs);
        let measured = Measured { by_size, ..Measured::known(&Arc::new(plan)) };
        let (engine, platform) = (emulated::NAME, emulated::PLATFORM);
        let learning = None;
        Ok(PlacedModel { engine, platform, signature, rows_max, residents, measured, learning })
    }

    /// Measures a model that is on every accelerator. `content`: the fingerprint of whatever decides
    /// how fast it is.
    fn measure_placed(
        &self,
        source: &ModelSource,
        engine: &dyn Engine,
        content: Fingerprint,
        mut residents: Vec<Resident>,
        samples: &Samples,
        times: &Times,
    ) -> Result<PlacedModel, LoadProblem> {
        let version = engine.version();
        let key = ProfileKey {
            model: &source.name,
            content,
            extents: &[],
            engine: engine.name(),
            engine_version: &version,
            threads: self.config.cores.threads,
            machine: &self.machine,
        };
        self.tell(&source.name, Stage::Measuring);
        let profile = || self.profile(key, source.terms.slo, samples, &mut residents);
        let (measured, learning) = times.of(Part::Measure, profile)?;
        debug!(model = source.name, "its load took: {times}");
        let first = residents.first().expect("a model is loaded on at least one accelerator");
        Ok(PlacedModel {
            engine: engine.name(),
            platform: engine.platform(),
            signature: Arc::clone(first.signature()),
            rows_max: first.rows_max(),
            residents,
            measured,
            learning: Some(learning),
        })
    }

    /// Measures the model on the first accelerator, unless a kept profile still holds, and warms it
    /// up on the others. A kept profile alone never refuses an objective, because it may have been
    /// measured on a busier machine.
    fn profile(
        &self,
        key: ProfileKey<'_>,
        slo: Slo,
        samples: &Samples,
        residents: &mut [Resident],
    ) -> Result<(Measured, Learning), ProfilingError> {
        let now = || self.clock.now();
        let first = residents.first().expect("a model is loaded on at least one accelerator");
        let requests = sampled(first.signature(), samples);
        let mut targets = residents.iter_mut().enumerate().map(|(accelerator, resident)| {
            let (samples, gaps) = (&requests, &self.gaps);
            ProfilingTarget { resident, samples, now: &now, gaps, accelerator }
        });
        let mut first = targets.next().expect("a model is loaded on at least one accelerator");
        let extents = first.extents();
        let key = ProfileKey { extents: &extents, ..key };
        let measured = self.measured(&key, slo, &mut first)?;
        if measured.shortened {
            info!(
                model = key.model,
                "the first profile is of few runs or sizes: it is refined while the model serves"
            );
        }
        first.trim()?;
        targets.try_for_each(|mut target| {
            target.warm_up(&measured)?;
            target.trim()
        })?;
        let observed = Arc::new(Observed::new(&measured.extents));
        residents.iter_mut().for_each(|resident| resident.observe(&observed));
        Ok((measured, Learning { observed, place: key.place(), samples: samples.clone() }))
    }

    /// The profile of a model on its first accelerator, which is warm afterwards. A kept profile
    /// is checked, unless this process has done so before.
    fn measured(
        &self,
        key: &ProfileKey<'_>,
        slo: Slo,
        first: &mut ProfilingTarget<'_>,
    ) -> Result<Measured, ProfilingError> {
        let is_within = |kept: &Measured| objective(slo, &kept.plan).is_ok();
        let measured = match self.profiles.read(key) {
            Some(kept) if is_within(&kept) && self.profiles.is_known(key, &kept) => {
                first.warm_up(&kept)?;
                return Ok(kept);
            }
            Some(kept) if is_within(&kept) && first.agrees(&kept)? => kept,
            kept => {
                if kept.is_some() {
                    info!(
                        model = key.model,
                        "the kept profile no longer holds and is measured again"
                    );
                }
                let measured = first.measure(&self.config.effort)?;
                self.profiles.write(key, &measured);
                measured
            }
        };
        self.profiles.know(key, &measured);
        Ok(measured)
    }
}

/// A model as clients see it: in shapes of their own, where the settings ask for that.
fn shown(
    kind: &ModelKind,
    signature: Arc<Signature>,
    mut residents: Vec<Resident>,
) -> Result<(Arc<Signature>, Vec<Resident>), LoadProblem> {
    let ModelKind::Onnx { settings, .. } = kind else { return Ok((signature, residents)) };
    if settings.reshape.is_empty() {
        return Ok((signature, residents));
    }
    let (signature, views) = view::seen(&signature, &settings.reshape)?;
    let views = Arc::new(views);
    for resident in &mut residents {
        resident.show_outputs(Arc::clone(&views));
    }
    Ok((Arc::new(signature), residents))
}

/// The generated requests to measure with, as many as there is memory for.
fn sampled(signature: &Signature, samples: &Samples) -> Vec<SampledSize> {
    let count = |sizes: &[usize]| {
        let bytes = |spec: &TensorSpec| {
            let elements = signature.elements_of(spec, 1, sizes).unwrap_or(usize::MAX);
            elements.saturating_mul(spec.datatype.size().unwrap_or(size_of::<String>())) as u64
        };
        let row = signature.inputs.iter().map(bytes).fold(1, u64::saturating_add);
        usize::try_from(SAMPLE_BYTES_MAX / row).unwrap_or(SAMPLE_ROWS).clamp(1, SAMPLE_ROWS)
    };
    samples.sized(signature, count, SAMPLE_SEED)
}

/// Allocates the buffers of the model on each accelerator.
fn residents(
    signature: &Arc<Signature>,
    rows_max: u32,
    executables: Vec<Box<dyn Executable>>,
) -> Result<Vec<Resident>, EngineError> {
    let with_buffers = |executable| Resident::new(Arc::clone(signature), rows_max, executable);
    executables.into_iter().map(with_buffers).collect()
}
