//! How far measured execution times have moved from the profiles that were loaded: estimators,
//! pure and constant in time and room. They know neither queues nor accelerators.
//!
//! A measured time is `table * model * accelerator` and some spread. Two estimators take it
//! apart, without a way for them to chase each other:
//!
//! - [`UsualRatio`] and [`AcceleratorDrift`] compare an accelerator with the others *on the same
//!   model at the same time*. A drift that all of them share, the model's own included, cancels out,
//!   so the slowdown of an accelerator does not depend on those of the models.
//! - [`ModelDrift`] follows a model's times after dividing out the slowdown of their accelerator.
//!
//! Ratios are of the table as it was loaded, never of a plan that was already scaled, so a
//! conclusion never feeds back into the next measurement.
//!
//! A loaded table holds a high percentile, the 95th. `ModelDrift` therefore takes the same percentile
//! of the ratios: a ratio that is usually 0.9, but one time in twenty 1.0, says that the table is
//! right.

use crate::slowdown::Slowdown;
use crate::time::{Span, Time};

/// Without a sample for so long, half of what was learned is given up. A straggler gets less to do,
/// so nothing else would ever show that it has recovered.
const FORGET: Span = Span::from_secs(10);

/// Ratios remembered of each model.
const RATIOS: usize = 64;
/// The share of the ratios, in percent, that a table's entry is exceeded by.
const EXCEEDING_PERCENT: usize = 5;
/// The percentile is computed again after so many batches.
const BATCHES_PER_UPDATE: u32 = 16;
/// As many times in a row it has to be low before plans become shorter.
const LOW_UPDATES: u32 = 4;
/// The fewest ratios that a percentile is taken of.
const RATIOS_MIN: usize = 8;
/// This many batches in a row far above the plan are a step: they are followed at once.
const STEP: usize = 4;
/// Ratios are too old to count after so many milliseconds.
const AGE_MAX_MS: u32 = 60_000;

/// Follows the execution times of one model.
///
/// Upwards at once, by what exceeds the plan by more than a sixteenth, and in [`STEP`] batches
/// when these exceed it by more than an eighth; downwards only when the percentile of all that is
/// remembered has been more than an eighth lower for as many batches again: at most three times
/// [`RATIOS`] batches after a step. In between nothing moves, so that a percentile of few
/// samples, which is itself uncertain by some percent, leaves the plans alone.
#[derive(Clone, Debug)]
pub(crate) struct ModelDrift {
    slowdown: Slowdown,
    ratios: [Slowdown; RATIOS],
    /// When each was measured, in milliseconds of the epoch, wrapping around.
    times: [u32; RATIOS],
    /// Ratios remembered.
    count: usize,
    /// Where the next one goes.
    next: usize,
    since_update: u32,
    /// How many times in a row the percentile was low, and the highest of them.
    low: (u32, Slowdown),
    /// The newest ratio, or the last time that something was forgotten.
    touched: Time,
}

impl ModelDrift {
    pub(crate) fn new() -> ModelDrift {
        ModelDrift {
            slowdown: Slowdown::ONE,
            ratios: [Slowdown::ONE; RATIOS],
            times: [0; RATIOS],
            count: 0,
            next: 0,
            since_update: 0,
            low: (0, Slowdown::FASTEST),
            touched: Time::ZERO,
        }
    }

    /// What plans have to count with.
    pub(crate) fn slowdown(&self) -> Slowdown {
        self.slowdown
    }

    /// Takes in how long a batch ran, as a ratio of the loaded table's time.
    pub(crate) fn record(&mut self, now: Time, ratio: Slowdown) {
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
            // The second longest: more would be guessing.
            self.set(shared(newest[STEP - 2], newest[STEP / 2 - 1]));
            self.count = STEP;
        } else if self.since_update >= BATCHES_PER_UPDATE {
            self.update(now);
        }
    }

    /// Gives up half of what was learned for each while without a sample.
    pub(crate) fn forget(&mut self, now: Time) {
        if now.since(self.touched) >= FORGET {
            self.slowdown = forgotten(self.slowdown, &mut self.touched, now);
            self.count = 0;
            self.low = (0, Slowdown::FASTEST);
        }
    }

    /// The ratio measured `back` batches ago.
    fn newest(&self, back: usize) -> Slowdown {
        self.ratios[(self.next + RATIOS - 1 - back) % RATIOS]
    }

    fn is_step(&self) -> bool {
        let high = self.slowdown.scaled(9, 8);
        self.slowdown < Slowdown::SLOWEST
            && self.count >= STEP
            && (0..STEP).all(|back| self.newest(back) > high)
    }

    fn set(&mut self, slowdown: Slowdown) {
        self.slowdown = slowdown.clamp(Slowdown::FASTEST, Slowdown::SLOWEST);
        self.since_update = 0;
        self.low = (0, Slowdown::FASTEST);
    }

    fn update(&mut self, now: Time) {
        self.since_update = 0;
        let now = millis(now);
        let age =
            |back: usize| now.wrapping_sub(self.times[(self.next + RATIOS - 1 - back) % RATIOS]);
        let fresh = (0..self.count).take_while(|&back| age(back) <= AGE_MAX_MS).count();
        if fresh < RATIOS_MIN {
            return;
        }
        let mut ratios: [Slowdown; RATIOS] = std::array::from_fn(|back| self.newest(back));
        let ratios = &mut ratios[..fresh];
        ratios.sort_unstable();
        let high = ratios[fresh - 1 - fresh * EXCEEDING_PERCENT / 100];
        let high =
            shared(high, ratios[(fresh - 1) / 2]).clamp(Slowdown::FASTEST, Slowdown::SLOWEST);
        if high > self.slowdown.scaled(17, 16) {
            self.set(high);
        } else if high.scaled(9, 8) < self.slowdown {
            let (times, highest) = self.low;
            self.low = (times + 1, highest.max(high));
            if self.low.0 >= LOW_UPDATES {
                self.set(self.low.1);
            }
        } else {
            self.low = (0, Slowdown::FASTEST);
        }
    }
}

