//! The process's one monotonic clock, as [`Time`] since its epoch.

use std::time::{Duration, Instant};
use symphony_core::{Span, Time};

/// A clock that never steps back; copies share the same epoch.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock whose epoch is now. A process makes one, at its start.
    #[must_use]
    pub fn start() -> Clock {
        Clock { epoch: Instant::now() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        self.at(Instant::now())
    }

    /// The time at an instant.
    #[must_use]
    pub fn at(&self, instant: Instant) -> Time {
        Time(nanos(instant.saturating_duration_since(self.epoch)))
    }

    /// The instant of a time, for timers; `None` when it is further away than the platform can say.
    #[must_use]
    pub fn instant(&self, time: Time) -> Option<Instant> {
        self.epoch.checked_add(Duration::from_nanos(time.0))
    }
}

/// A duration as a span; 584 years is the most.
#[must_use]
pub fn span(duration: Duration) -> Span {
    Span(nanos(duration))
}

/// A span as a duration.
#[must_use]
pub fn duration(span: Span) -> Duration {
    Duration::from_nanos(span.0)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
