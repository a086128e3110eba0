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
use std::time::{Duration, Instant};
use symphony_backend::loader::{LoadedFiles, Loader};
use symphony_backend::repository::{ModelSource, Repository};
use symphony_backend::worker::WorkerPort;
use symphony_control::backends::{Backends, LoadedVersion};
use symphony_control::local::{LocalBackend, LocalCopies};
use symphony_core::ModelId;
use symphony_wire::carrier::link::LinkSender;
use symphony_wire::message::link::BackendToScheduler;
use symphony_wire::message::{LoadedFacts, Order, OrderDone, Source, VersionKey};

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
        parked: Vec::new(),
        told: BTreeMap::new(),
        shared,
    };
    Builder::new().name("models".to_owned()).spawn(move || models.serve(&work)).map(drop)
}

/// How often to look whether the batches of a model that is to go have ended.
const ENDED_AGAIN: Duration = Duration::from_millis(2);

/// A version that is loaded.
#[derive(Debug)]
struct Held {
    version: LoadedVersion,
    /// What plans call it, and what those of earlier schedulers do whose batches have not ended.
    lanes: Vec<ModelId>,
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
    fresh: BTreeMap<VersionKey, (Held, LocalCopies)>,
    /// Bound, by the first lane.
    bound: BTreeMap<ModelId, Held>,
    /// Orders to give models up whose batches have not ended.
    parked: Vec<Work>,
    /// Why versions could not be loaded, as the log says.
    told: BTreeMap<(String, u64), String>,
    shared: Arc<Shared>,
}

