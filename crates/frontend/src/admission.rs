//! The way into the system: room for a request's tensors, and the scheduler for its metadata.
//!
//! `admit` says which requests take it; what follows, up to the outcome, is in `admitted`.

use crate::budget::ByteBudget;
use crate::error::InferError;
use crate::metrics::Metrics;
use crate::record::Recorder;
use crate::services::Services;
use std::sync::Arc;
use symphony_core::{Request, RequestId};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::{InFlight, SchedulerPort};
use symphony_wire::clock::Clock;
use symphony_wire::message::{Outcome, ServedModel, Submit};
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
        let submit = Submit::of(model.id, &metadata, metadata.arrival);
        if let Err(error) = self.scheduler.submit(Timed::new(metadata.arrival, submit)) {
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
