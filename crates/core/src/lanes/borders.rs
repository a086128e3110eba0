//! Where the lanes of a model end: the borders with which its load keeps the accelerators busy for the
//! least time.
//!
//! A dynamic programme over the sizes that come. A lane takes the requests between two borders. At its
//! rate, so many of them gather within the objective; its batch costs what the longest of these does.
//! Few lanes make large batches of requests that are padded far, many lanes small batches that are
//! hardly padded: the programme weighs one against the other, by the measured times.

use super::sizes::root;
use crate::power::power;
use crate::sched::largest;
use crate::sized_profile::SizedProfile;
use crate::time::Span;

/// A lane has to save at least this share of the accelerators' time, or it is not worth having: the
/// batches of more lanes get into each other's way.
const LANE_SAVING: f64 = 0.004;

/// Without knowing what comes, the cost of a row grows by this much from lane to lane at least.
const STEP_MIN: f64 = 1.5;

/// Rows of one size, and smaller ones down to the size before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SizeRate {
    /// The size.
    pub size: u64,
    /// Arrivals of rows.
    pub rows_per_s: f64,
}

/// The lane of a size, where each lane ends at its border. The last takes what is larger.
#[must_use]
#[inline]
pub fn lane_of(borders: &[u64], size: u64) -> usize {
    borders.partition_point(|border| *border < size).min(borders.len().saturating_sub(1))
}

/// Plans the borders of one model.
#[derive(Clone, Copy, Debug)]
pub struct BorderPlanner<'a> {
    /// What batches cost.
    pub profile: &'a SizedProfile,
    /// The objective.
    pub slo: Span,
    /// How many accelerators serve.
    pub accelerators: u32,
    /// Most lanes; at least one.
    pub lanes_max: usize,
}

/// The sizes that come, with what their batches cost.
struct Candidates {
    sizes: Vec<u64>,
    /// Rows per nanosecond up to each size.
    rate_up_to: Vec<f64>,
    /// By size: how long batches of 1, 2, 3, … rows run, in ns.
    exec: Vec<Vec<f64>>,
}

/// What the best lanes up to some size cost, and where the last of them begins.
#[derive(Clone, Copy)]
struct Best {
    load: f64,
    from: usize,
}

