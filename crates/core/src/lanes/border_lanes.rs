//! Lanes between borders that follow the sizes of the requests that come.

use super::borders::{BorderPlanner, SizeRate};
use super::sizes::SizeBuckets;
use crate::power::power;
use crate::profile::Profile;
use crate::sized_profile::SizedProfile;
use crate::time::{Span, Time};

/// Other borders have to keep the accelerators busy for this share of the time less, or those in
/// force stay.
const GAIN_MIN: f64 = 0.03;

/// What was counted a second ago counts this much.
const LEFT_PER_SECOND: f64 = 0.8;

/// Fewer rows tell nothing of how sizes are distributed.
const ROWS_MIN: f64 = 100.0;

/// The lanes of one model whose requests differ only in size.
///
/// A lane's profile is never for smaller requests than the lane has: when a border moves up, its
/// profile is replaced before requests are routed by the new border; when it moves down, one objective
/// later, since until then larger requests may still be queued.
#[derive(Clone, Debug)]
pub struct BorderLanes {
    profile: SizedProfile,
    slo: Span,
    accelerators: u32,
    buckets: SizeBuckets,
    /// By lane in use: its largest size.
    borders: Vec<u64>,
    /// By lane: the size that its profile is for.
    covered: Vec<u64>,
    /// From when on lanes hold no request beyond their borders.
    settled: Time,
    /// Rows that came lately, by bucket.
    recent: Vec<f64>,
    /// The seconds in which they came, those further back counting as much less as their rows do.
    seconds: f64,
    planned: Time,
}

/// The profile of a lane is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneChange {
    /// The number of the lane.
    pub lane: usize,
    /// The size that its profile is for from now on.
    pub size: u64,
}

impl BorderLanes {
    /// So many lanes, of a model of whose requests nothing is known yet.
    #[must_use]
    pub fn new(profile: SizedProfile, slo: Span, accelerators: u32, lanes: usize) -> BorderLanes {
        let lanes = lanes.max(1);
        let buckets = SizeBuckets::of(&profile);
        let planner = BorderPlanner { profile: &profile, slo, accelerators, lanes_max: lanes };
        let borders = planner.geometric();
        let mut covered = borders.clone();
        covered.resize(lanes, profile.size_max());
        let recent = vec![0.0; buckets.len()];
        BorderLanes {
            slo,
            accelerators,
            borders,
            covered,
            recent,
            buckets,
            profile,
            settled: Time::ZERO,
            seconds: 0.0,
            planned: Time::ZERO,
        }
    }

    /// The same with these borders, growing; the largest size is always one. They move once requests
    /// tell of better ones.
    #[must_use]
    pub fn with_borders(mut self, borders: &[u64]) -> BorderLanes {
        let most = self.profile.size_max();
        let lanes = self.covered.len();
        self.borders =
            borders.iter().copied().filter(|border| *border < most).take(lanes - 1).collect();
        self.borders.push(most);
        self.covered.clone_from(&self.borders);
        self.covered.resize(lanes, most);
        self
    }

