//! A pool in this process: accelerators, scheduler and the thread that loads models, without
//! any socket.
//!
//! Its threads end when the pool is stopped. An accelerator whose thread ends earlier is lost, and
//! the others go on. A thread of the scheduler that ends earlier breaks the pool: the process that
//! runs the pool is told, and nothing waits for answers that can no longer come.

use crate::config::PoolConfig;
use crate::lanes::LanesThread;
use crate::local::LocalBackend;
use crate::models::Models;
use crate::refused_plans::RefusedPlans;
use crate::threads::join_within;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use symphony_backend::loader::Loader;
use symphony_backend::repository::Repository;
use symphony_backend::worker::{Gaps, InProcessCarrier, Worker, WorkerPort};
use symphony_core::{AcceleratorId, Objective, Span};
use symphony_dispatch::{InFlightEffects, Settings, threads};
use symphony_wire::carrier::in_process::{
    InFlight, PlanBuffers, SchedulerPort, SharedCatalog, scheduler,
};
use symphony_wire::clock::Clock;
use symphony_wire::message::Intake;
use tokio::sync::watch;

/// A batch may run on for so long after the last deadline before a drain goes on without it.
const BATCH_GRACE: Duration = Duration::from_secs(10);

/// The scheduler's threads have nothing left to do when they are to end.
const SCHEDULER_GRACE: Duration = Duration::from_secs(10);

/// An accelerator may take so long to end and to free its models once nothing is asked of it.
const WORKER_GRACE: Duration = Duration::from_secs(10);

/// Why a pool could not be started.
#[derive(Debug, thiserror::Error)]
pub enum PoolStartError {
    /// The system has no room for more threads.
    #[error("cannot start the threads of {0}")]
    Threads(&'static str, #[source] io::Error),
}

/// A pool that cannot go on: a thread of its scheduler has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a thread of the scheduler has ended: the log says why")]
pub struct BrokenPool;

/// The models of a pool in this process.
pub type PoolModels = Models<LocalBackend>;

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
    lanes: LanesThread,
    /// Without a sender the scheduler's threads have ended.
    scheduling: watch::Receiver<()>,
    /// The longest that a request may take whose model has no objective.
    request_max: Span,
}

