//! The loop: drain the inbox, decide once, act.

use crate::cost::Cost;
use crate::measure::Meter;
use crate::paces::{Paces, Subject};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use symphony_core::sched::{Action, Actions, Event, Policy, Rule, Scheduler, Start};
use symphony_core::{AcceleratorId, BatchId, ModelId, Pace, Request, Span, Time};
use symphony_wire::clock::Clock;
use symphony_wire::inflight::{InFlight, Outcome};
use symphony_wire::schedule::{
    AcceleratorStatistics, BatchPlan, Completion, Statistics, ToScheduler,
};
use tokio::sync::oneshot;

/// Messages taken in before deciding; more would make the first of them wait.
const DRAIN_MAX: usize = 1024;

/// The scheduler of one pool, driven by whoever knows the time.
pub struct Loop<S> {
    scheduler: Scheduler,
    todo: Actions,
    inflight: Arc<InFlight>,
    send: S,
    meter: Meter,
    paces: Paces,
    cost: Cost,
    /// Batches started since the last [`worked`](Loop::worked).
    started: u64,
    running: HashMap<BatchId, Running>,
    /// Batches sent to each accelerator and not completed.
    outstanding: Vec<u32>,
    models: Vec<ModelId>,
    accelerators: Vec<AcceleratorStatistics>,
    removing: Vec<(ModelId, oneshot::Sender<()>)>,
    draining: Option<oneshot::Sender<()>>,
}

/// A batch that was sent and has not completed.
#[derive(Debug)]
struct Running {
    model: ModelId,
    decided: Time,
    planned: Span,
    /// The pace that it was planned with.
    pace: Pace,
    /// Sent while another ran, so that it had to wait for that one.
    behind: bool,
}

impl<S: FnMut(AcceleratorId, BatchPlan)> Loop<S> {
    /// A scheduler for `accelerators` idle accelerators; `send` brings a plan to one of them and
    /// must not block: at most two are under way to each.
    pub fn new(rule: Rule, accelerators: u32, inflight: Arc<InFlight>, send: S) -> Loop<S> {
        let meter = Meter::new();
        let mut scheduler = Scheduler::new(rule, accelerators);
        let mut todo = Actions::default();
        scheduler.on_event(Time::ZERO, Event::SetDelays(meter.delays()), &mut todo);
        Loop {
            scheduler,
            todo,
            inflight,
            send,
            meter,
            paces: Paces::default(),
            cost: Cost::new(),
            started: 0,
            running: HashMap::new(),
            outstanding: vec![0; accelerators as usize],
            models: Vec::new(),
            accelerators: vec![AcceleratorStatistics::default(); accelerators as usize],
            removing: Vec::new(),
            draining: None,
        }
    }

    /// Keeps this share for low requests that wait; see [`Scheduler::with_low_share`].
    ///
    /// # Panics
    /// When it is not between 0 and 1.
    #[must_use]
    pub fn with_low_share(mut self, share: f64) -> Loop<S> {
        self.scheduler = self.scheduler.with_low_share(share);
        self
    }

    /// Takes note of a message.
    pub fn receive(&mut self, now: Time, message: ToScheduler) {
        match message {
            ToScheduler::Submit { model, request } => {
                self.event(now, Event::Arrive { model, request });
            }
            ToScheduler::Cancel { model, request, deadline } => {
                self.event(now, Event::Cancel { model, request, deadline });
            }
            ToScheduler::Completed(completion) => self.completed(now, &completion),
            ToScheduler::AddModel { model, terms, done } => {
                self.models.push(model);
                self.event(now, Event::AddModel { model, terms });
                let _ = done.send(());
            }
            ToScheduler::RemoveModel { model, done } => {
                self.removing.push((model, done));
                self.event(now, Event::RemoveModel { model });
            }
            ToScheduler::SetRule { rule, done } => {
                self.set_rule(now, rule);
                let _ = done.send(());
            }
            ToScheduler::Statistics(reply) => {
                let _ = reply.send(self.statistics());
            }
            ToScheduler::Drain(done) => self.draining = Some(done),
        }
    }

