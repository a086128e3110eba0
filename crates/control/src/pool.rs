//! A pool in this process: accelerators, scheduler and the thread that loads models, without
//! any socket.
//!
//! Its threads end when the pool is stopped. No other thread can do the work of one that ends
//! earlier, so the whole pool then counts as broken: its owner is told, and nothing waits for
//! messages that cannot come any more.

use crate::config::PoolConfig;
use crate::models::{Destinations, Models};
use crate::refusals::Refusals;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use symphony_backend::loader::Loader;
use symphony_backend::repository::Repository;
use symphony_backend::worker::{Surroundings, Worker, WorkerPort};
use symphony_core::{AcceleratorId, Span};
use symphony_dispatch::{InFlightEffects, Settings, threads};
use symphony_wire::catalog::{Intake, SharedCatalog};
use symphony_wire::clock::Clock;
use symphony_wire::inflight::InFlight;
use symphony_wire::schedule::{SchedulerPort, scheduler};
use tokio::sync::watch;

/// A batch may run on for so long after the last deadline before a drain goes on without it.
const BATCH_GRACE: Duration = Duration::from_secs(10);

/// An accelerator may take so long to end and to free its models once nothing is asked of it.
const WORKER_GRACE: Duration = Duration::from_secs(10);

/// Why a pool could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system has no room for more threads.
    #[error("cannot start the threads of {0}")]
    Threads(&'static str, #[source] io::Error),
}

/// Why a pool cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenPool {
    /// A thread of the scheduler has ended.
    #[error("the scheduler's thread has ended: the log says why")]
    Scheduler,
    /// An accelerator cannot be used any more.
    #[error("{0}")]
    Accelerator(String),
}

/// The running pool.
#[derive(Debug)]
pub struct Pool {
    /// The process's clock.
    pub clock: Clock,
    /// What it serves.
    pub catalog: SharedCatalog,
    /// The requests that have no outcome yet.
    pub in_flight: Arc<InFlight>,
    /// The way to its scheduler.
    pub scheduler: SchedulerPort,
    workers: Vec<Worker>,
    threads: Vec<JoinHandle<()>>,
    /// What broke; without a sender the scheduler's thread has ended.
    broken: watch::Receiver<Option<String>>,
}

