//! How long batches of a model take, as empirical distributions that are learned from completions.

use std::collections::VecDeque;
use symphony_core::{Profile, Span};

/// The times of batches that are kept of each class of sizes.
const KEPT: usize = 256;
/// A class with fewer of them borrows the distribution of another.
const ENOUGH: usize = 8;
/// After how many batches of a class its distribution is made anew.
const RENEW: usize = 16;
/// A distribution has at most so many values, each as likely as any other.
const VALUES: usize = 64;

/// The distributions of a model, by batch size.
#[derive(Clone, Debug)]
pub(super) struct BatchTimes {
    /// One for sizes of 1, one for 2 and 3, one for 4 to 7, and so on.
    classes: Vec<SizeClass>,
    /// By batch size, from one row on.
    sizes: Vec<SizeTimes>,
    delays: ExpectedDelays,
}

/// Measured times of batches of about one size, as multiples of the profile's.
#[derive(Clone, Debug, Default)]
struct SizeClass {
    measured: VecDeque<f64>,
    /// How many were measured since the distribution was made.
    news: usize,
}

/// The mean delays, in nanoseconds, that a request is expected to meet when it does not start now.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpectedDelays {
    /// Of a request that is left out of a batch.
    pub(super) left_out: f64,
    /// Of a batch that lets another model's go first.
    pub(super) turn: f64,
}

/// The time of a batch of one size.
#[derive(Clone, Debug, Default)]
pub(super) struct SizeTimes {
    /// Growing, in nanoseconds, each as likely as any other.
    values: Vec<f64>,
    /// For each value, the sum of `e^(value / left_out)` over it and the smaller ones.
    left_out: Vec<f64>,
    /// For each value, the sum of `e^((smaller - value) / turn)` over it and the smaller ones.
    turn: Vec<f64>,
    mean: f64,
}

impl BatchTimes {
    /// Until something is measured batches take the profile's time.
    pub(super) fn new(profile: &Profile, delays: ExpectedDelays) -> BatchTimes {
        let rows_max = profile.rows_max();
        let classes = vec![SizeClass::default(); class(rows_max) + 1];
        let sizes = vec![SizeTimes::default(); rows_max as usize];
        let mut times = BatchTimes { classes, sizes, delays };
        times.renew(profile, delays);
        times
    }

    /// The time of batches of `rows` rows, at least one.
    pub(super) fn of(&self, rows: u32) -> &SizeTimes {
        &self.sizes[(rows as usize).clamp(1, self.sizes.len()) - 1]
    }

    /// The delays that the distributions were made with.
    pub(super) fn delays(&self) -> ExpectedDelays {
        self.delays
    }

    /// Notes how long a batch took. Returns whether distributions should be made anew.
    pub(super) fn add(&mut self, profile: &Profile, rows: u32, exec: Span) -> bool {
        let Some(class) = self.classes.get_mut(class(rows)) else { return false };
        if class.measured.len() == KEPT {
            class.measured.pop_front();
        }
        class.measured.push_back(exec.0 as f64 / profile.exec(rows).0 as f64);
        class.news += 1;
        class.news >= RENEW.min(class.measured.len().div_ceil(4))
    }

    /// Makes all distributions anew.
    pub(super) fn renew(&mut self, profile: &Profile, delays: ExpectedDelays) {
        self.delays = delays;
        let known: Vec<Option<Vec<f64>>> = self.classes.iter().map(SizeClass::sorted).collect();
        self.classes.iter_mut().for_each(|class| class.news = 0);
        for (rows, size) in (1..).zip(&mut self.sizes) {
            let exec = profile.exec(rows).0 as f64;
            let factors = borrowed(&known, rows);
            *size = SizeTimes::new(factors.iter().map(|factor| factor * exec).collect(), delays);
        }
    }
}

impl SizeClass {
    /// What was measured, in order, if that is enough.
    fn sorted(&self) -> Option<Vec<f64>> {
        let mut sorted: Vec<f64> = self.measured.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        (sorted.len() >= ENOUGH).then_some(sorted)
    }
}

/// The class of a batch size.
fn class(rows: u32) -> usize {
    rows.max(1).ilog2() as usize
}

/// The distribution of a batch size, from the nearest class that has one. A batch of another class
/// takes as long as the longest of more or fewer requests.
fn borrowed(known: &[Option<Vec<f64>>], rows: u32) -> Vec<f64> {
    let own = class(rows);
    let distance = |(other, _): &(usize, &Vec<f64>)| other.abs_diff(own);
    let there = known.iter().enumerate().filter_map(|(at, sorted)| Some((at, sorted.as_ref()?)));
    let Some((nearest, sorted)) = there.min_by_key(distance) else { return vec![1.0] };
    let power = if nearest == own { 1.0 } else { exponent(nearest, rows) };
    let values = sorted.len().min(VALUES);
    let value = |number: usize| {
        // The middle of each of equally likely parts.
        let share = (number as f64 + 0.5) / values as f64;
        sorted[place(libm::pow(share, power), sorted.len())]
    };
    (0..values).map(value).collect()
}

