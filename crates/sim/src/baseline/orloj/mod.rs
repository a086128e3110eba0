//! Orloj: which requests run together, and which first, by the expected cost of delay under
//! execution times that are known only as distributions.
//!
//! Source: Yu, Qiu, Jin, Chowdhury, *Orloj: Predictably Serving Unpredictable DNNs*, arXiv
//! 2209.00159, MLSys 2023. As far as we know the paper, the time of a batch is a distribution,
//! derived from empirical ones by the rule that a batch takes as long as its longest request; there
//! is a queue for every batch size, ordered by a score that changes with time; and the size with the
//! highest score goes first. The score is that of cost-based scheduling (Peha and Tobagi; Chi et al., *iCBS*,
//! VLDB 2011, and *Distribution-based query scheduling*, VLDB 2013) for a cost that steps at the
//! deadline: the chance to be in time now, less the chance after an exponential delay, over the
//! mean time. So a request that is hardly in time any more scores low and steps back for others.
//! An accelerator never waits while there are requests.
//!
//! We could read the paper's abstract and notes of others on it, and know the scheduling that it
//! builds on; we could not read its text or code. Where we had to decide:
//! - Distributions are learned online from completions, which tell only the time of whole batches:
//!   256 times as multiples of the profile's, for batch sizes of each power of two. A size of which
//!   too few were seen takes the nearest with the rule of the longest request. What was seen of a
//!   size itself is better than that rule where a batch's time is not all its longest request's.
//! - Every batch size of the profile is allowed, and a batch's score is the sum of its requests'.
//! - The expected delay of a request that is left out of a batch is 30 mean batches. Of one batch
//!   (urgent requests weigh more) costs a fifth where times vary (8 accelerators, sigma 0.1: 3 140
//!   instead of 4 517 r/s; no more at 1 000).
//! - The paper's requests are for one model. Of the best batches of several models the one goes
//!   first that loses most by a delay of a mean batch over the number of accelerators, until the
//!   next is free (ten models on eight, sigma 0.1: 3 550 instead of 2 255 r/s with one delay for
//!   both).
//! - As written the score counts a request by its chance, so a batch may take ones that are likely
//!   late: it maximises how many are in time, not the load at which nearly all are. `orloj:PERCENT`
//!   leaves them out of a batch while there are others with at least that chance. At 95 that holds
//!   up to a ninth more on eight accelerators where times vary (sigma 0.2: 3 660 instead of 3 280
//!   r/s) and up to 8 % less on one and for ten models: the better of both is the mark.
//! - A request is dropped that is late even if it runs alone and as fast as any batch did.

mod times;

use super::pool::{Noted, RivalPool};
use crate::Contender;
use symphony_core::sched::{Actions, Event, Policy};
use symphony_core::{AcceleratorId, BatchId, ModelId, Span, Time};
use times::{BatchTimes, ExpectedDelays, SizeTimes, urgency};

/// So many mean batches is the expected delay of a request that is left out of one.
const LEFT_OUT: f64 = 30.0;
/// The part of a new batch in the mean batch.
const NEW_PART: f64 = 0.05;

/// Batches by the expected cost of delay.
#[derive(Clone, Debug)]
pub struct Orloj {
    pool: RivalPool,
    times: Vec<BatchTimes>,
    /// The mean time of a batch, in nanoseconds.
    batch: f64,
    /// The chance to be in time of the requests that come first, 0 to 1.
    sure: f64,
    now: Time,
    /// Room that every choice uses again.
    room: Room,
}

#[derive(Clone, Debug, Default)]
struct Room {
    queued: Vec<QueuedRequest>,
    scored: Vec<ScoredRequest>,
}

/// A request as the scores see it.
#[derive(Clone, Copy, Debug)]
struct QueuedRequest {
    rows: u32,
    /// The time from the beginning of a batch until it must end, in nanoseconds.
    left: f64,
    urgency: f64,
}

/// A request that may be in time, and its place in the queue.
#[derive(Clone, Copy, Debug)]
struct ScoredRequest {
    loss: f64,
    place: usize,
}

/// The best batch of a model.
#[derive(Clone, Debug, Default)]
struct ScoredBatch {
    score: f64,
    rows: u32,
    /// Places in the queue.
    places: Vec<usize>,
}

impl Orloj {
    /// Orloj on `accelerators` idle accelerators. Requests with at least this chance to be in time,
    /// in percent, come first.
    #[must_use]
    pub fn new(sure_percent: u32, accelerators: u32) -> Orloj {
        Orloj {
            pool: RivalPool::new(accelerators),
            times: Vec::new(),
            batch: 0.0,
            sure: f64::from(sure_percent) / 100.0,
            now: Time::ZERO,
            room: Room::default(),
        }
    }

    fn delays(&self) -> ExpectedDelays {
        let batch = self.batch.max(1.0);
        let accelerators = self.pool.accelerators.len().max(1) as f64;
        ExpectedDelays { left_out: batch * LEFT_OUT, turn: batch / accelerators }
    }

    fn learn(&mut self, accelerator: AcceleratorId, batch: BatchId, exec: Span) {
        let Some((model, rows)) = self.pool.running(accelerator, batch) else { return };
        let model = model.index();
        self.batch += (exec.0 as f64 - self.batch) * NEW_PART;
        let profile = &self.pool.models[model].terms.profile;
        if self.times[model].add(profile, rows, exec) {
            let delays = self.delays();
            self.times[model].renew(&self.pool.models[model].terms.profile, delays);
        }
    }

