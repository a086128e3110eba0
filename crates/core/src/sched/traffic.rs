//! Which requests came to a pool lately: low ones, and high ones of which objective.
//!
//! In: requests of a shard, and what other shards have seen. Out: whether low requests come, and the
//! tightest objective of the high ones. Knows no rates and no models.

use crate::time::{Span, Time};
use std::cmp::Ordering;

/// High requests of an objective count as coming for this many times the objective.
const HIGH_SEEN_SLOS: u64 = 8;

/// Low requests count as coming for this long.
const LOW_SEEN: Span = Span::from_secs(1);

/// Shard to matcher and back: which requests came to the pool lately, as far as the sender knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentTraffic {
    /// When the newest request came that may have to give way: a low one, or a demoted one.
    low: Option<Time>,
    /// The tightest objective of high requests, and when the newest of that objective came.
    tightest: (Span, Time),
}

impl Default for RecentTraffic {
    fn default() -> RecentTraffic {
        RecentTraffic { low: None, tightest: (Span::MAX, Time::ZERO) }
    }
}

impl RecentTraffic {
    /// A request came that may have to give way.
    pub(crate) fn note_low(&mut self, now: Time) {
        self.low = self.low.max(Some(now));
    }

    /// A high request came, with this objective.
    pub(crate) fn note_high(&mut self, now: Time, slo: Span) {
        let (tightest, seen) = self.tightest;
        if slo <= tightest || is_over(tightest, seen, now) {
            self.tightest = (slo, now);
        }
    }

    /// Adds what another shard has seen. Times are kept as they are: if passing them on renewed
    /// them, two shards would keep each other believing in requests that no longer come.
    pub(crate) fn merge(&mut self, other: RecentTraffic) {
        self.low = self.low.max(other.low);
        let ((own, seen), (slo, other_seen)) = (self.tightest, other.tightest);
        let is_news = match slo.cmp(&own) {
            Ordering::Less => !is_over(slo, other_seen, seen),
            Ordering::Equal => other_seen > seen,
            Ordering::Greater => is_over(own, seen, other_seen),
        };
        if is_news {
            self.tightest = other.tightest;
        }
    }

    /// Whether another shard has seen low requests where none came lately.
    pub(crate) fn is_low_news(&self, other: &RecentTraffic) -> bool {
        other.low.is_some_and(|seen| !self.has_low(seen))
    }

    /// Whether requests come that may have to give way.
    pub(crate) fn has_low(&self, now: Time) -> bool {
        self.low.is_some_and(|seen| now.since(seen) <= LOW_SEEN)
    }

    /// The tightest objective of the high requests that come.
    pub(crate) fn tightest(&self, now: Time) -> Option<Span> {
        let (slo, seen) = self.tightest;
        (slo != Span::MAX && !is_over(slo, seen, now)).then_some(slo)
    }
}

/// Whether requests of this objective no longer come, the newest of which came at `seen`.
fn is_over(slo: Span, seen: Time, now: Time) -> bool {
    now.since(seen) > slo.times(HIGH_SEEN_SLOS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_seen_is_added_while_it_is_news() {
        let at = |ms: u64| Time(Span::from_millis(ms).0);
        let ms = Span::from_millis;
        let saw = |moment: u64, slo: u64| {
            let mut traffic = RecentTraffic::default();
            traffic.note_high(at(moment), ms(slo));
            traffic
        };
        let merged = |mut own: RecentTraffic, other: RecentTraffic| {
            own.merge(other);
            own
        };
        let nothing = RecentTraffic::default();
        let tightest = |traffic: RecentTraffic, moment: u64| traffic.tightest(at(moment));
        assert_eq!(tightest(merged(nothing, nothing), 0), None);
        assert_eq!(tightest(merged(saw(100, 50), saw(90, 20)), 100), Some(ms(20)));
        assert_eq!(tightest(merged(saw(90, 20), saw(100, 50)), 100), Some(ms(20)));
        assert_eq!(tightest(merged(saw(900, 50), saw(90, 20)), 900), Some(ms(50)), "over");
        assert_eq!(tightest(merged(saw(90, 20), saw(900, 50)), 900), Some(ms(50)), "over");
        let again = merged(saw(100, 20), saw(90, 20));
        assert_eq!(again, saw(100, 20), "its own news, come back");
        let mut low = nothing;
        low.note_low(at(5));
        assert!(nothing.is_low_news(&low) && !low.is_low_news(&low));
        low.merge(nothing);
        assert!(low.has_low(at(1005)) && !low.has_low(at(1006)));
    }

    /// Two shards that keep telling each other of one tight request, while others of a looser
    /// objective come to both.
    #[test]
    fn what_is_over_does_not_come_back() {
        let at = |ms: u64| Time(Span::from_millis(ms).0);
        for (tight, apart) in (5..20).flat_map(|tight| (1..50).map(move |apart| (tight, apart))) {
            let tight = Span::from_millis(tight);
            let mut shards = [RecentTraffic::default(); 2];
            shards[0].note_high(at(0), tight);
            for round in 0..40 {
                for (shard, offset) in [(0, 0), (1, apart)] {
                    let now = at(round * 50 + offset);
                    shards[shard].note_high(now, Span::from_millis(50));
                    let other = shards[1 - shard];
                    shards[shard].merge(other);
                }
            }
            let left = shards.map(|shard| shard.tightest(at(2000)));
            assert_eq!(left, [Some(Span::from_millis(50)); 2], "{tight}, {apart} ms apart");
        }
    }
}
