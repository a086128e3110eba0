//! A pool under simulated time: the scheduler of the live system, with modelled accelerators,
//! network and clocks, and rival schedulers beside it.
//!
//! The simulator drives a [`Policy`](symphony_core::sched::Policy) exactly as the live loop
//! does. Equal times are ordered by a sequence number, and all chance comes from one pinned
//! generator, so a run replays exactly, on every machine.

pub mod baseline;
pub mod bound;
mod drift;
pub mod goodput;
mod mix;
mod policy;
mod random_case;
mod report;
mod scenario;
mod simulation;
mod split;

pub use drift::{Change, Drift};
pub use mix::{Mix, Tight};
pub use policy::{PolicyKind, PolicyNameError};
pub use random_case::{RandomCase, RandomModel};
pub use report::{ModelReport, Report, Share};
pub use scenario::{ClockError, Delay, Network, Scenario, SimModel};
pub use simulation::{Contender, Observed, run, run_observed};
pub use split::{MESSAGE_MAX, Split, SplitScheduler};
