//! What batches of a model took lately, as they were, for people to look at. Plans count with what
//! the scheduler makes of the same times.

use symphony_wire::message::MeasuredTimes;

/// Times remembered of each model, of which there may be thousands.
const NEWEST: usize = 64;

/// The newest times of one model, as multiples of what its profile says.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    ring: [f32; NEWEST],
    taken: usize,
}

impl Times {
    pub(crate) fn new() -> Times {
        Times { ring: [0.0; NEWEST], taken: 0 }
    }

    /// A batch took so many times what the profile says.
    #[expect(clippy::cast_possible_truncation, reason = "for people, who need no more digits")]
    pub(crate) fn add(&mut self, ratio: f64) {
        self.ring[self.taken % NEWEST] = ratio as f32;
        self.taken += 1;
    }

    /// The newest.
    pub(crate) fn newest(&self) -> &[f32] {
        &self.ring[..self.taken.min(NEWEST)]
    }
}

/// The figures of some times; none of no times.
pub(crate) fn figures(times: &[f32]) -> Option<MeasuredTimes> {
    let mut sorted: Vec<f64> = times.iter().map(|time| f64::from(*time)).collect();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    let at_p95 = (count * 95).div_ceil(100).checked_sub(1)?;
    let mean = sorted.iter().sum::<f64>() / count as f64;
    let variance = sorted.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count as f64;
    let spread = if mean > 0.0 { variance.sqrt() / mean } else { 0.0 };
    Some(MeasuredTimes { batches: count, mean, p95: sorted[at_p95], spread })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_of_the_newest_times() {
        assert_eq!(figures(&[]), None);
        let mut times = Times::new();
        times.add(9.0);
        let one = MeasuredTimes { batches: 1, mean: 9.0, p95: 9.0, spread: 0.0 };
        assert_eq!(figures(times.newest()), Some(one));
        // Sixty of them as the profile says, and four that take three times as long.
        (0..NEWEST).for_each(|at| times.add(if at % 16 == 0 { 3.0 } else { 1.0 }));
        let found = figures(times.newest()).unwrap();
        assert_eq!((found.batches, found.mean, found.p95), (64, 1.125, 3.0));
        assert!((found.spread - 0.43).abs() < 0.01, "{}", found.spread);
    }
}
