//! What a shard's decisions do to the rest of the process.

use std::collections::HashMap;
use std::sync::Arc;
use symphony_core::sched::Start;
use symphony_core::{AcceleratorId, BatchId, DropReason, Request, RequestId, Time};
use symphony_wire::inflight::{InFlight, Outcome};
use symphony_wire::schedule::BatchPlan;

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

    /// A batch is not waited for any more, for its accelerator has stopped answering. Its requests
    /// need their outcome; should the accelerator have one for them yet, it comes too late.
    fn lost(&mut self, batch: BatchId, accelerator: AcceleratorId) {
        let _ = (batch, accelerator);
    }

    /// The scheduler ends and reads nothing any more; `failed` when it was not told to. Every
    /// request that still waits needs its outcome.
    fn over(&mut self, failed: bool);
}

/// The effects on requests that wait in the in-flight table, with `send` as the way to the
/// accelerators.
#[derive(Clone, Debug)]
pub struct InFlightEffects<S> {
    inflight: Arc<InFlight>,
    send: S,
    /// The requests of each batch that has not ended.
    sent: HashMap<BatchId, Vec<RequestId>>,
}

impl<S> InFlightEffects<S> {
    /// Effects on the requests of this table; `send` brings a plan to an accelerator and must not
    /// block.
    #[must_use]
    pub fn new(inflight: Arc<InFlight>, send: S) -> InFlightEffects<S> {
        InFlightEffects { inflight, send, sent: HashMap::new() }
    }
}

impl<S: FnMut(AcceleratorId, BatchPlan) + Send> Effects for InFlightEffects<S> {
    fn start(&mut self, now: Time, start: &Start, requests: &[Request]) {
        let &Start { batch, accelerator, model, rows, exec, .. } = start;
        self.sent.insert(batch, requests.iter().map(|request| request.id).collect());
        let requests = requests.to_vec();
        (self.send)(accelerator, BatchPlan { batch, model, requests, rows, exec, decided: now });
    }

    fn dropped(&mut self, now: Time, request: &Request, reason: DropReason) {
        let Some(pending) = self.inflight.take(request.id) else { return };
        if reason == DropReason::Unloaded {
            return pending.give_back();
        }
        pending.answer(Outcome::Dropped { reason, queued: now.since(request.arrival) });
    }

    fn ended(&mut self, batch: BatchId) {
        self.sent.remove(&batch);
    }

    fn lost(&mut self, batch: BatchId, accelerator: AcceleratorId) {
        let why = format!("accelerator {} has stopped answering", accelerator.0);
        for request in self.sent.remove(&batch).unwrap_or_default() {
            self.inflight.settle(request, Outcome::Failed(why.clone()));
        }
    }

    fn over(&mut self, failed: bool) {
        let why = if failed { "the scheduler failed" } else { "the server is shutting down" };
        for pending in self.inflight.take_all() {
            pending.answer(Outcome::Failed(why.to_owned()));
        }
    }
}
