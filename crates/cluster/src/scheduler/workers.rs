//! The link to one backend: its registration, the ends of its batches, and the end of its life.

use super::acting::{Acting, until_acting};
use super::effects::settle;
use super::members::{Registered, Told};
use super::membership::BackendKey;
use super::streams::{self, WANTED_MAX};
use std::sync::Arc;
use symphony_core::{AcceleratorId, BatchId, ModelId, Time};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::link::{Hello, Incoming, Link, LinkSender};
use symphony_wire::message::link::{
    AcceleratorGaps, BackendToScheduler, HandedBack, SchedulerToBackend,
};
use symphony_wire::message::{Completion, FileWanted, Registration};
use tokio::sync::{mpsc, watch};

pub(crate) async fn serve(
    incoming: Incoming,
    own: &Hello,
    mut standing_by: watch::Receiver<Option<Arc<Acting>>>,
) {
    let link: Link<BackendToScheduler, SchedulerToBackend> = incoming.welcome(own);
    let Link { peer, sender, mut receiver } = link;
    let Some(acting) = until_acting(&mut receiver, &mut standing_by).await else { return };
    // Without numbers for its accelerators, the backend is asked what it has.
    let asked = SchedulerToBackend::Welcome { epoch: acting.epoch, accelerators: Vec::new() };
    if sender.send(&asked).is_err() {
        return;
    }
    let mut backend = BackendLink {
        acting,
        sender,
        name: peer.name,
        registered: None,
        awaited: Vec::new(),
        wanted: None,
        told: Vec::new(),
    };
    let ended = loop {
        let mut registration = None;
        let received = receiver
            .drain(|message| {
                if let Some(of_backend) = backend.take(message) {
                    registration = Some(of_backend);
                }
            })
            .await;
        if let Err(error) = received {
            break error.to_string();
        }
        for told in std::mem::take(&mut backend.told) {
            backend.acting.members.tell(told).await;
        }
        if let Some(registration) = registration
            && let Err(why) = backend.register(*registration).await
        {
            break why;
        }
    };
    if let Some(Registered { key, .. }) = backend.registered {
        tracing::warn!(backend = %backend.name, "a backend is gone: {ended}");
        backend.acting.members.tell(Told::Left(key)).await;
    }
}

struct BackendLink {
    acting: Arc<Acting>,
    sender: LinkSender<SchedulerToBackend>,
    name: String,
    /// Once it is in the pool.
    registered: Option<Registered>,
    /// The batches that ran when it registered, each with the place of its accelerator. No ledger of
    /// this scheduler has them.
    awaited: Vec<(u64, BatchId, usize)>,
    /// The way to the task that sends it pieces of files.
    wanted: Option<mpsc::Sender<FileWanted>>,
    /// What the task that keeps the members is told once all that has arrived was read.
    told: Vec<Told>,
}

impl BackendLink {
    /// Takes the backend into the pool.
    ///
    /// # Errors
    /// It is refused, and told so.
    async fn register(&mut self, registration: Registration) -> Result<(), String> {
        if self.registered.is_some() {
            return Err("it has registered twice".to_owned());
        }
        let running = registration.running.iter();
        let running = running.map(|it| (it.epoch, it.batch, it.accelerator as usize));
        let awaited = running.collect();
        match self.acting.members.arrived(registration, self.sender.clone()).await {
            Ok(registered) => {
                self.awaited = awaited;
                let (wanted, to_send) = mpsc::channel(WANTED_MAX);
                let (streams, sender) = (self.acting.streams.clone(), self.sender.clone());
                tokio::spawn(streams::serve(to_send, registered.key, streams, sender));
                self.wanted = Some(wanted);
                self.registered = Some(registered);
                Ok(())
            }
            Err(text) => {
                self.acting.refusals.refused(&self.name, &text);
                let _ = self.sender.send(&SchedulerToBackend::Refused { text: text.clone() });
                self.sender.close(&text);
                Err(text)
            }
        }
    }

