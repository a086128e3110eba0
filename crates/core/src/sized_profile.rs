//! The latency profile `l(b, s)` of a model whose requests differ in size: execution time, and its
//! spread, by rows and size.
//!
//! In: profiles that were measured at some sizes. Out: the [`Profile`] at any size. A size is a
//! number that a batch's cost depends on, in any unit, as a rule the elements of one row's inputs;
//! nothing here knows of shapes.

use crate::profile::{Profile, ProfileError};
use crate::time::Span;
use serde::{Deserialize, Serialize};

/// Profiles by size. Execution times decrease neither with rows nor with size. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, Profile)>", into = "Vec<(u64, Profile)>")]
pub struct SizedProfile {
    /// By growing size. A larger size covers at most as many rows.
    measured: Vec<(u64, Profile)>,
}

/// Why profiles are no [`SizedProfile`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizedProfileError {
    /// There is no profile at all.
    #[error("the sized profile is empty: give the latency profile of at least one size")]
    Empty,
    /// Sizes do not grow.
    #[error("the sizes of a sized profile must grow: got {size} after {before}")]
    Order {
        /// The offending size.
        size: u64,
        /// The size before it.
        before: u64,
    },
    /// The times of a size are none.
    #[error("the latency profile of size {size} is none: {problem}")]
    Profile {
        /// The size.
        size: u64,
        /// What is wrong with it.
        problem: ProfileError,
    },
}

impl SizedProfile {
    /// A sized profile from the profiles measured at some sizes, which must grow. What was measured
    /// to be faster at a larger size counts as taking as long as at the smaller one, and a smaller
    /// size covers at least the rows that a larger one does.
    ///
    /// # Errors
    /// No profile, or sizes that do not grow.
    pub fn new(measured: Vec<(u64, Profile)>) -> Result<SizedProfile, SizedProfileError> {
        for pair in measured.windows(2) {
            let (before, size) = (pair[0].0, pair[1].0);
            if size <= before {
                return Err(SizedProfileError::Order { size, before });
            }
        }
        if measured.is_empty() {
            return Err(SizedProfileError::Empty);
        }
        let mut tables: Vec<(u64, Vec<Span>)> =
            measured.iter().map(|(size, profile)| (*size, table(profile))).collect();
        cover_rows(&mut tables);
        grow_with_size(&mut tables);
        let profile = |((size, given), (_, table)): ((u64, Profile), (u64, Vec<Span>))| {
            match Profile::from_table(table) {
                // Where nothing had to be changed the profile stays the one that it was.
                Ok(fresh) => Ok((size, kept(given, fresh))),
                Err(problem) => Err(SizedProfileError::Profile { size, problem }),
            }
        };
        let measured = measured.into_iter().zip(tables).map(profile);
        Ok(SizedProfile { measured: measured.collect::<Result<_, _>>()? })
    }

    /// The sized profile of a model whose requests all have this size.
    #[must_use]
    pub fn fixed(size: u64, profile: Profile) -> SizedProfile {
        SizedProfile { measured: vec![(size, profile)] }
    }

    /// The profile of batches of which every row has this size, interpolated linearly between the
    /// measured sizes; beyond them, that of the nearest.
    #[must_use]
    pub fn at(&self, size: u64) -> Profile {
        let (below, above) = self.around(size);
        let Some(below) = below else { return above.1.clone() };
        let rows = 1..=above.1.rows_max();
        let table = rows.clone().map(|rows| between_times(below, above, size, rows)).collect();
        let spread = rows.map(|rows| (rows, between_spreads(below, above, size, rows)));
        // Between two tables that do not decrease lies one that does not.
        match Profile::from_table(table) {
            Ok(profile) => profile.with_spread(&spread.collect::<Vec<_>>()),
            Err(_) => above.1.clone(),
        }
    }

    /// How long a batch of `rows` rows of this size runs: what [`at`](SizedProfile::at) says of it.
    #[must_use]
    pub fn exec(&self, size: u64, rows: u32) -> Span {
        let (below, above) = self.around(size);
        match below {
            Some(below) => between_times(below, above, size, rows),
            None => above.1.exec(rows),
        }
    }

    /// The spread of a batch of `rows` rows of this size: what [`at`](SizedProfile::at) says of it.
    #[must_use]
    pub fn spread(&self, size: u64, rows: u32) -> f64 {
        let (below, above) = self.around(size);
        match below {
            Some(below) => between_spreads(below, above, size, rows),
            None => above.1.spread(rows),
        }
    }