    /// How many lanes, in use or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.covered.len()
    }

    /// There is always one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The borders by which requests are to be routed, growing.
    #[must_use]
    pub fn borders(&self) -> &[u64] {
        &self.borders
    }

    /// The profile that a lane has.
    #[must_use]
    pub fn profile_of(&self, lane: usize) -> Profile {
        self.profile.at(self.covered.get(lane).copied().unwrap_or(u64::MAX))
    }

    /// What batches cost.
    #[must_use]
    pub fn costs(&self) -> &SizedProfile {
        &self.profile
    }

    /// The objective.
    #[must_use]
    pub fn slo(&self) -> Span {
        self.slo
    }

    /// The buckets in which requests are to be counted.
    #[must_use]
    pub fn buckets(&self) -> &SizeBuckets {
        &self.buckets
    }

    /// Costs were measured again. Each lane's profile is to be replaced.
    pub fn set_profile(&mut self, profile: SizedProfile) -> impl Iterator<Item = LaneChange> + '_ {
        self.profile = profile;
        self.covered.iter().enumerate().map(|(lane, size)| LaneChange { lane, size: *size })
    }

    /// So many accelerators serve from now on.
    pub fn set_accelerators(&mut self, accelerators: u32) {
        self.accelerators = accelerators.max(1);
    }

    /// Plans the borders anew, about once a second: so many rows came since it was called last, by
    /// bucket. Returns which profiles are to be replaced before requests are routed by the borders
    /// that are in force then.
    pub fn replan(&mut self, now: Time, rows: &[u64]) -> Vec<LaneChange> {
        self.count(now, rows);
        let mut changes = self.lower(now);
        if self.recent.iter().sum::<f64>() < ROWS_MIN {
            return changes;
        }
        let rates = self.rates();
        let planner = BorderPlanner {
            profile: &self.profile,
            slo: self.slo,
            accelerators: self.accelerators,
            lanes_max: self.covered.len(),
        };
        let borders = planner.plan(&rates);
        let (new, old) = (planner.load(&rates, &borders), planner.load(&rates, &self.borders));
        if borders != self.borders && new < old * (1.0 - GAIN_MIN) {
            self.borders = borders;
            self.settled = now + self.slo;
            changes.extend(self.raise());
        }
        changes
    }

    fn count(&mut self, now: Time, rows: &[u64]) {
        let passed = now.since(std::mem::replace(&mut self.planned, now)).as_secs_f64();
        // Whole seconds suffice: it is called about once in each.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let left = power(LEFT_PER_SECOND, (passed.round() as u32).max(1));
        self.seconds = self.seconds * left + passed;
        for (recent, new) in self.recent.iter_mut().zip(rows) {
            *recent = *recent * left + *new as f64;
        }
    }

    fn rates(&self) -> Vec<SizeRate> {
        let per_second = 1.0 / self.seconds.max(1e-3);
        let of =
            |(size, rows): (&u64, &f64)| SizeRate { size: *size, rows_per_s: rows * per_second };
        self.buckets.upper().iter().zip(&self.recent).map(of).collect()
    }

    /// Profiles follow borders that moved up at once.
    fn raise(&mut self) -> Vec<LaneChange> {
        self.cover(|covered, border| covered.max(border))
    }

    /// Profiles follow borders that moved down once no larger request can be queued.
    fn lower(&mut self, now: Time) -> Vec<LaneChange> {
        if now < self.settled { Vec::new() } else { self.cover(|_, border| border) }
    }

    fn cover(&mut self, size: impl Fn(u64, u64) -> u64) -> Vec<LaneChange> {
        let mut changes = Vec::new();
        for (lane, (covered, border)) in self.covered.iter_mut().zip(&self.borders).enumerate() {
            let size = size(*covered, *border);
            if size != *covered {
                *covered = size;
                changes.push(LaneChange { lane, size });
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lanes of a model with `l(b, s) = 2 s b + 5000` µs.
    fn lanes() -> BorderLanes {
        let line = |size: u64| {
            let alpha = Span::from_micros(2 * size);
            (size, Profile::linear(alpha, Span::from_millis(5), 64).unwrap())
        };
        let profile = SizedProfile::new(vec![line(1), line(512)]).unwrap();
        BorderLanes::new(profile, Span::from_millis(25), 8, 8)
    }

    fn second(s: u64) -> Time {
        Time(Span::from_secs(s).0)
    }

    /// So many rows of each of these sizes in a second.
    fn rows(lanes: &BorderLanes, came: &[(u64, u64)]) -> Vec<u64> {
        let mut rows = vec![0; lanes.buckets().len()];
        for (size, count) in came {
            rows[lanes.buckets().of_size(*size)] += count;
        }
        rows
    }

    #[test]
    fn no_profile_is_for_smaller_requests_than_its_lane_has() {
        let mut lanes = lanes();
        let loads = [[(20, 20_000), (40, 0), (400, 200)], [(20, 0), (40, 500), (400, 3000)]];
        let mut changes = 0;
        for (at, load) in (1..).zip(loads.into_iter().cycle().take(40)) {
            let before = lanes.borders().to_vec();
            for change in lanes.replan(second(at), &rows(&lanes, &load)) {
                changes += 1;
                let border = lanes.borders().get(change.lane);
                assert!(border.is_none_or(|border| *border <= change.size), "{change:?}");
            }
            for (lane, border) in lanes.borders().iter().enumerate() {
                assert!(lanes.profile_of(lane).exec(64) >= lanes.profile.at(*border).exec(64));
                // What is still queued came by the borders before.
                if let Some(old) = before.get(lane) {
                    assert!(lanes.covered[lane] >= *old || lanes.borders() == before);
                }
            }
        }
        assert!(changes > 0, "nothing moved");
    }

    #[test]
    fn borders_stay_where_little_is_gained_or_little_is_known() {
        let mut lanes = lanes();
        let begun = lanes.borders().to_vec();
        assert_eq!(lanes.replan(second(1), &rows(&lanes, &[(20, 50)])), []);
        assert_eq!(lanes.borders(), begun, "fifty rows tell nothing");
        for at in 2..12 {
            lanes.replan(second(at), &rows(&lanes, &[(30, 9000), (110, 1000), (500, 100)]));
        }
        let settled = lanes.borders().to_vec();
        assert_ne!(settled, begun);
        for at in 12..40 {
            let more = at % 3 * 20;
            let load = [(30, 9000 + more), (110, 1000 - more), (500, 100)];
            lanes.replan(second(at), &rows(&lanes, &load));
            assert_eq!(lanes.borders(), settled, "noise moves nothing");
        }
    }

    #[test]
    fn given_borders_hold_until_requests_tell_of_better_ones() {
        let lanes = lanes().with_borders(&[100, 600]);
        assert_eq!(lanes.borders(), [100, 512]);
        assert_eq!(lanes.profile_of(0), lanes.profile.at(100));
        assert_eq!(lanes.profile_of(7), lanes.profile.at(512));
    }
}
