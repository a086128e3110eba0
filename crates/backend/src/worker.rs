//! The thread of one accelerator: runs the batches it is told to run, one after the other.
//!
//! It takes each request's tensors out of the in-flight table, so it owes each its outcome; what
//! cannot be run is answered as refused or failed, and the thread goes on. It decides nothing about
//! when or with whom a request runs.
//!
//! Should the thread fail itself, its accelerator is lost: the requests of the batch that ran are
//! answered as failed, and those of every batch that it is sent later are scheduled again.

use crate::engine::{guarded, panic_message};
use crate::resident::{BatchError, Resident};
use crossbeam_channel::{Receiver, Sender, TrySendError};
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use symphony_core::{AcceleratorId, BatchId, ModelId, Request, Span, Time};
use symphony_wire::clock::Clock;
use symphony_wire::inflight::{Answer, Execution, InFlight, Outcome, Running};
use symphony_wire::schedule::{BatchPlan, Completion, SchedulerPort, SubmitError};
use symphony_wire::tensor::OutputTensor;

/// Bound on loads and unloads waiting for one accelerator.
pub const CHANGES_MAX: usize = 64;
/// Bound on batches at one accelerator: the running one and the next.
const BATCHES_MAX: usize = 2;
/// Whether there is room again, for a completion or for a load, is looked at this often.
const ROOM_AGAIN: Duration = Duration::from_millis(1);
/// Whether a thread has ended is looked at this often.
const STOP_AGAIN: Duration = Duration::from_millis(1);

/// What an accelerator can be told.
#[derive(Debug)]
enum ToWorker {
    Load { model: ModelId, resident: Box<Resident> },
    Unload { model: ModelId, done: Sender<Option<Box<Resident>>> },
    Run(BatchPlan),
    Stop,
}

/// Why an accelerator was not told to load a model, or to give one up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// Its thread has ended.
    #[error("accelerator {} has stopped: restart the server", .0.0)]
    Stopped(AcceleratorId),
    /// It does not end what it runs, and as many loads and unloads wait for it as can.
    #[error(
        "accelerator {} does not complete its batch, and {CHANGES_MAX} loads and unloads wait for it \
         already, the most there may be: try again when the batch is complete; if it never is, \
         restart the server",
        .0.0
    )]
    Stuck(AcceleratorId),
}

/// Why an accelerator did not take a plan; here it is back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    /// More batches wait for it than a scheduler plans.
    #[error("too many batches wait for the accelerator")]
    Full(BatchPlan),
    /// Its thread has ended.
    #[error("the accelerator has stopped")]
    Stopped(BatchPlan),
}

/// The way to an accelerator; clones lead to the same one.
#[derive(Clone, Debug)]
pub struct WorkerPort {
    accelerator: AcceleratorId,
    inbox: Sender<ToWorker>,
    /// Loads and unloads in the inbox.
    changes: Arc<AtomicUsize>,
}

impl WorkerPort {
    /// Which accelerator.
    #[must_use]
    pub fn accelerator(&self) -> AcceleratorId {
        self.accelerator
    }

    /// Runs a batch after those that wait, without waiting for it.
    ///
    /// # Errors
    /// The plan comes back: its requests are still in flight.
    pub fn run(&self, plan: BatchPlan) -> Result<(), Refused> {
        let refused = |message, why: fn(BatchPlan) -> Refused| match message {
            ToWorker::Run(plan) => why(plan),
            _ => unreachable!("the message sent comes back"),
        };
        self.inbox.try_send(ToWorker::Run(plan)).map_err(|error| match error {
            TrySendError::Full(message) => refused(message, Refused::Full),
            TrySendError::Disconnected(message) => refused(message, Refused::Stopped),
        })
    }

    /// Waits until it has room for so many loads and unloads, but not beyond `until`. Room that was
    /// found stays, as long as nobody else sends it any: batches have room of their own.
    ///
    /// # Errors
    /// There is still none.
    pub fn wait_for_room(&self, changes: usize, until: Instant) -> Result<(), Unreachable> {
        while self.changes.load(Ordering::Acquire) + changes > CHANGES_MAX {
            if Instant::now() >= until {
                return Err(Unreachable::Stuck(self.accelerator));
            }
            thread::sleep(ROOM_AGAIN);
        }
        Ok(())
    }