/// If `F` is the distribution of the longest of some requests, `F^power` is that of the longest of
/// so many times as many; the share of `F` at a share of the other is its root.
fn exponent(class: usize, rows: u32) -> f64 {
    let measured = 1.5 * libm::exp2(class as f64);
    let measured = if class == 0 { 1.0 } else { measured };
    measured / f64::from(rows)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
fn place(share: f64, length: usize) -> usize {
    ((share * length as f64) as usize).min(length - 1)
}

impl SizeTimes {
    fn new(values: Vec<f64>, delays: ExpectedDelays) -> SizeTimes {
        let mut sum = 0.0;
        let powers = values.iter().map(|value| {
            sum += libm::exp((value / delays.left_out).min(EXPONENT_MAX));
            sum
        });
        let left_out = powers.collect();
        let (mut sum, mut before) = (0.0, values.first().copied().unwrap_or(0.0));
        let powers = values.iter().map(|value| {
            sum = 1.0 + sum * libm::exp((before - value) / delays.turn);
            before = *value;
            sum
        });
        let turn = powers.collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        SizeTimes { values, left_out, turn, mean }
    }

    /// The mean, in nanoseconds.
    pub(super) fn mean(&self) -> f64 {
        self.mean
    }

    /// The shortest time that is known, in nanoseconds.
    pub(super) fn shortest(&self) -> f64 {
        self.values.first().copied().unwrap_or(0.0)
    }

    /// The longest.
    pub(super) fn longest(&self) -> f64 {
        self.values.last().copied().unwrap_or(0.0)
    }

    /// The time that batches keep with at least this chance, in nanoseconds.
    pub(super) fn time_for(&self, chance: f64) -> f64 {
        let last = self.values.len().saturating_sub(1);
        let kept = place(chance, self.values.len().max(1)).min(last);
        if chance > 0.0 { self.values.get(kept).copied().unwrap_or(0.0) } else { 0.0 }
    }

    /// What a request loses that is left out of a batch of this size. `urgency` is
    /// [`urgency`] of what it has left.
    pub(super) fn loss_left_out(&self, left: f64, urgency: f64) -> f64 {
        self.in_time(left).map_or(0.0, |last| self.left_out[last] * urgency) / self.count()
    }

    /// What a request of a batch of this size loses when another model's goes first.
    pub(super) fn loss_by_turn(&self, left: f64, delays: ExpectedDelays) -> f64 {
        let loss =
            |last: usize| self.turn[last] * libm::exp((self.values[last] - left) / delays.turn);
        self.in_time(left).map_or(0.0, loss) / self.count()
    }

    /// The last value that is in time.
    fn in_time(&self, left: f64) -> Option<usize> {
        self.values.partition_point(|value| *value <= left).checked_sub(1)
    }

    fn count(&self) -> f64 {
        self.values.len() as f64
    }
}

/// The part of `loss_left_out` that is the same for all batch sizes, for what a request has left.
pub(super) fn urgency(left: f64, delays: ExpectedDelays) -> f64 {
    libm::exp(-(left / delays.left_out).min(EXPONENT_MAX))
}

/// The largest exponent whose power can be summed. It is far beyond any in use: requests have less
/// than a thousand batches left.
const EXPONENT_MAX: f64 = 300.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile::linear(Span(10), Span(100), 16).unwrap()
    }

    const DELAYS: ExpectedDelays = ExpectedDelays { left_out: 4000.0, turn: 50.0 };

    #[test]
    fn until_something_is_measured_the_profile_is_what_batches_take() {
        let times = BatchTimes::new(&profile(), DELAYS);
        for rows in [1, 7, 16] {
            let exec = profile().exec(rows).0 as f64;
            let size = times.of(rows);
            assert_eq!([size.shortest(), size.mean(), size.longest()], [exec; 3]);
        }
    }

    #[test]
    fn a_size_has_what_was_measured_and_others_the_longest_of_more_or_fewer() {
        let (profile, mut times) = (profile(), BatchTimes::new(&profile(), DELAYS));
        // Half of the requests alone take twice as long as the others.
        for number in 0..100 {
            let exec = Span(110 * (1 + number % 2));
            if times.add(&profile, 1, exec) {
                times.renew(&profile, DELAYS);
            }
        }
        times.renew(&profile, DELAYS);
        let mean = |rows| times.of(rows).mean() / profile.exec(rows).0 as f64;
        assert!((mean(1) - 1.5).abs() < 0.02, "{}", mean(1));
        // The longest of two is short in a quarter of the cases, that of eight hardly ever.
        assert!((mean(2) - 1.75).abs() < 0.03, "{}", mean(2));
        assert!((mean(8) - 2.0).abs() < 0.03, "{}", mean(8));
        for _ in 0..100 {
            times.add(&profile, 8, profile.exec(8));
        }
        times.renew(&profile, DELAYS);
        let means = [8, 15, 1].map(|rows| times.of(rows).mean() / profile.exec(rows).0 as f64);
        assert_eq!([means[0], means[1]], [1.0, 1.0]);
        assert!((means[2] - 1.5).abs() < 0.02, "what was measured of others stays: {means:?}");
    }

    #[test]
    fn losses_are_those_of_an_exponential_delay() {
        let size = SizeTimes::new(vec![100.0, 150.0, 300.0], DELAYS);
        let loss = |left: f64, delay: f64| {
            let of = |value: &f64| libm::exp((value - left) / delay);
            size.values.iter().filter(|value| **value <= left).map(of).sum::<f64>() / 3.0
        };
        for left in [50.0, 100.0, 149.0, 150.0, 1000.0] {
            let left_out = size.loss_left_out(left, urgency(left, DELAYS));
            assert!((left_out - loss(left, DELAYS.left_out)).abs() < 1e-12, "{left}: {left_out}");
            assert_eq!([0.0, 0.5, 0.95, 1.0].map(|c| size.time_for(c)), [0.0, 150.0, 300.0, 300.0]);
            let turn = size.loss_by_turn(left, DELAYS);
            assert!((turn - loss(left, DELAYS.turn)).abs() < 1e-12, "{left}: {turn}");
        }
    }
}
