//! The models of a pool: loads, replaces and unloads them, one at a time, on a thread of its own.
//!
//! A new version is loaded, profiled and warmed up beside the old one and then takes over; a load
//! that fails leaves the old one serving. The catalog shows every step.

use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use symphony_backend::loader::{self, LoadError, LoadProblem, Loaded, Loader};
use symphony_backend::repository::{ModelDirectory, Repository};
use symphony_backend::worker::WorkerPort;
use symphony_core::ModelId;
use symphony_core::sched::ModelTerms;
use symphony_wire::catalog::{IndexEntry, ModelState, ServedModel, SharedCatalog};
use symphony_wire::repository::{RepositoryCommand, RepositoryError};
use symphony_wire::schedule::SchedulerPort;
use symphony_wire::schedule::port::MODELS_MAX;
use symphony_wire::tensor::Signature;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

/// Requests that found a model in the catalog have reached the scheduler this long after it was
/// taken out: they are checked and submitted in one go, in far less.
const STRAGGLERS: Duration = Duration::from_millis(200);

/// How long an accelerator is waited for to give a model up, and how often it is looked at.
const FREE_WAIT: Duration = Duration::from_secs(10);
const FREE_AGAIN: Duration = Duration::from_millis(1);

/// Where models go once they are loaded.
#[derive(Clone, Debug)]
pub(crate) struct Destinations {
    pub(crate) catalog: SharedCatalog,
    pub(crate) scheduler: SchedulerPort,
    pub(crate) workers: Vec<WorkerPort>,
}

/// Every model of the repository and where it stands. Owned by the thread that loads.
#[derive(Debug)]
pub(crate) struct Models {
    repository: Repository,
    loader: Loader,
    to: Destinations,
    entries: BTreeMap<String, Entry>,
    ids: Ids,
}

#[derive(Debug)]
struct Entry {
    version: String,
    state: ModelState,
    serving: Option<Serving>,
}

#[derive(Debug)]
struct Serving {
    model: Arc<ServedModel>,
    /// What it was loaded from.
    from: loader::ModelState,
}

/// Identities that are free to use. The lowest is used first, for tables are indexed by them.
#[derive(Debug, Default)]
struct Ids {
    free: BTreeSet<u32>,
    next: u32,
}

/// What came up when a model was loaded, for the start-up report.
#[derive(Debug)]
pub(crate) struct LoadReport {
    pub(crate) model: Arc<ServedModel>,
    pub(crate) slo_guessed: bool,
    pub(crate) measured: symphony_backend::profiling::Measured,
}

impl Models {
    pub(crate) fn new(repository: Repository, loader: Loader, to: Destinations) -> Models {
        Models { repository, loader, to, entries: BTreeMap::new(), ids: Ids::default() }
    }

    /// Loads every model of the repository, telling of each as it is done. Gives up when the server
    /// shuts down.
    pub(crate) fn load_all(
        &mut self,
        mut report: impl FnMut(&str, &Result<LoadReport, LoadError>),
    ) -> Result<()> {
        let directories = self.repository.scan()?;
        for directory in &directories {
            self.set_state(&directory.name, ModelState::Loading);
        }
        for directory in &directories {
            if self.to.catalog.load().draining {
                break;
            }
            let result = self.load(directory);
            report(&directory.name, &result);
        }
        Ok(())
    }

    /// Carries out commands until every port to this thread is gone.
    pub(crate) fn serve(&mut self, commands: &mut mpsc::Receiver<RepositoryCommand>) {
        while let Some(command) = commands.blocking_recv() {
            // Who asked may have left meanwhile.
            let _ = match command {
                RepositoryCommand::Load { model, done } => done.send(self.load_named(&model)),
                RepositoryCommand::Unload { model, done } => done.send(self.unload(&model)),
                RepositoryCommand::Reload { done } => done.send(self.reload()),
            };
        }
    }

    fn load_named(&mut self, name: &str) -> Result<(), RepositoryError> {
        let directory =
            self.repository.find(name).ok_or_else(|| RepositoryError::Unknown(name.to_owned()))?;
        self.load_if_changed(&directory).map_err(|error| RepositoryError::Load(error.to_string()))
    }

    /// Loads what is new or changed and unloads what is gone; the first failure is returned.
    fn reload(&mut self) -> Result<(), RepositoryError> {
        let directories =
            self.repository.scan().map_err(|error| RepositoryError::Load(error.to_string()))?;
        let mut failed = None;
        for directory in &directories {
            if let Err(error) = self.load_if_changed(directory) {
                failed.get_or_insert(RepositoryError::Load(error.to_string()));
            }
        }
        let gone = |name: &&String| !directories.iter().any(|directory| directory.name == **name);
        let gone: Vec<String> = self.entries.keys().filter(gone).cloned().collect();
        for name in gone {
            self.stop_serving(&name);
            self.entries.remove(&name);
        }
        self.publish();
        failed.map_or(Ok(()), Err)
    }

    fn load_if_changed(&mut self, directory: &ModelDirectory) -> Result<(), LoadError> {
        let serving = self.entries.get(&directory.name).and_then(|entry| entry.serving.as_ref());
        if let Some(serving) = serving
            && serving.from.is_current(directory)
        {
            return Ok(());
        }
        self.load(directory).map(|_| ())
    }