/// What of a high percentile is drift. A drift moves every execution; where some are interrupted
/// and the others are not, plans long enough for those would make all batches small and lose
/// more requests than come in time by it.
fn shared(high: Slowdown, median: Slowdown) -> Slowdown {
    high.min(median.scaled(3, 2).max(Slowdown::ONE))
}

/// Ratios that tell what is usual for a model just now.
const USUAL: usize = 16;

/// What is usual for one model on the accelerators of its pool just now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UsualRatio {
    /// The newest, each in the place of the one it replaced.
    ratios: [Slowdown; USUAL],
    /// The same, the least first.
    sorted: [Slowdown; USUAL],
    taken: usize,
}

impl UsualRatio {
    /// Takes in a ratio, the known lag of its accelerator taken out, and returns how it compares
    /// with the median of the newest.
    pub(crate) fn compare(&mut self, ratio: Slowdown) -> Slowdown {
        let old = std::mem::replace(&mut self.ratios[self.taken % USUAL], ratio);
        let before = self.taken.min(USUAL);
        self.taken += 1;
        let count = self.taken.min(USUAL);
        let sorted = &mut self.sorted[..count];
        // The place of the old one, or behind all of them.
        let mut at =
            if before < count { before } else { sorted.partition_point(|other| *other < old) };
        while at > 0 && sorted[at - 1] > ratio {
            sorted[at] = sorted[at - 1];
            at -= 1;
        }
        while at + 1 < count && sorted[at + 1] < ratio {
            sorted[at] = sorted[at + 1];
            at += 1;
        }
        sorted[at] = ratio;
        ratio.over(sorted[(count - 1) / 2])
    }
}

/// Batches in a row that have to agree before an accelerator is set apart: so many where each
/// took a quarter longer than usual, twice as many where it was an eighth.
const AGREEING: usize = 4;

/// How an accelerator compares with the others of its pool.
///
/// Another process on the same device must not make the plans for all others longer. A lag is
/// never less than one: a faster accelerator is planned like the others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AcceleratorDrift {
    slowdown: Slowdown,
    /// The newest comparisons with what is usual, the known lag taken out.
    compared: [Slowdown; 2 * AGREEING],
    taken: usize,
    /// The newest sample since the lag was set.
    sampled: Option<Time>,
    /// The newest sample, or the last time that something was forgotten.
    touched: Time,
}

/// An accelerator counts as a witness of what others do for so long after its last batch.
const WITNESS: Span = Span::from_secs(1);

impl AcceleratorDrift {
    /// How many times longer than elsewhere in the pool batches run here.
    pub(crate) fn slowdown(&self) -> Slowdown {
        self.slowdown
    }

    /// Takes in how a batch here compared with what is usual, the known lag taken out.
    pub(crate) fn record(&mut self, now: Time, compared: Slowdown) {
        self.compared[self.taken % self.compared.len()] = compared;
        self.taken += 1;
        self.sampled = Some(now);
        self.touched = now;
    }

