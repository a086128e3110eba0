//! The links to the schedulers. That of the highest epoch is active: its plans run, its orders are
//! carried out. A standby's link is silent until it takes over.

use super::fetching::BatchKey;
use super::frontends;
use super::orders::Work;
use super::sent::SentBatch;
use super::shared::{Active, Shared};
use crate::dial::Ended;
use crate::life::life;
use crate::lock::lock;
use crate::receiving::receive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use symphony_core::AcceleratorId;
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::link::{Link, LinkSender};
use symphony_wire::message::link::{BackendToScheduler, HandedBack, SchedulerToBackend, SentPlan};
use symphony_wire::message::{Order, Registration, Source};

/// Serves the link to one scheduler until it ends.
pub(crate) async fn serve(
    link: Link<SchedulerToBackend, BackendToScheduler>,
    shared: Arc<Shared>,
) -> Ended {
    let Link { peer, sender, mut receiver } = link;
    let mut was_active = false;
    let take = |message: Timed<_>| {
        let taken = shared.take(&sender, message);
        was_active |= shared.is_active(&sender);
        taken
    };
    let why = receive(&sender, &mut receiver, take).await;
    shared.files.link_ended(sender.clone());
    let mut active = lock(&shared.active);
    if active.take_if(|active| active.sender.is_same(&sender)).is_some() {
        tracing::warn!(scheduler = %peer.name, "the link to the active scheduler has ended: {why}");
    }
    if was_active { Ended::Used } else { Ended::Unused(why) }
}

impl Shared {
    fn take(
        self: &Arc<Self>,
        sender: &LinkSender<BackendToScheduler>,
        Timed { at, message }: Timed<SchedulerToBackend>,
    ) -> Result<(), String> {
        match message {
            SchedulerToBackend::Welcome { epoch, accelerators } => {
                return self.welcomed(sender, epoch, accelerators);
            }
            SchedulerToBackend::Refused { text } => {
                self.begin_life();
                return Err(text);
            }
            _ if !self.is_active(sender) => {
                return Err("another scheduler has taken over".to_owned());
            }
            SchedulerToBackend::Plan(plan) => self.planned(Timed::new(at, plan))?,
            SchedulerToBackend::Drain => self.drain(),
            SchedulerToBackend::Order { number, order } => self.ordered(sender, number, *order),
            SchedulerToBackend::File(part) => self.files.piece(part)?,
            SchedulerToBackend::NoFile { number, text } => self.files.no_file(number, text),
            SchedulerToBackend::Frontends(all) => frontends::connect_to(self, all),
        }
        Ok(())
    }

    /// An order has come. Before a version is loaded, its files have to be here.
    fn ordered(&self, sender: &LinkSender<BackendToScheduler>, number: u64, order: Order) {
        let to = sender.clone();
        match order {
            Order::Load { source: Source::Streamed { files }, name, version } => {
                self.files.order(number, (name, version), files, to);
            }
            order => self.models.send(Work::Order { number, order, to }),
        }
    }

    /// Whether this is the link to the scheduler whose plans run.
    pub(crate) fn is_active(&self, sender: &LinkSender<BackendToScheduler>) -> bool {
        lock(&self.active).as_ref().is_some_and(|active| active.sender.is_same(sender))
    }

    /// A scheduler says that it is the one. Without numbers for the accelerators it asks what this
    /// backend has; with them the backend is in its pool.
    fn welcomed(
        self: &Arc<Self>,
        sender: &LinkSender<BackendToScheduler>,
        epoch: u64,
        accelerators: Vec<AcceleratorId>,
    ) -> Result<(), String> {
        if epoch < self.epoch.fetch_max(epoch, Ordering::AcqRel) {
            return Err(format!("epoch {epoch} is over: another scheduler has taken over"));
        }
        if accelerators.is_empty() {
            let registration = Box::new(self.registration());
            let register = BackendToScheduler::Register(registration);
            return sender.send(&register).map_err(|error| error.to_string());
        }
        if accelerators.len() != self.config.accelerators.len() {
            return Err("the scheduler numbers other accelerators than there are".to_owned());
        }
        tracing::info!(epoch, ?accelerators, "in the pool of the scheduler");
        self.numbers.store(Arc::new(accelerators));
        *lock(&self.active) = Some(Active { epoch, sender: sender.clone() });
        self.tell_ended(sender);
        self.tell_lost(sender);
        self.tell_leaving();
        Ok(())
    }

