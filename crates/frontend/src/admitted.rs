//! A request from its admission to its one outcome.
//!
//! Waits for the outcome, never past the deadline. When the waiting future is dropped the client
//! has left, and the request leaves the queue.

use crate::admission::Admission;
use crate::budget::HeldBytes;
use crate::error::{InferError, Limit, Missed};
use crate::metrics::{ModelHandle, RequestEnding};
use crate::parts::{self, Parts, RequestTerms};
use crate::record::RequestRecord;
use crate::request::{InferResponse, OutputOf};
use std::sync::Arc;
use symphony_core::{DropReason, Span};
use symphony_wire::message::{Answer, Outcome};
use symphony_wire::tensor::{Inputs, OutputTensor};

/// A request between admission and outcome. Dropped unsettled, its client has left.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    pub(crate) admission: &'a Admission,
    pub(crate) handle: Arc<ModelHandle>,
    /// The client's name for it; empty when it gave none.
    pub(crate) id: String,
    /// What the scheduler knows of it.
    pub(crate) terms: RequestTerms,
    /// Which limit its deadline comes from.
    pub(crate) limit: Limit,
    /// Which outputs of the signature the client wants, in the order of the answer.
    pub(crate) wanted: Vec<usize>,
    /// What of it is queued.
    pub(crate) parts: Parts,
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
        let ended = match self.admission.clock.instant(self.terms.deadline) {
            Some(at) => tokio::time::timeout_at(at.into(), self.parts.ended()).await.ok(),
            None => Some(self.parts.ended().await),
        };
        let answer = match ended {
            Some(Some(Outcome::Unloaded(inputs))) => {
                // The other parts would run on a version that goes.
                self.withdraw();
                let inputs = self.parts.inputs(inputs);
                return Ok(Answered::Unloaded(self, inputs));
            }
            Some(outcome) => self.settle(outcome),
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
                && inputs.rows <= next.rows_max.max(self.admission.request_rows_max)
        };
        let Some(next) = next.filter(takes) else {
            return Err(self.dropped(DropReason::Unloaded, self.elapsed()));
        };
        self.handle = next;
        match Parts::submit(self.admission, &self.handle.model, inputs, self.terms) {
            Ok(parts) => {
                self.parts = parts;
                Ok(self)
            }
            Err(error) => Err(self.end(RequestEnding::Refused, self.elapsed(), error)),
        }
    }

    /// All parts have their answers, or the outcome of one came that is none.
    fn settle(&mut self, outcome: Option<Outcome>) -> Result<Answer, InferError> {
        let elapsed = self.elapsed();
        let Some(outcome) = outcome else { return self.done(elapsed) };
        match outcome {
            Outcome::Done(_) => self.done(elapsed),
            Outcome::Dropped { reason, queued } => Err(self.dropped(reason, queued)),
            Outcome::Unloaded(_) => Err(self.dropped(DropReason::Unloaded, elapsed)),
            Outcome::Refused(message) => {
                Err(self.end(RequestEnding::Refused, elapsed, InferError::Invalid(message)))
            }
            Outcome::Failed(message) => Err(self.failed(message, elapsed)),
        }
    }

    fn failed(&mut self, message: String, elapsed: Span) -> InferError {
        let model = self.handle.model.name.clone();
        self.end(RequestEnding::Failed, elapsed, InferError::Failed { model, message })
    }

    /// The request ran.
    fn done(&mut self, elapsed: Span) -> Result<Answer, InferError> {
        let answers = self.parts.answers();
        for (rows, answer) in &answers {
            self.handle.ran_part(*rows, &answer.execution);
        }
        let answer = parts::joined(&self.handle.model.signature, answers)
            .map_err(|problem| self.failed(problem, elapsed))?;
        self.handle.ran(&answer.execution);
        if self.terms.arrival + elapsed > self.terms.deadline {
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
        let outcome = self.parts.take_outcomes();
        if outcome.is_some() || self.parts.are_answered() {
            return self.settle(outcome);
        }
        Err(self.missed(RequestEnding::Late, Missed::Running, elapsed))
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
                self.terms.rows, model.name
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
        // Nobody waits for the other parts.
        self.withdraw();
        self.admission.recorder.ended(self.entry(), ending, after, &error);
        error
    }

    /// Takes the request out of the queue, unless something has taken all of it already.
    fn withdraw(&self) -> bool {
        self.parts.withdraw(self.admission)
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
        let RequestTerms { class, rows, .. } = self.terms;
        RequestRecord { handle: &self.handle, id: &self.id, class, rows }
    }

    fn elapsed(&self) -> Span {
        self.admission.clock.now().since(self.terms.arrival)
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
