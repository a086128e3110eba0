//! When a batch may start, and which requests stand in its way: the deferral and drop rules.
//!
//! Source of the window and of the window drop: *Symphony: Optimized DNN Model Serving using
//! Deferred Batch Scheduling*, arXiv 2308.07470, restated in `docs/scheduling.md`.

use super::plan::ModelPlan;
use crate::profile::Profile;
use crate::request::Delays;
use crate::time::{Span, Time};
use std::str::FromStr;

/// Characters shown of a name that is no mode's.
const NAME_SHOWN_MAX: usize = 40;

/// How a pool schedules its models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Wait until a batch can no longer grow, unless waiting buys nothing; under overload keep
    /// the batches at the size that the measured rate allows (window drop).
    Consolidate,
    /// Wait no longer than the load asks for: batches grow with it, and with it the part of the
    /// accelerators that is used, up to full deferral past the peak.
    #[default]
    Adaptive,
    /// Start the largest batch that meets its deadline whenever an accelerator is free; drop
    /// only requests that cannot meet theirs even alone.
    Eager,
}

/// A name that is no mode's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no mode {0:?}: write \"adaptive\", \"consolidate\" or \"eager\"")]
pub struct UnknownMode(String);

impl Mode {
    /// Every mode, the usual one first.
    pub const ALL: [Mode; 3] = [Mode::Adaptive, Mode::Consolidate, Mode::Eager];

    /// What configurations, protocols and metrics call it: by what it is for.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Adaptive => "adaptive",
            Mode::Consolidate => "consolidate",
            Mode::Eager => "eager",
        }
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(name: &str) -> Result<Mode, UnknownMode> {
        let found = Mode::ALL.into_iter().find(|mode| mode.name() == name);
        // It may be anything that a client sent.
        found.ok_or_else(|| UnknownMode(name.chars().take(NAME_SHOWN_MAX).collect()))
    }
}

/// When the batch of a candidate may be sent to an accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// From here on.
    pub(crate) exec: Time,
    /// From here on it may be sent to an accelerator that others would rather keep free.
    pub(crate) urgent: Time,
    /// Until here, inclusive.
    pub(crate) latest: Time,
}

/// What the rules have to know of a model's queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook {
    /// When the oldest request arrived.
    pub(crate) arrival: Time,
    /// When execution has to have ended: the earliest deadline less what follows execution.
    pub(crate) due: Time,
    /// Rows in the largest batch that meets `due`.
    pub(crate) rows: u32,
    /// Rows of the next request, which does not fit this batch; none when none is queued.
    pub(crate) next: Option<u32>,
    /// The batch is everything that is queued, of both classes.
    pub(crate) together: bool,
    /// Low requests wait for the rest of a batch that has enough high ones.
    pub(crate) low_waits: bool,
    /// Rows that a typical request has, at least one.
    pub(crate) request_rows: u32,
    /// Measured arrivals of rows that join a waiting request.
    pub(crate) companions_per_ns: f64,
}

/// The largest batch of at most `most` rows that, decided at `now` for an accelerator free from
/// `free`, ends by `due`.
///
/// With inputs that take time to fetch, a larger batch also starts later; execution and lead
/// both grow with the batch, so the sizes that fit are a prefix.
pub(crate) fn rows_in_time(
    profile: &Profile,
    delays: &Delays,
    now: Time,
    free: Time,
    due: Time,
    most: u32,
) -> u32 {
    let in_time = |rows| free.max(now + delays.lead(rows)) + profile.exec(rows) <= due;
    // Mostly the question is whether everything that is queued fits, and it does.
    if most <= profile.rows_max() && in_time(most) {
        return most;
    }
    let fits = profile.rows_within(due.since(free.max(now + delays.control)));
    let (mut lowest, mut fits) = (0, fits.min(most));
    if delays.data == Span::ZERO {
        return fits;
    }
    while lowest < fits {
        let middle = lowest + (fits - lowest).div_ceil(2);
        if in_time(middle) {
            lowest = middle;
        } else {
            fits = middle - 1;
        }
    }
    lowest
}

impl Mode {
    /// When the candidate's batch may be sent.
    pub(crate) fn window(
        self,
        profile: &Profile,
        delays: &Delays,
        now: Time,
        outlook: &Outlook,
        plan: &ModelPlan,
    ) -> Window {
        let latest = send_time(profile, delays, outlook.due, outlook.rows).max(now);
        let exec = match self {
            Mode::Eager => now,
            Mode::Adaptive if !plan.is_overloaded => {
                adaptive_exec(profile, delays, now, outlook, plan).clamp(now, latest)
            }
            Mode::Adaptive | Mode::Consolidate => {
                deferred_exec(profile, delays, now, outlook).clamp(now, latest)
            }
        };
        let urgent = match self {
            Mode::Adaptive => {
                let grown = frontrun(profile, delays, outlook);
                grown.min(latest - plan.urgency).clamp(exec, latest)
            }
            Mode::Consolidate | Mode::Eager => exec,
        };
        Window { exec, urgent, latest }
    }

