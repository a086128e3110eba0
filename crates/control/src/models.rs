//! The models of a pool: loads, replaces and unloads them, one at a time, on a thread of its own.
//!
//! A new version is loaded, profiled and warmed up beside the old one and then takes over; a load
//! that fails leaves the old one serving. The catalog shows every step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use symphony_backend::loader::{self, LoadError, LoadProblem, LoadedModel, Loader};
use symphony_backend::repository::{ConfigError, ModelDirectory, Repository};
use symphony_backend::resident::Resident;
use symphony_backend::worker::{Unreachable, WorkerPort};
use symphony_core::ModelId;
use symphony_core::sched::ModelTerms;
use symphony_wire::catalog::{IndexEntry, Intake, ModelState, ServedModel, SharedCatalog};
use symphony_wire::repository::{RepositoryCommand, RepositoryError};
use symphony_wire::schedule::SchedulerPort;
use symphony_wire::schedule::port::MODELS_MAX;
use symphony_wire::tensor::Signature;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

/// Requests that found a model in the catalog have reached the scheduler this long after it was
/// taken out: they are checked and submitted in one go, in far less.
const STRAGGLERS: Duration = Duration::from_millis(200);

/// How long an accelerator is waited for to take a model or to give one up: longer than batches
/// run, if they end at all.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked at whether it has given it up.
const FREE_AGAIN: Duration = Duration::from_millis(1);
/// What a load may send to an accelerator: the new version, and the word to give the old one up.
const CHANGES: usize = 2;

/// Where models go once they are loaded.
#[derive(Clone, Debug)]
pub(crate) struct Destinations {
    pub(crate) catalog: SharedCatalog,
    pub(crate) scheduler: SchedulerPort,
    pub(crate) workers: Vec<WorkerPort>,
}

/// Every model of the repository and where it stands. Owned by the thread that loads.
#[derive(Debug)]
pub struct Models {
    repository: Repository,
    loader: Loader,
    to: Destinations,
    entries: BTreeMap<String, Entry>,
    ids: Ids,
    /// With an accelerator that does not answer.
    patience: Duration,
    /// One was waited for in vain.
    is_stuck: bool,
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
    from: loader::LoadedFiles,
}

/// Identities that are free to use. The lowest is used first, for tables are indexed by them.
#[derive(Debug, Default)]
struct Ids {
    free: BTreeSet<ModelId>,
    next: u32,
}

/// What came up when a model was loaded, for the start-up report.
#[derive(Debug)]
pub struct LoadReport {
    /// The model as it is served.
    pub model: Arc<ServedModel>,
    /// Whether nobody gave an objective for it.
    pub slo_guessed: bool,
    /// How long its batches take.
    pub measured: symphony_backend::profiling::Measured,
}

impl Models {
    pub(crate) fn new(repository: Repository, loader: Loader, to: Destinations) -> Models {
        let (entries, ids) = (BTreeMap::new(), Ids::default());
        Models { repository, loader, to, entries, ids, patience: PATIENCE, is_stuck: false }
    }

    /// Loads every model of the repository, telling of each as it is done. Gives up when the server
    /// shuts down.
    ///
    /// # Errors
    /// The repository cannot be read. A model that cannot be loaded is reported, and is no error.
    pub fn load_all(
        &mut self,
        mut report: impl FnMut(&str, &Result<LoadReport, LoadError>),
    ) -> Result<(), ConfigError> {
        let directories = self.repository.scan()?;
        for directory in &directories {
            self.set_state(&directory.name, ModelState::Loading);
        }
        for directory in &directories {
            if self.to.catalog.load().intake != Intake::Open {
                break;
            }
            let result = self.load(directory);
            report(&directory.name, &result);
        }
        Ok(())
    }

    /// Carries out commands until every port to this thread is gone.
    pub fn serve(&mut self, commands: &mut mpsc::Receiver<RepositoryCommand>) {
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
        self.load_if_changed(&directory).map_err(|error| not_loaded(&error))
    }

