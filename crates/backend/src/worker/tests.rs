//! The thread of an accelerator, with a model that does as its input says.

use super::*;
use crate::batch::Batch;
use crate::engine::{EngineError, EngineModel, Executable};
use crate::engines::emulated::Emulation;
use bytes::Bytes;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use symphony_core::{BatchId, Class, Profile, Request, RequestId};
use symphony_wire::carrier::in_process::{
    FrontendToShard, InFlight, Layout, MatcherInbox, MatcherQuestion, PlanBuffers, Received,
    ShardInbox, scheduler,
};
use symphony_wire::message::{Execution, Outcome, PlannedRequest};
use symphony_wire::tensor::{
    DataType, Dim, Inputs, OpenDimension, OutputTensor, Signature, TensorSpec, bytes_contents,
};
use tokio::sync::oneshot;

const MODEL: ModelId = ModelId::first(7);
const HOUR: Span = Span::from_secs(3600);
const LONG: Duration = Duration::from_secs(60);

/// A model of one byte per row that echoes it, and fails or panics on bytes that say so.
struct Touchy(Box<dyn Executable>);

const FAIL: u8 = 254;
const PANIC: u8 = 255;

impl Executable for Touchy {
    fn run(&mut self, batch: &Batch<'_>) -> Result<Vec<OutputTensor>, EngineError> {
        let outputs = self.0.run(batch)?;
        assert!(!outputs[0].data.contains(&PANIC), "asked to");
        if outputs[0].data.contains(&FAIL) {
            let problem = "asked to".to_owned();
            return Err(EngineError::Run { engine: "touchy", rows: batch.rows(), problem });
        }
        Ok(outputs)
    }
}

fn resident(datatype: DataType, rows_max: u32) -> Resident {
    let spec = |name: &str| TensorSpec::of_rows(name, datatype, &[1]);
    let signature = Signature::fixed(vec![spec("x")], vec![spec("y")]);
    let profile = Profile::linear(Span(1), Span(1), rows_max).unwrap();
    let emulated = Emulation::new(Arc::new(profile)).of(signature.clone()).place(0).unwrap();
    Resident::new(Arc::new(signature), rows_max, Box::new(Touchy(emulated))).unwrap()
}

/// A model of `state [2, batch, width, length]`, padded along its length, and of a `rate` that the
/// rows of a batch share. It echoes both.
fn open() -> Resident {
    let state = vec![Dim::Fixed(2), Dim::Batch, Dim::Open(0), Dim::Open(1)];
    let state = TensorSpec {
        fill: Some(Bytes::from_static(&[0])),
        ..TensorSpec::new("state", DataType::Uint8, state)
    };
    let specs = vec![state, TensorSpec::new("rate", DataType::Uint8, vec![])];
    let dimension = |name: &str| OpenDimension { name: name.to_owned(), max: 8 };
    let signature = Signature {
        inputs: specs.clone(),
        outputs: specs,
        dimensions: vec![dimension("width"), dimension("length")],
        padded: Some(1),
    };
    let profile = Profile::linear(Span(1), Span(1), 32).unwrap();
    let emulated = Emulation::new(Arc::new(profile)).of(signature.clone()).place(0).unwrap();
    Resident::new(Arc::new(signature), 32, Box::new(Touchy(emulated))).unwrap()
}

/// A model whose batches end when there is nobody left to hold them.
struct Held {
    executable: Box<dyn Executable>,
    holders: Receiver<()>,
}

impl Executable for Held {
    fn run(&mut self, batch: &Batch<'_>) -> Result<Vec<OutputTensor>, EngineError> {
        let _ = self.holders.recv();
        self.executable.run(batch)
    }
}

fn held(holders: Receiver<()>) -> Resident {
    let resident = resident(DataType::Uint8, 8);
    let (signature, rows_max) = (Arc::clone(resident.signature()), resident.rows_max());
    let executable = resident.into_executable();
    Resident::new(signature, rows_max, Box::new(Held { executable, holders })).unwrap()
}

/// A running accelerator, its scheduler's inbox, and requests for it.
struct Setup {
    worker: Worker,
    completions: MatcherInbox,
    requests: ShardInbox,
    context: InProcessCarrier,
    batches: u64,
}

