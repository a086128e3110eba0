//! The policies by name: the rules of our own scheduler, and its rivals.

use crate::baseline::{
    Clockwork, Fixed, FixedKnobs, Nexus, Orloj, Shepherd, Waiting, When, percentiles,
};
use crate::delay::{P95_SIGMAS, P99_SIGMAS};
use crate::lanes::{self, LaneRule};
use crate::{Contender, Scenario, SplitScheduler};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use symphony_core::sched::{Actions, Event, Mode, Policy, Scheduler};
use symphony_core::{BatchId, Span, Time};

/// Which scheduler to simulate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PolicyKind {
    /// Our own rule: full deferral with window drop.
    Consolidate,
    /// Our own rule: the largest feasible batch whenever an accelerator is free.
    Eager,
    /// Our own rule: as little waiting as the load allows.
    Adaptive,
    /// Our own scheduler, with another rule for requests of different sizes.
    Sized {
        /// How the scheduler schedules.
        mode: Mode,
        /// How requests are dealt to lanes.
        lanes: LaneRule,
    },
    /// Waits until the oldest request has waited this long or this many rows are queued.
    Timeout {
        /// The time-out.
        delay: Span,
        /// The number of rows that start a batch; 0 for none.
        preferred: u32,
    },
    /// Waits for this many rows, but no longer than waiting can make the batch bigger.
    Target {
        /// The number of rows.
        rows: u32,
    },
    /// Waits until the batch can no longer grow. Drops only requests that are hopeless.
    Frontrun,
    /// Waits until the batch must start.
    Latest,
    /// Starts and drops by fixed knobs.
    Fixed(FixedKnobs),
    /// Plans ahead, in the order of the latest start of all models' batches.
    Clockwork,
    /// Squishy bin packing. Each accelerator has its own queues.
    Nexus,
    /// The largest batch over all models, with preemption.
    Shepherd,
    /// Batches by the expected cost of delay, from distributions of execution times.
    Orloj {
        /// Requests with at least this chance to be in time come first, in percent.
        sure: u32,
    },
}

/// A name that is not a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown policy `{name}`: use consolidate, adaptive, eager, timeout:MS (or timeout:MS:ROWS), \
     target:ROWS, frontrun, latest, fixed:MARGIN:TARGET:ROWS, clockwork, nexus, shepherd or orloj \
     (or orloj:PERCENT); for models with sizes also a mode with /padded, /equal, /buckets or \
     /borders:S:S:...: requests padded to the bound, only equal ones together, buckets as \
     BucketServe's, fixed borders"
)]
pub struct PolicyNameError {
    /// The name that was given.
    pub name: String,
}

impl PolicyKind {
    /// Builds the policy. `rates` are the mean requests per second of each model, for policies that
    /// plan ahead from known rates.
    #[must_use]
    pub fn build(self, scenario: &Scenario, rates: &[f64]) -> Box<dyn Contender> {
        let n = scenario.accelerators;
        let waiting = |when| {
            // What starts at the last moment must be sure of its time.
            let sigmas = match when {
                When::Timeout { .. } | When::Target { .. } => P95_SIGMAS,
                When::Frontrun | When::Latest => P99_SIGMAS,
            };
            Box::new(Waiting::new(when, percentiles(scenario, sigmas), n))
        };
        match self {
            PolicyKind::Consolidate => own(Mode::Consolidate, scenario),
            PolicyKind::Eager => own(Mode::Eager, scenario),
            PolicyKind::Adaptive => own(Mode::Adaptive, scenario),
            PolicyKind::Sized { mode, lanes } => {
                Box::new(WithLanes { policy: own(mode, scenario), lanes })
            }
            PolicyKind::Timeout { delay, preferred } => waiting(When::Timeout { delay, preferred }),
            PolicyKind::Target { rows } => waiting(When::Target { rows }),
            PolicyKind::Frontrun => waiting(When::Frontrun),
            PolicyKind::Latest => waiting(When::Latest),
            PolicyKind::Fixed(knobs) => Box::new(Fixed::new(knobs, scenario)),
            PolicyKind::Clockwork => Box::new(Clockwork::new(n)),
            PolicyKind::Nexus => Box::new(Nexus::new(scenario, rates)),
            PolicyKind::Shepherd => Box::new(Shepherd::new(percentiles(scenario, P95_SIGMAS), n)),
            PolicyKind::Orloj { sure } => Box::new(Orloj::new(sure, n)),
        }
    }
}

/// The seed of the delays between the parties of a split scheduler. It is the same for every run,
/// because the delays meet other requests in each.
const MESSAGES_SEED: u64 = 0;

/// Our own scheduler, whole or split.
fn own(mode: Mode, scenario: &Scenario) -> Box<dyn Contender> {
    let (n, share) = (scenario.accelerators, scenario.low_priority_share);
    let fixed = !scenario.adapt_profile;
    let Some(split) = scenario.split else {
        let scheduler = Scheduler::new(mode, n).with_low_share(share);
        return Box::new(if fixed { scheduler.with_fixed_profiles() } else { scheduler });
    };
    let scheduler = SplitScheduler::new(mode, n, split, MESSAGES_SEED).with_low_share(share);
    Box::new(if fixed { scheduler.with_fixed_profiles() } else { scheduler })
}

/// A policy with another rule for lanes than its own.
struct WithLanes {
    policy: Box<dyn Contender>,
    lanes: LaneRule,
}

impl Policy for WithLanes {
    fn on_event(&mut self, now: Time, event: Event, todo: &mut Actions) {
        self.policy.on_event(now, event, todo);
    }

