//! The batches whose inputs are on their way, and the inputs that are there. A batch runs when it has
//! all of them, or when waiting longer would make it late.
//!
//! A state machine without a link or a clock. Requests of a batch that has nobody to fetch them from
//! are simply not there when it runs.

use std::collections::HashMap;
use symphony_core::{BatchId, Origin, RequestId, Time};
use symphony_wire::carrier::Timed;
use symphony_wire::message::BatchPlan;
use symphony_wire::tensor::Inputs;

/// A batch by the scheduler that planned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BatchKey {
    pub(crate) epoch: u64,
    pub(crate) batch: BatchId,
}

/// A batch that is to run now.
#[derive(Debug)]
pub(crate) struct ReadyBatch {
    pub(crate) key: BatchKey,
    /// The accelerator, by the backend's own number.
    pub(crate) place: usize,
    pub(crate) plan: Timed<BatchPlan>,
}

/// What is to be fetched from one frontend for one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToFetch {
    pub(crate) origin: Origin,
    pub(crate) key: BatchKey,
    pub(crate) numbers: Vec<u64>,
}

#[derive(Debug)]
struct Awaited {
    place: usize,
    plan: Timed<BatchPlan>,
    missing: usize,
    /// It starts then with what is there.
    latest: Time,
}

/// The batches whose inputs are on their way.
#[derive(Debug, Default)]
pub(crate) struct Fetching {
    batches: HashMap<BatchKey, Awaited>,
    /// Whose batch waits for a request's inputs.
    awaited: HashMap<RequestId, BatchKey>,
    inputs: HashMap<RequestId, Inputs>,
}

impl Fetching {
    /// A plan has arrived for the accelerator of this place. Returns what is to be fetched for it, and
    /// the batches of earlier plans that wait for nothing any more: their last requests are in this one.
    pub(crate) fn planned(
        &mut self,
        key: BatchKey,
        place: usize,
        plan: Timed<BatchPlan>,
    ) -> (Vec<ToFetch>, Vec<ReadyBatch>) {
        let mut wanted: Vec<ToFetch> = Vec::new();
        let mut taken = Vec::new();
        for request in &plan.message.requests {
            let (origin, number) = (request.id.origin(), request.id.number());
            let before = self.awaited.insert(request.id, key);
            taken.extend(before.filter(|before| *before != key));
            match wanted.iter_mut().find(|wanted| wanted.origin == origin) {
                Some(wanted) => wanted.numbers.push(number),
                None => wanted.push(ToFetch { origin, key, numbers: vec![number] }),
            }
        }
        let budgets = plan.message.requests.iter().map(|request| request.budget);
        let budget = budgets.min().unwrap_or_default();
        let latest = plan.at + budget.saturating_sub(plan.message.exec);
        let missing = plan.message.requests.len();
        self.batches.insert(key, Awaited { place, plan, missing, latest });
        (wanted, taken.into_iter().filter_map(|before| self.one_less(before)).collect())
    }

    /// A batch waits for one request less. Returns it if that was the last.
    fn one_less(&mut self, key: BatchKey) -> Option<ReadyBatch> {
        let batch = self.batches.get_mut(&key)?;
        batch.missing = batch.missing.saturating_sub(1);
        (batch.missing == 0).then(|| self.start(key))?
    }

    /// Only these frontends are there: nothing comes from others. Returns the batches that waited for
    /// no more than that.
    pub(crate) fn only_from(&mut self, is_there: impl Fn(Origin) -> bool) -> Vec<ReadyBatch> {
        let gone = self.awaited.keys().filter(|id| !is_there(id.origin()));
        let gone: Vec<_> = gone.copied().collect();
        gone.into_iter().filter_map(|id| self.arrived(id, None)).collect()
    }

    /// What is still to be fetched from a frontend: its link is new.
    pub(crate) fn missing_from(&self, origin: Origin) -> Vec<ToFetch> {
        let mut wanted: HashMap<BatchKey, Vec<u64>> = HashMap::new();
        for (id, key) in self.awaited.iter().filter(|(id, _)| id.origin() == origin) {
            wanted.entry(*key).or_default().push(id.number());
        }
        let to_fetch = |(key, numbers)| ToFetch { origin, key, numbers };
        wanted.into_iter().map(to_fetch).collect()
    }

    /// The inputs of a request have arrived, or are not to be had. Returns its batch if that was the
    /// last it waited for.
    pub(crate) fn arrived(&mut self, id: RequestId, inputs: Option<Inputs>) -> Option<ReadyBatch> {
        // Nobody waits for inputs that come twice or too late.
        let key = self.awaited.remove(&id)?;
        if let Some(inputs) = inputs {
            self.inputs.insert(id, inputs);
        }
        self.one_less(key)
    }

    /// The batches that can wait no longer.
    pub(crate) fn overdue(&mut self, now: Time) -> Vec<ReadyBatch> {
        let due = self.batches.iter().filter(|(_, batch)| batch.latest <= now);
        let due: Vec<_> = due.map(|(key, _)| *key).collect();
        due.into_iter().filter_map(|key| self.start(key)).collect()
    }