    /// Drops the heads of a model that are late even alone and at their fastest.
    fn drop_late(&mut self, now: Time, model: ModelId, todo: &mut Actions) {
        while let Some(head) = self.pool.models[model.index()].queue.front()
            && let begin = self.pool.begin(now, now, head.rows)
            && let left = self.pool.due(head).since(begin)
            && (left.0 as f64) < self.times[model.index()].of(head.rows).shortest()
        {
            self.pool.drop_head(model, todo);
        }
        self.pool.watch(model);
    }

    /// The best batch of a model on an accelerator that is free from `free`.
    fn best(&mut self, now: Time, free: Time, model: ModelId) -> ScoredBatch {
        let state = &self.pool.models[model.index()];
        let times = &self.times[model.index()];
        let delays = times.delays();
        let rows_max = state.terms.profile.rows_max().min(state.queued_rows());
        let begin = self.pool.begin(now, free, rows_max);
        self.room.queued.clear();
        self.room.queued.extend(state.queue.iter().map(|request| {
            let left = self.pool.due(request).since(begin).0 as f64;
            QueuedRequest { rows: request.rows, left, urgency: urgency(left, delays) }
        }));
        let multirow = state.multirow;
        let mut best = self.room.best(times, rows_max, self.sure, multirow);
        if best.places.is_empty() && self.sure > 0.0 {
            best = self.room.best(times, rows_max, 0.0, multirow);
        }
        let size = times.of(best.rows);
        let lost = |place: &usize| size.loss_by_turn(self.room.queued[*place].left, delays);
        best.score = best.places.iter().map(lost).sum::<f64>() / size.mean();
        best
    }

    /// Sends requests from these places of a model's queue.
    fn send(
        &mut self,
        now: Time,
        id: AcceleratorId,
        (model, mut places): (ModelId, Vec<usize>),
        todo: &mut Actions,
    ) {
        places.sort_unstable();
        let queue = &mut self.pool.models[model.index()].queue;
        let taken = places.iter().rev().filter_map(|place| queue.remove(*place));
        let mut requests: Vec<_> = taken.collect();
        requests.reverse();
        self.pool.send(now, model, id, requests, todo);
        self.pool.watch(model);
    }
}

impl Room {
    /// The batch with the highest score, of requests with a chance of at least `sure`.
    fn best(&mut self, times: &BatchTimes, most: u32, sure: f64, multirow: bool) -> ScoredBatch {
        let mut best = ScoredBatch::default();
        for rows in 1..=most {
            let score = self.choose(times.of(rows), rows, sure, multirow);
            if score > best.score {
                let places = self.scored.iter().map(|request| request.place).collect();
                best = ScoredBatch { score, rows, places };
            }
        }
        best
    }

    /// Chooses the requests with the highest scores for a batch of up to so many rows, and returns
    /// the score of the batch.
    fn choose(&mut self, size: &SizeTimes, rows_max: u32, sure: f64, multirow: bool) -> f64 {
        let least = size.time_for(sure);
        self.scored.clear();
        let mut in_time = 0;
        for (place, request) in self.queued.iter().enumerate() {
            if request.left < least || request.rows > rows_max {
                continue;
            }
            let loss = size.loss_left_out(request.left, request.urgency);
            if loss > 0.0 {
                self.scored.push(ScoredRequest { loss, place });
                // Of requests that are in time for sure, those that have more left score lower.
                in_time += if request.left >= size.longest() { request.rows } else { 0 };
                if in_time >= rows_max {
                    break;
                }
            }
        }
        let first = |a: &ScoredRequest, b: &ScoredRequest| {
            b.loss.total_cmp(&a.loss).then(a.place.cmp(&b.place))
        };
        if multirow {
            self.scored.sort_unstable_by(first);
            let (mut count, mut rows) = (0, 0);
            for request in &self.scored {
                rows += self.queued[request.place].rows;
                if rows > rows_max {
                    break;
                }
                count += 1;
            }
            self.scored.truncate(count);
        } else if self.scored.len() > rows_max as usize {
            self.scored.select_nth_unstable_by(rows_max as usize - 1, first);
            self.scored.truncate(rows_max as usize);
        }
        self.scored.iter().map(|request| request.loss).sum::<f64>() / size.mean()
    }
}

impl Policy for Orloj {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        match &event {
            Event::Complete { accelerator, batch, exec } => self.learn(*accelerator, *batch, *exec),
            Event::AddModel { terms, .. } => {
                self.batch = self.batch.max(terms.profile.exec(1).0 as f64);
                self.times.push(BatchTimes::new(&terms.profile, self.delays()));
            }
            _ => {}
        }
        if let Noted::Arrived(model, request) = self.pool.note(now, event, todo) {
            self.pool.queue(model, request, todo);
            self.pool.watch(model);
        }
    }

    fn settle(&mut self, now: Time, todo: &mut Actions) {
        self.now = now;
        while let Some(id) = self.pool.first_available(now) {
            let free = self.pool.accelerators[id.index()].free;
            let queued: Vec<ModelId> = self.pool.queued().collect();
            let mut best = (0.0, None);
            for model in queued {
                self.drop_late(now, model, todo);
                let batch = self.best(now, free, model);
                // Of equal ones the model whose head is due first: with many accelerators nothing
                // is lost by a turn.
                let is_first = best.1.is_none() || batch.score > best.0;
                if is_first && !batch.places.is_empty() {
                    best = (batch.score, Some((model, batch.places)));
                }
            }
            let Some(chosen) = best.1 else { break };
            self.send(now, id, chosen, todo);
        }
    }

    fn next_wake(&self) -> Option<Time> {
        self.pool.next_expiry()?;
        self.pool.next_available(self.now)
    }
}

impl Contender for Orloj {}