impl Setup {
    fn new() -> Setup {
        let (scheduler, mut threads) = scheduler(Layout::TOGETHER);
        let mut thread = threads.remove(0);
        let (_, requests) = thread.shards.remove(0);
        let completions = thread.matcher.unwrap();
        let in_flight = Arc::new(InFlight::new(64));
        let (clock, buffers) = (Clock::start(), PlanBuffers::default());
        let context = InProcessCarrier { clock, in_flight, scheduler, buffers };
        let worker = Worker::start(AcceleratorId(3), clock, Arc::new(context.clone())).unwrap();
        worker.port().load(MODEL, resident(DataType::Uint8, 8)).unwrap();
        Setup { worker, completions, requests, context, batches: 0 }
    }

    /// Admits a request with one row per byte.
    fn admit(&self, rows: &[u8]) -> (Request, oneshot::Receiver<Outcome>) {
        self.admit_rows(rows.len(), Bytes::copy_from_slice(rows))
    }

    fn admit_rows(&self, rows: usize, data: Bytes) -> (Request, oneshot::Receiver<Outcome>) {
        self.admit_inputs(Inputs::fixed(u32::try_from(rows).unwrap(), vec![data]))
    }

    fn admit_inputs(&self, inputs: Inputs) -> (Request, oneshot::Receiver<Outcome>) {
        let (reply, outcome) = oneshot::channel();
        let rows = inputs.rows;
        let id = self.context.in_flight.admit(inputs, reply).unwrap();
        let arrival = self.context.clock.now();
        (Request { id, arrival, deadline: arrival + HOUR, rows, class: Class::High }, outcome)
    }

    fn plan(&mut self, requests: &[Request]) -> Timed<BatchPlan> {
        self.batches += 1;
        let rows = requests.iter().map(|request| request.rows).sum();
        let (batch, exec) = (BatchId(self.batches), Span::from_millis(1));
        let now = self.context.clock.now();
        let requests = requests.iter().map(|request| PlannedRequest::of(request, now)).collect();
        Timed::new(now, BatchPlan { batch, model: MODEL, requests, rows, exec })
    }

    /// Sends a batch of one row.
    fn send(&mut self) -> oneshot::Receiver<Outcome> {
        let (request, outcome) = self.admit(&[1]);
        let plan = self.plan(&[request]);
        self.worker.port().run(plan).unwrap();
        outcome
    }

    /// Runs a batch and waits for its completion.
    fn run(&mut self, requests: &[Request]) -> Timed<Completion> {
        let plan = self.plan(requests);
        self.worker.port().run(plan).unwrap();
        let mut found = None;
        while found.is_none() {
            self.completions.drain(1, |message| match message {
                Received::Message(completion) => found = Some(completion),
                Received::Question(other) => panic!("{other:?}"),
            });
            thread::yield_now();
        }
        let completion: Timed<Completion> = found.unwrap();
        assert_eq!(completion.message.batch, BatchId(self.batches));
        completion
    }
}

/// The outcome in short: the output's bytes, or why there is none.
fn short(outcome: &mut oneshot::Receiver<Outcome>) -> String {
    match outcome.try_recv().unwrap() {
        Outcome::Done(answer) => format!("{:?}", answer.outputs[0].data.as_ref()),
        Outcome::Failed(why) => why,
        Outcome::Refused(why) => format!("refused: {why}"),
        Outcome::Dropped { .. } => "dropped".to_owned(),
        Outcome::Unloaded(_) => "unloaded".to_owned(),
    }
}

#[test]
fn each_request_of_a_batch_gets_its_rows() {
    let mut setup = Setup::new();
    let (first, mut first_outcome) = setup.admit(&[1, 2]);
    let (second, mut second_outcome) = setup.admit(&[3]);
    let Timed { at: finished, message: completion } = setup.run(&[first, second]);
    assert_eq!(completion.accelerator, AcceleratorId(3));
    assert!(completion.stay >= completion.exec);
    let taken = finished - completion.stay;
    let Outcome::Done(answer) = first_outcome.try_recv().unwrap() else { panic!() };
    assert_eq!(
        answer.outputs[0],
        OutputTensor { shape: vec![2, 1], data: Bytes::from_static(&[1, 2]) }
    );
    let Execution { batch_rows, queued, assembly, compute, slack, accelerator, .. } =
        answer.execution;
    assert_eq!((accelerator, batch_rows), (AcceleratorId(3), 3));
    assert_eq!(queued, taken.since(first.arrival));
    assert_eq!(slack, first.deadline.since(taken + Span::from_millis(1)));
    assert_eq!(assembly + compute, completion.exec);
    assert_eq!(short(&mut second_outcome), "[3]");
    assert!(setup.context.in_flight.is_empty());
    assert!(setup.worker.stop(LONG));
}

