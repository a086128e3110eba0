//! The thread that owns a backend's models and carries out orders: loads versions, binds them to the
//! lanes that plans name, and gives them up. It works in the order in which it is told.

use super::orders::Work;
use super::shared::Shared;
use crate::files::fingerprint;
use crate::lock::lock;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Instant;
use symphony_backend::loader::{LoadedFiles, Loader};
use symphony_backend::profiling::ProfileOrigin;
use symphony_backend::repository::{ModelSource, Repository};
use symphony_backend::worker::WorkerPort;
use symphony_control::backends::{Backends, LoadedVersion};
use symphony_control::local::{LocalBackend, LocalCopies};
use symphony_core::ModelId;
use symphony_wire::carrier::link::LinkSender;
use symphony_wire::message::link::BackendToScheduler;
use symphony_wire::message::{LoadedFacts, Order, OrderDone, Source};

/// Starts the thread.
pub(crate) fn start(
    work: Receiver<Work>,
    loader: Loader,
    workers: Vec<WorkerPort>,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let models = BackendModels {
        backend: LocalBackend::new(loader, workers),
        fresh: BTreeMap::new(),
        bound: BTreeMap::new(),
        shared,
    };
    Builder::new().name("models".to_owned()).spawn(move || models.serve(&work)).map(drop)
}

/// A version of a model, by name and number.
type Version = (String, u64);

/// A version that is loaded.
#[derive(Debug)]
struct Held {
    facts: LoadedFacts,
    version: LoadedVersion,
}

/// A version that is to be loaded.
#[derive(Debug)]
struct Wanted {
    source: ModelSource,
    /// What its files are, where they were streamed.
    streamed: Option<String>,
}

struct BackendModels {
    backend: LocalBackend,
    /// Loaded, and not bound to lanes yet.
    fresh: BTreeMap<Version, (Held, LocalCopies)>,
    /// Bound, by the first lane.
    bound: BTreeMap<ModelId, Held>,
    shared: Arc<Shared>,
}

impl BackendModels {
    fn serve(mut self, work: &Receiver<Work>) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                match work.recv_deadline(self.backend.refine_at()) {
                    Ok(first) => waiting.push_back(first),
                    Err(RecvTimeoutError::Timeout) => {
                        self.refine();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            let before = waiting.len();
            while let Ok(more) = work.try_recv() {
                waiting.push_back(more);
            }
            if waiting.len() > before || before > 1 {
                self.load_ahead(&waiting);
            }
            if let Some(first) = waiting.pop_front() {
                self.carry_out(first);
            }
        }
    }

    /// Begins to load whatever is ordered, several at a time.
    fn load_ahead(&mut self, waiting: &VecDeque<Work>) {
        let wanted = |work: &Work| match work {
            Work::Order { order: Order::Load { source, name, version }, .. } => {
                self.wanted(source, name, *version).ok()
            }
            Work::Order { .. } => None,
        };
        let wanted =
            waiting.iter().filter_map(wanted).filter(|wanted| self.known(wanted).is_none());
        let sources: Vec<_> = wanted.map(|wanted| wanted.source).collect();
        self.backend.load_ahead(sources);
    }

    fn carry_out(&mut self, work: Work) {
        let Work::Order { number, order, to } = work;
        let streamed = match &order {
            Order::Load { source: Source::Streamed { files }, .. } => Some(fingerprint(files)),
            _ => None,
        };
        let result = match order {
            Order::Load { source, name, version } => self.load(&source, &name, version),
            Order::Bind { name, version, lanes } => self.bind(name, version, &lanes),
            Order::Unload { model } => self.unload(model),
            Order::Forget { name, version } => {
                self.fresh.remove(&(name, version));
                Ok(OrderDone::Unloaded)
            }
            Order::Serve { .. } | Order::Drain => Ok(OrderDone::Serves),
        };
        self.offer();
        if let Some(fingerprint) = streamed {
            self.shared.files.loaded(&fingerprint);
        }
        if let Err(why) = &result {
            tracing::error!("an order of the scheduler is not carried out: {why}");
        }
        answer(&to, number, result);
    }

    /// What this backend has, for schedulers to come.
    fn offer(&self) {
        let fresh = self.fresh.values().map(|(held, _)| held);
        let all = fresh.chain(self.bound.values()).map(|held| held.facts.clone());
        *lock(&self.shared.offered.0) = all.collect();
    }

    /// A version that is to be loaded: read from where its files are.
    fn wanted(&self, source: &Source, name: &str, version: u64) -> Result<Wanted, String> {
        match source {
            Source::Shared { path } => {
                let source = read(path, name, version)?;
                Ok(Wanted { source, streamed: None })
            }
            Source::Streamed { files } => {
                let fingerprint = fingerprint(files);
                let source = read(&self.shared.streamed.join(&fingerprint), name, version)?;
                Ok(Wanted { source, streamed: Some(fingerprint) })
            }
        }
    }

