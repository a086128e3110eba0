//! The latency profile `l(b)`: how long a batch of `b` rows runs on one kind of accelerator.
//!
//! In: a table with the mean execution time for each batch size, which never decreases, and by how much
//! single executions differ from it. Out: execution times, their spread, and the largest batch that fits
//! a time. What is in time is read from the table, never from the fitted line: real engines have steps
//! that a line would hide.

use crate::slowdown::Slowdown;
use crate::time::Span;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Mean execution time by batch size, and its spread: tables that never change and that clones share, and
/// the slowdown at which executions run now. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ProfileTables", into = "ProfileTables")]
pub struct Profile {
    /// `exec[b - 1]` is the execution time of `b` rows at a slowdown of one.
    exec: Arc<[Span]>,
    /// `spread[b - 1]` is the relative standard deviation of `b` rows, in millionths of the mean. Empty
    /// where executions are known to take exactly their time.
    spread: Arc<[u32]>,
    /// `cheaper_beyond[b - 1]`: some larger batch costs less per row than `b` rows do.
    cheaper_beyond: Arc<[bool]>,
    /// The smallest batch beyond which no row costs noticeably less.
    thrifty: u32,
    slowdown: Slowdown,
}

/// A profile as it is written down: what its tables say, without what follows from them. Nothing that
/// was read is a [`Profile`] before its tables have been looked through.
#[derive(Serialize, Deserialize)]
struct ProfileTables {
    exec: Vec<Span>,
    spread: Vec<u32>,
    slowdown: Slowdown,
}

/// A larger batch is worth waiting for only if it saves at least this share per row; less is within the
/// noise of a measured profile.
const SAVING_PER_ROW_MIN: f64 = 0.02;

/// The largest spread that a profile keeps: executions that differ more are no measure of each other.
const SPREAD_MAX: f64 = 2.0;

/// A spread of one, as it is kept.
const MILLION: f64 = 1e6;

/// Why a table is not a latency profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// There is no entry at all.
    #[error("the latency profile is empty: give the execution time of at least one batch size")]
    Empty,
    /// An entry is zero.
    #[error("the latency profile says that {rows} rows take no time: every entry must be positive")]
    Zero {
        /// The batch size of the entry.
        rows: u32,
    },
    /// A larger batch takes less time than a smaller one.
    #[error(
        "the latency profile decreases: {rows} rows take {exec}, fewer rows take {before}; \
         make it non-decreasing"
    )]
    Decreasing {
        /// The larger batch size.
        rows: u32,
        /// Its execution time.
        exec: Span,
        /// The execution time of the size before it.
        before: Span,
    },
    /// The spread is not one of each batch size, or of none; or it is beyond what a profile keeps.
    #[error(
        "the spreads of a latency profile must be none, or one of each batch size and at most two"
    )]
    Spread,
    /// Executions would take no time.
    #[error("the slowdown of a latency profile must be positive")]
    Slowdown,
    /// A sample for zero rows, or sizes out of order.
    #[error("the samples of a latency profile must have growing batch sizes from 1: got {rows}")]
    Order {
        /// The offending batch size.
        rows: u32,
    },
}

impl Profile {
    /// A profile from the execution times of 1, 2, 3, … rows.
    ///
    /// # Errors
    /// The table is empty, has a zero, or decreases.
    pub fn from_table(table: Vec<Span>) -> Result<Profile, ProfileError> {
        if table.is_empty() {
            return Err(ProfileError::Empty);
        }
        let mut before = Span::ZERO;
        for (rows, &exec) in (1u32..).zip(&table) {
            if exec == Span::ZERO {
                return Err(ProfileError::Zero { rows });
            }
            if exec < before {
                return Err(ProfileError::Decreasing { rows, exec, before });
            }
            before = exec;
        }
        let cheaper_beyond = cheaper_beyond(&table);
        let thrifty = (1u32..).zip(&*cheaper_beyond).find(|(_, is_cheaper)| !**is_cheaper);
        let thrifty = thrifty.map_or(1, |(rows, _)| rows);
        let exec = table.into();
        let spread = Arc::default();
        Ok(Profile { exec, spread, cheaper_beyond, thrifty, slowdown: Slowdown::ONE })
    }

    /// The profile `alpha*b + beta` for 1 to `rows_max` rows.
    ///
    /// # Errors
    /// `rows_max` is zero, or both coefficients are.
    pub fn linear(alpha: Span, beta: Span, rows_max: u32) -> Result<Profile, ProfileError> {
        Profile::from_table((1..=u64::from(rows_max)).map(|b| alpha.times(b) + beta).collect())
    }

