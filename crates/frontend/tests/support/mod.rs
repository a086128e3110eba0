//! A served system without scheduler and engine: a thread that takes submissions and gives each
//! the outcome that its model's behaviour says, and a plain HTTP client.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses its part of this"
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod connection;

use bytes::Bytes;
pub use connection::{Connection, Reply, send};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use symphony_core::{
    AcceleratorId, Class, Delays, DropReason, ModelId, Objective, Profile, Request, RequestId,
    SizedProfile, Slowdown, Span,
};
use symphony_frontend::{Addresses, Frontend, FrontendConfig, FrontendError, InProcess, Services};
use symphony_wire::carrier::in_process::repository;
use symphony_wire::carrier::in_process::{
    FrontendToShard, InFlight, Layout, MatcherQuestion, Pending, Received, RepositoryQuestion,
    ShardQuestion, SharedCatalog, ThreadInbox, scheduler,
};
use symphony_wire::clock::Clock;
use symphony_wire::lanes::ModelLanes;
use symphony_wire::message::{
    AcceleratorState, AcceleratorStatistics, Answer, Execution, GapFigures, IndexEntry,
    MeasuredTimes, Mode, ModelState, ModelStatistics, Outcome, RepositoryCommand, RepositoryError,
    Serve, ServedModel, Statistics,
};
use symphony_wire::tensor::{DataType, Dim, OpenDimension, OutputTensor, Signature, TensorSpec};
use tokio::sync::oneshot;

/// What happens to the requests of a model.
#[derive(Clone, Copy, Debug)]
pub enum Behaviour {
    /// Answered at once with its inputs as outputs.
    Echo,
    /// Left in the queue for ever.
    Ignore,
    /// Taken and never answered, as by an engine that runs on and on.
    Run,
    /// Left in the queue until [`Rig::release`].
    Hold,
    Drop(DropReason),
    /// Its inputs hold what the engine cannot take.
    Refuse,
    Fail,
    /// What has an odd number of rows fails, and the rest is left in the queue.
    FailOdd,
}

/// The models of the rig: name, behaviour, inputs and outputs.
fn models() -> Vec<(String, Behaviour, Signature)> {
    use DataType::{Fp32, Int32};
    let one = || alike(vec![spec("x", Fp32, &[2])]);
    let flat = TensorSpec::new("x", Fp32, vec![Dim::Fixed(2), Dim::Fixed(2)]);
    let pair = vec![spec("a", Fp32, &[2]), spec("b", Int32, &[1])];
    let large = vec![spec("x", Fp32, &[100_000])];
    let mut models = vec![
        ("echo".to_owned(), Behaviour::Echo, one()),
        ("flat".to_owned(), Behaviour::Echo, alike(vec![flat])),
        ("pair".to_owned(), Behaviour::Echo, alike(pair)),
        ("ignored".to_owned(), Behaviour::Ignore, one()),
        ("effort_ignored".to_owned(), Behaviour::Ignore, one()),
        ("effort_running".to_owned(), Behaviour::Run, one()),
        ("effort_held".to_owned(), Behaviour::Hold, one()),
        ("running".to_owned(), Behaviour::Run, one()),
        ("held".to_owned(), Behaviour::Hold, one()),
        ("failing".to_owned(), Behaviour::Fail, one()),
        ("choosy".to_owned(), Behaviour::Refuse, one()),
        ("odd".to_owned(), Behaviour::FailOdd, one()),
        ("large".to_owned(), Behaviour::Echo, alike(large)),
        ("open".to_owned(), Behaviour::Echo, open()),
    ];
    for reason in DropReason::ALL {
        models.push((format!("drop_{}", reason.name()), Behaviour::Drop(reason), one()));
    }
    for datatype in DataType::ALL {
        let tensors = vec![spec("x", datatype, &[3])];
        models.push((format!("type_{datatype}"), Behaviour::Echo, alike(tensors)));
    }
    models
}

/// A model whose outputs are its inputs.
fn alike(tensors: Vec<TensorSpec>) -> Signature {
    Signature::fixed(tensors.clone(), tensors)
}