    /// The facts of a version that is loaded as it is wanted.
    fn known(&self, wanted: &Wanted) -> Option<&LoadedFacts> {
        let Wanted { source, streamed } = wanted;
        let fresh = self.fresh.values().map(|(held, _)| held);
        let mut all = fresh.chain(self.bound.values());
        let is_current = |held: &Held| match streamed {
            Some(fingerprint) => held.facts.fingerprint == *fingerprint,
            None => held.version.files.is_current(source),
        };
        let held = all.find(|held| {
            let version = &held.version;
            version.name == source.name && version.version == source.version && is_current(held)
        });
        held.map(|held| &held.facts)
    }

    fn load(&mut self, source: &Source, name: &str, version: u64) -> Result<OrderDone, String> {
        let wanted = self.wanted(source, name, version)?;
        if let Some(facts) = self.known(&wanted) {
            return Ok(OrderDone::Loaded(Box::new(facts.clone())));
        }
        let Wanted { source, streamed } = wanted;
        let fingerprint = match streamed {
            Some(fingerprint) => fingerprint,
            None => LoadedFiles::of(&source).map_err(|error| error.to_string())?.fingerprint(),
        };
        let (loaded, copies) = self.backend.load(source).map_err(|error| error.to_string())?;
        let facts = facts_of(&loaded, fingerprint);
        let held = Held { facts: facts.clone(), version: loaded };
        self.fresh.insert((name.to_owned(), version), (held, copies));
        Ok(OrderDone::Loaded(Box::new(facts)))
    }

    /// Runs the plans for these lanes with a version. One that was bound by an earlier scheduler is
    /// only called by other names.
    fn bind(&mut self, name: String, version: u64, lanes: &[ModelId]) -> Result<OrderDone, String> {
        let Some(first) = lanes.first() else { return Err("a model without lanes".to_owned()) };
        if let Some((held, copies)) = self.fresh.remove(&(name.clone(), version)) {
            let handed = self.backend.hand_out(lanes, &held.version, copies);
            handed.map_err(|error| error.to_string())?;
            self.bound.insert(*first, held);
            return Ok(OrderDone::Bound);
        }
        let of_version = |(_, held): &(&ModelId, &Held)| {
            held.version.name == name && held.version.version == version
        };
        let before = self.bound.iter().rfind(of_version).map(|(id, _)| *id);
        let Some(before) = before else {
            return Err(format!("version {version} of model {name:?} is not loaded here"));
        };
        self.backend.rename(before, lanes).map_err(|error| error.to_string())?;
        if let Some(held) = self.bound.remove(&before) {
            self.bound.insert(*first, held);
        }
        Ok(OrderDone::Bound)
    }

    fn unload(&mut self, model: ModelId) -> Result<OrderDone, String> {
        self.bound.remove(&model);
        self.backend.take_back_owed();
        self.backend.take_back(&[model]);
        Ok(OrderDone::Unloaded)
    }

    /// Tells the scheduler what batches take by now.
    fn refine(&mut self) {
        for (model, costs) in self.backend.refined(Instant::now()) {
            if let Some(held) = self.bound.get_mut(&model) {
                held.facts.costs = costs.by_size.clone();
                held.facts.plan = costs.plan.clone();
            }
            if let Some(active) = &*lock(&self.shared.active) {
                let costs = Box::new(costs.by_size);
                let _ = active.sender.send(&BackendToScheduler::Refined { model, costs });
            }
        }
        self.offer();
    }
}

/// A version in a repository that this machine sees at the same path.
fn read(path: &Path, name: &str, version: u64) -> Result<ModelSource, String> {
    let repository = Repository::open(path).map_err(|error| error.to_string())?;
    let directory = repository.find(name).ok_or_else(|| {
        format!("there is no model {name:?} in {} on this machine", path.display())
    })?;
    directory.read_version(version).map_err(|error| error.to_string())
}

fn facts_of(loaded: &LoadedVersion, fingerprint: String) -> LoadedFacts {
    let origin = match loaded.origin {
        ProfileOrigin::Measured => "measured",
        ProfileOrigin::Cached => "cached",
        ProfileOrigin::Known => "known",
    };
    LoadedFacts {
        name: loaded.name.clone(),
        version: loaded.version,
        fingerprint,
        signature: loaded.signature.clone(),
        objective: loaded.objective,
        rows_max: loaded.rows_max,
        queue_max: loaded.queue_max,
        loss_weight: loaded.loss_weight,
        class: loaded.class,
        engine: loaded.engine.clone(),
        platform: loaded.platform.clone(),
        costs: loaded.costs.by_size.clone(),
        plan: loaded.costs.plan.clone(),
        origin: origin.to_owned(),
        configuration: loaded.configuration.clone(),
    }
}

/// Answers an order. The end of the link is noticed where it is read.
fn answer(to: &LinkSender<BackendToScheduler>, number: u64, result: Result<OrderDone, String>) {
    if let Err(error) = to.send(&BackendToScheduler::Done { number, result }) {
        tracing::warn!("the scheduler is not told that an order was carried out: {error}");
    }
}
