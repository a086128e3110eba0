//! How far measured execution times have moved from the loaded profiles: estimators, constant in time
//! and room.
//!
//! In: how long batches ran, as ratios of the loaded profile. Out: the slowdown of a model, and that
//! of an accelerator. Knows neither queues nor plans.
//!
//! A measured time is `profile * model slowdown * accelerator slowdown`, and some spread. Two
//! estimators take it apart in a way that keeps them from chasing each other:
//!
//! - [`UsualRatio`] and [`AcceleratorDrift`] compare an accelerator with the others *on the same model
//!   at the same time*. What all of them share, the model's own slowdown included, cancels out; so an
//!   accelerator's slowdown does not depend on what is believed of the models.
//! - [`ModelDrift`] follows a model's times with the slowdown of the accelerator taken out.
//!
//! Ratios are of the profile as it was loaded, never of a plan that was already scaled, so that no
//! conclusion feeds back into itself.
//!
//! A loaded profile holds a high percentile, the 95th. `ModelDrift` therefore takes the same
//! percentile of the ratios: a ratio that is usually 0.9 but one time in twenty 1.0 says that the
//! profile is right.

use crate::slowdown::Slowdown;
use crate::time::{Span, Time};

/// After so long without a batch, half of what was learned is forgotten. What is taken for slow gets
/// less to do, so that nothing else would ever show that it has recovered.
const FORGET: Span = Span::from_secs(10);

/// Ratios remembered of each model.
const RATIOS: usize = 64;
/// The share of the ratios, in percent, that exceed an entry of a profile.
const EXCEEDING_PERCENT: usize = 5;
/// The percentile is computed again after so many batches.
const BATCHES_PER_UPDATE: u32 = 16;
/// So many times in a row it has to be low before plans become shorter.
const LOW_UPDATES: u32 = 4;
/// The fewest ratios that a percentile is taken of.
const RATIOS_MIN: usize = 8;
/// So many batches in a row far above the plan are a step, which is followed at once.
const STEP: usize = 4;
/// Ratios older than so many milliseconds do not count.
const AGE_MAX_MS: u32 = 60_000;