    /// When the next batch can wait no longer.
    pub(crate) fn next(&self) -> Option<Time> {
        self.batches.values().map(|batch| batch.latest).min()
    }

    fn start(&mut self, key: BatchKey) -> Option<ReadyBatch> {
        let Awaited { place, plan, missing, .. } = self.batches.remove(&key)?;
        if missing > 0 {
            for request in &plan.message.requests {
                if self.awaited.get(&request.id) == Some(&key) {
                    self.awaited.remove(&request.id);
                }
            }
        }
        Some(ReadyBatch { key, place, plan })
    }

    /// Takes the inputs of a request to run it.
    pub(crate) fn take(&mut self, id: RequestId) -> Option<Inputs> {
        self.inputs.remove(&id)
    }

    /// Forgets the inputs of a batch that does not run.
    pub(crate) fn forget(&mut self, plan: &BatchPlan) {
        for request in &plan.requests {
            self.inputs.remove(&request.id);
        }
    }

    /// Forgets everything: the life in which it was fetched is over. Returns the batches that had not
    /// begun.
    pub(crate) fn clear(&mut self) -> Vec<ReadyBatch> {
        self.awaited.clear();
        self.inputs.clear();
        let ready = |(key, Awaited { place, plan, .. })| ReadyBatch { key, place, plan };
        self.batches.drain().map(ready).collect()
    }

    /// Whether nothing is on its way or waits to be run.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.awaited.is_empty() && self.inputs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_core::{Class, ModelId, Span};
    use symphony_wire::message::PlannedRequest;

    fn id(frontend: u16, number: u64) -> RequestId {
        RequestId::new(Origin::new(frontend, 1), number)
    }

    fn plan(requests: &[RequestId]) -> Timed<BatchPlan> {
        let planned = |id: &RequestId| PlannedRequest {
            id: *id,
            age: Span::ZERO,
            budget: Span(100),
            rows: 1,
            class: Class::High,
        };
        let requests: Vec<_> = requests.iter().map(planned).collect();
        let (batch, model) = (BatchId(5), ModelId::first(0));
        let plan = BatchPlan { batch, model, rows: 2, exec: Span(30), requests };
        Timed::new(Time(1000), plan)
    }

    const KEY: BatchKey = BatchKey { epoch: 2, batch: BatchId(5) };

    fn inputs() -> Option<Inputs> {
        Some(Inputs::fixed(1, vec![]))
    }

    #[test]
    fn a_batch_runs_when_it_has_the_inputs_of_all_frontends() {
        let mut fetching = Fetching::default();
        let requests = [id(1, 10), id(2, 20), id(1, 11)];
        let (wanted, _) = fetching.planned(KEY, 3, plan(&requests));
        let of = |frontend, numbers: &[u64]| ToFetch {
            origin: Origin::new(frontend, 1),
            key: KEY,
            numbers: numbers.to_vec(),
        };
        assert_eq!(wanted, [of(1, &[10, 11]), of(2, &[20])]);
        assert!(fetching.arrived(id(1, 10), inputs()).is_none());
        assert!(fetching.arrived(id(1, 10), inputs()).is_none(), "it came before");
        assert_eq!(fetching.missing_from(Origin::new(1, 1)), [of(1, &[11])]);
        assert!(fetching.arrived(id(1, 11), None).is_none());
        let ready = fetching.arrived(id(2, 20), inputs()).unwrap();
        assert_eq!((ready.key, ready.place), (KEY, 3));
        assert!(fetching.take(id(1, 10)).is_some() && fetching.take(id(1, 11)).is_none());
        assert!(!fetching.is_empty());
        fetching.forget(&ready.plan.message);
        assert!(fetching.is_empty());
    }

    #[test]
    fn a_batch_that_can_wait_no_longer_runs_with_what_is_there() {
        let mut fetching = Fetching::default();
        fetching.planned(KEY, 0, plan(&[id(1, 10), id(2, 20)]));
        assert!(fetching.arrived(id(1, 10), inputs()).is_none());
        assert_eq!(fetching.next(), Some(Time(1070)));
        assert!(fetching.overdue(Time(1069)).is_empty());
        assert_eq!(fetching.overdue(Time(1070)).len(), 1);
        assert!(fetching.arrived(id(2, 20), inputs()).is_none(), "too late");
        assert!(fetching.take(id(2, 20)).is_none() && fetching.take(id(1, 10)).is_some());
        assert!(fetching.is_empty() && fetching.next().is_none());
    }

    #[test]
    fn a_life_that_is_over_leaves_nothing() {
        let mut fetching = Fetching::default();
        fetching.planned(KEY, 0, plan(&[id(1, 10), id(2, 20)]));
        fetching.arrived(id(1, 10), inputs());
        assert_eq!(fetching.clear().len(), 1);
        assert!(fetching.is_empty());
    }
}
