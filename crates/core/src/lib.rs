//! The deferred batch scheduler as a pure state machine.
//!
//! This crate decides and never acts. It has no I/O, clock, thread, socket, log or hash map: time is
//! an argument, events come in, actions go out. The live system (`symphony-dispatch`) and the simulator
//! (`symphony-sim`) are two drivers of the same code.
//!
//! [`sched`] holds the scheduler, and [`recovery`] what is done again after a process was lost; the
//! modules beside them hold the values that all crates share. The words are in `docs/glossary.md`.

pub mod ids;
pub mod lanes;
mod power;
pub mod profile;
pub mod recovery;
pub mod request;
pub mod sched;
pub mod sized_profile;
pub mod slowdown;
pub mod time;

pub use ids::{AcceleratorId, BatchId, ModelId, Origin, RequestId};
pub use profile::{Profile, ProfileError};
pub use request::{Class, Delays, DropReason, Objective, Request};
pub use sized_profile::{SizedProfile, SizedProfileError};
pub use slowdown::Slowdown;
pub use time::{Span, Time};
