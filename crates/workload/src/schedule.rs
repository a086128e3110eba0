//! How a rate changes over time: a piecewise linear factor. It converts a number of requests into
//! the time that they take.

use crate::WorkloadError;
use symphony_core::{Span, Time};

/// A factor on a stream's rate over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Schedule {
    /// Always one.
    #[default]
    Constant,
    /// Each factor holds from its time on; before the first time, the first factor holds. Times
    /// grow.
    Steps(Vec<(Time, f64)>),
    /// `from` until `begin`, then linearly to `to` at `end`, and `to` from there on.
    Ramp {
        /// The factor before.
        from: f64,
        /// The factor after.
        to: f64,
        /// When the change begins.
        begin: Time,
        /// When it is complete.
        end: Time,
    },
    /// A cosine between `low`, at the beginning of each period, and `high`, in its middle.
    Day {
        /// The factor at night.
        low: f64,
        /// The factor at noon.
        high: f64,
        /// The length of a day.
        period: Span,
    },
}

/// The number of straight lines that make up a [`Schedule::Day`]. Their difference from the cosine
/// is negligible.
const DAY_PIECES: u32 = 96;

const FACTOR_MAX: f64 = 1e6;

/// A factor that changes linearly from `from` to `to` over `length` nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Piece {
    length: u64,
    from: f64,
    to: f64,
}

/// A position on a schedule, which moves forward by the time that requests take.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pieces: Vec<Piece>,
    cyclic: bool,
    current: usize,
    /// When the current piece began.
    base: u64,
    /// Nanoseconds since then, as a fraction so that rounding errors do not add up.
    offset: f64,
}

impl Schedule {
    /// The schedule, checked.
    pub(crate) fn course(&self) -> Result<Course, WorkloadError> {
        let mut cyclic = false;
        let forever = |factor| Piece { length: u64::MAX, from: factor, to: factor };
        let pieces = match *self {
            Schedule::Constant => vec![forever(1.0)],
            Schedule::Steps(ref steps) => {
                let mut pieces = step_pieces(steps)?;
                pieces.extend(steps.last().map(|(_, factor)| forever(*factor)));
                pieces
            }
            Schedule::Ramp { from, to, begin, end } => {
                let length = growing(begin, end)?;
                let before = Piece { length: begin.0, from, to: from };
                vec![before, Piece { length, from, to }, forever(to)]
            }
            Schedule::Day { low, high, period } => {
                cyclic = true;
                growing(Time::ZERO, Time(period.0 / u64::from(DAY_PIECES)))?;
                day_pieces(low, high, period)
            }
        };
        for factor in pieces.iter().flat_map(|piece| [piece.from, piece.to]) {
            if !(0.0..=FACTOR_MAX).contains(&factor) {
                return Err(WorkloadError::Factor { factor });
            }
        }
        if pieces.iter().all(|piece| piece.area(0.0) <= 0.0) {
            return Err(WorkloadError::Silent);
        }
        Ok(Course { pieces, cyclic, current: 0, base: 0, offset: 0.0 })
    }
}

fn growing(before: Time, at: Time) -> Result<u64, WorkloadError> {
    match at.since(before) {
        Span::ZERO => Err(WorkloadError::Order { before: Span(before.0), at: Span(at.0) }),
        span => Ok(span.0),
    }
}

/// All steps except the last, which has no end.
fn step_pieces(steps: &[(Time, f64)]) -> Result<Vec<Piece>, WorkloadError> {
    let mut pieces = Vec::new();
    if let Some(&(Time(length), factor)) = steps.first() {
        pieces.push(Piece { length, from: factor, to: factor });
    }
    for pair in steps.windows(2) {
        let length = growing(pair[0].0, pair[1].0)?;
        pieces.push(Piece { length, from: pair[0].1, to: pair[0].1 });
    }
    Ok(pieces)
}

fn day_pieces(low: f64, high: f64, period: Span) -> Vec<Piece> {
    let factor = |i: u32| {
        let angle = 2.0 * std::f64::consts::PI * f64::from(i) / f64::from(DAY_PIECES);
        low + (high - low) * (1.0 - libm::cos(angle)) / 2.0
    };
    let length = period.0 / u64::from(DAY_PIECES);
    (0..DAY_PIECES).map(|i| Piece { length, from: factor(i), to: factor(i + 1) }).collect()
}

