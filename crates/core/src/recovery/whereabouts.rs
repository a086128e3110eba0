//! Where a frontend's request is, and so who sees to it when a process is lost.
//!
//! In: what the frontend hears of schedulers and backends. Out: whether it submits the request again.
//! A request is always in exactly one of these hands: the queue of the scheduler in charge, that
//! scheduler's [`Ledger`](super::Ledger), or a batch that only its backend and its frontend know of,
//! because the scheduler that planned it is gone.

/// Whom a process obeys: the scheduler of the highest epoch that it has heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allegiance {
    epoch: u64,
    session: u32,
}

/// One meeting with a scheduler: from its welcome to the next one's. What was planned in an earlier
/// session is not in the books of the scheduler in charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session(u32);

impl Allegiance {
    /// A scheduler says that it is in charge. Returns whether it is: nobody obeys one of a lower epoch
    /// than another. One that says it again has met this process anew, and begins with empty books.
    pub fn welcome(&mut self, epoch: u64) -> bool {
        let is_in_charge = epoch >= self.epoch;
        if is_in_charge {
            self.epoch = epoch;
            self.session += 1;
        }
        is_in_charge
    }

    /// Whether what a scheduler of this epoch has planned or said still counts.
    #[must_use]
    pub const fn obeys(&self, epoch: u64) -> bool {
        epoch >= self.epoch
    }

    /// The epoch of the scheduler in charge; zero before the first.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The session with the scheduler in charge.
    #[must_use]
    pub const fn session(&self) -> Session {
        Session(self.session)
    }
}

/// Where a request that has no outcome is. `B` is a backend in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts<B> {
    /// With the scheduler in charge, or to be submitted to the next one.
    Queued,
    /// A backend has its inputs.
    Fetched {
        /// Which backend.
        by: B,
        /// When its batch was planned.
        session: Session,
        /// Whether the link to the backend is lost, so that no outcome can come.
        is_cut: bool,
    },
}

impl<B: PartialEq> Whereabouts<B> {
    /// The scheduler in charge knows none of this frontend's requests: whether this one is submitted
    /// to it. One that runs is left alone.
    #[must_use]
    pub fn welcomed(&mut self) -> bool {
        if let Whereabouts::Fetched { is_cut: true, .. } = self {
            *self = Whereabouts::Queued;
        }
        matches!(self, Whereabouts::Queued)
    }

    /// A backend fetches its inputs, for a plan of a scheduler that is [obeyed](Allegiance::obeys).
    /// The newest plan counts.
    pub fn fetched(&mut self, by: B, session: Session) {
        *self = Whereabouts::Fetched { by, session, is_cut: false };
    }

    /// The link to a backend is lost, and nobody has said that the backend is gone: whether this
    /// request is submitted again. The scheduler that planned its batch in this session will know.
    #[must_use]
    pub fn cut(&mut self, from: &B, now: Session) -> bool {
        let Whereabouts::Fetched { by, session, is_cut } = self else { return false };
        if by != from {
            return false;
        }
        *is_cut = true;
        let is_forgotten = *session != now;
        if is_forgotten {
            *self = Whereabouts::Queued;
        }
        is_forgotten
    }

    /// There is a link to a backend again: whether its outcome of this request is awaited, which may
    /// have been lost with the link before.
    #[must_use]
    pub fn mended(&mut self, with: &B) -> bool {
        let Whereabouts::Fetched { by, is_cut, .. } = self else { return false };
        if by != with {
            return false;
        }
        *is_cut = false;
        true
    }

    /// A backend has no outcome of this request and will have none, though its batch has ended, or
    /// cannot be heard of any more: whether it is submitted again.
    #[must_use]
    pub fn not_run(&mut self, by_backend: &B) -> bool {
        let is_by = matches!(self, Whereabouts::Fetched { by, .. } if by == by_backend);
        if is_by {
            *self = Whereabouts::Queued;
        }
        is_by
    }

    /// The scheduler in charge says that a backend's life is over: whether this request is submitted
    /// again. The scheduler itself sees to those whose batches it planned in this session.
    #[must_use]
    pub fn gone(&mut self, backend: &B, now: Session) -> bool {
        let Whereabouts::Fetched { by, session, .. } = self else { return false };
        if by != backend {
            return false;
        }
        let is_forgotten = *session != now;
        *self = Whereabouts::Queued;
        is_forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_session(welcomes: u64) -> Session {
        let mut allegiance = Allegiance::default();
        (1..=welcomes).for_each(|epoch| assert!(allegiance.welcome(epoch)));
        allegiance.session()
    }

    #[test]
    fn nobody_obeys_a_former_scheduler() {
        let mut frontend = Allegiance::default();
        assert!(frontend.welcome(3) && frontend.obeys(3));
        let session = frontend.session();
        assert!(!frontend.welcome(2) && !frontend.obeys(2));
        assert_eq!((frontend.epoch(), frontend.session()), (3, session));
        assert!(frontend.obeys(4), "a backend may have met the next one first");
        assert!(frontend.welcome(3));
        assert_ne!(frontend.session(), session, "it has met the same one anew");
    }

    #[test]
    fn an_outcome_that_was_lost_with_its_link_is_asked_for_and_then_not_waited_for() {
        let session = in_session(1);
        let mut at = Whereabouts::<u8>::Queued;
        assert!(!at.mended(&7) && !at.not_run(&7), "it is with the scheduler");
        at.fetched(7, session);
        assert!(!at.cut(&7, session) && at.mended(&7) && !at.mended(&8));
        assert!(!at.welcomed(), "it may still run");
        assert!(!at.not_run(&8) && at.not_run(&7));
        assert_eq!(at, Whereabouts::Queued);
    }

    #[test]
    fn a_request_is_submitted_to_the_next_scheduler_unless_it_runs() {
        let (first, second) = (in_session(1), in_session(2));
        let mut queued = Whereabouts::<u8>::Queued;
        assert!(queued.welcomed());
        let mut running = queued;
        running.fetched(7, first);
        assert!(!running.welcomed());
        // Its backend goes later, and the scheduler in charge knows nothing of it.
        assert!(!running.gone(&8, second));
        assert!(running.gone(&7, second));
        assert_eq!(running, Whereabouts::Queued);
        assert!(!running.gone(&7, second), "once");
    }

    #[test]
    fn the_scheduler_that_planned_a_batch_sees_to_its_requests() {
        let session = in_session(1);
        let mut running = Whereabouts::Queued;
        running.fetched(7, session);
        assert!(!running.gone(&7, session));
        assert_eq!(running, Whereabouts::Queued, "and the next one will not know of it");
        running.fetched(7, session);
        running.fetched(8, session);
        assert!(!running.gone(&7, session), "it runs elsewhere already");
        assert_ne!(running, Whereabouts::Queued);
    }

    #[test]
    fn a_request_behind_a_lost_link_is_not_left_there() {
        let (first, second) = (in_session(1), in_session(2));
        let fetched = |session| Whereabouts::Fetched { by: 7, session, is_cut: false };
        // The scheduler is there: it will say what has become of the backend.
        let mut request = fetched(first);
        assert!(!request.cut(&8, first));
        assert_eq!(request, fetched(first));
        assert!(!request.cut(&7, first));
        assert!(!request.gone(&7, first) && request == Whereabouts::Queued);
        // It is gone as well, and said nothing.
        let mut request = fetched(first);
        assert!(!request.cut(&7, first));
        assert!(request.welcomed());
        // Or had gone before.
        let mut request = fetched(first);
        assert!(request.cut(&7, second));
        assert_eq!(request, Whereabouts::Queued);
    }
}
