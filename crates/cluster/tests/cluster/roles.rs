//! The processes of a cluster, each on a runtime of its own.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use symphony_backend::engine::Cores;
use symphony_backend::loader::{Loader, LoaderConfig, PYTHON_DEFAULT};
use symphony_backend::profiling::Effort;
use symphony_backend::repository::Repository;
use symphony_cluster::backend::{BackendConfig, BackendEnd};
use symphony_cluster::frontend::{FrontendConfig, FrontendEnd};
use symphony_cluster::scheduler::{ActingScheduler, SchedulerConfig, Standby, Tenure};
use symphony_control::models_thread::{ModelsThread, StartPolicy};
use symphony_core::sched::Mode;
use symphony_core::{Class, Objective, Profile, Request, SizedProfile, Span};
use symphony_dispatch::Settings;
use symphony_exchange::Spin;
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::Layout;
use symphony_wire::carrier::link::{Endpoint, LinkSettings};
use symphony_wire::clock::Clock;
use symphony_wire::message::{
    AcceleratorFacts, Answer, LoadedFacts, Outcome, ProfileOrigin, Submit,
};
use symphony_wire::tensor::{Inputs, Signature};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// Nothing takes longer on any machine.
const LONG: Duration = Duration::from_secs(30);

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

pub(crate) fn anywhere() -> Endpoint {
    "127.0.0.1:0".parse().unwrap()
}

/// Links that end only when their sockets do, however busy the machine is.
pub(crate) fn links() -> LinkSettings {
    let usual = LinkSettings::new(Clock::start());
    LinkSettings { heartbeat: Duration::from_millis(200), missed_max: 100, ..usual }
}

/// A repository of emulated models, removed at the end of the test.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    /// Models of one byte, by name and the time that a batch of any size runs.
    pub(crate) fn of(models: &[(&str, u64)]) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        fs::create_dir(folder.models()).unwrap();
        models.iter().for_each(|(name, run_ms)| folder.write(name, *run_ms, 4));
        folder
    }

    pub(crate) fn models(&self) -> PathBuf {
        self.0.path().join("models")
    }

    /// Its objective is longer than any test.
    pub(crate) fn write(&self, name: &str, run_ms: u64, max_batch: u32) {
        self.write_of(name, run_ms, max_batch, 1);
    }

    /// One whose inputs have so many bytes.
    pub(crate) fn write_of(&self, name: &str, run_ms: u64, max_batch: u32, bytes: usize) {
        let settings = format!(
            "slo_ms = 600000\nmax_batch = {max_batch}\nengine = \"emulated\"\n\
             [emulated]\nalpha_ms = 0.001\nbeta_ms = {run_ms}\n\
             [[input]]\nname = \"x\"\ndatatype = \"UINT8\"\nshape = [{bytes}]\n\
             [[output]]\nname = \"y\"\ndatatype = \"UINT8\"\nshape = [1]\n"
        );
        fs::create_dir_all(self.models().join(name)).unwrap();
        fs::write(self.models().join(name).join("model.toml"), settings).unwrap();
    }

    /// Takes a model away, as it is.
    pub(crate) fn hide(&self, name: &str) {
        fs::rename(self.models().join(name), self.0.path().join(name)).unwrap();
    }

    pub(crate) fn show(&self, name: &str) {
        fs::rename(self.0.path().join(name), self.models().join(name)).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_dir_all(self.models().join(name)).unwrap();
    }
}

/// A process with this inside. It is killed when it is dropped: its sockets are closed, and whatever it
/// was about to do is not done.
pub(crate) struct Process<T> {
    pub(crate) it: Option<T>,
    pub(crate) runtime: Option<Runtime>,
}

impl<T> Process<T> {
    fn of(it: T, runtime: Runtime) -> Process<T> {
        Process { it: Some(it), runtime: Some(runtime) }
    }

    pub(crate) fn get(&self) -> &T {
        self.it.as_ref().unwrap()
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }
}

impl<T> Drop for Process<T> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        drop(self.it.take());
    }
}

/// A scheduler that stands by, or is active.
pub(crate) struct Scheduler {
    pub(crate) standby: Standby,
    acting: Option<(ActingScheduler, ModelsThread)>,
}

pub(crate) type SchedulerProcess = Process<Scheduler>;