    fn load(&mut self, directory: &ModelDirectory) -> Result<LoadReport, LoadError> {
        let name = &directory.name;
        if !self.is_serving(name) {
            self.set_state(name, ModelState::Loading);
        }
        let loaded = match self.ids.is_exhausted() {
            true => Err(too_many(name)),
            false => self.loader.load(directory),
        };
        match loaded {
            Ok(loaded) => Ok(self.take_over(loaded)),
            // The end of the process takes its engine away from a load under way.
            Err(error) if self.to.catalog.load().draining => Err(error),
            Err(error) => {
                tracing::error!(model = %name, "{error}");
                if !self.is_serving(name) {
                    self.set_state(name, ModelState::Unavailable(error.to_string()));
                }
                Err(error)
            }
        }
    }

    /// Puts a loaded model in service, in place of the one of that name before.
    fn take_over(&mut self, loaded: Loaded) -> LoadReport {
        let id = self.ids.take();
        let measured = loaded.measured.clone();
        let slo_guessed = loaded.slo_guessed;
        let loss_weight = loaded.loss_weight;
        let from = loaded.state;
        let model = Arc::new(ServedModel {
            id,
            name: loaded.name,
            version: loaded.version,
            signature: Signature::clone(&loaded.signature),
            slo: loaded.slo,
            rows_max: loaded.rows_max,
            queue_max: loaded.queue_max,
            class: loaded.class,
            engine: loaded.engine.to_owned(),
            platform: loaded.platform.to_owned(),
            profile: Arc::clone(&measured.plan),
        });
        for (worker, resident) in self.to.workers.iter().zip(loaded.residents) {
            if let Err(stopped) = worker.load(id, resident) {
                tracing::error!(model = %model.name, "{stopped}");
            }
        }
        let terms = ModelTerms {
            profile: Arc::clone(&model.profile),
            slo: model.slo,
            queue_max: model.queue_max,
            loss_weight,
        };
        if let Ok(added) = self.to.scheduler.add_model(id, terms) {
            let _ = added.blocking_recv();
        }
        let serving = Serving { model: Arc::clone(&model), from };
        let entry = Entry {
            version: model.version.clone(),
            state: ModelState::Ready,
            serving: Some(serving),
        };
        let before = self.entries.insert(model.name.clone(), entry);
        self.publish();
        tracing::info!(model = %model.name, version = %model.version, id = id.0, engine = %model.engine, "serving");
        if let Some(before) = before.and_then(|entry| entry.serving) {
            self.retire(&before.model);
        }
        LoadReport { model, slo_guessed, measured }
    }

    fn unload(&mut self, name: &str) -> Result<(), RepositoryError> {
        if !self.entries.contains_key(name) {
            return Err(RepositoryError::Unknown(name.to_owned()));
        }
        self.stop_serving(name);
        Ok(())
    }

    fn stop_serving(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.state = ModelState::Unavailable("unloaded".to_owned());
        let serving = entry.serving.take();
        self.publish();
        if let Some(serving) = serving {
            tracing::info!(model = %name, version = %serving.model.version, "unloading");
            self.retire(&serving.model);
        }
    }

    /// Lets the queue of a model that the catalog no longer shows run empty, then frees it
    /// everywhere. Requests on their way to it are let in first: turned away they would be a gap
    /// in the service, and later their identity may be another model's.
    fn retire(&mut self, model: &ServedModel) {
        sleep(STRAGGLERS);
        let Ok(removed) = self.to.scheduler.remove_model(model.id) else { return };
        let _ = removed.blocking_recv();
        for worker in &self.to.workers {
            let (done, freed) = oneshot::channel();
            if worker.unload(model.id, done).is_ok() {
                free(freed);
            }
        }
        self.ids.give_back(model.id);
    }

    fn is_serving(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.serving.is_some())
    }

    fn set_state(&mut self, name: &str, state: ModelState) {
        let new = Entry { version: String::new(), state: ModelState::Loading, serving: None };
        self.entries.entry(name.to_owned()).or_insert(new).state = state;
        self.publish();
    }

    /// Shows the table to the frontends.
    fn publish(&self) {
        let serving = |(name, entry): (&String, &Entry)| {
            Some((name.clone(), Arc::clone(&entry.serving.as_ref()?.model)))
        };
        let models: BTreeMap<_, _> = self.entries.iter().filter_map(serving).collect();
        let line = |(name, entry): (&String, &Entry)| IndexEntry {
            name: name.clone(),
            version: entry.version.clone(),
            state: entry.state.clone(),
        };
        let index: Vec<_> = self.entries.iter().map(line).collect();
        self.to.catalog.update(|catalog| {
            catalog.models.clone_from(&models);
            catalog.index.clone_from(&index);
        });
    }
}

/// Frees what an accelerator gives up: here, not on its thread, which has batches to run. One that
/// has stopped answering is not waited for; it frees the model itself, should it go on.
fn free<T>(mut freed: oneshot::Receiver<T>) {
    let until = Instant::now() + FREE_WAIT;
    while matches!(freed.try_recv(), Err(TryRecvError::Empty)) && Instant::now() < until {
        sleep(FREE_AGAIN);
    }
}

fn too_many(model: &str) -> LoadError {
    let problem = Box::new(LoadProblem::TooMany(MODELS_MAX));
    LoadError { model: model.to_owned(), problem }
}

impl Ids {
    fn is_exhausted(&self) -> bool {
        self.free.is_empty() && self.next as usize >= MODELS_MAX
    }

    fn take(&mut self) -> ModelId {
        ModelId(self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        }))
    }

    fn give_back(&mut self, id: ModelId) {
        self.free.insert(id.0);
    }
}
