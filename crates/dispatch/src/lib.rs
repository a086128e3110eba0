//! The live scheduler: drives the decisions of `symphony-core` with the real clock.
//!
//! Shards own models, one matcher owns the accelerators; on one thread together or on threads of
//! their own they are the same parties that say the same to each other ([`threads`], [`spawn`]).
//! It knows no protocol and no engine.

mod between;
mod cost;
mod effects;
mod matcher;
mod measure;
mod shard;
mod slowdowns;
mod thread;

pub use effects::{Effects, InFlightEffects};
pub use thread::{Settings, Thread, Turn, spawn, threads};
