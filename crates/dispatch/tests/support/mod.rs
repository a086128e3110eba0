//! A scheduler whose clock and accelerators are the test's own: messages in, plans and outcomes out.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of this")]

use std::sync::{Arc, Mutex};
use symphony_core::sched::ModelTerms;
use symphony_core::{AcceleratorId, Class, ModelId, Objective, Profile, RequestId, Span, Time};
use symphony_dispatch::{Effects, InFlightEffects, Settings, Thread, threads};
use symphony_wire::carrier::Timed;
use symphony_wire::carrier::in_process::{
    InFlight, Layout, PlanBuffers, SchedulerPort, SubmitError, scheduler,
};
use symphony_wire::message::{Answer, BatchPlan, Cancel, Completion, Execution, Outcome, Submit};
use symphony_wire::tensor::Inputs;
use tokio::sync::oneshot;

pub const MODEL: ModelId = ModelId::first(0);
pub const SLO: Span = Span::from_millis(25);

pub type Send = Box<dyn FnMut(AcceleratorId, Timed<BatchPlan>) + std::marker::Send>;

/// A plan on its way to an accelerator.
pub type Sent = (AcceleratorId, Timed<BatchPlan>);

/// A pool of one model, `l(b) = b + 5 ms`, whose accelerators do nothing by themselves.
pub struct Rig {
    pub threads: Vec<Thread<InFlightEffects<Send>>>,
    pub port: SchedulerPort,
    pub inflight: Arc<InFlight>,
    /// What was sent and nobody has taken up.
    pub plans: Arc<Mutex<Vec<Sent>>>,
}

impl Rig {
    pub fn new(settings: &Settings, layout: Layout, queue_max: u32) -> Rig {
        Rig::with(settings, layout, terms(queue_max))
    }

    /// The same with a model of other terms.
    pub fn with(settings: &Settings, layout: Layout, terms: ModelTerms) -> Rig {
        let inflight = Arc::new(InFlight::new(100_000));
        let plans = Arc::<Mutex<Vec<_>>>::default();
        let (port, inboxes) = scheduler(layout);
        let threads = threads(settings, inboxes, |_| {
            let sent = Arc::clone(&plans);
            let send = move |accelerator, plan| {
                sent.lock().expect("no panic").push((accelerator, plan));
            };
            let buffers = PlanBuffers::default();
            InFlightEffects::new(Arc::clone(&inflight), buffers, Box::new(send) as Send)
        });
        let mut added = port.add_model(MODEL, terms).expect("it runs");
        let mut rig = Rig { threads, port, inflight, plans };
        rig.turn(Time::ZERO);
        assert_eq!(added.try_recv(), Ok(()));
        rig
    }

    /// Submits a request of one row, which nobody looks at before the next turn.
    pub fn send(&self, now: Time) -> Result<(RequestId, oneshot::Receiver<Outcome>), SubmitError> {
        self.send_to(MODEL, now)
    }

    /// The same for another model.
    pub fn send_to(
        &self,
        model: ModelId,
        now: Time,
    ) -> Result<(RequestId, oneshot::Receiver<Outcome>), SubmitError> {
        self.submit_aged(model, now, (Span::ZERO, SLO))
    }

    /// The same for one that is so old already, and has so much time left.
    pub fn send_aged(
        &self,
        now: Time,
        age: Span,
        budget: Span,
    ) -> Result<oneshot::Receiver<Outcome>, SubmitError> {
        self.submit_aged(MODEL, now, (age, budget)).map(|(_, outcome)| outcome)
    }

    fn submit_aged(
        &self,
        model: ModelId,
        now: Time,
        (age, budget): (Span, Span),
    ) -> Result<(RequestId, oneshot::Receiver<Outcome>), SubmitError> {
        let (reply, outcome) = oneshot::channel();
        let id = self.inflight.admit(Inputs::fixed(1, vec![]), reply).expect("room");
        let submit = Submit { model, id, age, budget, rows: 1, class: Class::High };
        let submitted = self.port.submit(Timed::new(now, submit));
        if submitted.is_err() {
            drop(self.inflight.take(id));
        }
        submitted.map(|()| (id, outcome))
    }

    /// Tells that the client of a request has left that was sent at `sent`.
    pub fn cancel(&self, model: ModelId, id: RequestId, sent: Time) {
        self.port.cancel(Timed::new(sent, Cancel { model, id, budget: SLO }));
    }

    pub fn turn(&mut self, now: Time) {
        turn(&mut self.threads, now);
    }

    /// The plans that were sent since the last call.
    pub fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.plans.lock().expect("no panic"))
    }
}

/// A model of `l(b) = b + 5 ms`, so many of whose requests may queue.
pub fn terms(queue_max: u32) -> ModelTerms {
    let profile = Profile::linear(Span::from_millis(1), Span::from_millis(5), 8);
    let profile = Arc::new(profile.expect("valid profile"));
    ModelTerms {
        profile,
        objective: Objective::Slo(SLO),
        queue_max,
        loss_weight: 1.0,
        lane_of: None,
    }
}

/// What an accelerator says that took a plan up at `taken`, ran it for `exec`, and had answered it at
/// `finished`.
pub fn completion(
    accelerator: AcceleratorId,
    plan: &BatchPlan,
    taken: Time,
    exec: Span,
    finished: Time,
) -> Timed<Completion> {
    let &BatchPlan { batch, model, .. } = plan;
    let stay = finished.since(taken);
    let response = stay.saturating_sub(exec);
    let completion = Completion::not_run(accelerator, batch, model);
    Timed::new(finished, Completion { exec, response, stay, ..completion })
}

/// Everybody looks at what has arrived, until nobody has anything to say.
pub fn turn<E: Effects>(threads: &mut [Thread<E>], now: Time) {
    threads.iter_mut().for_each(|thread| thread.turn(now));
    while threads.iter().any(Thread::is_pending) {
        threads.iter_mut().for_each(|thread| thread.turn(now));
    }
}

/// Answers the requests of a batch, as far as nobody else has.
pub fn answer(inflight: &InFlight, plan: &BatchPlan) {
    for pending in plan.requests.iter().filter_map(|request| inflight.take(request.id)) {
        pending.answer(Outcome::Done(Answer { outputs: vec![], execution: EXECUTION }));
    }
}

const EXECUTION: Execution = Execution {
    accelerator: AcceleratorId(0),
    batch_rows: 1,
    queued: Span::ZERO,
    assembly: Span::ZERO,
    compute: Span::ZERO,
    split: Span::ZERO,
    slack: Span::ZERO,
};