    /// Decides for everything received, and acts.
    pub fn settle(&mut self, now: Time) {
        self.scheduler.settle(now, &mut self.todo);
        let mut todo = std::mem::take(&mut self.todo);
        for action in todo.list.drain(..) {
            match action {
                Action::Start(start) => {
                    self.start(now, &start, todo.requests[start.requests.clone()].to_vec());
                }
                Action::Drop { request, reason, .. } => {
                    if let Some(pending) = self.inflight.take(request.id) {
                        let queued = now.since(request.arrival);
                        pending.answer(Outcome::Dropped { reason, queued });
                    }
                }
                Action::Removed { model } => self.removed(model),
            }
        }
        todo.clear();
        self.todo = todo;
    }

    /// When to settle next though no message comes.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        self.scheduler.next_wake()
    }

    /// The loop woke by its timer, this late.
    pub fn timer_fired(&mut self, now: Time, late: Span) {
        self.meter.timer_fired(late);
        self.update_delays(now);
    }

    /// Receiving and settling took so long since the last call; tells the scheduler how many
    /// batches it sustains at that. Where time does not pass meanwhile nobody needs to call this.
    pub fn worked(&mut self, now: Time, busy: Span) {
        let batches = std::mem::take(&mut self.started);
        if let Some(batches_per_s) = self.cost.turn(now, busy, batches) {
            self.event(now, Event::SetBatchesMax(batches_per_s));
        }
    }

    /// Whether it was told to drain and nothing is queued or running; tells who asked.
    pub fn is_drained(&mut self) -> bool {
        let queued = |model: &ModelId| self.scheduler.stats(*model).map_or(0, |stats| stats.queued);
        let idle = self.running.is_empty() && self.models.iter().all(|model| queued(model) == 0);
        if idle && let Some(done) = self.draining.take() {
            let _ = done.send(());
            return true;
        }
        false
    }

    fn event(&mut self, now: Time, event: Event) {
        self.scheduler.on_event(now, event, &mut self.todo);
    }

    fn set_rule(&mut self, now: Time, rule: Rule) {
        let before = self.scheduler.rule();
        if rule == before {
            return;
        }
        tracing::info!(mode = rule.name(), before = before.name(), "scheduling in another mode");
        self.event(now, Event::SetRule(rule));
    }

    fn start(&mut self, now: Time, start: &Start, requests: Vec<Request>) {
        let &Start { batch, accelerator, model, rows, exec, .. } = start;
        self.started += 1;
        let outstanding = &mut self.outstanding[accelerator.index()];
        let behind = *outstanding > 0;
        *outstanding += 1;
        let pace = self.pace(model).times(self.scheduler.lag(accelerator));
        let running = Running { model, decided: now, planned: exec, pace, behind };
        self.running.insert(batch, running);
        let plan = BatchPlan { batch, model, requests, rows, exec, decided: now };
        (self.send)(accelerator, plan);
    }

    fn completed(&mut self, now: Time, completion: &Completion) {
        let &Completion { accelerator, batch, taken, exec, .. } = completion;
        let Some(running) = self.running.remove(&batch) else { return };
        if let Some(statistics) = self.accelerators.get_mut(accelerator.index()) {
            statistics.batches += 1;
            statistics.busy += exec;
        }
        if let Some(outstanding) = self.outstanding.get_mut(accelerator.index()) {
            *outstanding = outstanding.saturating_sub(1);
        }
        let before = self.pace(running.model);
        self.event(now, Event::Complete { accelerator, batch, exec });
        if exec == Span::ZERO {
            return; // every client had left: nothing ran, so it teaches nothing
        }
        let (pace, lag) = (self.pace(running.model), self.scheduler.lag(accelerator));
        if pace != before {
            // What exceeded the plans before says nothing of the plans from now on.
            self.meter.forget(running.model);
        }
        self.paces.tell(now, Subject::Model(running.model), pace);
        self.paces.tell(now, Subject::Accelerator(accelerator), lag);
        // For the same reason, what it would be planned to take now.
        let planned = pace.times(lag).over(running.pace).stretch(running.planned);
        // The wait for a batch that still ran is no delay: counted, it would send the next batch
        // ahead earlier, that would wait longer, and so on.
        let control = Some(taken.since(running.decided)).filter(|_| !running.behind);
        self.meter.completed(running.model, completion, control, planned);
        self.update_delays(now);
    }

    /// What a model's batches are planned to take, as a share of its profile.
    fn pace(&self, model: ModelId) -> Pace {
        self.scheduler.stats(model).map_or(Pace::ONE, |stats| stats.pace)
    }

    /// Takes over the measured delays from time to time.
    fn update_delays(&mut self, now: Time) {
        if !self.meter.is_due() {
            return;
        }
        let overruns: Vec<_> = self.meter.overruns().collect();
        self.event(now, Event::SetDelays(self.meter.delays()));
        for (model, overrun) in overruns {
            self.event(now, Event::SetOverrun { model, overrun });
        }
    }

    fn removed(&mut self, model: ModelId) {
        self.models.retain(|other| *other != model);
        self.meter.forget(model);
        self.paces.forget(model);
        for (_, done) in self.removing.extract_if(.., |(other, _)| *other == model) {
            let _ = done.send(());
        }
    }

    fn statistics(&self) -> Statistics {
        let model = |&model: &ModelId| Some((model, self.scheduler.stats(model)?));
        let accelerator = |(number, counted): (u32, &AcceleratorStatistics)| {
            AcceleratorStatistics { lag: self.scheduler.lag(AcceleratorId(number)), ..*counted }
        };
        Statistics {
            rule: self.scheduler.rule(),
            batches_max: self.cost.told(),
            models: self.models.iter().filter_map(model).collect(),
            accelerators: (0u32..).zip(&self.accelerators).map(accelerator).collect(),
        }
    }
}

