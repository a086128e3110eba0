//! The state that every rival keeps: queues, terms, and the work of its accelerators.

use super::plan::PlannedTimes;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use symphony_core::sched::{Action, Actions, Event, ModelTerms, Start};
use symphony_core::{
    AcceleratorId, BatchId, Delays, DropReason, ModelId, Profile, Request, Slowdown, Span, Time,
};

/// The models and accelerators of a pool, and the number of its next batch.
#[derive(Clone, Debug)]
pub(super) struct RivalPool {
    pub(super) models: Vec<RivalModel>,
    pub(super) accelerators: Vec<RivalAccelerator>,
    delays: Delays,
    /// What batches are planned with, in place of the profiles that schedulers are told; models beyond
    /// them are planned as told.
    plans: PlannedTimes,
    next_batch: u64,
    /// Models whose queue is [watched](RivalPool::watch), by the time at which their head becomes
    /// hopeless.
    expiries: BTreeSet<(Time, ModelId)>,
}

/// The terms and the queue of a model.
#[derive(Clone, Debug)]
pub(super) struct RivalModel {
    pub(super) terms: ModelTerms,
    pub(super) queue: VecDeque<Request>,
    expiry: Option<Time>,
    /// Whether any of its requests had more than one row.
    pub(super) multirow: bool,
}

impl RivalModel {
    /// The rows of its queue.
    pub(super) fn queued_rows(&self) -> u32 {
        let rows = self.queue.iter().map(|request| u64::from(request.rows));
        let rows = if self.multirow { rows.sum() } else { self.queue.len() as u64 };
        u32::try_from(rows).unwrap_or(u32::MAX)
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct RivalAccelerator {
    /// Batches that were sent and have not completed, in order.
    pub(super) outstanding: VecDeque<RivalBatch>,
    /// When all of them will have ended, according to plan.
    pub(super) free: Time,
}

#[derive(Clone, Debug)]
pub(super) struct RivalBatch {
    pub(super) batch: BatchId,
    pub(super) model: ModelId,
    pub(super) rows: u32,
    exec: Span,
}

/// The first requests of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct QueueHead {
    pub(super) count: usize,
    pub(super) rows: u32,
}

/// What an event was about, after the pool has noted it.
pub(super) enum Noted {
    /// A request that was not refused and is not queued yet.
    Arrived(ModelId, Request),
    Completed(AcceleratorId),
    /// The settings of the scheduler changed.
    Told,
    Refused,
}

impl RivalPool {
    pub(super) fn new(accelerators: u32) -> RivalPool {
        RivalPool {
            models: Vec::new(),
            accelerators: vec![RivalAccelerator::default(); accelerators as usize],
            delays: Delays::default(),
            plans: Vec::new(),
            next_batch: 0,
            expiries: BTreeSet::new(),
        }
    }

    /// The same with times of its own to plan with.
    pub(super) fn with_plans(self, plans: PlannedTimes) -> RivalPool {
        RivalPool { plans, ..self }
    }

    /// The profile that a model is planned with.
    pub(super) fn planned(&self, model: ModelId, told: Arc<Profile>) -> Arc<Profile> {
        self.plans.get(model.index()).map_or(told, Arc::clone)
    }

    /// Notes an event. The rival itself decides where to queue an arrival.
    pub(super) fn note(&mut self, now: Time, event: Event, todo: &mut Actions) -> Noted {
        match event {
            Event::Arrive { model, request } => {
                let state = &mut self.models[model.index()];
                state.multirow |= request.rows > 1;
                let terms = &state.terms;
                if request.rows == 0 || request.rows > terms.profile.rows_max() {
                    let reason = DropReason::TooLarge;
                    todo.list.push(Action::Drop { model, request, reason });
                    return Noted::Refused;
                }
                return Noted::Arrived(model, request);
            }
            Event::Complete { accelerator, batch, .. } => {
                self.complete(now, accelerator, batch);
                return Noted::Completed(accelerator);
            }
            Event::AddModel { model, terms } => {
                assert_eq!(model.index(), self.models.len(), "models are added in order");
                let queue = VecDeque::new();
                let mut terms = *terms;
                terms.profile = self.planned(model, terms.profile);
                self.models.push(RivalModel { terms, queue, expiry: None, multirow: false });
            }
            // A rival has its own rule.
            Event::SetMode(_) | Event::SetBatchesMax(_) => {}
            Event::AddAccelerator { .. }
            | Event::DrainAccelerator { .. }
            | Event::AcceleratorGone { .. } => unreachable!("a rival's accelerators stay"),
            Event::SetDelays(delays) => self.delays = delays,
            Event::SetProfile { model, profile } => {
                self.models[model.index()].terms.profile = self.planned(model, profile);
            }
            Event::Cancel { .. } | Event::ForgetOrigin { .. } | Event::RemoveModel { .. } => {
                unreachable!("no rival is asked to give up requests or models")
            }
        }
        Noted::Told
    }