    /// The lag that the newest batches show, where it differs from the known one: higher than
    /// usual, or lower.
    pub(crate) fn shown(&self) -> Option<Shown> {
        let many = self.compared.len();
        let newest = |back: usize| self.compared[(self.taken + many - 1 - back) % many];
        let agree = |count: usize, test: &dyn Fn(Slowdown) -> bool| {
            self.taken >= count && (0..count).all(|back| test(newest(back)))
        };
        let median = |count: usize| {
            let mut compared: [Slowdown; 2 * AGREEING] = std::array::from_fn(newest);
            *compared[..count].select_nth_unstable(count / 2).1
        };
        if agree(AGREEING, &|compared| compared > Slowdown::ONE.scaled(5, 4)) {
            return Some(Shown::Slower(self.slowdown.times(median(AGREEING))));
        }
        if agree(many, &is_high) {
            return Some(Shown::Slower(self.slowdown.times(median(many))));
        }
        if self.slowdown > Slowdown::ONE
            && agree(many, &|compared| compared < Slowdown::ONE.scaled(8, 9))
        {
            return Some(Shown::Faster(self.slowdown.times(median(many))));
        }
        None
    }

    /// Whether the newest batch, if it is of late, took longer than usual; `None` when there is
    /// no such batch.
    pub(crate) fn witness(&self, now: Time) -> Option<bool> {
        self.sampled.filter(|sampled| now.since(*sampled) <= WITNESS)?;
        let newest = (self.taken + self.compared.len() - 1) % self.compared.len();
        Some(is_high(self.compared[newest]))
    }

    /// From now on this is the known lag.
    pub(crate) fn set(&mut self, slowdown: Slowdown) {
        // Less than an eighth is none.
        self.slowdown =
            if is_high(slowdown) { slowdown.min(Slowdown::SLOWEST) } else { Slowdown::ONE };
        self.taken = 0;
        self.sampled = None;
    }

    /// Gives up half of what was learned for each while without a sample.
    pub(crate) fn forget(&mut self, now: Time) {
        if self.slowdown > Slowdown::ONE && now.since(self.touched) >= FORGET {
            let left = forgotten(self.slowdown, &mut self.touched, now);
            self.set(left);
        }
    }

    /// When something is to be forgotten, if no batch comes before.
    pub(crate) fn forget_due(&self) -> Option<Time> {
        (self.slowdown > Slowdown::ONE).then_some(self.touched + FORGET)
    }
}

/// What the newest batches on an accelerator say of its lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// It is at least this much.
    Slower(Slowdown),
    /// It is at most this much.
    Faster(Slowdown),
}

fn is_high(compared: Slowdown) -> bool {
    compared > Slowdown::ONE.scaled(9, 8)
}

