//! A request from its admission to its one outcome.
//!
//! Waits for the outcome, never past the deadline. When the waiting future is dropped the client
//! has left, and the request leaves the queue.

use crate::admission::Admission;
use crate::budget::HeldBytes;
use crate::error::{InferError, Limit, Missed};
use crate::metrics::{ModelHandle, RequestEnding};
use crate::record::RequestRecord;
use crate::request::{InferResponse, OutputOf};
use std::sync::Arc;
use symphony_core::{DropReason, Request, Span};
use symphony_wire::carrier::Timed;
use symphony_wire::message::{Answer, Cancel, Outcome};
use symphony_wire::tensor::{Inputs, OutputTensor};
use tokio::sync::oneshot;

/// A request between admission and outcome. Dropped unsettled, its client has left.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    pub(crate) admission: &'a Admission,
    pub(crate) handle: Arc<ModelHandle>,
    /// The client's name for it; empty when it gave none.
    pub(crate) id: String,
    /// What the scheduler knows of it.
    pub(crate) metadata: Request,
    /// Which limit its deadline comes from.
    pub(crate) limit: Limit,
    /// Which outputs of the signature the client wants, in the order of the answer.
    pub(crate) wanted: Vec<usize>,
    /// Where the outcome arrives.
    pub(crate) reply: oneshot::Receiver<Outcome>,
    /// Whether its ending has been recorded.
    pub(crate) is_settled: bool,
    pub(crate) _held: HeldBytes,
}

/// What became of an admitted request.
#[derive(Debug)]
pub(crate) enum Answered<'a> {
    /// It ran.
    Response(InferResponse),
    /// Its model was removed before the scheduler saw it. Here are its inputs.
    Unloaded(Admitted<'a>, Inputs),
}

