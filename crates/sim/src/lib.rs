//! A pool in simulated time: the scheduler of the live system and rival schedulers, with models of
//! the accelerators, the network and the clocks.
//!
//! The simulator drives a [`Policy`](symphony_core::sched::Policy) exactly as the live loop does. A
//! sequence number orders equal times, and all random numbers come from one pinned generator, so a
//! run replays exactly on every machine.

pub mod baseline;
pub mod bound;
mod contender;
mod delay;
mod drift;
pub mod faults;
pub mod goodput;
mod knobs;
mod lanes;
mod mix;
mod noise;
mod policy;
mod random_case;
mod report;
mod scenario;
mod simulation;
mod sizes;
mod split;

pub use contender::Contender;
pub use delay::Delay;
pub use drift::{Change, Drift};
pub use knobs::{FoundKnobs, KnobSearch};
pub use lanes::{FixedBorders, LaneRule};
pub use mix::{Mix, Tight};
pub use noise::{Bimodal, Noise, Spells, Strikes, Tail};
pub use policy::{PolicyKind, PolicyNameError};
pub use random_case::{RandomCase, RandomModel};
pub use report::{ModelReport, Report, RequestCounts};
pub use scenario::{ClockError, Network, Scenario, SimModel};
pub use simulation::{Observed, run, run_observed};
pub use sizes::{DrawnSizes, Sizes};
pub use split::{MESSAGE_MAX, Split, SplitScheduler};