/// A model with open dimensions, rows along another axis than the first, an input that all rows
/// share and that may be left out, and one that is repeated. The last has no output.
fn open() -> Signature {
    use DataType::{Fp32, Int32, Int64};
    let padded = |name: &str| TensorSpec {
        fill: Some(Bytes::from_static(&[0; 4])),
        ..TensorSpec::new(name, Int32, vec![Dim::Batch, Dim::Open(0)])
    };
    let state = TensorSpec::new("state", Fp32, vec![Dim::Fixed(2), Dim::Batch, Dim::Open(1)]);
    let rate = TensorSpec {
        default: Some(Bytes::copy_from_slice(&16_000i64.to_le_bytes())),
        ..TensorSpec::new("rate", Int64, vec![])
    };
    let user = TensorSpec { broadcast: true, ..spec("user", Fp32, &[2]) };
    let outputs = vec![padded("ids"), padded("mask"), state, rate];
    let dimension = |name: &str, max| OpenDimension { name: name.to_owned(), max };
    Signature {
        inputs: outputs.iter().cloned().chain([user]).collect(),
        outputs,
        dimensions: vec![dimension("sequence", 8), dimension("width", 3)],
        padded: Some(0),
    }
}

fn spec(name: &str, datatype: DataType, row: &[usize]) -> TensorSpec {
    TensorSpec::of_rows(name, datatype, row)
}

/// The objective of every model; tests that need a shorter one set their own limit.
pub const SLO: Span = Span::from_secs(20);

/// The objective of `ignored` alone.
pub const SLO_IGNORED: Span = Span::from_millis(40);

/// What the batches of models without an objective are planned for.
pub const SOFT: Span = Span::from_millis(1);

/// Bound on requests in flight.
pub const IN_FLIGHT_MAX: usize = 64;

/// Bound on the rows of a request; batches take four.
pub const REQUEST_ROWS_MAX: u32 = 12;

/// Bound on bodies: a mebibyte.
pub const BODY_MAX: usize = 1 << 20;

/// A served system.
pub struct Rig {
    pub addresses: Addresses,
    pub catalog: SharedCatalog,
    pub inflight: Arc<InFlight>,
    pub in_process: InProcess,
    /// Requests that the scheduler was told to forget.
    pub cancelled: Arc<Mutex<Vec<RequestId>>>,
    held: Arc<Mutex<Vec<(ModelId, Request)>>>,
    answers: Arc<Stub>,
    shutdown: Option<oneshot::Sender<()>>,
    serving: tokio::task::JoinHandle<()>,
}

struct Stub {
    inflight: Arc<InFlight>,
    models: Vec<(Behaviour, Arc<ServedModel>)>,
    running: Mutex<Vec<Pending>>,
    counts: Mutex<HashMap<ModelId, ModelStatistics>>,
    mode: Mutex<Mode>,
    /// Of the one accelerator.
    state: Mutex<AcceleratorState>,
}