    /// Makes a model ready for the plans that follow, without waiting.
    ///
    /// # Errors
    /// There is no room, or the thread has ended; nothing was loaded.
    pub fn load(&self, model: ModelId, resident: Resident) -> Result<(), Unreachable> {
        self.change(ToWorker::Load { model, resident: Box::new(resident) })
    }

    /// Gives a model up once the batches that wait have run, without waiting for it. `done`, which
    /// has room for one answer, gets the model back, so that its memory is freed elsewhere.
    ///
    /// # Errors
    /// There is no room, or the thread has ended.
    pub fn unload(
        &self,
        model: ModelId,
        done: Sender<Option<Box<Resident>>>,
    ) -> Result<(), Unreachable> {
        self.change(ToWorker::Unload { model, done })
    }

    fn change(&self, message: ToWorker) -> Result<(), Unreachable> {
        // Counted before it is sent, because the receiver counts it down.
        let sent = match self.changes.fetch_add(1, Ordering::AcqRel) {
            CHANGES_MAX.. => Err(Unreachable::Stuck(self.accelerator)),
            _ => self.inbox.try_send(message).map_err(|error| match error {
                TrySendError::Full(_) => Unreachable::Stuck(self.accelerator),
                TrySendError::Disconnected(_) => Unreachable::Stopped(self.accelerator),
            }),
        };
        if sent.is_err() {
            self.changes.fetch_sub(1, Ordering::AcqRel);
        }
        sent
    }
}

/// A running accelerator.
#[derive(Debug)]
pub struct Worker {
    port: WorkerPort,
    thread: JoinHandle<()>,
}

/// What an accelerator's thread needs of the rest of the process.
#[derive(Clone, Debug)]
pub struct WorkerContext {
    /// The process's clock.
    pub clock: Clock,
    /// Where the requests' tensors wait.
    pub in_flight: Arc<InFlight>,
    /// Where completions go.
    pub scheduler: SchedulerPort,
}

impl WorkerContext {
    /// Gives a batch back that has not begun: its requests are scheduled again, and the scheduler
    /// is told that the batch has ended. Never blocks.
    ///
    /// # Errors
    /// The scheduler does not take that the batch has ended.
    pub fn hand_back(
        &self,
        accelerator: AcceleratorId,
        plan: &BatchPlan,
        why: &str,
    ) -> Result<(), SubmitError> {
        for request in &plan.requests {
            if let Err(error) = self.scheduler.submit(plan.model, *request)
                && let Some(pending) = self.in_flight.take(request.id)
            {
                pending.answer(Outcome::Failed(format!("{why}; {error}")));
            }
        }
        self.not_run(accelerator, plan.batch, plan.model)
    }

    /// Tells the scheduler that a batch has ended from which nothing can be learned.
    ///
    /// # Errors
    /// The scheduler does not take it.
    pub fn not_run(
        &self,
        accelerator: AcceleratorId,
        batch: BatchId,
        model: ModelId,
    ) -> Result<(), SubmitError> {
        let now = self.clock.now();
        let (taken, exec, finished) = (now, Span::ZERO, now);
        let completion = Completion { accelerator, batch, model, taken, exec, finished };
        self.scheduler.completed(completion)
    }
}

impl Worker {
    /// Starts the thread of an accelerator.
    ///
    /// # Errors
    /// The system has no room for another thread.
    pub fn start(accelerator: AcceleratorId, context: WorkerContext) -> io::Result<Worker> {
        let (inbox, messages) = crossbeam_channel::bounded(CHANGES_MAX + BATCHES_MAX);
        let changes = Arc::new(AtomicUsize::new(0));
        let worker = WorkerThread {
            accelerator,
            context,
            changes: Arc::clone(&changes),
            models: HashMap::new(),
            running: None,
        };
        let thread = thread::Builder::new()
            .name(format!("accelerator-{}", accelerator.0))
            .spawn(move || worker.serve(&messages))?;
        Ok(Worker { port: WorkerPort { accelerator, inbox, changes }, thread })
    }

