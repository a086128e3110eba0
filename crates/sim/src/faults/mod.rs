//! A cluster whose processes fail: frontends, two schedulers of which one is in charge, and backends,
//! with links between them that are slow, late and lost.
//!
//! The schedulers are `core`'s, and so are the rules by which requests are submitted again
//! ([`symphony_core::recovery`]); the processes here only carry them out, as those of a live cluster
//! do. A [`FaultCase`] is drawn from a seed, cluster, load and faults alike, and [`run`] holds what has
//! to be true against it in every step; [`timeline`] tells what happened. A run is short, so that a million of them take minutes.
//!
//! - `case`: what is drawn.
//! - `network`: links and timers. Messages on one way keep their order, on different ways they do not.
//! - `frontend`, `scheduler`, `backend`: one process each.
//! - `cluster`: the loop, and what faults do.
//! - `checks`: what has to be true.

mod backend;
mod case;
mod checks;
mod cluster;
mod frontend;
mod network;
mod scheduler;

pub use case::{FaultCase, FaultKind, UnknownFaultKind};
pub use checks::Survived;
pub use cluster::{Broken, run, timeline};
