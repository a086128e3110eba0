//! The life of a pool and of its models: starting, loading, unloading, draining, ending.
//!
//! - [`config`]: what a pool is started with.
//! - [`pool`]: the threads of a pool, how they are watched, and how they end.
//! - [`backends`]: where models are loaded and run, as the owner of the models sees it.
//! - [`local`]: the accelerators of this process.
//! - [`models`]: the models of a pool: loads, replaces and unloads them.
//! - [`lanes`]: the thread that moves the borders of lanes.
//! - [`models_thread`]: the thread that does so.
//!
//! The crate knows no command line, no configuration file and no protocol, and engines only through
//! the interface of the backend.

pub mod backends;
pub mod config;
pub mod lanes;
pub mod local;
pub mod models;
pub mod models_thread;
pub mod pool;
mod refused_plans;
mod threads;

#[cfg(test)]
mod testing;
