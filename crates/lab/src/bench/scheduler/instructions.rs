//! The instructions of the turns of a thread's loop, of which some are counted.

use crate::bench::counter::Counter;

/// One turn in so many is counted: asking takes longer than some turns.
const EVERY: u64 = 64;

/// Counts the instructions of some turns of a thread's loop.
#[derive(Debug)]
pub(super) struct Instructions {
    counter: Counter,
    /// Turns that began; some came to nothing and did not end.
    begun: u64,
    turns: u64,
    counted: u64,
    instructions: u64,
}

/// What was counted when a turn began, if that is one of those that are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun(Option<u64>);

impl Instructions {
    /// Of the calling thread.
    pub(super) fn of_this_thread() -> Instructions {
        Instructions::of(Counter::instructions())
    }

    fn of(counter: Counter) -> Instructions {
        Instructions { counter, begun: 0, turns: 0, counted: 0, instructions: 0 }
    }

    pub(super) fn begin(&mut self) -> Begun {
        let is_counted = self.begun.is_multiple_of(EVERY);
        self.begun += 1;
        Begun(is_counted.then(|| self.counter.read()).flatten())
    }

    /// The turn that began then is over.
    pub(super) fn end(&mut self, begun: Begun) {
        self.turns += 1;
        if let Begun(Some(before)) = begun
            && let Some(after) = self.counter.read()
        {
            self.counted += 1;
            self.instructions += after.saturating_sub(before);
        }
    }

    /// Of all turns, as far as those that were counted tell; `None` when none was.
    pub(super) fn all(&self) -> Option<f64> {
        let share = self.turns as f64 / self.counted as f64;
        (self.counted > 0).then_some(self.instructions as f64 * share)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use perf_event::events::Software;
    use std::time::{Duration, Instant};

    /// Time in place of instructions, which not every machine counts.
    #[test]
    fn what_some_turns_take_is_taken_for_all() {
        let mut time = Instructions::of(Counter::of(Software::TASK_CLOCK));
        assert_eq!(time.all(), None);
        for _ in 0..2 * EVERY {
            let begun = time.begin();
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(100) {}
            time.end(begun);
        }
        // Nothing where the system gives no counter at all, as some containers do not.
        if let Some(ns) = time.all() {
            assert_eq!((time.turns, time.counted), (2 * EVERY, 2));
            assert!(ns > 0.0, "{ns}");
        }
    }
}