    /// The batch below which a head is dropped for the sake of those behind it; zero when the
    /// mode drops only what is hopeless.
    ///
    /// It is the largest `b` whose requests, at the measured rate, gather in the time that its
    /// execution leaves: `l(b) + b/r <= budget`. (The paper writes `l(b) * (1 + 1/n)` with
    /// `n = r * l(b) / b` accelerators in use; the two are the same.) `budget` is what the head
    /// had from its arrival to its deadline, less what follows execution: one that came with
    /// little of it never had room for the batches that others reach, and is not held to them.
    pub(crate) fn drop_target(
        self,
        profile: &Profile,
        delays: &Delays,
        budget: Span,
        rows_per_ns: f64,
    ) -> u32 {
        if self == Mode::Eager {
            return 0;
        }
        gathered(profile, delays, budget, rows_per_ns)
    }
}

/// The largest batch whose rows, at this rate, gather in the time that its execution leaves of
/// the budget.
pub(crate) fn gathered(profile: &Profile, delays: &Delays, budget: Span, rows_per_ns: f64) -> u32 {
    if rows_per_ns <= 0.0 {
        return 0;
    }
    let budget = budget.saturating_sub(delays.control);
    let (mut lowest, mut highest) = (0, profile.rows_within(budget));
    while lowest < highest {
        let middle = lowest + (highest - lowest).div_ceil(2);
        let busy = profile.exec(middle) + delays.data.times(u64::from(middle));
        let gathering = f64::from(middle) / rows_per_ns;
        if gathering <= budget.saturating_sub(busy).0 as f64 && busy <= budget {
            lowest = middle;
        } else {
            highest = middle - 1;
        }
    }
    lowest
}

/// The last moment to send a batch of `rows` rows.
fn send_time(profile: &Profile, delays: &Delays, due: Time, rows: u32) -> Time {
    due - profile.exec(rows) - delays.lead(rows)
}

/// The last moment to send one request more than there is: from here on waiting can no longer
/// make the batch bigger.
fn frontrun(profile: &Profile, delays: &Delays, outlook: &Outlook) -> Time {
    let grown = outlook.rows.saturating_add(outlook.request_rows);
    send_time(profile, delays, outlook.due, grown) - delays.jitter
}

/// From when on waiting costs more than it buys at the measured load.
fn adaptive_exec(
    profile: &Profile,
    delays: &Delays,
    now: Time,
    outlook: &Outlook,
    plan: &ModelPlan,
) -> Time {
    if outlook.rows >= plan.threshold {
        return now;
    }
    let early = deferred_exec(profile, delays, now, outlook) - plan.early_start;
    early.min(outlook.arrival + plan.wait_max) - plan.credit
}

