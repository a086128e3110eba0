//! What an accelerator's thread sees of the cluster: the inputs that were fetched, the frontends that
//! outcomes go to, and the scheduler that completions go to.

use super::fetching::ReadyBatch;
use super::sent::SentBatch;
use super::shared::Shared;
use crate::lock::lock;
use symphony_backend::worker::{Ready, Refused, WorkerCarrier};
use symphony_core::{AcceleratorId, BatchId, ModelId, RequestId};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::{Answers, RunningRequest, SubmitError};
use symphony_wire::carrier::link::SendError;
use symphony_wire::message::link::{
    AcceleratorGaps, BackendToFrontend, BackendToScheduler, HandedBack,
};
use symphony_wire::message::{BatchPlan, Completion, GapFigures, Outcome, PlannedRequest};

impl Shared {
    /// Runs a batch whose inputs are there, as far as they are to be had.
    pub(crate) fn run_batch(&self, batch: ReadyBatch) {
        let ReadyBatch { key, place, plan } = batch;
        let number = {
            let mut sent = lock(&self.sent);
            let Some((number, known)) = sent.by_key(key) else { return };
            known.ready = self.clock.now();
            number
        };
        let plan = Timed::new(plan.at, BatchPlan { batch: number, ..plan.message });
        let Some(worker) = self.workers.get().and_then(|workers| workers.get(place)) else {
            return;
        };
        if let Err(refused) = worker.run(plan) {
            let why = format!("accelerator {place} of backend {:?}: {refused}", self.config.name);
            tracing::error!("{why}");
            let accelerator = worker.accelerator();
            let _ = match refused {
                Refused::Full(plan) => self.refuse(accelerator, plan, &why),
                Refused::Stopped(plan) => self.hand_back(accelerator, plan, &why),
            };
        }
    }

    /// What the accelerator of this place is called in the pool.
    fn number_of(&self, place: AcceleratorId) -> AcceleratorId {
        self.numbers.load().get(place.index()).copied().unwrap_or(place)
    }

    fn send(&self, message: &BackendToScheduler) -> Result<(), SubmitError> {
        let Some(sender) = lock(&self.active).as_ref().map(|active| active.sender.clone()) else {
            // Whoever takes over asks what runs.
            return Ok(());
        };
        match sender.send(message) {
            Err(SendError::Full) => Err(SubmitError::Full),
            // The end of the link is noticed where it is read.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Answers for Shared {
    fn settle(&self, id: RequestId, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Done(mut answer) => {
                answer.execution.accelerator = self.number_of(answer.execution.accelerator);
                Outcome::Done(answer)
            }
            other => other,
        };
        let mut message = BackendToFrontend::Outcome { number: id.number(), outcome };
        let mut tried = None;
        loop {
            let next = lock(&self.data).sender_or_keep(id, tried.as_ref(), &message);
            let Some(sender) = next else { return };
            match sender.send(&message) {
                Ok(()) => return,
                Err(error @ (SendError::Closed(_) | SendError::Full)) => {
                    // One that reads too slowly is as good as gone, and comes back.
                    sender.close(&error.to_string());
                    tried = Some(sender);
                }
                Err(error @ (SendError::TooLarge { .. } | SendError::Unwritable(_))) => {
                    let outcome = Outcome::Failed(format!("its answer cannot be sent: {error}"));
                    message = BackendToFrontend::Outcome { number: id.number(), outcome };
                }
            }
        }
    }

    fn is_abandoned(&self, id: RequestId) -> bool {
        lock(&self.data).is_abandoned(id)
    }
}

impl WorkerCarrier for Shared {
    fn run(&self, id: RequestId) -> Option<RunningRequest<'_>> {
        let inputs = lock(&self.fetching).take(id)?;
        Some(RunningRequest::new(id, inputs, self))
    }

    fn completed(&self, completion: Timed<Completion>) -> Result<(), SubmitError> {
        let Completion { accelerator, batch, .. } = completion.message;
        // Gone before it is told: where nobody is there to be told, whoever is next sees it.
        let Some(sent) = lock(&self.sent).batches.remove(&batch) else { return Ok(()) };
        let SentBatch { key, received, ready, .. } = sent;
        let awaited = lock(&self.data).take_awaited(&sent.requests);
        self.tell_not_run(&awaited);
        let completion = Completion {
            accelerator: self.number_of(accelerator),
            batch: key.batch,
            data: ready.since(received),
            stay: completion.at.since(received),
            ..completion.message
        };
        let told = self.send(&BackendToScheduler::Completed { epoch: key.epoch, completion });
        if told.is_err() {
            lock(&self.sent).batches.insert(batch, sent);
        }
        self.look_whether_drained();
        told
    }

    fn hand_back(
        &self,
        accelerator: AcceleratorId,
        plan: Timed<BatchPlan>,
        why: &str,
    ) -> Result<(), SubmitError> {
        lock(&self.fetching).forget(&plan.message);
        self.return_batch(accelerator, plan.message.batch, false, why)
    }

    fn refuse(
        &self,
        accelerator: AcceleratorId,
        plan: Timed<BatchPlan>,
        why: &str,
    ) -> Result<(), SubmitError> {
        lock(&self.fetching).forget(&plan.message);
        self.return_batch(accelerator, plan.message.batch, true, why)
    }

    fn not_run(
        &self,
        accelerator: AcceleratorId,
        batch: BatchId,
        _model: ModelId,
    ) -> Result<(), SubmitError> {
        self.return_batch(accelerator, batch, false, "the accelerator's thread has failed")
    }

    fn lose(&self, accelerator: AcceleratorId) -> Result<(), SubmitError> {
        lock(&self.lost).insert(accelerator);
        self.send(&BackendToScheduler::Lost { accelerator: self.number_of(accelerator) })
    }

    fn give_back(&self, requests: Vec<PlannedRequest>) {
        drop(requests);
    }

    fn ready(&self, plan: &Timed<BatchPlan>) -> Ready {
        let sent = lock(&self.sent);
        let known = sent.batches.get(&plan.message.batch);
        let at_hand = Ready { planned: plan.at, inputs: plan.at };
        known.map_or(at_hand, |sent| Ready { planned: sent.received, inputs: sent.ready })
    }

    fn gaps(&self, accelerator: AcceleratorId, gaps: GapFigures) {
        let gaps = AcceleratorGaps { accelerator: self.number_of(accelerator), gaps };
        // Where there is no room, the next are told.
        let _ = self.send(&BackendToScheduler::Gaps(vec![gaps]));
    }
}

impl Shared {
    fn return_batch(
        &self,
        accelerator: AcceleratorId,
        batch: BatchId,
        is_refused: bool,
        why: &str,
    ) -> Result<(), SubmitError> {
        let Some(SentBatch { key, requests, .. }) = lock(&self.sent).batches.remove(&batch) else {
            return Ok(());
        };
        self.look_whether_drained();
        // The scheduler that sees to them is the one that planned them.
        let is_known = lock(&self.active).as_ref().is_some_and(|active| active.epoch == key.epoch);
        if !is_known {
            self.tell_not_run(&requests);
        }
        self.send(&BackendToScheduler::HandedBack(HandedBack {
            epoch: key.epoch,
            accelerator: self.number_of(accelerator),
            batch: key.batch,
            is_refused,
            why: why.to_owned(),
        }))
    }
}