impl BorderPlanner<'_> {
    /// The borders with the least load for these rates by growing size. The last is the largest size
    /// that was measured, whatever comes.
    #[must_use]
    pub fn plan(&self, rates: &[SizeRate]) -> Vec<u64> {
        let candidates = self.candidates(rates.iter().copied());
        let count = candidates.sizes.len();
        let lanes_max = self.lanes_max.clamp(1, count);
        let mut loads = vec![vec![0.0; count]; count];
        for (from, loads) in loads.iter_mut().enumerate() {
            for (to, load) in loads.iter_mut().enumerate().skip(from) {
                *load = self.lane_load(&candidates, from, to);
            }
        }
        // `best[lanes - 1][to]`: so many lanes take everything up to `to`.
        let mut best =
            vec![(0..count).map(|to| Best { load: loads[0][to], from: 0 }).collect::<Vec<_>>()];
        for lanes in 1..lanes_max {
            let before = &best[lanes - 1];
            let row = (0..count).map(|to| cheapest(before, &loads, to)).collect();
            best.push(row);
        }
        let total = |lanes: usize| best[lanes - 1][count - 1].load;
        let lanes = fewest_worth_having(lanes_max, total);
        let mut borders = Vec::with_capacity(lanes);
        let mut to = count - 1;
        for lanes in (1..=lanes).rev() {
            borders.push(candidates.sizes[to]);
            to = best[lanes - 1][to].from.saturating_sub(1);
        }
        borders.reverse();
        borders
    }

    /// How many accelerators these rates keep busy with these borders.
    #[must_use]
    pub fn load(&self, rates: &[SizeRate], borders: &[u64]) -> f64 {
        let candidates = self.candidates(rates.iter().copied());
        let (mut from, mut load) = (0, 0.0);
        for border in borders {
            let end = candidates.sizes.partition_point(|size| size <= border);
            if end > from {
                load += self.lane_load(&candidates, from, end - 1);
                from = end;
            }
        }
        if from < candidates.sizes.len() {
            load += self.lane_load(&candidates, from, candidates.sizes.len() - 1);
        }
        load
    }

    /// Borders for a model of which nothing is known but its costs: each lane's rows cost so many
    /// times as much as those of the lane before.
    #[must_use]
    pub fn geometric(&self) -> Vec<u64> {
        let sizes = super::sizes::SizeBuckets::of(self.profile);
        let cost = |size: u64| self.row_cost(size);
        let (Some(first), Some(last)) = (sizes.upper().first(), sizes.upper().last()) else {
            return Vec::new();
        };
        let (least, most) = (cost(*first), cost(*last));
        let lanes = u32::try_from(self.lanes_max).unwrap_or(1).max(1);
        let step = root(most / least, lanes).max(STEP_MIN);
        let (mut borders, mut limit) = (Vec::new(), least * step);
        for pair in sizes.upper().windows(2) {
            if cost(pair[1]) > limit && borders.len() + 1 < self.lanes_max {
                borders.push(pair[0]);
                limit = cost(pair[0]).max(limit) * step;
            }
        }
        borders.push(*last);
        borders
    }

    /// What a row costs in the largest batch that the objective allows, in ns.
    fn row_cost(&self, size: u64) -> f64 {
        let profile = self.profile.at(size);
        let rows = profile.rows_within(self.staggered()).max(1);
        profile.exec(rows).0 as f64 / f64::from(rows)
    }

    /// What the objective leaves for one batch where batches start one after the other.
    fn staggered(&self) -> Span {
        let n = u64::from(self.accelerators.max(1));
        Span(self.slo.0 / (n + 1)).times(n)
    }

    fn candidates(&self, rates: impl Iterator<Item = SizeRate>) -> Candidates {
        let most = self.profile.size_max();
        let mut sizes: Vec<u64> = Vec::new();
        let mut rate_up_to: Vec<f64> = Vec::new();
        let mut sum = 0.0;
        for SizeRate { size, rows_per_s } in rates {
            if rows_per_s <= 0.0 {
                continue;
            }
            sum += rows_per_s / 1e9;
            let size = size.min(most);
            match (sizes.last(), rate_up_to.last_mut()) {
                (Some(last), Some(up_to)) if *last >= size => *up_to = sum,
                _ => {
                    sizes.push(size);
                    rate_up_to.push(sum);
                }
            }
        }
        if sizes.last().is_none_or(|last| *last < most) {
            sizes.push(most);
            rate_up_to.push(sum);
        }
        let exec = |size: &u64| {
            let profile = self.profile.at(*size);
            (1..=profile.rows_max()).map(|rows| profile.exec(rows).0 as f64).collect()
        };
        Candidates { exec: sizes.iter().map(exec).collect(), sizes, rate_up_to }
    }

    /// How many accelerators a lane of these candidates keeps busy.
    fn lane_load(&self, candidates: &Candidates, from: usize, to: usize) -> f64 {
        let before = from.checked_sub(1).map_or(0.0, |at| candidates.rate_up_to[at]);
        let rate = candidates.rate_up_to[to] - before;
        if rate <= 0.0 {
            return 0.0;
        }
        let rows = self.batch(&candidates.exec[to], rate);
        // The longest of a batch is no longer than this one with the probability that all are.
        let up_to = |at: usize| power((candidates.rate_up_to[at] - before) / rate, rows);
        let (mut mean, mut shorter) = (0.0, 0.0);
        for at in from..=to {
            let all = up_to(at);
            mean += candidates.exec[at][rows as usize - 1] * (all - shorter);
            shorter = all;
        }
        rate * mean / f64::from(rows)
    }

    /// The batch of a lane: what gathers at its rate and runs within the objective, its batches
    /// staggered on the accelerators that they keep busy.
    fn batch(&self, exec: &[f64], rate: f64) -> u32 {
        let slo = self.slo.0 as f64;
        let rows_max = u32::try_from(exec.len()).unwrap_or(u32::MAX);
        let of = |rows: u32| exec[rows as usize - 1];
        let gathers = |rows: u32| of(rows) + f64::from(rows - 1) / rate <= slo;
        let gathered = largest(1, rows_max, gathers);
        let share = rate * of(gathered) / f64::from(gathered);
        let stagger = 1.0 + 1.0 / share.clamp(2.0, f64::from(self.accelerators.max(2)));
        largest(1, gathered, |rows| of(rows) * stagger <= slo)
    }
}

/// The cheapest last lane up to `to`, with one lane fewer for what is smaller.
fn cheapest(before: &[Best], loads: &[Vec<f64>], to: usize) -> Best {
    let none = Best { load: f64::INFINITY, from: 0 };
    let splits = (1..=to).map(|from| Best { load: before[from - 1].load + loads[from][to], from });
    splits.fold(none, |best, other| if other.load < best.load { other } else { best })
}