    /// The way to it.
    #[must_use]
    pub fn port(&self) -> WorkerPort {
        self.port.clone()
    }

    /// Runs the batches that wait, then ends the thread and frees its models. Whether that came to
    /// pass: a batch that does not end is waited for no longer than this.
    #[must_use]
    pub fn stop(self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        let accelerator = self.port.accelerator.0;
        // When the thread has ended already there is nothing to tell it.
        let _ = self.port.inbox.send_timeout(ToWorker::Stop, wait);
        while !self.thread.is_finished() {
            if Instant::now() >= until {
                tracing::error!(accelerator, "the accelerator has not completed its batch");
                return false;
            }
            thread::sleep(STOP_AGAIN);
        }
        if let Err(panic) = self.thread.join() {
            tracing::error!(accelerator, "accelerator panicked: {}", panic_message(panic.as_ref()));
        }
        true
    }
}

/// What the thread owns.
struct WorkerThread {
    accelerator: AcceleratorId,
    context: WorkerContext,
    /// Loads and unloads that wait.
    changes: Arc<AtomicUsize>,
    models: HashMap<ModelId, Box<Resident>>,
    /// The batch that runs.
    running: Option<(BatchId, ModelId)>,
}

impl WorkerThread {
    fn serve(mut self, messages: &Receiver<ToWorker>) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.work(messages))) {
            self.lose(messages, &panic_message(panic.as_ref()));
        }
    }

    /// Runs batches until it is told to stop.
    fn work(&mut self, messages: &Receiver<ToWorker>) {
        for message in messages {
            match message {
                ToWorker::Load { model, resident } => {
                    self.changes.fetch_sub(1, Ordering::AcqRel);
                    self.models.insert(model, resident);
                }
                ToWorker::Unload { model, done } => {
                    self.changes.fetch_sub(1, Ordering::AcqRel);
                    // Nobody waiting is no reason to keep it.
                    let _ = done.send(self.models.remove(&model));
                }
                ToWorker::Run(plan) => self.execute(&plan),
                ToWorker::Stop => break,
            }
        }
        self.models.clear();
        let why = "the accelerator has stopped";
        for message in messages.try_iter() {
            if let ToWorker::Run(plan) = message {
                // A scheduler that does not take it has stopped, too.
                let _ = self.context.hand_back(self.accelerator, &plan, why);
            }
        }
    }

    /// The thread has failed, and runs nothing any more: the scheduler is told so, and gets back
    /// every batch that it sends before it knows.
    fn lose(&mut self, messages: &Receiver<ToWorker>, panic: &str) {
        let (accelerator, context) = (self.accelerator, &self.context);
        tracing::error!(accelerator = accelerator.0, "the accelerator's thread panicked: {panic}");
        let unheard = |error| {
            tracing::error!(accelerator = accelerator.0, "the scheduler is not told so: {error}");
        };
        context.scheduler.lose(accelerator).unwrap_or_else(unheard);
        if let Some((batch, model)) = self.running.take() {
            context.not_run(accelerator, batch, model).unwrap_or_else(unheard);
        }
        let why = format!("accelerator {} is lost", accelerator.0);
        for message in messages {
            match message {
                ToWorker::Run(plan) => {
                    context.hand_back(accelerator, &plan, &why).unwrap_or_else(unheard);
                }
                ToWorker::Load { .. } => drop(self.changes.fetch_sub(1, Ordering::AcqRel)),
                ToWorker::Unload { model, done } => {
                    self.changes.fetch_sub(1, Ordering::AcqRel);
                    let _ = done.send(self.models.remove(&model));
                }
                ToWorker::Stop => break,
            }
        }
    }

    fn execute(&mut self, plan: &BatchPlan) {
        let clock = self.context.clock;
        let taken = clock.now();
        self.running = Some((plan.batch, plan.model));
        let in_flight = Arc::clone(&self.context.in_flight);
        let mut batch = take(&in_flight, plan);
        let exec = match self.models.get_mut(&plan.model) {
            Some(resident) => {
                run(resident, plan, &mut batch, Run { clock, accelerator: self.accelerator, taken })
            }
            None => {
                fail(&mut batch, "the model is not loaded on the accelerator that was to run it");
                Span::ZERO
            }
        };
        let completion = Completion {
            accelerator: self.accelerator,
            batch: plan.batch,
            model: plan.model,
            taken,
            exec,
            finished: clock.now(),
        };
        // A scheduler that has stopped needs no completion; one that is behind has to have it.
        while self.context.scheduler.completed(completion) == Err(SubmitError::Full) {
            thread::sleep(ROOM_AGAIN);
        }
        self.running = None;
    }
}

