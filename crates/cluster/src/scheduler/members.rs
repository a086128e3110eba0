//! The way to the task that owns the membership, for links and for the owner of the models.

use super::membership::BackendKey;
use super::streams::ModelFiles;
use crate::lock::lock;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use symphony_core::{AcceleratorId, ModelId, SizedProfile};
use symphony_wire::carrier::link::LinkSender;
use symphony_wire::message::link::SchedulerToBackend;
use symphony_wire::message::{LoadedFacts, OrderDone, Registration, VersionKey};
use tokio::sync::{mpsc, oneshot};

/// Bound on messages that wait for the task.
const MESSAGES_MAX: usize = 4096;

/// A backend that is in the pool.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub(crate) key: BackendKey,
    /// What its accelerators are called, by place.
    pub(crate) accelerators: Vec<AcceleratorId>,
}

/// What the task is told.
#[derive(Debug)]
pub(crate) enum Told {
    Arrived {
        registration: Box<Registration>,
        sender: LinkSender<SchedulerToBackend>,
        reply: oneshot::Sender<Result<Registered, String>>,
    },
    Left(BackendKey),
    Leaving(BackendKey),
    Answered {
        backend: BackendKey,
        number: u64,
        result: Result<OrderDone, String>,
    },
    Idle {
        backend: BackendKey,
        place: usize,
    },
    /// Load a version wherever there is a backend.
    Seek {
        version: VersionKey,
        files: ModelFiles,
        reply: Option<LoadReply>,
    },
    Bind {
        version: VersionKey,
        lanes: Vec<ModelId>,
        reply: oneshot::Sender<()>,
    },
    Unbind {
        model: ModelId,
        reply: oneshot::Sender<()>,
    },
    /// Whatever plans will name is wanted by now.
    Settled,
    /// A frontend has come or gone: backends are told.
    Frontends,
}

/// Told what came of a load.
pub(crate) type LoadReply = oneshot::Sender<Result<LoadedFacts, String>>;

/// The way to the task.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    told: mpsc::Sender<Told>,
    shown: Arc<Shown>,
}

/// What others read of the members.
#[derive(Debug, Default)]
struct Shown {
    accelerators: AtomicU32,
    refined: Mutex<BTreeMap<ModelId, SizedProfile>>,
}

/// The way to the task, and what it reads.
pub(crate) fn port() -> (Members, mpsc::Receiver<Told>) {
    let (told, work) = mpsc::channel(MESSAGES_MAX);
    (Members { told, shown: Arc::default() }, work)
}

impl Members {
    /// A backend has registered: its key and the numbers of its accelerators.
    pub(crate) async fn arrived(
        &self,
        registration: Registration,
        sender: LinkSender<SchedulerToBackend>,
    ) -> Result<Registered, String> {
        let (reply, answer) = oneshot::channel();
        let registration = Box::new(registration);
        self.tell(Told::Arrived { registration, sender, reply }).await;
        answer.await.unwrap_or_else(|_| Err("the scheduler is shutting down".to_owned()))
    }

    /// Tells the task, as soon as it has room: whoever says too much is read more slowly.
    pub(crate) async fn tell(&self, told: Told) {
        if self.told.send(told).await.is_err() {
            tracing::error!("the task that keeps the members has ended: restart the scheduler");
        }
    }

    /// The same, for a thread that runs no tasks.
    fn tell_and_wait(&self, told: Told) {
        if self.told.blocking_send(told).is_err() {
            tracing::error!("the task that keeps the members has ended: restart the scheduler");
        }
    }

    /// Has backends load a version. Without a reply nobody waits for it.
    pub(crate) fn seek(&self, version: VersionKey, files: ModelFiles, reply: Option<LoadReply>) {
        self.tell_and_wait(Told::Seek { version, files, reply });
    }

    /// Has backends forget what they have and is not wanted by now.
    pub(crate) fn settled(&self) {
        self.tell_and_wait(Told::Settled);
    }

    /// Has backends run the plans for these lanes with a version; the receiver tells when all that
    /// serve do.
    pub(crate) fn bind(&self, version: VersionKey, lanes: Vec<ModelId>) -> oneshot::Receiver<()> {
        let (reply, bound) = oneshot::channel();
        self.tell_and_wait(Told::Bind { version, lanes, reply });
        bound
    }

    /// Has backends give a model up; the receiver tells when all have.
    pub(crate) fn unbind(&self, model: ModelId) -> oneshot::Receiver<()> {
        let (reply, done) = oneshot::channel();
        self.tell_and_wait(Told::Unbind { model, reply });
        done
    }

    /// What the batches of a model take was measured again.
    pub(crate) fn refined(&self, model: ModelId, costs: SizedProfile) {
        lock(&self.shown.refined).insert(model, costs);
    }

    /// The models that were measured again since this was asked last.
    pub(crate) fn take_refined(&self) -> BTreeMap<ModelId, SizedProfile> {
        std::mem::take(&mut *lock(&self.shown.refined))
    }

    /// There are so many accelerators.
    pub(crate) fn set_accelerators(&self, count: u32) {
        self.shown.accelerators.store(count, Ordering::Relaxed);
    }

    /// How many accelerators there are.
    pub(crate) fn accelerators(&self) -> u32 {
        self.shown.accelerators.load(Ordering::Relaxed)
    }
}