impl Pool {
    /// Starts accelerators and scheduler; no model is loaded yet.
    ///
    /// # Errors
    /// The system has no room for the threads.
    pub fn start(config: &PoolConfig) -> Result<Pool, StartError> {
        let clock = Clock::start();
        let in_flight = Arc::new(InFlight::new(config.in_flight_max));
        let (scheduler, inboxes) = scheduler(config.layout);
        let surroundings =
            Surroundings { clock, in_flight: Arc::clone(&in_flight), scheduler: scheduler.clone() };
        // More than that many threads cannot be started, whatever the number is.
        let accelerators = u32::try_from(config.loader.cores.accelerators).unwrap_or(u32::MAX);
        let workers = (0..accelerators)
            .map(|number| Worker::start(AcceleratorId(number), surroundings.clone()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| StartError::Threads("the accelerators", error))?;
        let ports: Vec<WorkerPort> = workers.iter().map(Worker::port).collect();
        let (breaking, broken) = watch::channel(None);
        let refusals = Refusals::new(surroundings, breaking);
        let send = move |accelerator: AcceleratorId, plan| {
            if let Err(refused) = ports[accelerator.index()].run(plan) {
                refusals.settle(accelerator, refused);
            }
        };
        let effects = InFlightEffects::new(Arc::clone(&in_flight), send);
        let settings = Settings {
            mode: config.mode,
            accelerators,
            low_share: config.low_priority_share,
            overdue_after: config.overdue_after,
        };
        let scheduling = threads(&settings, inboxes, |_| effects.clone());
        // The threads' alone: the last of them tells by its end that the pool is broken.
        drop(effects);
        let threads = symphony_dispatch::spawn(scheduling, clock, config.spin)
            .map_err(|error| StartError::Threads("the scheduler", error))?;
        let catalog = SharedCatalog::default();
        Ok(Pool { clock, catalog, in_flight, scheduler, workers, threads, broken })
    }

    /// The table of models to load into this pool.
    #[must_use]
    pub fn models(&self, repository: Repository, loader: Loader) -> Models {
        let to = Destinations {
            catalog: self.catalog.clone(),
            scheduler: self.scheduler.clone(),
            workers: self.workers.iter().map(Worker::port).collect(),
        };
        Models::new(repository, loader, to)
    }

    /// How many accelerators it has.
    #[must_use]
    pub fn accelerators(&self) -> usize {
        self.workers.len()
    }

    /// Waits until a thread of the pool ends though nobody stopped it, and says which.
    pub async fn broken(&self) -> BrokenPool {
        let mut broken = self.broken.clone();
        match broken.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(what)) => BrokenPool::Accelerator(what.clone()),
            _ => BrokenPool::Scheduler,
        }
    }

    /// Takes no new requests and waits until each that is queued has run or was dropped, and the
    /// last batch has ended. Whether that came to pass: a broken pool, or a batch that does not
    /// end, is waited for no longer than the requests' deadlines and some grace, for by then
    /// every request has its outcome. Only a pool that did drain can be stopped.
    pub async fn drain(&self) -> bool {
        self.catalog.update(|catalog| catalog.intake = Intake::Closed);
        let Ok(mut drained) = self.scheduler.drain() else { return false };
        let slo = self.catalog.load().models.values().map(|model| model.slo).max();
        let wait = Duration::from_nanos(slo.unwrap_or(Span::ZERO).0) + BATCH_GRACE;
        tokio::select! {
            ended = &mut drained => ended.is_ok(),
            // The thread of a scheduler that has drained ends, too.
            _ = self.broken() => drained.try_recv().is_ok(),
            () = tokio::time::sleep(wait) => false,
        }
    }

    /// Ends the threads of a drained pool, but for those of accelerators that have stopped
    /// answering. Whether there was none of these.
    #[must_use]
    pub fn stop(self) -> bool {
        drop(self.scheduler);
        if self.threads.into_iter().filter_map(|thread| thread.join().err()).count() > 0 {
            tracing::error!("a thread of the scheduler panicked");
        }
        let all = self.workers.into_iter().map(|worker| worker.stop(WORKER_GRACE));
        all.fold(true, |ended, has| ended & has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Folder, block_on, served, submit};
    use symphony_wire::inflight::Outcome;
    use symphony_wire::schedule::SubmitError;

    /// A pool of one accelerator and one model, `m`, that answers in a millisecond.
    fn pool() -> (Pool, Folder) {
        let folder = Folder::new();
        folder.write("m", 1);
        (folder.pool(1).0, folder)
    }

    async fn ask(pool: &Pool) -> Result<Outcome, SubmitError> {
        let model = served(pool, "m").unwrap();
        Ok(submit(pool, &model)?.await.unwrap())
    }

    #[test]
    fn a_pool_drains_and_stops() {
        let (pool, _folder) = pool();
        block_on(async {
            assert!(matches!(ask(&pool).await, Ok(Outcome::Done(_))));
            assert!(pool.drain().await);
            assert!(matches!(ask(&pool).await, Err(SubmitError::Stopped)));
        });
        assert!(pool.stop());
    }

    #[test]
    fn an_accelerator_that_has_ended_breaks_the_pool_and_holds_nothing_up() {
        let (mut pool, _folder) = pool();
        assert!(pool.workers.remove(0).stop(WORKER_GRACE));
        block_on(async {
            let Ok(Outcome::Failed(failed)) = ask(&pool).await else { panic!("not failed") };
            assert!(failed.contains("accelerator 0"), "{failed}");
            let broken = pool.broken().await.to_string();
            assert!(broken.contains("accelerator 0"), "{broken}");
            assert!(!pool.drain().await);
        });
        assert!(pool.in_flight.is_empty());
    }

    #[test]
    fn a_scheduler_that_has_ended_breaks_the_pool() {
        let (pool, _folder) = pool();
        drop(pool.scheduler.drain().unwrap());
        block_on(async {
            let broken = pool.broken().await.to_string();
            assert!(broken.contains("scheduler"), "{broken}");
            assert!(ask(&pool).await.is_err());
            assert!(!pool.drain().await);
        });
    }

    #[test]
    fn loading_is_given_up_when_the_server_shuts_down() {
        let (pool, folder) = pool();
        let mut models = folder.models_of(&pool);
        pool.catalog.update(|catalog| catalog.intake = Intake::Closed);
        models.load_all(|name, _| panic!("{name} is told of")).unwrap();
        assert!(block_on(pool.drain()));
        assert!(pool.stop());
    }
}