/// From when on waiting can no longer make the batch bigger, or buys nothing.
fn deferred_exec(profile: &Profile, delays: &Delays, now: Time, outlook: &Outlook) -> Time {
    let full = outlook.next.is_some() || outlook.low_waits;
    if full || !profile.cheaper_beyond(outlook.rows) {
        return now;
    }
    let frontrun = frontrun(profile, delays, outlook);
    let companions = frontrun.since(outlook.arrival).0 as f64 * outlook.companions_per_ns;
    // Fewer than one request in the whole time the oldest one can wait: it would wait alone.
    if companions < f64::from(outlook.request_rows) { now } else { frontrun }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_DELAYS: Delays =
        Delays { control: Span::ZERO, data: Span::ZERO, response: Span::ZERO, jitter: Span::ZERO };

    const NO_PLAN: ModelPlan = ModelPlan {
        is_overloaded: false,
        target: 1,
        threshold: 1,
        early_start: Span::ZERO,
        wait_max: Span::ZERO,
        price: 0.0,
        level: 0,
        credit: Span::ZERO,
        urgency: Span::ZERO,
        need: None,
    };

    #[test]
    fn rules_have_names_and_other_names_are_refused() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        for (name, shown) in [("deferred", "\"deferred\""), ("", "\"\""), ("Eager", "\"Eager\"")] {
            let error = name.parse::<Mode>().unwrap_err().to_string();
            let expected = "write \"adaptive\", \"consolidate\" or \"eager\"";
            assert_eq!(error, format!("there is no mode {shown}: {expected}"));
        }
        assert!("x".repeat(1000).parse::<Mode>().unwrap_err().to_string().len() < 120);
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
            rows,
            next: None,
            together: false,
            low_waits: false,
            request_rows: 1,
            companions_per_ns: 1e-6,
        }
    }

    #[test]
    fn the_window_opens_when_the_batch_cannot_grow_and_closes_when_it_would_be_late() {
        let window =
            Mode::Consolidate.window(&batching(), &NO_DELAYS, at(0.0), &outlook(1), &NO_PLAN);
        assert_eq!(window, Window { exec: at(5.0), urgent: at(5.0), latest: at(6.0) });
        let delays = Delays { control: ms(0.5), data: ms(0.25), ..NO_DELAYS };
        let window = Mode::Consolidate.window(&batching(), &delays, at(0.0), &outlook(1), &NO_PLAN);
        assert_eq!(window, Window { exec: at(4.0), urgent: at(4.0), latest: at(5.25) });
        let delays = Delays { jitter: ms(0.5), ..NO_DELAYS };
        let window = Mode::Consolidate.window(&batching(), &delays, at(0.0), &outlook(1), &NO_PLAN);
        assert_eq!(
            window,
            Window { exec: at(4.5), urgent: at(4.5), latest: at(6.0) },
            "a late timer is in time"
        );
        let window = Mode::Eager.window(&batching(), &NO_DELAYS, at(0.0), &outlook(1), &NO_PLAN);
        assert_eq!(window, Window { exec: at(0.0), urgent: at(0.0), latest: at(6.0) });
    }

    #[test]
    fn an_adaptive_batch_waits_for_what_the_load_asks() {
        let plan = ModelPlan { threshold: 3, wait_max: ms(20.0), ..NO_PLAN };
        let window = |plan: &ModelPlan, rows| {
            Mode::Adaptive.window(&batching(), &NO_DELAYS, at(0.0), &outlook(rows), plan)
        };
        let waits = Window { exec: at(5.0), urgent: at(5.0), latest: at(6.0) };
        assert_eq!(window(&plan, 1), waits);
        assert_eq!(window(&ModelPlan { early_start: ms(2.0), ..plan }, 1).exec, at(3.0));
        assert_eq!(window(&ModelPlan { early_start: Span::MAX, ..plan }, 1).exec, at(0.0));
        assert_eq!(window(&ModelPlan { credit: ms(1.0), ..plan }, 1).exec, at(4.0));
        assert_eq!(window(&ModelPlan { wait_max: ms(4.0), ..plan }, 1).exec, at(4.0));
        let enough = Window { exec: at(0.0), urgent: at(3.0), latest: at(4.0) };
        assert_eq!(window(&plan, 3), enough, "and others may keep an accelerator from it");
        let noticed = window(&ModelPlan { urgency: ms(1.5), ..plan }, 3);
        assert_eq!(
            noticed,
            Window { urgent: at(2.5), ..enough },
            "until one may not free up in time"
        );
    }

    #[test]
    fn no_waiting_where_it_buys_nothing() {
        let exec = |profile: &Profile, outlook: &Outlook| {
            Mode::Consolidate.window(profile, &NO_DELAYS, at(1.0), outlook, &NO_PLAN).exec
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
        let target = |rows_per_s: f64| {
            Mode::Consolidate.drop_target(&batching(), &NO_DELAYS, ms(25.0), rows_per_s / 1e9)
        };
        assert_eq!(target(0.0), 0);
        assert_eq!(target(1000.0), 10, "10 + 5 + 10/1");
        assert_eq!(target(1e9), 19, "19 + 5 + almost nothing");
        assert_eq!(Mode::Eager.drop_target(&batching(), &NO_DELAYS, ms(25.0), 1e-6), 0);
    }

    #[test]
    fn rows_in_time_counts_leads_and_the_accelerator() {
        let rows = |delays: &Delays, free: f64| {
            rows_in_time(&batching(), delays, at(0.0), at(free), at(12.0), u32::MAX)
        };
        assert_eq!(rows(&NO_DELAYS, 0.0), 7);
        assert_eq!(rows(&NO_DELAYS, 2.0), 5);
        assert_eq!(rows(&Delays { data: ms(0.5), ..NO_DELAYS }, 0.0), 4, "4*0.5 + 4 + 5 <= 12");
        assert_eq!(rows(&Delays { data: ms(0.5), ..NO_DELAYS }, 2.0), 4);
        assert_eq!(rows(&Delays { control: ms(8.0), ..NO_DELAYS }, 0.0), 0);
    }
}
