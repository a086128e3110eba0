//! The live scheduler: drives the decisions of `symphony-core` with the real clock.
//!
//! Shards own models, and one matcher owns the accelerators. On one thread together or on threads
//! of their own, they are the same parties and exchange the same messages ([`threads`], [`spawn`]).
//! It knows no protocol and no engine.

mod between;
mod cost;
mod effects;
mod matcher;
mod measure;
mod settings;
mod shard;
mod slowdowns;
mod thread;
mod times;

pub use effects::{Effects, InFlightEffects};
pub use settings::Settings;
pub use thread::{Thread, Turn, spawn, threads};
