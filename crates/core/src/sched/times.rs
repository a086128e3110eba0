//! How long the batches of one model take now, compared with its loaded profile: the mean, and by how
//! much single batches differ from it. An estimator, constant in time and room.
//!
//! In: how long batches ran, as ratios of the loaded profile, the slowdown of the accelerator taken
//! out. Out: a slowdown, and a spread. Knows neither queues nor plans.
//!
//! Both are taken of the newest [`RATIOS`] ratios in ways that a tail does not move: the mean of the
//! middle half, and the distance of the middle two thirds. One batch in a hundred at three times its
//! time, or one in ten that is interrupted, changes neither.
//!
//! A *step* is told from spread by [`STEP`] batches in a row on the same side of the mean, further
//! from it than spread explains. A slower drift is told by a mean that moved by more than its own
//! uncertainty. Anything less is averaged over a longer time, so that plans do not follow noise.

use crate::slowdown::Slowdown;
use crate::time::{Span, Time};

/// After so long without a batch, half of a slowdown is forgotten. What is taken for slow gets less
/// to do, so that nothing else would ever show that it has recovered.
pub(super) const FORGET: Span = Span::from_secs(10);

/// Ratios remembered of each model.
const RATIOS: usize = 64;
/// Mean and spread are computed again after so many batches.
const BATCHES_PER_UPDATE: u32 = 16;
/// The fewest ratios that they are taken of.
const RATIOS_MIN: usize = 8;
/// So many batches in a row far from the mean, all on one side, are a step.
const STEP: usize = 4;
/// How far that is: this share of the mean, or so many deviations where that is more.
const STEP_SHARE: f64 = 0.125;
const STEP_DEVIATIONS: f64 = 2.5;
/// A mean of the newest ratios that is so many times its uncertainty away is a drift.
const DRIFT_DEVIATIONS: f64 = 4.0;
/// What an update within that counts in the average.
const AVERAGE: f64 = 1.0 / 32.0;
/// What an update counts in the spread.
const SPREAD_AVERAGE: f64 = 0.25;
/// Plans go on with the mean that they have as long as it is no further away than this share.
const PLANNED_WITHIN: f64 = 1.0 / 64.0;
/// Ratios older than so many milliseconds do not count.
const AGE_MAX_MS: u32 = 60_000;
/// The largest part of a mean that may be due to few very long batches: it is at most so many times the
/// median. Plans that long would make all batches small, and lose more requests than they save.
const OVER_MEDIAN: f64 = 1.5;

/// Follows the execution times of one model.
#[derive(Clone, Debug)]
pub(crate) struct ModelTimes {
    /// The mean that plans count with.
    slowdown: Slowdown,
    /// The mean as it is known best.
    mean: f64,
    /// The relative standard deviation, once it is known.
    spread: Option<f64>,
    /// What it is taken for until then.
    spread_loaded: f64,
    ratios: [Slowdown; RATIOS],
    /// When each was measured, in milliseconds since the epoch, wrapping around.
    times: [u32; RATIOS],
    /// How many ratios are remembered.
    count: usize,
    /// Where the next one goes.
    next: usize,
    since_update: u32,
    /// The newest ratio, or the last time that something was forgotten.
    touched: Time,
}

/// What the remembered ratios show.
struct Shown {
    mean: f64,
    spread: f64,
    /// How far the mean may be off by chance; further hardly ever.
    uncertainty: f64,
}

impl ModelTimes {
    /// Nothing was measured yet; the profile was loaded with this spread.
    pub(crate) fn new(spread: f64) -> ModelTimes {
        ModelTimes {
            slowdown: Slowdown::ONE,
            mean: 1.0,
            spread: None,
            spread_loaded: spread,
            ratios: [Slowdown::ONE; RATIOS],
            times: [0; RATIOS],
            count: 0,
            next: 0,
            since_update: 0,
            touched: Time::ZERO,
        }
    }

    /// How many times longer than by the loaded profile a batch takes on average.
    #[inline]
    pub(crate) fn slowdown(&self) -> Slowdown {
        self.slowdown
    }