    /// The profile of a batch that gains nothing by being one: each row takes as long as it does
    /// alone. It is that of requests of this size or smaller that do not go into one execution. Its spread
    /// is that of a row alone, as if all rows were early or late together: a slow moment lasts longer
    /// than one of them.
    #[must_use]
    pub fn one_by_one(&self, size: u64) -> Profile {
        let profile = self.at(size);
        let alone = profile.exec(1);
        let rows = 1..=u64::from(profile.rows_max());
        match Profile::from_table(rows.map(|rows| alone.times(rows)).collect()) {
            Ok(one_by_one) => one_by_one.with_spread(&[(1, profile.spread(1))]),
            Err(_) => profile,
        }
    }

    /// The sizes that were measured, growing.
    pub fn sizes(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.measured.iter().map(|(size, _)| *size)
    }

    /// The measured sizes, growing, each with its profile.
    #[must_use]
    pub fn measured(&self) -> &[(u64, Profile)] {
        &self.measured
    }

    /// The largest size that was measured.
    #[must_use]
    pub fn size_max(&self) -> u64 {
        self.measured.last().map_or(0, |(size, _)| *size)
    }

    /// Whether a batch costs the same whatever its size.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.measured.len() == 1
    }

    /// The measured sizes that a size lies between; only one where it is that of a size.
    fn around(&self, size: u64) -> (Option<&(u64, Profile)>, &(u64, Profile)) {
        let at = self.measured.partition_point(|(measured, _)| *measured < size);
        let above = &self.measured[at.min(self.measured.len() - 1)];
        let below = at.checked_sub(1).filter(|_| size < above.0);
        (below.and_then(|below| self.measured.get(below)), above)
    }
}

impl TryFrom<Vec<(u64, Profile)>> for SizedProfile {
    type Error = SizedProfileError;

    fn try_from(measured: Vec<(u64, Profile)>) -> Result<SizedProfile, SizedProfileError> {
        match <[(u64, Profile); 1]>::try_from(measured) {
            Ok([(size, profile)]) => Ok(SizedProfile::fixed(size, profile)),
            Err(measured) => SizedProfile::new(measured),
        }
    }
}

impl From<SizedProfile> for Vec<(u64, Profile)> {
    fn from(sized: SizedProfile) -> Vec<(u64, Profile)> {
        sized.measured
    }
}

/// The profile of a size, of what it was given as and of its times as they have to be. The slowdown of
/// what was given is in those times; its spread goes on.
fn kept(given: Profile, fresh: Profile) -> Profile {
    let rows = 1..=given.rows_max();
    let spread: Vec<_> = rows.map(|rows| (rows, given.spread(rows))).collect();
    let fresh = fresh.with_spread(&spread);
    if given == fresh { given } else { fresh }
}

/// The execution times of a profile, as planned now.
fn table(profile: &Profile) -> Vec<Span> {
    (1..=profile.rows_max()).map(|rows| profile.exec(rows)).collect()
}

/// Gives each size at least the rows of the next larger one: what was measured there bounds what
/// they take.
fn cover_rows(tables: &mut [(u64, Vec<Span>)]) {
    for at in (1..tables.len()).rev() {
        let (smaller, larger) = tables.split_at_mut(at);
        let (Some((_, smaller)), Some((_, larger))) = (smaller.last_mut(), larger.first()) else {
            continue;
        };
        let from = smaller.len();
        let least = smaller.last().copied().unwrap_or(Span::ZERO);
        smaller.extend(larger.iter().skip(from).map(|exec| (*exec).max(least)));
    }
}

/// Has each size take at least as long as the next smaller one.
fn grow_with_size(tables: &mut [(u64, Vec<Span>)]) {
    for at in 1..tables.len() {
        let (smaller, larger) = tables.split_at_mut(at);
        let (Some((_, smaller)), Some((_, larger))) = (smaller.last(), larger.first_mut()) else {
            continue;
        };
        for (larger, smaller) in larger.iter_mut().zip(smaller) {
            *larger = (*larger).max(*smaller);
        }
    }
}

/// How long a batch runs whose size lies between two measured ones; the rows of the larger are covered.
fn between_times(below: &(u64, Profile), above: &(u64, Profile), size: u64, rows: u32) -> Span {
    let (width, part) = (above.0 - below.0, size - below.0);
    let (least, most) = (below.1.exec(rows), above.1.exec(rows));
    if most == Span::MAX {
        return most;
    }
    least + part_of(most.saturating_sub(least), part, width)
}

/// The spread of a batch whose size lies between two measured ones.
fn between_spreads(below: &(u64, Profile), above: &(u64, Profile), size: u64, rows: u32) -> f64 {
    let part = (size - below.0) as f64 / (above.0 - below.0) as f64;
    let (least, most) = (below.1.spread(rows), above.1.spread(rows));
    least + (most - least) * part
}

