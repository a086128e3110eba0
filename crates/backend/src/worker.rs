//! The thread of one accelerator: runs the batches it is told to run, one after the other.
//!
//! It takes each request's tensors out of the in-flight table, so it owes each its outcome. What
//! cannot be run is answered as refused or failed, and the thread goes on. It decides nothing about
//! when or with whom a request runs.
//!
//! Should the thread fail itself, its accelerator is lost: the requests of the batch that ran are
//! answered as failed, and those of every batch that it is sent later are scheduled again.

mod carrier;
mod execute;
mod gap;
mod idle;
mod port;
#[cfg(test)]
mod tests;

pub use carrier::{InProcessCarrier, WorkerCarrier};
pub use gap::{Gap, GapPort, Gaps};
pub use idle::Ready;
pub use port::{CHANGES_MAX, Probe, Refused, Unreachable, WorkerPort};

use crate::engine::{guarded, panic_message};
use crate::resident::Resident;
use crossbeam_channel::Receiver;
use execute::{BatchRun, take};
use gap::{Lender, gaps};
use idle::IdleGaps;
use port::{ROOM_AGAIN, ToWorker};
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use symphony_core::{AcceleratorId, BatchId, ModelId, Span, Time};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::SubmitError;
use symphony_wire::clock::Clock;
use symphony_wire::message::{BatchPlan, Completion};

/// How often a thread looks whether another has ended.
const STOP_AGAIN: Duration = Duration::from_millis(1);

/// A running accelerator.
#[derive(Debug)]
pub struct Worker {
    port: WorkerPort,
    gaps: GapPort,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts the thread of an accelerator.
    ///
    /// # Errors
    /// The system has no room for another thread.
    pub fn start(
        accelerator: AcceleratorId,
        clock: Clock,
        carrier: Arc<dyn WorkerCarrier>,
    ) -> io::Result<Worker> {
        let (port, messages) = WorkerPort::new(accelerator);
        let (gaps, lender) = gaps(accelerator);
        let worker = WorkerThread {
            accelerator,
            clock,
            carrier,
            changes: port.changes(),
            probes: port.probes(),
            lender,
            models: HashMap::new(),
            lanes: HashMap::new(),
            running: None,
            idle: IdleGaps::default(),
        };
        let thread = thread::Builder::new()
            .name(format!("accelerator-{}", accelerator.0))
            .spawn(move || worker.serve(&messages))?;
        Ok(Worker { port, gaps, thread })
    }

    /// The way to it.
    #[must_use]
    pub fn port(&self) -> WorkerPort {
        self.port.clone()
    }

    /// The way to the gaps between its batches.
    #[must_use]
    pub fn gaps(&self) -> GapPort {
        self.gaps.clone()
    }

