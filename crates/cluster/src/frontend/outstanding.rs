//! The requests of a frontend that have no outcome yet: what the scheduler was told of each, and where
//! it is. The rules are those of [`symphony_core::recovery`].

use std::collections::{HashMap, HashSet};
use symphony_core::recovery::{Allegiance, Session, Whereabouts};
use symphony_core::{ModelId, Request, RequestId};

/// The requests that have no outcome yet, and whom this frontend obeys.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    requests: HashMap<RequestId, Entry>,
    allegiance: Allegiance,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    model: ModelId,
    request: Request,
    /// By the life of the backend.
    at: Whereabouts<u64>,
}

/// A request as the scheduler is told of it.
type Submission = (ModelId, Request);

/// What a backend had when its life or its link ended.
#[derive(Debug, Default)]
pub(crate) struct LeftBehind {
    /// Requests that wait again.
    pub(crate) waiting: Vec<RequestId>,
    /// Requests that the scheduler in charge does not know of.
    pub(crate) again: Vec<Submission>,
}

impl Outstanding {
    /// Whom this frontend obeys.
    pub(crate) fn allegiance(&mut self) -> &mut Allegiance {
        &mut self.allegiance
    }

    /// The scheduler is told of a request, or will be.
    pub(crate) fn submitted(&mut self, model: ModelId, request: Request) {
        self.requests.insert(request.id, Entry { model, request, at: Whereabouts::Queued });
    }

    /// A request has its outcome, or its client has left. Returns the lane that it was in.
    pub(crate) fn ended(&mut self, id: RequestId) -> Option<ModelId> {
        self.requests.remove(&id).map(|entry| entry.model)
    }

    /// A backend asks for the inputs of a request, for a plan of this epoch. Returns whether it may
    /// have them.
    pub(crate) fn fetched(&mut self, id: RequestId, life: u64, epoch: u64) -> bool {
        let (is_obeyed, session) = (self.allegiance.obeys(epoch), self.allegiance.session());
        let Some(entry) = self.requests.get_mut(&id).filter(|_| is_obeyed) else { return false };
        entry.at.fetched(life, session);
        true
    }

    /// Whether an outcome from this backend counts.
    pub(crate) fn is_fetched_by(&self, id: RequestId, life: u64) -> bool {
        let at = self.requests.get(&id).map(|entry| entry.at);
        matches!(at, Some(Whereabouts::Fetched { by, .. }) if by == life)
    }

    /// A backend's life is over, as the scheduler in charge says.
    pub(crate) fn gone(&mut self, life: u64) -> LeftBehind {
        self.left(life, |at, session| at.gone(&life, session))
    }

    /// The link to a backend is lost, and nobody has said that the backend is gone.
    pub(crate) fn cut(&mut self, life: u64) -> LeftBehind {
        self.left(life, |at, session| at.cut(&life, session))
    }

    /// There is a link to a backend again: the requests whose outcomes may have been lost with the one
    /// before.
    pub(crate) fn mended(&mut self, life: u64) -> Vec<u64> {
        let awaited = self
            .requests
            .iter_mut()
            .filter_map(|(id, entry)| entry.at.mended(&life).then_some(id.number()));
        awaited.collect()
    }

    /// A backend has no outcome of a request, and will have none.
    pub(crate) fn not_run(&mut self, id: RequestId, life: u64) -> LeftBehind {
        let mut left = LeftBehind::default();
        if let Some(entry) = self.requests.get_mut(&id)
            && entry.at.not_run(&life)
        {
            left.again.push((entry.model, entry.request));
            left.waiting.push(id);
        }
        left
    }

    /// A backend cannot be heard of any more, though nobody says that it is gone.
    pub(crate) fn unheard(&mut self, life: u64) -> LeftBehind {
        self.left(life, |at, _| at.not_run(&life))
    }

    /// The lanes that requests wait in.
    pub(crate) fn lanes(&self) -> HashSet<ModelId> {
        self.requests.values().map(|entry| entry.model).collect()
    }

