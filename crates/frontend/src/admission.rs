//! Admits requests: checks one against its model, stamps its deadline, makes room for its tensors,
//! and hands its metadata to the scheduler.
//!
//! What follows, up to the request's outcome, is in `admitted`.

use crate::Services;
use crate::admitted::Admitted;
use crate::budget::{ByteBudget, HeldBytes};
use crate::check;
use crate::error::{InferError, Objective};
use crate::metrics::{Metrics, ModelHandle};
use crate::record::Recorder;
use crate::request::InferRequest;
use bytes::Bytes;
use std::sync::Arc;
use symphony_core::{Request, RequestId, Span};
use symphony_wire::catalog::ServedModel;
use symphony_wire::clock::Clock;
use symphony_wire::inflight::{InFlight, Outcome};
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
    /// The bytes that requests hold.
    pub(crate) budget: Arc<ByteBudget>,
}

impl Admission {
    pub(crate) fn new(
        services: &Services,
        metrics: Arc<Metrics>,
        recorder: Arc<Recorder>,
        request_bytes_max: usize,
    ) -> Admission {
        Admission {
            inflight: Arc::clone(&services.inflight),
            scheduler: services.scheduler.clone(),
            clock: services.clock,
            metrics,
            recorder,
            budget: ByteBudget::new(request_bytes_max),
        }
    }

    /// Admits a request, or refuses it and writes that down. What it holds of the budget is given
    /// back with its outcome.
    ///
    /// # Errors
    /// The request does not fit the model, or there is no room for it now.
    pub(crate) fn admit<'a>(
        &'a self,
        handle: &Arc<ModelHandle>,
        request: InferRequest,
        held: HeldBytes,
    ) -> Result<Admitted<'a>, InferError> {
        // An error needs the id that the request takes along.
        let id = request.id.clone();
        self.try_admit(handle, request, held)
            .map_err(|error| self.recorder.refused(handle, &id, error))
    }

    fn try_admit<'a>(
        &'a self,
        handle: &Arc<ModelHandle>,
        request: InferRequest,
        mut held: HeldBytes,
    ) -> Result<Admitted<'a>, InferError> {
        let model = &handle.model;
        let wanted = check::outputs(model, &request.outputs)?;
        let inputs = check::inputs(model, request.inputs)?;
        let rows = inputs.rows;
        let class = request.class.unwrap_or(model.class);
        let objective = objective(model, request.limit);
        let (Objective::Own(span) | Objective::Slo(span)) = objective;
        let deadline = request.arrival + span;
        held.cover(inputs.tensors.iter().map(Bytes::len).sum())?;
        let arrival = request.arrival;
        let metadata = |id| Request { id, arrival, deadline, rows, class };
        let (metadata, reply) = self.submit(model, inputs, metadata)?;
        self.metrics.in_flight.up(1);
        Ok(Admitted {
            admission: self,
            handle: Arc::clone(handle),
            id: request.id,
            metadata,
            objective,
            wanted,
            reply,
            is_settled: false,
            _held: held,
        })
    }

    /// Keeps the inputs of a request and hands its metadata to the scheduler. Its outcome follows.
    ///
    /// # Errors
    /// There is no room for it now, or the scheduler has stopped.
    pub(crate) fn submit(
        &self,
        model: &ServedModel,
        inputs: Inputs,
        metadata: impl FnOnce(RequestId) -> Request,
    ) -> Result<(Request, oneshot::Receiver<Outcome>), InferError> {
        let (sender, reply) = oneshot::channel();
        let id = self
            .inflight
            .admit(inputs, sender)
            .map_err(|full| InferError::overloaded(full.to_string()))?;
        let metadata = metadata(id);
        if let Err(error) = self.scheduler.submit(model.id, metadata) {
            drop(self.inflight.take(id));
            return Err(error.into());
        }
        Ok((metadata, reply))
    }

    /// Admitted requests that nothing has taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.inflight.len()
    }
}

/// Which limit the request's deadline comes from.
fn objective(model: &ServedModel, limit: Option<Span>) -> Objective {
    match limit {
        Some(limit) if limit < model.slo => Objective::Own(limit),
        _ => Objective::Slo(model.slo),
    }
}
