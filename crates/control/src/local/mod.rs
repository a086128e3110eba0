//! The one backend of a pool in this process: loads models on its accelerators, hands them out and
//! takes them back.

mod ahead;
mod refining;

use crate::backends::{Backends, Costs, LoadedVersion};
use ahead::Ahead;
use crossbeam_channel::bounded;
use refining::Refining;
use std::sync::Arc;
use std::time::{Duration, Instant};
use symphony_backend::loader::{Learning, LoadError, LoadedModel, Loader, Stage};
use symphony_backend::profiling::Measured;
use symphony_backend::repository::ModelSource;
use symphony_backend::resident::Resident;
use symphony_backend::worker::{Unreachable, WorkerPort};
use symphony_core::ModelId;
use symphony_wire::message::LoadedFacts;
use symphony_wire::tensor::Signature;

/// How long to wait for an accelerator that is to take a model or to give one up: longer than
/// batches run, if they end at all.
const ACCELERATOR_WAIT: Duration = Duration::from_secs(10);
/// How many messages a load may send to an accelerator: the new version, and to give up the old.
const CHANGES: usize = 2;

/// The accelerators of this process.
#[derive(Debug)]
pub struct LocalBackend {
    loader: Arc<Loader>,
    workers: Vec<WorkerPort>,
    /// Profiles that get better while their models serve.
    refining: Refining,
    /// Loads under way that a command has asked for.
    ahead: Option<Ahead>,
    /// Models that accelerators could not be told to give up, by the accelerator's place.
    owed: Vec<(usize, ModelId)>,
    /// How long to wait for an accelerator.
    wait: Duration,
    /// The last wait for an accelerator was in vain.
    is_stuck: bool,
}

/// A model on each accelerator, by number.
#[derive(Debug)]
pub struct LocalCopies {
    residents: Vec<Resident>,
    signature: Arc<Signature>,
    measured: Measured,
    learning: Option<Learning>,
}

impl LocalBackend {
    /// The accelerators behind these ports; models are loaded by this loader.
    #[must_use]
    pub fn new(loader: Loader, workers: Vec<WorkerPort>) -> LocalBackend {
        LocalBackend {
            loader: Arc::new(loader),
            workers,
            refining: Refining::default(),
            ahead: None,
            owed: Vec::new(),
            wait: ACCELERATOR_WAIT,
            is_stuck: false,
        }
    }