/// Follows the execution times of one model.
///
/// Upwards it moves by what exceeds the plan by more than a sixteenth, and within [`STEP`] batches
/// that exceed the plan by more than an eighth. Downwards it moves only when the percentile of all
/// remembered ratios has been more than an eighth lower for as many batches again: at most three
/// times [`RATIOS`] batches after a step. In between nothing moves, so that a percentile of few
/// samples, which is itself uncertain by some percent, leaves the plans alone.
#[derive(Clone, Debug)]
pub(crate) struct ModelDrift {
    slowdown: Slowdown,
    ratios: [Slowdown; RATIOS],
    /// When each was measured, in milliseconds since the epoch, wrapping around.
    times: [u32; RATIOS],
    /// How many ratios are remembered.
    count: usize,
    /// Where the next one goes.
    next: usize,
    since_update: u32,
    /// How many times in a row the percentile was low, and the highest of these percentiles.
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
            low: (0, Slowdown::PLANNED_MIN),
            touched: Time::ZERO,
        }
    }

    /// The model's slowdown, which plans have to count with.
    #[inline]
    pub(crate) fn slowdown(&self) -> Slowdown {
        self.slowdown
    }

    /// Ratios are of another profile from now on, by which a mean batch takes `after` where it took
    /// `before`. As far as the new profile says what the slowdown said, it holds no longer. What was
    /// learned of batches shorter than the profile does not hold for a longer one, either: plans must
    /// not be too short.
    pub(crate) fn change_table(&mut self, before: Span, after: Span) {
        let known = self.slowdown;
        let least = if after > before { Slowdown::ONE } else { known.min(Slowdown::ONE) };
        let same_time = Slowdown::of(known.stretch(before), after);
        let slowdown = same_time.clamp(least, known.max(Slowdown::ONE));
        self.count = 0;
        self.set(slowdown);
    }

    /// Adds how long a batch ran, as a ratio of the loaded profile.
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

    /// Forgets half of what was learned for each [`FORGET`] without a batch.
    #[inline]
    pub(crate) fn forget(&mut self, now: Time) {
        if now.since(self.touched) >= FORGET {
            self.slowdown = forgotten(self.slowdown, &mut self.touched, now);
            self.count = 0;
            self.low = (0, Slowdown::PLANNED_MIN);
        }
    }

    /// The ratio measured `back` batches ago.
    fn newest(&self, back: usize) -> Slowdown {
        self.ratios[(self.next + RATIOS - 1 - back) % RATIOS]
    }

    fn is_step(&self) -> bool {
        let high = self.slowdown.scaled(9, 8);
        self.slowdown < Slowdown::PLANNED_MAX
            && self.count >= STEP
            && (0..STEP).all(|back| self.newest(back) > high)
    }

    fn set(&mut self, slowdown: Slowdown) {
        self.slowdown = slowdown.clamp(Slowdown::PLANNED_MIN, Slowdown::PLANNED_MAX);
        self.since_update = 0;
        self.low = (0, Slowdown::PLANNED_MIN);
    }

    /// Compares the percentile of the remembered ratios with the slowdown in use.
    fn update(&mut self, now: Time) {
        self.since_update = 0;
        let Some(high) = self.percentile(now) else { return };
        if high > self.slowdown.scaled(17, 16) {
            self.set(high);
        } else if high.scaled(9, 8) < self.slowdown {
            let (times, highest) = self.low;
            self.low = (times + 1, highest.max(high));
            if self.low.0 >= LOW_UPDATES {
                self.set(self.low.1);
            }
        } else {
            self.low = (0, Slowdown::PLANNED_MIN);
        }
    }

    /// The percentile of the ratios that are not too old, if there are enough.
    fn percentile(&self, now: Time) -> Option<Slowdown> {
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
        let high = ratios[fresh - 1 - fresh * EXCEEDING_PERCENT / 100];
        let high = shared(high, ratios[(fresh - 1) / 2]);
        Some(high.clamp(Slowdown::PLANNED_MIN, Slowdown::PLANNED_MAX))
    }
}

/// How much of a high percentile is a slowdown. A slowdown moves every execution. Where some are
/// interrupted and others are not, plans long enough for the interrupted ones would make all batches
/// small and lose more requests than they save.
fn shared(high: Slowdown, median: Slowdown) -> Slowdown {
    high.min(median.scaled(3, 2).max(Slowdown::ONE))
}

/// Ratios that tell what is usual for a model at the moment.
const USUAL: usize = 16;

/// What is usual for one model on the accelerators of its pool at the moment: the median of its newest
/// ratios.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UsualRatio {
    /// The newest, each in the place of the one it replaced.
    ratios: [Slowdown; USUAL],
    /// The same, the least first.
    sorted: [Slowdown; USUAL],
    taken: usize,
}

impl UsualRatio {
    /// Adds a ratio, the known slowdown of its accelerator taken out, and returns how it compares with
    /// the median of the newest.
    pub(crate) fn compare(&mut self, ratio: Slowdown) -> Slowdown {
        let old = std::mem::replace(&mut self.ratios[self.taken % USUAL], ratio);
        let before = self.taken.min(USUAL);
        self.taken += 1;
        let count = self.taken.min(USUAL);
        let sorted = &mut self.sorted[..count];
        // The place of the ratio that it replaces, or behind all others.
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

/// How many batches in a row have to agree before an accelerator counts as a straggler, where each
/// took a quarter longer than usual; twice as many where each took an eighth longer.
const AGREEING: usize = 4;

/// An accelerator counts as a witness of what others do for this long after its last batch.
const WITNESS: Span = Span::from_secs(1);

/// How an accelerator compares with the others of its pool.
///
/// Another process on one device must not make the plans for all others longer. The slowdown is never
/// less than one: a faster accelerator is planned like the others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AcceleratorDrift {
    slowdown: Slowdown,
    /// The newest comparisons with what is usual, the known slowdown taken out.
    compared: [Slowdown; 2 * AGREEING],
    taken: usize,
    /// The newest batch since the slowdown was set.
    sampled: Option<Time>,
    /// The newest batch, or the last time that something was forgotten.
    touched: Time,
}

/// What the newest batches on an accelerator show of its slowdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// It is at least this much.
    Slower(Slowdown),
    /// It is at most this much.
    Faster(Slowdown),
}