    /// Runs the batches that wait, then ends the thread and frees its models. Returns whether it has
    /// ended: a batch that does not end is waited for no longer than this.
    #[must_use]
    pub fn stop(self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        let accelerator = self.port.accelerator().0;
        self.port.stop(wait);
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
    /// The process's clock.
    clock: Clock,
    /// The way to the other roles.
    carrier: Arc<dyn WorkerCarrier>,
    /// Loads and unloads that wait.
    changes: Arc<AtomicUsize>,
    /// Probes that wait.
    probes: Arc<AtomicUsize>,
    /// Lends its cores while no batch runs.
    lender: Lender,
    models: HashMap<ModelId, Box<Resident>>,
    /// Whose lane an identity is, beside each model's first.
    lanes: HashMap<ModelId, ModelId>,
    /// The batch that runs.
    running: Option<(BatchId, ModelId)>,
    /// How long it was idle between batches.
    idle: IdleGaps,
}

impl WorkerThread {
    fn serve(mut self, messages: &Receiver<ToWorker>) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.work(messages))) {
            self.lose(messages, &panic_message(panic.as_ref()));
        }
    }

    /// Runs batches until it is told to stop.
    fn work(&mut self, messages: &Receiver<ToWorker>) {
        while let Some(message) = self.lender.next(messages) {
            match message {
                ToWorker::Load { lanes, resident } => {
                    self.changes.fetch_sub(1, Ordering::AcqRel);
                    self.load(&lanes, resident);
                }
                ToWorker::Unload { model, done } => {
                    self.changes.fetch_sub(1, Ordering::AcqRel);
                    self.lanes.retain(|_, of| *of != model);
                    // Nobody waiting is no reason to keep it.
                    let _ = done.send(self.models.remove(&model));
                }
                ToWorker::Rename { model, lanes } => {
                    self.changes.fetch_sub(1, Ordering::AcqRel);
                    self.rename(model, &lanes);
                }
                ToWorker::Run(plan) => {
                    self.execute(plan);
                    self.lender.batch_ended();
                }
                ToWorker::Probe(probe) => {
                    self.probes.fetch_sub(1, Ordering::AcqRel);
                    if messages.is_empty() {
                        self.probe(&probe);
                    }
                }
                ToWorker::Stop => break,
            }
        }
        self.lender.end();
        self.models.clear();
        let why = "the accelerator has stopped";
        for message in messages.try_iter() {
            if let ToWorker::Run(plan) = message {
                // A scheduler that does not take it has stopped, too.
                let _ = self.carrier.hand_back(self.accelerator, plan, why);
            }
        }
    }

    /// Runs a model's batches, whichever of its lanes they come by.
    fn load(&mut self, lanes: &[ModelId], resident: Box<Resident>) {
        let Some((first, others)) = lanes.split_first() else { return };
        self.lanes.extend(others.iter().map(|lane| (*lane, *first)));
        self.models.insert(*first, resident);
    }

    /// Runs a model's batches by other lanes than before. What is queued by the lanes before still runs.
    fn rename(&mut self, model: ModelId, lanes: &[ModelId]) {
        let Some(first) = lanes.first().filter(|first| **first != model) else { return };
        let Some(resident) = self.models.remove(&model) else { return };
        self.lanes.values_mut().filter(|of| **of == model).for_each(|of| *of = *first);
        self.lanes.insert(model, *first);
        self.load(lanes, resident);
    }

    /// The thread has failed and runs nothing from now on. The scheduler is notified, and gets back
    /// every batch that it sends before it knows.
    fn lose(&mut self, messages: &Receiver<ToWorker>, panic: &str) {
        self.lender.end();
        let (accelerator, carrier) = (self.accelerator, &self.carrier);
        tracing::error!(accelerator = accelerator.0, "the accelerator's thread panicked: {panic}");
        let unheard = |error| {
            tracing::error!(accelerator = accelerator.0, "cannot notify the scheduler: {error}");
        };
        carrier.lose(accelerator).unwrap_or_else(unheard);
        if let Some((batch, model)) = self.running.take() {
            carrier.not_run(accelerator, batch, model).unwrap_or_else(unheard);
        }
        let why = format!("accelerator {} is lost", accelerator.0);
        for message in messages {
            match message {
                ToWorker::Run(plan) => {
                    carrier.hand_back(accelerator, plan, &why).unwrap_or_else(unheard);
                }
                ToWorker::Load { .. } | ToWorker::Rename { .. } => {
                    self.changes.fetch_sub(1, Ordering::AcqRel);
                }
                ToWorker::Probe(_) => drop(self.probes.fetch_sub(1, Ordering::AcqRel)),
                ToWorker::Unload { model, done } => {
                    self.changes.fetch_sub(1, Ordering::AcqRel);
                    let _ = done.send(self.models.remove(&model));
                }
                ToWorker::Stop => break,
            }
        }
    }

    /// Runs a batch, tells the scheduler that it has ended, and gives its plan's room back.
    fn execute(&mut self, plan: Timed<BatchPlan>) {
        let clock = self.clock;
        let lane = plan.message.model;
        let model = self.lanes.get(&lane).copied().unwrap_or(lane);
        // A plan for a model that had this one's place before finds none.
        if !self.models.contains_key(&model) {
            let accelerator = self.accelerator;
            let why = format!("the model is not loaded on accelerator {}", accelerator.0);
            if let Err(error) = self.carrier.refuse(accelerator, plan, &why) {
                tracing::error!("{why}; the scheduler cannot be notified: {error}");
            }
            return;
        }
        let taken = clock.now();
        self.running = Some((plan.message.batch, plan.message.model));
        self.idle.began(taken, self.carrier.ready(&plan));
        let exec = self.run(&plan, model, taken);
        let finished = clock.now();
        let BatchPlan { batch, model, requests, .. } = plan.message;
        let (accelerator, stay) = (self.accelerator, finished.since(taken));
        // Inputs are at hand here: to take them is part of the execution.
        let (data, response) = (Span::ZERO, stay.saturating_sub(exec));
        let completion = Completion { accelerator, batch, model, data, exec, response, stay };
        let completion = Timed::new(finished, completion);
        // A scheduler that has stopped needs no completion; one that is behind has to have it.
        while self.carrier.completed(completion) == Err(SubmitError::Full) {
            thread::sleep(ROOM_AGAIN);
        }
        self.running = None;
        self.carrier.give_back(requests);
        if let Some(gaps) = self.idle.ended(finished) {
            self.carrier.gaps(accelerator, gaps);
        }
    }

    /// Runs a batch to see how long it takes. A model that fails on it fails on such requests, too,
    /// and says why then.
    fn probe(&mut self, probe: &Probe) {
        let clock = self.clock;
        let Some(resident) = self.models.get_mut(&probe.model) else { return };
        let taken = clock.now();
        if resident.assemble(probe.requests.iter()).is_err() {
            return;
        }
        if guarded("the engine", "running a probe", || resident.compute()).is_ok() {
            resident.took(clock.now().since(taken));
        }
    }

    /// Runs a batch and answers its requests; returns the time it took to assemble and compute it.
    fn run(&mut self, plan: &Timed<BatchPlan>, model: ModelId, taken: Time) -> Span {
        let Some(resident) = self.models.get_mut(&model) else { return Span::ZERO };
        let mut batch = take(self.carrier.as_ref(), &plan.message);
        let run = BatchRun { clock: self.clock, accelerator: self.accelerator, plan, taken };
        run.run(resident, &mut batch)
    }
}
