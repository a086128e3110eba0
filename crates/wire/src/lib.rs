//! What frontend, scheduler and backend say to each other, and the in-process carriers for it.
//!
//! - [`tensor`]: data types, signatures, tensors as raw little-endian bytes.
//! - [`inflight`]: the table of admitted requests: who takes an entry out owes it its one outcome.
//! - [`schedule`]: messages into the scheduler, batch plans out of it.
//! - [`catalog`]: the snapshot of what is served that every frontend reads.
//! - [`repository`]: requests to load and unload models.
//! - [`clock`]: the process's one monotonic clock.
//!
//! The crate knows no protocol and no engine, and of scheduling rules only their names.

pub mod catalog;
pub mod clock;
pub mod inflight;
pub mod repository;
pub mod schedule;
pub mod tensor;
