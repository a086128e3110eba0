//! What becomes of plans that an accelerator does not take.

use std::sync::Arc;
use symphony_backend::worker::{InProcessCarrier, Refused, WorkerCarrier};
use symphony_core::AcceleratorId;
use tokio::sync::watch;

/// Settles the plans that accelerators refuse. Works on the scheduler's threads, and ends with
/// them.
#[derive(Clone)]
pub(crate) struct RefusedPlans {
    carrier: InProcessCarrier,
    /// Dropped with the last of the scheduler's threads, which tells that they have ended.
    _scheduling: Arc<watch::Sender<()>>,
}

impl RefusedPlans {
    pub(crate) fn new(carrier: InProcessCarrier, scheduling: watch::Sender<()>) -> RefusedPlans {
        RefusedPlans { carrier, _scheduling: Arc::new(scheduling) }
    }

    pub(crate) fn settle(&self, accelerator: AcceleratorId, refused: Refused) {
        let why = format!("accelerator {}: {refused}", accelerator.0);
        let told = match refused {
            Refused::Full(plan) => {
                tracing::error!("{why}");
                self.carrier.refuse(accelerator, plan, &why)
            }
            Refused::Stopped(plan) => {
                let lost = self.carrier.lose(accelerator);
                let back = self.carrier.hand_back(accelerator, plan, &why);
                lost.and(back)
            }
        };
        if let Err(error) = told {
            tracing::error!("{why}; the scheduler cannot be notified: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_core::{BatchId, Class, ModelId, Span};
    use symphony_wire::carrier::Timed;
    use symphony_wire::carrier::in_process::{InFlight, Layout, PlanBuffers, Received, scheduler};
    use symphony_wire::clock::Clock;
    use symphony_wire::message::{BatchPlan, Completion, Outcome, PlannedRequest};
    use symphony_wire::tensor::Inputs;
    use tokio::sync::oneshot;

    #[test]
    fn a_plan_for_which_there_was_no_room_fails_and_completes() {
        let (scheduler, mut threads) = scheduler(Layout::TOGETHER);

        let in_flight = Arc::new(InFlight::new(1));
        let clock = Clock::start();
        let (table, buffers) = (Arc::clone(&in_flight), PlanBuffers::default());
        let carrier = InProcessCarrier { clock, in_flight: table, scheduler, buffers };
        let (reply, mut outcome) = oneshot::channel();
        let id = in_flight.admit(Inputs::fixed(1, vec![]), reply).unwrap();
        let now = carrier.clock.now();
        let age = Span::ZERO;
        let plan = BatchPlan {
            batch: BatchId(5),
            model: ModelId::first(0),
            requests: vec![PlannedRequest { id, age, budget: age, rows: 1, class: Class::High }],
            rows: 1,
            exec: Span::ZERO,
        };
        let plan = Timed::new(now, plan);
        RefusedPlans::new(carrier, watch::channel(()).0)
            .settle(AcceleratorId(0), Refused::Full(plan));
        assert!(matches!(outcome.try_recv(), Ok(Outcome::Failed(_))));
        let mut completed = Vec::new();
        threads[0].matcher.as_mut().unwrap().drain(9, |message| match message {
            Received::Message(Timed { message: Completion { batch, exec, .. }, .. }) => {
                completed.push((batch, exec));
            }
            Received::Question(other) => panic!("{other:?}"),
        });
        assert_eq!(completed, [(BatchId(5), Span::ZERO)]);
    }
}
