//! A backend in a process of its own: its accelerators run the plans of the scheduler that is active.
//!
//! - `fetching`: the batches whose inputs are on their way.
//! - `sent`: the batches that have not ended.
//! - `carrier`: what an accelerator's thread sees of the cluster.
//! - `scheduling`: the links to the schedulers, of which one is active.
//! - `data_links`, `frontends`: the links to the frontends.
//! - `orders`, `models`: the thread that carries out orders: loads models, binds them to lanes, gives
//!   them up.
//! - `files_port`, `streamed`, `store`: the thread that receives the files of models, and where it keeps them.
//! - `shared`: what all of these share.
//!
//! A backend has a *life*. Whoever could not hear of it for too long gives that life up: its results
//! are refused from then on. It comes back with a new one, with the models that it has.

mod carrier;
mod config;
mod data_links;
mod fetching;
mod files_port;
mod frontends;
mod models;
mod orders;
mod scheduling;
mod sent;
mod shared;
mod store;
mod streamed;

pub use config::BackendConfig;

use crate::dial::{Dialled, keep};
use crate::error::StartError;
use crate::life::life;
use crate::lock::lock;
use arc_swap::ArcSwap;
use orders::Offered;
use scheduling::serve;
use shared::Shared;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use store::Store;
use symphony_backend::loader::Loader;
use symphony_backend::worker::{Gaps, Worker, WorkerCarrier};
use symphony_core::AcceleratorId;
use symphony_wire::carrier::link::LinkPurpose;
use tokio::sync::{Notify, watch};

/// How long an accelerator may take to end once nothing is asked of it.
const WORKER_GRACE: Duration = Duration::from_secs(10);

/// A backend at work.
#[derive(Debug)]
pub struct BackendEnd {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    drained: watch::Receiver<bool>,
}

impl BackendEnd {
    /// Starts the accelerators' threads and the one that loads models, and keeps a link to every
    /// scheduler from now on. Runs on the tokio runtime that it is called on.
    ///
    /// # Errors
    /// The system has no room for the threads.
    pub fn start(config: BackendConfig, loader: Loader) -> Result<BackendEnd, StartError> {
        let (models, orders) = orders::port();
        let (files, to_receive) = files_port::port();
        let streamed = loader.config().cache_dir.join("streamed");
        let store = Store::new(streamed.clone(), &config.name, config.streamed_bytes_max);
        let (is_leaving, _) = watch::channel(false);
        let (is_drained, drained) = watch::channel(false);
        let count = config.accelerators.len();
        let shared = Arc::new(Shared {
            clock: config.links.clock,
            life: AtomicU64::new(life()),
            numbers: ArcSwap::default(),
            active: Mutex::default(),
            epoch: AtomicU64::new(0),
            fetching: Mutex::default(),
            waits: Notify::new(),
            sent: Mutex::default(),
            lost: Mutex::default(),
            data: Mutex::default(),
            workers: OnceLock::new(),
            models,
            files,
            streamed,
            offered: Offered::default(),
            is_leaving,
            is_drained,
            config,
        });
        let failed = |what| move |error| StartError::Thread(what, error);
        let workers = (0u32..).take(count).map(|place| {
            let carrier: Arc<dyn WorkerCarrier> = Arc::clone(&shared) as _;
            Worker::start(AcceleratorId(place), shared.clock, carrier)
        });
        let workers = workers.collect::<Result<Vec<_>, _>>().map_err(failed("accelerator"))?;
        let ports: Vec<_> = workers.iter().map(Worker::port).collect();
        let loader = loader.in_gaps(Gaps::of(workers.iter().map(Worker::gaps).collect()));
        models::start(orders, loader, ports.clone(), Arc::clone(&shared))
            .map_err(failed("models"))?;
        streamed::start(to_receive, store, Arc::clone(&shared)).map_err(failed("files"))?;
        // Set once, before anybody is told of this backend.
        let _ = shared.workers.set(ports);
        tokio::spawn(frontends::start_overdue(Arc::clone(&shared)));
        for to in shared.config.schedulers.clone() {
            let settings = shared.config.links.clone();
            let dialled = Dialled { to, settings, what: "scheduler" };
            let (hello, each) = (Arc::clone(&shared), Arc::clone(&shared));
            let each = move |link| serve(link, Arc::clone(&each));
            tokio::spawn(keep(dialled, move || hello.hello(LinkPurpose::Scheduling), each));
        }
        Ok(BackendEnd { shared, workers, drained })
    }

    /// The epoch of the scheduler that is active; `None` while none is.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        lock(&self.shared.active).as_ref().map(|active| active.epoch)
    }

    /// Leaves the pool: the scheduler sends no more batches, and those that are here end. Returns
    /// whether that was done within `wait`.
    pub async fn leave(&mut self, wait: Duration) -> bool {
        self.shared.is_leaving.send_replace(true);
        self.shared.tell_leaving();
        if self.epoch().is_none() {
            // Nobody plans for it, and whoever takes over is told that it leaves.
            self.shared.drain();
        }
        let drained = self.drained.wait_for(|drained| *drained);
        tokio::time::timeout(wait, drained).await.is_ok_and(|drained| drained.is_ok())
    }

    /// Ends the accelerators' threads. Returns whether all have ended.
    #[must_use]
    pub fn stop(self) -> bool {
        let workers = self.workers.into_iter().map(|worker| worker.stop(WORKER_GRACE));
        workers.fold(true, |all, ended| all & ended)
    }
}
