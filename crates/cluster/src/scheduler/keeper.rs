//! The task that owns the membership: what it is told goes in, and it carries out the steps that come
//! out.

use super::acting::Acting;
use super::engines::Engines;
use super::members::{LoadReply, Registered, Told};
use super::membership::{Arrival, BackendKey, Load, Membership, Step};
use super::streams::ModelFiles;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use symphony_core::AcceleratorId;
use symphony_wire::carrier::link::LinkSender;
use symphony_wire::clock;
use symphony_wire::message::link::{SchedulerToBackend, SchedulerToFrontend};
use symphony_wire::message::{LoadedFacts, Order, OrderDone, Registration, Source, VersionKey};
use tokio::sync::{mpsc, oneshot};

/// Keeps the members for as long as anybody can tell it anything.
pub(crate) async fn run(mut work: mpsc::Receiver<Told>, acting: Arc<Acting>) {
    let mut keeper = Keeper {
        acting,
        membership: Membership::default(),
        senders: BTreeMap::new(),
        files: HashMap::new(),
        facts: HashMap::new(),
        loads: HashMap::new(),
        binds: Vec::new(),
        unloads: Vec::new(),
        steps: Vec::new(),
        engines: Engines::default(),
    };
    loop {
        let retry = keeper.until_retry();
        let told = tokio::select! {
            told = work.recv() => told,
            () = tokio::time::sleep(retry.unwrap_or_default()), if retry.is_some() => {
                keeper.pass_time();
                keeper.carry_out();
                continue;
            }
        };
        let Some(told) = told else { return };
        keeper.pass_time();
        keeper.take(told);
        keeper.carry_out();
        keeper.answer_loads();
        keeper.answer_binds();
        keeper.answer_unloads();
    }
}

struct Keeper {
    acting: Arc<Acting>,
    membership: Membership,
    senders: BTreeMap<BackendKey, LinkSender<SchedulerToBackend>>,
    /// Where backends get the files of a version from.
    files: HashMap<VersionKey, ModelFiles>,
    /// What the first backend said of a version that it had loaded.
    facts: HashMap<VersionKey, LoadedFacts>,
    /// Whoever waits for loads.
    loads: HashMap<VersionKey, Vec<LoadReply>>,
    /// Whoever waits for versions to be bound.
    binds: Vec<(VersionKey, oneshot::Sender<()>)>,
    /// Whoever waits for unloads, with the orders that have no answer.
    unloads: Vec<(Vec<u64>, oneshot::Sender<()>)>,
    steps: Vec<Step>,
    engines: Engines,
}

impl Keeper {
    /// How long until a load is ordered again.
    fn until_retry(&self) -> Option<Duration> {
        let now = self.acting.clock.now();
        self.membership.next_retry().map(|due| clock::duration(due.since(now)))
    }

    fn pass_time(&mut self) {
        self.membership.at(self.acting.clock.now(), &mut self.steps);
    }

    fn take(&mut self, told: Told) {
        let steps = &mut self.steps;
        match told {
            Told::Arrived { registration, sender, reply } => {
                // Whoever asked is gone only with its link.
                let _ = reply.send(self.arrived(&registration, sender));
            }
            Told::Left(key) => self.left(key),
            Told::Leaving(key) => self.leaving(key),
            Told::Answered { backend, number, result } => {
                self.answered(backend, number, result);
            }
            Told::Idle { backend, place } => self.membership.idle(backend, place, steps),
            Told::Seek { version, files, reply } => {
                self.files.insert(version.clone(), files);
                self.loads.entry(version.clone()).or_default().extend(reply);
                self.membership.seek(version, steps);
            }
            Told::Bind { version, lanes, reply } => {
                self.membership.bind(version.clone(), lanes, steps);
                self.binds.push((version, reply));
            }
            Told::Unbind { model, reply } => {
                let orders = self.membership.unbind(model, steps);
                self.unloads.push((orders, reply));
                self.forget_versions();
            }
            Told::Settled => {
                self.loads.retain(|_, replies| !replies.is_empty());
                let is_awaited = |version: &VersionKey| self.loads.contains_key(version);
                self.membership.settle(is_awaited, steps);
                self.forget_versions();
            }
            Told::Frontends => self.tell_frontends(),
        }
    }

    fn tell_frontends(&self) {
        let addresses = self.acting.routes.addresses();
        self.acting.routes.tell_backends(&SchedulerToBackend::Frontends(addresses));
    }

