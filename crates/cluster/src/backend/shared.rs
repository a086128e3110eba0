//! What the tasks and threads of a backend's end share.

use super::config::BackendConfig;
use super::data_links::DataLinks;
use super::fetching::Fetching;
use super::files_port::FilesPort;
use super::orders::{ModelsPort, Offered};
use super::sent::Sent;
use crate::lock::lock;
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use symphony_backend::worker::WorkerPort;
use symphony_core::AcceleratorId;
use symphony_wire::carrier::link::{Hello, LinkPurpose, LinkSender, Role};
use symphony_wire::clock::Clock;
use symphony_wire::message::link::BackendToScheduler;
use tokio::sync::{Notify, watch};

/// The scheduler whose plans run.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) epoch: u64,
    pub(crate) sender: LinkSender<BackendToScheduler>,
}

/// What the tasks and threads of a backend's end share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: BackendConfig,
    pub(crate) clock: Clock,
    pub(crate) life: AtomicU64,
    /// What the accelerators are called in the pool, by place; empty until a scheduler says so.
    pub(crate) numbers: ArcSwap<Vec<AcceleratorId>>,
    pub(crate) active: Mutex<Option<Active>>,
    /// The highest epoch that a scheduler had.
    pub(crate) epoch: AtomicU64,
    pub(crate) fetching: Mutex<Fetching>,
    /// A batch waits for inputs.
    pub(crate) waits: Notify,
    pub(crate) sent: Mutex<Sent>,
    /// The accelerators whose threads have failed, by place.
    pub(crate) lost: Mutex<BTreeSet<AcceleratorId>>,
    pub(crate) data: Mutex<DataLinks>,
    pub(crate) workers: OnceLock<Vec<WorkerPort>>,
    pub(crate) models: ModelsPort,
    /// The way to the thread that receives the files of models.
    pub(crate) files: FilesPort,
    /// Where those are.
    pub(crate) streamed: PathBuf,
    pub(crate) offered: Offered,
    /// The process was told to end.
    pub(crate) is_leaving: watch::Sender<bool>,
    /// The scheduler has seen to it that nothing is planned for this backend any more.
    pub(crate) is_drained: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    pub(crate) fn hello(&self, purpose: LinkPurpose) -> Hello {
        Hello {
            role: Role::Backend,
            purpose,
            name: self.config.name.clone(),
            life: self.life(),
            capabilities: 0,
            details: Bytes::new(),
        }
    }

    /// Tells whoever waits for the end of the last batch.
    pub(crate) fn look_whether_drained(&self) {
        let sent = lock(&self.sent);
        if sent.is_last && sent.is_empty() {
            self.is_drained.send_replace(true);
        }
    }
}