/// A request of the open model whose bytes are random.
fn open_request(random: &mut Pcg64Mcg) -> Inputs {
    let mut below = |bound: u8| random.next_u32().to_le_bytes()[0] % bound;
    let (rows, rate) = (u32::from(1 + below(3)), below(2));
    let sizes = vec![usize::from(1 + below(2)), usize::from(below(4))];
    let count = 2 * rows as usize * sizes[0] * sizes[1];
    let state = (0..count).map(|_| below(250)).collect::<Vec<_>>();
    Inputs { rows, sizes, tensors: vec![state.into(), vec![rate].into()] }
}

#[test]
fn the_requests_of_a_plan_run_with_those_of_their_form_and_each_gets_its_own() {
    let mut setup = Setup::new();
    setup.worker.port().load(MODEL, open()).unwrap();
    for seed in 0..50 {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let sent: Vec<_> = (0..1 + seed % 8).map(|_| open_request(&mut random)).collect();
        let (requests, outcomes): (Vec<_>, Vec<_>) =
            sent.iter().map(|inputs| setup.admit_inputs(inputs.clone())).unzip();
        let completion = setup.run(&requests).message;
        assert!(completion.exec > Span::ZERO && completion.stay >= completion.exec);
        for (inputs, mut outcome) in sent.iter().zip(outcomes) {
            let Outcome::Done(answer) = outcome.try_recv().unwrap() else { panic!("seed {seed}") };
            let form = |inputs: &Inputs| (inputs.sizes[0], inputs.tensors[1].clone());
            let together = sent.iter().filter(|other| form(other) == form(inputs));
            let rows = together.map(|inputs| inputs.rows).sum::<u32>();
            assert_eq!(answer.execution.batch_rows, rows, "seed {seed}");
            let shape = vec![2, inputs.rows as usize, inputs.sizes[0], inputs.sizes[1]];
            let state = OutputTensor { shape, data: inputs.tensors[0].clone() };
            let rate = OutputTensor { shape: vec![], data: inputs.tensors[1].clone() };
            assert_eq!(answer.outputs, [state, rate], "seed {seed}");
        }
    }
    assert!(setup.context.in_flight.is_empty());
    assert!(setup.worker.stop(LONG));
}

#[test]
fn a_form_that_fails_leaves_the_others_of_its_plan() {
    let mut setup = Setup::new();
    setup.worker.port().load(MODEL, open()).unwrap();
    let of = |width: usize, byte: u8| Inputs {
        rows: 1,
        sizes: vec![width, 1],
        tensors: vec![vec![byte; 2 * width].into(), vec![0].into()],
    };
    let (bad, mut bad_outcome) = setup.admit_inputs(of(1, FAIL));
    let (good, mut good_outcome) = setup.admit_inputs(of(2, 1));
    let (wrong, mut wrong_outcome) = setup.admit_inputs(Inputs::fixed(1, of(1, 1).tensors));
    setup.run(&[bad, wrong, good]);
    assert_eq!(short(&mut bad_outcome), "touchy failed on a batch of 1 rows: asked to");
    let sizes = "the request has 0 sizes, the model has 2 open dimensions";
    assert_eq!(short(&mut wrong_outcome), sizes);
    assert_eq!(short(&mut good_outcome), "[1, 1, 1, 1]");
    assert!(setup.worker.stop(LONG));
}

#[test]
fn what_cannot_run_fails_alone_and_the_accelerator_goes_on() {
    let mut setup = Setup::new();
    let mut check = |rows: &[u8], expected: &str| {
        let (request, mut outcome) = setup.admit(rows);
        setup.run(&[request]);
        assert_eq!(short(&mut outcome), expected);
    };
    check(&[PANIC], "the engine panicked while running a batch: asked to");
    check(&[FAIL, 1], "touchy failed on a batch of 2 rows: asked to");
    check(&[1; 9], "the request has 9 rows where 1 to 8 fit");
    check(&[5], "[5]");
    let (good, mut good_outcome) = setup.admit(&[6]);
    let (large, mut large_outcome) = setup.admit(&[1; 8]);
    setup.run(&[large, good]);
    assert_eq!(short(&mut large_outcome), "[1, 1, 1, 1, 1, 1, 1, 1]");
    assert_eq!(short(&mut good_outcome), "the request has 1 rows where 1 to 0 fit");
    assert!(setup.worker.stop(LONG));
}

