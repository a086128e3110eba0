//! What a shard's decisions do to the rest of the process.

use std::collections::HashMap;
use std::sync::Arc;
use symphony_core::sched::Start;
use symphony_core::{AcceleratorId, BatchId, DropReason, Request, RequestId, Time};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::{InFlight, PlanBuffers};
use symphony_wire::message::{BatchPlan, Outcome, PlannedRequest};

/// Carries out what a shard decided. Each shard has its own.
pub trait Effects: Send {
    /// Sends a batch to its accelerator; must not block. At most two are under way to each.
    fn start(&mut self, now: Time, start: &Start, requests: &[Request]);

    /// Answers a request that is not going to run.
    fn dropped(&mut self, now: Time, request: &Request, reason: DropReason);

    /// A batch has ended, and its requests have had their outcomes.
    fn ended(&mut self, batch: BatchId) {
        let _ = batch;
    }

    /// A batch is not waited for any more, for its accelerator has stopped answering or is gone. Its
    /// requests need their outcome; an outcome that the accelerator still gives comes too late.
    fn lost(&mut self, batch: BatchId, accelerator: AcceleratorId) {
        let _ = (batch, accelerator);
    }

    /// The scheduler ends and reads nothing any more; `failed` when it was not told to. Every
    /// request that still waits needs its outcome.
    fn over(&mut self, failed: bool);
}

/// The effects on requests that wait in the in-flight table, with `send` as the way to the
/// accelerators. Once buffers have grown to their size a batch allocates nothing.
#[derive(Clone, Debug)]
pub struct InFlightEffects<S> {
    inflight: Arc<InFlight>,
    /// Where accelerators give the buffers of plans back.
    buffers: PlanBuffers,
    send: S,
    /// The requests of each batch that has not ended.
    sent: HashMap<BatchId, Vec<RequestId>>,
    /// Room for the requests of further batches.
    spare: Vec<Vec<RequestId>>,
}

impl<S> InFlightEffects<S> {
    /// Effects on the requests of this table. `send` brings a plan to an accelerator and must not
    /// block; plans are made in these buffers, to which the accelerator gives them back.
    #[must_use]
    pub fn new(inflight: Arc<InFlight>, buffers: PlanBuffers, send: S) -> InFlightEffects<S> {
        InFlightEffects { inflight, buffers, send, sent: HashMap::new(), spare: Vec::new() }
    }

    /// The requests of a batch that is over, for `each`.
    fn finish(&mut self, batch: BatchId, each: impl FnMut(RequestId)) {
        if let Some(mut requests) = self.sent.remove(&batch) {
            requests.drain(..).for_each(each);
            self.spare.push(requests);
        }
    }
}

impl<S: FnMut(AcceleratorId, Timed<BatchPlan>) + Send> Effects for InFlightEffects<S> {
    fn start(&mut self, now: Time, start: &Start, requests: &[Request]) {
        let &Start { batch, accelerator, model, rows, exec, .. } = start;
        let mut sent = self.spare.pop().unwrap_or_default();
        sent.extend(requests.iter().map(|request| request.id));
        self.sent.insert(batch, sent);
        let mut planned = self.buffers.take();
        planned.extend(requests.iter().map(|request| PlannedRequest::of(request, now)));
        let plan = BatchPlan { batch, model, requests: planned, rows, exec };
        (self.send)(accelerator, Timed::new(now, plan));
    }

    fn dropped(&mut self, now: Time, request: &Request, reason: DropReason) {
        let Some(pending) = self.inflight.take(request.id) else { return };
        if reason == DropReason::Unloaded {
            return pending.give_back();
        }
        pending.answer(Outcome::Dropped { reason, queued: now.since(request.arrival) });
    }

    fn ended(&mut self, batch: BatchId) {
        self.finish(batch, drop);
    }

    fn lost(&mut self, batch: BatchId, accelerator: AcceleratorId) {
        let why = format!("accelerator {} has stopped answering", accelerator.0);
        let inflight = Arc::clone(&self.inflight);
        self.finish(batch, |request| inflight.settle(request, Outcome::Failed(why.clone())));
    }

    fn over(&mut self, failed: bool) {
        let why = if failed { "the scheduler failed" } else { "the server is shutting down" };
        for pending in self.inflight.take_all() {
            pending.answer(Outcome::Failed(why.to_owned()));
        }
    }
}
