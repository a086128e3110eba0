//! The way to an accelerator: batches, loads and unloads, in order, none of which is waited for.

use crate::resident::Resident;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use symphony_core::{AcceleratorId, ModelId};
use symphony_wire::carrier::Timed;
use symphony_wire::message::BatchPlan;
use symphony_wire::tensor::Inputs;

/// Bound on loads and unloads waiting for one accelerator.
pub const CHANGES_MAX: usize = 64;
/// Bound on batches at one accelerator: the running one and the next.
const BATCHES_MAX: usize = 2;
/// Bound on probes that wait for one accelerator.
const PROBES_MAX: usize = 1;
/// How often a thread looks again for room, for a completion or for a load.
pub(super) const ROOM_AGAIN: Duration = Duration::from_millis(1);

/// What an accelerator can be told.
#[derive(Debug)]
pub(super) enum ToWorker {
    /// The plans of all these identities are for this model; the first is its own.
    Load {
        lanes: Vec<ModelId>,
        resident: Box<Resident>,
    },
    Unload {
        model: ModelId,
        done: Sender<Option<Box<Resident>>>,
    },
    /// The plans for a model that is loaded name these lanes from now on.
    Rename {
        model: ModelId,
        lanes: Vec<ModelId>,
    },
    Run(Timed<BatchPlan>),
    Probe(Probe),
    Stop,
}

/// A batch that is run only to see how long it takes, if nothing else is to be run.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The model.
    pub model: ModelId,
    /// Its generated requests, together one batch.
    pub requests: Vec<Inputs>,
}

/// Why an accelerator was not told to load a model, or to give one up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// Its thread has ended.
    #[error("accelerator {} has stopped: restart the server", .0.0)]
    Stopped(AcceleratorId),
    /// It does not end its batch, and as many loads and unloads wait for it as can.
    #[error(
        "accelerator {} does not complete its batch, and {CHANGES_MAX} loads and unloads wait for it \
         already, the most there may be: try again when the batch is complete; if it never is, \
         restart the server",
        .0.0
    )]
    Stuck(AcceleratorId),
}

/// Why an accelerator did not take a plan, which comes back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    /// More batches wait for it than a scheduler plans.
    #[error("too many batches wait for the accelerator")]
    Full(Timed<BatchPlan>),
    /// Its thread has ended.
    #[error("the accelerator has stopped")]
    Stopped(Timed<BatchPlan>),
}

/// The way to an accelerator; clones lead to the same one.
#[derive(Clone, Debug)]
pub struct WorkerPort {
    accelerator: AcceleratorId,
    inbox: Sender<ToWorker>,
    /// Loads and unloads in the inbox.
    changes: Arc<AtomicUsize>,
    /// Probes in the inbox.
    probes: Arc<AtomicUsize>,
}

impl WorkerPort {
    /// The way to an accelerator, and what its thread reads.
    pub(super) fn new(accelerator: AcceleratorId) -> (WorkerPort, Receiver<ToWorker>) {
        let (inbox, messages) = crossbeam_channel::bounded(CHANGES_MAX + BATCHES_MAX + PROBES_MAX);
        let (changes, probes) = (Arc::default(), Arc::default());
        (WorkerPort { accelerator, inbox, changes, probes }, messages)
    }

    /// Loads and unloads in the inbox, for the thread to count down.
    pub(super) fn changes(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.changes)
    }

    /// Probes in the inbox, for the thread to count down.
    pub(super) fn probes(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.probes)
    }

    /// Has a batch run only to see how long it takes, unless something is waiting for the
    /// accelerator by now. Nobody is told; the times of the model's batches tell.
    pub fn probe(&self, probe: Probe) {
        if !self.inbox.is_empty() {
            return;
        }
        let waiting = self.probes.fetch_add(1, Ordering::AcqRel);
        if waiting >= PROBES_MAX || self.inbox.try_send(ToWorker::Probe(probe)).is_err() {
            self.probes.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Has the thread end behind what waits, if there is room before `wait` is over.
    pub(super) fn stop(&self, wait: Duration) {
        // A thread that has ended already needs not be told.
        let _ = self.inbox.send_timeout(ToWorker::Stop, wait);
    }

    /// Which accelerator.
    #[must_use]
    pub fn accelerator(&self) -> AcceleratorId {
        self.accelerator
    }

    /// Runs a batch after the batches that wait, without waiting for it.
    ///
    /// # Errors
    /// The plan comes back: its requests are still in flight.
    pub fn run(&self, plan: Timed<BatchPlan>) -> Result<(), Refused> {
        let refused = |message, why: fn(Timed<BatchPlan>) -> Refused| match message {
            ToWorker::Run(plan) => why(plan),
            _ => unreachable!("the message sent comes back"),
        };
        self.inbox.try_send(ToWorker::Run(plan)).map_err(|error| match error {
            TrySendError::Full(message) => refused(message, Refused::Full),
            TrySendError::Disconnected(message) => refused(message, Refused::Stopped),
        })
    }

    /// Waits until there is room for so many loads and unloads, but not beyond `until`. The room stays
    /// as long as nobody else sends any: batches have room of their own.
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
        self.load_lanes(&[model], resident)
    }

    /// The same for a model with several lanes, the first of which is the model's own identity.
    ///
    /// # Errors
    /// There is no room, or the thread has ended; nothing was loaded.
    pub fn load_lanes(&self, lanes: &[ModelId], resident: Resident) -> Result<(), Unreachable> {
        self.change(ToWorker::Load { lanes: lanes.to_vec(), resident: Box::new(resident) })
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

    /// Has a model that is loaded run the plans for other lanes than before; the first is its name.
    /// Does not wait.
    ///
    /// # Errors
    /// There is no room, or the thread has ended; nothing has changed.
    pub fn rename(&self, model: ModelId, lanes: &[ModelId]) -> Result<(), Unreachable> {
        self.change(ToWorker::Rename { model, lanes: lanes.to_vec() })
    }

    fn change(&self, message: ToWorker) -> Result<(), Unreachable> {
        // Counted before it is in the inbox, for the thread that takes it out counts it down.
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
