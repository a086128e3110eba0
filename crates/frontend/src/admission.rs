//! Admits requests: checks one against its model, stamps its deadline, makes room for its tensors,
//! and hands its metadata to the scheduler.
//!
//! What follows, up to the request's outcome, is in `admitted`.

use crate::Services;
use crate::admitted::Admitted;
use crate::check;
use crate::error::{InferError, Objective};
use crate::metrics::{Metrics, ModelHandle};
use crate::record::Recorder;
use crate::request::InferRequest;
use std::sync::Arc;
use symphony_core::{Request, Span};
use symphony_wire::catalog::ServedModel;
use symphony_wire::clock::Clock;
use symphony_wire::inflight::InFlight;
use symphony_wire::schedule::SchedulerPort;
use symphony_wire::tensor::Inputs;
use tokio::sync::oneshot;

/// The one way for requests into the system.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) inflight: Arc<InFlight>,
    pub(crate) scheduler: SchedulerPort,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) recorder: Arc<Recorder>,
    /// Bound on the bytes of inputs held for requests in flight.
    tensor_bytes_max: u64,
}

impl Admission {
    pub(crate) fn new(
        services: &Services,
        metrics: Arc<Metrics>,
        recorder: Arc<Recorder>,
        tensor_bytes_max: usize,
    ) -> Admission {
        Admission {
            inflight: Arc::clone(&services.inflight),
            scheduler: services.scheduler.clone(),
            clock: services.clock,
            metrics,
            recorder,
            tensor_bytes_max: tensor_bytes_max as u64,
        }
    }

    /// Admits a request, or refuses it and writes that down.
    ///
    /// # Errors
    /// The request does not fit the model, or there is no room for it now.
    pub(crate) fn admit<'a>(
        &'a self,
        handle: &'a ModelHandle,
        request: InferRequest,
    ) -> Result<Admitted<'a>, InferError> {
        // An error needs the id that the request takes along.
        let id = request.id.clone();
        self.try_admit(handle, request).map_err(|error| self.recorder.refused(handle, &id, error))
    }

    fn try_admit<'a>(
        &'a self,
        handle: &'a ModelHandle,
        request: InferRequest,
    ) -> Result<Admitted<'a>, InferError> {
        let model = &handle.model;
        let wanted = check::outputs(model, &request.outputs)?;
        let inputs = check::inputs(model, request.inputs)?;
        let rows = inputs.rows;
        let class = request.class.unwrap_or(model.class);
        let objective = objective(model, request.limit);
        let (Objective::Own(span) | Objective::Slo(span)) = objective;
        let deadline = request.arrival + span;
        let held = self.hold(&inputs)?;
        let (sender, reply) = oneshot::channel();
        let number = self
            .inflight
            .admit(inputs, sender)
            .map_err(|full| InferError::overloaded(full.to_string()))?;
        let metadata = Request { id: number, arrival: request.arrival, deadline, rows, class };
        if let Err(error) = self.scheduler.submit(model.id, metadata) {
            drop(self.inflight.take(number));
            return Err(error.into());
        }
        self.metrics.in_flight.up(1);
        Ok(Admitted {
            admission: self,
            handle,
            id: request.id,
            metadata,
            objective,
            wanted,
            reply,
            is_settled: false,
            _held: held,
        })
    }

    /// Admitted requests that nothing has taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.inflight.len()
    }

    /// Makes room for a request's inputs.
    fn hold(&self, inputs: &Inputs) -> Result<HeldBytes<'_>, InferError> {
        let bytes = inputs.tensors.iter().map(|tensor| tensor.len() as u64).sum();
        let total = self.metrics.tensor_bytes.up(bytes);
        let held = HeldBytes { metrics: &self.metrics, bytes };
        if total > self.tensor_bytes_max {
            return Err(InferError::overloaded(format!(
                "requests in flight hold {} bytes of tensors, and the server's limit is {}",
                total - bytes,
                self.tensor_bytes_max
            )));
        }
        Ok(held)
    }
}

/// Room that a request's inputs take until its outcome.
#[derive(Debug)]
pub(crate) struct HeldBytes<'a> {
    metrics: &'a Metrics,
    bytes: u64,
}

impl Drop for HeldBytes<'_> {
    fn drop(&mut self) {
        self.metrics.tensor_bytes.down(self.bytes);
    }
}

/// Which limit the request's deadline comes from.
fn objective(model: &ServedModel, limit: Option<Span>) -> Objective {
    match limit {
        Some(limit) if limit < model.slo => Objective::Own(limit),
        _ => Objective::Slo(model.slo),
    }
}
