//! What a shard's decisions do to the rest of the process.

use std::sync::Arc;
use symphony_core::sched::Start;
use symphony_core::{AcceleratorId, DropReason, Request, Time};
use symphony_wire::inflight::{InFlight, Outcome};
use symphony_wire::schedule::BatchPlan;

/// Carries out what a shard decided. Each shard has its own.
pub trait Effects: Send {
    /// Sends a batch to its accelerator; must not block. At most two are under way to each.
    fn start(&mut self, now: Time, start: &Start, requests: &[Request]);

    /// Answers a request that is not going to run.
    fn dropped(&mut self, now: Time, request: &Request, reason: DropReason);

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
}

impl<S> InFlightEffects<S> {
    /// Effects on the requests of this table; `send` brings a plan to an accelerator and must not
    /// block.
    #[must_use]
    pub fn new(inflight: Arc<InFlight>, send: S) -> InFlightEffects<S> {
        InFlightEffects { inflight, send }
    }
}

impl<S: FnMut(AcceleratorId, BatchPlan) + Send> Effects for InFlightEffects<S> {
    fn start(&mut self, now: Time, start: &Start, requests: &[Request]) {
        let &Start { batch, accelerator, model, rows, exec, .. } = start;
        let requests = requests.to_vec();
        (self.send)(accelerator, BatchPlan { batch, model, requests, rows, exec, decided: now });
    }

    fn dropped(&mut self, now: Time, request: &Request, reason: DropReason) {
        if let Some(pending) = self.inflight.take(request.id) {
            pending.answer(Outcome::Dropped { reason, queued: now.since(request.arrival) });
        }
    }

    fn over(&mut self, failed: bool) {
        let why = if failed { "the scheduler failed" } else { "the server is shutting down" };
        for pending in self.inflight.take_all() {
            pending.answer(Outcome::Failed(why.to_owned()));
        }
    }
}
