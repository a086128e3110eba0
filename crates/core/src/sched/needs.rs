//! What high requests need of a pool in which low ones are waiting: how many accelerators, and
//! batches of which size. Computed for the whole pool from measured rates, with its plan.

use super::mode::gathered;
use crate::profile::Profile;
use crate::request::Delays;
use crate::time::{Span, Time};
use std::cmp::Ordering;

/// High requests count as coming for as many of their objectives.
const HIGH_SEEN_SLOS: u64 = 8;

/// Low requests count as coming for this long.
const LOW_SEEN: Span = Span::from_secs(1);

/// Both ways between a shard and the matcher: which requests came to the pool lately, as far as the
/// sender has heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentTraffic {
    /// When one last came that may have to give way: a low one, or one with an early deadline.
    low: Option<Time>,
    /// The tightest objective that high ones came with, and when one last did.
    tightest: (Span, Time),
}

/// Matcher to shard: what the high requests of the whole pool ask of it, and what comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HighLoad {
    /// Accelerators that they keep busy, by measured rates.
    pub busy: f64,
    /// What all shards have heard of together.
    pub lately: RecentTraffic,
}

/// The high requests of one model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HighDemand<'a> {
    pub(crate) profile: &'a Profile,
    /// Of inputs, per row.
    pub(crate) data: Span,
    /// What the objective leaves for waiting and execution.
    pub(crate) room: Span,
    /// Measured arrivals of rows.
    pub(crate) rows_per_ns: f64,
    /// The share of these that is not demoted for an early deadline.
    pub(crate) kept: f64,
}

/// What high requests of one model need while low ones come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HighNeed {
    /// The batch that gathers in the time that its execution leaves; at least one row.
    pub gathered: u32,
    /// The smallest batch with which the pool can serve all of them, `gathered` if none is.
    pub rows: u32,
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

    /// Takes what somebody else has heard of. Nothing gets younger by being passed on, or it would
    /// never be over.
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

    /// Whether somebody else has heard of low requests where none came lately.
    pub(crate) fn is_low_news(&self, other: &RecentTraffic) -> bool {
        other.low.is_some_and(|seen| !self.has_low(seen))
    }

    /// Whether requests come that may have to give way.
    pub(crate) fn has_low(&self, now: Time) -> bool {
        self.low.is_some_and(|seen| now.since(seen) <= LOW_SEEN)
    }

    /// The tightest objective that high requests come with.
    pub(crate) fn tightest(&self, now: Time) -> Option<Span> {
        let (slo, seen) = self.tightest;
        (slo != Span::MAX && !is_over(slo, seen, now)).then_some(slo)
    }
}

/// Whether requests of this objective, last seen at some time, no longer come.
fn is_over(slo: Span, seen: Time, now: Time) -> bool {
    now.since(seen) > slo.times(HIGH_SEEN_SLOS)
}

impl HighDemand<'_> {
    fn gathered(&self) -> u32 {
        let delays = Delays { data: self.data, ..Delays::default() };
        gathered(self.profile, &delays, self.room, self.rows_per_ns).max(1)
    }

    /// Accelerators kept busy by batches of `rows`.
    fn load(&self, rows: u32) -> f64 {
        let busy = self.profile.exec(rows) + self.data.times(u64::from(rows));
        self.rows_per_ns * busy.0 as f64 / f64::from(rows)
    }
}

/// The needs of each model, in order, in place of what `out` holds; answers the accelerators that
/// all of them keep busy with the largest batches, without what is demoted.
pub(crate) fn needs<'a>(
    demands: impl Iterator<Item = HighDemand<'a>> + Clone,
    accelerators: u32,
    out: &mut Vec<HighNeed>,
) -> f64 {
    out.clear();
    let mut load = 0.0;
    for demand in demands.clone() {
        let gathered = demand.gathered();
        load += demand.kept * demand.load(gathered);
        out.push(HighNeed { gathered, rows: gathered });
    }
    // The smallest common stretch between 1 and what gathers that the pool can carry.
    let n = f64::from(accelerators);
    let total = |stretch: f64, needs: &[HighNeed]| -> f64 {
        let each = demands.clone().zip(needs);
        each.map(|(demand, need)| demand.load(stretched(need.gathered, stretch))).sum()
    };
    let (mut low, mut high) = (0.0, 1.0);
    if total(high, out) >= n {
        return load;
    }
    if total(low, out) <= n {
        high = low;
    }
    for _ in 0..STEPS {
        let middle = (low + high) / 2.0;
        if total(middle, out) <= n { high = middle } else { low = middle }
    }
    for need in out {
        need.rows = stretched(need.gathered, high);
    }
    load
}