    /// The relative standard deviation of the batches: as measured, or as it was loaded.
    #[inline]
    pub(crate) fn spread(&self) -> f64 {
        self.spread.unwrap_or(self.spread_loaded)
    }

    /// Ratios are of another profile from now on, by which a mean batch takes `after` where it took
    /// `before`, with this spread. As far as the new profile says what the slowdown said, it holds no
    /// longer. What was learned of batches shorter than the profile does not hold for a longer one,
    /// either: plans must not be too short.
    pub(crate) fn change_table(&mut self, before: Span, after: Span, spread: f64) {
        let known = self.slowdown;
        let least = if after > before { Slowdown::ONE } else { known.min(Slowdown::ONE) };
        let same_time = Slowdown::of(known.stretch(before), after);
        let slowdown = same_time.clamp(least, known.max(Slowdown::ONE));
        self.spread_loaded = spread;
        self.count = 0;
        self.set(slowdown);
    }

    /// Adds how long a batch ran, as a ratio of the loaded profile. Returns whether mean and spread
    /// were computed again.
    pub(crate) fn record(&mut self, now: Time, ratio: Slowdown) -> bool {
        self.forget(now);
        self.touched = now;
        self.ratios[self.next] = ratio;
        self.times[self.next] = millis(now);
        self.next = (self.next + 1) % RATIOS;
        self.count = (self.count + 1).min(RATIOS);
        self.since_update += 1;
        if self.is_step() {
            let mut newest: [Slowdown; STEP] = std::array::from_fn(|back| self.newest(back));
            newest.sort_unstable();
            // The second longest: plans must not be too short, and the longest may be a tail.
            let most = newest[STEP / 2 - 1].scaled(3, 2).max(Slowdown::ONE);
            self.count = STEP;
            self.set(newest[STEP - 2].min(most));
        } else if self.since_update >= BATCHES_PER_UPDATE {
            self.update(now);
        }
        self.since_update == 0
    }

    /// Forgets half of the slowdown for each [`FORGET`] without a batch.
    #[inline]
    pub(crate) fn forget(&mut self, now: Time) {
        if now.since(self.touched) >= FORGET {
            let left = forgotten(self.slowdown, &mut self.touched, now);
            self.count = 0;
            self.set(left);
        }
    }

    /// The ratio measured `back` batches ago.
    fn newest(&self, back: usize) -> Slowdown {
        self.ratios[(self.next + RATIOS - 1 - back) % RATIOS]
    }

    fn is_step(&self) -> bool {
        if self.count < STEP {
            return false;
        }
        let away = 1.0 + f64::max(STEP_SHARE, STEP_DEVIATIONS * self.spread());
        let (high, low) = (self.slowdown.scaled_by(away), self.slowdown.scaled_by(away.recip()));
        let is_slower = || (0..STEP).all(|back| self.newest(back) > high);
        let is_faster = || (0..STEP).all(|back| self.newest(back) < low);
        let (may_rise, may_fall) =
            (self.slowdown < Slowdown::PLANNED_MAX, self.slowdown > Slowdown::PLANNED_MIN);
        may_rise && is_slower() || may_fall && is_faster()
    }

    fn set(&mut self, slowdown: Slowdown) {
        self.slowdown = slowdown.clamp(Slowdown::PLANNED_MIN, Slowdown::PLANNED_MAX);
        self.mean = self.slowdown.as_f64();
        self.since_update = 0;
    }

    /// Takes over what the remembered ratios show.
    fn update(&mut self, now: Time) {
        self.since_update = 0;
        let Some(Shown { mean, spread, uncertainty }) = self.shown(now) else { return };
        // A spread of few batches is uncertain by half; what was known before is not thrown away for it.
        let known = Some(self.spread()).filter(|known| *known > 0.0);
        self.spread = Some(known.map_or(spread, |known| known + SPREAD_AVERAGE * (spread - known)));
        if (mean - self.mean).abs() > uncertainty + PLANNED_WITHIN * self.mean {
            self.set(Slowdown::ONE.scaled_by(mean));
            return;
        }
        self.mean += AVERAGE * (mean - self.mean);
        let planned = self.slowdown.as_f64();
        if (self.mean - planned).abs() > PLANNED_WITHIN * planned {
            self.set(Slowdown::ONE.scaled_by(self.mean));
        }
    }

