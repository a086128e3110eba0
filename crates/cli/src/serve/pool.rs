//! A pool in this process: accelerators, scheduler and the thread that loads models, without
//! any socket.
//!
//! Its threads end when the pool is stopped. One that ends earlier takes with it what only it
//! could do, so the whole pool counts as broken: whoever runs it is told, and nothing waits for
//! what cannot come any more.

use super::models::{Destinations, Models};
use crate::config::PoolConfig;
use anyhow::{Context, Result, anyhow};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use symphony_backend::loader::Loader;
use symphony_backend::repository::Repository;
use symphony_backend::worker::{Refused, Surroundings, Worker, WorkerPort};
use symphony_core::{AcceleratorId, Span};
use symphony_dispatch::{InFlightEffects, Settings, threads};
use symphony_wire::catalog::{Intake, SharedCatalog};
use symphony_wire::clock::Clock;
use symphony_wire::inflight::{InFlight, Outcome};
use symphony_wire::schedule::{BatchPlan, Completion, SchedulerPort, SubmitError, scheduler};
use tokio::sync::watch;

/// A batch may run on for so long after the last deadline before a drain goes on without it.
const BATCH_GRACE: Duration = Duration::from_secs(10);

/// An accelerator may take so long to end and to free its models once nothing is asked of it.
const WORKER_GRACE: Duration = Duration::from_secs(10);

/// The running pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) clock: Clock,
    pub(crate) catalog: SharedCatalog,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) scheduler: SchedulerPort,
    workers: Vec<Worker>,
    threads: Vec<JoinHandle<()>>,
    /// What broke; without a sender the scheduler's thread has ended.
    broken: watch::Receiver<Option<String>>,
}

impl Pool {
    /// Starts accelerators and scheduler; no model is loaded yet.
    pub(crate) fn start(config: &PoolConfig) -> Result<Pool> {
        let clock = Clock::start();
        let in_flight = Arc::new(InFlight::new(config.in_flight_max));
        let (scheduler, inboxes) = scheduler(config.layout);
        let surroundings =
            Surroundings { clock, in_flight: Arc::clone(&in_flight), scheduler: scheduler.clone() };
        let accelerators = u32::try_from(config.loader.cores.accelerators)?;
        let workers = (0..accelerators)
            .map(|number| Worker::start(AcceleratorId(number), surroundings.clone()))
            .collect::<Result<Vec<_>, _>>()
            .context("cannot start the accelerators' threads")?;
        let ports: Vec<WorkerPort> = workers.iter().map(Worker::port).collect();
        let (breaking, broken) = watch::channel(None);
        let refusals = Refusals { surroundings, breaking: Arc::new(breaking) };
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
            .context("cannot start the scheduler's threads")?;
        let catalog = SharedCatalog::default();
        Ok(Pool { clock, catalog, in_flight, scheduler, workers, threads, broken })
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

    /// Waits until a thread of the pool ends though nobody stopped it, and says which.
    pub(crate) async fn broken(&self) -> anyhow::Error {
        let mut broken = self.broken.clone();
        match broken.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(what)) => anyhow!("{what}"),
            _ => anyhow!("the scheduler's thread has ended: the log says why"),
        }
    }

    /// Takes no new requests and waits until each that is queued has run or was dropped, and the
    /// last batch has ended. Whether that came to pass: a broken pool, or a batch that does not
    /// end, is waited for no longer than the requests' deadlines and some grace, for by then
    /// every request has its outcome. Only a pool that did drain can be stopped.
    pub(crate) async fn drain(&self) -> bool {
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
    pub(crate) fn stop(self) -> bool {
        drop(self.scheduler);
        if self.threads.into_iter().filter_map(|thread| thread.join().err()).count() > 0 {
            tracing::error!("a thread of the scheduler panicked");
        }
        let all = self.workers.into_iter().map(|worker| worker.stop(WORKER_GRACE));
        all.fold(true, |ended, has| ended & has)
    }
}

/// What becomes of plans that an accelerator does not take. Works on the scheduler's threads, and
/// ends with them.
#[derive(Clone)]
struct Refusals {
    surroundings: Surroundings,
    breaking: Arc<watch::Sender<Option<String>>>,
}

impl Refusals {
    fn settle(&self, accelerator: AcceleratorId, refused: Refused) {
        let text = format!("accelerator {}: {refused}", accelerator.0);
        tracing::error!("{text}");
        let (plan, stopped) = match refused {
            Refused::Full(plan) => (plan, false),
            Refused::Stopped(plan) => (plan, true),
        };
        self.answer(&plan, &text);
        if stopped {
            // Never completed, the batch keeps the scheduler from granting this accelerator more.
            self.breaking.send_replace(Some(text));
        } else if let Err(error) = self.complete(accelerator, &plan) {
            tracing::error!("cannot say so: {error}");
            self.breaking.send_replace(Some(text));
        }
    }

    fn answer(&self, plan: &BatchPlan, text: &str) {
        for request in &plan.requests {
            if let Some(pending) = self.surroundings.in_flight.take(request.id) {
                pending.answer(Outcome::Failed(format!("the batch could not be run: {text}")));
            }
        }
    }