impl<'a> Admitted<'a> {
    /// Waits for the outcome, at most until the deadline.
    ///
    /// # Errors
    /// The request was dropped, late, or failed.
    pub(crate) async fn answered(mut self) -> Result<Answered<'a>, InferError> {
        let outcome = match self.admission.clock.instant(self.metadata.deadline) {
            Some(at) => tokio::time::timeout_at(at.into(), &mut self.reply).await.ok(),
            None => Some((&mut self.reply).await),
        };
        let answer = match outcome {
            Some(Ok(Outcome::Unloaded(inputs))) => return Ok(Answered::Unloaded(self, inputs)),
            Some(Ok(outcome)) => self.settle(outcome),
            // Whatever took the entry let it go without even the outcome that a drop gives.
            Some(Err(_)) => self.settle(Outcome::Failed("its outcome was lost".to_owned())),
            None => self.expire(),
        }?;
        Ok(Answered::Response(InferResponse {
            model: Arc::clone(&self.handle.model),
            id: std::mem::take(&mut self.id),
            outputs: self.select(answer.outputs)?,
            execution: answer.execution,
        }))
    }

    /// Submits the request to the version that is served now, with the deadline that it has, if
    /// that version takes the same inputs.
    ///
    /// # Errors
    /// No version is served that does, or there is no room for the request now.
    pub(crate) fn submit_to(
        mut self,
        next: Option<Arc<ModelHandle>>,
        inputs: Inputs,
    ) -> Result<Admitted<'a>, InferError> {
        let before = Arc::clone(&self.handle.model);
        let takes = |next: &Arc<ModelHandle>| {
            let next = &next.model;
            next.id != before.id
                && next.signature == before.signature
                && next.rows_max >= inputs.rows
        };
        let Some(next) = next.filter(takes) else {
            return Err(self.dropped(DropReason::Unloaded, self.elapsed()));
        };
        self.handle = next;
        let metadata = |id| Request { id, ..self.metadata };
        match self.admission.submit(&self.handle.model, inputs, metadata) {
            Ok((metadata, reply)) => {
                (self.metadata, self.reply) = (metadata, reply);
                Ok(self)
            }
            Err(error) => Err(self.end(RequestEnding::Refused, self.elapsed(), error)),
        }
    }

    /// The outcome came.
    fn settle(&mut self, outcome: Outcome) -> Result<Answer, InferError> {
        let elapsed = self.elapsed();
        match outcome {
            Outcome::Done(answer) => self.done(answer, elapsed),
            Outcome::Dropped { reason, queued } => Err(self.dropped(reason, queued)),
            Outcome::Unloaded(_) => Err(self.dropped(DropReason::Unloaded, elapsed)),
            Outcome::Refused(message) => {
                Err(self.end(RequestEnding::Refused, elapsed, InferError::Invalid(message)))
            }
            Outcome::Failed(message) => {
                let model = self.handle.model.name.clone();
                let error = InferError::Failed { model, message };
                Err(self.end(RequestEnding::Failed, elapsed, error))
            }
        }
    }

    /// The request ran.
    fn done(&mut self, answer: Answer, elapsed: Span) -> Result<Answer, InferError> {
        self.handle.ran(self.metadata.rows, &answer.execution);
        if self.metadata.arrival + elapsed > self.metadata.deadline {
            return Err(self.missed(RequestEnding::Late, Missed::Running, elapsed));
        }
        self.is_settled = true;
        self.admission.recorder.good(self.entry(), elapsed, &answer.execution);
        Ok(answer)
    }

    /// The deadline came first.
    fn expire(&mut self) -> Result<Answer, InferError> {
        let elapsed = self.elapsed();
        if self.withdraw() {
            return Err(self.missed(RequestEnding::Expired, Missed::Queued, elapsed));
        }
        match self.reply.try_recv() {
            Ok(outcome) => self.settle(outcome),
            Err(_) => Err(self.missed(RequestEnding::Late, Missed::Running, elapsed)),
        }
    }

    /// The scheduler took the request out of its queue.
    fn dropped(&mut self, reason: DropReason, queued: Span) -> InferError {
        let model = &self.handle.model;
        let error = match reason {
            DropReason::Hopeless | DropReason::Overload => {
                return self.missed(
                    RequestEnding::Dropped(reason),
                    Missed::Dropped(reason),
                    queued,
                );
            }
            DropReason::QueueFull => InferError::overloaded(format!(
                "the queue of model {:?} is full: it holds {} requests, its limit",
                model.name, model.queue_max
            )),
            DropReason::Evicted => InferError::overloaded(format!(
                "the queue of model {:?} is full: it holds {} requests, its limit, and a request \
                 of high priority took the place of this one",
                model.name, model.queue_max
            )),
            DropReason::TooLarge => InferError::Invalid(format!(
                "{} rows are more than model {:?} takes at once: split the request",
                self.metadata.rows, model.name
            )),
            DropReason::Unloaded => InferError::Unavailable(format!(
                "model {:?} was unloaded before the request could be queued",
                model.name
            )),
        };
        self.end(RequestEnding::Dropped(reason), queued, error)
    }

    fn missed(&mut self, ending: RequestEnding, missed: Missed, queued: Span) -> InferError {
        let model = self.handle.model.name.clone();
        let error = InferError::Deadline { model, limit: self.limit, queued, missed };
        self.end(ending, queued, error)
    }

    fn end(&mut self, ending: RequestEnding, after: Span, error: InferError) -> InferError {
        self.is_settled = true;
        self.admission.recorder.ended(self.entry(), ending, after, &error);
        error
    }

    /// Takes the request out of the queue, unless something has taken it already.
    fn withdraw(&self) -> bool {
        let Request { id, arrival, deadline, .. } = self.metadata;
        let Some(pending) = self.admission.inflight.take(id) else { return false };
        drop(pending);
        let (model, budget) = (self.handle.model.id, deadline.since(arrival));
        self.admission.scheduler.cancel(Timed::new(arrival, Cancel { model, id, budget }));
        true
    }

    /// The wanted outputs of all.
    fn select(&self, outputs: Vec<OutputTensor>) -> Result<Vec<OutputOf>, InferError> {
        let mut outputs: Vec<_> = outputs.into_iter().map(Some).collect();
        let selected = self.wanted.iter().map(|&index| {
            let tensor = outputs.get_mut(index)?.take()?;
            Some(OutputOf { index, tensor })
        });
        selected.collect::<Option<Vec<_>>>().ok_or_else(|| InferError::Failed {
            model: self.handle.model.name.clone(),
            message: "the engine returned fewer outputs than the model has".to_owned(),
        })
    }

    fn entry(&self) -> RequestRecord<'_> {
        let Request { class, rows, .. } = self.metadata;
        RequestRecord { handle: &self.handle, id: &self.id, class, rows }
    }

    fn elapsed(&self) -> Span {
        self.admission.clock.now().since(self.metadata.arrival)
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.admission.metrics.in_flight.down(1);
        if !self.is_settled {
            self.withdraw();
            self.admission.recorder.left(self.entry(), self.elapsed());
        }
    }
}