    /// Loads what is new or changed and unloads what is gone; the first failure is returned.
    fn reload(&mut self) -> Result<(), RepositoryError> {
        let directories =
            self.repository.scan().map_err(|error| RepositoryError::Load(error.to_string()))?;
        let mut failed = None;
        for directory in &directories {
            if let Err(error) = self.load_if_changed(directory) {
                failed.get_or_insert(not_loaded(&error));
            }
        }
        let gone = |name: &&String| !directories.iter().any(|directory| directory.name == **name);
        let gone: Vec<String> = self.entries.keys().filter(gone).cloned().collect();
        for name in gone {
            match self.unload(&name) {
                Ok(()) => drop(self.entries.remove(&name)),
                Err(error) => drop(failed.get_or_insert(error)),
            }
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
        let loaded = if self.ids.is_exhausted() {
            Err(LoadProblem::TooMany(MODELS_MAX))
        } else {
            // Before the work of loading it, which would be for nothing.
            self.wait_for_room().map_err(LoadProblem::from)
        };
        let loaded = loaded.map_err(|problem| LoadError::new(name, problem));
        let loaded = loaded.and_then(|()| self.loader.load(directory));
        match loaded.and_then(|loaded| self.take_over(loaded)) {
            Ok(report) => Ok(report),
            // The end of the process takes its engine away from a load under way.
            Err(error) if self.to.catalog.load().intake == Intake::Closed => Err(error),
            Err(error) => {
                tracing::error!(model = %name, "{error}");
                if !self.is_serving(name) {
                    self.set_state(name, ModelState::Unavailable(error.to_string()));
                }
                Err(error)
            }
        }
    }

    /// Waits until no accelerator holds a change of the models up. After a wait in vain the next
    /// callers are refused at once, because there may be many.
    fn wait_for_room(&mut self) -> Result<(), Unreachable> {
        let until = Instant::now() + if self.is_stuck { Duration::ZERO } else { self.patience };
        let mut workers = self.to.workers.iter();
        let found = workers.try_for_each(|worker| worker.wait_for_room(CHANGES, until));
        self.is_stuck = found.is_err();
        found
    }

    /// Puts a loaded model in service, in place of the one of that name before.
    fn take_over(&mut self, loaded: LoadedModel) -> Result<LoadReport, LoadError> {
        let id = self.ids.take();
        if let Err(error) = self.hand_out(id, loaded.residents) {
            self.ids.give_back(id);
            return Err(LoadError::new(&loaded.name, error.into()));
        }
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
        tracing::info!(model = %model.name, version = %model.version, id = %id, engine = %model.engine, "serving");
        if let Some(before) = before.and_then(|entry| entry.serving) {
            self.retire(&before.model);
        }
        Ok(LoadReport { model, slo_guessed, measured })
    }

    /// Gives each accelerator that runs its copy of a model, or none.
    fn hand_out(&self, id: ModelId, residents: Vec<Resident>) -> Result<(), Unreachable> {
        let workers = &self.to.workers;
        for (at, (worker, resident)) in workers.iter().zip(residents).enumerate() {
            match worker.load(id, resident) {
                Ok(()) => {}
                // The others serve.
                Err(error @ Unreachable::Stopped(_)) => tracing::error!(id = %id, "{error}"),
                Err(error @ Unreachable::Stuck(_)) => {
                    self.take_back(id, &workers[..at]);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Frees a model on accelerators.
    fn take_back(&self, id: ModelId, workers: &[WorkerPort]) {
        for worker in workers {
            let (done, freed) = oneshot::channel();
            match worker.unload(id, done) {
                Ok(()) => free(freed, self.patience),
                Err(error) => tracing::error!(id = %id, "{error}"),
            }
        }
    }

    fn unload(&mut self, name: &str) -> Result<(), RepositoryError> {
        if !self.entries.contains_key(name) {
            return Err(RepositoryError::Unknown(name.to_owned()));
        }
        if self.is_serving(name) {
            self.wait_for_room().map_err(|error| {
                RepositoryError::Accelerator(format!("model {name:?} cannot be unloaded: {error}"))
            })?;
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
        self.take_back(model.id, &self.to.workers);
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
fn free<T>(mut freed: oneshot::Receiver<T>, patience: Duration) {
    let until = Instant::now() + patience;
    while matches!(freed.try_recv(), Err(TryRecvError::Empty)) && Instant::now() < until {
        sleep(FREE_AGAIN);
    }
}

/// The answer to a failed load.
fn not_loaded(error: &LoadError) -> RepositoryError {
    let text = error.to_string();
    match *error.problem {
        LoadProblem::Accelerator(_) => RepositoryError::Accelerator(text),
        _ => RepositoryError::Load(text),
    }
}

impl Ids {
    fn is_exhausted(&self) -> bool {
        self.free.is_empty() && self.next as usize >= MODELS_MAX
    }

    fn take(&mut self) -> ModelId {
        self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            ModelId::first(self.next - 1)
        })
    }

    fn give_back(&mut self, id: ModelId) {
        self.free.insert(id.next_generation());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Folder, served, submit};
    use std::fs;
    use symphony_backend::worker::CHANGES_MAX;
    use symphony_core::AcceleratorId;
    use symphony_wire::inflight::Outcome;

    #[test]
    fn an_accelerator_that_hangs_is_named_and_the_others_go_on() {
        let folder = Folder::new();
        folder.write("endless", 3_600_000);
        folder.write("quick", 1);
        let (pool, mut models) = folder.pool(2);
        let endless = submit(&pool, &served(&pool, "endless").unwrap()).unwrap();
        while !pool.in_flight.is_empty() {
            sleep(Duration::from_millis(1));
        }

        models.patience = Duration::from_millis(500);
        let mut loads = (0..2 * CHANGES_MAX).map(|number| {
            let name = format!("m{number}");
            folder.write(&name, 1);
            (models.load_named(&name), name)
        });
        let (refused, name) = loads.find(|(loaded, _)| loaded.is_err()).unwrap();
        let expect_stuck = |refused: Result<(), RepositoryError>, what: &str| {
            let Err(RepositoryError::Accelerator(text)) = refused else { panic!("{refused:?}") };
            for part in [what, "accelerator 0", "restart the server"] {
                assert!(text.contains(part), "{text}");
            }
        };
        expect_stuck(refused, &format!("model {name:?} cannot be served"));
        expect_stuck(models.load_named(&name), "cannot be served");
        expect_stuck(models.unload("quick"), "model \"quick\" cannot be unloaded");
        fs::remove_dir_all(folder.models().join("quick")).unwrap();
        expect_stuck(models.reload(), "accelerator 0");
        assert!(served(&pool, &name).is_none());

        let quick = submit(&pool, &served(&pool, "quick").unwrap()).unwrap();
        let outcome = quick.blocking_recv().unwrap();
        let Outcome::Done(answer) = outcome else { panic!("{outcome:?}") };
        assert_eq!(answer.execution.accelerator, AcceleratorId(1));
        drop(endless);
    }
}
