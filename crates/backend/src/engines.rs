//! The engines, each behind the [`Engine`](crate::engine::Engine) interface or, for the emulated
//! one, which loads no graph, behind [`Executable`](crate::engine::Executable).

pub mod emulated;
pub mod onnxruntime;
pub mod rten;