#[test]
fn a_request_that_fails_its_batch_fails_alone() {
    let mut setup = Setup::new();
    for fault in [FAIL, PANIC] {
        let (first, mut first_outcome) = setup.admit(&[1]);
        let (odd, mut odd_outcome) = setup.admit(&[fault]);
        let (last, mut last_outcome) = setup.admit(&[2, 3]);
        setup.run(&[first, odd, last]);
        assert_eq!(short(&mut first_outcome), "[1]");
        assert!(short(&mut odd_outcome).ends_with("asked to"));
        assert_eq!(short(&mut last_outcome), "[2, 3]");
    }
    assert!(setup.context.in_flight.is_empty());
    assert!(setup.worker.stop(LONG));
}

#[test]
fn a_value_the_engine_cannot_take_is_refused_and_its_neighbours_run() {
    let mut setup = Setup::new();
    setup.worker.port().load(MODEL, resident(DataType::Bytes, 8)).unwrap();
    let text = |element: &[u8]| Bytes::from(bytes_contents([element]));
    let (first, mut first_outcome) = setup.admit_rows(1, text(b"a"));
    let (odd, mut odd_outcome) = setup.admit_rows(1, text(b"\xff"));
    let (last, mut last_outcome) = setup.admit_rows(1, text(b"b"));
    setup.run(&[first, odd, last]);
    assert_eq!(short(&mut first_outcome), "[1, 0, 0, 0, 97]");
    assert_eq!(short(&mut last_outcome), "[1, 0, 0, 0, 98]");
    let odd = short(&mut odd_outcome);
    assert!(odd.starts_with("refused: element 0 of input \"x\" is not UTF-8"), "{odd}");
    assert!(setup.context.in_flight.is_empty());
    assert!(setup.worker.stop(LONG));
}

#[test]
fn requests_whose_clients_left_are_not_run() {
    let mut setup = Setup::new();
    let (gone, outcome) = setup.admit(&[PANIC]);
    drop(outcome);
    let (taken, _outcome) = setup.admit(&[PANIC]);
    drop(setup.context.in_flight.take(taken.id));
    let (stays, mut outcome) = setup.admit(&[4]);
    setup.run(&[gone, taken, stays]);
    assert_eq!(short(&mut outcome), "[4]");
    let unknown = Request { id: RequestId::new(stays.id.origin(), u64::MAX), ..stays };
    assert_eq!(setup.run(&[unknown]).message.exec, Span::ZERO);
    assert!(setup.context.in_flight.is_empty());
    assert!(setup.worker.stop(LONG));
}

#[test]
fn a_model_given_up_comes_back_and_its_plans_fail() {
    let mut setup = Setup::new();
    let (done, given_up) = crossbeam_channel::bounded(1);
    setup.worker.port().unload(MODEL, done).unwrap();
    assert!(given_up.recv().unwrap().is_some());
    let (request, mut outcome) = setup.admit(&[1]);
    setup.run(&[request]);
    assert!(short(&mut outcome).contains("not loaded"));
    let (done, given_up) = crossbeam_channel::bounded(1);
    setup.worker.port().unload(MODEL, done).unwrap();
    assert!(given_up.recv().unwrap().is_none());
    assert!(setup.worker.stop(LONG));
}

/// A model that panics when it is freed.
struct Explosive(Box<dyn Executable>);

impl Executable for Explosive {
    fn run(&mut self, batch: &Batch<'_>) -> Result<Vec<OutputTensor>, EngineError> {
        self.0.run(batch)
    }
}

impl Drop for Explosive {
    fn drop(&mut self) {
        panic!("asked to");
    }
}