/// The fewest lanes of which each saves enough.
fn fewest_worth_having(lanes_max: usize, total: impl Fn(usize) -> f64) -> usize {
    let price = LANE_SAVING * total(1);
    let with_price = |lanes: usize| total(lanes) + price * lanes as f64;
    (1..=lanes_max).min_by(|a, b| with_price(*a).total_cmp(&with_price(*b))).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;
    use proptest::prelude::*;

    /// `l(b, s) = element * s * b + base`, in ns, for sizes up to 512.
    fn costs(element: u64, base: u64) -> SizedProfile {
        let line =
            |size: u64| (size, Profile::linear(Span(element * size), Span(base), 64).unwrap());
        SizedProfile::new(vec![line(1), line(512)]).unwrap()
    }

    fn planner(profile: &SizedProfile, lanes_max: usize) -> BorderPlanner<'_> {
        let slo = Span(profile.at(512).exec(1).0 * 4);
        BorderPlanner { profile, slo, accelerators: 8, lanes_max }
    }

    /// The same rate at each of these sizes, which grow.
    fn even(sizes: &[u64], rows_per_s: f64) -> Vec<SizeRate> {
        let rows_per_s = rows_per_s / sizes.len() as f64;
        sizes.iter().map(|size| SizeRate { size: *size, rows_per_s }).collect()
    }

    #[test]
    fn the_last_border_is_the_largest_size_whatever_comes() {
        let profile = costs(2_000, 5_000_000);
        for rates in [vec![], even(&[3], 1000.0), even(&[9999], 1.0), even(&[512], 1.0)] {
            assert_eq!(planner(&profile, 8).plan(&rates).last(), Some(&512), "{rates:?}");
        }
        assert_eq!(planner(&profile, 8).plan(&[]), [512]);
        assert_eq!(planner(&profile, 1).plan(&even(&[3, 400], 1e4)), [512]);
    }

    #[test]
    fn where_padding_costs_less_than_a_batch_of_its_own_there_is_no_border() {
        let sizes = [16, 32, 64, 128, 256, 512];
        let lanes = |element, base, rate: f64| {
            planner(&costs(element, base), 8).plan(&even(&sizes, rate)).len()
        };
        assert_eq!(lanes(1, 5_000_000, 10_000.0), 1, "every size costs the same");
        assert_eq!(lanes(20_000, 10, 5_000.0), 6, "nothing is gained by company");
        let [few, many] = [300.0, 20_000.0].map(|rate| lanes(2_000, 5_000_000, rate));
        assert!(few < many, "{few} lanes at a low rate, {many} at a high one");
    }

    #[test]
    fn without_knowledge_costs_grow_from_lane_to_lane() {
        let profile = costs(2_000, 1_000_000);
        let borders = planner(&profile, 8).geometric();
        assert!(borders.is_sorted_by(|a, b| a < b) && borders.len() <= 8, "{borders:?}");
        assert!(borders.len() >= 4 && borders.last() == Some(&512), "{borders:?}");
        let alike = costs(0, 1_000_000);
        assert_eq!(planner(&alike, 8).geometric(), [512]);
    }

    #[test]
    fn a_size_belongs_to_the_first_lane_that_takes_it() {
        let lane = |size| lane_of(&[10, 20, 40], size);
        assert_eq!([lane(0), lane(10), lane(11), lane(40), lane(41)], [0, 0, 1, 2, 2]);
    }

    proptest! {
        /// No other borders at the sizes that come are better, but for what each lane has to save.
        #[test]
        fn no_borders_are_better(
            rates in prop::collection::vec(1.0f64..4000.0, 6),
            element in 1u64..20_000,
            base in 1u64..10_000_000,
        ) {
            let profile = costs(element, base);
            let sizes = [8, 20, 50, 120, 300, 512];
            let rates: Vec<SizeRate> = sizes.iter().zip(rates)
                .map(|(size, rows_per_s)| SizeRate { size: *size, rows_per_s }).collect();
            let planner = planner(&profile, 4);
            let planned = planner.plan(&rates);
            let price = LANE_SAVING * planner.load(&rates, &[512]);
            let cost = |borders: &[u64]| planner.load(&rates, borders) + price * borders.len() as f64;
            for chosen in 0u32..32 {
                let mut borders: Vec<u64> = sizes.iter().enumerate()
                    .filter(|(at, _)| chosen >> at & 1 == 1).map(|(_, size)| *size).collect();
                borders.push(512);
                if borders.len() <= 4 {
                    prop_assert!(cost(&planned) <= cost(&borders) * 1.000_001, "{planned:?} {borders:?}");
                }
            }
        }
    }
}
