//! What the time of a load goes to.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A part of a load.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// Its files are read and decoded.
    Read,
    /// Its graph is followed and described.
    Describe,
    /// Its files are hashed.
    Hash,
    /// The engine loads and optimises it.
    Engine,
    /// It waits for the accelerator to try it out.
    Wait,
    /// It is tried out.
    TryOut,
    /// It is measured, or a kept profile is checked.
    Measure,
}

const PARTS: [(Part, &str); 7] = [
    (Part::Read, "read"),
    (Part::Describe, "describe"),
    (Part::Hash, "hash"),
    (Part::Engine, "engine"),
    (Part::Wait, "wait"),
    (Part::TryOut, "try out"),
    (Part::Measure, "measure"),
];

/// How long the parts of one load took.
#[derive(Debug, Default)]
pub(super) struct Times([AtomicU64; PARTS.len()]);

impl Times {
    /// Does a part of the work.
    pub(super) fn of<T>(&self, part: Part, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0[part as usize].fetch_add(took, Ordering::Relaxed);
        done
    }
}

/// In milliseconds.
impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (part, name)) in PARTS.into_iter().enumerate() {
            let separator = if at > 0 { ", " } else { "" };
            let took = Duration::from_nanos(self.0[part as usize].load(Ordering::Relaxed));
            write!(f, "{separator}{name} {:.0} ms", took.as_secs_f64() * 1e3)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_told_by_its_name() {
        let times = Times::default();
        let done = times.of(Part::Hash, || {
            std::thread::sleep(Duration::from_millis(2));
            "done"
        });
        let text = times.to_string();
        assert_eq!(done, "done");
        assert!(
            text.starts_with("read 0 ms, describe 0 ms, hash ") && !text.contains("hash 0 ms"),
            "{text}"
        );
        assert_eq!(text.matches("0 ms").count(), PARTS.len() - 1, "{text}");
    }
}
