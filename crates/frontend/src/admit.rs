//! Admits requests: checks one against its model, stamps its deadline, and submits it.

use crate::admission::Admission;
use crate::admitted::Admitted;
use crate::budget::HeldBytes;
use crate::check;
use crate::error::{InferError, Objective};
use crate::metrics::ModelHandle;
use crate::request::InferRequest;
use bytes::Bytes;
use std::sync::Arc;
use symphony_core::{Request, Span};
use symphony_wire::message::ServedModel;

impl Admission {
    /// Admits a request, or refuses it and records that. Its outcome returns what it holds of the
    /// budget.
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
}

/// Which limit the request's deadline comes from.
fn objective(model: &ServedModel, limit: Option<Span>) -> Objective {
    match limit {
        Some(limit) if limit < model.slo => Objective::Own(limit),
        _ => Objective::Slo(model.slo),
    }
}