    fn left(
        &mut self,
        life: u64,
        mut rule: impl FnMut(&mut Whereabouts<u64>, Session) -> bool,
    ) -> LeftBehind {
        let session = self.allegiance.session();
        let mut left = LeftBehind::default();
        let of_life =
            |entry: &&mut Entry| matches!(entry.at, Whereabouts::Fetched { by, .. } if by == life);
        for entry in self.requests.values_mut().filter(of_life) {
            if rule(&mut entry.at, session) {
                left.again.push((entry.model, entry.request));
            }
            if entry.at == Whereabouts::Queued {
                left.waiting.push(entry.request.id);
            }
        }
        left
    }

    /// A scheduler is in charge that knows of no request: those that it is to be told of, in the order
    /// of their deadlines.
    pub(crate) fn welcomed(&mut self) -> Vec<Submission> {
        let entries = self.requests.values_mut();
        let waiting =
            entries.filter_map(|entry| entry.at.welcomed().then_some((entry.model, entry.request)));
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_by_key(|(_, request)| (request.deadline, request.id));
        waiting
    }

    /// Lanes have other names from now on, but for those that have none.
    pub(crate) fn rename(&mut self, name: impl Fn(ModelId) -> Option<ModelId>) {
        for entry in self.requests.values_mut() {
            entry.model = name(entry.model).unwrap_or(entry.model);
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_core::{Class, Time};

    const MODEL: ModelId = ModelId::first(3);

    fn id(number: u64) -> RequestId {
        RequestId::only(number)
    }

    fn outstanding(count: u64, epoch: u64) -> Outstanding {
        let mut outstanding = Outstanding::default();
        assert!(outstanding.allegiance().welcome(epoch));
        for number in 0..count {
            let deadline = Time(100 - number);
            let (arrival, class) = (Time(0), Class::High);
            let request = Request { id: id(number), arrival, deadline, rows: 1, class };
            outstanding.submitted(MODEL, request);
        }
        outstanding
    }

    fn numbers(requests: &[Submission]) -> Vec<u64> {
        requests.iter().map(|(_, request)| request.id.number()).collect()
    }

    #[test]
    fn a_new_scheduler_is_told_of_what_nobody_runs_by_deadline() {
        let mut outstanding = outstanding(4, 1);
        assert!(outstanding.fetched(id(1), 7, 1));
        outstanding.ended(id(2));
        assert!(!outstanding.fetched(id(2), 7, 1), "it has its outcome");
        assert!(outstanding.allegiance().welcome(2));
        assert_eq!(numbers(&outstanding.welcomed()), [3, 0]);
        assert!(!outstanding.fetched(id(0), 7, 1), "a plan of the former scheduler");
        outstanding.rename(|lane| (lane == MODEL).then_some(ModelId::first(9)));
        assert_eq!(outstanding.welcomed()[1].0, ModelId::first(9));
    }

    #[test]
    fn what_a_former_scheduler_had_planned_is_submitted_again_by_the_frontend() {
        let mut outstanding = outstanding(3, 1);
        assert!(outstanding.fetched(id(0), 7, 1) && outstanding.fetched(id(2), 8, 1));
        assert!(outstanding.allegiance().welcome(2));
        assert!(outstanding.fetched(id(1), 7, 2));
        assert!(outstanding.is_fetched_by(id(0), 7) && !outstanding.is_fetched_by(id(0), 8));
        let left = outstanding.gone(7);
        assert_eq!((left.waiting.len(), numbers(&left.again)), (2, vec![0]));
        assert!(!outstanding.is_fetched_by(id(0), 7), "it is over");
        assert_eq!(numbers(&outstanding.welcomed()), [1, 0]);
        assert_eq!(outstanding.len(), 3);
    }

    #[test]
    fn a_link_that_is_cut_leaves_requests_to_whoever_says_what_became_of_the_backend() {
        let mut outstanding = outstanding(2, 1);
        assert!(outstanding.fetched(id(0), 7, 1) && outstanding.fetched(id(1), 8, 1));
        let left = outstanding.cut(7);
        assert!(left.waiting.is_empty() && left.again.is_empty());
        assert!(outstanding.allegiance().welcome(2));
        let left = outstanding.cut(8);
        assert_eq!((left.waiting, numbers(&left.again)), (vec![id(1)], vec![1]));
        assert_eq!(numbers(&outstanding.welcomed()), [1, 0]);
    }
}