    fn complete(&mut self, now: Time, accelerator: AcceleratorId, batch: BatchId) {
        let accelerator = &mut self.accelerators[accelerator.index()];
        accelerator.outstanding.retain(|other| other.batch != batch);
        accelerator.free = accelerator.outstanding.iter().fold(now, |free, o| free + o.exec);
    }

    /// The model and the rows of a batch that has not completed.
    pub(super) fn running(&self, id: AcceleratorId, batch: BatchId) -> Option<(ModelId, u32)> {
        let mut outstanding = self.accelerators[id.index()].outstanding.iter();
        outstanding.find(|other| other.batch == batch).map(|found| (found.model, found.rows))
    }

    /// Forgets the work of an accelerator and returns it.
    pub(super) fn abandon(&mut self, now: Time, id: AcceleratorId) -> VecDeque<RivalBatch> {
        let accelerator = &mut self.accelerators[id.index()];
        accelerator.free = now;
        std::mem::take(&mut accelerator.outstanding)
    }

    /// Queues a request, or drops it when its queue is full.
    pub(super) fn queue(&mut self, id: ModelId, request: Request, todo: &mut Actions) {
        let model = &mut self.models[id.index()];
        if model.queue.len() >= model.terms.queue_max as usize {
            todo.list.push(Action::Drop { model: id, request, reason: DropReason::QueueFull });
        } else {
            insert(&mut model.queue, request);
        }
    }

    /// When a batch can be sent to an accelerator so that it arrives as the one before ends. `None`
    /// while a batch that was sent ahead is already there.
    pub(super) fn available(&self, id: AcceleratorId) -> Option<Time> {
        let accelerator = &self.accelerators[id.index()];
        let lead = self.delays.lead(1);
        match accelerator.outstanding.len() {
            0 => Some(Time::ZERO),
            1 if lead > Span::ZERO => Some(accelerator.free - lead),
            _ => None,
        }
    }

    /// The lowest-numbered accelerator that is available.
    pub(super) fn first_available(&self, now: Time) -> Option<AcceleratorId> {
        self.ids().find(|id| self.available(*id).is_some_and(|time| time <= now))
    }