/// Runs the loop on a thread of its own until it is drained or every port is gone. However it
/// ends, by a panic too, every request still in the in-flight table gets its outcome.
///
/// # Errors
/// The operating system gives no thread.
pub fn spawn<S>(
    mut scheduler: Loop<S>,
    inbox: Receiver<ToScheduler>,
    clock: Clock,
) -> std::io::Result<JoinHandle<()>>
where
    S: FnMut(AcceleratorId, BatchPlan) + Send + 'static,
{
    std::thread::Builder::new().name("scheduler".to_owned()).spawn(move || {
        let inflight = Arc::clone(&scheduler.inflight);
        let intake = Intake { inbox: Some(inbox), inflight };
        let Some(inbox) = &intake.inbox else { return };
        while let Some(message) = wait(inbox, &clock, &mut scheduler) {
            let now = clock.now();
            for message in message.into_iter().chain(inbox.try_iter().take(DRAIN_MAX)) {
                scheduler.receive(now, message);
            }
            scheduler.settle(now);
            let end = clock.now();
            scheduler.worked(end, end.since(now));
            if scheduler.is_drained() {
                break;
            }
        }
    })
}

/// The thread's end of the inbox. Gone, it leaves no request behind.
struct Intake {
    inbox: Option<Receiver<ToScheduler>>,
    inflight: Arc<InFlight>,
}

impl Drop for Intake {
    fn drop(&mut self) {
        // In this order: whoever submits after the inbox is closed is told so, and whoever did
        // before has put the request in the table first.
        self.inbox = None;
        let why = if std::thread::panicking() {
            "the scheduler failed"
        } else {
            "the server is shutting down"
        };
        for pending in self.inflight.take_all() {
            pending.answer(Outcome::Failed(why.to_owned()));
        }
    }
}

/// Waits for a message or the next due moment; `None` when no message can come any more.
fn wait<S: FnMut(AcceleratorId, BatchPlan)>(
    inbox: &Receiver<ToScheduler>,
    clock: &Clock,
    scheduler: &mut Loop<S>,
) -> Option<Option<ToScheduler>> {
    let due = scheduler.next_wake().and_then(|wake| Some((wake, clock.instant(wake)?)));
    let Some((wake, instant)) = due else { return inbox.recv().ok().map(Some) };
    match inbox.recv_deadline(instant) {
        Ok(message) => Some(Some(message)),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => {
            let now = clock.now();
            scheduler.timer_fired(now, now.since(wake));
            Some(None)
        }
    }
}
