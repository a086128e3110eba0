//! Request streams for the simulator and for load generators: seeded, so that the same seed
//! gives the same requests on every machine.
//!
//! A [`Stream`] says what the requests of one model look like: how they follow each other
//! ([`Process`]), how many there are ([`Stream::rate`]) and how that changes ([`Schedule`]).
//! [`Arrivals`] merges streams; [`trace`] reads recorded arrivals instead. This crate knows
//! nothing of schedulers.

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
