//! What carries the messages of an accelerator's thread to the other roles, and its requests' tensors
//! to it.

use super::idle::Ready;
use std::fmt::Debug;
use std::sync::Arc;
use symphony_core::{AcceleratorId, BatchId, ModelId, RequestId};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::{
    InFlight, PlanBuffers, RunningRequest, SchedulerPort, SubmitError,
};
use symphony_wire::clock::Clock;
use symphony_wire::message::{BatchPlan, Completion, GapFigures, Outcome, PlannedRequest};

/// The way from an accelerator's thread to the scheduler and to the frontends. Nothing here waits.
pub trait WorkerCarrier: Debug + Send + Sync {
    /// Takes a request's tensors to run it; `None` when they are not, or no longer, to be had.
    fn run(&self, id: RequestId) -> Option<RunningRequest<'_>>;

    /// Tells the scheduler that a batch has ended.
    ///
    /// # Errors
    /// The scheduler has stopped, or does not take it now.
    fn completed(&self, completion: Timed<Completion>) -> Result<(), SubmitError>;

    /// Gives a batch back that has not begun: its requests are scheduled again, and the scheduler
    /// is told that the batch has ended.
    ///
    /// # Errors
    /// The scheduler does not take that the batch has ended.
    fn hand_back(
        &self,
        accelerator: AcceleratorId,
        plan: Timed<BatchPlan>,
        why: &str,
    ) -> Result<(), SubmitError>;

    /// Gives a batch back that the accelerator cannot run though it runs others, as when it does not
    /// have the model. That it does not happen again is not certain: the requests are answered as
    /// failed, or scheduled again once. The scheduler is told that the batch has ended.
    ///
    /// # Errors
    /// The scheduler does not take that the batch has ended.
    fn refuse(
        &self,
        accelerator: AcceleratorId,
        plan: Timed<BatchPlan>,
        why: &str,
    ) -> Result<(), SubmitError>;

    /// Tells the scheduler that a batch has ended from which nothing can be learned.
    ///
    /// # Errors
    /// The scheduler does not take it.
    fn not_run(
        &self,
        accelerator: AcceleratorId,
        batch: BatchId,
        model: ModelId,
    ) -> Result<(), SubmitError>;

    /// Tells the scheduler that the accelerator runs nothing from now on.
    ///
    /// # Errors
    /// The scheduler does not take it.
    fn lose(&self, accelerator: AcceleratorId) -> Result<(), SubmitError>;

    /// Gives the room of a plan back.
    fn give_back(&self, requests: Vec<PlannedRequest>);

    /// When a batch that begins was planned, and had its inputs. Here they are at hand.
    fn ready(&self, plan: &Timed<BatchPlan>) -> Ready {
        Ready { planned: plan.at, inputs: plan.at }
    }

    /// Tells how the accelerator lay idle lately though its next batch was planned.
    fn gaps(&self, accelerator: AcceleratorId, gaps: GapFigures);
}

/// The way to roles in the same process.
#[derive(Clone, Debug)]
pub struct InProcessCarrier {
    /// The process's clock.
    pub clock: Clock,
    /// Where the requests' tensors wait.
    pub in_flight: Arc<InFlight>,
    /// Where completions go.
    pub scheduler: SchedulerPort,
    /// Where the room of plans is given back to.
    pub buffers: PlanBuffers,
}

impl WorkerCarrier for InProcessCarrier {
    fn run(&self, id: RequestId) -> Option<RunningRequest<'_>> {
        self.in_flight.run(id)
    }

    fn completed(&self, completion: Timed<Completion>) -> Result<(), SubmitError> {
        self.scheduler.completed(completion)
    }

    fn hand_back(
        &self,
        accelerator: AcceleratorId,
        plan: Timed<BatchPlan>,
        why: &str,
    ) -> Result<(), SubmitError> {
        let Timed { at, message: BatchPlan { batch, model, requests, .. } } = plan;
        for request in &requests {
            if let Err(error) = self.scheduler.submit(Timed::new(at, request.submit(model)))
                && let Some(pending) = self.in_flight.take(request.id)
            {
                pending.answer(Outcome::Failed(format!("{why}; {error}")));
            }
        }
        self.buffers.give_back(requests);
        self.not_run(accelerator, batch, model)
    }

    fn refuse(
        &self,
        accelerator: AcceleratorId,
        plan: Timed<BatchPlan>,
        why: &str,
    ) -> Result<(), SubmitError> {
        let BatchPlan { batch, model, requests, .. } = plan.message;
        for request in &requests {
            if let Some(pending) = self.in_flight.take(request.id) {
                pending.answer(Outcome::Failed(format!("the batch could not be run: {why}")));
            }
        }
        self.buffers.give_back(requests);
        self.not_run(accelerator, batch, model)
    }

    fn not_run(
        &self,
        accelerator: AcceleratorId,
        batch: BatchId,
        model: ModelId,
    ) -> Result<(), SubmitError> {
        let completion = Completion::not_run(accelerator, batch, model);
        self.scheduler.completed(Timed::new(self.clock.now(), completion))
    }

    fn lose(&self, accelerator: AcceleratorId) -> Result<(), SubmitError> {
        self.scheduler.lose(accelerator)
    }

    fn give_back(&self, requests: Vec<PlannedRequest>) {
        self.buffers.give_back(requests);
    }

    fn gaps(&self, accelerator: AcceleratorId, gaps: GapFigures) {
        self.scheduler.set_gaps(accelerator, gaps);
    }
}
