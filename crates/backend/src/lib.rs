//! The backend: loads models into inference engines, assembles batches, runs them, and measures
//! how long they take.
//!
//! It knows no protocol and makes no scheduling decision: it runs the batches that the scheduler
//! sends.

mod background;
pub mod batch;
mod cache;
mod contract;
pub mod engine;
pub mod engines;
mod limits;
pub mod loader;
pub mod operators;
pub mod prepare;
pub mod profiling;
pub mod repository;
pub mod resident;
pub mod values;
mod verify;
pub mod view;
pub mod worker;
