//! A pool under simulated time: the scheduler of the live system, with modelled accelerators.
//!
//! The simulator drives a [`Policy`](symphony_core::sched::Policy) exactly as the live loop
//! does. Equal times are ordered by a sequence number, so a run replays exactly.

pub mod bound;
pub mod goodput;
mod report;
mod simulation;

pub use report::{ModelReport, Report};
pub use simulation::{Scenario, run, run_observed};
