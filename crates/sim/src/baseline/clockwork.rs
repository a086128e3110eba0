//! Clockwork: the central controller that plans every accelerator a few milliseconds ahead.
//!
//! Source: Gujarati et al., *Serving DNNs like Clockwork: Performance Predictability from the
//! Bottom Up*, OSDI 2020. As in the paper, execution times count as predictable. Each model offers
//! its batches as *strategies* with a latest start (deadline less execution), which is earlier for
//! larger batches. Whenever an accelerator has less than 5 ms of work ahead, it receives the
//! strategy with the earliest latest start. Requests that cannot be met are refused in advance.
//!
//! The time of a batch is predicted from the last ten that were measured: their 99th percentile,
//! which is the longest.
//!
//! Where we had to decide:
//! - Measured times count for all batch sizes between two powers of two, as multiples of the
//!   profile's, because the paper's sizes are powers of two. Until ten were measured, the longest of
//!   fewer counts; before that, and after a second without any, the profile: one slow batch would
//!   otherwise refuse all requests of a model for good.
//! - Every batch size of the profile is allowed; the paper compiles powers of two up to 16. This
//!   favours the rival.
//! - A model's strategy is its largest batch that still starts in time; the paper reaches it by
//!   discarding the strategies of larger batches one by one.
//! - All models are resident everywhere, so there is no loading of weights to plan.

use super::plan::stretched;
use super::pool::{Noted, RivalPool};
use crate::Contender;
use std::collections::VecDeque;
use std::sync::Arc;
use symphony_core::sched::{Actions, Event, Policy};
use symphony_core::{AcceleratorId, ModelId, Profile, Span, Time};

/// The work that each accelerator has ahead.
const AHEAD: Span = Span::from_millis(5);

/// Plans all accelerators a few milliseconds ahead.
#[derive(Clone, Debug)]
pub struct Clockwork {
    pool: RivalPool,
    predictions: Vec<Prediction>,
    touched: Vec<ModelId>,
}

/// So many measured times make a prediction.
const MEASURED: usize = 10;
/// A model that ran nothing for so long is predicted by its profile again.
const REMEMBERED: Span = Span::from_secs(1);

/// What the batches of a model took.
#[derive(Clone, Debug)]
struct Prediction {
    profile: Arc<Profile>,
    /// As multiples of the profile's time, the newest last; for batches of 1, of 2 and 3, of 4 to 7
    /// rows and so on.
    measured: Vec<VecDeque<f64>>,
    /// When the newest was.
    last: Time,
}

impl Prediction {
    fn new(profile: Arc<Profile>) -> Prediction {
        let classes = class(profile.rows_max()) + 1;
        Prediction { profile, measured: vec![VecDeque::new(); classes], last: Time::ZERO }
    }

    /// Notes what a batch took, and returns the profile to plan with.
    fn add(&mut self, now: Time, rows: u32, exec: Span) -> Arc<Profile> {
        self.last = now;
        let factor = exec.as_millis_f64() / self.profile.exec(rows).as_millis_f64();
        let of_size = &mut self.measured[class(rows)];
        if of_size.len() == MEASURED {
            of_size.pop_front();
        }
        of_size.push_back(factor);
        let longest = |size: &VecDeque<f64>| size.iter().copied().reduce(f64::max).unwrap_or(1.0);
        let factors: Vec<f64> = self.measured.iter().map(longest).collect();
        let rows_max = self.profile.rows_max();
        Arc::new(stretched(&self.profile, rows_max, |rows| factors[class(rows)]))
    }

    /// Forgets what is old. Returns whether there was anything.
    fn forget(&mut self, now: Time) -> bool {
        let is_old =
            now.since(self.last) > REMEMBERED && self.measured.iter().any(|s| !s.is_empty());
        if is_old {
            self.measured.iter_mut().for_each(VecDeque::clear);
        }
        is_old
    }
}

fn class(rows: u32) -> usize {
    rows.max(1).ilog2() as usize
}

impl Clockwork {
    /// Clockwork on `accelerators` idle accelerators.
    #[must_use]
    pub fn new(accelerators: u32) -> Clockwork {
        Clockwork {
            pool: RivalPool::new(accelerators),
            predictions: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// The accelerator that can start a batch first, and the time from which it can.
    fn earliest(&self, now: Time) -> Option<(Time, AcceleratorId)> {
        let free = |id: AcceleratorId| self.pool.accelerators[id.index()].free.max(now);
        self.pool.ids().map(|id| (free(id), id)).min()
    }

    /// The strategy with the earliest latest start on an accelerator that is free from `free`: the
    /// model and the number of its requests.
    fn strategy(&mut self, now: Time, free: Time, todo: &mut Actions) -> Option<(ModelId, usize)> {
        let pool = &self.pool;
        let strategy = |model: ModelId| {
            let queue = &pool.models[model.index()].queue;
            let batch = pool.feasible(model, queue, now, free);
            let due = queue.front().map_or(Time::NEVER, |head| pool.due(head));
            (pool.send_by(model, due, batch.rows), model, batch.count)
        };
        // No accelerator is free earlier, so a head that fits no batch here cannot be met.
        let refused: Vec<_> =
            pool.queued().map(strategy).filter(|s| s.2 == 0).map(|s| s.1).collect();
        let best = pool.queued().map(strategy).filter(|s| s.2 > 0).min();
        for model in refused {
            self.pool.drop_head(model, todo);
            self.pool.watch(model);
        }
        best.map(|(_, model, count)| (model, count))
    }
}

impl Policy for Clockwork {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        match &event {
            Event::AddModel { terms, .. } => {
                self.predictions.push(Prediction::new(Arc::clone(&terms.profile)));
            }
            Event::Complete { accelerator, batch, exec } => {
                if let Some((model, rows)) = self.pool.running(*accelerator, *batch) {
                    let profile = self.predictions[model.index()].add(now, rows, *exec);
                    self.pool.models[model.index()].terms.profile = profile;
                    self.pool.watch(model);
                }
            }
            Event::Arrive { model, .. } => {
                let prediction = &mut self.predictions[model.index()];
                if prediction.forget(now) {
                    let profile = Arc::clone(&prediction.profile);
                    self.pool.models[model.index()].terms.profile = profile;
                }
            }
            _ => {}
        }
        if let Noted::Arrived(model, request) = self.pool.note(now, event, todo) {
            self.pool.queue(model, request, todo);
            self.touched.push(model);
        }
    }

    fn settle(&mut self, now: Time, todo: &mut Actions) {
        for model in self.touched.drain(..) {
            self.pool.watch(model);
        }
        self.pool.drop_expired(now, todo);
        while self.pool.next_expiry().is_some()
            && let Some((free, accelerator)) = self.earliest(now)
            && free <= now + AHEAD
        {
            if let Some((model, count)) = self.strategy(now, free, todo) {
                self.pool.send_head(now, model, accelerator, count, todo);
                self.pool.watch(model);
            }
        }
    }

    fn next_wake(&self) -> Option<Time> {
        let expiry = self.pool.next_expiry()?;
        let planning = self.earliest(Time::ZERO).map(|(free, _)| free - AHEAD);
        [Some(expiry), planning].into_iter().flatten().min()
    }
}

impl Contender for Clockwork {}
