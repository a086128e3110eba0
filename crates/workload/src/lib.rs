//! Generates request streams for the simulator and for load generators. The same seed gives the
//! same requests on every machine.
//!
//! A [`Stream`] describes the requests of one model: the process of their arrivals ([`Process`]),
//! their rate ([`Stream::rate`]) and its changes ([`Schedule`]). [`Arrivals`] merges streams;
//! [`trace`] reads recorded arrivals instead. This crate knows nothing about schedulers.

mod arrivals;
mod error;
pub mod popularity;
mod process;
pub mod random;
mod schedule;
pub mod trace;

pub use arrivals::{Arrival, Arrivals, Stream};
pub use error::WorkloadError;
pub use popularity::Popularity;
pub use process::Process;
pub use schedule::Schedule;
