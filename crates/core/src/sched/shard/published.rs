//! What the matcher knows of a model: the newest candidate, and from when on it can be granted.

use crate::sched::message::{Candidate, Offer};
use crate::time::{Span, Time};

/// The newest candidate of one model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Published {
    /// Grants answered so far: the generation of the next candidate.
    generation: u32,
    candidate: Option<Candidate>,
    /// From when on the matcher can grant what is offered.
    opens: Time,
}

impl Published {
    /// The generation of a candidate made now.
    #[inline]
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// A grant was answered.
    pub(super) fn count_answer(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Whether the matcher does not know this candidate.
    #[inline]
    pub(super) fn is_news(&self, candidate: &Candidate) -> bool {
        self.candidate.as_ref() != Some(candidate)
    }

    /// Remembers what goes to the matcher, by a message that takes its time. The matcher cannot grant
    /// it before it has received it, unless what it knew before was open already.
    #[inline]
    pub(super) fn publish(&mut self, now: Time, message: Span, candidate: Candidate) {
        let received = now + message;
        let before = self.candidate.replace(candidate);
        let is_next = |before: &Candidate| before.generation == candidate.generation;
        let was_open = before.filter(is_next).and_then(|before| before.offer).map(|_| self.opens);
        if let Some(offer) = candidate.offer {
            self.opens = offer.exec.max(was_open.unwrap_or(received).min(received));
        }
    }

    /// Whether the batch is still held back for company. It has not had its chance to start.
    #[inline]
    pub(super) fn is_deferring(&self, now: Time) -> bool {
        self.offered().is_some_and(|offer| offer.exec > now)
    }

    /// Whether the batch is held back, or its grant may be on the way. To exchange its head for
    /// another now would be to exchange it for every request that comes meanwhile.
    #[inline]
    pub(super) fn awaits_chance(&self, now: Time, message: Span) -> bool {
        self.offered().is_some() && self.opens + message > now
    }

    /// What the matcher was offered and has not granted, as far as is known.
    #[inline]
    fn offered(&self) -> Option<&Offer> {
        let current = self.candidate.as_ref().filter(|known| known.generation == self.generation);
        current.and_then(|known| known.offer.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ModelId;
    use crate::sched::message::Tier;

    const MS: fn(u64) -> Span = Span::from_millis;

    fn at(ms: u64) -> Time {
        Time(MS(ms).0)
    }

    fn candidate(published: &Published, exec: Time) -> Candidate {
        let offer = Offer {
            exec,
            urgent: exec,
            latest: exec,
            turn: exec,
            level: 0,
            lead: Span::ZERO,
            due: exec,
            head_exec: Span::ZERO,
            tier: Tier::High,
            exec_span: Span::ZERO,
            reserved: 0.0,
            expected: exec,
            more_batches: 0,
        };
        Candidate {
            model: ModelId::first(0),
            generation: published.generation(),
            offer: Some(offer),
        }
    }

    #[test]
    fn a_batch_has_its_chance_once_a_grant_could_have_come() {
        let mut published = Published::default();
        assert!(!published.is_deferring(at(0)) && !published.awaits_chance(at(0), MS(1)));
        published.publish(at(0), MS(1), candidate(&published, at(5)));
        assert!(published.is_deferring(at(4)) && !published.is_deferring(at(5)));
        assert!(published.awaits_chance(at(5), MS(1)) && !published.awaits_chance(at(6), MS(1)));
        // A newer one that opens at once is known to the matcher a message later.
        published.publish(at(2), MS(1), candidate(&published, at(0)));
        assert!(published.awaits_chance(at(3), MS(1)) && !published.awaits_chance(at(4), MS(1)));
        // What was open stays open.
        published.publish(at(9), MS(1), candidate(&published, at(0)));
        assert!(!published.awaits_chance(at(9), MS(1)));
    }

    #[test]
    fn what_was_granted_is_not_offered_any_more() {
        let mut published = Published::default();
        let first = candidate(&published, at(5));
        published.publish(at(0), MS(1), first);
        assert!(!published.is_news(&first));
        published.count_answer();
        assert!(!published.is_deferring(at(0)) && !published.awaits_chance(at(0), MS(1)));
        assert!(published.is_news(&candidate(&published, at(5))));
    }
}
