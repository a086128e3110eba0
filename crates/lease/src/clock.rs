//! The clock that says whether a lease has run out: it goes on while the machine sleeps.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point of time. It means nothing to another machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Moment(Duration);

impl Moment {
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        // The time since the start of the machine is never negative.
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
        Self(Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds))
    }

    pub(crate) fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// What is left until this moment; `None` if it is past.
    pub(crate) fn left(self) -> Option<Duration> {
        self.0.checked_sub(Self::now().0).filter(|left| !left.is_zero())
    }
}

/// A lease that its holder freed waits no longer than this.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// How often a lease with this time to live is renewed, and when its holder gives it up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// For so long nobody else can take the lease after it was renewed.
    pub(crate) ttl: Duration,
    /// For so long its holder trusts a renewal, counted from before it asked for it. The rest of
    /// the time to live is for clocks that run unlike, and for what the holder has to finish.
    pub(crate) trusted: Duration,
    /// From one renewal to the next.
    pub(crate) renewal: Duration,
    /// From a failed try to the next.
    pub(crate) retry: Duration,
    /// The longest that one try may take.
    pub(crate) attempt: Duration,
    /// From one look of a waiting process to the next, where nobody tells it that a lease is free.
    pub(crate) look: Duration,
}

impl Pace {
    pub(crate) fn of(ttl: Duration) -> Self {
        Self {
            ttl,
            trusted: ttl * 2 / 3,
            renewal: ttl / 4,
            retry: ttl / 16,
            attempt: ttl / 6,
            look: (ttl / 6).min(LOOK_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_can_try_again_before_it_gives_up() {
        let pace = Pace::of(Duration::from_secs(6));
        let first_try = pace.renewal + pace.attempt;
        assert!(first_try + pace.retry + pace.attempt < pace.trusted && pace.trusted < pace.ttl);
        let now = Moment::now();
        assert!(now.after(Duration::from_secs(60)).left().is_some());
        assert_eq!(now.left(), None);
    }
}
