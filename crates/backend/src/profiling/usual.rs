//! What times are as a rule: their mean and their spread, whatever a few stalls of the machine do.
//!
//! Both are winsorised (Tukey 1962): the shortest tenth counts as the shortest of the others, and the
//! longest tenth as the longest of the others. So one batch in a hundred at three times its time
//! changes neither. Unlike a median, such a mean also holds where times come in two kinds.

use symphony_core::{Profile, Span};

/// One part in so many counts as the nearest of the others, at each end.
const PART: usize = 10;
/// The standard deviation of a normal distribution over that of the same without its tenths.
const FULL_OVER_WINSORISED: f64 = 1.213_9;
/// Standard deviations from the median to the 95th percentile of a normal distribution.
const P95_SIGMAS: f64 = 1.644_853_627;

/// Mean, and standard deviation as a share of the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usual {
    pub(super) mean: f64,
    pub(super) spread: f64,
}

impl Usual {
    /// Of values in order; none of no values.
    pub(super) fn of(sorted: &[f64]) -> Option<Usual> {
        let (mean, deviation) = winsorised(sorted)?;
        let spread = if mean > 0.0 { deviation / mean } else { 0.0 };
        Some(Usual { mean, spread })
    }

    /// Of times in order, in nanoseconds.
    pub(super) fn of_times(sorted: &[Span]) -> Option<Usual> {
        let values: Vec<f64> = sorted.iter().map(|time| time.0 as f64).collect();
        Usual::of(&values)
    }
}

/// The mean and the standard deviation.
fn winsorised(sorted: &[f64]) -> Option<(f64, f64)> {
    let count = sorted.len();
    let last = count.checked_sub(1)?;
    // Of three and more, one at each end at least.
    let cut = (count / PART).max(1).min(last / 2);
    let (least, most) = (sorted[cut], sorted[last - cut]);
    let values = || sorted.iter().map(|value| value.clamp(least, most));
    let mean = values().sum::<f64>() / count as f64;
    let squares = values().map(|value| (value - mean).powi(2)).sum::<f64>();
    let variance = squares / last.max(1) as f64;
    Some((mean, variance.sqrt() * FULL_OVER_WINSORISED))
}

/// The spread of log-normal times with this median and 95th percentile.
#[must_use]
pub fn spread_of(p50: Span, p95: Span) -> f64 {
    let ratio = p95.0.max(1) as f64 / p50.0.max(1) as f64;
    let sigma = ratio.max(1.0).ln() / P95_SIGMAS;
    (sigma * sigma).exp_m1().sqrt()
}

/// How many times the median the 95th percentile of log-normal times with this spread is.
pub(super) fn p95_over_p50(spread: f64) -> f64 {
    let sigma = (spread * spread).ln_1p().sqrt();
    (sigma * P95_SIGMAS).exp()
}

/// The median of log-normal times with the mean and the spread that a profile has.
pub(super) fn p50_of(profile: &Profile, rows: u32) -> Span {
    let spread = profile.spread(rows);
    let mean = profile.exec(rows).as_millis_f64();
    Span::from_millis_f64(mean / (spread * spread + 1.0).sqrt())
}

/// The 95th percentile of log-normal times with the mean and the spread that a profile has.
#[must_use]
pub fn p95_of(profile: &Profile, rows: u32) -> Span {
    let p50 = p50_of(profile, rows).as_millis_f64();
    Span::from_millis_f64(p50 * p95_over_p50(profile.spread(rows)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{Rng, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    /// Values around one, nearly normal, with this standard deviation.
    fn values(count: usize, deviation: f64, seed: u64) -> Vec<f64> {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut unit = || f64::from(random.next_u32()) / f64::from(u32::MAX);
        let mut value = || 1.0 + deviation * ((0..12).map(|_| unit()).sum::<f64>() - 6.0);
        std::iter::repeat_with(&mut value).take(count).collect()
    }

    fn usual(mut values: Vec<f64>) -> Usual {
        values.sort_by(f64::total_cmp);
        Usual::of(&values).unwrap()
    }

    #[track_caller]
    fn expect(found: Usual, mean: f64, spread: f64, within: f64) {
        let is_near = |value: f64, aim: f64| (value - aim).abs() <= within;
        assert!(is_near(found.mean, mean) && is_near(found.spread, spread), "{found:?}");
    }

    #[test]
    fn of_many_normal_values_it_is_mean_and_deviation() {
        for deviation in [0.0, 0.02, 0.2] {
            expect(usual(values(20_000, deviation, 1)), 1.0, deviation, 0.02 * deviation + 1e-9);
        }
        assert_eq!(Usual::of(&[]), None);
        assert_eq!(Usual::of(&[7.0]), Some(Usual { mean: 7.0, spread: 0.0 }));
        assert_eq!(Usual::of(&[0.0; 30]), Some(Usual { mean: 0.0, spread: 0.0 }));
    }

    #[test]
    fn one_in_a_hundred_at_three_times_its_time_moves_neither() {
        for (at, seed) in (0..100).enumerate() {
            let calm = values(32, 0.05, seed);
            let mut tail = calm.clone();
            // As many as come in one window of a hundred.
            tail[at % 32] *= 3.0;
            tail[at * 7 % 32] *= 100.0;
            let (calm, tail) = (usual(calm), usual(tail));
            expect(tail, calm.mean, calm.spread, 0.03);
        }
        let mut many = values(10_000, 0.1, 1);
        many.iter_mut().step_by(100).for_each(|value| *value *= 3.0);
        expect(usual(many), 1.0, 0.1, 0.012);
    }

    #[test]
    fn of_few_values_one_stall_does_not_count() {
        expect(usual(vec![10.0, 10.0, 10.0, 11.0, 99.0]), 10.4, 0.0639, 1e-3);
        expect(usual(vec![10.0, 11.0, 300.0]), 11.0, 0.0, 1e-9);
    }

    #[test]
    fn of_two_kinds_it_is_between_them() {
        let kinds = [vec![0.4; 16], vec![1.0; 16]].concat();
        expect(usual(kinds), 0.7, 0.53, 0.01);
    }

    #[test]
    fn a_spread_and_a_95th_percentile_tell_each_other() {
        let (p50, p95) = (Span::from_millis(10), Span::from_millis(20));
        let spread = spread_of(p50, p95);
        assert!((spread - 0.44).abs() < 0.01, "{spread}");
        assert!((p95_over_p50(spread) - 2.0).abs() < 1e-9);
        assert_eq!([spread_of(p50, p50), spread_of(p95, p50)], [0.0, 0.0]);
        assert_eq!(spread_of(Span::ZERO, Span::ZERO), 0.0);
        let mean = Span::from_micros(10_929);
        let profile = Profile::from_table(vec![mean]).unwrap();
        assert_eq!([p50_of(&profile, 1), p95_of(&profile, 1)], [mean, mean]);
        let profile = profile.with_spread(&[(1, spread)]);
        for (found, aim) in [(p50_of(&profile, 1), p50), (p95_of(&profile, 1), p95)] {
            assert!(found.0.abs_diff(aim.0) < Span::from_micros(20).0, "{found} for {aim}");
        }
    }
}