    /// A profile from measurements at some batch sizes, interpolated linearly between them. A larger
    /// batch that was measured to be faster than a smaller one counts as taking as long.
    ///
    /// # Errors
    /// No samples, sizes that do not grow from 1, or a zero.
    pub fn from_samples(samples: &[(u32, Span)]) -> Result<Profile, ProfileError> {
        let mut table = Vec::new();
        let mut from = (0u32, Span::ZERO);
        for &(rows, exec) in samples {
            if rows <= from.0 || (from.0 == 0 && rows != 1) {
                return Err(ProfileError::Order { rows });
            }
            let to = (rows, exec.max(from.1));
            let step = u128::from(to.1.saturating_sub(from.1).0);
            let width = to.0 - from.0;
            #[expect(clippy::cast_possible_truncation, reason = "a share of a step that is a u64")]
            let part = |i: u32| Span((step * u128::from(i) / u128::from(width)) as u64);
            table.extend((1..=width).map(|i| from.1 + part(i)));
            from = to;
        }
        Profile::from_table(table)
    }

    /// The same profile whose executions vary: at each of these batch sizes, the standard deviation of an
    /// execution as a share of its mean. Between the sizes it is interpolated linearly; beyond them it is
    /// that of the nearest. A share counts as at most two; what is no number counts as zero.
    #[must_use]
    pub fn with_spread(self, shares: &[(u32, f64)]) -> Profile {
        let mut shares = shares.to_vec();
        shares.sort_by_key(|(rows, _)| *rows);
        let is_certain = shares.iter().all(|(_, share)| millionths(*share) == 0);
        let all = 1..=if is_certain { 0 } else { self.rows_max() };
        let spread = all.map(|rows| millionths(share_at(&shares, rows))).collect();
        Profile { spread, ..self }
    }

    /// The largest batch the profile covers, in rows.
    #[must_use]
    pub fn rows_max(&self) -> u32 {
        u32::try_from(self.exec.len()).unwrap_or(u32::MAX)
    }

    /// Execution time of `rows` rows; [`Span::MAX`] beyond the largest batch, zero for none.
    #[must_use]
    pub fn exec(&self, rows: u32) -> Span {
        match rows {
            0 => Span::ZERO,
            _ => match self.exec.get(rows as usize - 1) {
                Some(&table) => self.slowdown.stretch(table),
                None => Span::MAX,
            },
        }
    }

    /// The standard deviation of an execution of `rows` rows as a share of its mean: zero where nothing is
    /// known of it, that of the largest batch beyond it.
    #[must_use]
    pub fn spread(&self, rows: u32) -> f64 {
        let at = (rows.max(1) as usize).min(self.spread.len());
        at.checked_sub(1).map_or(0.0, |at| f64::from(self.spread[at]) / MILLION)
    }

    /// How many times longer than in the table executions take now.
    #[must_use]
    pub fn slowdown(&self) -> Slowdown {
        self.slowdown
    }

    /// Replaces the slowdown: executions take this many times longer than in the table from now on.
    pub fn set_slowdown(&mut self, slowdown: Slowdown) {
        self.slowdown = slowdown;
    }

    /// The same profile at another slowdown.
    #[must_use]
    pub fn at_slowdown(self, slowdown: Slowdown) -> Profile {
        Profile { slowdown, ..self }
    }

    /// Whether it is the same profile, at the same slowdown. Equal tables elsewhere count as
    /// others, so that no table has to be read.
    pub(crate) fn is(&self, other: &Profile) -> bool {
        self.is_table_of(other) && self.slowdown == other.slowdown
    }

    /// Whether it is the same profile, perhaps at another slowdown.
    pub(crate) fn is_table_of(&self, other: &Profile) -> bool {
        let is_same_spread = Arc::ptr_eq(&self.spread, &other.spread)
            || (self.spread.is_empty() && other.spread.is_empty());
        Arc::ptr_eq(&self.exec, &other.exec) && is_same_spread
    }

    /// The largest batch whose execution takes at most `budget`; zero when not even one row does.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a profile has at most u32::MAX entries")]
    pub fn rows_within(&self, budget: Span) -> u32 {
        let budget = self.slowdown.shrink(budget);
        self.exec.partition_point(|&exec| exec <= budget) as u32
    }

