//! The way into the system: room for a request's tensors, and the scheduler for its metadata.
//!
//! `admit` says which requests take it; what follows, up to the outcome, is in `admitted`.

use crate::budget::{ByteBudget, request_bytes_max_default};
use crate::error::InferError;
use crate::metrics::Metrics;
use crate::record::Recorder;
use crate::services::Services;
use std::sync::Arc;
use symphony_core::{Objective, Request, RequestId, Span};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::{InFlight, SchedulerPort};
use symphony_wire::clock::Clock;
use symphony_wire::lanes::RequestLane;
use symphony_wire::message::{Outcome, ServedModel, Submit};
use symphony_wire::tensor::Inputs;
use tokio::sync::oneshot;

/// Bound on the rows of a request that is queued in parts, where the configuration sets none.
pub(crate) const REQUEST_ROWS_MAX_DEFAULT: u32 = 4096;

/// What requests may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmissionBounds {
    /// Bytes that all of them together hold.
    pub(crate) request_bytes: usize,
    /// From the arrival of one until its answer, where its model has no objective.
    pub(crate) request: Span,
    /// Rows of one, where those are more than a batch of its model takes.
    pub(crate) request_rows: u32,
}

impl Default for AdmissionBounds {
    fn default() -> AdmissionBounds {
        AdmissionBounds {
            request_bytes: request_bytes_max_default(),
            request: Objective::REQUEST_MAX_DEFAULT,
            request_rows: REQUEST_ROWS_MAX_DEFAULT,
        }
    }
}

/// A request that the scheduler has.
#[derive(Debug)]
pub(crate) struct Submitted {
    /// What the scheduler knows of it.
    pub(crate) metadata: Request,
    /// Where it is queued.
    pub(crate) lane: RequestLane,
    /// Where the outcome arrives.
    pub(crate) reply: oneshot::Receiver<Outcome>,
}

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
    /// The longest that a request may take whose model has no objective.
    pub(crate) request_max: Span,
    /// Bound on the rows of a request that is queued in parts.
    pub(crate) request_rows_max: u32,
}

impl Admission {
    pub(crate) fn new(
        services: &Services,
        metrics: Arc<Metrics>,
        recorder: Arc<Recorder>,
        bounds: AdmissionBounds,
    ) -> Admission {
        Admission {
            inflight: Arc::clone(&services.inflight),
            scheduler: services.scheduler.clone(),
            clock: services.clock,
            metrics,
            recorder,
            budget: ByteBudget::new(bounds.request_bytes),
            request_max: bounds.request,
            request_rows_max: bounds.request_rows,
        }
    }

    /// Keeps the inputs of a request, or of a part of one, and hands its metadata to the scheduler.
    /// Its outcome follows.
    ///
    /// # Errors
    /// There is no room for it now, or the scheduler has stopped.
    pub(crate) fn submit(
        &self,
        model: &ServedModel,
        inputs: Inputs,
        metadata: impl FnOnce(RequestId) -> Request,
    ) -> Result<Submitted, InferError> {
        let (sender, reply) = oneshot::channel();
        let mut lane = model.lanes.route(&model.signature, &inputs);
        if let Some(given) = lane.given.take() {
            // Where there is no room to say so, the lane's batches are planned as before.
            let _ = self.scheduler.give_lane(lane.id, given.size, given.profile);
        }
        let id = self
            .inflight
            .admit(inputs, sender)
            .map_err(|full| InferError::overloaded(full.to_string()))?;
        let metadata = metadata(id);
        let submit = Submit::of(lane.id, &metadata, metadata.arrival);
        if let Err(error) = self.scheduler.submit(Timed::new(metadata.arrival, submit)) {
            drop(self.inflight.take(id));
            return Err(error.into());
        }
        Ok(Submitted { metadata, lane, reply })
    }

    /// Admitted requests that nothing has taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.inflight.len()
    }
}
