//! What became of each request: one outcome each, in time or not.

use symphony_core::{Origin, RequestId};

/// The outcomes of one generator's requests. Identities are sequence numbers; a request has its
/// place here until the one that many later is admitted.
pub(super) struct Ledger {
    places: Box<[Place]>,
    next: u64,
    /// Tells the requests of two generators apart.
    origin: Origin,
    counted: bool,
    pub(super) counts: Counts,
}

/// How requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Counts {
    /// Requests that were due.
    pub(super) offered: u64,
    /// Ran, and in time.
    pub(super) good: u64,
    /// Ran too late.
    pub(super) late: u64,
    /// Dropped by the scheduler.
    pub(super) dropped: u64,
    /// Found the ring full, or no room among those in flight.
    pub(super) refused: u64,
    /// Never had an outcome.
    pub(super) lost: u64,
    /// Had more than one.
    pub(super) doubled: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    /// Due before or after the measured time.
    Waiting,
    Measured,
}

/// What may happen to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Good,
    Late,
    Dropped,
    Refused,
}

impl Ledger {
    /// Room for so many requests in flight, a power of two.
    pub(super) fn new(generator: u16, room: usize) -> Ledger {
        Ledger {
            places: vec![Place::Free; room.next_power_of_two()].into_boxed_slice(),
            next: 0,
            origin: Origin::new(generator, 0),
            counted: false,
            counts: Counts::default(),
        }
    }

    /// Counts the requests that are due from now on, or stops to.
    pub(super) fn count(&mut self, counted: bool) {
        self.counted = counted;
    }

    /// Admits a request; `None` when too many are in flight, which counts as refused.
    pub(super) fn admit(&mut self) -> Option<RequestId> {
        self.counts.offered += u64::from(self.counted);
        let at = self.at(self.next);
        if self.places[at] != Place::Free {
            self.counts.refused += u64::from(self.counted);
            return None;
        }
        self.places[at] = if self.counted { Place::Measured } else { Place::Waiting };
        let id = RequestId::new(self.origin, self.next);
        self.next += 1;
        Some(id)
    }

    /// Notes an outcome.
    pub(super) fn end(&mut self, id: RequestId, ended: Ended) {
        let at = self.at(id.number());
        match std::mem::replace(&mut self.places[at], Place::Free) {
            Place::Free => self.counts.doubled += 1,
            Place::Waiting => {}
            Place::Measured => match ended {
                Ended::Good => self.counts.good += 1,
                Ended::Late => self.counts.late += 1,
                Ended::Dropped => self.counts.dropped += 1,
                Ended::Refused => self.counts.refused += 1,
            },
        }
    }

    /// Requests without an outcome.
    pub(super) fn open(&self) -> u64 {
        self.places.iter().filter(|place| **place != Place::Free).count() as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "masked to the number of places")]
    fn at(&self, id: u64) -> usize {
        id as usize & (self.places.len() - 1)
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.offered += other.offered;
        self.good += other.good;
        self.late += other.late;
        self.dropped += other.dropped;
        self.refused += other.refused;
        self.lost += other.lost;
        self.doubled += other.doubled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_one_outcome_and_a_bound_on_those_in_flight() {
        let mut ledger = Ledger::new(3, 2);
        let unmeasured = ledger.admit().unwrap();
        ledger.count(true);
        let first = ledger.admit().unwrap();
        assert_eq!(ledger.admit(), None, "two are in flight");
        ledger.end(unmeasured, Ended::Late);
        let second = ledger.admit().unwrap();
        ledger.end(first, Ended::Good);
        ledger.end(first, Ended::Good);
        assert_eq!(ledger.open(), 1);
        ledger.end(second, Ended::Dropped);
        let expected =
            Counts { offered: 3, good: 1, dropped: 1, refused: 1, doubled: 1, ..Counts::default() };
        assert_eq!(ledger.counts, expected);
        assert_eq!(ledger.open(), 0);
    }
}