/// Halvings of the stretch: enough for batches of thousands.
const STEPS: u32 = 12;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and `full`")]
fn stretched(full: u32, stretch: f64) -> u32 {
    1 + (stretch * f64::from(full.saturating_sub(1))).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rates: &[f64], accelerators: u32) -> (f64, Vec<HighNeed>) {
        let ms = Span::from_millis_f64;
        let profile = Profile::linear(ms(1.0), ms(5.0), 64).unwrap();
        let demand = |rate: &f64| HighDemand {
            profile: &profile,
            data: Span::ZERO,
            room: ms(25.0),
            rows_per_ns: rate / 1e9,
            kept: 1.0,
        };
        let mut out = Vec::new();
        let load = needs(rates.iter().map(demand), accelerators, &mut out);
        (load, out)
    }

    #[test]
    fn needs_grow_with_the_load_until_nothing_more_gathers() {
        // Ten rows gather in 10 ms and run for 15: 1.5 accelerators.
        let (load, needs) = of(&[1000.0], 2);
        assert!((load - 1.5).abs() < 1e-9);
        // 5 rows in 10 ms are one batch every 5 ms on two accelerators.
        assert_eq!(needs, [HighNeed { gathered: 10, rows: 5 }]);
        assert_eq!(of(&[1000.0], 1).1, [HighNeed { gathered: 10, rows: 10 }], "more than there is");
        assert_eq!(of(&[1000.0], 100).1, [HighNeed { gathered: 10, rows: 1 }], "one row does");
        assert_eq!(of(&[0.0], 1).1, [HighNeed { gathered: 1, rows: 1 }]);
        assert_eq!(of(&[], 1), (0.0, vec![]));
    }

    #[test]
    fn what_others_heard_of_is_taken_in_while_it_is_news() {
        let at = |ms: u64| Time(Span::from_millis(ms).0);
        let ms = Span::from_millis;
        let heard = |moment: u64, slo: u64| {
            let mut lately = RecentTraffic::default();
            lately.note_high(at(moment), ms(slo));
            lately
        };
        let merged = |mut own: RecentTraffic, other: RecentTraffic| {
            own.merge(other);
            own
        };
        let tightest = |lately: RecentTraffic, moment: u64| lately.tightest(at(moment));
        assert_eq!(tightest(merged(RecentTraffic::default(), RecentTraffic::default()), 0), None);
        assert_eq!(tightest(merged(heard(100, 50), heard(90, 20)), 100), Some(ms(20)));
        assert_eq!(tightest(merged(heard(90, 20), heard(100, 50)), 100), Some(ms(20)));
        assert_eq!(tightest(merged(heard(900, 50), heard(90, 20)), 900), Some(ms(50)), "over");
        assert_eq!(tightest(merged(heard(90, 20), heard(900, 50)), 900), Some(ms(50)), "over");
        let again = merged(heard(100, 20), heard(90, 20));
        assert_eq!(again, heard(100, 20), "what it said itself, come back");
        let mut low = RecentTraffic::default();
        low.note_low(at(5));
        assert!(RecentTraffic::default().is_low_news(&low) && !low.is_low_news(&low));
        low.merge(RecentTraffic::default());
        assert!(low.has_low(at(1005)) && !low.has_low(at(1006)));
    }

    /// Two who keep telling each other of one tight request, with others of a looser objective.
    #[test]
    fn what_is_over_does_not_come_back() {
        let at = |ms: u64| Time(Span::from_millis(ms).0);
        for (tight, apart) in (5..20).flat_map(|tight| (1..50).map(move |apart| (tight, apart))) {
            let tight = Span::from_millis(tight);
            let mut parties = [RecentTraffic::default(); 2];
            parties[0].note_high(at(0), tight);
            for round in 0..40 {
                for (party, offset) in [(0, 0), (1, apart)] {
                    let now = at(round * 50 + offset);
                    parties[party].note_high(now, Span::from_millis(50));
                    let other = parties[1 - party];
                    parties[party].merge(other);
                }
            }
            let left = parties.map(|party| party.tightest(at(2000)));
            assert_eq!(left, [Some(Span::from_millis(50)); 2], "{tight}, {apart} ms apart");
        }
    }
}
