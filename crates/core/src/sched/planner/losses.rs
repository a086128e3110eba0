//! Fairness: what a model loses beside the others, and the credit that it gets for it.
//!
//! In: how many requests came and were dropped since the last plan. Out: a credit, by which its
//! batches start earlier and take their turn earlier until it loses no more than the others.

use crate::power::power;

/// How fast the credit of a model grows that loses more of its requests than the others: by this
/// share of its objective per plan, if it loses all.
const GAIN: f64 = 0.1;
/// The largest credit, in objectives.
const CREDIT_MAX: f64 = 2.0;
/// What is left of a credit after each plan while nothing is lost.
const CREDIT_LEFT: f64 = 0.9;
/// What requests and losses of all earlier plans count, each time a plan is made.
const COUNTS_LEFT: f64 = 0.95;
/// Where all models together lose less than this share, nobody is treated unfairly.
const LOST_MIN: f64 = 1e-4;

/// The losses of one model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Losses {
    /// Recent requests and losses, older ones counting less.
    recent: f64,
    lost: f64,
    /// How many requests had arrived, and how many were dropped, when they were counted last.
    counted: (u64, u64),
    /// In objectives.
    credit: f64,
}

impl Losses {
    /// Counts from so many requests and losses on.
    pub(super) fn new(arrived: u64, dropped: u64) -> Losses {
        Losses { recent: 0.0, lost: 0.0, counted: (arrived, dropped), credit: 0.0 }
    }

    pub(super) fn recent(&self) -> f64 {
        self.recent
    }

    pub(super) fn lost(&self) -> f64 {
        self.lost
    }

    /// The credit, in objectives.
    pub(super) fn credit(&self) -> f64 {
        self.credit
    }

    pub(super) fn forget(&mut self) {
        (self.recent, self.lost, self.credit) = (0.0, 0.0, 0.0);
    }

    /// Counts what came and was lost since the last plan, in the time of so many usual plans.
    pub(super) fn count(&mut self, arrived: u64, dropped: u64, plans: u32) {
        let before = std::mem::replace(&mut self.counted, (arrived, dropped));
        let left = power(COUNTS_LEFT, plans);
        self.recent = self.recent * left + arrived.saturating_sub(before.0) as f64;
        self.lost = self.lost * left + dropped.saturating_sub(before.1) as f64;
    }

    /// Moves the credit, where all models together lose this share of their requests. `weight` is
    /// how much a loss of this model counts.
    pub(super) fn follow(&mut self, all: f64, weight: f64, plans: u32) {
        self.follow_share(self.share(), all, weight, plans);
    }

    /// The same for one lane of a model, by what all of its lanes lose together.
    pub(super) fn follow_lanes(&mut self, lanes: &Losses, all: f64, weight: f64, plans: u32) {
        self.credit = lanes.credit;
        self.follow_share(lanes.share(), all, weight, plans);
    }

    /// Adds another lane of the same model. A lane that requests have only begun to come to has no
    /// credit yet: that of the others is the model's.
    pub(super) fn add(&mut self, lane: &Losses) {
        self.recent += lane.recent;
        self.lost += lane.lost;
        self.credit = self.credit.max(lane.credit);
    }

    /// The share of recent requests that were lost.
    fn share(&self) -> f64 {
        self.lost / self.recent.max(1.0)
    }

    fn follow_share(&mut self, share: f64, all: f64, weight: f64, plans: u32) {
        if all < LOST_MIN {
            self.credit *= power(CREDIT_LEFT, plans);
            return;
        }
        let own = share * weight;
        let gain = GAIN * f64::from(plans);
        self.credit = (self.credit + gain * (own - all)).clamp(0.0, CREDIT_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credit_grows_with_losses_above_the_others_and_fades_without_any() {
        let mut losses = Losses::new(1000, 50);
        losses.count(2000, 150, 1);
        losses.follow(0.05, 1.0, 1);
        assert!((losses.credit() - 0.1 * (0.1 - 0.05)).abs() < 1e-12, "{losses:?}");
        let mut weighty = losses;
        weighty.follow(0.05, 3.0, 1);
        losses.follow(0.05, 1.0, 1);
        assert!(weighty.credit() > losses.credit());
        losses.follow(0.0, 1.0, 100);
        assert!(losses.credit() < 1e-5, "{losses:?}");
        (0..1000).for_each(|_| losses.follow(0.05, 1e3, 1));
        assert!((losses.credit() - CREDIT_MAX).abs() < 1e-12);
    }
}
