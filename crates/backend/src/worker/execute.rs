//! Runs one batch: takes its requests' tensors, runs the engine, and answers each request.

use crate::engine::guarded;
use crate::resident::{BatchError, Resident};
use symphony_core::{AcceleratorId, Span, Time};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::{InFlight, RunningRequest};
use symphony_wire::clock::Clock;
use symphony_wire::message::{Answer, BatchPlan, Execution, Outcome, PlannedRequest};
use symphony_wire::tensor::OutputTensor;

/// The requests of a batch that have no outcome yet.
type Waiting<'a> = Vec<(PlannedRequest, RunningRequest<'a>)>;

/// The requests that still wait for an answer. Those whose client has left are dropped.
pub(super) fn take<'a>(in_flight: &'a InFlight, plan: &BatchPlan) -> Waiting<'a> {
    let take = |request: &PlannedRequest| Some((*request, in_flight.run(request.id)?));
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
    /// Runs the batch and answers its requests; returns the time it took to assemble and compute it.
    pub(super) fn run(self, resident: &mut Resident, batch: &mut Waiting<'_>) -> Span {
        assemble(resident, batch);
        if batch.is_empty() {
            return Span::ZERO;
        }
        let rows: Vec<u32> = batch.iter().map(|(_, running)| running.inputs.rows).collect();
        let assembled = self.clock.now();
        let result = guarded("the engine", "running a batch", || resident.compute());
        let computed = self.clock.now();
        let parts = result
            .map_err(BatchError::from)
            .and_then(|outputs| Ok(resident.split(outputs, &rows)?));
        match parts {
            Ok(parts) => {
                let execution = Execution {
                    accelerator: self.accelerator,
                    batch_rows: rows.iter().sum(),
                    queued: Span::ZERO,
                    assembly: assembled.since(self.taken),
                    compute: computed.since(assembled),
                    split: self.clock.now().since(computed),
                    slack: Span::ZERO,
                };
                self.answer(batch, parts, execution);
            }
            Err(error) => self.failed(resident, batch, &error),
        }
        computed.since(self.taken)
    }

    /// Gives each request its outputs.
    fn answer(self, batch: &mut Waiting<'_>, parts: Vec<Vec<OutputTensor>>, execution: Execution) {
        let Timed { at, message: plan } = self.plan;
        for ((request, running), outputs) in batch.drain(..).zip(parts) {
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
                alone.run(resident, &mut vec![(request, running)]);
            }
        }
    }
}

/// Places the inputs of all requests in the buffer of the batch. A request whose inputs cannot be used
/// is answered, and leaves the others.
fn assemble(resident: &mut Resident, batch: &mut Waiting<'_>) {
    resident.clear();
    for (request, running) in std::mem::take(batch) {
        match resident.push(&running.inputs) {
            Ok(()) => batch.push((request, running)),
            Err(error) if error.is_of_value() => {
                running.answer(Outcome::Refused(error.to_string()))
            }
            Err(error) => running.answer(Outcome::Failed(error.to_string())),
        }
    }
}