/// `span * part / width`, rounded up: a plan must not be too short.
fn part_of(span: Span, part: u64, width: u64) -> Span {
    let scaled = (u128::from(span.0) * u128::from(part)).div_ceil(u128::from(width));
    Span(u64::try_from(scaled).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(alpha_us: u64, beta_us: u64, rows_max: u32) -> Profile {
        let (alpha, beta) = (Span::from_micros(alpha_us), Span::from_micros(beta_us));
        Profile::linear(alpha, beta, rows_max).unwrap()
    }

    #[test]
    fn sizes_have_to_grow_and_to_be_there() {
        let line = line(1, 1, 4);
        assert_eq!(SizedProfile::new(vec![]), Err(SizedProfileError::Empty));
        let twice = SizedProfile::new(vec![(8, line.clone()), (8, line)]).unwrap_err();
        assert_eq!(twice, SizedProfileError::Order { size: 8, before: 8 });
    }

    #[test]
    fn what_lies_between_measured_sizes_is_interpolated() {
        let sized =
            SizedProfile::new(vec![(10, line(10, 100, 8)), (20, line(30, 100, 4))]).unwrap();
        let exec = |size, rows| sized.at(size).exec(rows);
        let us = Span::from_micros;
        assert_eq!(
            [exec(1, 2), exec(10, 2), exec(20, 2), exec(99, 2)],
            [us(120), us(120), us(160), us(160)]
        );
        assert_eq!([exec(15, 1), exec(15, 4)], [us(120), us(180)]);
        assert_eq!([sized.at(10).rows_max(), sized.at(11).rows_max()], [8, 4]);
        assert_eq!(sized.one_by_one(20).exec(4), us(520));
    }

    #[test]
    fn a_spread_goes_on_to_every_size() {
        let (small, large) = (line(10, 100, 4), line(30, 100, 8));
        let small = small.with_spread(&[(1, 0.1), (4, 0.4)]);
        let sized = SizedProfile::new(vec![(10, small), (20, large)]).unwrap();
        let spread = |size: u64, rows| sized.at(size).spread(rows);
        // The smaller size covers more rows than were measured of it.
        assert_eq!([spread(10, 1), spread(10, 4), spread(10, 8)], [0.1, 0.4, 0.4]);
        assert_eq!([spread(15, 1), spread(15, 4), spread(20, 4)], [0.05, 0.2, 0.0]);
        assert_eq!([sized.spread(15, 4), sized.spread(99, 1)], [0.2, 0.0]);
        let one_by_one = sized.one_by_one(10);
        assert_eq!([one_by_one.spread(1), one_by_one.spread(8)], [0.1, 0.1]);
    }

    #[test]
    fn one_size_is_one_profile_at_every_size() {
        let sized = SizedProfile::fixed(7, line(10, 100, 8));
        assert!(sized.is_fixed());
        assert!([0, 7, 99].iter().all(|size| sized.at(*size) == line(10, 100, 8)));
    }

    #[test]
    fn a_dip_is_levelled_and_fewer_rows_are_covered_by_the_larger_size() {
        let sized = SizedProfile::new(vec![(1, line(10, 100, 2)), (2, line(1, 50, 4))]).unwrap();
        let us = Span::from_micros;
        let table = |size| table(&sized.at(size));
        assert_eq!(table(1), [us(110), us(120), us(120), us(120)]);
        assert_eq!(table(2), [us(110), us(120), us(120), us(120)]);
    }

    proptest! {
        #[test]
        fn times_never_decrease(
            tables in prop::collection::vec(prop::collection::vec(1u64..1000, 1..12), 1..6),
            gaps in prop::collection::vec(1u64..50, 6),
        ) {
            let mut size = 0;
            let measured = tables.iter().zip(&gaps).map(|(table, gap)| {
                size += gap;
                let mut table: Vec<_> = table.iter().map(|exec| Span(*exec)).collect();
                table.sort_unstable();
                (size, Profile::from_table(table).unwrap())
            });
            let sized = SizedProfile::new(measured.collect()).unwrap();
            let mut before = sized.at(0);
            for size in 0..=size + 1 {
                let profile = sized.at(size);
                prop_assert!(profile.rows_max() <= before.rows_max());
                for rows in 1..=profile.rows_max() {
                    prop_assert!(before.exec(rows) <= profile.exec(rows), "{size}, {rows}");
                    prop_assert!(profile.exec(rows - 1) <= profile.exec(rows), "{size}, {rows}");
                }
                before = profile;
            }
        }
    }
}