/// What is left of a slowdown after the time since `touched`, which moves on by what was counted.
/// One that is faster than the table is given up at once: plans must not be too short.
fn forgotten(slowdown: Slowdown, touched: &mut Time, now: Time) -> Slowdown {
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
    struct Model {
        drift: ModelDrift,
        now: Time,
    }

    impl Model {
        fn new() -> Model {
            Model { drift: ModelDrift::new(), now: Time::ZERO }
        }

        /// The slowdown after each of so many batches with this ratio.
        fn run(&mut self, batches: usize, ratio: Slowdown) -> Vec<Slowdown> {
            let one = |_| {
                self.now = self.now + Span::from_millis(10);
                self.drift.record(self.now, ratio);
                self.drift.slowdown()
            };
            (0..batches).map(one).collect()
        }
    }

    proptest! {
        #[test]
        fn a_constant_ratio_gives_a_constant_pace(thousandths in 1u32..20_000) {
            let mut model = Model::new();
            let slowdowns = model.run(500, ratio(thousandths));
            let settled = slowdowns[RATIOS];
            prop_assert!(slowdowns[RATIOS..].iter().all(|slowdown| *slowdown == settled), "{slowdowns:?}");
            let aim = ratio(thousandths).clamp(Slowdown::FASTEST, Slowdown::SLOWEST);
            prop_assert!(settled <= aim.scaled(9, 8) && aim <= settled.scaled(17, 16), "{settled} for {aim}");
        }

        #[test]
        fn a_step_is_followed_up_in_four_batches_and_down_in_three_rings(thousandths in 1126u32..8000) {
            let (mut model, high) = (Model::new(), ratio(thousandths));
            model.run(100, Slowdown::ONE);
            let up = model.run(200, high);
            prop_assert_eq!(&up[..STEP - 1], &[Slowdown::ONE; STEP - 1]);
            prop_assert!(up[STEP - 1..].iter().all(|slowdown| *slowdown == high));
            let down = model.run(3 * RATIOS, Slowdown::ONE);
            prop_assert!(down.is_sorted_by(|before, after| before >= after));
            prop_assert_eq!(down.last(), Some(&Slowdown::ONE));
        }
    }

    #[test]
    fn single_long_batches_are_no_drift() {
        let mut model = Model::new();
        for _ in 0..50 {
            let slowdowns = [model.run(31, ratio(950)), model.run(1, ratio(5000))].concat();
            assert!(slowdowns.iter().all(|slowdown| *slowdown == Slowdown::ONE), "{slowdowns:?}");
        }
    }

    #[test]
    fn interruptions_of_some_executions_do_not_make_all_plans_long() {
        let mut model = Model::new();
        for _ in 0..100 {
            let slowdowns = [model.run(4, ratio(950)), model.run(2, ratio(6000))].concat();
            assert!(slowdowns.iter().all(|slowdown| *slowdown <= ratio(1500)), "{slowdowns:?}");
        }
    }

    #[test]
    fn a_typical_ratio_below_one_is_no_speed_up_while_one_in_fifteen_is_not() {
        let mut model = Model::new();
        for _ in 0..50 {
            let slowdowns = [model.run(14, ratio(800)), model.run(1, ratio(1000))].concat();
            assert!(slowdowns.iter().all(|slowdown| *slowdown == Slowdown::ONE), "{slowdowns:?}");
        }
    }

    #[test]
    fn what_is_not_seen_again_is_forgotten_by_halves() {
        let mut model = Model::new();
        model.run(10, ratio(3000));
        let mut after = |seconds| {
            model.drift.forget(model.now + Span::from_secs(seconds));
            model.drift.slowdown().to_string()
        };
        assert_eq!(
            [after(9), after(10), after(19), after(20)],
            ["3.000", "2.000", "2.000", "1.500"]
        );
        assert_eq!(after(1_000_000), "1.000");
    }

    /// Accelerators that take turns on one model: their lags after each round.
    fn lags(rounds: &[[u32; 4]]) -> Vec<[AcceleratorDrift; 4]> {
        let (mut usual, mut lags) = (UsualRatio::default(), [AcceleratorDrift::default(); 4]);
        let mut now = Time::ZERO;
        let round = |thousandths: &[u32; 4]| {
            for (lag, thousandths) in lags.iter_mut().zip(thousandths) {
                now = now + Span::from_millis(1);
                lag.record(now, usual.compare(ratio(*thousandths).over(lag.slowdown())));
                if let Some(Shown::Slower(slowdown) | Shown::Faster(slowdown)) = lag.shown() {
                    lag.set(slowdown);
                }
            }
            lags
        };
        rounds.iter().map(round).collect()
    }

    fn texts(lags: &[AcceleratorDrift; 4]) -> [String; 4] {
        lags.map(|lag| format!("{:.1}", lag.slowdown().as_f64()))
    }

    #[test]
    fn a_slow_accelerator_is_told_from_the_others_in_four_batches_and_back_in_eight() {
        let rounds = [[[1000; 4]; 10], [[1000, 2000, 1000, 1000]; 10], [[1000; 4]; 10]].concat();
        let lags = lags(&rounds);
        assert_eq!(texts(&lags[12]), ["1.0", "1.0", "1.0", "1.0"]);
        assert_eq!(texts(&lags[13]), ["1.0", "2.0", "1.0", "1.0"]);
        assert_eq!(texts(&lags[26]), ["1.0", "2.0", "1.0", "1.0"]);
        assert_eq!(texts(&lags[27]), ["1.0", "1.0", "1.0", "1.0"]);
    }

    #[test]
    fn what_all_accelerators_share_is_no_lag() {
        let rounds = [vec![[1000; 4]; 10], vec![[1500; 4]; 20], vec![[700; 4]; 20]].concat();
        assert!(
            lags(&rounds).iter().all(|lags| lags.iter().all(|lag| lag.slowdown() == Slowdown::ONE))
        );
    }

    proptest! {
        #[test]
        fn what_is_usual_is_the_median_of_the_newest(ratios in prop::collection::vec(990u32..1010, 1..60)) {
            let mut usual = UsualRatio::default();
            for end in 1..=ratios.len() {
                let mut newest = ratios[end.saturating_sub(USUAL)..end].to_vec();
                newest.sort_unstable();
                let median = ratio(newest[(newest.len() - 1) / 2]);
                let newest = ratio(ratios[end - 1]);
                prop_assert_eq!(usual.compare(newest), newest.over(median));
            }
        }
    }

    #[test]
    fn a_lag_is_a_witness_only_of_late_and_forgets() {
        let at = |s| Time(Span::from_secs(s).0);
        let mut lag = AcceleratorDrift::default();
        assert_eq!(lag.witness(at(0)), None);
        lag.record(at(1), ratio(1300));
        assert_eq!((lag.witness(at(2)), lag.witness(at(3))), (Some(true), None));
        lag.set(ratio(2000));
        assert_eq!(lag.witness(at(1)), None, "what made it lag accuses no other");
        assert_eq!(lag.forget_due(), Some(at(11)));
        lag.forget(at(31));
        assert_eq!(lag.slowdown(), Slowdown::ONE, "an eighth or less is nothing");
        assert_eq!(lag.forget_due(), None);
    }
}
