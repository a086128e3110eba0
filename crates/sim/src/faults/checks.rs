//! What has to be true of a cluster, whatever fails.

use std::collections::{BTreeMap, BTreeSet};
use symphony_core::recovery::GRACE;
use symphony_core::{BatchId, Origin, Request, RequestId, Time};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    Dropped,
    Failed,
    /// Its frontend waited no longer.
    TimedOut,
}

/// What became of the requests of a run in which nothing was broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survived {
    /// Requests that frontends took.
    pub requests: u64,
    /// Answered by their deadline.
    pub good: u64,
    /// Answered later.
    pub late: u64,
    /// Dropped by the scheduler.
    pub dropped: u64,
    /// Failed, because what ran them was lost.
    pub failed: u64,
    /// Failed by their frontend, because no outcome came.
    pub timed_out: u64,
    /// Batches that were lost.
    pub lost: u64,
    /// Requests that a scheduler scheduled again.
    pub resubmitted: u64,
    /// Faults that happened.
    pub faults: u64,
    /// Events of the simulation.
    pub events: u64,
}

impl Survived {
    /// Both together.
    pub fn add(&mut self, other: &Survived) {
        self.requests += other.requests;
        self.good += other.good;
        self.late += other.late;
        self.dropped += other.dropped;
        self.failed += other.failed;
        self.timed_out += other.timed_out;
        self.lost += other.lost;
        self.resubmitted += other.resubmitted;
        self.faults += other.faults;
        self.events += other.events;
    }
}

#[derive(Clone, Copy, Debug)]
struct Known {
    deadline: Time,
    is_late: bool,
    ending: Option<Ending>,
}

/// Sees everything, and says when something is not as it has to be.
#[derive(Debug, Default)]
pub(super) struct Checks {
    requests: BTreeMap<RequestId, Known>,
    /// Until when frontends' lives were stopped, in which nobody answers.
    stopped: BTreeMap<Origin, Time>,
    /// Frontends' lives that are over.
    over: BTreeSet<Origin>,
    /// In how many batches each request was sent, by the epoch of its scheduler, since that met the
    /// frontend.
    sent: BTreeMap<(u64, RequestId), u32>,
    /// The frontends that a scheduler, by its epoch, has forgotten.
    forgotten: BTreeSet<(u64, Origin)>,
    /// What each accelerator runs.
    running: BTreeMap<(usize, usize), (u64, BatchId)>,
    /// The epoch that each backend's process obeys.
    obeyed: BTreeMap<usize, u64>,
    pub(super) survived: Survived,
    broken: Option<String>,
}

impl Checks {
    /// Something is not as it has to be. The first time counts.
    pub(super) fn fail(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// A frontend took a request.
    pub(super) fn submitted(&mut self, request: &Request, is_late: bool) {
        self.survived.requests += 1;
        let known = Known { deadline: request.deadline, is_late, ending: None };
        if self.requests.insert(request.id, known).is_some() {
            self.fail(format!("request {} is submitted by its client twice", request.id));
        }
    }

    /// A frontend answers a request.
    pub(super) fn ended(&mut self, now: Time, id: RequestId, ending: Ending) {
        let Some(known) = self.requests.get_mut(&id) else {
            return self.fail(format!("request {id} is answered and was never submitted"));
        };
        let (deadline, is_late) = (known.deadline, known.is_late);
        let before = known.ending.replace(ending);
        let is_good = ending == Ending::Done && now <= deadline;
        let survived = &mut self.survived;
        match ending {
            Ending::Done if is_good => survived.good += 1,
            Ending::Done => survived.late += 1,
            Ending::Dropped => survived.dropped += 1,
            Ending::Failed => survived.failed += 1,
            Ending::TimedOut => survived.timed_out += 1,
        }
        if let Some(before) = before {
            self.fail(format!("request {id} is answered twice: {before:?}, then {ending:?}"));
        }
        if self.over.contains(&id.origin()) {
            self.fail(format!("request {id} of a former life is answered"));
        }
        let stopped = self.stopped.get(&id.origin()).copied().unwrap_or_default();
        if now > (deadline + GRACE).max(stopped) {
            self.fail(format!("request {id} is answered {} too late", now.since(deadline)));
        }
        if is_late && !is_good {
            self.fail(format!("all is well again, and request {id} ended as {ending:?}"));
        }
    }

    /// A frontend does nothing until then.
    pub(super) fn stopped(&mut self, origin: Origin, until: Time) {
        self.stopped.insert(origin, until);
    }

    /// A frontend's life is over.
    pub(super) fn over(&mut self, origin: Origin) {
        self.over.insert(origin);
    }

    /// A scheduler sends a batch.
    pub(super) fn sent(&mut self, epoch: u64, requests: &[Request]) {
        for Request { id, .. } in requests {
            let times = self.sent.entry((epoch, *id)).or_default();
            *times += 1;
            let times = *times;
            if times > 2 {
                self.fail(format!("request {id} is sent in {times} batches of epoch {epoch}"));
            }
            if self.forgotten.contains(&(epoch, id.origin())) {
                self.fail(format!("request {id} is sent, and its frontend's life is over"));
            }
        }
    }

    /// A scheduler forgets a frontend's requests. If the frontend meets it again, it begins with empty
    /// books.
    pub(super) fn forgotten(&mut self, epoch: u64, origin: Origin) {
        self.sent.retain(|(of, id), _| (*of, id.origin()) != (epoch, origin));
        self.forgotten.insert((epoch, origin));
    }

    /// A scheduler meets a frontend.
    pub(super) fn met(&mut self, epoch: u64, origin: Origin) {
        self.forgotten.remove(&(epoch, origin));
    }

    /// A backend obeys the scheduler of this epoch.
    pub(super) fn obeys(&mut self, backend: usize, epoch: u64) {
        let before = self.obeyed.insert(backend, epoch).unwrap_or_default();
        if epoch < before {
            self.fail(format!("backend {backend} obeys epoch {epoch} after {before}"));
        }
    }

    /// A backend's process ends, and what it ran. The next one knows of no scheduler: it obeys the
    /// first that it meets, be it a former one that does not know yet that it is.
    pub(super) fn ends(&mut self, backend: usize) {
        self.obeyed.remove(&backend);
        self.running.retain(|(of, _), _| *of != backend);
    }

    /// A backend takes a plan.
    pub(super) fn taken(&mut self, backend: usize, epoch: u64) {
        let obeyed = self.obeyed.get(&backend).copied().unwrap_or_default();
        if epoch < obeyed {
            self.fail(format!("backend {backend} takes a plan of epoch {epoch} in {obeyed}"));
        }
    }

    /// An accelerator begins a batch.
    pub(super) fn begins(&mut self, place: (usize, usize), batch: (u64, BatchId)) {
        if let Some(before) = self.running.insert(place, batch) {
            self.fail(format!("accelerator {place:?} begins {batch:?} and runs {before:?}"));
        }
    }

    /// It runs nothing any more.
    pub(super) fn rests(&mut self, place: (usize, usize)) {
        self.running.remove(&place);
    }

    /// Everything is over.
    pub(super) fn finish(&mut self) {
        let without = self
            .requests
            .iter()
            .find(|(id, known)| known.ending.is_none() && !self.over.contains(&id.origin()));
        if let Some((id, _)) = without {
            self.fail(format!("request {id} has no outcome"));
        }
    }
}