    /// When the next accelerator becomes available without an event.
    pub(super) fn next_available(&self, now: Time) -> Option<Time> {
        self.ids().filter_map(|id| self.available(id)).filter(|time| *time > now).min()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = AcceleratorId> + use<> {
        (0..u32::try_from(self.accelerators.len()).unwrap_or(u32::MAX)).map(AcceleratorId)
    }

    /// When the execution of a batch must end for this request.
    pub(super) fn due(&self, request: &Request) -> Time {
        request.deadline - self.delays.response
    }

    /// The latest time to send a batch of `rows` rows that must end by `due`.
    pub(super) fn send_by(&self, model: ModelId, due: Time, rows: u32) -> Time {
        due - self.models[model.index()].terms.profile.exec(rows) - self.delays.lead(rows)
    }

    /// When a batch of `rows` rows begins that is sent now to an accelerator that is free from `free`.
    pub(super) fn begin(&self, now: Time, free: Time, rows: u32) -> Time {
        free.max(now + self.delays.lead(rows))
    }

    /// When to be woken to do something at the latest at `time`: timers fire late.
    pub(super) fn wake_for(&self, time: Time) -> Time {
        time - self.delays.jitter
    }

    /// The largest number of rows that end by `due` if they are sent now to an accelerator that is
    /// free from `free`.
    pub(super) fn rows_in_time(&self, model: ModelId, now: Time, free: Time, due: Time) -> u32 {
        let profile: &Profile = &self.models[model.index()].terms.profile;
        let mut rows = profile.rows_within(due.since(free.max(now + self.delays.control)));
        while rows > 0 && free.max(now + self.delays.lead(rows)) + profile.exec(rows) > due {
            rows -= 1;
        }
        rows
    }

    /// The largest batch from the head of `queue` that meets the head's deadline.
    pub(super) fn feasible(
        &self,
        model: ModelId,
        queue: &VecDeque<Request>,
        now: Time,
        free: Time,
    ) -> QueueHead {
        let Some(head) = queue.front() else { return QueueHead::default() };
        prefix(queue, self.rows_in_time(model, now, free, self.due(head)))
    }

    /// Drops the heads of a model's queue that cannot meet their deadline even alone on an idle
    /// accelerator. Returns whether there were any.
    pub(super) fn drop_hopeless(&mut self, id: ModelId, now: Time, todo: &mut Actions) -> bool {
        let before = todo.list.len();
        while let Some(&request) = self.models[id.index()].queue.front()
            && self.rows_in_time(id, now, now, self.due(&request)) < request.rows
        {
            self.models[id.index()].queue.pop_front();
            todo.list.push(Action::Drop { model: id, request, reason: DropReason::Hopeless });
        }
        todo.list.len() > before
    }

    /// Drops the head of a model's queue, for which no accelerator is free in time.
    pub(super) fn drop_head(&mut self, model: ModelId, todo: &mut Actions) {
        if let Some(request) = self.models[model.index()].queue.pop_front() {
            todo.list.push(Action::Drop { model, request, reason: DropReason::Hopeless });
        }
    }

    /// Notes when the head of a model's queue becomes hopeless. Call it whenever the queue has
    /// changed.
    pub(super) fn watch(&mut self, id: ModelId) {
        if let Some(old) = self.models[id.index()].expiry.take() {
            self.expiries.remove(&(old, id));
        }
        if let Some(head) = self.models[id.index()].queue.front() {
            let expiry = self.send_by(id, self.due(head), head.rows) + Span(1);
            self.models[id.index()].expiry = Some(expiry);
            self.expiries.insert((expiry, id));
        }
    }

    /// Drops every watched head that has become hopeless.
    pub(super) fn drop_expired(&mut self, now: Time, todo: &mut Actions) {
        while let Some(&(time, model)) = self.expiries.first()
            && time <= now
        {
            self.drop_hopeless(model, now, todo);
            self.watch(model);
        }
    }

    /// When the next watched head becomes hopeless.
    pub(super) fn next_expiry(&self) -> Option<Time> {
        self.expiries.first().map(|(time, _)| *time)
    }

    /// The watched models with a queue, the most urgent head first.
    pub(super) fn queued(&self) -> impl Iterator<Item = ModelId> {
        self.expiries.iter().map(|(_, model)| *model)
    }

    /// Sends requests as one batch.
    pub(super) fn send(
        &mut self,
        now: Time,
        model: ModelId,
        id: AcceleratorId,
        requests: impl IntoIterator<Item = Request>,
        todo: &mut Actions,
    ) -> BatchId {
        let first = todo.requests.len();
        todo.requests.extend(requests);
        let rows = todo.requests[first..].iter().map(|request| request.rows).sum();
        let exec = self.models[model.index()].terms.profile.exec(rows);
        let batch = BatchId(self.next_batch);
        self.next_batch += 1;
        let accelerator = &mut self.accelerators[id.index()];
        let begin = accelerator.free.max(now + self.delays.lead(rows));
        accelerator.free = begin + exec;
        accelerator.outstanding.push_back(RivalBatch { batch, model, rows, exec });
        let requests = first..todo.requests.len();
        let (slowdown, behind) = (Slowdown::ONE, false);
        let start =
            Start { batch, accelerator: id, model, requests, rows, begin, exec, slowdown, behind };
        todo.list.push(Action::Start(start));
        batch
    }

    /// Sends the first requests of a model's queue as one batch.
    pub(super) fn send_head(
        &mut self,
        now: Time,
        model: ModelId,
        id: AcceleratorId,
        count: usize,
        todo: &mut Actions,
    ) -> BatchId {
        let mut queue = std::mem::take(&mut self.models[model.index()].queue);
        let batch = self.send(now, model, id, queue.drain(..count), todo);
        self.models[model.index()].queue = queue;
        batch
    }
}

/// Queues a request behind all requests with the same or an earlier deadline.
pub(super) fn insert(queue: &mut VecDeque<Request>, request: Request) {
    let at = match queue.back() {
        Some(last) if last.deadline > request.deadline => {
            queue.partition_point(|other| other.deadline <= request.deadline)
        }
        _ => queue.len(),
    };
    queue.insert(at, request);
}

/// The longest prefix of at most `rows_max` rows.
pub(super) fn prefix(queue: &VecDeque<Request>, rows_max: u32) -> QueueHead {
    let mut prefix = QueueHead::default();
    for request in queue {
        if request.rows > rows_max - prefix.rows {
            break;
        }
        prefix.count += 1;
        prefix.rows += request.rows;
    }
    prefix
}
