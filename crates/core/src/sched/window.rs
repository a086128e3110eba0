//! The deferral rules: from when to when a candidate's batch may be sent, and below which size heads
//! are dropped.
//!
//! In: what a queue looks like, what was measured, and the plan. Out: a window, a drop target. Knows
//! no queues and no accelerators.
//!
//! Source of the window and of the window drop: *Symphony: Optimized DNN Model Serving using
//! Deferred Batch Scheduling*, arXiv 2308.07470, restated in `docs/scheduling.md`.

use super::margins::Margins;
use super::message::ModelPlan;
use super::mode::Mode;
use super::timing::Timing;
use crate::slowdown::Slowdown;
use crate::time::{Span, Time};

/// When the batch of a candidate may be sent to an accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SendWindow {
    /// From here on.
    pub(crate) exec: Time,
    /// From here on it may take any accelerator, also one that its level leaves to others.
    pub(crate) urgent: Time,
    /// Until here, inclusive.
    pub(crate) latest: Time,
}

/// What the rules have to know of a model's queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook {
    /// When the oldest request arrived.
    pub(crate) arrival: Time,
    /// When execution should have ended: when the first request is due, less what follows execution.
    pub(crate) due: Time,
    /// When execution has to have ended; later than `due` where the objective is soft.
    pub(crate) limit: Time,
    /// Rows in the batch, which meets `limit`.
    pub(crate) rows: u32,
    /// Rows of the next request, which does not fit this batch; `None` when none is queued.
    pub(crate) next: Option<u32>,
    /// The batch is everything that is queued, of both classes.
    pub(crate) together: bool,
    /// Low requests wait to fill a batch that has enough high ones.
    pub(crate) low_waits: bool,
    /// Rows of a typical request, at least one.
    pub(crate) request_rows: u32,
    /// Measured arrivals of rows that join a waiting request.
    pub(crate) companions_per_ns: f64,
    /// The margins that the batch was fitted with.
    pub(crate) margins: Margins,
}

/// When the candidate's batch may be sent.
#[inline]
pub(crate) fn send_window(
    mode: Mode,
    timing: &Timing<'_>,
    now: Time,
    outlook: &Outlook,
    plan: &ModelPlan,
) -> SendWindow {
    let timing = &Timing { margins: outlook.margins, ..*timing };
    let latest = timing.latest_start(outlook.limit, outlook.rows).max(now);
    let exec = match mode {
        Mode::Eager => now,
        Mode::Adaptive if !plan.is_overloaded => {
            adaptive_exec(timing, now, outlook, plan).clamp(now, latest)
        }
        Mode::Adaptive | Mode::Consolidate => {
            deferred_exec(timing, now, outlook, timing.margins.defer).clamp(now, latest)
        }
    };
    let urgent = match mode {
        // The lowest level may take any accelerator at any time.
        Mode::Adaptive if plan.level > 0 => {
            let grown = frontrun(timing, outlook, timing.margins.defer);
            grown.min(latest - plan.urgency).clamp(exec, latest)
        }
        Mode::Adaptive | Mode::Consolidate | Mode::Eager => exec,
    };
    SendWindow { exec, urgent, latest }
}

/// The batch below which a head is dropped for the sake of the requests behind it; zero when the mode
/// drops only what is hopeless.
///
/// It is the largest `b` whose requests gather, at the measured rate, in the time that its execution
/// leaves: `l(b) + b/r <= budget`. (The paper writes `l(b) * (1 + 1/n)` with `n = r * l(b) / b`
/// accelerators in use; the two are the same.) `budget` is what the head had from its arrival to its
/// deadline, less what follows execution: a head that came with little time never had room for the
/// batches that others reach, and is not held to them.
#[inline]
pub(crate) fn drop_target(mode: Mode, timing: &Timing<'_>, budget: Span, rows_per_ns: f64) -> u32 {
    if mode == Mode::Eager {
        return 0;
    }
    timing.gathered(budget, rows_per_ns)
}

