//! The roles as processes of their own: frontends, a scheduler with standbys, and backends, on one
//! machine or on several.
//!
//! Each role is the code that runs in one process, too. What is here stands between its ports and the
//! links to the others:
//!
//! - [`frontend`]: sends what a frontend's ports take to the scheduler that is active, shows its
//!   catalog, and gives tensors to the backends that ask for them.
//! - [`scheduler`]: takes the lease, keeps the members of the pool, has backends load models, and
//!   sends plans.
//! - [`backend`]: offers this machine's accelerators to the scheduler that is active, and fetches the
//!   inputs of each plan before its batch runs.
//!
//! The crate knows no command line, no configuration file, no client protocol and no engine.

pub mod backend;
mod dial;
mod error;
mod files;
pub mod frontend;
mod life;
mod lock;
mod receiving;
pub mod scheduler;

pub use error::StartError;