impl AcceleratorDrift {
    /// How many times longer than elsewhere in the pool batches run here.
    pub(crate) fn slowdown(&self) -> Slowdown {
        self.slowdown
    }

    /// Adds how a batch here compared with what is usual, the known slowdown taken out.
    pub(crate) fn record(&mut self, now: Time, compared: Slowdown) {
        self.compared[self.taken % self.compared.len()] = compared;
        self.taken += 1;
        self.sampled = Some(now);
        self.touched = now;
    }

    /// The slowdown that the newest batches show, if it differs from the known one.
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
        let is_low = |compared| compared < Slowdown::ONE.scaled(8, 9);
        if self.slowdown > Slowdown::ONE && agree(many, &is_low) {
            return Some(Shown::Faster(self.slowdown.times(median(many))));
        }
        None
    }

    /// Whether the newest batch, if it ended lately, took longer than usual; `None` when there is no
    /// such batch.
    pub(crate) fn witness(&self, now: Time) -> Option<bool> {
        self.sampled.filter(|sampled| now.since(*sampled) <= WITNESS)?;
        let newest = (self.taken + self.compared.len() - 1) % self.compared.len();
        Some(is_high(self.compared[newest]))
    }

    /// Replaces the known slowdown. Less than an eighth above one counts as none.
    pub(crate) fn set(&mut self, slowdown: Slowdown) {
        let is_straggler = is_high(slowdown);
        self.slowdown =
            if is_straggler { slowdown.min(Slowdown::PLANNED_MAX) } else { Slowdown::ONE };
        self.taken = 0;
        self.sampled = None;
    }

    /// Forgets half of what was learned for each [`FORGET`] without a batch.
    pub(crate) fn forget(&mut self, now: Time) {
        if self.slowdown > Slowdown::ONE && now.since(self.touched) >= FORGET {
            let left = forgotten(self.slowdown, &mut self.touched, now);
            self.set(left);
        }
    }

    /// When something is to be forgotten, if no batch ends before.
    pub(crate) fn forget_due(&self) -> Option<Time> {
        (self.slowdown > Slowdown::ONE).then_some(self.touched + FORGET)
    }
}

fn is_high(compared: Slowdown) -> bool {
    compared > Slowdown::ONE.scaled(9, 8)
}

