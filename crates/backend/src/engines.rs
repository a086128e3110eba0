//! The engines. Those that run ONNX graphs stand behind [`Engine`](crate::engine::Engine); the
//! emulated one, which has no graph, stands behind [`Executable`](crate::engine::Executable).

pub mod emulated;
pub mod onnxruntime;
pub mod rten;
