//! The low share: what low requests are owed while they wait behind high ones.
//!
//! In: what high work runs while low work waits, and what low work runs. Out: whether low work is
//! owed its turn. The matcher keeps one [`Deficit`] in nanoseconds of accelerators, each model one in
//! rows of batches.

use crate::time::Span;

/// The share of low requests where none is set.
pub const LOW_SHARE_DEFAULT: f64 = 0.05;

/// Low requests that get more than their share go into debt for at most what they earn in this time:
/// what they got long ago is no reason to starve now.
const DEBT_MAX: Span = Span::from_secs(1);

/// What low requests are owed, as in deficit round robin. Negative after they got more than their
/// share.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub(crate) struct Deficit(f64);

/// The most that low requests may be in debt, where high work runs at `rate` per nanosecond.
pub(crate) fn debt_max(share: f64, rate: f64) -> f64 {
    share * rate * DEBT_MAX.0 as f64
}

impl Deficit {
    /// Whether low requests are owed this much.
    pub(crate) fn covers(self, cost: f64) -> bool {
        self.0 >= cost
    }

    /// What they are owed, in whole rows.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "less than a row is none, and a model's deficit is at most a batch"
    )]
    pub(crate) fn rows(self) -> u32 {
        self.0 as u32
    }

    /// Pays for low work before it runs, so that what is owed is not spent twice.
    pub(crate) fn prepay(&mut self, cost: f64) {
        self.0 -= cost;
    }

    /// Adds what low requests earned and takes away what they got, down to a debt of `debt_max`.
    pub(crate) fn settle(&mut self, earned: f64, got: f64, debt_max: f64) {
        self.0 = (self.0 + earned - got).max(-debt_max);
    }

    /// Owes no more than this.
    pub(crate) fn limit(&mut self, most: f64) {
        self.0 = self.0.min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_earned_is_owed_until_it_is_got() {
        let mut deficit = Deficit::default();
        assert!(deficit.covers(0.0) && !deficit.covers(0.1));
        deficit.settle(2.5, 0.0, 10.0);
        assert!(deficit.covers(2.5));
        assert_eq!(deficit.rows(), 2);
        deficit.prepay(2.0);
        assert!(!deficit.covers(1.0), "it is not spent twice");
        deficit.settle(0.0, -2.0, 10.0);
        assert!(deficit.covers(2.5), "what was paid for and did not run is owed again");
        deficit.limit(1.0);
        assert_eq!(deficit, Deficit(1.0));
    }

    #[test]
    fn a_debt_is_bounded_and_owes_no_rows() {
        let mut deficit = Deficit::default();
        deficit.settle(0.0, 1e12, debt_max(0.05, 2.0));
        assert_eq!(deficit, Deficit(-1e8), "a twentieth of two accelerators for a second");
        assert_eq!(deficit.rows(), 0);
    }
}
