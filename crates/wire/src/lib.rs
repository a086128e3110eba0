//! What frontends, the scheduler and the accelerators' backends say to each other, and how it is
//! carried.
//!
//! - [`message`]: the messages. They are values that could travel as bytes: they know no thread, no
//!   lock and no clock, and times in them are spans.
//! - [`lanes`]: the lanes of a served model, as frontends and its owner share them.
//! - [`codec`]: messages as bytes.
//! - [`carrier`]: the ways that messages take, between the threads of one process and between processes.
//! - [`tensor`]: data types, signatures, tensors as raw little-endian bytes.
//! - [`clock`]: the process's one monotonic clock.
//!
//! The crate knows no protocol and no engine, and of scheduling rules only their names.

pub mod carrier;
pub mod clock;
pub mod codec;
pub mod lanes;
pub mod message;
pub mod tensor;