    /// Takes what the backend says. A registration is returned.
    fn take(
        &mut self,
        Timed { at, message }: Timed<BackendToScheduler>,
    ) -> Option<Box<Registration>> {
        if let BackendToScheduler::Register(registration) = message {
            return Some(registration);
        }
        let Some(registered) = self.registered.clone() else {
            self.sender.close("a backend registers before it says anything else");
            return None;
        };
        let members = &self.acting.members;
        match message {
            BackendToScheduler::Completed { epoch, completion } => {
                self.completed(&registered, epoch, Timed::new(at, completion));
            }
            BackendToScheduler::HandedBack(back) => self.handed_back(&registered, at, &back),
            BackendToScheduler::Lost { accelerator } if registered.has(accelerator) => {
                tracing::error!(backend = %self.name, accelerator = accelerator.0, "it is lost");
                let _ = self.acting.port.lose(accelerator);
            }
            BackendToScheduler::Done { number, result } => {
                self.told.push(Told::Answered { backend: registered.key, number, result });
            }
            BackendToScheduler::Refined { model, costs } if self.is_served(model) => {
                members.refined(model, *costs);
            }
            BackendToScheduler::Gaps(gaps) => {
                for AcceleratorGaps { accelerator, gaps } in gaps {
                    if registered.has(accelerator) {
                        self.acting.port.set_gaps(accelerator, gaps);
                    }
                }
            }
            BackendToScheduler::FileWanted(wanted) => {
                let asked = self.wanted.as_ref().map(|all| all.try_send(wanted));
                if asked.is_none_or(|asked| asked.is_err()) {
                    self.sender.close("more pieces of files are asked for than are sent at once");
                }
            }
            BackendToScheduler::Leaving => self.told.push(Told::Leaving(registered.key)),
            // A model that went meanwhile.
            BackendToScheduler::Refined { .. } => {}
            BackendToScheduler::Register(_) | BackendToScheduler::Lost { .. } => {}
        }
        None
    }

    /// A batch has ended. One that an earlier scheduler had planned makes its accelerator free.
    fn completed(&mut self, registered: &Registered, epoch: u64, completion: Timed<Completion>) {
        let Completion { accelerator, batch, model, .. } = completion.message;
        if self.was_awaited(registered, epoch, batch) || epoch != self.acting.epoch {
            return;
        }
        if !registered.has(accelerator) {
            return self.sender.close("the end of a batch on another backend's accelerator");
        }
        // One that was given up is not waited for.
        let Some(known) = self.acting.effects.batch(batch) else { return };
        if known != (accelerator, model) {
            return self.sender.close("the end of a batch that it was not sent");
        }
        // A scheduler that has stopped needs no completion; its way has room for every batch.
        if let Err(error) = self.acting.port.completed(completion) {
            tracing::error!("the end of a batch is not noticed: {error}");
        }
    }

    /// A batch does not run: its requests are queued again.
    fn handed_back(&mut self, registered: &Registered, at: Time, back: &HandedBack) {
        let was_awaited = self.was_awaited(registered, back.epoch, back.batch);
        if was_awaited || back.epoch != self.acting.epoch {
            return;
        }
        if !registered.has(back.accelerator) {
            return self.sender.close("a batch of another backend's accelerator");
        }
        let known = self.acting.effects.batch(back.batch);
        if known.is_some_and(|(accelerator, _)| accelerator != back.accelerator) {
            return self.sender.close("a batch that it was not sent");
        }
        tracing::warn!(backend = %self.name, batch = back.batch.0, "a batch comes back: {}", back.why);
        let Acting { effects, port, routes, clock, .. } = &*self.acting;
        let returned = match back.is_refused {
            true => effects.refused(clock.now(), back.batch),
            false => effects.handed_back(clock.now(), back.batch),
        };
        let Some((model, verdicts)) = returned else { return };
        settle(clock.now(), verdicts, effects, port, routes);
        let completion = Completion::not_run(back.accelerator, back.batch, model);
        let _ = port.completed(Timed::new(at, completion));
    }

    /// Whether a batch ran when the backend registered. With the last of its accelerator, that is
    /// free.
    fn was_awaited(&mut self, registered: &Registered, epoch: u64, batch: BatchId) -> bool {
        let is_it = |it: &(u64, BatchId, usize)| (it.0, it.1) == (epoch, batch);
        let Some(at) = self.awaited.iter().position(is_it) else { return false };
        let (_, _, place) = self.awaited.swap_remove(at);
        if !self.awaited.iter().any(|(_, _, other)| *other == place) {
            self.told.push(Told::Idle { backend: registered.key, place });
        }
        true
    }

    fn is_served(&self, model: ModelId) -> bool {
        self.acting.catalog.load().served().any(|served| served.lanes.ids().contains(&model))
    }
}

impl Registered {
    fn has(&self, accelerator: AcceleratorId) -> bool {
        self.accelerators.contains(&accelerator)
    }
}

/// The key of a backend, for logs.
impl std::fmt::Display for BackendKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