impl Pool {
    /// Starts accelerators and scheduler; no model is loaded yet.
    ///
    /// # Errors
    /// The system has no room for the threads.
    pub fn start(config: &PoolConfig) -> Result<Pool, PoolStartError> {
        let clock = Clock::start();
        let in_flight = Arc::new(InFlight::new(config.in_flight_max));
        let (scheduler, inboxes) = scheduler(config.layout);
        let buffers = PlanBuffers::default();
        let carrier = InProcessCarrier {
            clock,
            in_flight: Arc::clone(&in_flight),
            scheduler: scheduler.clone(),
            buffers: buffers.clone(),
        };
        // More than that many threads cannot be started, whatever the number is.
        let accelerators = u32::try_from(config.loader.cores.accelerators).unwrap_or(u32::MAX);
        let workers = (0..accelerators)
            .map(|number| Worker::start(AcceleratorId(number), clock, Arc::new(carrier.clone())))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| PoolStartError::Threads("the accelerators", error))?;
        let ports: Vec<WorkerPort> = workers.iter().map(Worker::port).collect();
        let (running, scheduling) = watch::channel(());
        let refused_plans = RefusedPlans::new(carrier, running);
        let send = move |accelerator: AcceleratorId, plan| {
            if let Err(refused) = ports[accelerator.index()].run(plan) {
                refused_plans.settle(accelerator, refused);
            }
        };
        let effects = InFlightEffects::new(Arc::clone(&in_flight), buffers, send);
        let settings = Settings {
            mode: config.mode,
            accelerators,
            low_share: config.low_priority_share,
            overdue_after: config.overdue_after,
        };
        let parties = threads(&settings, inboxes, |_| effects.clone());
        // The threads have the only ones: the last thread tells by its end that the pool is broken.
        drop(effects);
        let threads = symphony_dispatch::spawn(parties, clock, config.spin)
            .map_err(|error| PoolStartError::Threads("the scheduler", error))?;
        let catalog = SharedCatalog::default();
        let request_max = config.request_max;
        let lanes = LanesThread::start(catalog.clone(), scheduler.clone(), clock)
            .map_err(|error| PoolStartError::Threads("the lanes", error))?;
        Ok(Pool {
            clock,
            catalog,
            in_flight,
            scheduler,
            workers,
            threads,
            lanes,
            scheduling,
            request_max,
        })
    }

    /// The table of models to load into this pool.
    #[must_use]
    pub fn models(&self, repository: Repository, loader: Loader) -> PoolModels {
        let gaps = Gaps::of(self.workers.iter().map(Worker::gaps).collect());
        let workers = self.workers.iter().map(Worker::port).collect();
        let backend = LocalBackend::new(loader.in_gaps(gaps), workers);
        Models::new(repository, backend, self.catalog.clone(), self.scheduler.clone())
    }

    /// How many accelerators it has.
    #[must_use]
    pub fn accelerators(&self) -> usize {
        self.workers.len()
    }

    /// Waits until the scheduler ends though nobody stopped it.
    pub async fn broken(&self) -> BrokenPool {
        let mut scheduling = self.scheduling.clone();
        while scheduling.changed().await.is_ok() {}
        BrokenPool
    }

    /// Says that the server is about to shut down: it is not ready any more, but serves the
    /// requests that still arrive.
    pub fn leave(&self) {
        self.catalog.update(|catalog| catalog.intake = catalog.intake.max(Intake::Leaving));
    }

    /// Takes no more requests, without waiting for those that are queued.
    pub fn close(&self) {
        self.catalog.update(|catalog| catalog.intake = Intake::Closed);
    }

    /// Takes no more requests and waits until each that is queued has run or was dropped, and the
    /// last batch has ended. Returns whether all have. A broken pool, or a batch that does not end,
    /// is waited for no longer than the requests' deadlines and some grace: by then every request
    /// has its outcome. Only a pool that has drained can be stopped.
    pub async fn drain(&self) -> bool {
        self.close();
        let Ok(mut drained) = self.scheduler.drain() else { return false };
        let wait = Duration::from_nanos(self.longest_wait().0) + BATCH_GRACE;
        tokio::select! {
            ended = &mut drained => ended.is_ok(),
            // The thread of a scheduler that has drained ends, too.
            _ = self.broken() => drained.try_recv().is_ok(),
            () = tokio::time::sleep(wait) => false,
        }
    }

    /// How long a request that is taken now may be in the system, whatever model it is for.
    fn longest_wait(&self) -> Span {
        let catalog = self.catalog.load();
        let waits = catalog.served().map(|model| match model.objective {
            Objective::Slo(slo) => slo,
            Objective::Soft(_) => self.request_max,
        });
        waits.max().unwrap_or(Span::ZERO)
    }

    /// Ends the threads of a drained pool. Returns whether all have ended: an accelerator that has
    /// stopped answering is not waited for, and the log names it.
    #[must_use]
    pub fn stop(self) -> bool {
        let lanes = join_within(self.lanes.stop(), SCHEDULER_GRACE);
        drop(self.scheduler);
        let scheduler = self.threads.into_iter().map(|thread| join_within(thread, SCHEDULER_GRACE));
        let ended = scheduler.fold(lanes, |all, ended| all & ended);
        let workers = self.workers.into_iter().map(|worker| worker.stop(WORKER_GRACE));
        workers.fold(ended, |all, ended| all & ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Folder, block_on, served, submit};
    use symphony_wire::carrier::in_process::SubmitError;
    use symphony_wire::message::{AcceleratorState, Outcome};

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
            // A request that reaches the scheduler before its thread has ended fails.
            loop {
                match ask(&pool).await {
                    Err(SubmitError::Stopped) => break,
                    asked => assert!(matches!(asked, Ok(Outcome::Failed(_))), "{asked:?}"),
                }
            }
        });
        assert!(pool.stop());
    }

    async fn state(pool: &Pool, accelerator: usize) -> AcceleratorState {
        let statistics = pool.scheduler.statistics().unwrap().await.unwrap();
        statistics.accelerators[accelerator].state
    }

    #[test]
    fn an_accelerator_that_ends_is_lost_and_the_others_go_on() {
        let folder = Folder::new();
        folder.write("m", 1);
        let (mut pool, _models) = folder.pool(2);
        assert!(pool.workers.remove(0).stop(WORKER_GRACE));
        block_on(async {
            for _ in 0..3 {
                let Ok(Outcome::Done(answer)) = ask(&pool).await else { panic!("not answered") };
                assert_eq!(answer.execution.accelerator, AcceleratorId(1));
            }
            assert_eq!(state(&pool, 0).await, AcceleratorState::Lost);
            assert_eq!(pool.scheduler.serving(), Ok(1));
            let resumed = pool.scheduler.serve(AcceleratorId(0), true).unwrap().await;
            assert_eq!(resumed, Ok(Some(AcceleratorState::Lost)));
            assert!(pool.drain().await);
        });
        assert!(pool.stop());
    }

    #[test]
    fn a_pool_that_has_lost_every_accelerator_stays_up_and_drops_what_cannot_run() {
        let folder = Folder::new();
        folder.write_within("m", 1, 50);
        let (mut pool, _models) = folder.pool(1);
        assert!(pool.workers.remove(0).stop(WORKER_GRACE));
        block_on(async {
            for _ in 0..2 {
                let outcome = ask(&pool).await;
                assert!(matches!(outcome, Ok(Outcome::Dropped { .. })), "{outcome:?}");
            }
            assert_eq!(pool.scheduler.serving(), Ok(0));
            assert!(pool.drain().await);
        });
        assert!(pool.in_flight.is_empty());
        assert!(pool.stop());
    }

    #[test]
    fn a_scheduler_that_has_ended_breaks_the_pool() {
        let (pool, _folder) = pool();
        drop(pool.scheduler.drain().unwrap());
        block_on(async {
            assert_eq!(pool.broken().await, BrokenPool);
            assert!(ask(&pool).await.is_err());
            assert!(!pool.drain().await);
        });
    }

    #[test]
    fn loading_is_given_up_when_the_server_shuts_down() {
        let (pool, folder) = pool();
        let mut models = folder.models_of(&pool);
        pool.close();
        models.load_all(|name, _| panic!("{name} is told of")).unwrap();
        assert!(block_on(pool.drain()));
        assert!(pool.stop());
    }
}
