//! Clients of a running server: the commands `symphony infer` and `symphony models`, and the HTTP
//! client that benchmarks use as well.
//!
//! Knows the open protocol over HTTP and nothing of what answers it: `infer` asks any server that
//! speaks it.

mod address;
mod answer;
mod asking;
mod connections;
pub mod console;
mod infer;
mod input;
mod metadata;
mod models;
mod output;
mod payload;
mod repeated;
pub mod table;
pub mod tally;
mod target;
mod values;

pub use infer::{InferArgs, command as infer};
pub use models::{ModelsArgs, command as models, listing};
pub use payload::{Encoding, HttpPayload, NamedTensor};
pub use repeated::{Client, RepeatedRequest};
pub use target::Target;