    /// Says that the batch has ended.
    fn complete(&self, accelerator: AcceleratorId, plan: &BatchPlan) -> Result<(), SubmitError> {
        let (taken, finished) = (plan.decided, plan.decided);
        let &BatchPlan { batch, model, .. } = plan;
        let exec = Span::ZERO;
        let completion = Completion { accelerator, batch, model, taken, exec, finished };
        self.surroundings.scheduler.completed(completion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::PoolArgs;
    use symphony_core::{BatchId, Class, ModelId, Request};
    use symphony_frontend::{InProcess, InferError, InputTensor, Services};
    use symphony_wire::repository::commands;
    use symphony_wire::schedule::{Layout, Message};
    use symphony_wire::tensor::{DataType, Inputs};
    use tokio::sync::oneshot;

    const MODEL: &str = "slo_ms = 3600000\nmax_batch = 4\nengine = \"emulated\"\n\
        [emulated]\nalpha_ms = 0\nbeta_ms = 1\n\
        [[input]]\nname = \"x\"\ndatatype = \"UINT8\"\nshape = [1]\n\
        [[output]]\nname = \"y\"\ndatatype = \"UINT8\"\nshape = [1]\n";

    /// A pool of one accelerator and one model, `m`, that answers in a millisecond; its objective
    /// is an hour, so that a test that waits for a deadline does not end.
    fn pool() -> (Pool, InProcess, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("models/m");
        std::fs::create_dir_all(&model).unwrap();
        std::fs::write(model.join("model.toml"), MODEL).unwrap();
        let args = PoolArgs { cache_dir: Some(folder.path().join("cache")), ..PoolArgs::default() };
        let config = PoolConfig::resolve(args).unwrap();
        let pool = Pool::start(&config).unwrap();
        let repository = Repository::open(&folder.path().join("models")).unwrap();
        let mut models = pool.models(repository, Loader::new(config.loader));
        models.load_all(|_, loaded| assert!(loaded.is_ok(), "{loaded:?}")).unwrap();
        let client = InProcess::new(&Services {
            catalog: pool.catalog.clone(),
            inflight: Arc::clone(&pool.in_flight),
            scheduler: pool.scheduler.clone(),
            repository: commands().0,
            clock: pool.clock,
        });
        (pool, client, folder)
    }

    async fn ask(client: &InProcess) -> Result<(), InferError> {
        let input = InputTensor {
            name: "x".to_owned(),
            datatype: DataType::Uint8,
            shape: vec![1, 1],
            data: vec![7].into(),
        };
        client.infer("m", vec![input], None).await.map(drop)
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(work)
    }

    #[test]
    fn a_pool_drains_and_stops() {
        let (pool, client, _folder) = pool();
        block_on(async {
            assert_eq!(ask(&client).await, Ok(()));
            assert!(pool.drain().await);
            assert!(matches!(ask(&client).await, Err(InferError::Unavailable(_))));
        });
        assert!(pool.stop());
    }

    #[test]
    fn an_accelerator_that_has_ended_breaks_the_pool_and_holds_nothing_up() {
        let (mut pool, client, _folder) = pool();
        assert!(pool.workers.remove(0).stop(WORKER_GRACE));
        block_on(async {
            let failed = ask(&client).await.unwrap_err().to_string();
            assert!(failed.contains("accelerator 0"), "{failed}");
            let broken = pool.broken().await.to_string();
            assert!(broken.contains("accelerator 0"), "{broken}");
            assert!(!pool.drain().await);
        });
        assert!(pool.in_flight.is_empty());
    }

    #[test]
    fn a_scheduler_that_has_ended_breaks_the_pool() {
        let (pool, client, _folder) = pool();
        drop(pool.scheduler.drain().unwrap());
        block_on(async {
            let broken = pool.broken().await.to_string();
            assert!(broken.contains("scheduler"), "{broken}");
            assert!(ask(&client).await.is_err());
            assert!(!pool.drain().await);
        });
    }

    #[test]
    fn loading_is_given_up_when_the_server_shuts_down() {
        let (pool, _client, folder) = pool();
        let repository = Repository::open(&folder.path().join("models")).unwrap();
        let args = PoolArgs { cache_dir: Some(folder.path().into()), ..PoolArgs::default() };
        let loader = Loader::new(PoolConfig::resolve(args).unwrap().loader);
        let mut models = pool.models(repository, loader);
        pool.catalog.update(|catalog| catalog.intake = Intake::Closed);
        models.load_all(|name, _| panic!("{name} is told of")).unwrap();
        assert!(block_on(pool.drain()));
        assert!(pool.stop());
    }

    #[test]
    fn a_plan_for_which_there_was_no_room_fails_and_completes() {
        let (scheduler, mut threads) = scheduler(Layout::TOGETHER);
        let (breaking, broken) = watch::channel(None);
        let in_flight = Arc::new(InFlight::new(1));
        let surroundings =
            Surroundings { clock: Clock::start(), in_flight: Arc::clone(&in_flight), scheduler };
        let (reply, mut outcome) = oneshot::channel();
        let id = in_flight.admit(Inputs { rows: 1, tensors: vec![] }, reply).unwrap();
        let now = surroundings.clock.now();
        let plan = BatchPlan {
            batch: BatchId(5),
            model: ModelId::first(0),
            requests: vec![Request {
                id,
                arrival: now,
                deadline: now,
                rows: 1,
                class: Class::High,
            }],
            rows: 1,
            exec: Span::ZERO,
            decided: now,
        };
        let breaking = Arc::new(breaking);
        Refusals { surroundings, breaking }.settle(AcceleratorId(0), Refused::Full(plan));
        assert!(matches!(outcome.try_recv(), Ok(Outcome::Failed(_))));
        let mut completed = Vec::new();
        threads[0].matcher.as_mut().unwrap().drain(9, |message| match message {
            Message::Plain(completion) => completed.push((completion.batch, completion.exec)),
            Message::Control(other) => panic!("{other:?}"),
        });
        assert_eq!(completed, [(BatchId(5), Span::ZERO)]);
        assert!(broken.borrow().is_none());
    }
}
