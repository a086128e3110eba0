//! The models of a pool: loads, replaces and unloads them, one at a time, on a thread of its own.
//!
//! A model serves the versions that its settings choose, side by side; to the scheduler each is a
//! model of its own. A version is loaded, profiled and warmed up beside those that serve and then
//! takes over. A load that fails leaves them serving. A version is removed from the scheduler only after the
//! catalog has stopped showing it: requests that found it there before are served if they reach the
//! scheduler in time, and refused as unloaded if they do not. They never reach another model,
//! because every load gives its version an identity of its own.

mod ids;
mod lanes;
mod table;

use crate::backends::{Backends, LoadedVersion};
use crate::lanes::set_costs;
use ids::FreeIds;
use lanes::LaneKind;
use std::sync::Arc;
use std::time::Instant;
use symphony_backend::loader::{LoadError, LoadProblem, Stage};
use symphony_backend::profiling::ProfileOrigin;
use symphony_backend::repository::{
    ConfigError, ModelDirectory, ModelSource, Note, Repository, Scan,
};
use symphony_core::sched::ModelTerms;
use symphony_wire::carrier::in_process::port::MODELS_MAX;
use symphony_wire::carrier::in_process::{RepositoryQuestion, SchedulerPort, SharedCatalog};
use symphony_wire::lanes::ModelLanes;
use symphony_wire::message::{
    Intake, LoadedFacts, ModelState, RepositoryCommand, RepositoryError, ServedModel,
};
use table::{ModelTable, ServedVersion};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

/// How many models an accelerator is told to give up before the first of them is waited for. It
/// has room for more.
const TOGETHER: usize = 32;

/// Where models go once they are loaded.
#[derive(Clone, Debug)]
pub(crate) struct Destinations {
    pub(crate) catalog: SharedCatalog,
    pub(crate) scheduler: SchedulerPort,
}

/// Every model of the repository and where it stands. Owned by the thread that loads.
#[derive(Debug)]
pub struct Models<B: Backends> {
    repository: Repository,
    backends: B,
    to: Destinations,
    table: ModelTable,
    /// Told when the scheduler knows of a version, before the catalog shows it.
    added: Vec<oneshot::Receiver<()>>,
    /// Versions that nothing serves any more, once the catalog shows that.
    retired: Vec<Arc<ServedModel>>,
    ids: FreeIds,
}

/// What happens when a version that the settings choose cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Otherwise {
    /// The load has failed; what was served before still is.
    Fail,
    /// Other versions serve, as with a server that was running when the broken one was added, which
    /// may be half copied. The load has failed if none can.
    StandIns,
}

/// What a load found, for the start-up report.
#[derive(Debug)]
pub struct LoadReport {
    /// The model as it is served.
    pub model: Arc<ServedModel>,
    /// Where its profile comes from.
    pub origin: ProfileOrigin,
}

impl<B: Backends> Models<B> {
    /// The models of a repository, none of which is loaded yet. They are loaded on these backends;
    /// the scheduler plans them, and the catalog shows them.
    #[must_use]
    pub fn new(
        repository: Repository,
        backends: B,
        catalog: SharedCatalog,
        scheduler: SchedulerPort,
    ) -> Models<B> {
        let to = Destinations { catalog, scheduler };
        Models {
            repository,
            backends,
            table: ModelTable::new(to.catalog.clone()),
            to,
            added: Vec::new(),
            retired: Vec::new(),
            ids: FreeIds::default(),
        }
    }

    /// Numbers models from this generation on, so that none has an identity that was given before.
    #[must_use]
    pub fn numbered_from(mut self, generation: u32) -> Models<B> {
        self.ids = FreeIds::from_generation(generation);
        self
    }