#[test]
fn a_thread_that_fails_is_an_accelerator_lost_and_gives_batches_back() {
    let mut setup = Setup::new();
    let plain = resident(DataType::Uint8, 8);
    let (signature, rows_max) = (Arc::clone(plain.signature()), plain.rows_max());
    let explosive = Box::new(Explosive(plain.into_executable()));
    let explosive = Resident::new(signature, rows_max, explosive).unwrap();
    let port = setup.worker.port();
    port.load(MODEL, explosive).unwrap();
    // It takes the place of the other, which is freed.
    port.load(MODEL, resident(DataType::Uint8, 8)).unwrap();
    let (request, mut outcome) = setup.admit(&[1]);
    let plan = setup.plan(&[request]);
    port.run(plan).unwrap();
    assert!(setup.worker.stop(LONG));
    let mut lost = Vec::new();
    let mut ended = Vec::new();
    setup.completions.drain(9, |message| match message {
        Received::Question(MatcherQuestion::Lose(accelerator)) => lost.push(accelerator),
        Received::Message(Timed { message: Completion { batch, exec, .. }, .. }) => {
            ended.push((batch, exec));
        }
        Received::Question(other) => panic!("{other:?}"),
    });
    assert_eq!((lost, ended), (vec![AcceleratorId(3)], vec![(BatchId(1), Span::ZERO)]));
    let mut again = Vec::new();
    setup.requests.drain(9, |message| match message {
        Received::Message(FrontendToShard::Submit { model, request }) => {
            again.push((model, request))
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(again, [(MODEL, request)]);
    assert!(outcome.try_recv().is_err(), "it waits for another accelerator");
}

#[test]
fn a_plan_for_a_model_whose_place_another_has_fails() {
    let mut setup = Setup::new();
    let (done, given_up) = crossbeam_channel::bounded(1);
    setup.worker.port().unload(MODEL, done).unwrap();
    assert!(given_up.recv().unwrap().is_some());
    let next = MODEL.next_generation();
    setup.worker.port().load(next, resident(DataType::Uint8, 8)).unwrap();
    let (request, mut outcome) = setup.admit(&[1]);
    assert_eq!(setup.run(&[request]).message.exec, Span::ZERO);
    assert!(short(&mut outcome).contains("not loaded"));
    let (done, given_up) = crossbeam_channel::bounded(1);
    setup.worker.port().unload(MODEL, done).unwrap();
    assert!(given_up.recv().unwrap().is_none(), "it is not the former that is there");
    assert!(setup.worker.stop(LONG));
}

#[test]
fn an_accelerator_that_hangs_says_so_when_too_much_waits_and_takes_it_all_once_it_goes_on() {
    let mut setup = Setup::new();
    let port = setup.worker.port();
    let (holder, holders) = crossbeam_channel::bounded(0);
    port.load(MODEL, held(holders)).unwrap();
    let mut outcomes = vec![setup.send()];
    while !setup.context.in_flight.is_empty() {
        thread::yield_now();
    }
    let stuck = Err(Unreachable::Stuck(AcceleratorId(3)));
    for waiting in 0..CHANGES_MAX {
        // Batches that wait take no room of theirs.
        let room = CHANGES_MAX - waiting;
        assert_eq!(port.wait_for_room(room, Instant::now()), Ok(()));
        assert_eq!(port.wait_for_room(room + 1, Instant::now()), stuck, "{waiting} wait");
        port.load(MODEL, resident(DataType::Uint8, 8)).unwrap();
    }
    outcomes.push(setup.send());
    assert_eq!(port.load(MODEL, resident(DataType::Uint8, 8)), stuck);
    assert_eq!(port.unload(MODEL, crossbeam_channel::bounded(1).0), stuck);
    outcomes.push(setup.send());
    drop(holder);
    assert_eq!(port.wait_for_room(CHANGES_MAX, Instant::now() + LONG), Ok(()));
    assert!(setup.worker.stop(LONG));
    for outcome in &mut outcomes {
        assert_eq!(short(outcome), "[1]");
    }
}

#[test]
fn the_room_of_a_plan_is_given_back() {
    let mut setup = Setup::new();
    let (request, _outcome) = setup.admit(&[1]);
    let mut plan = setup.plan(&[request]);
    plan.message.requests.reserve(100);
    setup.worker.port().run(plan).unwrap();
    let buffers = setup.context.buffers.clone();
    assert!(setup.worker.stop(LONG));
    let buffer = buffers.take();
    assert!(buffer.is_empty() && buffer.capacity() >= 100);
}

#[test]
fn stopping_runs_what_waits_and_refuses_the_rest() {
    let mut setup = Setup::new();
    let port = setup.worker.port();
    let (request, mut outcome) = setup.admit(&[1]);
    let plan = setup.plan(&[request]);
    port.run(plan.clone()).unwrap();
    assert!(setup.worker.stop(LONG));
    assert_eq!(short(&mut outcome), "[1]");
    assert!(
        matches!(port.run(plan), Err(Refused::Stopped(back)) if back.message.batch == BatchId(1))
    );
    assert_eq!(
        port.load(MODEL, resident(DataType::Uint8, 1)),
        Err(Unreachable::Stopped(AcceleratorId(3)))
    );
}
