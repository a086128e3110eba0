//! Runs what one plan asks for: takes its requests' tensors, runs the engine, and answers each
//! request. A plan is a proposal: which of its requests can share a batch is decided here, by what
//! they hold.

use super::carrier::WorkerCarrier;
use crate::batch::{AssemblyError, RefusedRequest};
use crate::engine::{FailedRequest, guarded};
use crate::resident::{BatchError, Resident};
use symphony_core::{AcceleratorId, Span, Time};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::RunningRequest;
use symphony_wire::clock::Clock;
use symphony_wire::message::{Answer, BatchPlan, Execution, Outcome, PlannedRequest};
use symphony_wire::tensor::{Inputs, OutputTensor, Signature};

/// The requests of a batch that have no outcome yet.
type Waiting<'a> = Vec<(PlannedRequest, RunningRequest<'a>)>;

/// The requests that still wait for an answer. Those whose client has left are dropped.
pub(super) fn take<'a>(carrier: &'a dyn WorkerCarrier, plan: &BatchPlan) -> Waiting<'a> {
    let take = |request: &PlannedRequest| Some((*request, carrier.run(request.id)?));
    plan.requests.iter().filter_map(take).collect()
}

/// Answers all requests of a batch as failed.
pub(super) fn fail(batch: &mut Waiting<'_>, why: &str) {
    for (_, running) in batch.drain(..) {
        running.answer(Outcome::Failed(why.to_owned()));
    }
}

/// One run of a batch.
#[derive(Clone, Copy)]
pub(super) struct BatchRun<'a> {
    pub(super) clock: Clock,
    pub(super) accelerator: AcceleratorId,
    pub(super) plan: &'a Timed<BatchPlan>,
    /// When it began.
    pub(super) taken: Time,
}

impl BatchRun<'_> {
    /// Runs the requests in batches of one form each, nearly always a single one, and answers the
    /// requests of each as it ends. Returns the time from taking up the plan until the last was
    /// computed.
    pub(super) fn run(self, resident: &mut Resident, requests: &mut Waiting<'_>) -> Span {
        let (mut taken, mut computed) = (self.taken, self.taken);
        while let Some(mut batch) = next_batch(resident, requests) {
            let run = BatchRun { taken, ..self };
            computed = run.batch(resident, &mut batch).unwrap_or(computed);
            taken = self.clock.now();
        }
        computed.since(self.taken)
    }

    /// Runs requests of one form and answers them. Returns when they were computed, unless none of
    /// them could be.
    fn batch(self, resident: &mut Resident, batch: &mut Waiting<'_>) -> Option<Time> {
        if let Err(error) = assemble(resident, batch) {
            self.failed(resident, batch, &error);
            return None;
        }
        if batch.is_empty() {
            return None;
        }
        let assembled = self.clock.now();
        let result = guarded("the engine", "running a batch", || resident.compute());
        let computed = self.clock.now();
        let parts =
            result.map_err(BatchError::from).and_then(|outputs| Ok(resident.split(outputs)?));
        match parts {
            Ok(parts) => {
                let failed = resident.failed();
                resident.took(computed.since(self.taken));
                let execution = Execution {
                    accelerator: self.accelerator,
                    batch_rows: resident.rows(),
                    queued: Span::ZERO,
                    assembly: assembled.since(self.taken),
                    compute: computed.since(assembled),
                    split: self.clock.now().since(computed),
                    slack: Span::ZERO,
                };
                self.answer(batch, parts, &failed, execution);
            }
            Err(error) => self.failed(resident, batch, &error),
        }
        Some(computed)
    }

    /// Gives each request its outputs.
    fn answer(
        self,
        batch: &mut Waiting<'_>,
        parts: Vec<Vec<OutputTensor>>,
        failed: &[FailedRequest],
        execution: Execution,
    ) {
        let Timed { at, message: plan } = self.plan;
        for (position, ((request, running), outputs)) in batch.drain(..).zip(parts).enumerate() {
            if let Some(failed) = failed.iter().find(|failed| failed.position == position) {
                running.answer(Outcome::Failed(failed.problem.clone()));
                continue;
            }
            let execution = Execution {
                queued: request.age + self.taken.since(*at),
                slack: (*at + request.budget).since(self.taken + plan.exec),
                ..execution
            };
            running.answer(Outcome::Done(Answer { outputs, execution }));
        }
    }

    /// The engine failed on the batch. The fault may be one request's, and the others are not to
    /// suffer for it: each runs again, alone.
    fn failed(self, resident: &mut Resident, batch: &mut Waiting<'_>, error: &BatchError) {
        tracing::error!(
            model = %self.plan.message.model,
            accelerator = self.accelerator.0,
            requests = batch.len(),
            "batch failed: {error}"
        );
        if batch.len() == 1 {
            return fail(batch, &error.to_string());
        }
        for (request, running) in batch.drain(..) {
            // Without a client nobody waits for the answer.
            if !running.is_abandoned() {
                let alone = BatchRun { taken: self.clock.now(), ..self };
                alone.batch(resident, &mut vec![(request, running)]);
            }
        }
    }
}