/// The requests that still wait for an answer; those whose client left are let go.
fn take<'a>(in_flight: &'a InFlight, plan: &BatchPlan) -> Vec<(Request, Running<'a>)> {
    let take = |request: &Request| Some((*request, in_flight.run(request.id)?));
    plan.requests.iter().filter_map(take).collect()
}

/// Where and when a batch runs.
#[derive(Clone, Copy)]
struct Run {
    clock: Clock,
    accelerator: AcceleratorId,
    taken: Time,
}

/// Runs a batch and answers its requests; returns the time it took to assemble and compute it.
fn run(
    resident: &mut Resident,
    plan: &BatchPlan,
    batch: &mut Vec<(Request, Running<'_>)>,
    run: Run,
) -> Span {
    resident.clear();
    let requests = std::mem::take(batch);
    for (request, running) in requests {
        match resident.push(&running.inputs) {
            Ok(()) => batch.push((request, running)),
            // Only this request is unusable.
            Err(error) if error.is_of_value() => {
                running.answer(Outcome::Refused(error.to_string()));
            }
            Err(error) => running.answer(Outcome::Failed(error.to_string())),
        }
    }
    if batch.is_empty() {
        return Span::ZERO;
    }
    let rows: Vec<u32> = batch.iter().map(|(_, running)| running.inputs.rows).collect();
    let assembled = run.clock.now();
    let result = guarded("the engine", "running a batch", || resident.compute());
    let computed = run.clock.now();
    let exec = computed.since(run.taken);
    let parts =
        result.map_err(BatchError::from).and_then(|outputs| Ok(resident.split(outputs, &rows)?));
    match parts {
        Ok(parts) => {
            let execution = Execution {
                accelerator: run.accelerator,
                batch_rows: rows.iter().sum(),
                queued: Span::ZERO,
                assembly: assembled.since(run.taken),
                compute: computed.since(assembled),
                split: run.clock.now().since(computed),
                slack: Span::ZERO,
            };
            answer(batch.drain(..), parts, execution, plan.exec, run.taken);
        }
        Err(error) => {
            tracing::error!(
                model = %plan.model,
                accelerator = run.accelerator.0,
                requests = batch.len(),
                "batch failed: {error}"
            );
            match batch.len() {
                1 => fail(batch, &error.to_string()),
                _ => run_apart(resident, plan, batch, run),
            }
        }
    }
    exec
}

/// Runs the requests of a failed batch one by one: the fault may be one request's, and then the
/// others are not to suffer for it. What no client waits for any more is let go.
fn run_apart(
    resident: &mut Resident,
    plan: &BatchPlan,
    batch: &mut Vec<(Request, Running<'_>)>,
    at: Run,
) {
    for (request, running) in batch.drain(..) {
        if !running.is_abandoned() {
            let taken = at.clock.now();
            run(resident, plan, &mut vec![(request, running)], Run { taken, ..at });
        }
    }
}

/// Gives each request its outputs.
fn answer<'a>(
    batch: impl Iterator<Item = (Request, Running<'a>)>,
    parts: Vec<Vec<OutputTensor>>,
    execution: Execution,
    planned: Span,
    taken: Time,
) {
    for ((request, running), outputs) in batch.zip(parts) {
        let execution = Execution {
            queued: taken.since(request.arrival),
            slack: request.deadline.since(taken + planned),
            ..execution
        };
        running.answer(Outcome::Done(Answer { outputs, execution }));
    }
}

fn fail(batch: &mut Vec<(Request, Running<'_>)>, why: &str) {
    for (_, running) in batch.drain(..) {
        running.answer(Outcome::Failed(why.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::engine::{EngineError, Executable};
    use crate::engines::emulated::Emulation;
    use bytes::Bytes;
    use symphony_core::{BatchId, Class, Profile, RequestId};
    use symphony_wire::schedule::{
        Layout, MatcherControl, MatcherInbox, Message, ShardInbox, ToShard, scheduler,
    };
    use symphony_wire::tensor::{DataType, Inputs, Signature, TensorSpec, bytes_contents};
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
        let spec =
            |name: &str| TensorSpec { name: name.to_owned(), datatype, row_shape: vec![Some(1)] };
        let signature =
            Signature { inputs: vec![spec("x")], outputs: vec![spec("y")], batched: true };
        let profile = Profile::linear(Span(1), Span(1), rows_max).unwrap();
        let emulated = Emulation::new(Arc::new(profile)).load(&signature, 1).remove(0);
        Resident::new(Arc::new(signature), rows_max, Box::new(Touchy(emulated))).unwrap()
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
        context: WorkerContext,
        batches: u64,
    }

    impl Setup {
        fn new() -> Setup {
            let (scheduler, mut threads) = scheduler(Layout::TOGETHER);
            let mut thread = threads.remove(0);
            let (_, requests) = thread.shards.remove(0);
            let completions = thread.matcher.unwrap();
            let in_flight = Arc::new(InFlight::new(64));
            let context = WorkerContext { clock: Clock::start(), in_flight, scheduler };
            let worker = Worker::start(AcceleratorId(3), context.clone()).unwrap();
            worker.port().load(MODEL, resident(DataType::Uint8, 8)).unwrap();
            Setup { worker, completions, requests, context, batches: 0 }
        }

        /// Admits a request with one row per byte.
        fn admit(&self, rows: &[u8]) -> (Request, oneshot::Receiver<Outcome>) {
            self.admit_rows(rows.len(), Bytes::copy_from_slice(rows))
        }

        fn admit_rows(&self, rows: usize, data: Bytes) -> (Request, oneshot::Receiver<Outcome>) {
            let (reply, outcome) = oneshot::channel();
            let count = u32::try_from(rows).unwrap();
            let inputs = Inputs { rows: count, tensors: vec![data] };
            let id = self.context.in_flight.admit(inputs, reply).unwrap();
            let arrival = self.context.clock.now();
            (
                Request { id, arrival, deadline: arrival + HOUR, rows: count, class: Class::High },
                outcome,
            )
        }

        fn plan(&mut self, requests: Vec<Request>) -> BatchPlan {
            self.batches += 1;
            let rows = requests.iter().map(|request| request.rows).sum();
            let (batch, exec) = (BatchId(self.batches), Span::from_millis(1));
            let decided = self.context.clock.now();
            BatchPlan { batch, model: MODEL, requests, rows, exec, decided }
        }

        /// Sends a batch of one row.
        fn send(&mut self) -> oneshot::Receiver<Outcome> {
            let (request, outcome) = self.admit(&[1]);
            let plan = self.plan(vec![request]);
            self.worker.port().run(plan).unwrap();
            outcome
        }

        /// Runs a batch and waits for its completion.
        fn run(&mut self, requests: Vec<Request>) -> Completion {
            let plan = self.plan(requests);
            self.worker.port().run(plan).unwrap();
            let mut found = None;
            while found.is_none() {
                self.completions.drain(1, |message| match message {
                    Message::Plain(completion) => found = Some(completion),
                    Message::Control(other) => panic!("{other:?}"),
                });
                thread::yield_now();
            }
            let completion: Completion = found.unwrap();
            assert_eq!(completion.batch, BatchId(self.batches));
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
        let completion = setup.run(vec![first, second]);
        assert_eq!(completion.accelerator, AcceleratorId(3));
        assert!(completion.finished >= completion.taken + completion.exec);
        let Outcome::Done(answer) = first_outcome.try_recv().unwrap() else { panic!() };
        assert_eq!(
            answer.outputs[0],
            OutputTensor { shape: vec![2, 1], data: Bytes::from_static(&[1, 2]) }
        );
        let Execution { batch_rows, queued, assembly, compute, slack, accelerator, .. } =
            answer.execution;
        assert_eq!((accelerator, batch_rows), (AcceleratorId(3), 3));
        assert_eq!(queued, completion.taken.since(first.arrival));
        assert_eq!(slack, first.deadline.since(completion.taken + Span::from_millis(1)));
        assert_eq!(assembly + compute, completion.exec);
        assert_eq!(short(&mut second_outcome), "[3]");
        assert!(setup.context.in_flight.is_empty());
        assert!(setup.worker.stop(LONG));
    }

    #[test]
    fn what_cannot_run_fails_alone_and_the_accelerator_goes_on() {
        let mut setup = Setup::new();
        let mut check = |rows: &[u8], expected: &str| {
            let (request, mut outcome) = setup.admit(rows);
            setup.run(vec![request]);
            assert_eq!(short(&mut outcome), expected);
        };
        check(&[PANIC], "the engine panicked while running a batch: asked to");
        check(&[FAIL, 1], "touchy failed on a batch of 2 rows: asked to");
        check(&[1; 9], "the request has 9 rows where 1 to 8 fit");
        check(&[5], "[5]");
        let (good, mut good_outcome) = setup.admit(&[6]);
        let (large, mut large_outcome) = setup.admit(&[1; 8]);
        setup.run(vec![large, good]);
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
            setup.run(vec![first, odd, last]);
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
        setup.run(vec![first, odd, last]);
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
        setup.run(vec![gone, taken, stays]);
        assert_eq!(short(&mut outcome), "[4]");
        let unknown = Request { id: RequestId::only(u64::MAX), ..stays };
        assert_eq!(setup.run(vec![unknown]).exec, Span::ZERO);
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
        setup.run(vec![request]);
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
        let plan = setup.plan(vec![request]);
        port.run(plan).unwrap();
        assert!(setup.worker.stop(LONG));
        let mut lost = Vec::new();
        let mut ended = Vec::new();
        setup.completions.drain(9, |message| match message {
            Message::Control(MatcherControl::Lose { accelerator }) => lost.push(accelerator),
            Message::Plain(Completion { batch, exec, .. }) => ended.push((batch, exec)),
            Message::Control(other) => panic!("{other:?}"),
        });
        assert_eq!((lost, ended), (vec![AcceleratorId(3)], vec![(BatchId(1), Span::ZERO)]));
        let mut again = Vec::new();
        setup.requests.drain(9, |message| match message {
            Message::Plain(ToShard::Submit { model, request }) => again.push((model, request.id)),
            other => panic!("{other:?}"),
        });
        assert_eq!(again, [(MODEL, request.id)]);
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
        assert_eq!(setup.run(vec![request]).exec, Span::ZERO);
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
    fn stopping_runs_what_waits_and_refuses_the_rest() {
        let mut setup = Setup::new();
        let port = setup.worker.port();
        let (request, mut outcome) = setup.admit(&[1]);
        let plan = setup.plan(vec![request]);
        port.run(plan.clone()).unwrap();
        assert!(setup.worker.stop(LONG));
        assert_eq!(short(&mut outcome), "[1]");
        assert!(matches!(port.run(plan), Err(Refused::Stopped(back)) if back.batch == BatchId(1)));
        assert_eq!(
            port.load(MODEL, resident(DataType::Uint8, 1)),
            Err(Unreachable::Stopped(AcceleratorId(3)))
        );
    }
}
