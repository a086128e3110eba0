//! The knobs of the [fixed rule](crate::baseline::Fixed) with the highest goodput in a case.
//!
//! A yardstick for rules that find their own knobs: the search knows the load and the noise in
//! advance and tries many knobs in simulated runs, which no server can. It begins with a coarse grid
//! up to the largest batch, and then moves one knob or several from the best, as long as that
//! helps, by ever smaller steps.

use crate::baseline::FixedKnobs;
use crate::goodput::BAD_SHARE_MAX;
use crate::{PolicyKind, Report};
use symphony_core::sched::ModelTerms;

/// What to search with.
#[derive(Clone, Copy, Debug)]
pub struct KnobSearch<'a> {
    /// The seeds of the requests, of which most have to be held.
    pub seeds: &'a [u64],
    /// The highest rate to try, in requests per second.
    pub rate_max: f64,
    /// The largest target, and the most rows to wait for.
    pub rows_max: u32,
    /// The largest margin.
    pub margin_max: f64,
    /// Most knobs that are tried.
    pub tries: u32,
}

/// The best knobs that were tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoundKnobs {
    /// The knobs.
    pub knobs: FixedKnobs,
    /// The rate that most seeds hold with them, in requests per second; zero if none was held.
    pub rate: f64,
}

/// Other knobs are taken when they hold so much more.
const GAIN: f64 = 1.003;
/// The lowest rate that is tried, as a share of the highest.
const FLOOR: f64 = 1e-3;
/// A rate is found to this share of it.
const PRECISION: f64 = 0.002;
/// The margins to begin with, and the smallest.
const MARGIN_STARTS: [f64; 4] = [1.0, 1.07, 1.15, 1.3];
const MARGIN_MIN: f64 = 0.8;
/// The targets to begin with, as shares of the largest batch.
const TARGET_STARTS: [f64; 6] = [0.15, 0.3, 0.45, 0.6, 0.75, 1.0];
/// The rows to begin with, as shares of the target.
const ROWS_STARTS: [f64; 3] = [0.1, 0.6, 1.0];
/// By how much the margin, and by which share target and rows are moved, one after the other.
const STEPS: [(f64, f64); 4] = [(0.1, 0.3), (0.05, 0.15), (0.02, 0.08), (0.01, 0.04)];

impl KnobSearch<'_> {
    /// The most rows that it makes sense to gather: what the models can run in time.
    #[must_use]
    pub fn rows_max<'a>(models: impl IntoIterator<Item = &'a ModelTerms>) -> u32 {
        let rows = |terms: &ModelTerms| terms.profile.rows_within(terms.objective.span());
        models.into_iter().map(rows).max().unwrap_or(1).max(1)
    }

    /// Searches. `simulate` makes one run of a policy at a rate with a seed. `tried` is called after
    /// each try.
    ///
    /// # Errors
    /// The first error that `simulate` returned.
    pub fn run<E>(
        &self,
        simulate: impl Fn(PolicyKind, f64, u64) -> Result<Report, E>,
        tried: impl Fn(),
    ) -> Result<FoundKnobs, E> {
        let knobs = FixedKnobs { margin: 1.0, target: 1, rows: 1 };
        let found = FoundKnobs { knobs, rate: 0.0 };
        let mut climb = Climb { search: self, simulate, tried, left: self.tries, found };
        for knobs in self.starts() {
            climb.attempt(knobs)?;
        }
        for step in STEPS {
            while climb.step(step)? {}
        }
        Ok(climb.found)
    }

    fn starts(&self) -> Vec<FixedKnobs> {
        let mut starts = Vec::new();
        for share in TARGET_STARTS {
            let target = self.rows(f64::from(self.rows_max) * share);
            for margin in MARGIN_STARTS.map(|margin| margin.min(self.margin_max)) {
                let rows = |share| self.rows(f64::from(target) * share);
                starts.extend(ROWS_STARTS.map(|share| FixedKnobs {
                    margin,
                    target,
                    rows: rows(share),
                }));
            }
        }
        starts
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    fn rows(&self, rows: f64) -> u32 {
        (rows.round() as u32).clamp(1, self.rows_max.max(1))
    }

    /// Knobs that are moved, those first of which only one is.
    fn neighbours(&self, knobs: FixedKnobs, (by, share): (f64, f64)) -> Vec<FixedKnobs> {
        let moved = |rows: u32, sign: f64| {
            self.rows(f64::from(rows) + sign * (f64::from(rows) * share).max(1.0))
        };
        let signs = [0.0, 1.0, -1.0];
        let moves = signs.iter().flat_map(|m| signs.iter().map(move |t| (m, t)));
        let moves = moves.flat_map(|(m, t)| signs.iter().map(move |r| (*m, *t, *r)));
        let mut moves: Vec<(f64, f64, f64)> = moves.collect();
        moves.sort_by_key(|(m, t, r)| [m, t, r].into_iter().filter(|sign| **sign != 0.0).count());
        let mut all: Vec<FixedKnobs> = Vec::new();
        for (margin, target, rows) in moves {
            // In hundredths, so that steps there and back meet.
            let margin = ((knobs.margin + margin * by) * 100.0).round() / 100.0;
            let other = FixedKnobs {
                margin: margin.min(self.margin_max).max(MARGIN_MIN),
                target: moved(knobs.target, target),
                rows: moved(knobs.rows, rows),
            };
            if other != knobs && !all.contains(&other) {
                all.push(other);
            }
        }
        all
    }
}

