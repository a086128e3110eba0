//! The life of a pool and of its models: starting, loading, unloading, draining, ending.
//!
//! - [`pool`]: the threads of a pool, how they are watched, and how they end.
//! - [`models`]: the models of a pool, loaded and unloaded on a thread of their own.
//! - [`config`]: what a pool is started with.
//!
//! The crate knows no command line, no configuration file and no protocol, and engines only through
//! the interface of the backend.

pub mod config;
pub mod models;
pub mod pool;
mod refusals;
#[cfg(test)]
mod testing;