    /// Has accelerators run the plans for other lanes with a model that is handed out: another
    /// scheduler calls it by these names.
    ///
    /// # Errors
    /// One of them cannot be told.
    pub fn rename(&mut self, model: ModelId, lanes: &[ModelId]) -> Result<(), Unreachable> {
        self.refining.rename(model, lanes[0]);
        for worker in &self.workers {
            match worker.rename(model, lanes) {
                // The others serve.
                Ok(()) | Err(Unreachable::Stopped(_)) => {}
                Err(error @ Unreachable::Stuck(_)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits no longer than this for an accelerator.
    #[cfg(test)]
    pub(crate) fn set_wait(&mut self, wait: Duration) {
        self.wait = wait;
    }

    /// What becomes of the load of a version: of the one under way, or of one from now on.
    fn load_now(&self, source: ModelSource) -> Result<LoadedModel, LoadError> {
        let ahead = self.ahead.as_ref().and_then(|ahead| ahead.take(&source.name, source.version));
        ahead.unwrap_or_else(|| self.loader.load_version(source))
    }

    /// Frees models that accelerators give up: on this thread, because theirs have batches to run.
    /// Waits for each accelerator no longer than said, and no more for one that was waited for in
    /// vain: it frees the models itself, should it go on.
    fn take_back_from(&mut self, models: &[ModelId], waits: &mut [Duration]) {
        let mut given_up = Vec::new();
        for &id in models {
            for at in 0..waits.len() {
                let (done, freed) = bounded(1);
                match self.workers[at].unload(id, done) {
                    Ok(()) => given_up.push((at, freed)),
                    Err(Unreachable::Stuck(_)) => self.owed.push((at, id)),
                    Err(Unreachable::Stopped(_)) => {}
                }
            }
        }
        for (at, freed) in given_up {
            if freed.recv_timeout(waits[at]).is_err() {
                waits[at] = Duration::ZERO;
            }
        }
    }
}

impl Backends for LocalBackend {
    type Copies = LocalCopies;

    fn accelerators(&self) -> u32 {
        u32::try_from(self.workers.len()).unwrap_or(u32::MAX)
    }

    fn load_ahead(&mut self, sources: Vec<ModelSource>) {
        // One alone is loaded when it is its turn.
        if sources.len() > 1 {
            self.ahead = Some(Ahead::start(&self.loader, sources));
        }
    }

    fn end_loads_ahead(&mut self) {
        self.ahead = None;
    }

    fn load(&mut self, source: ModelSource) -> Result<(LoadedVersion, LocalCopies), LoadError> {
        self.load_now(source).map(described)
    }

    fn tell(&self, model: &str, stage: Stage) {
        self.loader.tell(model, stage);
    }

    /// Waits until every accelerator has room for a change of the models. After a wait in vain the
    /// next command is refused at once: there may be many.
    fn wait_for_room(&mut self) -> Result<(), Unreachable> {
        let until = Instant::now() + if self.is_stuck { Duration::ZERO } else { self.wait };
        let mut workers = self.workers.iter();
        let found = workers.try_for_each(|worker| worker.wait_for_room(CHANGES, until));
        self.is_stuck = found.is_err();
        found
    }

    /// Gives each accelerator that runs its copy of a model, or none.
    fn hand_out(
        &mut self,
        lanes: &[ModelId],
        version: &LoadedVersion,
        copies: LocalCopies,
    ) -> Result<(), Unreachable> {
        let id = lanes[0];
        let mut residents = copies.residents.into_iter();
        for at in 0..self.workers.len() {
            let Some(resident) = residents.next() else { break };
            match self.workers[at].load_lanes(lanes, resident) {
                Ok(()) => {}
                // The others serve.
                Err(error @ Unreachable::Stopped(_)) => tracing::error!(id = %id, "{error}"),
                Err(error @ Unreachable::Stuck(_)) => {
                    self.take_back_from(&[id], &mut vec![self.wait; at]);
                    return Err(error);
                }
            }
        }
        if let Some(learning) = copies.learning {
            let (name, objective) = (version.facts.name.clone(), version.facts.objective);
            let described = (name, Signature::clone(&copies.signature), objective.span());
            self.refining.add(id, described, copies.measured, learning);
        }
        Ok(())
    }

    fn take_back(&mut self, models: &[ModelId]) {
        models.iter().for_each(|id| self.refining.remove(*id));
        self.take_back_from(models, &mut vec![self.wait; self.workers.len()]);
    }

    fn take_back_owed(&mut self) {
        let workers = &self.workers;
        // Nobody waits for what they give up: it is freed on their threads.
        self.owed.retain(|(at, id)| {
            let (done, _) = bounded(1);
            matches!(workers[*at].unload(*id, done), Err(Unreachable::Stuck(_)))
        });
    }

    fn refine_at(&self) -> Instant {
        self.refining.next()
    }

    fn refined(&mut self, now: Instant) -> Vec<(ModelId, Costs)> {
        let changed = self.refining.changed(now, &self.loader);
        if let Some(worker) = self.workers.first() {
            self.refining.probe(now, worker);
        }
        changed.into_iter().map(|(id, measured)| (id, costs(&measured))).collect()
    }
}

fn costs(measured: &Measured) -> Costs {
    Costs { by_size: measured.by_size.clone(), plan: (*measured.plan).clone() }
}

/// A loaded model, apart from its copies.
fn described(loaded: LoadedModel) -> (LoadedVersion, LocalCopies) {
    let Costs { by_size, plan } = costs(&loaded.measured);
    let facts = LoadedFacts {
        name: loaded.name,
        version: loaded.version,
        fingerprint: loaded.state.fingerprint(),
        signature: Signature::clone(&loaded.signature),
        objective: loaded.objective,
        rows_max: loaded.rows_max,
        queue_max: loaded.queue_max,
        loss_weight: loaded.loss_weight,
        class: loaded.class,
        engine: loaded.engine.to_owned(),
        platform: loaded.platform.to_owned(),
        costs: by_size,
        plan,
        origin: loaded.measured.origin,
        configuration: loaded.configuration,
    };
    let version = LoadedVersion { facts, files: loaded.state };
    let LoadedModel { residents, signature, measured, learning, .. } = loaded;
    (version, LocalCopies { residents, signature, measured, learning })
}
