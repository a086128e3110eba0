//! From an ONNX file to a model that runs on an engine: it is read, described, loaded, and tried out
//! unless it was before.

use super::findings::{FindingsKey, FindingsPlace};
use super::guest::{GuestEngine, Visit};
use super::times::{Part, Times};
use super::{LoadProblem, LoadedFiles, Loader, PlacedModel, Stage, residents};
use crate::background::in_background;
use crate::contract;
use crate::engine::{EngineError, GraphEngine};
use crate::engines::rten;
use crate::operators;
use crate::prepare::{Options, Prepared, Runnable};
use crate::repository::{
    ConfigError, CustomOps, EngineChoice, Fingerprint, FingerprintBuilder, GraphSettings,
    ModelSource, OnnxSource,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use symphony_onnx::OnnxModel;
use tracing::{debug, info, warn};

/// An ONNX model that has been read from a file.
pub(super) struct OnnxFile {
    pub(super) path: PathBuf,
    pub(super) model: OnnxModel,
    /// The state of the file and of its external weights, taken before they were read.
    pub(super) state: LoadedFiles,
}

/// An ONNX model that has been described, before an engine has loaded it.
pub(super) struct Described {
    prepared: Prepared,
    state: LoadedFiles,
    /// The fingerprint of its files.
    content: Fingerprint,
    times: Arc<Times>,
}

/// A model that an engine runs.
pub(super) struct Placed<'a> {
    pub(super) engine: &'a dyn GraphEngine,
    pub(super) runnable: Runnable,
}

/// Whether what was found earlier counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    Counts,
    Ignored,
}

impl Loader {
    /// Reads an ONNX file. A bundled example is generated first.
    pub(super) fn read_onnx(
        &self,
        source: &ModelSource,
        file: &OnnxSource,
    ) -> Result<OnnxFile, LoadProblem> {
        let path = match file {
            OnnxSource::File(path) => path.clone(),
            OnnxSource::Example(name) => {
                let directory =
                    symphony_onnx::examples::materialize(&self.config.examples_dir(), name)?;
                directory.join("1").join("model.onnx")
            }
        };
        let mut state = LoadedFiles::new(source);
        state.add(&path)?;
        let model = OnnxModel::read(&path)?;
        for weights in model.external_files() {
            state.add(weights)?;
        }
        Ok(OnnxFile { path, model, state })
    }

    /// The engines that a model may run on, in order of preference.
    pub(super) fn engines(
        &self,
        choice: EngineChoice,
    ) -> Result<Vec<&dyn GraphEngine>, LoadProblem> {
        let onnxruntime = self.onnxruntime.as_ref().map(|engine| engine as &dyn GraphEngine);
        match (choice, onnxruntime) {
            (EngineChoice::Rten, _) | (EngineChoice::Best, Err(_)) => Ok(vec![&self.rten]),
            (EngineChoice::Best, Ok(onnxruntime)) => Ok(vec![onnxruntime, &self.rten]),
            (EngineChoice::Onnxruntime, Ok(onnxruntime)) => Ok(vec![onnxruntime]),
            (EngineChoice::Onnxruntime, Err(error)) => Err(error.clone().into()),
        }
    }

    /// Describes a model in the form that engines load.
    pub(super) fn prepare(
        &self,
        source: &ModelSource,
        settings: &GraphSettings,
        model: OnnxModel,
        path: &Path,
    ) -> Result<Prepared, LoadProblem> {
        if let Some(file) = &source.settings.triton {
            for told in contract::check(file.config(), model.signature())? {
                info!(model = source.name, "{told}");
            }
        }
        if settings.share_weights && model.external_files().next().is_none() {
            warn!(
                model = source.name,
                "share_weights in model.toml: the weights are inside the model file, so each \
                 accelerator has a copy; save the model with its weights beside it"
            );
        }
        let options = Options {
            name: &source.name,
            settings,
            custom_ops: self.custom_ops(settings)?,
            rows_max: source.terms.rows_max,
            accelerators: self.config.cores.accelerators,
        };
        Ok(Prepared::new(model, path, &options)?)
    }

    /// The library of operators that a model asks for.
    fn custom_ops(&self, settings: &GraphSettings) -> Result<Option<PathBuf>, EngineError> {
        match &settings.custom_ops {
            None => Ok(None),
            Some(CustomOps::Extensions) => {
                let onnxruntime = self.onnxruntime.as_ref().map_err(Clone::clone)?;
                onnxruntime.extensions(&self.config.cache_dir.join("operators")).map(Some)
            }
            Some(CustomOps::File(path)) if path.is_file() => Ok(Some(path.clone())),
            Some(CustomOps::File(path)) => {
                let problem = format!("custom_ops: there is no file {}", path.display());
                Err(EngineError::Library(problem))
            }
        }
    }

    /// Reads and describes a model.
    pub(super) fn describe(
        &self,
        source: &ModelSource,
        file: &OnnxSource,
        settings: &GraphSettings,
    ) -> Result<Described, LoadProblem> {
        let times = Arc::new(Times::default());
        let OnnxFile { path, model, state } =
            times.of(Part::Read, || self.read_onnx(source, file))?;
        let prepare = || self.prepare(source, settings, model, &path);
        let prepared = times.of(Part::Describe, prepare)?;
        let content = times.of(Part::Hash, || files_fingerprint(&state))?;
        Ok(Described { prepared, state, content, times })
    }

