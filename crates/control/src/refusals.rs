//! What becomes of plans that an accelerator does not take.

use std::sync::Arc;
use symphony_backend::worker::{Refused, Surroundings};
use symphony_core::{AcceleratorId, Span};
use symphony_wire::inflight::Outcome;
use symphony_wire::schedule::{BatchPlan, Completion, SubmitError};
use tokio::sync::watch;

/// What becomes of plans that an accelerator does not take. Works on the scheduler's threads, and
/// ends with them.
#[derive(Clone)]
pub(crate) struct Refusals {
    surroundings: Surroundings,
    breaking: Arc<watch::Sender<Option<String>>>,
}

impl Refusals {
    pub(crate) fn new(
        surroundings: Surroundings,
        breaking: watch::Sender<Option<String>>,
    ) -> Refusals {
        Refusals { surroundings, breaking: Arc::new(breaking) }
    }

    pub(crate) fn settle(&self, accelerator: AcceleratorId, refused: Refused) {
        let text = format!("accelerator {}: {refused}", accelerator.0);
        tracing::error!("{text}");
        let (plan, stopped) = match refused {
            Refused::Full(plan) => (plan, false),
            Refused::Stopped(plan) => (plan, true),
        };
        self.answer(&plan, &text);
        if stopped {
            // Never completed, the batch keeps the scheduler from granting this accelerator more.
            self.breaking.send_replace(Some(text));
        } else if let Err(error) = self.complete(accelerator, &plan) {
            tracing::error!("the scheduler cannot be told of it: {error}");
            self.breaking.send_replace(Some(text));
        }
    }

    fn answer(&self, plan: &BatchPlan, text: &str) {
        for request in &plan.requests {
            if let Some(pending) = self.surroundings.in_flight.take(request.id) {
                pending.answer(Outcome::Failed(format!("the batch could not be run: {text}")));
            }
        }
    }

    /// Says that the batch has ended.
    fn complete(&self, accelerator: AcceleratorId, plan: &BatchPlan) -> Result<(), SubmitError> {
        let (taken, finished) = (plan.decided, plan.decided);
        let &BatchPlan { batch, model, .. } = plan;
        let exec = Span::ZERO;
        let completion = Completion { accelerator, batch, model, taken, exec, finished };
        self.surroundings.scheduler.completed(completion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_core::{BatchId, Class, ModelId, Request};
    use symphony_wire::clock::Clock;
    use symphony_wire::inflight::InFlight;
    use symphony_wire::schedule::{Layout, Message, scheduler};
    use symphony_wire::tensor::Inputs;
    use tokio::sync::oneshot;

    #[test]
    fn a_plan_for_which_there_was_no_room_fails_and_completes() {
        let (scheduler, mut threads) = scheduler(Layout::TOGETHER);
        let (breaking, broken) = watch::channel(None);
        let in_flight = Arc::new(InFlight::new(1));
        let surroundings =
            Surroundings { clock: Clock::start(), in_flight: Arc::clone(&in_flight), scheduler };
        let (reply, mut outcome) = oneshot::channel();
        let id = in_flight.admit(Inputs { rows: 1, tensors: vec![] }, reply).unwrap();
        let now = surroundings.clock.now();
        let plan = BatchPlan {
            batch: BatchId(5),
            model: ModelId::first(0),
            requests: vec![Request {
                id,
                arrival: now,
                deadline: now,
                rows: 1,
                class: Class::High,
            }],
            rows: 1,
            exec: Span::ZERO,
            decided: now,
        };
        Refusals::new(surroundings, breaking).settle(AcceleratorId(0), Refused::Full(plan));
        assert!(matches!(outcome.try_recv(), Ok(Outcome::Failed(_))));
        let mut completed = Vec::new();
        threads[0].matcher.as_mut().unwrap().drain(9, |message| match message {
            Message::Plain(completion) => completed.push((completion.batch, completion.exec)),
            Message::Control(other) => panic!("{other:?}"),
        });
        assert_eq!(completed, [(BatchId(5), Span::ZERO)]);
        assert!(broken.borrow().is_none());
    }
}