pub(crate) fn standby(name: &str) -> SchedulerProcess {
    let runtime = runtime();
    let config = SchedulerConfig {
        name: name.to_owned(),
        listen: anywhere(),
        links: links(),
        settings: Settings::new(Mode::Eager, 0),
        layout: Layout::TOGETHER,
        spin: Spin::NEVER,
        stream_models: false,
    };
    let standby = runtime.block_on(Standby::start(config)).unwrap();
    Process::of(Scheduler { standby, acting: None }, runtime)
}

impl SchedulerProcess {
    pub(crate) fn address(&self) -> &Endpoint {
        self.get().standby.address()
    }

    /// It has the lease from now on.
    pub(crate) fn take_over(&mut self, epoch: u64, folder: &Folder) {
        self.take_over_in(Tenure::endless(epoch), folder);
    }

    pub(crate) fn take_over_in(&mut self, tenure: Tenure, folder: &Folder) {
        let _inside = self.runtime.as_ref().unwrap().enter();
        let scheduler = self.it.as_mut().unwrap();
        let repository = Repository::open(&folder.models()).unwrap();
        let (acting, models, commands) = scheduler.standby.take_over(tenure, repository).unwrap();
        let policy = StartPolicy { skip_failed: true, allow_empty: true };
        let models = ModelsThread::start(models, commands, policy, |_| {}).unwrap();
        scheduler.acting = Some((acting, models));
    }

    pub(crate) fn acting(&self) -> &ActingScheduler {
        &self.get().acting.as_ref().unwrap().0
    }

    /// Frontends and backends that are connected.
    pub(crate) fn members(&self) -> (usize, usize) {
        self.acting().members()
    }

    /// Batches that have ended.
    pub(crate) fn batches(&self) -> u64 {
        let asked = self.acting().port.statistics().unwrap();
        let statistics = self.runtime().block_on(asked).unwrap();
        statistics.accelerators.iter().map(|accelerator| accelerator.batches).sum()
    }

    /// Accelerators that get batches.
    pub(crate) fn serving(&self) -> u32 {
        self.acting().port.serving().unwrap()
    }
}

pub(crate) type Backend = Process<BackendEnd>;

/// A backend with so many accelerators.
pub(crate) fn backend(name: &str, accelerators: usize, schedulers: &[&Endpoint]) -> Backend {
    backend_with(name, accelerators, schedulers, links())
}

/// A backend that keeps its links so.
pub(crate) fn backend_with(
    name: &str,
    accelerators: usize,
    schedulers: &[&Endpoint],
    links: LinkSettings,
) -> Backend {
    let cache = std::env::temp_dir().join("symphony-cluster-tests");
    let loader = Loader::new(LoaderConfig {
        cores: Cores { accelerators, threads: 1 },
        cache_dir: cache,
        onnxruntime: None,
        python: PYTHON_DEFAULT.into(),
        effort: Effort::default(),
    });
    let config = BackendConfig {
        name: name.to_owned(),
        schedulers: schedulers.iter().copied().cloned().collect(),
        links,
        accelerators: vec![
            AcceleratorFacts { kind: "emulated".to_owned(), memory: 0 };
            accelerators
        ],
        engines: Vec::new(),
        streamed_bytes_max: 1 << 20,
    };
    let runtime = runtime();
    let end = {
        let _inside = runtime.enter();
        BackendEnd::start(config, loader).unwrap()
    };
    Process::of(end, runtime)
}

impl Backend {
    /// Leaves the pool and ends, as it does when it is told to. Returns whether that was in order.
    pub(crate) fn leave(mut self) -> bool {
        let (runtime, mut end) = (self.runtime.take().unwrap(), self.it.take().unwrap());
        let left = runtime.block_on(end.leave(LONG)) && end.stop();
        runtime.shutdown_background();
        left
    }
}

/// A frontend's end, without the ports of clients.
pub(crate) struct FrontendRole {
    pub(crate) end: FrontendEnd,
    clock: Clock,
}

pub(crate) type Frontend = Process<FrontendRole>;

pub(crate) fn frontend(name: &str, schedulers: &[&Endpoint]) -> Frontend {
    frontend_at(name, schedulers, &[])
}