impl Rig {
    /// Serves on free ports.
    pub async fn start() -> Rig {
        Rig::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut FrontendConfig)) -> Rig {
        let (scheduler, mut inboxes) = scheduler(Layout::TOGETHER);
        let (repository, commands) = repository::commands();
        let inflight = Arc::new(InFlight::new(IN_FLIGHT_MAX));
        let catalog = SharedCatalog::default();
        let models = served();
        catalog.update(|catalog| {
            (catalog.known, catalog.ready) = (true, true);
            let served =
                |(_, model): &(_, Arc<ServedModel>)| (model.name.clone(), Arc::clone(model).into());
            catalog.models = models.iter().map(served).collect();
            catalog.index = index(&models);
        });
        let services = Services {
            catalog: catalog.clone(),
            inflight: Arc::clone(&inflight),
            scheduler,
            repository,
            clock: Clock::start(),
        };
        let bound = Frontend::bind(config(change), services).await.unwrap();
        let addresses = bound.addresses();
        let in_process = bound.in_process();
        let (shutdown, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(bound.serve(async { drop(stopped.await) }));
        tokio::spawn(load(commands));
        let answers = Arc::new(Stub {
            inflight: Arc::clone(&inflight),
            models,
            running: Mutex::default(),
            mode: Mutex::default(),
            state: Mutex::default(),
            counts: Mutex::default(),
        });
        let cancelled = Arc::new(Mutex::default());
        let held = Arc::new(Mutex::default());
        let (stub, notes, kept) = (Arc::clone(&answers), Arc::clone(&cancelled), Arc::clone(&held));
        let inbox = inboxes.remove(0);
        inbox.serving.set(1);
        std::thread::spawn(move || stub.run(inbox, &notes, &kept));
        let shutdown = Some(shutdown);
        Rig {
            addresses,
            catalog,
            inflight,
            in_process,
            cancelled,
            held,
            answers,
            shutdown,
            serving,
        }
    }

    /// Why a frontend does not start.
    pub async fn refused_with(change: impl FnOnce(&mut FrontendConfig)) -> FrontendError {
        let (scheduler, _inboxes) = scheduler(Layout::TOGETHER);
        let services = Services {
            catalog: SharedCatalog::default(),
            inflight: Arc::new(InFlight::new(IN_FLIGHT_MAX)),
            scheduler,
            repository: repository::commands().0,
            clock: Clock::start(),
        };
        Frontend::bind(config(change), services).await.unwrap_err()
    }

    /// Answers every request held back until now; how many there were.
    pub fn release(&self) -> usize {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        let answered = held.iter().map(|(model, request)| self.answers.echo(*model, *request));
        answered.filter(|answered| *answered).count()
    }

    /// Gives a request that is held back to its frontend, as if its model had been removed before
    /// the scheduler saw it.
    pub fn give_back(&self, index: usize) {
        let (_, request) = self.held.lock().unwrap().remove(index);
        self.inflight.take(request.id).unwrap().give_back();
    }

    pub fn held(&self) -> usize {
        self.held.lock().unwrap().len()
    }

    /// Waits for something that is about to become true.
    pub async fn until(&self, what: &str, condition: impl Fn(&Rig) -> bool) {
        for _ in 0..2_000 {
            if condition(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what}: still not so after 10 s");
    }

    /// Shuts down and waits for the end of every connection.
    pub async fn stop(mut self) {
        drop(self.shutdown.take());
        (&mut self.serving).await.unwrap();
    }

    pub fn begin_stop(&mut self) {
        drop(self.shutdown.take());
    }

    pub fn is_stopped(&self) -> bool {
        self.serving.is_finished()
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.send("POST", path, &[], body).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], Bytes::new()).await
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        send(self.addresses.http, method, path, headers, body.into()).await
    }

    /// Waits for a sample of the metrics page to come to a value.
    pub async fn until_metric(&self, sample: &str, value: f64) {
        self.until_metric_is(sample, |found| found == value).await;
    }

    /// Waits for a sample of the metrics page to be as wanted.
    pub async fn until_metric_is(&self, sample: &str, is_wanted: impl Fn(f64) -> bool) {
        let mut found = f64::NAN;
        for _ in 0..1_000 {
            found = self.metric(sample).await;
            if is_wanted(found) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{sample}: still {found} after 10 s");
    }

    /// One sample of the metrics page; zero when it is not there.
    pub async fn metric(&self, sample: &str) -> f64 {
        let page = send(self.addresses.metrics, "GET", "/metrics", &[], Bytes::new()).await.text();
        let found = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.parse().unwrap())
    }
}

fn config(change: impl FnOnce(&mut FrontendConfig)) -> FrontendConfig {
    let mut config = FrontendConfig {
        http_port: 0,
        grpc_port: 0,
        metrics_port: 0,
        body_max: BODY_MAX,
        request_rows_max: REQUEST_ROWS_MAX,
        ..FrontendConfig::default()
    };
    change(&mut config);
    config
}

/// Most models keep an objective. One that a backend ignores has little time, and some have none.
fn objective(name: &str) -> Objective {
    match name {
        "ignored" => Objective::Slo(SLO_IGNORED),
        _ if name.starts_with("effort") => Objective::Soft(SOFT),
        _ => Objective::Slo(SLO),
    }
}

