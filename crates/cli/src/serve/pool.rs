//! A pool in this process: accelerators, scheduler and the thread that loads models, without
//! any socket.

use super::models::{Destinations, Models};
use crate::config::PoolConfig;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::thread::JoinHandle;
use symphony_backend::loader::Loader;
use symphony_backend::repository::Repository;
use symphony_backend::worker::{Refused, Surroundings, Worker, WorkerPort};
use symphony_core::AcceleratorId;
use symphony_dispatch::Loop;
use symphony_wire::catalog::SharedCatalog;
use symphony_wire::clock::Clock;
use symphony_wire::inflight::{InFlight, Outcome};
use symphony_wire::schedule::{BatchPlan, SchedulerPort, ToScheduler, inbox};
use tokio::sync::oneshot;

/// The running pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) clock: Clock,
    pub(crate) catalog: SharedCatalog,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) scheduler: SchedulerPort,
    workers: Vec<Worker>,
    thread: JoinHandle<()>,
}

impl Pool {
    /// Starts accelerators and scheduler; no model is loaded yet.
    pub(crate) fn start(config: &PoolConfig) -> Result<Pool> {
        let clock = Clock::start();
        let in_flight = Arc::new(InFlight::new(config.in_flight_max));
        let (scheduler, messages) = inbox();
        let surroundings =
            Surroundings { clock, in_flight: Arc::clone(&in_flight), scheduler: scheduler.clone() };
        let accelerators = u32::try_from(config.loader.cores.accelerators)?;
        let workers = (0..accelerators)
            .map(|number| Worker::start(AcceleratorId(number), surroundings.clone()))
            .collect::<Result<Vec<_>, _>>()
            .context("cannot start the accelerators' threads")?;
        let ports: Vec<WorkerPort> = workers.iter().map(Worker::port).collect();
        let fetch = Arc::clone(&in_flight);
        let send = move |accelerator: AcceleratorId, plan| {
            if let Err(refused) = ports[accelerator.index()].run(plan) {
                fail(&fetch, refused);
            }
        };
        let scheduling = Loop::new(config.rule, accelerators, Arc::clone(&in_flight), send);
        let thread = symphony_dispatch::spawn(scheduling, messages, clock)
            .context("cannot start the scheduler's thread")?;
        let catalog = SharedCatalog::default();
        Ok(Pool { clock, catalog, in_flight, scheduler, workers, thread })
    }

    /// The table of models to load into this pool.
    pub(crate) fn models(&self, repository: Repository, loader: Loader) -> Models {
        let to = Destinations {
            catalog: self.catalog.clone(),
            scheduler: self.scheduler.clone(),
            workers: self.workers.iter().map(Worker::port).collect(),
        };
        Models::new(repository, loader, to)
    }

    /// Takes no new requests and waits until each that is queued has run or was dropped.
    pub(crate) async fn drain(&self) {
        self.catalog.update(|catalog| catalog.draining = true);
        let (done, drained) = oneshot::channel();
        if self.scheduler.send(ToScheduler::Drain(done)).is_ok() {
            let _ = drained.await;
        }
    }

    /// Ends the threads of a drained pool.
    pub(crate) fn stop(self) {
        drop(self.scheduler);
        if self.thread.join().is_err() {
            tracing::error!("the scheduler's thread panicked");
        }
        for worker in self.workers {
            worker.stop();
        }
    }
}

/// An accelerator whose thread has ended completes nothing, so it is granted nothing more; what
/// was on its way to it gets its outcome here.
fn fail(in_flight: &InFlight, refused: Refused) {
    let text = format!("the batch could not be run: {refused}");
    tracing::error!("{text}");
    let (Refused::Full(plan) | Refused::Stopped(plan)) = refused;
    let BatchPlan { requests, .. } = plan;
    for request in requests {
        if let Some(pending) = in_flight.take(request.id) {
            pending.answer(Outcome::Failed(text.clone()));
        }
    }
}
