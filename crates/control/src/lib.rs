//! The life of a pool and of its models: starting, loading, unloading, draining, ending.
//!
//! - [`pool`]: the threads of a pool, how they are watched, and how they end.
//! - [`models`]: the models of a pool, loaded and unloaded on a thread of their own.
//! - [`config`]: what a pool is started with.
//!
//! The crate knows no command line, no configuration file, no protocol, and of engines only the
//! backend's face.

pub mod config;
pub mod models;
pub mod pool;
mod refusals;
#[cfg(test)]
mod testing;