    /// Whether some batch larger than `rows` costs noticeably less per row, so that waiting for more
    /// requests can pay.
    #[must_use]
    pub fn cheaper_beyond(&self, rows: u32) -> bool {
        match rows {
            0 => true,
            _ => self.cheaper_beyond.get(rows as usize - 1).copied().unwrap_or(false),
        }
    }

    /// The smallest batch beyond which no row costs noticeably less: with batches of this size the
    /// throughput is as good as it gets.
    #[must_use]
    pub fn thrifty(&self) -> u32 {
        self.thrifty
    }

    /// The least-squares line through the table: `(alpha per row, beta)`; beta is at least zero.
    #[must_use]
    pub fn fit(&self) -> (Span, Span) {
        let n = self.exec.len() as f64;
        let mean_b = (n + 1.0) / 2.0;
        let exec = || self.exec.iter().map(|table| self.slowdown.stretch(*table).0 as f64);
        let mean_l = exec().sum::<f64>() / n;
        let (mut covariance, mut variance) = (0.0, 0.0);
        for (i, l) in exec().enumerate() {
            let db = (i + 1) as f64 - mean_b;
            covariance += db * (l - mean_l);
            variance += db * db;
        }
        let alpha = if variance > 0.0 { covariance / variance } else { mean_l };
        let beta = (mean_l - alpha * mean_b).max(0.0);
        (Span::from_millis_f64(alpha / 1e6), Span::from_millis_f64(beta / 1e6))
    }
}

impl TryFrom<ProfileTables> for Profile {
    type Error = ProfileError;

    fn try_from(tables: ProfileTables) -> Result<Profile, ProfileError> {
        let ProfileTables { exec, spread, slowdown } = tables;
        let is_kept = |share: &u32| f64::from(*share) <= SPREAD_MAX * MILLION;
        if !(spread.is_empty() || spread.len() == exec.len()) || !spread.iter().all(is_kept) {
            return Err(ProfileError::Spread);
        }
        if slowdown.bits() == 0 {
            return Err(ProfileError::Slowdown);
        }
        // Shares that are all zero are kept as none.
        let is_certain = spread.iter().all(|share| *share == 0);
        let spread = if is_certain { Vec::new() } else { spread };
        let profile = Profile::from_table(exec)?.at_slowdown(slowdown);
        Ok(Profile { spread: spread.into(), ..profile })
    }
}

impl From<Profile> for ProfileTables {
    fn from(profile: Profile) -> ProfileTables {
        let Profile { exec, spread, slowdown, .. } = profile;
        ProfileTables { exec: exec.to_vec(), spread: spread.to_vec(), slowdown }
    }
}

/// A share as it is kept: in millionths, from nothing to [`SPREAD_MAX`].
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a clamped share is positive and small; what is no number becomes zero"
)]
fn millionths(share: f64) -> u32 {
    (share.clamp(0.0, SPREAD_MAX) * MILLION).round() as u32
}

/// The share at a batch size, of shares by growing size; zero where there are none.
fn share_at(shares: &[(u32, f64)], rows: u32) -> f64 {
    let above = shares.partition_point(|(size, _)| *size < rows);
    let below = above.checked_sub(1).and_then(|below| shares.get(below));
    match (below, shares.get(above)) {
        (Some((from, least)), Some((to, most))) => {
            let part = f64::from(rows - from) / f64::from(to - from);
            least + (most - least) * part
        }
        (Some((_, nearest)), None) | (None, Some((_, nearest))) => *nearest,
        (None, None) => 0.0,
    }
}

