//! The way to the thread that carries out orders, and what it has to offer.

use crate::lock::lock;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::sync::Mutex;
use symphony_wire::carrier::link::LinkSender;
use symphony_wire::message::link::BackendToScheduler;
use symphony_wire::message::{LoadedFacts, Order};

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Work {
    /// Carry out an order, and answer it by this link.
    Order { number: u64, order: Order, to: LinkSender<BackendToScheduler> },
}

/// The way to the thread. What waits is bounded by the models that there can be: a scheduler orders
/// each once.
#[derive(Clone, Debug)]
pub(crate) struct ModelsPort(Sender<Work>);

/// The way to the thread, and what it reads.
pub(crate) fn port() -> (ModelsPort, Receiver<Work>) {
    let (sender, receiver) = unbounded();
    (ModelsPort(sender), receiver)
}

impl ModelsPort {
    pub(crate) fn send(&self, work: Work) {
        if self.0.send(work).is_err() {
            tracing::error!("the thread that loads models has ended: restart the backend");
        }
    }
}

/// The versions that are loaded, for whoever asks what this backend has.
#[derive(Debug, Default)]
pub(crate) struct Offered(pub(crate) Mutex<Vec<LoadedFacts>>);

impl Offered {
    pub(crate) fn all(&self) -> Vec<LoadedFacts> {
        lock(&self.0).clone()
    }
}
