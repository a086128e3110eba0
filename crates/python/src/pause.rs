//! How long to wait before something that failed is tried again.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Where each attempt costs others something.
const LONGEST_COSTLY: Duration = Duration::from_secs(600);

/// Failures one after the other, and the pause behind the last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pause {
    failures: u32,
    over: Option<Instant>,
    problem: String,
}

/// Something is not tried yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pausing {
    pub(crate) failures: u32,
    pub(crate) left: Duration,
    pub(crate) problem: String,
}

impl Pause {
    /// Fails while the pause lasts.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Pausing> {
        let left = self.over.map_or(Duration::ZERO, |over| over.saturating_duration_since(now));
        if left.is_zero() {
            return Ok(());
        }
        Err(Pausing { failures: self.failures, left, problem: self.problem.clone() })
    }

    /// It has failed once more: each pause is twice as long as the one before.
    pub(crate) fn failed(&mut self, now: Instant, problem: String, is_costly: bool) {
        let longest = if is_costly { LONGEST_COSTLY } else { LONGEST };
        let pause = FIRST.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.over = Some(now + pause);
        self.problem = problem;
    }

    /// It has gone well.
    pub(crate) fn clear(&mut self) {
        *self = Pause::default();
    }

    /// When it may be tried again, if it has failed.
    pub(crate) fn over(&self) -> Option<Instant> {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_twice_as_long_up_to_the_longest() {
        let now = Instant::now();
        let mut pause = Pause::default();
        assert_eq!(pause.check(now), Ok(()));
        let mut seen = Vec::new();
        for _ in 0..8 {
            pause.failed(now, "gone".to_owned(), false);
            seen.push(pause.check(now).unwrap_err().left.as_secs());
        }
        assert_eq!(seen, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause.check(now + LONGEST), Ok(()));
        pause.failed(now, String::new(), true);
        assert_eq!(pause.check(now).unwrap_err().left.as_secs(), 256);
        pause.clear();
        pause.failed(now, String::new(), true);
        assert_eq!(pause.check(now).unwrap_err().left, FIRST);
    }
}
