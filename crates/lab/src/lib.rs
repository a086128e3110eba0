//! The lab: benchmarks of the live system and questions to the simulator.
//!
//! The `symphony` command offers what is here as its subcommands; a server needs none of it.
//! It drives the live system as its users do, over sockets or as a client in the same process, and
//! knows no configuration file of a server.

mod bench;
mod demo;
mod measured_model;
mod plot;
mod profile;
mod report;
mod simulate;

pub use bench::{BenchArgs, command as bench};
pub use demo::{DemoArgs, command as demo};
pub use profile::{ProfileArgs, command as profile};
pub use simulate::input::BadInput;
pub use simulate::{SimulateArgs, command as simulate};
