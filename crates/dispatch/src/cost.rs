//! What a batch costs the scheduler itself: its loop's busy time, shared among the batches that it
//! started. Knows neither the clock nor what the loop does in that time.

use symphony_core::{Span, Time};

/// Measured time of the loop per batch.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    /// The newest turns that started batches.
    ring: [Turn; TURNS],
    taken: usize,
    /// Time of the turns since the newest of these.
    between: Span,
    /// When to look again whether it changed.
    due: Time,
    /// Batches per second as told last.
    told: Option<f64>,
}

/// Busy time up to and including a turn of the loop, and the batches that this turn started.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    busy: Span,
    batches: u64,
}

/// Turns remembered, and needed before anything is told.
const TURNS: usize = 256;
/// Of these, so many that took longest per batch are left out: in some of them the operating
/// system ran something else meanwhile.
const TURNS_LEFT_OUT: usize = TURNS / 10;
/// Nothing is taken to cost less: what is told stays finite.
const COST_MIN: Span = Span::from_micros(1);
const TELL_EVERY: Span = Span::from_secs(1);
/// A smaller change is not worth telling.
const CHANGE_MIN: f64 = 0.1;

impl Turn {
    fn cost(self) -> Span {
        Span(self.busy.0 / self.batches.max(1))
    }
}

impl Cost {
    pub(crate) fn new() -> Cost {
        Cost {
            ring: [Turn::default(); TURNS],
            taken: 0,
            between: Span::ZERO,
            due: Time::ZERO,
            told: None,
        }
    }

    /// The loop was `busy` and started so many batches. Now and then, when it is another number
    /// than before, how many batches per second it would sustain.
    pub(crate) fn turn(&mut self, now: Time, busy: Span, batches: u64) -> Option<f64> {
        self.between += busy;
        if batches == 0 {
            return None;
        }
        self.ring[self.taken % TURNS] = Turn { busy: self.between, batches };
        self.taken += 1;
        self.between = Span::ZERO;
        if self.taken < TURNS || now < self.due {
            return None;
        }
        self.due = now + TELL_EVERY;
        let sustained = 1.0 / self.mean().as_secs_f64();
        if self.told.is_some_and(|told| (sustained / told - 1.0).abs() <= CHANGE_MIN) {
            return None;
        }
        self.told = Some(sustained);
        self.told
    }

    /// Batches per second that the loop sustains, as told last.
    pub(crate) fn told(&self) -> Option<f64> {
        self.told
    }

    fn mean(&self) -> Span {
        let mut turns = self.ring;
        turns.sort_unstable_by_key(|turn| turn.cost());
        let usual = &turns[..TURNS - TURNS_LEFT_OUT];
        let sum = usual.iter().fold(Turn::default(), |sum, turn| Turn {
            busy: sum.busy + turn.busy,
            batches: sum.batches + turn.batches,
        });
        sum.cost().max(COST_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told over turns of one batch each, a millisecond apart.
    fn told(cost: &mut Cost, start_ms: u64, turns: u64, busy_us: impl Fn(u64) -> u64) -> Vec<f64> {
        let turn = |turn| {
            let now = Time(Span::from_millis(start_ms + turn).0);
            // A turn without a batch before each: its time counts too.
            assert_eq!(cost.turn(now, Span::from_micros(1), 0), None);
            cost.turn(now, Span::from_micros(busy_us(turn)), 1)
        };
        (0..turns).filter_map(turn).map(f64::round).collect()
    }

    #[test]
    fn a_batch_costs_the_busy_time_per_batch() {
        let mut cost = Cost::new();
        assert_eq!(told(&mut cost, 0, 255, |_| 19), [], "too few to tell");
        assert_eq!(told(&mut cost, 255, 5000, |_| 19), [50_000.0], "told once, as it stays so");
        assert_eq!(told(&mut cost, 5255, 5000, |_| 20), [], "no change to speak of");
        assert_eq!(told(&mut cost, 10_255, 5000, |_| 39).last(), Some(&25_000.0));
    }

    #[test]
    fn interruptions_are_left_out_and_nothing_is_free() {
        let interrupted = |turn| if turn % 20 == 7 { 10_000 } else { 9 };
        assert_eq!(told(&mut Cost::new(), 0, 3000, interrupted), [100_000.0]);
        let mut idle = Cost::new();
        let sustained = (0..300).find_map(|_| idle.turn(Time::ZERO, Span::ZERO, 1));
        assert_eq!(sustained, Some(1e6));
    }

    #[test]
    fn turns_that_start_many_batches_share_their_time() {
        let mut cost = Cost::new();
        let sustained = (0..300).find_map(|_| cost.turn(Time::ZERO, Span::from_micros(40), 10));
        assert_eq!(sustained.map(f64::round), Some(250_000.0));
    }
}