/// For each size, whether a larger one saves at least [`SAVING_PER_ROW_MIN`] per row.
fn cheaper_beyond(table: &[Span]) -> Arc<[bool]> {
    let mut cheapest = f64::INFINITY;
    let mut result = vec![false; table.len()];
    for (i, exec) in table.iter().enumerate().rev() {
        let per_row = exec.0 as f64 / (i + 1) as f64;
        result[i] = cheapest <= per_row * (1.0 - SAVING_PER_ROW_MIN);
        cheapest = cheapest.min(per_row);
    }
    result.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Span {
        Span::from_millis(ms)
    }

    #[test]
    fn a_table_must_be_positive_and_monotone() {
        assert_eq!(Profile::from_table(vec![]), Err(ProfileError::Empty));
        assert_eq!(Profile::from_table(vec![Span::ZERO]), Err(ProfileError::Zero { rows: 1 }));
        let error = Profile::from_table(vec![ms(3), ms(2)]).unwrap_err();
        assert!(matches!(error, ProfileError::Decreasing { rows: 2, .. }), "{error}");
    }

    #[test]
    fn a_linear_profile_reads_back_its_line() {
        let profile = Profile::linear(ms(1), ms(5), 32).unwrap();
        assert_eq!(profile.exec(1), ms(6));
        assert_eq!(profile.exec(32), ms(37));
        assert_eq!(profile.exec(33), Span::MAX);
        assert_eq!(profile.fit(), (ms(1), ms(5)));
        assert_eq!(profile.rows_within(ms(5)), 0);
        assert_eq!(profile.rows_within(ms(6)), 1);
        assert_eq!(profile.rows_within(ms(1000)), 32);
    }

    #[test]
    fn a_slowdown_scales_every_answer_and_can_be_taken_back() {
        let table = Profile::linear(ms(1), ms(5), 32).unwrap();
        let mut profile = table.clone();
        profile.set_slowdown(Slowdown::of(ms(2), ms(1)));
        assert_eq!(profile.exec(1), ms(12));
        assert_eq!(profile.exec(33), Span::MAX);
        assert_eq!(profile.rows_within(ms(14).saturating_sub(Span(1))), 1);
        assert_eq!(profile.rows_within(ms(14)), 2);
        assert_eq!(profile.fit(), (ms(2), ms(10)));
        profile.set_slowdown(Slowdown::ONE);
        assert_eq!(profile, table);
    }

    #[test]
    fn a_spread_is_interpolated_bounded_and_part_of_the_profile() {
        let certain = Profile::linear(ms(1), ms(5), 8).unwrap();
        assert_eq!([certain.spread(1), certain.spread(99)], [0.0, 0.0]);
        assert_eq!(certain.clone().with_spread(&[]), certain);
        assert_eq!(certain.clone().with_spread(&[(1, 0.0), (2, -1.0), (3, f64::NAN)]), certain);

        let varying = certain.clone().with_spread(&[(6, 0.5), (2, 0.1), (20, 9.0)]);
        let spread = [0, 1, 2, 3, 4, 6].map(|rows| varying.spread(rows));
        assert_eq!(spread, [0.1, 0.1, 0.1, 0.2, 0.3, 0.5]);
        // Between the largest size within the profile and one beyond it; then nothing new.
        assert_eq!([varying.spread(8), varying.spread(9)], [1.714286, 1.714286]);
        assert_eq!([0, 1, 8].map(|b| varying.exec(b)), [0, 1, 8].map(|b| certain.exec(b)));

        assert!(varying.is(&varying.clone()) && certain.is(&certain.clone()));
        assert!(!varying.is(&certain) && !certain.is(&varying));
        let most = certain.with_spread(&[(1, f64::INFINITY)]);
        assert_eq!([most.spread(1), most.spread(8)], [SPREAD_MAX, SPREAD_MAX]);
    }

    #[test]
    fn samples_are_made_monotone_and_interpolated() {
        let profile = Profile::from_samples(&[(1, ms(4)), (2, ms(3)), (4, ms(8))]).unwrap();
        let table: Vec<_> = (1..=4).map(|b| profile.exec(b)).collect();
        assert_eq!(table, [ms(4), ms(4), ms(6), ms(8)]);
        let longest = Profile::from_samples(&[(1, ms(4)), (3, Span::MAX)]).unwrap();
        assert_eq!(longest.exec(3), Span::MAX);
        assert_eq!(Profile::from_samples(&[(2, ms(4))]), Err(ProfileError::Order { rows: 2 }));
        assert_eq!(
            Profile::from_samples(&[(1, ms(4)), (1, ms(4))]),
            Err(ProfileError::Order { rows: 1 })
        );
    }

    #[test]
    fn waiting_pays_only_while_a_row_gets_cheaper() {
        let proportional = Profile::linear(ms(3), Span::ZERO, 16).unwrap();
        assert!(!proportional.cheaper_beyond(1));
        let batching = Profile::linear(ms(1), ms(5), 16).unwrap();
        assert!(batching.cheaper_beyond(1));
        assert!(!batching.cheaper_beyond(16));
        // A step: 2 rows cost as 1, 3 rows cost twice as much.
        let step = Profile::from_table(vec![ms(4), ms(4), ms(9)]).unwrap();
        assert!(step.cheaper_beyond(1));
        assert!(!step.cheaper_beyond(2));
        assert_eq!([proportional, batching, step].map(|profile| profile.thrifty()), [1, 15, 2]);
    }
}