    /// Loads a model on an engine and measures it.
    pub(super) fn run_onnx(
        &self,
        source: &ModelSource,
        file: &OnnxSource,
        settings: &GraphSettings,
    ) -> Result<(PlacedModel, LoadedFiles), LoadProblem> {
        self.tell(&source.name, Stage::Reading);
        let described = quietly(|| self.describe(source, file, settings))?;
        let Placed { engine, runnable, .. } =
            self.place(source, settings, &described, Earlier::Counts)?;
        // The engine has its own copy of the weights, and measuring takes long: free this one
        // first.
        let Described { prepared, state, content, times } = described;
        drop(prepared);
        let Runnable { signature, rows_max, executables, samples, .. } = runnable;
        let residents = residents(&signature, rows_max, executables)?;
        let content = as_loaded(content, settings);
        let placed = self.measure_placed(source, engine, content, residents, &samples, &times)?;
        Ok((placed, state))
    }

    /// Loads a model on the first engine that runs it, on every accelerator. It is tried out, unless
    /// it was earlier and that counts.
    pub(super) fn place(
        &self,
        source: &ModelSource,
        settings: &GraphSettings,
        described: &Described,
        earlier: Earlier,
    ) -> Result<Placed<'_>, LoadProblem> {
        let Described { prepared, state, times, .. } = described;
        let engines = self.engines(settings.choice)?;
        let visit = Visit::new(Arc::clone(&self.gaps), Arc::clone(times));
        let (engine, (runnable, place)) = first_that(&source.name, &engines, |engine| {
            prove(engine, prepared)?;
            self.tell(&source.name, Stage::Preparing(engine.name()));
            let place = self.findings_place(source, settings, described, engine)?;
            let guest = GuestEngine { engine, visit: Arc::clone(&visit) };
            if earlier == Earlier::Counts
                && let Some(runnable) = self.as_found(&source.name, prepared, &place, &guest)
            {
                return Ok((runnable, None));
            }
            Ok((prepared.load(&guest)?, Some(place)))
        })?;
        visit.end();
        // The engine and the fingerprint read the files again: what was checked must be what runs.
        if !state.files_are_as_before() {
            return Err(LoadProblem::Changed);
        }
        if let Some(place) = place {
            self.findings.write(&place, &runnable.found);
        }
        Ok(Placed { engine, runnable })
    }

    /// Where the findings of a model on an engine are kept.
    fn findings_place(
        &self,
        source: &ModelSource,
        settings: &GraphSettings,
        described: &Described,
        engine: &dyn GraphEngine,
    ) -> Result<FindingsPlace, ConfigError> {
        let key = FindingsKey {
            model: &source.name,
            content: described.content,
            settings,
            custom_ops: described.prepared.custom_ops(),
            rows_max: source.terms.rows_max,
            engine: engine.name(),
            engine_version: &engine.version(),
            threads: self.config.cores.threads,
            machine: &self.machine,
        };
        key.place()
    }

    /// Loads a model as it was found to run earlier, if it was.
    fn as_found(
        &self,
        model: &str,
        prepared: &Prepared,
        place: &FindingsPlace,
        engine: &dyn GraphEngine,
    ) -> Option<Runnable> {
        let found = self.findings.read(place)?;
        let loaded = prepared.load_as(engine, &found);
        let told = |why: &String| {
            debug!(model, "it is tried out again, as what was found does not hold: {why}");
        };
        loaded.inspect_err(told).ok()
    }
}

/// Has something done that gives way to models that serve.
fn quietly<T: Send>(
    work: impl FnOnce() -> Result<T, LoadProblem> + Send,
) -> Result<T, LoadProblem> {
    let no_thread = |error| EngineError::Library(format!("no thread to load it on: {error}"));
    in_background(work).map_err(no_thread)?
}

/// Refuses a model with operators that the engine may compute wrongly. onnxruntime is trusted with
/// whatever it loads.
pub(super) fn prove(engine: &dyn GraphEngine, prepared: &Prepared) -> Result<(), LoadProblem> {
    if engine.name() != rten::NAME {
        return Ok(());
    }
    operators::check(prepared.model()).map_err(LoadProblem::Unproven)
}

/// The first engine on which an attempt succeeds, with the result of the attempt.
pub(super) fn first_that<'a, T>(
    model: &str,
    engines: &[&'a dyn GraphEngine],
    attempt: impl Fn(&dyn GraphEngine) -> Result<T, LoadProblem>,
) -> Result<(&'a dyn GraphEngine, T), LoadProblem> {
    let mut refusals = Vec::new();
    for &engine in engines {
        match attempt(engine) {
            Ok(value) => {
                for refusal in refusals {
                    info!(model, "runs on {}: {refusal}", engine.name());
                }
                return Ok((engine, value));
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    match refusals.len() {
        1 => Err(refusals.remove(0)),
        _ => Err(LoadProblem::NoEngine(refusals)),
    }
}

/// The fingerprint of a model's files.
fn files_fingerprint(state: &LoadedFiles) -> Result<Fingerprint, ConfigError> {
    let mut content = FingerprintBuilder::default();
    for file in state.files() {
        content = content.file(file)?;
    }
    Ok(content.finish())
}

/// The fingerprint of the files and settings on which the speed of a model depends: the graph as it
/// is loaded.
fn as_loaded(content: Fingerprint, settings: &GraphSettings) -> Fingerprint {
    let hash = FingerprintBuilder::default().text(&content.to_string());
    let hash = settings.shapes.iter().fold(hash, |hash, (input, dims)| {
        let hash = hash.text(input).number(dims.len() as u64);
        // No dimension is 0: it stands for one that stays open.
        dims.iter().fold(hash, |hash, dim| hash.number(dim.unwrap_or(0) as u64))
    });
    let hash = if settings.share_weights { hash.text("share_weights") } else { hash };
    hash.finish()
}
