//! The engines. Those that run ONNX graphs stand behind [`GraphEngine`](crate::engine::GraphEngine);
//! the others have a way of their own to open a model, and are alike from then on
//! ([`EngineModel`](crate::engine::EngineModel)).
//!
//! A new engine is a file here. It is chosen by name in `loader.rs`, its name is known to
//! `repository/config.rs`, and the operators that it is proven right on are a table in
//! `operators/`. It gets the rows of a batch in memory of its own choice (`batch/memory.rs`);
//! copies to a device and back are its own, inside [`run`](crate::engine::Executable::run).

pub mod emulated;
pub mod onnxruntime;
pub mod python;
pub mod rten;