    /// Loads every model of the repository, and reports each when its load has ended. Gives up when
    /// the server shuts down. Returns how many models the repository has.
    ///
    /// # Errors
    /// The repository cannot be read. A model that cannot be loaded is reported, and is no error.
    pub fn load_all(
        &mut self,
        mut report: impl FnMut(&str, &Result<Vec<LoadReport>, LoadError>),
    ) -> Result<usize, ConfigError> {
        let Scan { models, .. } = self.scan()?;
        for directory in &models {
            self.table.set_state(&directory.name, ModelState::Loading);
        }
        self.finish();
        self.load_ahead(&models);
        for directory in &models {
            if self.to.catalog.load().intake != Intake::Open {
                break;
            }
            let loaded = self.load(directory, Otherwise::StandIns);
            self.finish_in_time();
            report(&directory.name, &loaded);
        }
        self.backends.end_loads_ahead();
        self.finish();
        let publications = self.table.publications();
        tracing::debug!(models = models.len(), publications, "the repository is loaded");
        Ok(models.len())
    }

    /// What the repository holds now. The log names the directories that are not models.
    fn scan(&self) -> Result<Scan, ConfigError> {
        let scan = self.repository.scan()?;
        for directory in &scan.skipped {
            tracing::info!("skipped: {directory}");
        }
        Ok(scan)
    }

    /// Lets the catalog say that the server is ready: now, or from the first model on.
    pub(crate) fn set_ready(&mut self, awaits_first: bool) {
        self.table.set_ready(awaits_first);
    }

    /// Whether the server will be ready with its first model.
    pub(crate) fn awaits_first(&self) -> bool {
        self.table.awaits_first()
    }

    /// Carries out a command and answers it.
    pub(crate) fn carry_out(&mut self, question: RepositoryQuestion) {
        let RepositoryQuestion { command, reply } = question;
        let result = match command {
            RepositoryCommand::Load { model } => self.load_named(&model),
            RepositoryCommand::Unload { model } => self.unload_named(&model),
            RepositoryCommand::Reload => self.reload(),
        };
        self.finish();
        reply.answer(result);
    }

    /// Carries out commands until every port to this thread is gone.
    pub(crate) fn serve(&mut self, commands: &mut mpsc::Receiver<RepositoryQuestion>) {
        let Ok(runtime) = Builder::new_current_thread().enable_time().build() else {
            tracing::error!("no timer: profiles are not refined while models serve");
            while let Some(question) = commands.blocking_recv() {
                self.carry_out(question);
            }
            return;
        };
        loop {
            let until = tokio::time::Instant::from_std(self.backends.refine_at());
            let command = async { timeout_at(until, commands.recv()).await };
            match runtime.block_on(command) {
                Ok(Some(question)) => self.carry_out(question),
                Ok(None) => return,
                Err(_) => self.refine(),
            }
        }
    }

    /// Has plans count with what batches take by now, and has an idle accelerator try out what is
    /// not known well.
    fn refine(&mut self) {
        for (id, costs) in self.backends.refined(Instant::now()) {
            if let Some(model) = self.table.set_profile(id, &costs.plan) {
                set_costs(&self.to.scheduler, &model, costs.by_size);
            }
        }
        self.finish_in_time();
    }

    fn load_named(&mut self, name: &str) -> Result<(), RepositoryError> {
        let directory =
            self.repository.find(name).ok_or_else(|| RepositoryError::Unknown(name.to_owned()))?;
        let loaded = self.load(&directory, Otherwise::Fail);
        loaded.map(|_| ()).map_err(|error| not_loaded(&error))
    }