fn served() -> Vec<(Behaviour, Arc<ServedModel>)> {
    let models = models().into_iter().enumerate();
    models
        .map(|(index, (name, behaviour, signature))| {
            let rows_max = if signature.is_batched() { 4 } else { 1 };
            let profile =
                Profile::linear(Span::from_millis(1), Span::from_millis(5), rows_max).unwrap();
            let id = ModelId::first(u32::try_from(index).unwrap());
            let costs = SizedProfile::fixed(1, profile.clone());
            let model = ServedModel {
                id,
                lanes: Arc::new(ModelLanes::alone(id, costs)),
                objective: objective(&name),
                name,
                version: "3".to_owned(),
                signature,
                rows_max,
                queue_max: 8,
                class: Class::High,
                engine: "emulated".to_owned(),
                platform: "emulated_onnx".to_owned(),
                profile,
                configuration: Bytes::new(),
            };
            (behaviour, Arc::new(model))
        })
        .collect()
}

fn index(models: &[(Behaviour, Arc<ServedModel>)]) -> Vec<IndexEntry> {
    let entry = |name: &str, version: &str, state| IndexEntry {
        name: name.to_owned(),
        version: version.to_owned(),
        state,
    };
    let served = models.iter().map(|(_, m)| entry(&m.name, &m.version, ModelState::Ready));
    let others = [
        entry("loading", "1", ModelState::Loading),
        entry("broken", "1", ModelState::Unavailable("operator Foo is unknown".to_owned())),
        entry("unloaded", "1", ModelState::Unavailable(String::new())),
    ];
    served.chain(others).collect()
}

async fn load(mut commands: tokio::sync::mpsc::Receiver<RepositoryQuestion>) {
    while let Some(RepositoryQuestion { command, reply }) = commands.recv().await {
        let model = match command {
            RepositoryCommand::Load { model } | RepositoryCommand::Unload { model } => model,
            RepositoryCommand::Reload => String::new(),
        };
        reply.answer(match model.as_str() {
            "echo" => Ok(()),
            "broken" => Err(RepositoryError::Load("operator Foo is unknown".to_owned())),
            "stuck" => Err(RepositoryError::Accelerator("accelerator 1 is stuck".to_owned())),
            _ => Err(RepositoryError::Unknown(model)),
        });
    }
}

impl Stub {
    fn run(
        &self,
        inbox: ThreadInbox,
        cancelled: &Mutex<Vec<RequestId>>,
        held: &Mutex<Vec<(ModelId, Request)>>,
    ) {
        let ThreadInbox { doorbell, mut shards, matcher, serving, .. } = inbox;
        let (mut shard, mut matcher) = (shards.remove(0).1, matcher.unwrap());
        let mut listener = doorbell.listen(Default::default());
        while !shard.is_closed() {
            shard.drain(usize::MAX, |message| match message {
                Received::Message(FrontendToShard::Submit { model, request }) => {
                    match self.models[model.index()].0 {
                        Behaviour::Hold => held.lock().unwrap().push((model, request)),
                        behaviour => self.act(behaviour, model, request),
                    }
                }
                Received::Message(FrontendToShard::Cancel { request, .. }) => {
                    cancelled.lock().unwrap().push(request);
                }
                Received::Question(ShardQuestion::Statistics(_) | ShardQuestion::SetMode(..)) => {}
                other => panic!("the frontend has no reason to send {other:?}"),
            });
            matcher.drain(usize::MAX, |message| match message {
                Received::Question(MatcherQuestion::Statistics(share)) => {
                    share.add(|all| *all = self.statistics());
                }
                Received::Question(MatcherQuestion::SetMode(mode, _share)) => {
                    *self.mode.lock().unwrap() = mode;
                }
                Received::Question(MatcherQuestion::Serve(serve, reply)) => {
                    let Serve { accelerator, serves } = serve;
                    let known = accelerator == AcceleratorId(0);
                    let state = known.then(|| self.serve(serves));
                    if state.is_some() {
                        serving.set(u32::from(serves));
                    }
                    reply.answer(state);
                }
                other => panic!("the frontend has no reason to send {other:?}"),
            });
            listener.wait(None, || !shard.is_empty() || !matcher.is_empty());
        }
    }