    fn arrived(
        &mut self,
        registration: &Registration,
        sender: LinkSender<SchedulerToBackend>,
    ) -> Result<Registered, String> {
        registration.loaded.iter().try_for_each(check)?;
        let loaded = registration.loaded.iter().map(|facts| (facts.key(), facts.clone()));
        let loaded: Vec<_> = loaded.collect();
        let running = registration.running.iter().map(|batch| batch.accelerator as usize);
        let arrival = Arrival {
            name: registration.name.clone(),
            life: registration.life,
            accelerators: registration.accelerators.len(),
            loaded: loaded.iter().map(|(key, _)| key.clone()).collect(),
            running: running.filter(|place| *place < registration.accelerators.len()).collect(),
        };
        // Its numbers go to it before the first order, and its link is known before the first step.
        let mut steps = Vec::new();
        let arrived = self.membership.arrived(arrival, &mut steps);
        let (key, accelerators) = arrived.map_err(|refusal| refusal.to_string())?;
        self.engines.arrived(key, &registration.name, &registration.engines);
        for (version, facts) in loaded {
            self.warn_of_engines(key, &facts);
            self.facts.entry(version).or_insert(facts);
        }
        let welcome = SchedulerToBackend::Welcome {
            epoch: self.acting.epoch,
            accelerators: accelerators.clone(),
        };
        let frontends = SchedulerToBackend::Frontends(self.acting.routes.addresses());
        // A link that has ended already is noticed where it is read.
        let _ = sender.send_all([&welcome, &frontends]);
        self.acting.routes.set_accelerators(&accelerators, Some(&sender));
        self.senders.insert(key, sender);
        self.show();
        tracing::info!(
            backend = %registration.name,
            life = registration.life,
            ?accelerators,
            facts = ?registration.accelerators,
            engines = ?registration.engines,
            loaded = registration.loaded.len(),
            running = registration.running.len(),
            "a backend is in the pool"
        );
        self.steps.append(&mut steps);
        Ok(Registered { key, accelerators })
    }

    fn warn_of_engines(&mut self, backend: BackendKey, facts: &LoadedFacts) {
        let model = (facts.name.as_str(), facts.version);
        if let Some(warning) = self.engines.loaded(backend, model, &facts.engine) {
            tracing::warn!("{warning}");
        }
    }

    fn left(&mut self, key: BackendKey) {
        let Some((name, life)) = self.membership.identity(key) else { return };
        let gone = SchedulerToFrontend::BackendGone { name: name.to_owned(), life };
        self.senders.remove(&key);
        self.acting.streams.left(key);
        self.engines.left(key);
        // Before its batches are given up: their requests are fetched again by others.
        self.acting.routes.tell_all(&gone);
        self.membership.left(key, &mut self.steps);
        self.forget_versions();
        self.show();
    }

    /// A backend is about to end: nothing more is planned for it, then it is told so.
    fn leaving(&mut self, key: BackendKey) {
        if !self.membership.leaving(key, &mut self.steps) {
            return;
        }
        self.carry_out();
        let Some(sender) = self.senders.get(&key).cloned() else { return };
        let accelerators = self.membership.accelerators_of(key);
        let port = self.acting.port.clone();
        tokio::spawn(async move {
            for accelerator in accelerators {
                // The answer comes when the scheduler's threads plan nothing for it any more.
                if let Ok(drained) = port.serve(accelerator, false) {
                    let _ = drained.await;
                }
            }
            // Plans that were sent before are before this on the same link.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let _ = sender.send(&SchedulerToBackend::Drain);
        });
    }

    fn answered(&mut self, backend: BackendKey, number: u64, result: Result<OrderDone, String>) {
        self.acting.streams.answered(backend, number);
        if let Ok(OrderDone::Loaded(facts)) = &result {
            self.warn_of_engines(backend, facts);
        }
        let answer =
            result.and_then(|done| match (done, self.membership.ordered(backend, number)) {
                (OrderDone::Loaded(facts), Some(version)) => self.loaded(backend, version, *facts),
                (_, Some(version)) => Err(format!("model {:?} was not loaded", version.name)),
                (_, None) => Ok(()),
            });
        if let Err(why) = &answer
            && !self.membership.has_failed_so(backend, number, why)
        {
            let backend = self.membership.identity(backend).map_or("", |(name, _)| name);
            tracing::error!(
                backend,
                "an order is not carried out: {why}; what is served is ordered again and again, until \
                 the backend can"
            );
        }
        self.membership.answered(backend, number, answer, &mut self.steps);
    }

    /// A backend has loaded what it was ordered to, if it is the same.
    fn loaded(
        &mut self,
        backend: BackendKey,
        version: VersionKey,
        facts: LoadedFacts,
    ) -> Result<(), String> {
        if (&facts.name, facts.version) != (&version.name, version.version) {
            return Err(format!(
                "version {} of model {:?} was to be loaded, and version {} of model {:?} was",
                version.version, version.name, facts.version, facts.name
            ));
        }
        check(&facts)?;
        self.membership.is_called(backend, &version, facts.key());
        self.facts.insert(version, facts);
        Ok(())
    }