impl Piece {
    fn slope(&self) -> f64 {
        if self.from == self.to { 0.0 } else { (self.to - self.from) / self.length as f64 }
    }

    /// The integral of the factor from `offset` to the end of the piece.
    fn area(&self, offset: f64) -> f64 {
        let at = self.from + self.slope() * offset;
        (at + self.to) / 2.0 * (self.length as f64 - offset)
    }

    /// The distance from `offset` at which the integral of the factor reaches `amount`, which must
    /// lie within the piece.
    fn reach(&self, offset: f64, amount: f64) -> f64 {
        let at = self.from + self.slope() * offset;
        let root = (at * at + 2.0 * self.slope() * amount).max(0.0).sqrt();
        if at + root > 0.0 { 2.0 * amount / (at + root) } else { 0.0 }
    }
}

impl Course {
    /// Moves on by `gap` nanoseconds at factor one. Returns `None` when the schedule has no more
    /// requests.
    #[expect(clippy::cast_possible_truncation, reason = "float casts saturate")]
    #[expect(clippy::cast_sign_loss, reason = "offsets are positive")]
    pub(crate) fn advance(&mut self, mut gap: f64) -> Option<Time> {
        loop {
            let piece = self.pieces.get(self.current)?;
            let left = piece.area(self.offset);
            if gap <= left && left > 0.0 {
                self.offset += piece.reach(self.offset, gap);
                return Some(Time(self.base.saturating_add((self.offset + 0.5) as u64)));
            }
            gap -= left.max(0.0);
            self.base = self.base.checked_add(piece.length)?;
            self.offset = 0.0;
            self.current += 1;
            if self.cyclic && self.current == self.pieces.len() {
                self.current = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arrivals in each second of simulated time, with one arrival every 10 ms at factor one.
    fn counts(schedule: &Schedule, seconds: usize) -> Vec<u32> {
        let mut course = schedule.course().unwrap();
        let mut counts = vec![0; seconds];
        while let Some(time) = course.advance(1e7) {
            let second = usize::try_from(time.0.saturating_sub(1) / 1_000_000_000).unwrap();
            let Some(count) = counts.get_mut(second) else { break };
            *count += 1;
        }
        counts
    }

    fn second(s: u64) -> Time {
        Time(s * 1_000_000_000)
    }

    #[test]
    fn requests_follow_the_factor() {
        assert_eq!(counts(&Schedule::Constant, 3), [100, 100, 100]);
        let steps = Schedule::Steps(vec![(second(1), 2.0), (second(2), 0.0), (second(3), 0.5)]);
        assert_eq!(counts(&steps, 5), [200, 200, 0, 50, 50]);
        let to_silence = Schedule::Steps(vec![(second(0), 1.0), (second(1), 0.0)]);
        assert_eq!(counts(&to_silence, 3), [100, 0, 0]);
        let ramp = Schedule::Ramp { from: 0.0, to: 2.0, begin: second(1), end: second(3) };
        assert_eq!(counts(&ramp, 4), [0, 50, 150, 200]);
        let day = Schedule::Day { low: 0.0, high: 2.0, period: Span::from_secs(4) };
        let counts = counts(&day, 8);
        for (first, second) in counts[..4].iter().zip(&counts[4..]) {
            assert!(first.abs_diff(*second) <= 1, "{counts:?}");
        }
        assert!(counts.iter().sum::<u32>().abs_diff(800) <= 1, "{counts:?}");
        assert!(counts[1] > 4 * counts[0], "{counts:?}");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for bad in [
            Schedule::Steps(vec![]),
            Schedule::Steps(vec![(second(0), 0.0)]),
            Schedule::Steps(vec![(second(1), 1.0), (second(1), 2.0)]),
            Schedule::Steps(vec![(second(1), -1.0)]),
            Schedule::Ramp { from: 1.0, to: f64::NAN, begin: second(0), end: second(1) },
            Schedule::Ramp { from: 1.0, to: 2.0, begin: second(2), end: second(1) },
            Schedule::Day { low: 0.0, high: 0.0, period: Span::from_secs(1) },
            Schedule::Day { low: 0.0, high: 1.0, period: Span::ZERO },
        ] {
            assert!(bad.course().is_err(), "{bad:?}");
        }
    }
}
