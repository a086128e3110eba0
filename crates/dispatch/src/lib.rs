//! The live scheduler: drives the decisions of `symphony-core` with the real clock.
//!
//! [`Loop`] is the scheduler's thread without the thread: messages and the time go in, batch
//! plans and outcomes go out, so that a test can drive it under a clock of its own. [`spawn`]
//! puts it on a thread. It knows no protocol and no engine.

mod cost;
mod measure;
mod paces;
mod run;
#[cfg(test)]
mod tests;

pub use run::{Loop, spawn};