    /// Tells of the accelerators that end no batch any more: this scheduler knows of none.
    fn tell_lost(&self, sender: &LinkSender<BackendToScheduler>) {
        let numbers = self.numbers.load();
        for place in lock(&self.lost).iter() {
            if let Some(accelerator) = numbers.get(place.index()).copied() {
                // The end of the link is noticed where it is read.
                let _ = sender.send(&BackendToScheduler::Lost { accelerator });
            }
        }
    }

    /// Tells of the batches that have ended since they were said to be running: their accelerators
    /// are free.
    fn tell_ended(&self, sender: &LinkSender<BackendToScheduler>) {
        let ended = lock(&self.sent).ended_meanwhile();
        let numbers = self.numbers.load();
        for (BatchKey { epoch, batch }, place) in ended {
            let Some(accelerator) = numbers.get(place).copied() else { continue };
            let why = "it has ended".to_owned();
            let back = HandedBack { epoch, accelerator, batch, is_refused: false, why };
            // The end of the link is noticed where it is read.
            let _ = sender.send(&BackendToScheduler::HandedBack(back));
        }
    }

    fn registration(&self) -> Registration {
        Registration {
            name: self.config.name.clone(),
            life: self.life(),
            accelerators: self.config.accelerators.clone(),
            engines: self.config.engines.clone(),
            loaded: self.offered.all(),
            running: lock(&self.sent).announce(self.clock.now()),
        }
    }

    /// A plan has come: its inputs are asked for at once, while the batch before still runs.
    ///
    /// # Errors
    /// The scheduler plans for a backend that this one is not, or is not any more. Its link is to end:
    /// so it gives up what it sent here, and schedules the requests again.
    fn planned(&self, Timed { at, message }: Timed<SentPlan>) -> Result<(), String> {
        let SentPlan { epoch, accelerator, plan } = message;
        if epoch != self.epoch.load(Ordering::Acquire) {
            return Err(format!("a plan of epoch {epoch} came, which is not in force"));
        }
        let place = self.numbers.load().iter().position(|number| *number == accelerator);
        let Some(place) = place else {
            return Err(format!(
                "a plan came for accelerator {}, which is not here",
                accelerator.0
            ));
        };
        let key = BatchKey { epoch, batch: plan.batch };
        let (exec, received) = (plan.exec, self.clock.now());
        let model = plan.model;
        let (ready, requests) =
            (received, plan.requests.iter().map(|request| request.id).collect());
        lock(&self.sent).add(SentBatch { key, model, place, received, ready, exec, requests });
        let (to_fetch, ready) = lock(&self.fetching).planned(key, place, Timed::new(at, plan));
        ready.into_iter().for_each(|batch| self.run_batch(batch));
        for wanted in to_fetch {
            self.fetch(&wanted);
        }
        self.waits.notify_one();
        Ok(())
    }

    /// Tells the scheduler that this backend is about to end.
    pub(crate) fn tell_leaving(&self) {
        if !*self.is_leaving.borrow() {
            return;
        }
        if let Some(active) = &*lock(&self.active) {
            let _ = active.sender.send(&BackendToScheduler::Leaving);
        }
    }

    /// Nothing is planned for this backend from now on.
    pub(crate) fn drain(&self) {
        lock(&self.sent).is_last = true;
        self.look_whether_drained();
    }

    /// This life is over: what was fetched in it is forgotten, and frontends are told the next.
    fn begin_life(self: &Arc<Self>) {
        self.life.store(life(), Ordering::Release);
        let given_up = lock(&self.fetching).clear();
        {
            let mut sent = lock(&self.sent);
            given_up.iter().for_each(|batch| sent.forget(batch.key));
        }
        frontends::connect_again(self);
    }
}
