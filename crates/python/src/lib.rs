//! A Python process that runs models for one accelerator, started and watched by the server.
//!
//! [`PythonWorker`] starts it and loads models into it. A batch's inputs lie in memory that both
//! processes have mapped, so a script's numpy arrays are views of it; outputs are copied once, by the
//! process, and the server reads them where they lie. Whatever a script does, the server goes on: a
//! process that ends, hangs or takes too much memory fails its batch, and is started again.
//!
//! - `config`, `model`, `batch`: what is to run.
//! - `worker`: the handle of a process. `state` has its models and loads them again after it was
//!   lost; `watch` has the threads that have it do so and that hold the process to its memory.
//! - `process`: one life of the process, over its `channel`, with its `message`s and `memory`, from
//!   its `script`.
//! - `lines`: what scripts print. `usage`: what memory they have.
//! - `environment`: virtual environments for the requirements of models.
//! - `symphony_worker`: the other side, in Python.
//!
//! The crate knows no engine interface and no model repository.

mod batch;
mod channel;
mod config;
mod environment;
mod error;
mod lines;
mod memory;
mod message;
mod model;
mod pause;
mod process;
mod script;
mod state;
mod usage;
mod watch;
mod watched;
mod worker;

pub use batch::{Answer, Batch, Input};
pub use config::{Bounds, PythonConfig};
pub use environment::{Environments, Interpreter};
pub use error::{Doing, LastLines, PythonError};
pub use model::{Kind, Loaded, ModelId, ModelSpec};
pub use worker::PythonWorker;