/// What is left of a slowdown after the time since `touched`, which moves on by the time that was
/// counted. A slowdown below one is forgotten at once: plans must not be too short.
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
    struct SteadyModel {
        drift: ModelDrift,
        now: Time,
    }

    impl SteadyModel {
        fn new() -> SteadyModel {
            SteadyModel { drift: ModelDrift::new(), now: Time::ZERO }
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
        fn a_constant_ratio_gives_a_constant_slowdown(thousandths in 1u32..20_000) {
            let mut model = SteadyModel::new();
            let slowdowns = model.run(500, ratio(thousandths));
            let settled = slowdowns[RATIOS];
            prop_assert!(slowdowns[RATIOS..].iter().all(|slowdown| *slowdown == settled), "{slowdowns:?}");
            let aim = ratio(thousandths).clamp(Slowdown::PLANNED_MIN, Slowdown::PLANNED_MAX);
            prop_assert!(settled <= aim.scaled(9, 8) && aim <= settled.scaled(17, 16), "{settled} for {aim}");
        }

        #[test]
        fn a_step_is_followed_up_in_four_batches_and_down_in_192(thousandths in 1126u32..8000) {
            let (mut model, high) = (SteadyModel::new(), ratio(thousandths));
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
        let mut model = SteadyModel::new();
        for _ in 0..50 {
            let slowdowns = [model.run(31, ratio(950)), model.run(1, ratio(5000))].concat();
            assert!(slowdowns.iter().all(|slowdown| *slowdown == Slowdown::ONE), "{slowdowns:?}");
        }
    }

    #[test]
    fn interruptions_of_some_executions_do_not_make_all_plans_long() {
        let mut model = SteadyModel::new();
        for _ in 0..100 {
            let slowdowns = [model.run(4, ratio(950)), model.run(2, ratio(6000))].concat();
            assert!(slowdowns.iter().all(|slowdown| *slowdown <= ratio(1500)), "{slowdowns:?}");
        }
    }

    #[test]
    fn a_typical_ratio_below_one_is_no_speed_up_while_one_in_fifteen_is_not() {
        let mut model = SteadyModel::new();
        for _ in 0..50 {
            let slowdowns = [model.run(14, ratio(800)), model.run(1, ratio(1000))].concat();
            assert!(slowdowns.iter().all(|slowdown| *slowdown == Slowdown::ONE), "{slowdowns:?}");
        }
    }

    #[test]
    fn what_is_not_seen_again_is_forgotten_by_halves() {
        let mut model = SteadyModel::new();
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

    /// Accelerators that take turns on one model: how each has drifted after each round.
    fn drifts(rounds: &[[u32; 4]]) -> Vec<[AcceleratorDrift; 4]> {
        let (mut usual, mut drifts) = (UsualRatio::default(), [AcceleratorDrift::default(); 4]);
        let mut now = Time::ZERO;
        let round = |thousandths: &[u32; 4]| {
            for (drift, thousandths) in drifts.iter_mut().zip(thousandths) {
                now = now + Span::from_millis(1);
                drift.record(now, usual.compare(ratio(*thousandths).over(drift.slowdown())));
                if let Some(Shown::Slower(slowdown) | Shown::Faster(slowdown)) = drift.shown() {
                    drift.set(slowdown);
                }
            }
            drifts
        };
        rounds.iter().map(round).collect()
    }

    fn texts(drifts: &[AcceleratorDrift; 4]) -> [String; 4] {
        drifts.map(|drift| format!("{:.1}", drift.slowdown().as_f64()))
    }

    #[test]
    fn a_slow_accelerator_is_told_from_the_others_in_four_batches_and_back_in_eight() {
        let rounds = [[[1000; 4]; 10], [[1000, 2000, 1000, 1000]; 10], [[1000; 4]; 10]].concat();
        let drifts = drifts(&rounds);
        assert_eq!(texts(&drifts[12]), ["1.0", "1.0", "1.0", "1.0"]);
        assert_eq!(texts(&drifts[13]), ["1.0", "2.0", "1.0", "1.0"]);
        assert_eq!(texts(&drifts[26]), ["1.0", "2.0", "1.0", "1.0"]);
        assert_eq!(texts(&drifts[27]), ["1.0", "1.0", "1.0", "1.0"]);
    }

    #[test]
    fn what_all_accelerators_share_makes_no_straggler() {
        let rounds = [vec![[1000; 4]; 10], vec![[1500; 4]; 20], vec![[700; 4]; 20]].concat();
        assert!(
            drifts(&rounds)
                .iter()
                .all(|drifts| drifts.iter().all(|drift| drift.slowdown() == Slowdown::ONE))
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
    fn an_accelerator_is_a_witness_for_a_second_and_forgets() {
        let at = |s| Time(Span::from_secs(s).0);
        let mut drift = AcceleratorDrift::default();
        assert_eq!(drift.witness(at(0)), None);
        drift.record(at(1), ratio(1300));
        assert_eq!((drift.witness(at(2)), drift.witness(at(3))), (Some(true), None));
        drift.set(ratio(2000));
        assert_eq!(drift.witness(at(1)), None, "what made it a straggler says nothing of others");
        assert_eq!(drift.forget_due(), Some(at(11)));
        drift.forget(at(31));
        assert_eq!(drift.slowdown(), Slowdown::ONE, "an eighth or less is nothing");
        assert_eq!(drift.forget_due(), None);
    }
}