    /// Loads what is new or changed and unloads what is gone; the first failure is returned.
    fn reload(&mut self) -> Result<(), RepositoryError> {
        let scan = self.scan().map_err(|error| RepositoryError::Load(error.to_string()))?;
        let mut failed = None;
        self.load_ahead(&scan.models);
        for directory in &scan.models {
            if let Err(error) = self.load(directory, Otherwise::Fail) {
                failed.get_or_insert(not_loaded(&error));
            }
            self.finish_in_time();
        }
        self.backends.end_loads_ahead();
        for name in self.gone(&scan) {
            match self.unload(&name) {
                Ok(()) => self.table.forget(&name),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The models of the table that the repository has no directory for. A directory whose files
    /// are not there may be one that is being replaced: what was loaded from it keeps serving.
    fn gone(&self, scan: &Scan) -> Vec<String> {
        let is_there = |name: &str| {
            let models = &scan.models;
            models.binary_search_by(|directory| directory.name.as_str().cmp(name)).is_ok()
                || scan.skipped.binary_search_by(|other| other.name.as_str().cmp(name)).is_ok()
        };
        self.table.names().filter(|name| !is_there(name)).cloned().collect()
    }

    /// Begins to load whatever is new or changed in these directories, unless accelerators could
    /// not take it.
    fn load_ahead(&mut self, directories: &[ModelDirectory]) {
        if self.check_room().is_err() {
            return;
        }
        let wanted = directories.iter().flat_map(|directory| {
            let choice = directory.versions();
            let wanted = choice.map(|choice| choice.wanted().to_vec()).unwrap_or_default();
            wanted.into_iter().filter_map(|version| directory.read_version(version).ok())
        });
        let is_new = |source: &ModelSource| {
            let served = self.table.served(&source.name, source.version);
            !served.is_some_and(|served| served.from.is_current(source))
        };
        let sources: Vec<_> = wanted.filter(is_new).collect();
        self.backends.load_ahead(sources);
    }

    /// Serves the versions of a model that its settings choose. Each that is loaded takes over at
    /// once; those that are no longer chosen go when all that are chosen serve. Returns the reports
    /// of what was loaded.
    fn load(
        &mut self,
        directory: &ModelDirectory,
        if_not: Otherwise,
    ) -> Result<Vec<LoadReport>, LoadError> {
        let name = &directory.name;
        let choice = match directory.versions() {
            Ok(choice) => choice,
            Err(error) => return Err(self.refuse(name, LoadError::new(name, error.into()))),
        };
        for version in choice.missing() {
            tracing::warn!(model = %name, version, "this version is asked for and is not there");
        }
        let stand_ins = choice.stand_ins().iter().take_while(|_| if_not == Otherwise::StandIns);
        let (mut reports, mut serving, mut failed) = (Vec::new(), Vec::new(), None);
        for &version in choice.wanted().iter().chain(stand_ins) {
            if serving.len() == choice.wanted().len() {
                break;
            }
            match self.load_if_changed(directory, version, version == choice.highest()) {
                Ok(report) => {
                    serving.push(version);
                    reports.extend(report);
                }
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        match failed {
            Some(error) if if_not == Otherwise::Fail || serving.is_empty() => Err(error),
            Some(_) => {
                tracing::error!(model = %name, versions = ?serving, "other versions serve");
                Ok(reports)
            }
            None => {
                let gone = self.table.keep(name, choice.wanted());
                self.retired.extend(gone.into_iter().map(|gone| gone.model));
                Ok(reports)
            }
        }
    }

    /// Loads a version unless it serves already as it is in the repository. With the highest, the
    /// log says what is done in place of what the model's `config.pbtxt` asks for.
    fn load_if_changed(
        &mut self,
        directory: &ModelDirectory,
        version: u64,
        is_highest: bool,
    ) -> Result<Option<LoadReport>, LoadError> {
        let name = &directory.name;
        let source = match directory.read_version(version) {
            Ok(source) => source,
            Err(error) => {
                return Err(self.refuse_version(version, LoadError::new(name, error.into())));
            }
        };
        let served = self.table.served(name, version);
        if served.is_some_and(|served| served.from.is_current(&source)) {
            return Ok(None);
        }
        if is_highest {
            for Note { key, instead } in source.settings.notes() {
                tracing::info!(model = %name, "config.pbtxt: {key}: {instead}");
            }
        }
        self.table.set_version_state(name, version, ModelState::Loading);
        if !self.table.is_served(name) {
            self.finish_in_time();
        }
        // Asked before the work of loading, which would be for nothing.
        let possible = self.check_room().map_err(|problem| LoadError::new(name, problem));
        let loaded = possible.and_then(|()| self.backends.load(source));
        let taken_over = loaded.and_then(|(version, copies)| self.take_over(version, copies));
        let stage = if taken_over.is_ok() { Stage::Serving } else { Stage::Failed };
        self.backends.tell(name, stage);
        taken_over.map(Some).map_err(|error| self.refuse_version(version, error))
    }

    /// Keeps what is served, and says of a model that it cannot be loaded.
    fn refuse(&mut self, name: &str, error: LoadError) -> LoadError {
        tracing::error!(model = %name, "{error}");
        self.table.set_state(name, ModelState::Unavailable(error.to_string()));
        error
    }

    /// The same of one version.
    fn refuse_version(&mut self, version: u64, error: LoadError) -> LoadError {
        // The end of the process takes its engine away from a load under way.
        if self.to.catalog.load().intake != Intake::Closed {
            tracing::error!(model = %error.model, version, "{error}");
            let state = ModelState::Unavailable(error.to_string());
            self.table.set_version_state(&error.model, version, state);
        }
        error
    }

    fn check_room(&mut self) -> Result<(), LoadProblem> {
        if self.ids.is_exhausted() {
            self.finish();
        }
        if self.ids.is_exhausted() {
            return Err(LoadProblem::TooMany(MODELS_MAX));
        }
        Ok(self.backends.wait_for_room()?)
    }

    /// Puts a loaded version in service, in place of the same version as it was before.
    fn take_over(
        &mut self,
        loaded: LoadedVersion,
        copies: B::Copies,
    ) -> Result<LoadReport, LoadError> {
        let lanes = self.lanes(&loaded.facts);
        let lanes = lanes.map_err(|problem| LoadError::new(&loaded.facts.name, problem))?;
        let id = lanes.ids()[0];
        if let Err(error) = self.backends.hand_out(lanes.ids(), &loaded, copies) {
            lanes.ids().iter().for_each(|id| self.ids.give_back(*id));
            return Err(LoadError::new(&loaded.facts.name, error.into()));
        }
        let LoadedVersion { facts, files: from } = loaded;
        let (version, origin, loss_weight) = (facts.version, facts.origin, facts.loss_weight);
        let model = served(facts, lanes);
        self.add(&model, loss_weight);
        tracing::info!(
            model = %model.name,
            version = %model.version,
            id = %id,
            engine = %model.engine,
            "serving"
        );
        let served = ServedVersion { model: Arc::clone(&model), from };
        let before = self.table.serve(version, served);
        self.retired.extend(before.map(|before| before.model));
        Ok(LoadReport { model, origin })
    }

    /// The lanes of a version, each under an identity of its own.
    fn lanes(&mut self, loaded: &LoadedFacts) -> Result<ModelLanes, LoadProblem> {
        let costs = loaded.costs_by_size();
        let kind = LaneKind::of(&loaded.signature, &costs);
        let ids = self.ids.take_beside(kind.count(), self.to.scheduler.shards());
        let mut ids = ids.ok_or(LoadProblem::TooMany(MODELS_MAX))?;
        let accelerators = self.backends.accelerators();
        let lanes = kind.lanes(&mut ids, &costs, loaded.objective.span(), accelerators);
        ids.into_iter().for_each(|id| self.ids.give_back(id));
        Ok(lanes)
    }

    /// Has the scheduler take the requests of each lane of a model.
    fn add(&mut self, model: &ServedModel, loss_weight: f64) {
        let lanes = model.lanes.profiles();
        let lane_of = Some(model.id).filter(|_| lanes.len() > 1);
        let (objective, queue_max) = (model.objective, model.queue_max);
        for (id, profile) in lanes {
            let terms = ModelTerms { profile, objective, queue_max, loss_weight, lane_of };
            // Waited for before the catalog shows the model: many are added together.
            self.added.extend(self.to.scheduler.add_model(id, terms));
        }
    }

    fn unload_named(&mut self, name: &str) -> Result<(), RepositoryError> {
        if !self.table.contains(name) {
            return Err(RepositoryError::Unknown(name.to_owned()));
        }
        self.unload(name)
    }

    fn unload(&mut self, name: &str) -> Result<(), RepositoryError> {
        if self.table.is_served(name) {
            self.backends.wait_for_room().map_err(|error| {
                RepositoryError::Accelerator(format!("model {name:?} cannot be unloaded: {error}"))
            })?;
        }
        for ServedVersion { model, .. } in self.table.stop(name) {
            tracing::info!(model = %name, version = %model.version, "unloading");
            self.retired.push(model);
        }
        Ok(())
    }

    /// Shows what has changed if that is due, and removes what is not served any more.
    fn finish_in_time(&mut self) {
        if self.table.is_due() {
            self.finish();
        }
    }

    /// Shows what has changed, then lets the queues of the versions run empty that the catalog no
    /// longer shows, and frees them everywhere.
    fn finish(&mut self) {
        // A scheduler that has stopped knows of none, and is asked for none.
        self.added.drain(..).for_each(|added| drop(added.blocking_recv()));
        self.table.publish();
        self.backends.take_back_owed();
        let retired = std::mem::take(&mut self.retired);
        // All are told before the first is waited for: their queues run empty together.
        let remove = |model: &Arc<ServedModel>| {
            let lanes = model.lanes.ids().iter();
            lanes.map(|lane| self.to.scheduler.remove_model(*lane)).collect::<Vec<_>>()
        };
        let removed: Vec<_> = retired.iter().map(remove).collect();
        let mut removed = removed.into_iter();
        for some in retired.chunks(TOGETHER) {
            for removed in removed.by_ref().take(some.len()).flatten() {
                // A scheduler that has stopped takes its accelerators' models with it.
                let Ok(removed) = removed else { return };
                let _ = removed.blocking_recv();
            }
            let ids: Vec<_> = some.iter().map(|model| model.id).collect();
            self.backends.take_back(&ids);
            let lanes = some.iter().flat_map(|model| model.lanes.ids());
            lanes.for_each(|id| self.ids.give_back(*id));
        }
    }
}

/// A version as frontends see it.
fn served(loaded: LoadedFacts, lanes: ModelLanes) -> Arc<ServedModel> {
    Arc::new(ServedModel {
        id: lanes.ids()[0],
        name: loaded.name,
        version: loaded.version.to_string(),
        signature: loaded.signature,
        objective: loaded.objective,
        rows_max: loaded.rows_max,
        queue_max: loaded.queue_max,
        class: loaded.class,
        engine: loaded.engine,
        platform: loaded.platform,
        profile: loaded.plan,
        configuration: loaded.configuration,
        lanes: Arc::new(lanes),
    })
}

/// The answer to a command whose load failed.
fn not_loaded(error: &LoadError) -> RepositoryError {
    let text = error.to_string();
    match *error.problem {
        LoadProblem::Accelerator(_) => RepositoryError::Accelerator(text),
        _ => RepositoryError::Load(text),
    }
}

#[cfg(test)]
mod tests {
    use super::table::SHOWN_AFTER;
    use super::*;
    use crate::pool::{Pool, PoolModels};
    use crate::testing::{Folder, served, submit};
    use std::fs;
    use std::time::Duration;
    use symphony_backend::worker::CHANGES_MAX;
    use symphony_core::AcceleratorId;
    use symphony_wire::carrier::in_process::Reply;
    use symphony_wire::message::{IndexEntry, Outcome};

    /// Has a command carried out, and returns its answer.
    fn ask(models: &mut PoolModels, command: RepositoryCommand) -> Result<(), RepositoryError> {
        let (reply, answer) = Reply::new();
        models.carry_out(RepositoryQuestion { command, reply });
        answer.blocking_recv().unwrap()
    }

    fn load(models: &mut PoolModels, name: &str) -> Result<(), RepositoryError> {
        ask(models, RepositoryCommand::Load { model: name.to_owned() })
    }

    fn unload(models: &mut PoolModels, name: &str) -> Result<(), RepositoryError> {
        ask(models, RepositoryCommand::Unload { model: name.to_owned() })
    }

    fn reload(models: &mut PoolModels) -> Result<(), RepositoryError> {
        ask(models, RepositoryCommand::Reload)
    }

    #[test]
    fn an_accelerator_that_hangs_is_named_and_the_others_go_on() {
        let folder = Folder::new();
        folder.write("endless", 3_600_000);
        folder.write("quick", 1);
        let (pool, mut models) = folder.pool(2);
        let endless = submit(&pool, &served(&pool, "endless").unwrap()).unwrap();
        while !pool.in_flight.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }

        models.backends.set_wait(Duration::from_millis(500));
        let mut loads = (0..2 * CHANGES_MAX).map(|number| {
            let name = format!("m{number}");
            folder.write(&name, 1);
            (load(&mut models, &name), name)
        });
        let (refused, name) = loads.find(|(loaded, _)| loaded.is_err()).unwrap();
        let expect_stuck = |refused: Result<(), RepositoryError>, what: &str| {
            let Err(RepositoryError::Accelerator(text)) = refused else { panic!("{refused:?}") };
            for part in [what, "accelerator 0", "restart the server"] {
                assert!(text.contains(part), "{text}");
            }
        };
        expect_stuck(refused, &format!("model {name:?} cannot be served"));
        expect_stuck(load(&mut models, &name), "cannot be served");
        expect_stuck(unload(&mut models, "quick"), "model \"quick\" cannot be unloaded");
        fs::remove_dir_all(folder.models().join("quick")).unwrap();
        expect_stuck(reload(&mut models), "accelerator 0");
        assert!(served(&pool, &name).is_none());

        let quick = submit(&pool, &served(&pool, "quick").unwrap()).unwrap();
        let outcome = quick.blocking_recv().unwrap();
        let Outcome::Done(answer) = outcome else { panic!("{outcome:?}") };
        assert_eq!(answer.execution.accelerator, AcceleratorId(1));
        drop(endless);
    }

    #[test]
    fn a_request_that_found_a_version_before_never_reaches_the_next() {
        let folder = Folder::new();
        folder.write("m", 1);
        let (pool, mut models) = folder.pool(1);
        let before = served(&pool, "m").unwrap();
        unload(&mut models, "m").unwrap();
        assert!(served(&pool, "m").is_none());
        load(&mut models, "m").unwrap();
        let now = served(&pool, "m").unwrap();
        assert_eq!(now.id, before.id.next_generation());
        let outcome = submit(&pool, &before).unwrap().blocking_recv().unwrap();
        let Outcome::Unloaded(inputs) = outcome else { panic!("{outcome:?}") };
        assert_eq!(inputs.rows, 1);
        let outcome = submit(&pool, &now).unwrap().blocking_recv().unwrap();
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    }

    /// The lines of the repository's index, such as `m 1 READY`.
    fn index(pool: &Pool) -> Vec<String> {
        let line = |entry: &IndexEntry| {
            let state = match &entry.state {
                ModelState::Unavailable(reason) => reason.split(':').next().unwrap().to_owned(),
                state => format!("{state:?}"),
            };
            format!("{} {} {state}", entry.name, entry.version)
        };
        pool.catalog.load().index.iter().map(line).collect()
    }

    #[test]
    fn the_chosen_versions_serve_side_by_side_and_go_together() {
        let folder = Folder::new();
        folder.write_versions("m", &[1, 2, 10], "{ latest = 2 }");
        let (pool, mut models) = folder.pool(1);
        assert_eq!(index(&pool), ["m 2 Ready", "m 10 Ready"]);
        let find = |version: &str| {
            let catalog = pool.catalog.load();
            catalog.models.get("m").and_then(|versions| versions.find(version)).cloned()
        };
        let (second, tenth) = (find("2").unwrap(), find("10").unwrap());
        assert_ne!(second.id, tenth.id);
        assert_eq!(served(&pool, "m").unwrap().id, tenth.id);
        for model in [&second, &tenth] {
            let outcome = submit(&pool, model).unwrap().blocking_recv().unwrap();
            assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        }

        folder.write_versions("m", &[11], "{ latest = 2 }");
        load(&mut models, "m").unwrap();
        assert_eq!(index(&pool), ["m 10 Ready", "m 11 Ready"]);
        assert_eq!(find("10").unwrap().id, tenth.id, "it is as before, and goes on");
        let outcome = submit(&pool, &second).unwrap().blocking_recv().unwrap();
        assert!(matches!(outcome, Outcome::Unloaded(_)), "{outcome:?}");

        folder.write_versions("m", &[], "[1, 11, 12]");
        reload(&mut models).unwrap();
        assert_eq!(index(&pool), ["m 1 Ready", "m 11 Ready"]);
        folder.remove_version("m", 11);
        reload(&mut models).unwrap();
        assert_eq!(index(&pool), ["m 1 Ready"]);
        folder.write_versions("m", &[], "'all'");
        load(&mut models, "m").unwrap();
        unload(&mut models, "m").unwrap();
        assert_eq!(index(&pool), ["m 1 unloaded", "m 2 unloaded", "m 10 unloaded"]);
        assert!(served(&pool, "m").is_none());
        load(&mut models, "m").unwrap();
        assert_eq!(index(&pool), ["m 1 Ready", "m 2 Ready", "m 10 Ready"]);
    }

    #[test]
    fn a_version_that_cannot_be_loaded_leaves_the_others_serving() {
        let folder = Folder::new();
        let model = folder.models().join("m");
        for version in ["1", "2", "3"] {
            fs::create_dir_all(model.join(version)).unwrap();
        }
        let digits =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/models/digits/1/model.onnx");
        fs::copy(digits, model.join("1/model.onnx")).unwrap();
        fs::write(model.join("2/model.onnx"), &fs::read(digits).unwrap()[..500]).unwrap();
        fs::write(model.join("model.toml"), "max_batch = 1\nslo_ms = 1000\n").unwrap();
        let broken = ["m 2 model \"m\" cannot be served", "m 3 model \"m\" cannot be served"];
        let after_start = ["m 1 Ready", broken[0], broken[1]];

        let (pool, mut models) = folder.pool(1);
        assert_eq!(index(&pool), after_start, "at a start the next lower takes their place");
        let refused = load(&mut models, "m").unwrap_err().to_string();
        assert!(refused.contains("m/3: no ONNX file"), "the highest is named: {refused}");
        assert_eq!(index(&pool), after_start);
        fs::copy(digits, model.join("3/model.onnx")).unwrap();
        load(&mut models, "m").unwrap();
        assert_eq!(index(&pool), ["m 3 Ready"]);
    }

    #[test]
    fn a_model_whose_files_are_being_replaced_keeps_serving() {
        let folder = Folder::new();
        folder.write("m", 1);
        fs::create_dir(folder.models().join("lost+found")).unwrap();
        let (pool, mut models) = folder.pool(1);
        fs::remove_file(folder.models().join("m/model.toml")).unwrap();
        reload(&mut models).unwrap();
        assert!(served(&pool, "m").is_some());
        fs::remove_dir(folder.models().join("m")).unwrap();
        reload(&mut models).unwrap();
        assert!(served(&pool, "m").is_none());
    }

    #[test]
    fn a_pool_without_models_is_ready_when_it_may_be_or_has_its_first() {
        let folder = Folder::new();
        let (pool, mut models) = folder.pool(1);
        models.set_ready(true);
        reload(&mut models).unwrap();
        assert!(!pool.catalog.load().ready);
        folder.write("m", 1);
        reload(&mut models).unwrap();
        assert!(pool.catalog.load().ready);
        let (pool, mut models) = Folder::new().pool(1);
        models.set_ready(false);
        assert!(pool.catalog.load().ready);
    }

    /// To show the table costs as much as it is long: shown for each model, it would cost the square
    /// of their number.
    #[test]
    fn ten_thousand_models_come_and_go_and_are_shown_a_few_times() {
        const MODELS: usize = 10_000;
        let folder = Folder::new();
        for number in 0..MODELS {
            folder.write(&format!("m{number}"), 1);
        }
        let begun = Instant::now();
        let (pool, mut models) = folder.pool(1);
        assert_eq!(pool.catalog.load().models.len(), MODELS);
        fs::remove_dir_all(folder.models()).unwrap();
        fs::create_dir(folder.models()).unwrap();
        reload(&mut models).unwrap();
        assert!(pool.catalog.load().models.is_empty());
        let most = begun.elapsed().as_millis() / SHOWN_AFTER.as_millis() + 3;
        let publications = u128::from(models.table.publications());
        assert!(publications <= most, "{publications}, more than {most}");
    }
}
