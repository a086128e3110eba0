//! Python models run in processes of their own, and whatever they do, the server goes on.
//!
//! These tests run the Python that `SYMPHONY_TEST_PYTHON` names; `cargo xtask python` makes it.

#![expect(clippy::unwrap_used, reason = "a test ends at the first error")]

#[path = "python/bad.rs"]
mod bad;
#[path = "python/environments.rs"]
mod environments;
#[path = "python/lives.rs"]
mod lives;
#[path = "python/log.rs"]
mod log;
#[path = "python/results.rs"]
mod results;
#[path = "python/scripts.rs"]
mod scripts;
#[path = "python/support.rs"]
mod support;
#[path = "python/torch.rs"]
mod torch;
#[path = "python/triton.rs"]
mod triton;
