//! Admits requests: checks one against its model, stamps its deadline, and submits it.

use crate::admission::Admission;
use crate::admitted::Admitted;
use crate::budget::HeldBytes;
use crate::check;
use crate::error::{InferError, Limit};
use crate::metrics::ModelHandle;
use crate::parts::{self, Parts, RequestTerms};
use crate::request::InferRequest;
use std::sync::Arc;
use symphony_core::{Objective, Span};
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
        let inputs = check::inputs(model, request.inputs, self.request_rows_max)?;
        let rows = inputs.rows;
        let class = request.class.unwrap_or(model.class);
        let limit = limit(model, request.limit, self.request_max);
        let deadline = request.arrival + limit.span();
        held.cover(parts::bytes(&model.signature, &inputs, model.rows_max))?;
        let arrival = request.arrival;
        let terms = RequestTerms { arrival, deadline, rows, class };
        let parts = Parts::submit(self, model, inputs, terms)?;
        self.metrics.in_flight.up(1);
        Ok(Admitted {
            admission: self,
            handle: Arc::clone(handle),
            id: request.id,
            terms,
            limit,
            wanted,
            parts,
            is_settled: false,
            _held: held,
        })
    }
}

/// Which limit the request's deadline comes from: its own, or the model's objective if that is
/// earlier. A soft objective limits nothing; then all that bounds a request is `request_max`.
fn limit(model: &ServedModel, own: Option<Span>, request_max: Span) -> Limit {
    let bound = match model.objective {
        Objective::Slo(slo) => Limit::Slo(slo),
        Objective::Soft(_) => Limit::Any(request_max),
    };
    own.filter(|own| *own < bound.span()).map_or(bound, Limit::Own)
}