    /// Mean and spread of the ratios that are not too old, if there are enough.
    fn shown(&self, now: Time) -> Option<Shown> {
        let now = millis(now);
        let age =
            |back: usize| now.wrapping_sub(self.times[(self.next + RATIOS - 1 - back) % RATIOS]);
        let fresh = (0..self.count).take_while(|&back| age(back) <= AGE_MAX_MS).count();
        if fresh < RATIOS_MIN {
            return None;
        }
        let mut ratios: [Slowdown; RATIOS] = std::array::from_fn(|back| self.newest(back));
        let ratios = &mut ratios[..fresh];
        ratios.sort_unstable();
        let middle = &ratios[fresh / 4..fresh - fresh / 4];
        let sum: f64 = middle.iter().map(|ratio| ratio.as_f64()).sum();
        let median = ratios[(fresh - 1) / 2].as_f64();
        let mean = (sum / middle.len() as f64).min(f64::max(OVER_MEDIAN * median, 1.0));
        // Two standard deviations lie between the 16th and the 84th percentile.
        let (low, high) = (ratios[fresh * 4 / 25], ratios[fresh - 1 - fresh * 4 / 25]);
        let spread = (high.as_f64() - low.as_f64()) / (2.0 * mean);
        let uncertainty = DRIFT_DEVIATIONS * spread * mean / f64::sqrt(fresh as f64);
        Some(Shown { mean, spread, uncertainty })
    }
}

/// What is left of a slowdown after the time since `touched`, which moves on by the time that was
/// counted. A slowdown below one is forgotten at once: plans must not be too short.
pub(super) fn forgotten(slowdown: Slowdown, touched: &mut Time, now: Time) -> Slowdown {
    let mut left = slowdown.max(Slowdown::ONE);
    while now.since(*touched) >= FORGET {
        if left == Slowdown::ONE {
            *touched = now;
            break;
        }
        left = left.halfway_to_one();
        *touched = *touched + FORGET;
    }
    left
}

