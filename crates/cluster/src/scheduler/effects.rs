//! What the scheduler's decisions do to other processes: plans go to backends, drops to frontends. What
//! was sent and has not ended is in the ledger, so that it can be scheduled again when a backend is lost.

use super::Tenure;
use super::routes::Routes;
use crate::lock::lock;
use std::sync::{Arc, Mutex, MutexGuard};
use symphony_core::recovery::{Ledger, Verdict};
use symphony_core::sched::Start;
use symphony_core::{AcceleratorId, BatchId, DropReason, ModelId, Origin, Request, Time};
use symphony_dispatch::Effects;
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::SchedulerPort;
use symphony_wire::clock::Clock;
use symphony_wire::message::link::{SchedulerToBackend, SchedulerToFrontend, SentPlan};
use symphony_wire::message::{BatchPlan, PlannedRequest, Submit};
use tokio::sync::watch;

/// The ledger of what was sent. The scheduler's threads write it, and links read it when a batch comes
/// back or a frontend goes; each once for a batch.
#[derive(Debug)]
pub(crate) struct SentBatches(Mutex<Ledger>);

impl SentBatches {
    pub(crate) fn new(ledger: Ledger) -> SentBatches {
        SentBatches(Mutex::new(ledger))
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.0)
    }

    /// Where a batch runs that is waited for, and whose it is.
    pub(crate) fn batch(&self, batch: BatchId) -> Option<(AcceleratorId, ModelId)> {
        self.ledger().batch(batch)
    }

    /// The life of a frontend is over.
    pub(crate) fn forget(&self, origin: Origin) {
        self.ledger().forget(origin);
    }

    /// A batch comes back that has not begun: what becomes of its requests, and its model. Nothing of
    /// a batch that is not waited for.
    pub(crate) fn handed_back(&self, now: Time, batch: BatchId) -> Option<(ModelId, Vec<Verdict>)> {
        let mut verdicts = Vec::new();
        let mut ledger = self.ledger();
        let (_, model) = ledger.batch(batch)?;
        ledger.handed_back(now, batch, |verdict| verdicts.push(verdict));
        Some((model, verdicts))
    }

    /// The same of a batch that a backend could run and refuses. Its requests are queued again once:
    /// there may be a reason to refuse them again.
    pub(crate) fn refused(&self, now: Time, batch: BatchId) -> Option<(ModelId, Vec<Verdict>)> {
        let mut verdicts = Vec::new();
        let mut ledger = self.ledger();
        let (_, model) = ledger.batch(batch)?;
        ledger.lost(now, batch, |verdict| verdicts.push(verdict));
        Some((model, verdicts))
    }
}

/// Carries out what verdicts say of requests whose batch does not run.
pub(crate) fn settle(
    now: Time,
    verdicts: impl IntoIterator<Item = Verdict>,
    sent: &SentBatches,
    port: &SchedulerPort,
    routes: &Routes,
) {
    for verdict in verdicts {
        match verdict {
            Verdict::Resubmit { model, request } => {
                let submit = Submit::of(model, &request, now);
                if let Err(error) = port.submit(Timed::new(now, submit)) {
                    sent.ledger().dropped(request.id);
                    fail(routes, &request, error.to_string());
                }
            }
            Verdict::GiveUp { request, accelerator, why } => {
                fail(routes, &request, format!("accelerator {} {}", accelerator.0, why.text()));
            }
        }
    }
}

fn fail(routes: &Routes, request: &Request, text: String) {
    let id = request.id;
    routes.tell(id.origin(), &SchedulerToFrontend::Failed { id, text });
}

/// The effects of one scheduler in its epoch.
#[derive(Clone, Debug)]
pub(crate) struct LinkEffects {
    pub(crate) tenure: Tenure,
    pub(crate) clock: Clock,
    pub(crate) port: SchedulerPort,
    pub(crate) routes: Arc<Routes>,
    pub(crate) sent: Arc<SentBatches>,
    /// Dropped with the last of the scheduler's threads, which tells that they have ended.
    pub(crate) _running: Arc<watch::Sender<()>>,
}

impl Effects for LinkEffects {
    fn start(&mut self, now: Time, start: &Start, requests: &[Request]) {
        let &Start { batch, accelerator, model, rows, exec, .. } = start;
        self.sent.ledger().sent(start, requests);
        let requests = requests.iter().map(|request| PlannedRequest::of(request, now)).collect();
        let plan = BatchPlan { batch, model, requests, rows, exec };
        let plan =
            SchedulerToBackend::Plan(SentPlan { epoch: self.tenure.epoch(), accelerator, plan });
        let backend = self.routes.backend_of(accelerator);
        let sent = match &backend {
            _ if !self.tenure.is_held() => return self.has_no_lease(now, batch),
            Some(backend) => backend.send(&plan).map_err(|error| error.to_string()),
            None => Err("its backend is gone".to_owned()),
        };
        if let Err(why) = sent {
            tracing::warn!(accelerator = accelerator.0, "a batch could not be sent: {why}");
            self.come_back(now, batch);
            // One that reads too slowly is as good as gone.
            if let Some(backend) = backend {
                backend.close(&why);
            }
        }
    }

    fn dropped(&mut self, now: Time, request: &Request, reason: DropReason) {
        let id = request.id;
        self.sent.ledger().dropped(id);
        let message = match reason {
            DropReason::Unloaded => SchedulerToFrontend::Unloaded { id },
            reason => {
                SchedulerToFrontend::Dropped { id, reason, queued: now.since(request.arrival) }
            }
        };
        self.routes.tell(id.origin(), &message);
    }

    fn ended(&mut self, batch: BatchId) {
        self.sent.ledger().ended(batch);
    }

    fn lost(&mut self, batch: BatchId, _accelerator: AcceleratorId) {
        let now = self.clock.now();
        let mut verdicts = Vec::new();
        self.sent.ledger().lost(now, batch, |verdict| verdicts.push(verdict));
        settle(now, verdicts, &self.sent, &self.port, &self.routes);
    }

    fn over(&mut self, _failed: bool) {
        // Frontends see the links end, and turn to the next scheduler.
    }
}

impl LinkEffects {
    /// The lease is lost, and this process is about to end for it. Nothing is sent any more: the
    /// frontends submit their requests to whoever has it.
    fn has_no_lease(&self, now: Time, batch: BatchId) {
        tracing::warn!("the lease is lost: a batch is not sent");
        self.come_back(now, batch);
    }

    /// A batch could not be sent: its requests are queued again. Its accelerator is busy until the
    /// scheduler hears that the backend is gone: free, it would get the next batch at once.
    fn come_back(&self, now: Time, batch: BatchId) {
        if let Some((_, verdicts)) = self.sent.handed_back(now, batch) {
            settle(now, verdicts, &self.sent, &self.port, &self.routes);
        }
    }
}