/// A frontend that backends reach at other addresses than its own.
pub(crate) fn frontend_at(name: &str, schedulers: &[&Endpoint], at: &[&Endpoint]) -> Frontend {
    frontend_with(FrontendConfig {
        name: name.to_owned(),
        schedulers: schedulers.iter().copied().cloned().collect(),
        listen: vec![anywhere()],
        advertised: at.iter().copied().cloned().collect(),
        links: links(),
        in_flight_max: 10_000,
    })
}

pub(crate) fn frontend_with(config: FrontendConfig) -> Frontend {
    let (runtime, clock) = (runtime(), config.links.clock);
    let end = runtime.block_on(FrontendEnd::start(config)).unwrap();
    Process::of(FrontendRole { end, clock }, runtime)
}

/// The outcome of a request, once it is there.
pub(crate) struct Asked(oneshot::Receiver<Outcome>);

impl Frontend {
    pub(crate) fn end(&self) -> &FrontendEnd {
        &self.get().end
    }

    /// Waits until a model can be asked, and accelerators run it.
    #[track_caller]
    pub(crate) fn serves(&self, model: &str) {
        let end = self.end();
        until(&format!("{model} is served"), || {
            end.epoch().is_some()
                && end.catalog.load().models.contains_key(model)
                && end.scheduler.serving().is_ok_and(|count| count > 0)
        });
    }

    /// Sends a request of one row, as a client's is sent.
    #[track_caller]
    pub(crate) fn ask(&self, model: &str) -> Asked {
        self.ask_of(model, vec![7])
    }

    /// The same with this row.
    #[track_caller]
    pub(crate) fn ask_of(&self, model: &str, row: Vec<u8>) -> Asked {
        let end = self.end();
        let served = end.catalog.load().models.get(model).map(|all| all.highest().clone());
        let served = served.unwrap_or_else(|| panic!("{model} is served"));
        let inputs = Inputs::fixed(1, vec![row.into()]);
        let lane = served.lanes.route(&served.signature, &inputs);
        let (reply, outcome) = oneshot::channel();
        let id = end.in_flight.admit(inputs, reply).unwrap();
        let arrival = self.get().clock.now();
        let deadline = arrival + served.objective.span();
        let request = Request { id, arrival, deadline, rows: 1, class: Class::High };
        let submit = Submit::of(lane.id, &request, arrival);
        end.scheduler.submit(Timed::new(arrival, submit)).unwrap();
        Asked(outcome)
    }

    /// Waits until backends have the inputs of every request that has no outcome.
    #[track_caller]
    pub(crate) fn all_run(&self, count: usize) {
        let end = self.end();
        until("every request is fetched", || {
            end.outstanding() == count && end.in_flight.is_empty()
        });
    }
}

impl Asked {
    pub(crate) fn is_answered(&mut self) -> Option<Outcome> {
        self.0.try_recv().ok()
    }

    /// Waits for the outcome.
    #[track_caller]
    pub(crate) fn outcome(mut self) -> Outcome {
        let mut outcome = None;
        until("a request has its outcome", || {
            outcome = self.is_answered();
            outcome.is_some()
        });
        outcome.unwrap()
    }

    /// Waits for the answer of a request that has run.
    #[track_caller]
    pub(crate) fn answer(self) -> Answer {
        match self.outcome() {
            Outcome::Done(answer) => answer,
            other => panic!("it has not run: {other:?}"),
        }
    }
}

/// Answers of all, with the accelerator that each ran on.
#[track_caller]
pub(crate) fn accelerators(asked: Vec<Asked>) -> Vec<u32> {
    asked.into_iter().map(|asked| asked.answer().execution.accelerator.0).collect()
}

/// What a backend may say of an emulated model that it has loaded.
pub(crate) fn loaded(name: &str, profile: Profile) -> LoadedFacts {
    LoadedFacts {
        name: name.to_owned(),
        version: 1,
        fingerprint: "its own".to_owned(),
        signature: Signature::default(),
        objective: Objective::Slo(Span::from_millis(600_000)),
        rows_max: profile.rows_max(),
        queue_max: 100,
        loss_weight: 1.0,
        class: Class::High,
        engine: "emulated".to_owned(),
        platform: "emulated".to_owned(),
        costs: SizedProfile::fixed(1, profile.clone()),
        plan: profile,
        origin: ProfileOrigin::Measured,
        configuration: bytes::Bytes::new(),
    }
}