impl BackendModels {
    fn serve(mut self, work: &Receiver<Work>) {
        let mut waiting = VecDeque::new();
        loop {
            std::mem::take(&mut self.parked).into_iter().for_each(|work| self.carry_out(work));
            if waiting.is_empty() {
                match work.recv_deadline(self.wake_at()) {
                    Ok(first) => waiting.push_back(first),
                    Err(RecvTimeoutError::Timeout) => {
                        if Instant::now() >= self.backend.refine_at() {
                            self.refine();
                        }
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

    fn wake_at(&self) -> Instant {
        let refine_at = self.backend.refine_at();
        match self.parked.is_empty() {
            true => refine_at,
            false => refine_at.min(Instant::now() + ENDED_AGAIN),
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
        if self.awaits_batches(&order) {
            return self.parked.push(Work::Order { number, order, to });
        }
        let streamed = match &order {
            Order::Load { source: Source::Streamed { files }, .. } => Some(fingerprint(files)),
            _ => None,
        };
        // The next scheduler has been told what is loaded: what the one before ordered last would
        // change it.
        if self.shared.is_active(&to) {
            let result = self.obey(order);
            self.offer();
            answer(&to, number, result);
        }
        if let Some(fingerprint) = streamed {
            self.shared.files.loaded(&fingerprint);
        }
    }

    fn obey(&mut self, order: Order) -> Result<OrderDone, String> {
        let (version, result) = match order {
            Order::Load { source, name, version } => {
                let result = self.load(&source, &name, version);
                ((name, version), result)
            }
            Order::Bind { version, lanes } => {
                let result = self.bind(&version, &lanes);
                ((version.name, version.version), result)
            }
            Order::Unload { model } => return Ok(self.unload(model)),
            Order::Forget { version } => return Ok(self.forget(&version)),
        };
        match &result {
            Ok(_) => drop(self.told.remove(&version)),
            // It is tried again and again.
            Err(why) if self.told.get(&version) == Some(why) => tracing::debug!("once more: {why}"),
            Err(why) => {
                tracing::error!("an order of the scheduler is not carried out: {why}");
                self.told.insert(version, why.clone());
            }
        }
        result
    }

    /// Whether a model is to go whose batches have not ended. Some may wait for their inputs, and the
    /// accelerator has to have the model until they have run.
    fn awaits_batches(&self, order: &Order) -> bool {
        let held = match order {
            Order::Unload { model } => self.bound.get(model),
            Order::Forget { version } => {
                self.bound.values().find(|held| held.version.facts.key() == *version)
            }
            Order::Load { .. } | Order::Bind { .. } => None,
        };
        held.is_some_and(|held| lock(&self.shared.sent).runs(&held.lanes))
    }

    /// What this backend has, for schedulers to come.
    fn offer(&self) {
        let fresh = self.fresh.values().map(|(held, _)| held);
        let all = fresh.chain(self.bound.values()).map(|held| held.version.facts.clone());
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
            Some(fingerprint) => held.version.facts.fingerprint == *fingerprint,
            None => held.version.files.is_current(source),
        };
        let held = all.find(|held| {
            let facts = &held.version.facts;
            facts.name == source.name && facts.version == source.version && is_current(held)
        });
        held.map(|held| &held.version.facts)
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
        let loaded = self.backend.load(source).map_err(|error| error.to_string())?;
        let (mut version, copies) = loaded;
        version.facts.fingerprint = fingerprint;
        let facts = version.facts.clone();
        self.fresh.insert(facts.key(), (Held { version, lanes: Vec::new() }, copies));
        Ok(OrderDone::Loaded(Box::new(facts)))
    }

    /// Runs the plans for these lanes with a version. One that was bound by an earlier scheduler is
    /// only called by other names.
    fn bind(&mut self, version: &VersionKey, lanes: &[ModelId]) -> Result<OrderDone, String> {
        let Some(first) = lanes.first() else { return Err("a model without lanes".to_owned()) };
        if let Some((mut held, copies)) = self.fresh.remove(version) {
            let handed = self.backend.hand_out(lanes, &held.version, copies);
            handed.map_err(|error| error.to_string())?;
            held.lanes = lanes.to_vec();
            self.bound.insert(*first, held);
            return Ok(OrderDone::Bound);
        }
        let before = self.bound_as(version).ok_or_else(|| {
            format!("version {} of model {:?} is not loaded here", version.version, version.name)
        })?;
        self.backend.rename(before, lanes).map_err(|error| error.to_string())?;
        if let Some(mut held) = self.bound.remove(&before) {
            // What was planned by the names before still runs.
            held.lanes.retain(|lane| lock(&self.shared.sent).runs(&[*lane]));
            held.lanes.extend(lanes);
            self.bound.insert(*first, held);
        }
        Ok(OrderDone::Bound)
    }

    fn bound_as(&self, version: &VersionKey) -> Option<ModelId> {
        let mut bound = self.bound.iter();
        bound.find(|(_, held)| held.version.facts.key() == *version).map(|(model, _)| *model)
    }

    fn unload(&mut self, model: ModelId) -> OrderDone {
        self.bound.remove(&model);
        self.backend.take_back_owed();
        self.backend.take_back(&[model]);
        OrderDone::Unloaded
    }

    /// Frees a version, whether an earlier scheduler's plans named it or nobody's did.
    fn forget(&mut self, version: &VersionKey) -> OrderDone {
        let VersionKey { name, version: number, .. } = version;
        tracing::info!(model = %name, version = number, "not wanted any more, and freed");
        self.fresh.remove(version);
        match self.bound_as(version) {
            Some(model) => self.unload(model),
            None => OrderDone::Unloaded,
        }
    }

    /// Tells the scheduler what batches take by now.
    fn refine(&mut self) {
        for (model, costs) in self.backend.refined(Instant::now()) {
            if let Some(held) = self.bound.get_mut(&model) {
                held.version.facts.costs = costs.by_size.clone();
                held.version.facts.plan = costs.plan.clone();
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

/// Answers an order. The end of the link is noticed where it is read.
fn answer(to: &LinkSender<BackendToScheduler>, number: u64, result: Result<OrderDone, String>) {
    if let Err(error) = to.send(&BackendToScheduler::Done { number, result }) {
        tracing::warn!("the scheduler is not told that an order was carried out: {error}");
    }
}