#[expect(clippy::cast_possible_truncation, reason = "times are compared modulo 2^32 ms")]
fn millis(now: Time) -> u32 {
    (now.0 / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A ratio in thousandths.
    fn ratio(thousandths: u32) -> Slowdown {
        Slowdown::ONE.scaled(thousandths, 1000)
    }

    /// A model whose batches end 10 ms apart.
    struct SteadyModel {
        times: ModelTimes,
        now: Time,
    }

    impl SteadyModel {
        fn new() -> SteadyModel {
            SteadyModel { times: ModelTimes::new(0.0), now: Time::ZERO }
        }

        /// The slowdown after each of these batches.
        fn run(&mut self, ratios: impl IntoIterator<Item = Slowdown>) -> Vec<Slowdown> {
            let one = |ratio| {
                self.now = self.now + Span::from_millis(10);
                self.times.record(self.now, ratio);
                self.times.slowdown()
            };
            ratios.into_iter().map(one).collect()
        }

        fn repeat(&mut self, batches: usize, thousandths: u32) -> Vec<Slowdown> {
            self.run(std::iter::repeat_n(ratio(thousandths), batches))
        }
    }

    fn is_close(slowdown: Slowdown, to: f64, share: f64) -> bool {
        (slowdown.as_f64() / to - 1.0).abs() <= share
    }

    proptest! {
        #[test]
        fn a_constant_ratio_gives_a_constant_slowdown_without_spread(thousandths in 1u32..20_000) {
            let mut model = SteadyModel::new();
            let slowdowns = model.repeat(500, thousandths);
            let settled = slowdowns[400];
            prop_assert!(slowdowns[400..].iter().all(|slowdown| *slowdown == settled), "{slowdowns:?}");
            let aim = ratio(thousandths).clamp(Slowdown::PLANNED_MIN, Slowdown::PLANNED_MAX);
            prop_assert!(is_close(settled, aim.as_f64(), 0.016), "{settled} for {aim}");
            prop_assert!(model.times.spread() < 1e-3);
        }

        #[test]
        fn a_step_is_followed_in_four_batches_up_and_down(thousandths in 1130u32..8000) {
            let (mut model, high) = (SteadyModel::new(), ratio(thousandths));
            model.repeat(100, 1000);
            let up = model.repeat(200, thousandths);
            prop_assert_eq!(&up[..STEP - 1], &[Slowdown::ONE; STEP - 1]);
            prop_assert!(up[STEP - 1..].iter().all(|slowdown| *slowdown == high));
            let down = model.repeat(200, 1000);
            prop_assert_eq!(&down[..STEP - 1], &[high; STEP - 1]);
            prop_assert!(down[STEP - 1..].iter().all(|slowdown| *slowdown == Slowdown::ONE));
        }
    }

    #[test]
    fn mean_and_spread_are_told_apart() {
        for (seed, spread) in (1..).zip([0.01, 0.05, 0.1, 0.2, 0.4]) {
            let (mut model, mut random) = (SteadyModel::new(), Uniform(seed));
            // Even between plus and minus 1.73 deviations.
            let mut one = || 1.0 + 2.0 * 1.732 * spread * (random.next() - 0.5);
            let ratios: Vec<_> = (0..2000).map(|_| Slowdown::ONE.scaled_by(one())).collect();
            let slowdowns = model.run(ratios);
            let known = model.times.spread() / spread;
            assert!((0.75..1.5).contains(&known), "{known} times {spread}");
            let share = 0.02 + 0.5 * spread;
            let far = slowdowns.iter().filter(|slowdown| !is_close(**slowdown, 1.0, share)).count();
            assert!(far < 100, "{far} of 2000 at {spread}");
        }
    }

    /// Numbers from 0 to 1.
    struct Uniform(u64);

    impl Uniform {
        fn next(&mut self) -> f64 {
            self.0 =
                self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            (self.0 >> 40) as f64 / (1u64 << 24) as f64
        }
    }

    #[test]
    fn a_tail_moves_neither_mean_nor_spread() {
        let mut model = SteadyModel::new();
        for _ in 0..30 {
            let slowdowns = [model.repeat(99, 1000), model.repeat(1, 3000)].concat();
            assert!(slowdowns.iter().all(|slowdown| *slowdown == Slowdown::ONE), "{slowdowns:?}");
            assert!(model.times.spread() < 1e-9);
        }
    }

    #[test]
    fn a_small_drift_is_followed_and_not_every_wave() {
        let mut model = SteadyModel::new();
        let wave = (0..4000).map(|k| ratio([900, 1000, 1100, 1000][k % 4]));
        let slowdowns = model.run(wave);
        assert!(slowdowns.iter().all(|slowdown| *slowdown == Slowdown::ONE), "{slowdowns:?}");
        let higher = (0..200).map(|k| ratio([970, 1080, 1190, 1080][k % 4]));
        let slowdowns = model.run(higher);
        assert!(is_close(slowdowns[150], 1.08, 0.02), "{slowdowns:?}");
    }

    #[test]
    fn interruptions_of_some_executions_do_not_make_all_plans_long() {
        let mut model = SteadyModel::new();
        for _ in 0..100 {
            let slowdowns = [model.repeat(4, 950), model.repeat(2, 6000)].concat();
            assert!(slowdowns.iter().all(|slowdown| *slowdown <= ratio(1500)), "{slowdowns:?}");
        }
    }

    #[test]
    fn what_is_not_seen_again_is_forgotten_by_halves() {
        let mut model = SteadyModel::new();
        model.repeat(10, 3000);
        let mut after = |seconds| {
            model.times.forget(model.now + Span::from_secs(seconds));
            model.times.slowdown().to_string()
        };
        assert_eq!(
            [after(9), after(10), after(19), after(20)],
            ["3.000", "2.000", "2.000", "1.500"]
        );
        assert_eq!(after(1_000_000), "1.000");
    }

    #[test]
    fn the_spread_of_the_profile_counts_until_one_is_measured() {
        let mut times = ModelTimes::new(0.3);
        assert_eq!(times.spread(), 0.3);
        for batch in 1..=20 * u64::from(BATCHES_PER_UPDATE) {
            times.record(Time(batch), Slowdown::ONE);
        }
        assert!(times.spread() < 0.01, "{}", times.spread());
    }
}