/// The last moment to send one request more than there is: from here on waiting can no longer make
/// the batch larger.
#[inline]
fn frontrun(timing: &Timing<'_>, outlook: &Outlook, margin: Slowdown) -> Time {
    let grown = outlook.rows.saturating_add(outlook.request_rows);
    timing.latest_wait(outlook.due, grown, margin) - timing.delays.jitter
}

/// From when on waiting costs more than it gains at the measured load.
#[inline]
fn adaptive_exec(timing: &Timing<'_>, now: Time, outlook: &Outlook, plan: &ModelPlan) -> Time {
    if outlook.rows >= plan.threshold {
        return now;
    }
    let early = deferred_exec(timing, now, outlook, timing.margins.wait) - plan.early_start;
    early.min(outlook.arrival + plan.wait_max) - plan.credit
}

/// From when on waiting can no longer make the batch larger, or gains nothing.
#[inline]
fn deferred_exec(timing: &Timing<'_>, now: Time, outlook: &Outlook, margin: Slowdown) -> Time {
    let full = outlook.next.is_some() || outlook.low_waits;
    if full || !timing.profile.cheaper_beyond(outlook.rows) {
        return now;
    }
    let frontrun = frontrun(timing, outlook, margin);
    let companions = frontrun.since(outlook.arrival).0 as f64 * outlook.companions_per_ns;
    // Fewer than one request in all the time that the oldest can wait: it would wait alone.
    if companions < f64::from(outlook.request_rows) { now } else { frontrun }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;
    use crate::request::Delays;

    const NO_DELAYS: Delays =
        Delays { control: Span::ZERO, data: Span::ZERO, response: Span::ZERO, jitter: Span::ZERO };

    fn no_plan() -> ModelPlan {
        ModelPlan { price: 0.0, ..ModelPlan::default() }
    }

    fn ms(ms: f64) -> Span {
        Span::from_millis_f64(ms)
    }

    fn at(t: f64) -> Time {
        Time(ms(t).0)
    }

    fn batching() -> Profile {
        Profile::linear(ms(1.0), ms(5.0), 64).unwrap()
    }

    fn outlook(rows: u32) -> Outlook {
        Outlook {
            arrival: at(0.0),
            due: at(12.0),
            limit: at(12.0),
            rows,
            next: None,
            together: false,
            low_waits: false,
            request_rows: 1,
            companions_per_ns: 1e-6,
            margins: Margins::NONE,
        }
    }

    #[test]
    fn the_window_opens_when_the_batch_cannot_grow_and_closes_when_it_would_be_late() {
        let profile = batching();
        let window = |mode, delays| {
            let timing = Timing { profile: &profile, delays, margins: Margins::NONE };
            send_window(mode, &timing, at(0.0), &outlook(1), &no_plan())
        };
        let opens =
            |exec, latest| SendWindow { exec: at(exec), urgent: at(exec), latest: at(latest) };
        assert_eq!(window(Mode::Consolidate, NO_DELAYS), opens(5.0, 6.0));
        let delays = Delays { control: ms(0.5), data: ms(0.25), ..NO_DELAYS };
        assert_eq!(window(Mode::Consolidate, delays), opens(4.0, 5.25));
        let delays = Delays { jitter: ms(0.5), ..NO_DELAYS };
        assert_eq!(window(Mode::Consolidate, delays), opens(4.5, 6.0), "a late timer is in time");
        assert_eq!(window(Mode::Eager, NO_DELAYS), opens(0.0, 6.0));
    }

    #[test]
    fn an_adaptive_batch_waits_for_what_the_load_asks() {
        let profile = batching();
        let plan = ModelPlan { threshold: 3, wait_max: ms(20.0), level: 1, ..no_plan() };
        let window = |plan: &ModelPlan, rows| {
            let timing = Timing { profile: &profile, delays: NO_DELAYS, margins: Margins::NONE };
            send_window(Mode::Adaptive, &timing, at(0.0), &outlook(rows), plan)
        };
        let waits = SendWindow { exec: at(5.0), urgent: at(5.0), latest: at(6.0) };
        assert_eq!(window(&plan, 1), waits);
        assert_eq!(window(&ModelPlan { early_start: ms(2.0), ..plan }, 1).exec, at(3.0));
        assert_eq!(window(&ModelPlan { early_start: Span::MAX, ..plan }, 1).exec, at(0.0));
        assert_eq!(window(&ModelPlan { credit: ms(1.0), ..plan }, 1).exec, at(4.0));
        assert_eq!(window(&ModelPlan { wait_max: ms(4.0), ..plan }, 1).exec, at(4.0));
        let enough = SendWindow { exec: at(0.0), urgent: at(3.0), latest: at(4.0) };
        assert_eq!(window(&plan, 3), enough, "and others may keep an accelerator from it");
        let early = window(&ModelPlan { urgency: ms(1.5), ..plan }, 3);
        let urgent = SendWindow { urgent: at(2.5), ..enough };
        assert_eq!(early, urgent, "until one may not become free in time");
        let lowest = window(&ModelPlan { level: 0, ..plan }, 3);
        assert_eq!(lowest, SendWindow { urgent: at(0.0), ..enough }, "nobody keeps one from it");
    }

    #[test]
    fn a_late_batch_of_best_effort_starts_at_once_and_its_window_stays_open() {
        let profile = batching();
        let timing = Timing { profile: &profile, delays: NO_DELAYS, margins: Margins::NONE };
        let outlook = Outlook { limit: at(500.0), ..outlook(1) };
        let window = |now| send_window(Mode::Consolidate, &timing, at(now), &outlook, &no_plan());
        let opens = |exec| SendWindow { exec: at(exec), urgent: at(exec), latest: at(494.0) };
        assert_eq!((window(0.0), window(100.0)), (opens(5.0), opens(100.0)));
    }

    #[test]
    fn no_waiting_where_it_gains_nothing() {
        let exec = |profile: &Profile, outlook: &Outlook| {
            let timing = Timing { profile, delays: NO_DELAYS, margins: Margins::NONE };
            send_window(Mode::Consolidate, &timing, at(1.0), outlook, &no_plan()).exec
        };
        let flat = Profile::linear(ms(3.0), Span::ZERO, 64).unwrap();
        assert_eq!(exec(&flat, &outlook(1)), at(1.0), "no row gets cheaper");
        let rare = Outlook { companions_per_ns: 1e-9, ..outlook(1) };
        assert_eq!(exec(&batching(), &rare), at(1.0), "no companion to expect");
        let large = Outlook { request_rows: 4, companions_per_ns: 0.9e-6, ..outlook(1) };
        assert_eq!(exec(&batching(), &large), at(1.0), "1.8 rows in 2 ms are no request of four");
        let large = Outlook { request_rows: 2, ..outlook(1) };
        assert_eq!(exec(&batching(), &large), at(4.0), "past it no request of two rows fits");
        let full = Outlook { next: Some(1), ..outlook(3) };
        assert_eq!(exec(&batching(), &full), at(1.0), "the next request does not fit");
        assert_eq!(exec(&batching(), &outlook(1)), at(5.0));
    }

    #[test]
    fn the_drop_target_is_the_largest_batch_that_gathers_in_time() {
        let profile = batching();
        let timing = Timing { profile: &profile, delays: NO_DELAYS, margins: Margins::NONE };
        assert_eq!(drop_target(Mode::Consolidate, &timing, ms(25.0), 1e-6), 10, "10 + 5 + 10/1");
        assert_eq!(drop_target(Mode::Adaptive, &timing, ms(25.0), 1e-6), 10);
        assert_eq!(drop_target(Mode::Eager, &timing, ms(25.0), 1e-6), 0);
    }
}