    fn settle(&mut self, now: Time, todo: &mut Actions) {
        self.policy.settle(now, todo);
    }

    fn next_wake(&self) -> Option<Time> {
        self.policy.next_wake()
    }
}

impl Contender for WithLanes {
    fn preempt(&mut self, stopped: &mut Vec<BatchId>) {
        self.policy.preempt(stopped);
    }

    fn lanes(&self) -> LaneRule {
        self.lanes
    }

    fn follows(&self) -> bool {
        self.policy.follows()
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyKind::Consolidate => f.write_str("consolidate"),
            PolicyKind::Eager => f.write_str("eager"),
            PolicyKind::Adaptive => f.write_str("adaptive"),
            PolicyKind::Sized { mode, lanes } => write!(f, "{}/{lanes}", mode.name()),
            PolicyKind::Timeout { delay, preferred: 0 } => {
                write!(f, "timeout:{}", delay.as_millis_f64())
            }
            PolicyKind::Timeout { delay, preferred } => {
                write!(f, "timeout:{}:{preferred}", delay.as_millis_f64())
            }
            PolicyKind::Target { rows } => write!(f, "target:{rows}"),
            PolicyKind::Frontrun => f.write_str("frontrun"),
            PolicyKind::Latest => f.write_str("latest"),
            PolicyKind::Fixed(FixedKnobs { margin, target, rows }) => {
                write!(f, "fixed:{margin}:{target}:{rows}")
            }
            PolicyKind::Clockwork => f.write_str("clockwork"),
            PolicyKind::Nexus => f.write_str("nexus"),
            PolicyKind::Shepherd => f.write_str("shepherd"),
            PolicyKind::Orloj { sure: 0 } => f.write_str("orloj"),
            PolicyKind::Orloj { sure } => write!(f, "orloj:{sure}"),
        }
    }
}

impl FromStr for PolicyKind {
    type Err = PolicyNameError;

    fn from_str(name: &str) -> Result<PolicyKind, PolicyNameError> {
        parse(name).ok_or_else(|| PolicyNameError { name: name.to_owned() })
    }
}

/// The margins that the fixed rule takes.
const MARGINS: RangeInclusive<f64> = 0.5..=10.0;

fn parse(name: &str) -> Option<PolicyKind> {
    if let Some((mode, lanes)) = name.trim().split_once('/') {
        return Some(PolicyKind::Sized { mode: mode.parse().ok()?, lanes: lanes::parse(lanes)? });
    }
    let mut parts = name.trim().split(':');
    let (name, first, second, third) = (parts.next()?, parts.next(), parts.next(), parts.next());
    let rows = |text: &str| text.parse::<u32>().ok().filter(|rows| *rows > 0);
    let delay = |text: &str| {
        let ms = text.parse::<f64>().ok().filter(|ms| (0.0..=1e9).contains(ms))?;
        Some(Span::from_millis_f64(ms))
    };
    if parts.next().is_some() {
        return None;
    }
    if let ("fixed", Some(margin), Some(target), Some(start)) = (name, first, second, third) {
        let margin = margin.parse::<f64>().ok().filter(|margin| MARGINS.contains(margin))?;
        let (target, rows) = (rows(target)?, rows(start)?);
        return Some(PolicyKind::Fixed(FixedKnobs { margin, target, rows }));
    }
    if third.is_some() {
        return None;
    }
    Some(match (name, first, second) {
        ("consolidate", None, None) => PolicyKind::Consolidate,
        ("eager", None, None) => PolicyKind::Eager,
        ("adaptive", None, None) => PolicyKind::Adaptive,
        ("timeout", Some(ms), None) => PolicyKind::Timeout { delay: delay(ms)?, preferred: 0 },
        ("timeout", Some(ms), Some(preferred)) => {
            PolicyKind::Timeout { delay: delay(ms)?, preferred: rows(preferred)? }
        }
        ("target", Some(text), None) => PolicyKind::Target { rows: rows(text)? },
        ("frontrun", None, None) => PolicyKind::Frontrun,
        ("latest", None, None) => PolicyKind::Latest,
        ("clockwork", None, None) => PolicyKind::Clockwork,
        ("nexus", None, None) => PolicyKind::Nexus,
        ("shepherd", None, None) => PolicyKind::Shepherd,
        ("orloj", None, None) => PolicyKind::Orloj { sure: 0 },
        ("orloj", Some(sure), None) => {
            PolicyKind::Orloj { sure: rows(sure).filter(|sure| *sure < 100)? }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for name in [
            "consolidate",
            "eager",
            "adaptive",
            "timeout:2.5",
            "timeout:2:8",
            "target:4",
            "frontrun",
            "latest",
            "fixed:1.15:12:8",
            "clockwork",
            "nexus",
            "shepherd",
            "orloj",
            "orloj:95",
            "adaptive/padded",
            "consolidate/equal",
            "eager/buckets",
            "adaptive/borders:64:128",
        ] {
            assert_eq!(name.parse::<PolicyKind>().unwrap().to_string(), name);
        }
        for name in [
            "",
            "eagre",
            "timeout",
            "timeout:-1",
            "timeout:nan",
            "target:0",
            "target:1:2:3",
            "orloj:100",
            "fixed:1.1:8",
            "fixed:0.4:8:8",
            "fixed:nan:8:8",
            "fixed:1:0:8",
            "fixed:1:8:8:8",
            "nexus:1",
            "nexus/equal",
            "adaptive/borders:9:8",
        ] {
            let error = name.parse::<PolicyKind>().unwrap_err();
            assert!(error.to_string().contains("use consolidate, adaptive, eager"), "{error}");
        }
    }
}
