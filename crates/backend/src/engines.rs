//! The engines. Those that run ONNX graphs stand behind [`Engine`](crate::engine::Engine); the
//! emulated one, which has no graph, stands behind [`Executable`](crate::engine::Executable).
//!
//! A new engine is a file here. It is chosen by name in `loader.rs`, its name is known to
//! `repository/config.rs`, and the operators that it is proven right on are a table in
//! `operators/`. It gets the rows of a batch in the process's memory (`batch/buffer.rs`) and
//! returns outputs there; copies to a device and back are its own, inside
//! [`run`](crate::engine::Executable::run).

pub mod emulated;
pub mod onnxruntime;
pub mod rten;
