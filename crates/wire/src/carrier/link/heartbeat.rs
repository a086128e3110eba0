//! How long the way to the peer and back takes, measured by heartbeats.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use symphony_core::{Span, Time};

/// So many of the newest round trips count.
const KEPT: usize = 64;
/// Not measured yet.
const NONE: u64 = u64::MAX;
/// An echo of something older is not one of ours.
const ECHO_AGE_MAX: Span = Span::from_secs(60);

/// The round trips of one link.
#[derive(Debug)]
pub(crate) struct RoundTrips {
    newest: Mutex<Newest>,
    /// The 95th percentile, in nanoseconds.
    percentile: AtomicU64,
}

#[derive(Debug)]
struct Newest {
    spans: Vec<Span>,
    next: usize,
}

impl Default for RoundTrips {
    fn default() -> RoundTrips {
        let newest = Newest { spans: Vec::with_capacity(KEPT), next: 0 };
        RoundTrips { newest: Mutex::new(newest), percentile: AtomicU64::new(NONE) }
    }
}

impl RoundTrips {
    /// The 95th percentile of the newest; `None` before the first.
    pub(crate) fn percentile(&self) -> Option<Span> {
        match self.percentile.load(Ordering::Relaxed) {
            NONE => None,
            nanos => Some(Span(nanos)),
        }
    }

    /// Half of it; nothing before the first.
    pub(crate) fn one_way(&self) -> Span {
        self.percentile().map_or(Span::ZERO, |round_trip| Span(round_trip.0 / 2))
    }

    /// The heartbeat of this time came back.
    pub(crate) fn came_back(&self, sent: Time, now: Time) {
        let took = now.since(sent);
        if sent > now || took > ECHO_AGE_MAX {
            return;
        }
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let Newest { spans, next } = &mut *newest;
        match spans.get_mut(*next) {
            Some(oldest) => *oldest = took,
            None => spans.push(took),
        }
        *next = (*next + 1) % KEPT;
        let mut sorted = spans.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * 95).div_ceil(100).saturating_sub(1);
        let percentile = sorted.get(at).map_or(NONE, |span| span.0.min(NONE - 1));
        self.percentile.store(percentile, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_round_trips_count_and_the_slowest_of_them_do_not() {
        let trips = RoundTrips::default();
        assert_eq!((trips.percentile(), trips.one_way()), (None, Span::ZERO));
        let now = Time(10_000_000);
        let came_back = |took: u64, times: usize| {
            (0..times).for_each(|_| trips.came_back(Time(now.0 - took), now));
        };
        came_back(100, 1);
        assert_eq!((trips.percentile(), trips.one_way()), (Some(Span(100)), Span(50)));
        came_back(100, 100);
        came_back(9000, 3);
        assert_eq!(trips.percentile(), Some(Span(100)), "three of sixty-four are outliers");
        came_back(9000, 1);
        assert_eq!(trips.percentile(), Some(Span(9000)));
        came_back(200, KEPT);
        assert_eq!(trips.percentile(), Some(Span(200)), "it was long ago");
    }

    #[test]
    fn an_echo_of_what_was_never_sent_counts_for_nothing() {
        let trips = RoundTrips::default();
        let now = Time(Span::from_secs(100).0);
        trips.came_back(now + Span(1), now);
        trips.came_back(Time::ZERO, now);
        assert_eq!(trips.percentile(), None);
    }
}
