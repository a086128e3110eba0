//! How long batches of one model take and what surrounds their execution, as planned at one moment:
//! which batch meets a deadline, and which gathers in time.
//!
//! In: a profile and delays, as values. Out: batch sizes and start times. Knows no queues and no
//! rules.

use super::margins::Margins;
use crate::profile::Profile;
use crate::request::{Delays, Request};
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};

/// Execution times and delays as they are planned at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing<'a> {
    /// Execution times, at the slowdown that counts here.
    pub(crate) profile: &'a Profile,
    /// The delays that are still ahead.
    pub(crate) delays: Delays,
    /// How much more than the mean counts for being in time.
    pub(crate) margins: Margins,
}

impl Timing<'_> {
    /// How long a batch is counted to run at most, with this margin.
    #[inline]
    pub(crate) fn longest(&self, rows: u32, margin: Slowdown) -> Span {
        margin.stretch(self.profile.exec(rows))
    }

    /// How long a batch occupies an accelerator and the way of its inputs.
    #[inline]
    pub(crate) fn busy(&self, rows: u32) -> Span {
        self.profile.exec(rows) + self.delays.data.times(u64::from(rows))
    }

    /// The last moment to send a batch of `rows` rows that has to end by `due`.
    #[inline]
    pub(crate) fn latest_start(&self, due: Time, rows: u32) -> Time {
        due - self.longest(rows, self.margins.row) - self.delays.lead(rows)
    }

    /// The last moment until which a batch may wait that then has `rows` rows, with this margin.
    #[inline]
    pub(crate) fn latest_wait(&self, due: Time, rows: u32, margin: Slowdown) -> Time {
        due - self.longest(rows, margin) - self.delays.lead(rows)
    }

    /// The largest batch of at most `most` rows that, decided at `now` for an accelerator that is
    /// free from `free` on, ends by `due`.
    ///
    /// With inputs that take time to fetch, a larger batch also starts later. Execution and lead both
    /// grow with the batch, so if a batch fits, every smaller one does.
    #[inline]
    pub(crate) fn rows_in_time(&self, now: Time, free: Time, due: Time, most: u32) -> u32 {
        let Timing { profile, delays, margins } = self;
        let longest = |rows| self.longest(rows, margins.row);
        let in_time = |rows| free.max(now + delays.lead(rows)) + longest(rows) <= due;
        // Mostly everything that is queued fits.
        if most <= profile.rows_max() && in_time(most) {
            return most;
        }
        let left = due.since(free.max(now + delays.control));
        let fits = profile.rows_within(margins.row.shrink(left)).min(most);
        if delays.data == Span::ZERO {
            return fits;
        }
        largest(0, fits, in_time)
    }

    /// Whether a request could meet its deadline alone, started at `now`.
    #[inline]
    pub(crate) fn meets_alone(&self, now: Time, request: &Request) -> bool {
        let due = request.deadline - self.delays.response;
        let lucky = Timing { margins: self.margins.lucky(), ..*self };
        lucky.rows_in_time(now, now, due, request.rows) >= request.rows
    }

    /// The largest batch whose rows gather, at this rate, in the time that its execution leaves of
    /// the budget.
    pub(crate) fn gathered(&self, budget: Span, rows_per_ns: f64) -> u32 {
        if rows_per_ns <= 0.0 {
            return 0;
        }
        let budget = budget.saturating_sub(self.delays.control);
        largest(0, self.profile.rows_within(budget), |rows| {
            let busy = self.busy(rows);
            let gathering = f64::from(rows) / rows_per_ns;
            gathering <= budget.saturating_sub(busy).0 as f64 && busy <= budget
        })
    }
}

/// The largest number from `lowest` to `highest` that `fits`, where every smaller one does as well;
/// `lowest` is taken to fit.
pub(crate) fn largest(mut lowest: u32, mut highest: u32, fits: impl Fn(u32) -> bool) -> u32 {
    while lowest < highest {
        let middle = lowest + (highest - lowest).div_ceil(2);
        if fits(middle) {
            lowest = middle;
        } else {
            highest = middle - 1;
        }
    }
    lowest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: f64) -> Span {
        Span::from_millis_f64(ms)
    }

    fn at(t: f64) -> Time {
        Time(ms(t).0)
    }

    #[test]
    fn rows_in_time_counts_leads_and_the_accelerator() {
        let profile = Profile::linear(ms(1.0), ms(5.0), 64).unwrap();
        let none = Delays::default();
        let rows = |delays: Delays, free: f64| {
            Timing { profile: &profile, delays, margins: Margins::NONE }.rows_in_time(
                at(0.0),
                at(free),
                at(12.0),
                u32::MAX,
            )
        };
        assert_eq!(rows(none, 0.0), 7);
        assert_eq!(rows(none, 2.0), 5);
        assert_eq!(rows(Delays { data: ms(0.5), ..none }, 0.0), 4, "4*0.5 + 4 + 5 <= 12");
        assert_eq!(rows(Delays { data: ms(0.5), ..none }, 2.0), 4);
        assert_eq!(rows(Delays { control: ms(8.0), ..none }, 0.0), 0);
    }

    #[test]
    fn the_more_times_vary_the_fewer_rows_are_sure_to_be_in_time() {
        let profile = Profile::linear(ms(1.0), ms(5.0), 64).unwrap();
        let timing = |spread| {
            let margins = Margins::new(spread, 1.0);
            Timing { profile: &profile, delays: Delays::default(), margins }
        };
        let rows = |spread| timing(spread).rows_in_time(at(0.0), at(0.0), at(12.0), u32::MAX);
        assert_eq!([0.0, 0.1, 0.2].map(rows), [7, 5, 4]);
        let (certain, varying) = (timing(0.0), timing(0.1));
        let waits = |timing: &Timing<'_>| timing.latest_wait(at(12.0), 4, timing.margins.wait);
        assert_eq!(waits(&certain), certain.latest_start(at(12.0), 4));
        assert!(waits(&varying) < varying.latest_start(at(12.0), 4));
        let request = |due| Request {
            id: crate::ids::RequestId::only(1),
            arrival: at(0.0),
            deadline: at(due),
            rows: 1,
            class: crate::request::Class::High,
        };
        let meets = |timing: &Timing<'_>, due| timing.meets_alone(at(0.0), &request(due));
        assert!(!meets(&certain, 5.9) && meets(&varying, 5.9), "with luck");
        assert!(!meets(&varying, 5.0));
    }

    #[test]
    fn a_batch_gathers_in_the_time_that_its_execution_leaves() {
        let profile = Profile::linear(ms(1.0), ms(5.0), 64).unwrap();
        let gathered = |data: f64, rows_per_s: f64| {
            let delays = Delays { data: ms(data), ..Delays::default() };
            Timing { profile: &profile, delays, margins: Margins::NONE }
                .gathered(ms(25.0), rows_per_s / 1e9)
        };
        assert_eq!(gathered(0.0, 0.0), 0);
        assert_eq!(gathered(0.0, 1000.0), 10, "10 + 5 + 10/1");
        assert_eq!(gathered(1.0, 1000.0), 6, "6 + 5 + 6 + 6/1");
        assert_eq!(gathered(0.0, 1e9), 19, "19 + 5 + almost nothing");
    }
}