    /// Forgets where versions are and what they are that nobody has or wants any more.
    fn forget_versions(&mut self) {
        let Keeper { facts, files, membership, .. } = self;
        facts.retain(|version, _| membership.knows(version));
        files.retain(|version, _| membership.knows(version));
    }

    /// Tells whoever waits for a load what came of it.
    fn answer_loads(&mut self) {
        let Keeper { loads, membership, facts, .. } = self;
        loads.retain(|version, replies| {
            let result = match membership.load(version) {
                Load::UnderWay => return true,
                Load::Failed(why) => {
                    membership.give_up(version);
                    Err(why)
                }
                Load::Loaded => facts.get(version).cloned().ok_or_else(|| {
                    format!("nothing is known of model {:?}, which was loaded", version.name)
                }),
            };
            for reply in replies.drain(..) {
                let _ = reply.send(result.clone());
            }
            false
        });
    }

    fn answer_binds(&mut self) {
        let membership = &self.membership;
        let done = |(version, _): &mut (VersionKey, _)| membership.is_bound(version);
        for (_, reply) in self.binds.extract_if(.., done) {
            let _ = reply.send(());
        }
    }

    fn answer_unloads(&mut self) {
        let membership = &self.membership;
        let done = |(orders, _): &mut (Vec<u64>, _)| {
            orders.retain(|number| membership.is_open(*number));
            orders.is_empty()
        };
        for (_, reply) in self.unloads.extract_if(.., done) {
            let _ = reply.send(());
        }
    }

    fn show(&self) {
        let count = u32::try_from(self.membership.accelerators()).unwrap_or(u32::MAX);
        self.acting.members.set_accelerators(count);
        self.acting.routes.set_backends(self.senders.values().cloned().collect());
    }

    fn carry_out(&mut self) {
        for step in std::mem::take(&mut self.steps) {
            match step {
                Step::Load { backend, number, version } => self.load(backend, number, version),
                Step::Bind { backend, number, version, lanes } => {
                    self.order(backend, number, Order::Bind { version, lanes });
                }
                Step::Forget { backend, number, version } => {
                    self.order(backend, number, Order::Forget { version });
                }
                Step::Unload { backend, number, model } => {
                    self.order(backend, number, Order::Unload { model });
                }
                Step::Serve(accelerators) => self.join(&accelerators),
                Step::Drain(accelerators) => self.drain(&accelerators),
                Step::Gone(accelerators) => self.gone(&accelerators),
            }
        }
    }

    fn load(&self, backend: BackendKey, number: u64, version: VersionKey) {
        let source = match self.files.get(&version) {
            None => return,
            Some(ModelFiles::Shared(path)) => Source::Shared { path: path.clone() },
            Some(ModelFiles::Streamed(streamed)) => {
                self.acting.streams.ordered(backend, number, Arc::clone(streamed));
                Source::Streamed { files: streamed.files.clone() }
            }
        };
        let VersionKey { name, version, .. } = version;
        self.order(backend, number, Order::Load { source, name, version });
    }

    fn order(&self, backend: BackendKey, number: u64, order: Order) {
        let Some(sender) = self.senders.get(&backend) else { return };
        let order = SchedulerToBackend::Order { number, order: Box::new(order) };
        if let Err(error) = sender.send(&order) {
            // It comes back, and is told everything anew.
            sender.close(&error.to_string());
        }
    }

    /// Sends batches to accelerators. A scheduler that has stopped sends none.
    fn join(&self, accelerators: &[AcceleratorId]) {
        for accelerator in accelerators {
            let _ = self.acting.port.join(*accelerator);
        }
        tracing::info!(?accelerators, "accelerators serve");
    }

    fn drain(&self, accelerators: &[AcceleratorId]) {
        for accelerator in accelerators {
            let _ = self.acting.port.serve(*accelerator, false);
        }
        tracing::info!(?accelerators, "accelerators get no more batches");
    }

    fn gone(&self, accelerators: &[AcceleratorId]) {
        self.acting.routes.set_accelerators(accelerators, None);
        for accelerator in accelerators {
            let _ = self.acting.port.gone(*accelerator);
        }
        tracing::warn!(?accelerators, "accelerators are gone, and with them what they ran");
    }
}

/// Whether what a backend says of a version can be planned with.
fn check(facts: &LoadedFacts) -> Result<(), String> {
    let LoadedFacts { name, rows_max, loss_weight, plan, .. } = facts;
    let profiled = plan.rows_max();
    if *rows_max == 0 || *rows_max > profiled {
        return Err(format!(
            "model {name:?} takes {rows_max} rows in a batch, and its profile says what up to \
             {profiled} take: measure it anew"
        ));
    }
    if !(loss_weight.is_finite() && *loss_weight > 0.0) {
        return Err(format!("model {name:?} has the loss weight {loss_weight}, which is none"));
    }
    Ok(())
}