/// Takes the requests that run together with the first: those of its form, as many as keep to the
/// bound on memory. Returns `None` when none is left.
fn next_batch<'a>(resident: &Resident, requests: &mut Waiting<'a>) -> Option<Waiting<'a>> {
    let signature = resident.signature();
    let all_are_alike = signature.is_batched() && signature.dimensions.is_empty();
    if all_are_alike && !signature.has_forms() && !requests.is_empty() {
        return Some(std::mem::take(requests));
    }
    let mut waiting = std::mem::take(requests).into_iter();
    let first = waiting.next()?;
    let (mut rows, mut sizes) = (first.1.inputs.rows, first.1.inputs.sizes.clone());
    let mut batch = vec![first];
    for (request, running) in waiting {
        let (first, inputs) = (&batch[0].1.inputs, &running.inputs);
        let longer = longest(signature, &sizes, inputs);
        let together = signature.is_batched()
            && signature.is_of_form(first, inputs)
            && resident.fits(rows.saturating_add(inputs.rows), &longer);
        if together {
            (rows, sizes) = (rows + inputs.rows, longer);
            batch.push((request, running));
        } else {
            requests.push((request, running));
        }
    }
    Some(batch)
}

/// The sizes of a batch with one more request.
fn longest(signature: &Signature, sizes: &[usize], inputs: &Inputs) -> Vec<usize> {
    let mut longest = sizes.to_vec();
    let Some(padded) = signature.padded.map(usize::from) else { return longest };
    if let (Some(size), Some(own)) = (longest.get_mut(padded), inputs.sizes.get(padded)) {
        *size = (*size).max(*own);
    }
    longest
}

/// Places the inputs of all requests in the buffers of the batch. A request whose inputs cannot be
/// used is answered, and leaves the others.
fn assemble(resident: &mut Resident, batch: &mut Waiting<'_>) -> Result<(), BatchError> {
    while !batch.is_empty() {
        let inputs = batch.iter().map(|(_, running)| &running.inputs);
        let refused = match resident.assemble(inputs) {
            Ok(()) => break,
            Err(AssemblyError::Requests(refused)) if !refused.is_empty() => refused,
            Err(error) => return Err(error.into()),
        };
        let mut refused = refused.into_iter().peekable();
        for (position, (request, running)) in std::mem::take(batch).into_iter().enumerate() {
            match refused.next_if(|refused| refused.position == position) {
                Some(RefusedRequest { error, .. }) if error.is_of_value() => {
                    running.answer(Outcome::Refused(error.to_string()));
                }
                Some(RefusedRequest { error, .. }) => {
                    running.answer(Outcome::Failed(error.to_string()));
                }
                None => batch.push((request, running)),
            }
        }
    }
    Ok(())
}