    fn act(&self, behaviour: Behaviour, model: ModelId, request: Request) {
        match behaviour {
            Behaviour::Echo | Behaviour::Hold => {
                self.echo(model, request);
            }
            Behaviour::Ignore => {}
            Behaviour::Run => {
                self.running.lock().unwrap().extend(self.inflight.take(request.id));
            }
            Behaviour::Drop(reason) => {
                let outcome = Outcome::Dropped { reason, queued: Span::from_millis(3) };
                self.answer(request, outcome);
            }
            Behaviour::Refuse => {
                let outcome = Outcome::Refused("element 1 of input \"x\" is too odd".to_owned());
                self.answer(request, outcome);
            }
            Behaviour::FailOdd if request.rows.is_multiple_of(2) => {}
            Behaviour::Fail | Behaviour::FailOdd => {
                let outcome = Outcome::Failed("operator Foo divided by zero".to_owned());
                self.answer(request, outcome);
            }
        }
    }

    /// Gives a request its outcome, unless its frontend has taken it out.
    fn answer(&self, request: Request, outcome: Outcome) {
        if let Some(pending) = self.inflight.take(request.id) {
            pending.answer(outcome);
        }
    }

    fn echo(&self, id: ModelId, request: Request) -> bool {
        let Some(pending) = self.inflight.take(request.id) else { return false };
        let model = &self.models[id.index()].1;
        let (signature, sizes) = (&model.signature, &pending.inputs.sizes);
        let specs = signature.outputs.iter().zip(&pending.inputs.tensors);
        let outputs = specs.map(|(spec, data)| OutputTensor {
            shape: signature.shape_of(spec, request.rows, sizes).unwrap(),
            data: data.clone(),
        });
        let outputs = outputs.collect();
        let mut counts = self.counts.lock().unwrap();
        let counts = counts.entry(id).or_default();
        counts.batches += 1;
        counts.requests += 1;
        counts.rows += u64::from(request.rows);
        (counts.spread, counts.margin) = (0.25, Slowdown::ONE.scaled(3, 2));
        let execution = Execution {
            accelerator: AcceleratorId(0),
            batch_rows: request.rows,
            queued: Span::from_millis(2),
            assembly: Span::from_micros(10),
            compute: Span::from_millis(5),
            split: Span::from_micros(10),
            slack: Span::from_millis(1),
        };
        pending.answer(Outcome::Done(Answer { outputs, execution }));
        true
    }

    fn serve(&self, serves: bool) -> AcceleratorState {
        let mut state = self.state.lock().unwrap();
        *state = if serves { AcceleratorState::Serving } else { AcceleratorState::Draining };
        *state
    }

    fn statistics(&self) -> Statistics {
        let counts = self.counts.lock().unwrap();
        Statistics {
            lanes: Vec::new(),
            times: counts.keys().map(|id| (*id, TIMES)).collect(),
            delays: Delays { response: Span::from_millis(2), ..Delays::default() },
            mode: *self.mode.lock().unwrap(),
            batches_max: Some(50_000.0),
            models: counts.iter().map(|(id, counts)| (*id, *counts)).collect(),
            accelerators: vec![AcceleratorStatistics {
                batches: 7,
                busy: Span::from_millis(1500),
                slowdown: Slowdown::ONE.scaled(2, 1),
                state: *self.state.lock().unwrap(),
                gaps: GapFigures {
                    count: 3,
                    mean: Span::from_micros(250),
                    p95: Span::from_micros(500),
                    inputs: Span::from_micros(125),
                },
            }],
        }
    }
}

/// What the batches of every model took.
pub const TIMES: MeasuredTimes =
    MeasuredTimes { batches: 64, mean: 1.25, p95: 1.75, spread: 0.125 };