/// A search that goes where it gets better.
struct Climb<'a, S, T> {
    search: &'a KnobSearch<'a>,
    simulate: S,
    tried: T,
    /// How many more knobs may be tried.
    left: u32,
    found: FoundKnobs,
}

impl<E, S: Fn(PolicyKind, f64, u64) -> Result<Report, E>, T: Fn()> Climb<'_, S, T> {
    /// Takes the first neighbour that is better. Returns whether there was one.
    fn step(&mut self, step: (f64, f64)) -> Result<bool, E> {
        for other in self.search.neighbours(self.found.knobs, step) {
            if self.attempt(other)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes these knobs if they hold more than the ones found so far.
    fn attempt(&mut self, knobs: FixedKnobs) -> Result<bool, E> {
        let least = (self.found.rate * GAIN).max(self.search.rate_max * FLOOR);
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        (self.tried)();
        if least > self.search.rate_max || !self.holds(knobs, least)? {
            return Ok(false);
        }
        self.found = FoundKnobs { knobs, rate: self.highest(knobs, least)? };
        Ok(true)
    }

    /// The highest rate that most seeds hold, from one on that they do.
    fn highest(&self, knobs: FixedKnobs, held: f64) -> Result<f64, E> {
        let (mut low, mut high, mut step) = (held, self.search.rate_max, GAIN - 1.0);
        while low * (1.0 + step) < high {
            let next = low * (1.0 + step);
            if self.holds(knobs, next)? {
                (low, step) = (next, step * 2.0);
            } else {
                high = next;
            }
        }
        while high - low > PRECISION * high {
            let middle = f64::midpoint(low, high);
            if self.holds(knobs, middle)? { low = middle } else { high = middle }
        }
        Ok(low)
    }

    /// Whether most seeds hold this rate.
    fn holds(&self, knobs: FixedKnobs, rate: f64) -> Result<bool, E> {
        let seeds = self.search.seeds;
        let mut needed = seeds.len().div_ceil(2);
        for (at, seed) in seeds.iter().enumerate() {
            let report = (self.simulate)(PolicyKind::Fixed(knobs), rate, *seed)?;
            needed -= usize::from(report.worst_bad_share() <= BAD_SHARE_MAX);
            if needed == 0 || needed > seeds.len() - at - 1 {
                break;
            }
        }
        Ok(needed == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_differ_and_stay_in_their_bounds() {
        let search =
            KnobSearch { seeds: &[1], rate_max: 100.0, rows_max: 10, margin_max: 2.0, tries: 1 };
        let knobs = FixedKnobs { margin: 1.0, target: 10, rows: 1 };
        let shown = |knobs: &FixedKnobs| PolicyKind::Fixed(*knobs).to_string();
        let all: Vec<String> = search.neighbours(knobs, (0.05, 0.2)).iter().map(shown).collect();
        assert_eq!(all.len(), 3 * 2 * 2 - 1, "{all:?}");
        let single = "fixed:1:10:2 fixed:1:8:1 fixed:1.05:10:1 fixed:0.95:10:1";
        assert_eq!(all[..4].join(" "), single);
        let starts = search.starts();
        assert!(starts.iter().all(|start| (1..=10).contains(&start.target)));
        assert!(starts.iter().all(|start| (1..=start.target).contains(&start.rows)));
    }
}
