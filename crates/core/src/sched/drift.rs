//! How far an accelerator's execution times have moved from those of the others: estimators, constant
//! in time and room.
//!
//! In: how long batches ran, as ratios of the loaded profile. Out: the slowdown of an accelerator.
//! Knows neither queues nor plans.
//!
//! A measured time is `profile * model slowdown * accelerator slowdown`, and some spread. Two
//! estimators take it apart in a way that keeps them from chasing each other:
//!
//! - [`UsualRatio`] and [`AcceleratorDrift`] compare an accelerator with the others *on the same model
//!   at the same time*. What all of them share, the model's own slowdown included, cancels out; so an
//!   accelerator's slowdown does not depend on what is believed of the models.
//! - [`ModelTimes`](super::times::ModelTimes) follows a model's times with the slowdown of the
//!   accelerator taken out.
//!
//! Ratios are of the profile as it was loaded, never of a plan that was already scaled, so that no
//! conclusion feeds back into itself.

use super::times::{FORGET, forgotten};
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};

/// Ratios that tell what is usual for a model at the moment.
const USUAL: usize = 16;

/// How a batch compared with what is usual for its model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Compared {
    /// How many times as long it ran.
    ratio: Slowdown,
    /// The relative standard deviation of what is usual, where it is far enough away to ask.
    spread: f64,
}

impl Compared {
    /// Whether it ran longer than usual by more than this share, and by more than so many
    /// deviations.
    fn is_slower(self, share: f64, deviations: f64) -> bool {
        self.ratio.as_f64() > 1.0 + share.max(deviations * self.spread)
    }

    /// Whether it ran noticeably longer than usual.
    fn is_high(self) -> bool {
        self.is_slower(HIGH, HIGH_DEVIATIONS)
    }

    /// Whether it ran noticeably shorter than usual.
    fn is_low(self) -> bool {
        self.ratio.as_f64() * (1.0 + HIGH.max(HIGH_DEVIATIONS * self.spread)) < 1.0
    }
}

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
    /// the newest.
    pub(crate) fn compare(&mut self, ratio: Slowdown) -> Compared {
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
        let (median, low) = (sorted[(count - 1) / 2], sorted[count * 4 / 25]);
        let compared = Compared { ratio: ratio.over(median), spread: 0.0 };
        if !compared.is_high() && !compared.is_low() {
            return compared;
        }
        // By the shorter half alone: the longer one may be an accelerator's that is slow.
        Compared { spread: 1.0 - low.over(median).as_f64(), ..compared }
    }
}

/// How many batches in a row have to agree before an accelerator counts as a straggler, where each
/// took a quarter longer than usual; twice as many where each took an eighth longer. Where times
/// spread widely, each has to stand out of that as well.
const AGREEING: usize = 4;
const FAR: f64 = 0.25;
const FAR_DEVIATIONS: f64 = 2.5;
const HIGH: f64 = 0.125;
const HIGH_DEVIATIONS: f64 = 1.25;

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
    compared: [Compared; 2 * AGREEING],
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
    pub(crate) fn record(&mut self, now: Time, compared: Compared) {
        self.compared[self.taken % self.compared.len()] = compared;
        self.taken += 1;
        self.sampled = Some(now);
        self.touched = now;
    }

    /// The slowdown that the newest batches show, if it differs from the known one.
    pub(crate) fn shown(&self) -> Option<Shown> {
        let many = self.compared.len();
        let newest = |back: usize| self.compared[(self.taken + many - 1 - back) % many];
        let agree = |count: usize, test: &dyn Fn(Compared) -> bool| {
            self.taken >= count && (0..count).all(|back| test(newest(back)))
        };
        let median = |count: usize| {
            let mut compared: [Slowdown; 2 * AGREEING] =
                std::array::from_fn(|back| newest(back).ratio);
            *compared[..count].select_nth_unstable(count / 2).1
        };
        if agree(AGREEING, &|compared| compared.is_slower(FAR, FAR_DEVIATIONS)) {
            return Some(Shown::Slower(self.slowdown.times(median(AGREEING))));
        }
        if agree(many, &Compared::is_high) {
            return Some(Shown::Slower(self.slowdown.times(median(many))));
        }
        if self.slowdown > Slowdown::ONE && agree(many, &Compared::is_low) {
            return Some(Shown::Faster(self.slowdown.times(median(many))));
        }
        None
    }

    /// Whether the newest batch, if it ended lately, took longer than usual; `None` when there is no
    /// such batch.
    pub(crate) fn witness(&self, now: Time) -> Option<bool> {
        self.sampled.filter(|sampled| now.since(*sampled) <= WITNESS)?;
        let newest = (self.taken + self.compared.len() - 1) % self.compared.len();
        Some(self.compared[newest].is_high())
    }

    /// Replaces the known slowdown. Less than an eighth above one counts as none.
    pub(crate) fn set(&mut self, slowdown: Slowdown) {
        let is_straggler = slowdown > Slowdown::ONE.scaled(9, 8);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A ratio in thousandths.
    fn ratio(thousandths: u32) -> Slowdown {
        Slowdown::ONE.scaled(thousandths, 1000)
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

    #[test]
    fn spread_alone_makes_no_straggler_and_does_not_hide_one() {
        // A third of the batches take a third longer, or less, wherever they run.
        let noise = |at: usize| [700, 1000, 1300, 900, 1100, 1000, 1350][at % 7];
        let rows = |slow: u32| {
            (0..200).map(move |k| {
                let own = |number: usize| noise(5 * k + 3 * number * number);
                [own(0), own(1) * slow / 10, own(2), own(3)]
            })
        };
        let quiet = drifts(&rows(10).collect::<Vec<_>>());
        assert!(quiet.iter().all(|drifts| texts(drifts).iter().all(|text| text == "1.0")));
        let slow = drifts(&rows(30).collect::<Vec<_>>());
        let last = &slow[199];
        assert!(last[1].slowdown() > ratio(2000), "{:?}", texts(last));
        assert!([0, 2, 3].iter().all(|other| last[*other].slowdown() == Slowdown::ONE));
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
                prop_assert_eq!(usual.compare(newest).ratio, newest.over(median));
            }
        }
    }

    #[test]
    fn an_accelerator_is_a_witness_for_a_second_and_forgets() {
        let at = |s| Time(Span::from_secs(s).0);
        let mut drift = AcceleratorDrift::default();
        assert_eq!(drift.witness(at(0)), None);
        drift.record(at(1), Compared { ratio: ratio(1300), spread: 0.0 });
        assert_eq!((drift.witness(at(2)), drift.witness(at(3))), (Some(true), None));
        drift.set(ratio(2000));
        assert_eq!(drift.witness(at(1)), None, "what made it a straggler says nothing of others");
        assert_eq!(drift.forget_due(), Some(at(11)));
        drift.forget(at(31));
        assert_eq!(drift.slowdown(), Slowdown::ONE, "an eighth or less is nothing");
        assert_eq!(drift.forget_due(), None);
    }
}
